"""p-values: permutation tests, families of them, and how many draws a family needs."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from transect.errors import TransectError

#: The level that a test is for.
LEVEL = 0.05
#: Tests that a side is: twice the smaller of two is one of two.
SIDES = {"greater": 1, "less": 1, "two": 2}


def permutation_p(value: float, null: Sequence[float] | np.ndarray, side: str = "greater") -> float:
    """(1 + #{null at least as extreme}) / (1 + B); side "greater", "less", or "two" (twice the smaller, at
    most 1). NaN where so few draws cannot give a p of LEVEL."""
    draws = np.asarray(null, float)
    draws = draws[np.isfinite(draws)]
    if not reachable(len(draws), SIDES[side]) or not np.isfinite(value):
        return float("nan")
    above = (1 + (draws >= value).sum()) / (1 + len(draws))
    below = (1 + (draws <= value).sum()) / (1 + len(draws))
    return float({"greater": above, "less": below, "two": min(1.0, 2 * min(above, below))}[side])


def holm(p: Sequence[float] | np.ndarray) -> np.ndarray:
    """Holm-adjusted p-values over a family; NaN stays NaN and does not count. Source: Holm 1979."""
    out = np.asarray(p, float).copy()
    known = np.flatnonzero(np.isfinite(out))
    order = known[np.argsort(out[known], kind="stable")]
    steps = out[order] * np.arange(len(order), 0, -1)
    out[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return out


def max_t(values: np.ndarray, null: np.ndarray) -> np.ndarray:
    """Single-step max-T p-values: `values` [m], `null` [B, m], each null draw permuting all m at once.

    Source: Westfall & Young 1993. Values must be comparable: studentise them first (`studentised`). NaN where
    so few draws cannot give a p of LEVEL.
    """
    if not reachable(len(null)):
        return np.full(len(values), np.nan)
    top = np.nanmax(null, axis=1)
    return (1 + (top[None] >= values[:, None]).sum(axis=1)) / (1 + len(top))


def studentised(values: np.ndarray, null: np.ndarray, side: str = "greater") -> tuple[np.ndarray, np.ndarray]:
    """Values [m] and null draws [B, m] about the null's mean in units of its spread, signed so that large is
    extreme.

    The observed value is one of the draws that mean and spread are taken over, as under the null it is.
    """
    both = np.concatenate([values[None], null])
    centre, scale = both.mean(axis=0), both.std(axis=0)
    z = np.divide(both - centre, scale, out=np.zeros_like(both), where=scale > 0)
    z = {"greater": z, "less": -z, "two": np.abs(z)}[side]
    return z[0], z[1:]


def reachable(draws: float | int, family: int = 1, level: float = LEVEL) -> bool:
    """Whether so many draws can give a p of `level` after a Bonferroni-like correction over the family."""
    return draws > 0 and family / (draws + 1) <= level + 1e-12


def draws_needed(family: int, level: float = LEVEL) -> int:
    """Draws of the null that Holm over a family needs to reach `level`; max-T needs those of a family of
    one."""
    return math.ceil(family / level) - 1


def arrangements(values: Sequence[Any] | np.ndarray) -> float:
    """In how many ways these values can be put in order: no draw of a permutation of them is another one."""
    from scipy.special import gammaln

    counts = np.unique(np.asarray(values), return_counts=True)[1]
    return float(np.exp(gammaln(counts.sum() + 1) - gammaln(counts + 1).sum()))


def untested(draws: int, family: int = 1, ways: float | int = math.inf) -> str | None:
    """Why a row has no p, and how many draws would give one; None where there are enough. `ways`: different
    draws that there are."""
    if not reachable(ways - 1):
        return f"{ways:.0f} different draws cannot give a p of {LEVEL:g}: the texts are too few"
    if reachable(draws, family):
        return None
    return f"{draws} draws cannot give a p of {LEVEL:g}; {draws_needed(family)} can"


def require(draws: int, family: int, what: str) -> None:
    """TransectError when a test of this family cannot reach the level."""
    if not reachable(draws, family):
        raise TransectError(
            f"{what}: {draws} draws cannot give a p of {LEVEL:g} over {family} tests.",
            f"Ask for {draws_needed(family)} draws or more, or for none.",
        )
