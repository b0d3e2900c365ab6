"""Where a representation changes suddenly: jumps of a curve through depth, block boundaries of a matrix.

A jump is a step out of line with its neighbours; `outlying` says how that is tested. Arrays in, dataclasses
out.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from transect.errors import TransectError
from transect.numeric.outlying import MAD_TO_SIGMA, outlying

LINEAR_RANGE = 10  # noise units up to which the signed log is nearly linear
FEWEST = 6


@dataclass(frozen=True)
class Jump:
    """One step out of line with its neighbours.

    `index` into the curve. `z`: misfit over the largest misfits of the other steps, both in units of the 95 %
    point of white noise. `p`: for the whole curve. `support`: share of resampled curves with a jump at the
    same index, NaN without any. `size`: difference from the local fit on the signed-log scale, a log ratio
    where the curve is well above its noise; positive for a step larger than its neighbours.
    """

    index: int
    z: float
    p: float
    support: float
    size: float


@dataclass(frozen=True)
class Boundary:
    """A border between two blocks of layers.

    `index`: the first layer of the new block. `size`: rise of distance across it beyond the local fit, on the
    signed-log scale. The others as in `Jump`.
    """

    index: int
    z: float
    p: float
    support: float
    size: float


def jumps(
    curve: np.ndarray,
    errors: np.ndarray | None = None,
    resampled: Sequence[np.ndarray] = (),
    *,
    alpha: float = 0.05,
    reference: np.ndarray | None = None,
    reference_errors: np.ndarray | None = None,
    resampled_reference: Sequence[np.ndarray] = (),
    floor: float = 0.02,
    tails: float = 3.0,
) -> list[Jump]:
    """Jumps of a curve [n] of steps through depth, in order of depth; at most three.

    Args:
        curve: Excess of each step; may hold values at or below 0.
        errors: Standard error of each step. A step must stand out of these too.
        resampled: Curves from half-samples of texts, for the support.
        alpha: Probability of any alarm on a curve without a jump.
        reference: Control curve, such as random weights. The difference of the signed logs is tested, so that
            a jump by the same factor in both cancels.
        reference_errors: Standard error of each step of the control.
        resampled_reference: Curves of the control, one to each of `resampled`. `reference` itself stands in
            without.
        floor: Smallest scatter that is believed, on the log scale. A step within about 7 % of its fit is
            never a jump.
        tails: Degrees of freedom of the Student noise under which alpha holds. More (inf: normal noise) find
            smaller jumps, and alarm on heavier tails and on noise that changes through depth.

    Returns: jumps whose p is at most alpha.
    Raises: TransectError for fewer than 6 steps, lengths that differ, values that are not finite.
    Bias: under t₃ critical values a spike of 10 σ in white noise is found in about 8 of 10 curves, less often
    at the ends and where the noise changes through depth; see bench/calibrate_changes.py.
    """
    y, noise = _difference(curve, errors, reference, reference_errors)
    found = outlying(y, noise, alpha, floor, tails)
    beside = [reference] * len(resampled) if not len(resampled_reference) else list(resampled_reference)
    if len(beside) != len(resampled) or any(np.shape(r) != y.shape for r in resampled):
        raise TransectError(
            f"jumps: {len(resampled)} resampled curves, {len(beside)} of the reference.", "Pass one length."
        )
    again = [
        outlying(_difference(r, None, c, None)[0], noise, alpha, floor, tails)
        for r, c in zip(resampled, beside, strict=True)
    ]
    return [Jump(k, z, p, _support(k, again), size) for k, z, p, size in found]


def blocks(
    excess: np.ndarray,
    resampled: Sequence[np.ndarray] = (),
    *,
    alpha: float = 0.05,
    reach: int = 8,
    floor: float = 0.02,
    tails: float = 3.0,
) -> list[Boundary]:
    """Boundaries between blocks of layers in an all-pairs excess [L, L], in order of depth; at most three.

    Crossing a boundary raises the distance from every layer on the other side. The mean rise at each border,
    matched by lag, is tested as `jumps` tests a curve. A smooth path, however curved, has no rise out of
    line; nor has a single layer that lies apart, which is left again on the other side.

    Args:
        excess: Disjoint excess between layers, symmetric; the diagonal is not read.
        resampled: Matrices from half-samples of texts, for the support.
        alpha: Probability of any alarm on a smooth path.
        reach: Longest lag that counts.
        floor, tails: As in `jumps`.

    Returns: boundaries whose p is at most alpha.
    Raises: TransectError for fewer than 7 layers, a matrix that is not square and symmetric, values that are
    not finite.
    """
    found = outlying(*_rises(excess, reach), alpha, floor, tails)
    again = [outlying(*_rises(m, reach), alpha, floor, tails) for m in resampled]
    return [Boundary(k + 1, z, p, _support(k, again), size) for k, z, p, size in found]


def signed_log(curve: np.ndarray) -> tuple[np.ndarray, float]:
    """asinh(curve / s) and s: a logarithm well above the noise, linear within it; s is 10 noise units.

    An exponential becomes a line and a factor becomes a difference, while a spike of 10 σ in noise about 0
    keeps nearly its size. The noise: a low quantile of fifth differences (third ones in a curve shorter than
    24), which a smooth curve hardly has.
    """
    order, share = (5, 0.2) if len(curve) >= 24 else (3, 0.3)
    apart = np.abs(np.diff(curve, order)) / math.sqrt(math.comb(2 * order, order))
    sigma = float(np.quantile(apart, share)) / NormalDist().inv_cdf((1 + share) / 2)
    low = float(np.quantile(curve, 0.2))
    linear = min(LINEAR_RANGE * sigma, low / 3) if low > 6 * sigma else LINEAR_RANGE * sigma
    scale = max(linear, 1e-12 * float(np.abs(curve).max()), np.finfo(float).tiny)
    return np.arcsinh(curve / scale), scale


def _support(index: int, again: Sequence[Sequence[tuple[int, float, float, float]]]) -> float:
    return float(np.mean([any(index == k for k, *_ in found) for found in again])) if again else math.nan


def _difference(
    curve: np.ndarray,
    errors: np.ndarray | None,
    reference: np.ndarray | None,
    reference_errors: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Signed log of the curve, less that of the reference, and each step's standard error on that scale."""
    curve = _finite(curve, "curve")
    y, variance = np.zeros(len(curve)), np.zeros(len(curve))
    for values, given, sign in ((curve, errors, 1), (reference, reference_errors, -1)):
        if values is None:
            continue
        values, given = (
            _finite(values, "reference"),
            np.zeros(len(curve)) if given is None else np.asarray(given, float),
        )
        if (
            len(values) != len(curve)
            or given.shape != curve.shape
            or not (np.isfinite(given) & (given >= 0)).all()
        ):
            raise TransectError(
                f"jumps: curve of {len(curve)}, reference of {len(values)}, errors {given.shape}.",
                "Pass equal lengths and finite standard errors.",
            )
        logs, scale = signed_log(values)
        y, variance = y + sign * logs, variance + given**2 / (values**2 + scale**2)
    return y, np.sqrt(variance)


def _finite(curve: Any, what: str) -> np.ndarray:
    curve = np.asarray(curve, float)
    if curve.ndim != 1 or len(curve) < FEWEST or not np.isfinite(curve).all():
        raise TransectError(f"jumps: {what} needs at least {FEWEST} finite steps, got shape {curve.shape}.")
    return curve


def _rises(excess: np.ndarray, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean rise of distance across each border [L − 1], on the signed-log scale; no standard errors."""
    D = np.array(excess, float)
    if D.ndim != 2 or D.shape[0] != D.shape[1] or len(D) < FEWEST + 1:
        raise TransectError(f"blocks: needs a square matrix of at least {FEWEST + 1} layers, got {D.shape}.")
    np.fill_diagonal(D, 0)
    if not np.isfinite(D).all() or not np.allclose(D, D.T, rtol=1e-6, atol=1e-9 * np.abs(D).max()):
        raise TransectError("blocks: the matrix is not symmetric and finite off its diagonal.")
    layers, lags = len(D), range(2, max(2, min(reach, len(D) // 2)) + 1)
    rise = np.full((2 * len(lags), layers - 1), np.nan)
    for row, lag in enumerate(lags):
        k = np.arange(layers - lag)
        rise[2 * row, k + lag - 1] = D[k, k + lag] - D[k, k + lag - 1]
        rise[2 * row + 1, k] = D[k, k + lag] - D[k + 1, k + lag]
    usual = np.nanmedian(rise, axis=1, keepdims=True)
    return signed_log(np.nanmean(rise - usual, axis=0) + usual.mean())[0], np.zeros(layers - 1)


# The former rule, kept only until the drift study reads `jumps`.


@dataclass(frozen=True)
class Candidate:
    """A layer where the curve changes: index into the curve, robust z, share of resamples that agree."""

    index: int
    z: float
    support: float
    level: float  # size of the shift, in units of the curve


def mad_z(curve: np.ndarray) -> np.ndarray:
    """Robust z of each first difference, [n − 1]: (Δ − median Δ) / (1.4826 · MAD); inf where MAD is 0."""
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
    """Standard deviation about the level: MAD of first differences / √2; the plain one where that is 0."""
    flat = detrend(curve)
    steps = np.diff(flat)
    sigma = MAD_TO_SIGMA * float(np.median(np.abs(steps - np.median(steps)))) / math.sqrt(2)
    return sigma if sigma > 1e-12 * max(1.0, np.abs(curve).max()) else float(np.std(flat))


def breakpoints(curve: np.ndarray, penalty: float = 3.0) -> list[int]:
    """Indices where PELT (l2, jump 1, penalty · log n in units of the noise variance) starts a new segment.

    Noise: MAD of first differences / √2, raised for the curve's lag-1 autocorrelation, so that an AR(1)
    wander is not a change. Source: Killick et al. 2012, arXiv:1101.1438.
    """
    import ruptures

    flat, sigma = detrend(curve), noise(curve)
    if sigma == 0:
        return []
    residual = flat - _local_level(flat)
    rho = (
        float(np.clip(np.corrcoef(residual[:-1], residual[1:])[0, 1], 0, 0.9))
        if np.std(residual) > 0
        else 0.0
    )
    inflation = (1 + rho) / (1 - rho)
    signal = (flat / sigma)[:, None]
    found = (
        ruptures.Pelt(model="l2", min_size=3, jump=1)
        .fit(signal)
        .predict(pen=penalty * math.log(len(flat)) * inflation)
    )
    return [int(k) for k in found[:-1]]


def _local_level(curve: np.ndarray, window: int = 7) -> np.ndarray:
    from scipy.ndimage import median_filter

    return median_filter(curve, size=min(window, len(curve)), mode="nearest")


def candidates(
    curve: np.ndarray, resampled: Sequence[np.ndarray] = (), *, screen: float = 3.5, penalty: float = 3.0
) -> list[Candidate]:
    """Candidate change layers of a curve [n], with the share of `resampled` curves that have one within ±1.

    A candidate passes the screen (|MAD z| of a difference within ±1 of it ≥ `screen`; 3.5 by Iglewicz &
    Hoaglin 1993), PELT, and a shift of medians between the segments of at least 3 noise units, so
    that one outlying layer is not a change of level. Its index is the first layer of the new level.
    TransectError for fewer than 8 points or NaN.
    """
    curve = np.asarray(curve, float)
    if curve.ndim != 1 or len(curve) < 8 or not np.isfinite(curve).all():
        raise TransectError(f"change layers need a finite curve of at least 8 points, got {curve.shape}.")
    found = _screened(curve, screen, penalty)
    others = [[c.index for c in _screened(np.asarray(r, float), screen, penalty)] for r in resampled]
    share = [
        float(np.mean([any(abs(c.index - k) <= 1 for k in o) for o in others])) if others else math.nan
        for c in found
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
