"""Intervals by leaving out groups of texts, on the scale where a number lives, alone and for a whole
curve."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np


class Scale(NamedTuple):
    """A monotone map to the line and back: intervals are symmetric there, and never leave the number's range,
    which goes from `least` to `most`."""

    there: Callable[[np.ndarray], np.ndarray]
    back: Callable[[np.ndarray], np.ndarray]
    least: float = -np.inf
    most: float = np.inf

    def inside(self, ends: tuple[Any, Any], value: Any) -> tuple[Any, Any]:
        """Ends of intervals that were made on the number's own scale, kept within the range of those numbers
        that lie in it."""
        fits = (value >= self.least) & (value <= self.most)
        low, high = (np.where(fits, np.clip(end, self.least, self.most), end) for end in ends)
        return low, high


def _log(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.log(np.where(x > 0, x, np.nan)))


def _fisher(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.arctanh(np.where(np.abs(x) < 1, x, np.nan)))


def _logit(x: np.ndarray) -> np.ndarray:
    inside = np.where((x > 0) & (x < 1), x, np.nan)
    return np.asarray(np.log(inside) - np.log1p(-inside))


SCALES: dict[str, Scale] = {
    "identity": Scale(np.asarray, np.asarray),
    "log": Scale(_log, np.exp, 0.0),
    "fisher": Scale(_fisher, np.tanh, -1.0, 1.0),
    "logit": Scale(_logit, lambda y: 1 / (1 + np.exp(-y)), 0.0, 1.0),
}


@functools.lru_cache
def student(count: int, level: float = 0.95) -> float:
    """What the standard error of a mean of `count` independent numbers is multiplied by for an interval."""
    from scipy.stats import t

    return float(t.ppf(0.5 + level / 2, count - 1))


def spread(replicates: Sequence[float] | np.ndarray) -> float:
    """Standard error from leave-one-group-out values: √((G − 1)/G Σ(θ_g − θ̄)²); NaN where one is missing."""
    theta = np.asarray(replicates, float)
    if len(theta) < 2 or not np.isfinite(theta).all():
        return float("nan")
    return float(np.sqrt((len(theta) - 1) / len(theta) * ((theta - theta.mean()) ** 2).sum()))


def jackknife(
    value: float,
    replicates: Sequence[float] | np.ndarray,
    level: float = 0.95,
    *,
    scale: str = "identity",
    more: float | int = 0.0,
) -> tuple[float, float]:
    """Interval from leave-one-group-out values, symmetric on `scale`: value ± t·se with G − 1 degrees of
    freedom.

    Args:
        scale: "identity", "log", "fisher" or "logit"; where a value lies at its end or beyond, "identity" is
            used, cut off at the range of the scale.
        more: Variance of the number from elsewhere (a null of few draws), on the number's own scale.

    Source: Miller 1974, doi:10.1093/biomet/61.1.1; Kott 2001 (delete-a-group jackknife).
    """
    theta = np.asarray(replicates, float)
    if len(theta) < 2 or not np.isfinite(theta).all() or not np.isfinite(value):
        return float("nan"), float("nan")
    there, back, *_ = SCALES[scale]
    moved, centre = there(theta), float(there(np.asarray(value, float)))
    if not np.isfinite(moved).all() or not np.isfinite(centre):
        low, high = SCALES[scale].inside(jackknife(value, replicates, level, more=more), np.float64(value))
        return float(low), float(high)
    se = float(np.hypot(spread(moved), _carried(value, float(np.sqrt(more)), there)))
    half = student(len(theta), level) * se
    return float(back(np.asarray(centre - half))), float(back(np.asarray(centre + half)))


def ratios(sums: np.ndarray, weights: np.ndarray, groups: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Means over tokens from sums by text: (values [m], leave-one-group-of-texts-out values [m, G]).

    Args:
        sums: [m, texts].
        weights: Tokens of each text, [texts].
    """
    from transect.random import rng

    order = rng(seed, "groups").permutation(len(weights))
    parts = np.array_split(order, min(groups, len(weights)))
    total, count = sums.sum(axis=1), weights.sum()
    drops = [(total - sums[:, part].sum(axis=1)) / (count - weights[part].sum()) for part in parts]
    return total / count, np.stack(drops, axis=1)


def _carried(value: float, error: float, there: Callable[[np.ndarray], np.ndarray]) -> float:
    """A standard error on the number's own scale, carried over to the line by a step to either side that
    exists."""
    middle = float(there(np.asarray(value)))
    steps = [abs(float(there(np.asarray(value + side * error))) - middle) for side in (-1, 1)]
    return max((s for s in steps if np.isfinite(s)), default=0.0)


def simultaneous(
    values: np.ndarray,
    replicates: np.ndarray,
    level: float = 0.95,
    *,
    scale: str = "identity",
    draws: int = 2000,
) -> tuple[np.ndarray, np.ndarray]:
    """Band that holds a whole curve: values [m], leave-one-group-out values [m, G]; (low [m], high [m]).

    `scale` as in `jackknife`. The critical value is that of `largest` over the groups' pseudo-values.
    """
    there, back, *_ = SCALES[scale]
    centre, moved = there(np.asarray(values, float)), there(np.asarray(replicates, float))
    if scale != "identity" and not (np.isfinite(centre).all() and np.isfinite(moved).all()):
        ends = simultaneous(values, replicates, level, draws=draws)
        return SCALES[scale].inside(ends, np.asarray(values, float))
    G = moved.shape[1]
    _, se, critical = largest([(G - 1) * (moved.mean(axis=1, keepdims=True) - moved)], G - 1, level, draws)
    return back(centre - critical * se), back(centre + critical * se)


def largest(
    sources: Sequence[np.ndarray], freedom: int, level: float = 0.95, draws: int = 2000
) -> tuple[np.ndarray, np.ndarray, float]:
    """Draws [draws, m] of the error of a curve, its standard error [m], and the critical value of the largest
    |t|.

    Args:
        sources: For each source of variation the deviations of its units from their mean, [m, units].
        freedom: Degrees of freedom of the standard error.
        level: Share of the draws whose largest |error / se| stays below the critical value.
        draws: Gaussian multipliers of the units.

    Few units make unrelated places look related, and the largest |t| too small: correlations are shrunk
    towards 0. A t has heavier tails than its multipliers: the critical value is carried over by tail area.
    Source: Montiel Olea & Plagborg-Møller 2019, doi:10.1002/jae.2656; Schäfer & Strimmer 2005,
    doi:10.2202/1544-6115.1175.
    """
    from scipy.stats import norm, t

    from transect.random import rng

    draw, m = rng(0, "multipliers"), len(sources[0]) if len(sources) else 0
    shifts, variance = np.zeros((draws, m)), np.zeros(m)
    for part in sources:
        units = part.shape[1]
        se = np.sqrt((part**2).sum(axis=1) / (units * (units - 1)))
        share = _shrinkage(part)
        common = draw.standard_normal((draws, units)) @ part.T / np.sqrt(units * (units - 1))
        shifts += np.sqrt(1 - share) * common + np.sqrt(share) * se * draw.standard_normal((draws, m))
        variance += se**2
    se = np.sqrt(variance)
    top = np.nanmax(np.abs(np.divide(shifts, se, out=np.zeros_like(shifts), where=se > 0)), axis=1)
    return shifts, se, float(t.isf(norm.sf(float(np.quantile(top, level))), freedom))


def _shrinkage(part: np.ndarray) -> float:
    """How far correlations over few units are to be drawn to 0: their variance over their squares, summed."""
    units = part.shape[1]
    size = np.sqrt((part**2).sum(axis=1, keepdims=True) / (units - 1))
    Z = np.divide(part, size, out=np.zeros_like(part), where=size > 0)
    R, squares = Z @ Z.T / units, (Z**2) @ (Z**2).T
    off = ~np.eye(len(part), dtype=bool)
    variance = (squares - units * R**2)[off].sum() * units / (units - 1) ** 3
    total = ((R[off] * units / (units - 1)) ** 2).sum()
    return float(min(1.0, variance / total)) if total > 0 else 0.0


def agreement(picks: Sequence[int], pick: int) -> float:
    """Share of resamples that pick the same one; NaN without resamples."""
    return float(np.mean([p == pick for p in picks])) if len(picks) else float("nan")
