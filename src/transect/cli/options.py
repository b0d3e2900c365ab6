"""Commands made from functions: options from signature and declared groups, help from the docstring's Args.

A parameter without a default is an argument of the command; one with a default is an option of its name. Its
type gives the parser: a flag for bool, a range for numbers, a choice for Literal, several values for a
sequence.
"""

import functools
import inspect
import json
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Unpack

import click

from transect.errors import TransectError
from transect.files import local
from transect.work.options import LARGEST, Option, declared

#: Parameters that a command line sets by itself.
INNER = ("progress", "engine", "trust_remote_code_of")
#: Names of sequences that are read one value at a time: --control A --control B.
SINGLE = {"controls": "control", "seed_controls": "seed-control", "tokens": "token", "models": "model"}


def command(
    func: Callable[..., Any],
    run: Callable[[dict[str, Any]], None],
    *,
    name: str = "",
    arguments: Sequence[str] = (),
    extra: Iterable[click.Parameter] = (),
    required: Sequence[str] = (),
    leave: Sequence[str] = (),
) -> click.Command:
    """A command with everything that `func` takes; `run` gets the values by parameter name.

    arguments: parameters that are given by place, in order; the last takes several where its type says so.
    """
    params: list[click.Parameter] = [_argument(func, n, last=n == arguments[-1]) for n in arguments]
    for field, (hint, option) in parameters(func).items():
        if field not in (*arguments, *INNER, *leave):
            params.append(as_option(field, hint, option, required=field in required))
    text = inspect.getdoc(func) or ""
    return click.Command(
        name or func.__name__.replace("_", "-"),
        params=[*params, *extra],
        callback=lambda **values: run(values),
        help=_help(text),
        short_help=text.split("\n")[0],
    )


@functools.cache
def parameters(func: Callable[..., Any]) -> dict[str, tuple[Any, Option]]:
    """Name → (type, Option) of all that a function takes, declared groups opened up, help from the
    docstring."""
    sentences, hits, hints = args_of(inspect.getdoc(func) or ""), {}, _hints(func)
    for p in inspect.signature(func).parameters.values():
        hint = hints.get(p.name, str)
        if p.kind is p.VAR_KEYWORD:
            group = typing.get_args(hint)[0] if typing.get_origin(hint) is Unpack else None
            hits |= declared(group) if group else {}
        else:
            default = None if p.default is p.empty else p.default
            kind, option = _annotated(hint, Option(default, sentences.get(p.name, "")))
            hits[p.name] = kind, option
    return hits


def _hints(func: Callable[..., Any]) -> dict[str, Any]:
    """The types of a function; one that is only imported for type checkers counts as a word."""
    try:
        return typing.get_type_hints(func, include_extras=True)
    except NameError:
        known = vars(inspect.getmodule(func) or object())
        hints = {}
        for name, hint in inspect.get_annotations(func).items():
            try:
                hints[name] = eval(hint, known) if isinstance(hint, str) else hint  # our own annotations
            except NameError:
                hints[name] = str
        return hints


def of_dataclass(declaration: Any) -> dict[str, tuple[Any, Option]]:
    """The same of a dataclass whose docstring has Args."""
    hints = typing.get_type_hints(declaration, include_extras=True)
    sentences, options = args_of(inspect.getdoc(declaration) or ""), {}
    for field in fields(declaration):
        default = None if field.default is MISSING else field.default
        options[field.name] = _annotated(hints[field.name], Option(default, sentences.get(field.name, "")))
    return options


def _annotated(hint: Any, usual: Option) -> tuple[Any, Option]:
    if typing.get_origin(hint) is not Annotated:
        return hint, usual
    kind, *extras = typing.get_args(hint)
    option = next((e for e in extras if isinstance(e, Option)), usual)
    if not option.help:
        option = replace(option, help=usual.help)
    return kind, option if option.default is not None else replace(option, default=usual.default)


def args_of(text: str) -> dict[str, str]:
    """Parameter → sentence, from the Args of a docstring."""
    block = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n)+)", text, re.M)
    arguments: dict[str, str] = {}
    name = ""
    for line in block[1].splitlines() if block else ():
        entry = re.match(r"^ {4}(\w+): (.*)$", line)
        if entry:
            name, arguments[entry[1]] = entry[1], entry[2].strip()
        elif name and line.strip():
            arguments[name] += " " + line.strip()
    return arguments


def _help(text: str) -> str:
    """A docstring without its Args and Returns, paragraphs kept."""
    return re.split(r"\n\s*(?:Args|Returns):", text)[0].strip()


def _argument(func: Callable[..., Any], name: str, *, last: bool) -> click.Argument:
    hint, option = parameters(func)[name]
    several = last and _is_sequence(hint)
    needed = option.default is None
    shown = f"{name.upper()}..." if several else name.upper()
    return click.Argument(
        [name], nargs=-1 if several else 1, required=needed, metavar=shown if needed else f"[{shown}]"
    )


def as_option(name: str, hint: Any, option: Option, *, required: bool = False) -> click.Option:
    """One option of a command."""
    flag, help_text = f"--{name.replace('_', '-')}", option.help
    kinds = _members(hint)
    shown: dict[str, Any] = {"help": help_text, "required": required}
    if option.default is not None and option.default is not False and option.default != () and not required:
        shown |= {"default": option.default, "show_default": True}
    if bool in kinds:
        shown.setdefault("default", option.default)  # without one click takes "no" for an answer
        return click.Option([f"{flag}/--no-{name.replace('_', '-')}"], **shown)
    if literal := next((k for k in kinds if typing.get_origin(k) is Literal), None):
        return click.Option([flag], type=click.Choice([str(c) for c in typing.get_args(literal)]), **shown)
    if option.choices:
        return click.Option([flag], type=click.Choice(option.choices), **shown)
    if any(typing.get_origin(k) is dict or k is dict for k in kinds):
        return click.Option([flag], callback=_json, **shown)
    if _is_sequence(hint) and name != "stores":
        return _several(name, flag, kinds, shown)
    if int in kinds and str not in kinds:
        return click.Option(
            [flag], type=WholeRange(_integer(option.least, 0), _integer(option.most, None)), **shown
        )
    if float in kinds and str not in kinds:
        least, most = (a if b is None else b for a, b in _ends(option))
        opened = {"min_open": option.above is not None, "max_open": option.below is not None}
        return click.Option([flag], type=FiniteRange(least, most, **opened), **shown)
    if name == "out":
        shown["callback"] = lambda ctx, param, value: (
            value if value is None else local_name(value, param, ctx)
        )
    return click.Option([flag], type=str, **shown)


def _ends(option: Option) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    return (option.least, option.above), (option.most, option.below)


class PathName(click.Path):
    """A path that a file can have."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return local_name(value, param, ctx) and super().convert(value, param, ctx)


def local_name(value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
    """`value`, where a file can have that name or a protocol stands before it."""
    try:
        return value if "://" in str(value) else local(value) and value
    except TransectError as error:
        raise click.BadParameter(error.message, ctx, param) from error


class WholeRange(click.IntRange):
    """A whole number within limits, and no larger than what machines count with."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if number > LARGEST:
            self.fail(f"{value} is larger than anything here can be.", param, ctx)
        return number


class FiniteRange(click.FloatRange):
    """A number within limits; neither NaN nor infinite."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if number != number or number in (float("inf"), float("-inf")):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number

    def _describe_range(self) -> str:
        return "any number" if self.min is None and self.max is None else super()._describe_range()


def _integer(limit: float | int | None, usual: int | None) -> int | None:
    return usual if limit is None else int(limit)


def _several(name: str, flag: str, kinds: Sequence[Any], shown: dict[str, Any]) -> click.Option:
    """A sequence: one value an option for runs and tokens, else values separated by commas."""
    if name in SINGLE:
        shown.pop("default", None)
        flags = [f"--{SINGLE[name]}", name]
        return click.Option(flags, type=str, multiple=True, **shown)
    inner = next((typing.get_args(k) for k in kinds if _sequence(k)), (str,))
    item = int if int in inner else float if float in inner else str
    if shown.get("default") is not None:
        shown["default"] = ",".join(map(str, shown["default"]))

    def parsed(_ctx: click.Context, param: click.Parameter, value: str | None) -> Any:
        if value is None:
            return None
        try:
            return tuple(item(part.strip()) for part in value.split(",") if part.strip())
        except ValueError:
            raise click.BadParameter(f"{value!r}: write values separated by commas.", param=param) from None

    return click.Option([flag], type=str, callback=parsed, **shown)


def _json(_ctx: click.Context, param: click.Parameter, value: str | None) -> Any:
    if value is None:
        return None
    try:
        parsed = json.loads(value)
    except ValueError as error:
        raise TransectError(
            f"--{param.name} is not JSON ({error}).", 'Write {"spiral": {"growth": 2}}.'
        ) from error
    if not isinstance(parsed, dict):
        raise TransectError(f"--{param.name} is no JSON object.", 'Write {"spiral": {"growth": 2}}.')
    return parsed


def _members(hint: Any) -> list[Any]:
    """The types that a hint allows, None left out."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return [m for part in typing.get_args(hint) for m in _members(part)]
    return [] if hint is type(None) else [hint]


def _sequence(kind: Any) -> bool:
    origin = typing.get_origin(kind)
    return isinstance(origin, type) and issubclass(origin, Sequence | tuple | list) and origin is not str


def _is_sequence(hint: Any) -> bool:
    return any(_sequence(k) for k in _members(hint))


def explicit(values: Mapping[str, Any], func: Callable[..., Any]) -> dict[str, Any]:
    """Those values that `func` takes and that were given: an option left out keeps the function's own
    default."""
    known = parameters(func)
    return {k: v for k, v in values.items() if k in known and v is not None and v != ()}


def path_or_none(value: Any) -> Path | None:
    """A folder that was given."""
    return None if value is None else Path(value)
