"""What is drawn, permuted, halved and left out as one: a text or a group of texts; copies are none."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from transect.errors import TransectError
from transect.store.checks import ARRAYS

if TYPE_CHECKING:
    from transect.store.store import Store


def units_of(store: "Store") -> np.ndarray:
    """The unit of each text, [texts]: the number of the first text of its group where there are groups, else
    its own.

    -1 for a copy of an earlier text, whose points are that one's: halves, folds and permutations that take
    both apart do not know that they are one. Arrays of equal texts may differ and are no copies.
    """
    units, earlier = _units(store)
    return np.where(earlier < np.arange(len(units)), -1, units)


def families_of(store: "Store") -> np.ndarray:
    """The unit of each text, [texts]; a copy is of the unit of the text that it is a copy of."""
    units, earlier = _units(store)
    return units[earlier]


def _units(store: "Store") -> tuple[np.ndarray, np.ndarray]:
    """(number of the first text of each one's group, that of the first text which is the same), [texts]."""
    index, first, group = store.index, dict[str, int](), dict[Any, int]()
    names = index["group"].to_pylist() if "group" in index.column_names else store.ids
    units = np.array([group.setdefault(name, i) for i, name in enumerate(names)], np.int64)
    if store.manifest["model"].get("kind") == ARRAYS:
        return units, np.arange(len(units))
    return units, np.array([first.setdefault(h, i) for i, h in enumerate(index["hash"].to_pylist())])


def full_label(store: "Store", name: str) -> np.ndarray:
    """One label, [texts], that every text has. Raises: TransectError where one has none."""
    values = store.label(name)
    if lack := sum(v is None or v != v for v in values.tolist()):
        raise TransectError(f"label {name}: {lack} of {len(values)} texts have none.", "Leave those out.")
    return values


def units_of_runs(stores: Sequence["Store"]) -> list[np.ndarray]:
    """Units of every store; runs of the same tokens have those of the first, so that each draws the same
    rows."""
    return [next(s for s in stores if s.same_tokens(store)).units for store in stores]


def apart(store: "Store", texts: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Those of `texts` that are no copies; where several are of one unit, one of them by the generator."""
    order = texts[store.units[texts] >= 0]
    if len(np.unique(store.units[order])) < len(order):
        order = generator.permutation(order)
        order = np.sort(order[np.unique(store.units[order], return_index=True)[1]])
    return order
