"""Controls and resampling: which rows make a cloud, what is left out or shuffled, and what follows for a number.

Texts, not tokens, are the units: halves, groups and folds never share a text, because tokens of one text are not
independent. Which null belongs to a measure follows from its declaration (`Measure.control`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from transect.errors import TransectError
from transect.store.selection import Selection


@dataclass(frozen=True)
class Draw:
    """Two clouds of n points from disjoint halves of the texts: indices into a selection, and the group of each point.

    Every group holds the same number of points of whole texts, so each leave-one-group-out cloud has the same n.
    """

    a: np.ndarray
    b: np.ndarray
    group_a: np.ndarray
    group_b: np.ndarray
    n_texts: int

    @property
    def n(self) -> int:
        """Points in one cloud."""
        return len(self.a)

    @property
    def groups(self) -> int:
        """Number of groups of texts."""
        return int(self.group_a.max()) + 1


def draw(selection: Selection, *, n: int | None = None, groups: int = 10, seed: int = 0) -> Draw:
    """Draw two clouds of about `n` points (at most; a multiple of `groups`) from disjoint halves of the texts.

    Default n: 1000, or what the smaller half holds. TransectError when the texts cannot carry the design.
    """
    rng = np.random.default_rng([seed, 1])
    texts = rng.permutation(np.unique(selection.texts))
    if len(texts) < 4:
        raise TransectError(
            f"{len(texts)} texts with points; halves and groups of texts need at least 4.", "Capture more texts."
        )
    groups = min(groups, len(texts) // 2)
    sizes = np.bincount(selection.texts, minlength=texts.max() + 1)
    sides = [_deal(texts[half::2], sizes, groups) for half in (0, 1)]
    per_group = min(int(sizes[members].sum()) for side in sides for members in side)
    wanted = per_group if n is None else n // groups
    if n is None:
        wanted = min(wanted, 1000 // groups)
    if not 1 <= wanted <= per_group or wanted * groups < 2:
        raise TransectError(
            f"n={n}: {len(texts)} texts in two halves of {groups} groups hold {per_group * groups} points a half.",
            f"Choose n from {groups} to {per_group * groups}, or capture more texts.",
        )
    (a, group_a), (b, group_b) = (_pick(selection, side, wanted, rng) for side in sides)
    return Draw(a, b, group_a, group_b, len(texts))


def _deal(texts: np.ndarray, sizes: np.ndarray, groups: int) -> list[list[int]]:
    """Texts dealt to groups, each to the one that holds the fewest points so far; longest texts first."""
    members: list[list[int]] = [[] for _ in range(groups)]
    held = np.zeros(groups)
    for text in sorted(texts.tolist(), key=lambda t: -sizes[t]):
        k = int(held.argmin())
        members[k].append(text)
        held[k] += sizes[text]
    return members


def _pick(
    selection: Selection, side: list[list[int]], wanted: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    picked = [
        np.sort(rng.choice(np.flatnonzero(np.isin(selection.texts, members)), wanted, replace=False))
        for members in side
    ]
    return np.concatenate(picked), np.repeat(np.arange(len(side)), wanted)


def swap_texts(selection: Selection, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Which of `rows` change sides when every text is swapped or not by a coin: [n] bool."""
    coin = rng.integers(0, 2, int(selection.texts.max()) + 1).astype(bool)
    return coin[selection.texts[rows]]


def shuffle_columns(X: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each column permuted by itself: the marginals stay, every relation between dimensions goes."""
    return rng.permuted(X, axis=0)


def jackknife(value: float, replicates: Sequence[float] | np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Interval from leave-one-group-out replicates: value ± t·se, se² = (G−1)/G Σ(θ_g − θ̄)²; NaN where one is missing."""
    from scipy.stats import t

    theta = np.asarray(replicates, float)
    if len(theta) < 2 or not np.isfinite(theta).all():
        return float("nan"), float("nan")
    se = np.sqrt((len(theta) - 1) / len(theta) * ((theta - theta.mean()) ** 2).sum())
    half = float(t.ppf(0.5 + level / 2, len(theta) - 1) * se)
    return value - half, value + half


def permutation_p(value: float, null: Sequence[float] | np.ndarray, side: str = "greater") -> float:
    """(1 + #{null at least as extreme}) / (1 + B); side "greater", "less", or "two" (twice the smaller, at most 1)."""
    draws = np.asarray(null, float)
    draws = draws[np.isfinite(draws)]
    if not len(draws) or not np.isfinite(value):
        return float("nan")
    above = (1 + (draws >= value).sum()) / (1 + len(draws))
    below = (1 + (draws <= value).sum()) / (1 + len(draws))
    return float({"greater": above, "less": below, "two": min(1.0, 2 * min(above, below))}[side])


def holm(p: Sequence[float] | np.ndarray) -> np.ndarray:
    """Holm-adjusted p-values over a family; NaN stays NaN and does not count."""
    from statsmodels.stats.multitest import multipletests

    out = np.asarray(p, float).copy()
    known = np.isfinite(out)
    if known.any():
        out[known] = multipletests(out[known], method="holm")[1]
    return out


def max_t(values: np.ndarray, null: np.ndarray) -> np.ndarray:
    """Single-step max-T p-values: `values` [m], `null` [B, m], each null draw permuting all m at once (Westfall–Young)."""
    top = np.nanmax(null, axis=1)
    return (1 + (top[None] >= values[:, None]).sum(axis=1)) / (1 + len(top))


def design_effect(X: np.ndarray, texts: np.ndarray) -> tuple[float, float]:
    """(ICC, design effect) of points grouped by text: one-way variance components over all dimensions.

    ICC = between-text share of variance; design effect 1 + (m₀ − 1)·ICC with m₀ the effective text size: how many times
    too small a variance by token would be. Source: Kish 1965; Donner & Koval 1980.
    """
    labels, inverse, sizes = np.unique(texts, return_inverse=True, return_counts=True)
    k, n = len(labels), len(X)
    if k < 2 or n <= k:
        return float("nan"), float("nan")
    X = np.asarray(X, float) - X.mean(axis=0, dtype=float)
    sums = np.zeros((k, X.shape[1]))
    np.add.at(sums, inverse, X)
    between = float((sums**2 / sizes[:, None]).sum()) / (k - 1)
    within = float((X**2).sum() - (sums**2 / sizes[:, None]).sum()) / (n - k)
    m0 = (n - (sizes**2).sum() / n) / (k - 1)
    if between + (m0 - 1) * within <= 0:
        return float("nan"), float("nan")
    icc = (between - within) / (between + (m0 - 1) * within)
    return icc, 1 + (m0 - 1) * max(icc, 0.0)
