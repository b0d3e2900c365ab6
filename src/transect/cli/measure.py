"""`transect measure NAME STORE…`: a command for every measure, made from its signature and that of
`sweep`."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from transect.cli.options import as_option, parameters
from transect.cli.shared import ENGINE, JSON, SHARE, bars, show
from transect.cli.studies import shared_parameters
from transect.errors import nearest
from transect.inference.design import StudyOptions
from transect.measures.contract import Measure
from transect.measures.registry import registry
from transect.work.options import Option, declared

#: Options of `sweep` that belong to measures of some kind only.
PAIRS = ("pairs", "pca")


class Measures(click.Group):
    """One command per measure in the registry."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all measures."""
        return list(registry())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of one measure."""
        if (measure := registry().get(cmd_name)) is None:
            raise click.UsageError(f"No such measure {cmd_name!r}.{nearest(cmd_name, registry())}", ctx)
        return _command(measure)


@click.group(cls=Measures)
def measure() -> None:
    """Compute one measure over the sites of a store, each value with its interval and its null."""


def _command(m: Measure) -> click.Command:
    def run(stores: tuple[str, ...], out: str | None, as_json: bool, **values: Any) -> None:
        from transect.inference.sweep import sweep
        from transect.studies.runs import open_runs
        from transect.work.folders import check_kind

        asked = {k: v for k, v in values.items() if v is not None}
        if out:
            check_kind(Path(out), "table")
        with bars() as bar:
            table = sweep(m, open_runs(list(stores)), out=out, progress=bar, **asked)
        if out:
            table.save(Path(out) / f"{m.name}.parquet")
        show(table, as_json)

    params: list[click.Parameter] = [click.Argument(["stores"], nargs=-1, required=True)]
    own_options = {
        o.name: (o.kind, replace(o.range, default=o.default, choices=tuple(map(str, o.choices))))
        for o in m.options.values()
    }
    for name, (kind, option) in (own_options | _of_sweep(m)).items():
        params.append(as_option(name, kind, option, required=name == "label"))
    params += shared_parameters(ENGINE, SHARE, JSON)
    text = f"{m.__doc__}\n\nSource: {m.source}"
    return click.Command(m.name, params=params, callback=run, help=text, short_help=m.summary)


def _of_sweep(m: Measure) -> dict[str, tuple[Any, Option]]:
    """Options of the sweep that mean something for this measure."""
    from transect.inference.sweep import sweep

    options = parameters(sweep)
    shared = {k: v for k, v in declared(StudyOptions).items() if k not in ("progress", "engine")}
    fields: dict[str, tuple[Any, Option]] = {"permutations": (int, options["permutations"][1])}
    fields["normalise"] = str, Option("raw", options["normalise"][1].help, choices=("raw", "unit"))
    if "Y" in m.data:
        words = ("adjacent", "all", "same", "cross")
        fields["pairs"] = str, Option("adjacent", options["pairs"][1].help, choices=words)
        fields["pca"] = int, Option(None, options["pca"][1].help, least=1)
        if not m.paired:
            fields["design"] = (
                str,
                Option("disjoint", options["design"][1].help, choices=("paired", "disjoint")),
            )
    if "y" in m.data:
        fields["label"] = str, options["label"][1]
    return fields | shared
