"""What the sections of the reproduction page share: what was captured, what a section is, how a number is
written.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from transect.models.models import Model
    from transect.store.store import Store

LAYER = 18
HEAD = ("what", "its own computation", "corrected", "control")


@dataclass(frozen=True)
class Made:
    """What was captured: the model and its random-weight twin, and a store of each on problems and on
    birthdays.
    """

    model: "Model"
    twin: "Model"
    problems: "Store"
    problems_twin: "Store"
    birthdays: "Store"
    birthdays_twin: "Store"


@dataclass(frozen=True)
class Section:
    """One program: its claim, a table, what follows from it, what it was computed on, and the commands of
    the study.
    """

    title: str
    claim: str
    head: tuple[str, ...]
    rows: list[tuple[str, ...]]
    follows: str
    basis: str
    commands: str


def num(x: float) -> str:
    """Three figures; no exponent where it can be done without."""
    if abs(x) >= 1000 or x == 0:
        return f"{x:,.0f}"
    return f"{x:#.3g}".rstrip(".")


def span(values: Any) -> str:
    """Least to greatest."""
    return f"{num(float(np.min(values)))} to {num(float(np.max(values)))}"


def within_bounds(row: dict[str, Any], name: str = "") -> str:
    """A row's value with its 95 % interval; `name`: corrected or added."""
    low, high = (f"{name}_low", f"{name}_high") if name else ("low", "high")
    return f"{num(row[name or 'value'])} [{num(row[low])}, {num(row[high])}]"


def told(store: "Store") -> str:
    """What was captured, in words."""
    m = store.manifest
    return f"{m['texts']['name']}: {len(store)} texts, {int(store.lengths.sum()):,} tokens"
