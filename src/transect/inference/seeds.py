"""Intervals of means over training runs: the seed is the unit, and the texts vary too.

Values of S seeds on the same texts vary for two reasons. The seeds' own spread is seen between the values;
what the texts contribute is common to all seeds, and is seen in leave-one-group-out values of their mean.
"""

from typing import NamedTuple

import numpy as np

from transect.inference.intervals import SCALES, agreement, largest, spread

#: Seeds below which no interval is made of several runs.
FEWEST = 3


class Band(NamedTuple):
    """A simultaneous band over m sites [m], [m], and how often resamples have the same site far from 0."""

    low: np.ndarray
    high: np.ndarray
    agreement: float


def seeds_interval(
    values: np.ndarray, replicates: np.ndarray, level: float = 0.95, *, scale: str = "identity"
) -> tuple[float, float]:
    """Interval of the mean over seeds, from both sources of variation.

    Args:
        values: One value for each seed, [seeds]; with fewer than three seeds there is no interval.
        replicates: Leave-one-group-of-texts-out values of the mean over seeds, [groups]; may be empty.
        level: Share of such intervals that hold the mean over all seeds and texts.
        scale: Of `intervals.SCALES`, where the interval is symmetric; "identity" where a value lies outside.

    Returns: (low, high); NaN with one or two seeds, or where a value is missing. The half width is
        √(t²_{S−1} s²/S + t²_{G−1} v), v the jackknife variance by texts: no narrower than t over seeds alone.
    """
    from scipy.stats import t

    values = np.asarray(values, float)
    if len(values) < FEWEST or not np.isfinite(values).all():
        return float("nan"), float("nan")
    there, back, *_ = SCALES[scale]
    centre, mean = float(there(np.asarray(values.mean()))), float(values.mean())
    moved = there(values), there(np.asarray(replicates, float))
    if all(np.isfinite(part).all() for part in (*moved, centre)):
        values, replicates = moved
    else:
        centre, back = mean, np.asarray
    half = float(t.ppf(0.5 + level / 2, len(values) - 1)) * values.std(ddof=1) / np.sqrt(len(values))
    if len(replicates) > 1:
        half = np.hypot(half, float(t.ppf(0.5 + level / 2, len(replicates) - 1)) * spread(replicates))
    return float(back(np.asarray(centre - half))), float(back(np.asarray(centre + half)))


def seeds_band(values: np.ndarray, replicates: np.ndarray, level: float = 0.95, *, draws: int = 2000) -> Band:
    """Band that holds a whole curve of means over seeds, and how often resamples agree on its extreme.

    Args:
        values: [m sites, seeds]; one seed: only the texts vary; two: no band.
        replicates: Leave-one-group-out values of the mean over seeds, [m, groups], or [m, 0].
        level: Share of bands that hold the whole curve.
        draws: Gaussian multipliers of seeds and of groups of texts.

    The critical value is that of `intervals.largest`, with a t of the seeds' (one seed: the groups') degrees
    of freedom.
    """
    mean, nothing = values.mean(axis=1), np.full(len(values), np.nan)
    seeds, groups = values.shape[1], replicates.shape[1]
    if 1 < seeds < FEWEST or (seeds == 1 and groups < 2) or not np.isfinite(values).all():
        return Band(nothing, nothing, float("nan"))
    sources = [values - mean[:, None]] if seeds >= FEWEST else []
    if groups > 1 and np.isfinite(replicates).all():
        sources.append((groups - 1) * (replicates.mean(axis=1, keepdims=True) - replicates))
    if not sources:
        return Band(nothing, nothing, float("nan"))
    shifts, se, critical = largest(sources, (seeds if seeds >= FEWEST else groups) - 1, level, draws)
    picks = np.abs(mean + shifts).argmax(axis=1).tolist()
    share = agreement(picks, int(np.abs(mean).argmax()))
    return Band(mean - critical * se, mean + critical * se, share)
