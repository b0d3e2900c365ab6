"""Candidate change layers: where a curve through depth shifts, with the support that a candidate has.

A rolling z-score over a window of 5 can never pass 2.0, and a global 2σ rule fires on most null curves. Here: a robust
screen on first differences (MAD z), then PELT on the detrended curve, then the share of resampled curves that agree.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from transect.errors import TransectError

MAD_TO_SIGMA = 1.4826


@dataclass(frozen=True)
class Candidate:
    """A layer where the curve changes: index into the curve, its robust z, and the share of resamples that agree."""

    index: int
    z: float
    support: float
    level: float  # size of the shift, in units of the curve


def mad_z(curve: np.ndarray) -> np.ndarray:
    """Robust z of each first difference, [n − 1]: (Δ − median Δ) / (1.4826 · MAD). inf where the MAD is 0 and Δ is not."""
    steps = np.diff(np.asarray(curve, float))
    deviation = steps - np.median(steps)
    scale = MAD_TO_SIGMA * np.median(np.abs(deviation))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(deviation == 0, 0.0, deviation / scale)


def detrend(curve: np.ndarray) -> np.ndarray:
    """The curve less its Theil–Sen line: a slow drift through depth is no change layer."""
    from scipy.stats import theilslopes

    curve = np.asarray(curve, float)
    line: Any = theilslopes(curve, np.arange(len(curve)))
    return curve - line[1] - line[0] * np.arange(len(curve))


def noise(curve: np.ndarray) -> float:
    """Standard deviation of the curve about its level: MAD of first differences / √2; the plain one where that is 0."""
    flat = detrend(curve)
    steps = np.diff(flat)
    sigma = MAD_TO_SIGMA * float(np.median(np.abs(steps - np.median(steps)))) / math.sqrt(2)
    return sigma if sigma > 1e-12 * max(1.0, np.abs(curve).max()) else float(np.std(flat))


def breakpoints(curve: np.ndarray, penalty: float = 3.0) -> list[int]:
    """Indices where PELT (l2, jump 1, penalty · log n in units of the noise variance) starts a new segment.

    Noise: MAD of first differences / √2, raised for the curve's lag-1 autocorrelation, so that an AR(1) wander is
    not a change. Source: Killick et al. 2012, arXiv:1101.1438.
    """
    import ruptures

    flat, sigma = detrend(curve), noise(curve)
    if sigma == 0:
        return []
    residual = flat - _local_level(flat)
    rho = float(np.clip(np.corrcoef(residual[:-1], residual[1:])[0, 1], 0, 0.9)) if np.std(residual) > 0 else 0.0
    inflation = (1 + rho) / (1 - rho)
    signal = (flat / sigma)[:, None]
    found = (
        ruptures.Pelt(model="l2", min_size=3, jump=1).fit(signal).predict(pen=penalty * math.log(len(flat)) * inflation)
    )
    return [int(k) for k in found[:-1]]


def _local_level(curve: np.ndarray, window: int = 7) -> np.ndarray:
    from scipy.ndimage import median_filter

    return median_filter(curve, size=min(window, len(curve)), mode="nearest")


def candidates(
    curve: np.ndarray, resampled: Sequence[np.ndarray] = (), *, screen: float = 3.5, penalty: float = 3.0
) -> list[Candidate]:
    """Candidate change layers of a curve [n], with the share of `resampled` curves that have one within ±1.

    A candidate passes the screen (|MAD z| of a difference within ±1 of it ≥ `screen`; 3.5 by Iglewicz & Hoaglin
    1993), PELT, and a shift of medians between the neighbouring segments of at least 3 noise units, so that one outlying
    layer is not a change of level. Its index is the first layer of the new level. TransectError for fewer than 8 points or NaN.
    """
    curve = np.asarray(curve, float)
    if curve.ndim != 1 or len(curve) < 8 or not np.isfinite(curve).all():
        raise TransectError(f"change layers need a finite curve of at least 8 points, got {curve.shape}.")
    found = _screened(curve, screen, penalty)
    others = [[c.index for c in _screened(np.asarray(r, float), screen, penalty)] for r in resampled]
    share = [
        float(np.mean([any(abs(c.index - k) <= 1 for k in o) for o in others])) if others else math.nan for c in found
    ]
    return [Candidate(c.index, c.z, s, c.level) for c, s in zip(found, share, strict=True)]


def _screened(curve: np.ndarray, screen: float, penalty: float) -> list[Candidate]:
    z = mad_z(curve)
    edges = breakpoints(curve, penalty)
    flat, sigma, out = detrend(curve), noise(curve), []
    bounds = [0, *edges, len(curve)]
    for k, edge in enumerate(edges, start=1):
        near = z[max(0, edge - 2) : edge + 1]
        strongest = float(near[np.argmax(np.abs(near))])
        shift = float(np.median(flat[edge : bounds[k + 1]]) - np.median(flat[bounds[k - 1] : edge]))
        if abs(strongest) >= screen and abs(shift) >= 3 * sigma:
            out.append(Candidate(edge, strongest, math.nan, shift))
    return out
