"""The keyword-only parameters of a measure, read from its signature."""

import inspect
import typing
from dataclasses import dataclass, replace
from types import UnionType
from typing import Annotated, Any, Literal

from transect.work.options import Option as Declared
from transect.work.options import checked

ANY = Declared(None, "")


@dataclass(frozen=True)
class Option:
    """One keyword-only parameter of a measure: its type, default, range and, for a Literal, its choices."""

    name: str
    kind: type
    default: Any
    choices: tuple[Any, ...] = ()
    range: Declared = ANY

    def checked(self, value: Any) -> Any:
        """`value` as the type has it, within its range. Raises: TransectError."""
        if self.choices:
            kind: Any = type(self.choices[0])
        else:
            kind = self.kind if self.default is not None else self.kind | None
        return checked(
            self.name, value, replace(self.range, choices=self.choices, default=self.default), kind
        )


def _option(parameter: inspect.Parameter, hint: Any) -> Option:
    assert parameter.default is not parameter.empty, f"option {parameter.name} needs a default"
    if typing.get_origin(hint) is Annotated:
        hint, *extras = typing.get_args(hint)
        option = _option(parameter, hint)
        return replace(option, range=next((e for e in extras if isinstance(e, Declared)), option.range))
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        return Option(parameter.name, type(choices[0]), parameter.default, choices)
    if typing.get_origin(hint) in (UnionType, typing.Union):
        hint = next(a for a in typing.get_args(hint) if a is not type(None))
    return Option(parameter.name, hint, parameter.default)
