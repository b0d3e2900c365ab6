"""Study commands: `transect NAME …` for every study, here and in other packages, made from its function."""

import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from transect.cli.options import command, explicit
from transect.cli.shared import ENGINE, FORMATS, JSON, OVERWRITE, SHARE, bars, finish, room_for, show
from transect.results.study import check_study
from transect.studies import names

#: Studies whose folder may be left out: it is then named after the first run.
BESIDE = ("manifold",)
#: Parameters given by place, where it is not the first one alone.
PLACES = {"pruning": ("model",), "match": ("store", "other")}


def study_command(name: str, shown_as: str = "") -> click.Command:
    """The command of one study."""
    module, _, attribute = names()[name].partition(":")
    room = importlib.import_module(module)
    func = getattr(room, attribute)
    first = next(iter(inspect.signature(func).parameters))
    places = PLACES.get(name, (first,))

    def run(values: dict[str, Any]) -> None:
        as_json, overwrite, formats = (values.pop(k) for k in ("as_json", "overwrite", "formats"))
        if values["out"] is None:
            values["out"] = f"{str(values[first][0]).rstrip(chr(47))}-{name}"
        out = Path(values["out"])
        values["engine"] = values.pop("engine", "local")
        asked = explicit(values, func)
        for place in places:
            value = values.get(place)
            several = list(value) if isinstance(value, tuple) else [value]
            asked[place] = several[0] if len(several) == 1 else several
        with room_for(out, overwrite, asked):
            check_study(out, name)
            with bars() as bar:
                study = func(**asked, progress=bar)
            finish(study, out, formats, quiet=as_json)
        if as_json:
            show(study.tables[getattr(room, "HEADLINE", next(iter(study.tables)))], as_json=True)

    extra = shared_parameters(ENGINE, SHARE, FORMATS, OVERWRITE, JSON)
    needed = [p.name for p in inspect.signature(func).parameters.values() if p.default is p.empty]
    needed += [] if name in BESIDE else ["out"]
    return command(func, run, name=shown_as or name, arguments=places, extra=extra, required=needed)


def shared_parameters(*decorators: Callable[[Any], Any]) -> list[click.Parameter]:
    """The parameters that click decorators add, in their order."""
    shell = click.Command("shell")
    for add in reversed(decorators):
        shell = add(shell)
    return list(reversed(shell.params))
