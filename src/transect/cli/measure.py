"""`transect measure NAME STORE…`: a command for every measure, made from its signature."""

from pathlib import Path
from typing import Any

import click

from transect.cli.shared import DRAW, JSON, WORK, bars, show, the_stores
from transect.measures.contract import Measure, Option, registry


class Measures(click.Group):
    """One command per measure in the registry."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all measures."""
        return list(registry())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of one measure."""
        found = registry().get(cmd_name)
        return None if found is None else _command(found)


@click.group(cls=Measures)
def measure() -> None:
    """Compute one measure over the sites of a store, each value with its interval and its null."""


def _command(m: Measure) -> click.Command:
    @click.pass_context
    def run(
        ctx: click.Context, stores: tuple[str, ...], out: Path | None, as_json: bool, **kwargs: Any
    ) -> None:
        from transect.inference.sweep import sweep

        with bars() as told:
            table = sweep(m, the_stores(stores), out=out, progress=lambda d, t: told(m.name, d, t), **kwargs)
        if out:
            table.save(out / f"{m.name}.parquet")
        show(table, as_json)

    command = click.Command(
        m.name, callback=run, help=f"{m.__doc__}\n\nSource: {m.source}", short_help=m.summary
    )
    command.params.append(click.Argument(["stores"], nargs=-1, required=True))
    shared = click.Command("shared")
    for add in (JSON, WORK, DRAW, *_sweep_options(m)):
        shared = add(shared)
    own = [_option(o) for o in m.options.values()]
    command.params += [*own, *reversed(shared.params)]
    return command


def _sweep_options(m: Measure) -> list[Any]:
    shown = [
        click.option(
            "--normalise",
            type=click.Choice(["raw", "unit"]),
            default="raw",
            show_default=True,
            help="Points.",
        ),
        click.option("--permutations", default=19, show_default=True, help="Draws of the null."),
        click.option(
            "--out",
            type=click.Path(path_type=Path),
            default=None,
            help="Folder for table and finished cells.",
        ),
    ]
    if "Y" in m.data:
        pairs = click.Choice(["adjacent", "all", "same", "cross"])
        shown.append(
            click.option(
                "--pairs", type=pairs, default="adjacent", show_default=True, help="Which sites to pair."
            )
        )
        if not m.paired:
            shown.append(
                click.option(
                    "--design",
                    type=click.Choice(["paired", "disjoint"]),
                    default="paired",
                    show_default=True,
                    help="Same tokens at both sites, or tokens of other texts.",
                )
            )
        shown.append(click.option("--pca", type=int, default=None, help="One basis fitted on both clouds."))
    if "y" in m.data:
        shown.append(click.option("--label", required=True, help="Label of the texts."))
    return shown


def _option(o: Option) -> click.Option:
    flag = f"--{o.name.replace('_', '-')}"
    if o.kind is bool:
        return click.Option([f"{flag}/--no-{o.name.replace('_', '-')}"], default=o.default, show_default=True)
    kind = click.Choice([str(c) for c in o.choices]) if o.choices else o.kind
    return click.Option([flag], type=kind, default=o.default, show_default=True)
