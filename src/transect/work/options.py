"""Options declared once: name, type, default, range and one sentence; a frozen value, commands, help and docs
follow.

A group of options is a TypedDict whose fields are `Annotated[type, Option(default, sentence)]`. Functions
take it as `**options: Unpack[Group]` and turn it into a frozen value with `Values.of`.
"""

import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypedDict

from transect.errors import TransectError
from transect.files import local


@dataclass(frozen=True)
class Option:
    """One option: default, a sentence of help, the least and largest value of a number (or the ends that it
    stays above and below), the choices of a word."""

    default: Any
    help: str
    least: float | int | None = None
    most: float | int | None = None
    choices: tuple[str, ...] = ()
    above: float | int | None = None
    below: float | int | None = None


def within(
    least: float | int | None = None,
    most: float | int | None = None,
    *,
    above: float | int | None = None,
    below: float | int | None = None,
) -> Option:
    """The range of a number whose default stands in its signature and whose sentence in the docstring."""
    return Option(None, "", least, most, above=above, below=below)


#: No null, interval or support is drawn more often, and no machine runs more workers.
MOST_DRAWS, MOST_WORKERS = 1_000_000, 4096
#: No whole number that anything here takes is larger, where its own range has no end.
LARGEST = 1 << 40


def declared(group: Any) -> dict[str, tuple[Any, Option]]:
    """Name → (type, Option) of every field of a group, in order."""
    options = {}
    for name, hint in typing.get_type_hints(group, include_extras=True).items():
        kind, *extras = (
            typing.get_args(hint) if typing.get_origin(hint) is Annotated else (hint, Option(None, ""))
        )
        options[name] = kind, extras[0]
    return options


#: What a value of each type is called where another one came.
KINDS = {int: "a whole number", float: "a number", bool: "True or False", str: "a word", Path: "a path"}


def checked(name: str, value: Any, option: Option, kind: Any = Any) -> Any:
    """`value` as the declared type has it, if it is in range; TransectError with what to give otherwise."""
    value = value.item() if getattr(value, "shape", None) == () and hasattr(value, "item") else value
    if value is None and option.default is None:
        return value
    value = of_kind(name, value, kind)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and abs(value) > LARGEST:
        raise TransectError(f"{name}={value:.4g}.", f"Give {LARGEST} or less.")
    if option.choices and value not in option.choices:
        raise TransectError(f"{name}={value!r}.", f"Choose one of {', '.join(option.choices)}.")
    if isinstance(value, int | float):
        if value != value and option.least is None:
            raise TransectError(f"{name}={value}.", "Give a number.")
        if option.least is not None and not value >= option.least:
            raise TransectError(f"{name}={value}.", f"Give {option.least:g} or more.")
        if option.above is not None and value <= option.above:
            raise TransectError(f"{name}={value}.", f"Give more than {option.above:g}.")
        if option.below is not None and value >= option.below:
            raise TransectError(f"{name}={value}.", f"Give less than {option.below:g}.")
        if option.most is not None and value > option.most:
            raise TransectError(f"{name}={value}.", f"Give {option.most:g} or less.")
    return value


def of_kind(name: str, value: Any, kind: Any) -> Any:
    """`value` as one of the declared types has it: 2.0 is 2 where whole numbers are due, 1 a flag's True,
    a list of words is those words with commas, `~` the home. Types that are not in KINDS take anything.
    Raises: TransectError."""
    union = typing.get_origin(kind) in (typing.Union, types.UnionType)
    kinds = typing.get_args(kind) if union else (kind,)
    if str in kinds and isinstance(value, list | tuple) and value and all(type(v) is str for v in value):
        value = ",".join(value)
    for one in kinds:
        if _fits(value, one):
            value = bool(value) if one is bool else int(typing.cast(float, value)) if one is int else value
            return local(value) if Path in kinds and "://" not in str(value) else value
    wanted = " or ".join(KINDS.get(k, "a function") for k in kinds if k is not type(None))
    raise TransectError(f"{name}={value!r:.80}.", f"Give {wanted}.")


def _fits(value: Any, kind: Any) -> bool:
    if kind is int:
        return type(value) is int or (type(value) is float and value.is_integer())
    if kind is float:
        return type(value) in (int, float)
    if kind is bool:
        return type(value) is bool or (type(value) is int and value in (0, 1))
    if kind in KINDS or kind is type(None):
        return isinstance(value, kind)
    return typing.get_origin(kind) is not Callable or callable(value)


class Values:
    """A frozen value made from a group of options; an unknown name or a value out of range is a
    TransectError."""

    group: Any = None

    def __init__(self, **values: Any) -> None:
        fields = declared(self.group)
        if unknown := set(values) - set(fields):
            raise TransectError(f"no option {', '.join(sorted(unknown))}.", f"Options: {', '.join(fields)}.")
        for name, (kind, option) in fields.items():
            value = checked(name, values.get(name, option.default), option, kind)
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: use replace({name}=…)")

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and self.items() == other.items()

    def __hash__(self) -> int:
        return hash(tuple(self.items()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.items().items())})"

    def items(self) -> dict[str, Any]:
        """Name → value."""
        return {name: getattr(self, name) for name in declared(self.group)}

    def replace(self, **changes: Any) -> Any:
        """The same value with other fields."""
        return type(self)(**{**self.items(), **changes})

    @classmethod
    def of(cls, options: Mapping[str, Any], **defaults: Any) -> Any:
        """The value of those `options` that belong to this group; `defaults` take the place of the declared
        ones."""
        fields = declared(cls.group)
        return cls(**defaults | {k: v for k, v in options.items() if k in fields})


def only(options: Mapping[str, Any], *groups: Any) -> None:
    """TransectError for an option that none of the groups declares."""
    known = [name for group in groups for name in declared(group)]
    if unknown := sorted(set(options) - set(known)):
        raise TransectError(f"no option {', '.join(unknown)}.", f"Options: {', '.join(known)}.")


def group(options: Mapping[str, Any], declaration: Any, **defaults: Any) -> "Values":
    """The frozen value of one group among `options`."""

    class Chosen(Values):
        group = declaration

    return Chosen.of(options, **defaults)


class WorkOptions(TypedDict, total=False):
    """Where the work is done and where its results lie."""

    out: Annotated[str | Path | None, Option(None, "Folder for the results; finished work is kept there.")]
    engine: Annotated[
        str, Option("local", "Worker processes here (local), Ray (ray, ray@ADDRESS), or part:k/n.")
    ]
    workers: Annotated[
        int | None, Option(None, "Worker processes; by default one per core.", 1, MOST_WORKERS)
    ]
    progress: Annotated[
        Callable[[str, int, int], None] | None, Option(None, "Called with (step, done, total).")
    ]


class Work(Values):
    """Frozen value of WorkOptions."""

    group = WorkOptions
