"""Draws: which points make a cloud. The unit is the text: every text gives the same number of tokens, in
their order.

Halves, groups and permutations then work on whole texts, because tokens of one text are not independent.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from transect.errors import TransectError
from transect.random import rng
from transect.store.selection import Selection

if TYPE_CHECKING:
    from transect.store.store import Store

#: Points of one cloud where nobody says.
POINTS = 1000
#: Fewest texts that a draw can be made of.
FEWEST = 4
#: Texts below which no draw goes for more tokens of each, where so many are there: the unit is the text.
WANTED = 8


@dataclass(frozen=True)
class Draw:
    """k tokens of each of T texts: `rows` [T, k] are indices into a selection, `texts` [T] their texts.

    `group` [T] numbers the groups that are left out one at a time; all hold the same number of texts. `half`
    [T] is 0 or 1 for draws of two clouds from disjoint texts, which are balanced within groups, else 0.
    """

    rows: np.ndarray
    texts: np.ndarray
    group: np.ndarray
    half: np.ndarray

    @property
    def k(self) -> int:
        """Tokens of one text."""
        return self.rows.shape[1]

    @property
    def groups(self) -> int:
        """Number of groups."""
        return int(self.group.max()) + 1

    @property
    def n(self) -> int:
        """Points of one cloud."""
        return self.k * int((self.half == 0).sum())

    def members(self, half: str) -> np.ndarray:
        """Texts of a cloud, as indices into `texts`: "a" and "b" the halves, "all" every one."""
        if half == "all":
            return np.arange(len(self.texts))
        return np.flatnonzero(self.half == "ab".index(half))


def draw(
    selection: Selection,
    *,
    units: np.ndarray | None = None,
    n: int | None = None,
    groups: int = 10,
    seed: int = 0,
    halves: bool = False,
) -> Draw:
    """Draw a cloud of at most `n` points, or two of them from disjoint halves of the texts.

    Of all ways to take k tokens from each of T texts the one with the most texts is taken that gives nine
    tenths of the points asked. Default n: 1000, or what the texts hold. TransectError when the texts cannot
    carry the design. With `units` (of a store: [texts]) a whole unit stands for a text in all this, and texts
    of unit -1 are left out.
    """
    clouds = 2 if halves else 1
    unit = selection.texts if units is None else units[selection.texts]
    names, sizes = np.unique(unit[unit >= 0], return_counts=True)
    if len(names) < FEWEST:
        whole = len(np.unique(selection.texts))
        of = "" if whole == len(names) else f" groups of texts or different texts among {whole}"
        raise TransectError(
            f"{len(names)}{of} texts with points; groups of texts need at least {FEWEST}.",
            "Capture more texts.",
        )
    groups = _groups(len(names), groups, clouds)
    k, count = _shape(sizes, n, groups * clouds, clouds)
    order = rng(seed, "texts").permutation(np.flatnonzero(sizes >= k))[:count]
    first = np.concatenate([[0], np.cumsum(sizes)[:-1]]) + (unit < 0).sum()
    pick = rng(seed, "tokens")
    by_text = np.argsort(unit, kind="stable")
    rows = np.array([by_text[first[t] + np.sort(pick.permutation(sizes[t])[:k])] for t in order])
    cut = np.arange(count) // clouds % groups
    return Draw(rows, selection.texts[rows[:, 0]], cut, np.arange(count) % clouds)


def common_n(stores: Sequence["Store"], design: Any, most: int, *, halves: bool = False) -> int:
    """Points of a cloud that every store can give, at most `most`: numbers are compared at equal n."""
    held = [
        draw(
            s.select(design.tokens, design.position0),
            units=s.units,
            groups=design.groups,
            seed=design.seed,
            halves=halves,
        ).n
        for s in stores
    ]
    least = min(held) if not design.massive else int(0.9 * min(held))
    return max(2, min(most, least))


def _groups(texts: int, groups: int, clouds: int) -> int:
    """How many groups: as asked, or down to four fewer where that leaves out fewer texts; one text each at
    least."""
    most = min(groups, texts // clouds)
    if texts < 2 * groups * clouds:
        most = texts // clouds
    options = range(max(2, min(most, groups) - 4), most + 1)
    return max(options, key=lambda g: (texts // (g * clouds) * g, g)) if most > 2 else 2


def _shape(sizes: np.ndarray, n: int | None, unit: int, clouds: int) -> tuple[int, int]:
    """(tokens a text, number of texts)."""
    wanted = (POINTS if n is None else n) * clouds
    best, least = (0, 0, 0), min(WANTED, len(sizes), wanted) // unit * unit
    for k in range(1, int(sizes.max()) + 1):
        usable = int((sizes >= k).sum())
        count = min(usable, max(wanted // k, 0)) // unit * unit
        if count < least and best[0] >= min(0.5 * wanted, wanted - unit):
            break
        if count * k > best[0]:
            best = (count * k, k, count)
        if count * k >= 0.9 * wanted:
            break
    if n is not None and best[0] < min(0.5 * wanted, wanted - unit):
        raise TransectError(
            f"n={n}: the texts hold {best[0] // clouds} points a cloud at most, each text the same number.",
            f"Choose n up to {best[0] // clouds}, or capture more texts.",
        )
    if best[0] < 2 * clouds:
        raise TransectError(
            f"n={n}: too few points for {unit // clouds} groups of texts.", f"Choose n from {unit} on."
        )
    return best[1], best[2]
