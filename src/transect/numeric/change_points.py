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
from transect.numeric.outlying import outlying, straight

LINEAR_RANGE = 10  # noise units up to which the signed log is nearly linear
FEWEST = 6
EXPLAINED = 0.3  # p on the signed log from which on a step is explained by it
FLOOR = 0.02  # smallest scatter that is believed, on the log scale: a step within 7 % of its fit is no jump


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
    tails: float = 3.0,
) -> list[Jump]:
    """Jumps of a curve [n] of steps through depth, in order of depth; at most three, six of 18 steps or more.

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
        tails: Degrees of freedom of the Student noise under which alpha holds. More (inf: normal noise) find
            smaller jumps, and alarm on heavier tails and on noise that changes through depth.

    Returns: jumps whose p is at most alpha. Raises: TransectError for fewer than 6 steps, lengths that
    differ, values that are not finite. Bias: a jump as large as the noise of others is missed; noise with
    heavier tails than t₃ gives more alarms.
    """
    y, _ = _difference(curve, errors, reference, reference_errors)
    noise = (errors, reference_errors)
    outliers = _outlying(curve, reference, noise, alpha, tails)
    beside = [reference] * len(resampled) if not len(resampled_reference) else list(resampled_reference)
    if len(beside) != len(resampled) or any(np.shape(r) != y.shape for r in resampled):
        raise TransectError(
            f"jumps: {len(resampled)} resampled curves, {len(beside)} of the reference.", "Pass one length."
        )
    redrawn = [_outlying(r, c, noise, alpha, tails) for r, c in zip(resampled, beside, strict=True)]
    return [Jump(k, z, p, _support(k, redrawn), size) for k, z, p, size in outliers]


def _outlying(
    curve: np.ndarray,
    reference: np.ndarray | None,
    errors: tuple[np.ndarray | None, np.ndarray | None],
    alpha: float,
    tails: float,
) -> list[tuple[int, float, float, float]]:
    """(index, z, p, size) of each jump: by the signed log; as it stands where the curve is straight, unless
    the log explains it."""
    y, noise = _difference(curve, errors[0], reference, errors[1])
    curve = np.asarray(curve, float)
    if reference is not None or not straight(curve):
        return outlying(y, noise, alpha, FLOOR, tails)
    open_to = {k for k, *_ in outlying(y, noise, EXPLAINED, FLOOR, tails)}
    spread = np.zeros(len(curve)) if errors[0] is None else np.asarray(errors[0], float)
    outliers = outlying(curve, spread, alpha, FLOOR * float(np.median(np.abs(curve))), tails, line=True)
    scale = signed_log(curve)[1]
    return [
        (k, z, p, float(y[k] - np.arcsinh((curve[k] - gap) / scale)))
        for k, z, p, gap in outliers
        if k in open_to
    ]


def blocks(
    excess: np.ndarray,
    resampled: Sequence[np.ndarray] = (),
    *,
    alpha: float = 0.05,
    reach: int = 8,
    tails: float = 3.0,
) -> list[Boundary]:
    """Boundaries between blocks of layers in an all-pairs excess [L, L], in order of depth; at most six.

    Crossing a boundary raises the distance from every layer on the other side. The mean rise at each border,
    matched by lag, is tested as `jumps` tests a curve. A smooth path, however curved, has no rise out of
    line; nor has a single layer that lies apart, which is left again on the other side.

    Args:
        excess: Disjoint excess between layers, symmetric; the diagonal is not read.
        resampled: Matrices from half-samples of texts, for the support.
        alpha: Probability of any alarm on a smooth path.
        reach: Longest lag that counts.
        tails: As in `jumps`.

    Returns: boundaries whose p is at most alpha. Raises: TransectError for fewer than 7 layers, a matrix that
    is not square and symmetric, values that are not finite.
    """
    outliers = outlying(*_rises(excess, reach), alpha, FLOOR, tails)
    redrawn = [outlying(*_rises(m, reach), alpha, FLOOR, tails) for m in resampled]
    return [Boundary(k + 1, z, p, _support(k, redrawn), size) for k, z, p, size in outliers]


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


def _support(index: int, redrawn: Sequence[Sequence[tuple[int, float, float, float]]]) -> float:
    return float(np.mean([any(index == k for k, *_ in hits) for hits in redrawn])) if redrawn else math.nan


def _difference(
    curve: np.ndarray,
    errors: np.ndarray | None,
    reference: np.ndarray | None,
    reference_errors: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Signed log of the curve, less that of the reference, and each step's standard error on that scale."""
    curve = _finite(curve, "curve")
    y, variance = np.zeros(len(curve)), np.zeros(len(curve))
    for values, noise, sign in ((curve, errors, 1), (reference, reference_errors, -1)):
        if values is None:
            continue
        values, noise = (
            _finite(values, "reference"),
            np.zeros(len(curve)) if noise is None else np.asarray(noise, float),
        )
        if (
            len(values) != len(curve)
            or noise.shape != curve.shape
            or not (np.isfinite(noise) & (noise >= 0)).all()
        ):
            raise TransectError(
                f"jumps: curve of {len(curve)}, reference of {len(values)}, errors {noise.shape}.",
                "Pass equal lengths and finite standard errors.",
            )
        logs, scale = signed_log(values)
        y, variance = y + sign * logs, variance + noise**2 / (values**2 + scale**2)
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
