"""Companions of transport: sliced and Gaussian Wasserstein distances, distances of means and of paired
points.

They are cheaper and vary less than the exact distance; each is a bound on it or a part of it. Arithmetic is
in float64 about the clouds' means, so that a common offset cannot cancel.
"""

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, NamedTuple

import numpy as np
from jaxtyping import Float

from transect.errors import TransectError
from transect.measures.additive import additive
from transect.measures.arrays import as_points
from transect.measures.contract import measure
from transect.numeric.sinkhorn import in_threads
from transect.work.options import within

Pairs = Sequence[tuple[int, int]]


class Sorted(NamedTuple):
    """A cloud prepared for slicing: sorted projections of the centred points [n, p] and of the mean [p]."""

    values: np.ndarray
    mean: np.ndarray


class Factor(NamedTuple):
    """A cloud prepared for `bures`: its mean [d] and A [min(n, d), d] with AᵀA the covariance (divided by
    n)."""

    mean: np.ndarray
    factor: np.ndarray


class Basis(NamedTuple):
    """A PCA basis of several clouds: their common mean [d], orthonormal axes [d, k], share of variance of
    each [k]."""

    mean: np.ndarray
    axes: np.ndarray
    share: np.ndarray

    def project(self, X: np.ndarray) -> np.ndarray:
        """X in this basis [n, k], about the common mean."""
        return (as_points(X) - self.mean) @ self.axes


@measure(
    source="Bonneel et al. 2015, doi:10.1007/s10851-014-0506-3",
    invariant_to={"common translation", "row order"},
    itself=0.0,
    scale="log",
    label="sliced W2²",
    unit="squared activation units",
    more="farther apart",
)
def sliced(
    X: Float[np.ndarray, "n d"],
    Y: Float[np.ndarray, "m d"],
    *,
    projections: Annotated[int, within(1, 1_000_000)] = 128,
    seed: int = 0,
) -> float:
    """Squared sliced 2-Wasserstein distance, the mean over random directions, in squared activation units, ≥
    0.

    Exact along each direction, for n ≠ m through the quantile functions. At most 1/d of `wasserstein` in
    expectation over directions; few projections add noise, not bias. Invariant to a common rotation only in
    expectation, because the directions come from the seed. Raises when projections is below 1.
    """
    return _sliced([_sort(Z, projections=projections, seed=seed) for Z in (X, Y)], [(0, 1)])[0]


@sliced.prepare
def _sort(X: np.ndarray, projections: int, seed: int) -> Sorted:
    if projections < 1:
        raise TransectError(f"sliced: projections = {projections}.", "Take 1 or more.")
    directions = _directions(X.shape[1], projections, seed)
    mean = X.mean(axis=0, dtype=np.float64)
    return Sorted(np.sort((X - mean) @ directions, axis=0), mean @ directions)


@sliced.pairs
def _sliced(
    clouds: "Mapping[int, Sorted] | list[Sorted]", which: Pairs, projections: int = 0, seed: int = 0
) -> list[float]:
    results = []
    for i, j in which:
        X, Y = clouds[i], clouds[j]
        rows, columns, weights = _merged(len(X.values), len(Y.values))
        gap = X.values[rows] - Y.values[columns] + (X.mean - Y.mean)
        results.append(float((weights @ gap**2).mean()))
    return results


@measure(
    source="Deshpande et al. 2019, arXiv:1904.05877",
    invariant_to={"common translation", "row order"},
    itself=0.0,
    scale="log",
    label="max-sliced W2²",
    unit="squared activation units",
    more="farther apart",
)
def max_sliced(
    X: Float[np.ndarray, "n d"],
    Y: Float[np.ndarray, "m d"],
    *,
    projections: Annotated[int, within(1, 1_000_000)] = 128,
    steps: Annotated[int, within(0, 1_000_000)] = 50,
    seed: int = 0,
) -> float:
    """Squared max-sliced 2-Wasserstein distance, along the worst direction found, in squared activation
    units, ≥ 0.

    A lower bound: ascent from the best of `projections` random directions reaches a local maximum, which is
    at most `wasserstein`. Never below `sliced` at the same projections and seed. Invariant to a common
    rotation only as far as the ascent finds the same maximum. Raises when projections is below 1 or steps
    below 0.
    """
    if projections < 1 or steps < 0:
        raise TransectError(f"max_sliced: projections = {projections}, steps = {steps}.", "Take ≥ 1 and ≥ 0.")
    middle = Y.mean(axis=0, dtype=np.float64)
    A, B, merged = X - middle, Y - middle, _merged(len(X), len(Y))
    directions = _directions(X.shape[1], projections, seed)
    rows, columns, weights = merged
    gaps = np.sort(A @ directions, axis=0)[rows] - np.sort(B @ directions, axis=0)[columns]
    theta = directions[:, np.argmax(weights @ gaps**2)]
    value, uphill = _along(theta, A, B, merged)
    for _ in range(steps):
        reached = False
        for share in (1.0, 0.5, 0.1):  # a whole power step first, shorter ones where it overshoots
            trial = (1 - share) * theta + share * uphill
            trial = trial / max(np.linalg.norm(trial), np.finfo(float).tiny)
            trial_value, trial_uphill = _along(trial, A, B, merged)
            if reached := trial_value > value * (1 + 1e-9):
                theta, value, uphill = trial, trial_value, trial_uphill
                break
        if not reached:
            break
    return float(value)


@measure(
    source="Dowson & Landau 1982, doi:10.1016/0047-259X(82)90077-X; Bhatia et al. 2019, arXiv:1712.01504",
    invariant_to={"common rotation", "common translation", "row order"},
    itself=0.0,
    scale="log",
    label="Bures W2²",
    unit="squared activation units",
    more="farther apart",
)
def bures(X: Float[np.ndarray, "n d"], Y: Float[np.ndarray, "m d"]) -> float:
    """Squared Gaussian (Bures) 2-Wasserstein distance, means included, in squared activation units, ≥ 0.

    |mean X - mean Y|² + tr A + tr B - 2 tr (A^½ B A^½)^½ of the covariances A, B (divided by n). The exact
    distance between Gaussians with these moments, and a lower bound on `wasserstein` of the clouds. Biased
    upwards when n is not well above d. Rounding may leave about -1e-7 of the traces on equal clouds.
    """
    return _bures(_factor(X), _factor(Y))


@bures.prepare
def _factor(X: np.ndarray) -> Factor:
    mean = X.mean(axis=0, dtype=np.float64)
    rows = (X - mean) / np.sqrt(len(X))
    return Factor(mean, np.asarray(np.linalg.qr(rows, mode="r")) if len(X) > X.shape[1] else rows)


@bures.pairs
def _bures_pairs(clouds: Mapping[int, Factor], which: Pairs) -> list[float]:
    return in_threads(lambda pair: _bures(clouds[pair[0]], clouds[pair[1]]), which)


def _bures(X: Factor, Y: Factor) -> float:
    """tr (A^½ B A^½)^½ is the sum of the singular values of the factors' product, on its smaller side."""
    M = X.factor @ Y.factor.T
    G = M @ M.T if len(M) <= M.shape[1] else M.T @ M
    fidelity = np.sqrt(np.clip(np.linalg.eigvalsh(G), 0, np.inf)).sum()
    return float(((X.mean - Y.mean) ** 2).sum() + (X.factor**2).sum() + (Y.factor**2).sum() - 2 * fidelity)


@measure(
    source="Peyré & Cuturi 2019, arXiv:1803.00567 (the translation part of the squared distance)",
    invariant_to={"common rotation", "common translation", "row order"},
    itself=0.0,
    scale="log",
    label="distance of means",
    unit="activation units",
    more="farther apart",
)
def centroid(X: Float[np.ndarray, "n d"], Y: Float[np.ndarray, "m d"]) -> float:
    """Euclidean distance between the means of two clouds, in activation units, ≥ 0; its square bounds
    `wasserstein` below.

    Sees translation alone. Two samples of one law lie about √(tr covariance × (1/n + 1/m)) apart.
    """
    return float(np.linalg.norm(X.mean(axis=0, dtype=np.float64) - Y.mean(axis=0, dtype=np.float64)))


@measure(
    source="Villani 2009, doi:10.1007/978-3-540-71050-9 (the cost of one coupling bounds the least cost)",
    invariant_to={"common rotation", "common translation"},
    itself=0.0,
    paired=True,
    min_points=1,
    scale="log",
    label="mean squared displacement",
    unit="squared activation units",
    more="moved farther",
    estimand="population",
)
def paired_displacement(X: Float[np.ndarray, "n d"], Y: Float[np.ndarray, "n d"]) -> float:
    """Mean squared distance between a point and its own image, in squared activation units, ≥ 0.

    The cost of the coupling that follows each point, hence an upper bound on `wasserstein`; equal to it when
    that coupling is optimal. Assumes that row i of X and of Y are the same token.
    """
    return float(((X.astype(np.float64) - Y) ** 2).sum(axis=1).mean())


additive(paired_displacement, lambda _x, _y, apart: apart)


@measure(
    source="Villani 2009, doi:10.1007/978-3-540-71050-9 (cost of the paired coupling, order 1)",
    invariant_to={"common rotation", "common translation"},
    itself=0.0,
    paired=True,
    min_points=1,
    scale="log",
    label="mean paired distance",
    unit="activation units",
    more="moved farther",
    estimand="population",
)
def euclidean(X: Float[np.ndarray, "n d"], Y: Float[np.ndarray, "n d"]) -> float:
    """Mean Euclidean distance between a point and its own image, in activation units, ≥ 0.

    Assumes that row i of X and of Y are the same token. Its square is at most `paired_displacement`.
    """
    return float(np.sqrt(((X.astype(np.float64) - Y) ** 2).sum(axis=1)).mean())


additive(euclidean, lambda _x, _y, apart: np.sqrt(apart))


def shared_basis(clouds: Iterable[np.ndarray], k: int) -> Basis:
    """One PCA basis of k axes for all `clouds` stacked, so that distances between projected clouds mean
    something.

    A basis for each cloud would turn one against the other (0.31 where the truth is 0.0055). Each cloud
    weighs by its points. Axes are signed so that their largest entry is positive. Raises when k exceeds the
    rank the sizes allow.
    """
    arrays = [as_points(X, f"shared_basis: cloud {i}") for i, X in enumerate(clouds)]
    n, d = sum(map(len, arrays)), arrays[0].shape[1]
    if any(X.shape[1] != d for X in arrays) or not 1 <= k <= min(n - 1, d):
        widths = sorted({X.shape[1] for X in arrays})
        raise TransectError(
            f"shared_basis: k = {k} for {n} points of dimension {widths}.", "Take k ≤ min(n - 1, d)."
        )
    mean = np.sum([X.sum(axis=0, dtype=np.float64) for X in arrays], axis=0) / n
    scatter = sum((X - mean).T @ (X - mean) for X in arrays)
    variances, axes = np.linalg.eigh(scatter)
    axes = axes[:, ::-1][:, :k]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(k)])
    total = max(float(np.trace(scatter)), np.finfo(float).tiny)
    return Basis(mean, axes, np.clip(variances[::-1][:k], 0, np.inf) / total)


@functools.lru_cache(maxsize=4)
def _directions(d: int, count: int, seed: int) -> np.ndarray:
    """[d, count] unit vectors, uniform on the sphere."""
    drawn = np.random.default_rng(seed).standard_normal((d, count))
    drawn /= np.linalg.norm(drawn, axis=0)
    drawn.flags.writeable = False  # kept for the next cloud
    return drawn


@functools.lru_cache(maxsize=16)
def _merged(n: int, m: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where two quantile functions of n and m steps are constant: row of each, and the length of the
    piece."""
    ends = np.union1d(np.arange(1, n + 1) * m, np.arange(1, m + 1) * n)  # in units of 1 / (n m), exact
    starts = np.concatenate([[0], ends[:-1]])
    return starts // m, starts // n, (ends - starts) / (n * m)


def _along(
    theta: np.ndarray, A: np.ndarray, B: np.ndarray, merged: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> tuple[float, np.ndarray]:
    """Squared distance of the clouds projected on theta, and the unit direction of its steepest ascent."""
    rows, columns, weights = merged
    a, b = A @ theta, B @ theta
    order, order2 = np.argsort(a)[rows], np.argsort(b)[columns]
    gap = a[order] - b[order2]
    pull = weights * gap
    gradient = np.bincount(order, pull, len(a)) @ A - np.bincount(order2, pull, len(b)) @ B
    norm = np.linalg.norm(gradient)
    return float(pull @ gap), gradient / norm if norm > 0 else theta
