"""Commands as forms: the same declarations that make `transect --help`, as data that a page can draw.

`python -m transect.cli.forms` prints them as JSON: the app's server asks that way and imports no study.
"""

import json
from collections.abc import Mapping
from typing import Any

import click

from transect.cli.studies import study_command
from transect.studies import names

#: Options that the page sets itself, or that no page should set: where the work lies and who does it, code
#: that comes with a model.
LEFT = ("out", "overwrite", "as_json", "engine", "address", "part", "shard", "trust_remote_code")
#: Words of the command line, where they are not the study's name.
WORDS = {"neurons": ("neurons", "map"), "pruning": ("neurons", "prune")}


def _commands() -> Mapping[str, click.Command]:
    from transect.cli.capture import capture

    studies = {name: study_command(name) for name in names()}
    return {"capture": capture, **studies}


def forms() -> list[dict[str, Any]]:
    """Capture and every study: the words of the command, what it is for, its fields."""
    return [
        {
            "name": name,
            "words": list(WORDS.get(name, (name,))),
            "help": (command.help or "").split("\n\n")[0].replace("\n", " ").replace("\b", ""),
            "fields": [_field(p) for p in command.params if p.name not in LEFT],
        }
        for name, command in _commands().items()
    ]


def _field(param: click.Parameter) -> dict[str, Any]:
    kind = param.type
    ranged = isinstance(kind, click.IntRange | click.FloatRange)
    default = param.default if isinstance(param.default, str | int | float | bool) else None
    return {
        "least": kind.min if ranged else None,
        "most": kind.max if ranged else None,
        "name": param.name,
        "flag": "" if isinstance(param, click.Argument) else param.opts[0],
        "off": (param.secondary_opts or [""])[0],
        "shape": _shape(param),
        "choices": list(kind.choices) if isinstance(kind, click.Choice) else [],
        "default": default,
        "help": getattr(param, "help", "") or "",
        "several": param.nargs == -1 or bool(getattr(param, "multiple", False)),
        "required": bool(param.required),
    }


def _shape(param: click.Parameter) -> str:
    if getattr(param, "is_flag", False):
        return "flag"
    shapes = {click.Choice: "choice", click.IntRange: "whole", click.FloatRange: "number"}
    return next((word for kind, word in shapes.items() if isinstance(param.type, kind)), "text")


if __name__ == "__main__":
    click.echo(json.dumps(forms()))
