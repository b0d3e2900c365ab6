"""Similarity of the subspaces two views span: canonical correlations of paired points, angles of principal
subspaces."""

from collections.abc import Mapping, Sequence
from typing import Annotated, NamedTuple

import numpy as np
from jaxtyping import Float

from transect.errors import TransectError
from transect.measures.contract import measure
from transect.measures.similarity import centre
from transect.numeric.sinkhorn import in_threads
from transect.work.options import within

Pairs = Sequence[tuple[int, int]]


class Span(NamedTuple):
    """Orthonormal coordinates of n centred points [n, r], and the singular values and axes [r, d] that go
    with them."""

    basis: np.ndarray
    scale: np.ndarray
    axes: np.ndarray


class Angles(NamedTuple):
    """Mean, smallest and largest principal angle, in radians."""

    mean: float
    smallest: float
    largest: float


@measure(
    source="Raghu et al. 2017, arXiv:1706.05806",
    invariant_to={"rotation", "isotropic scaling", "translation"},
    itself=1.0,
    paired=True,
    min_points=4,
    scale="fisher",
    label="SVCCA",
    more="more alike up to linear maps",
)
def svcca(
    X: Float[np.ndarray, "n d"],
    Y: Float[np.ndarray, "n e"],
    *,
    variance: Annotated[float, within(most=1, above=0)] = 0.99,
) -> float:
    """Mean canonical correlation of the principal components that hold a share of the variance, 0 to 1.

    Unrelated views score √(r / n) and more for r components: read it against its shuffled pairing. Components
    are the fewest that reach `variance` in each view; the mean is over the smaller number. Raises when a view
    has n − 1 of them, where every correlation is 1, or when variance is not in (0, 1].
    """
    return _svcca_pairs({k: _truncated(Z, variance=variance) for k, Z in enumerate((X, Y))}, [(0, 1)])[0]


@svcca.prepare
def _truncated(X: np.ndarray, variance: float) -> Span:
    if not 0 < variance <= 1:
        raise TransectError(f"svcca: variance = {variance:g}.", "Take a share above 0, at most 1.")
    return _spanned("svcca", X, variance)


@svcca.pairs
def _svcca_pairs(clouds: Mapping[int, Span], which: Pairs, variance: float = 0.0) -> list[float]:
    def one(pair: tuple[int, int]) -> float:
        X, Y = (clouds[k] for k in pair)
        if not len(X.scale) or not len(Y.scale):
            return float("nan")
        return float(np.linalg.svd(X.basis.T @ Y.basis, compute_uv=False).mean())

    return in_threads(one, which)


@measure(
    source="Morcos et al. 2018, arXiv:1806.05759",
    invariant_to={"isotropic scaling", "translation"},
    itself=1.0,
    paired=True,
    min_points=4,
    scale="fisher",
    label="PWCCA",
    more="more alike up to linear maps",
)
def pwcca(X: Float[np.ndarray, "n d"], Y: Float[np.ndarray, "n e"]) -> float:
    """Canonical correlations weighted by how much each direction accounts for in X, 0 to 1; not symmetric.

    Weights are Σ_j |<h_i, x_j>| over the dimensions of X: they depend on the axes of X, so that a rotation of
    it changes the value. Points are centred here, without which a translation would change it too. All
    directions count, also those of noise: with d near n every correlation is near
    1. Raises when a view spans n − 1 directions, where all are exactly 1.
    """
    return _pwcca_pairs({0: _full_span(X), 1: _full_span(Y)}, [(0, 1)])[0]


@pwcca.prepare
def _full_span(X: np.ndarray) -> Span:
    return _spanned("pwcca", X, 1.0)


@pwcca.pairs
def _pwcca_pairs(clouds: Mapping[int, Span], which: Pairs) -> list[float]:
    def one(pair: tuple[int, int]) -> float:
        X, Y = (clouds[k] for k in pair)
        if not len(X.scale) or not len(Y.scale):
            return float("nan")
        U, s, _ = np.linalg.svd(X.basis.T @ Y.basis, full_matrices=False)
        weights = np.abs((U.T * X.scale) @ X.axes).sum(
            axis=1
        )  # <h_i, x_j> with x_j = basis @ (scale * axes[:, j])
        return float(weights @ s / weights.sum())

    return in_threads(one, which)


def _spanned(name: str, X: np.ndarray, variance: float) -> Span:
    Z = centre(X).points
    U, s, V = np.linalg.svd(Z, full_matrices=False)
    s = s[: int((s > s[0] * max(Z.shape) * np.finfo(float).eps).sum())] if s[0] > 0 else s[:0]
    share = np.cumsum(s**2) / max(float((s**2).sum()), np.finfo(float).tiny)
    r = min(len(s), int(np.searchsorted(share, variance - 1e-12)) + 1) if variance < 1 else len(s)
    if r >= len(Z) - 1:
        raise TransectError(
            f"{name}: {len(Z)} points span {r} directions, and every canonical correlation is 1.",
            "Use more points, or svcca with a lower variance.",
        )
    return Span(U[:, :r], s[:r], V[:r])


@measure(
    source="Björck & Golub 1973, doi:10.2307/2005662",
    invariant_to={"common rotation", "isotropic scaling", "translation", "row order"},
    itself=0.0,
    headline="mean",
    min_points=3,
    scale="log",
    label="mean principal angle",
    unit="radians",
    more="subspaces farther apart",
)
def subspace_angles(
    X: Float[np.ndarray, "n d"], Y: Float[np.ndarray, "m d"], *, k: Annotated[int, within(1)] = 5
) -> Angles:
    """Mean principal angle between the spaces of the k leading principal components, in radians, 0 to π/2.

    Needs one space, not the same points. Unrelated subspaces of few dimensions in many lie near π/2, and
    sampling noise alone turns components whose variances are close: compare with split halves. Raises unless
    k < d and both clouds have k directions of variance.
    """
    return _angle_pairs({0: _leading(X, k=k), 1: _leading(Y, k=k)}, [(0, 1)])[0]


@subspace_angles.prepare
def _leading(X: np.ndarray, k: int) -> np.ndarray:
    """[d, k] orthonormal axes."""
    n, d = X.shape
    Z = centre(X).points
    if not 1 <= k < d or k > n - 1:
        raise TransectError(
            f"subspace_angles: k = {k} for {n} points of dimension {d}.", "Take 1 ≤ k < d, k < n."
        )
    _, s, V = np.linalg.svd(np.linalg.qr(Z, mode="r") if n > d else Z, full_matrices=False)
    if not s[k - 1] > s[0] * max(n, d) * np.finfo(float).eps:
        raise TransectError(f"subspace_angles: fewer than k = {k} directions have variance.", "Lower k.")
    return V[:k].T


@subspace_angles.pairs
def _angle_pairs(clouds: Mapping[int, np.ndarray], which: Pairs, k: int = 0) -> list[Angles]:
    return [_angles(clouds[i], clouds[j]) for i, j in which]


def _angles(A: np.ndarray, B: np.ndarray) -> Angles:
    """By cosines, and by sines where the angle is small: arccos alone loses half of the digits there."""
    cosines = np.linalg.svd(A.T @ B, compute_uv=False)
    sines = np.linalg.svd(B - A @ (A.T @ B), compute_uv=False)[::-1]
    angles = np.where(cosines**2 >= 0.5, np.arcsin(np.minimum(sines, 1)), np.arccos(np.minimum(cosines, 1)))
    return Angles(float(angles.mean()), float(angles.min()), float(angles.max()))
