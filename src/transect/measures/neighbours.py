"""Similarity of two views by distances between points: RSA and shared neighbours."""

from collections.abc import Mapping
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float

from transect.errors import TransectError
from transect.measures.contract import measure
from transect.measures.similarity import FREE, Pairs, centre
from transect.numeric.permute import inner_products
from transect.work.options import within


@measure(
    source="Kriegeskorte et al. 2008, doi:10.3389/neuro.06.004.2008",
    invariant_to=FREE,
    itself=1.0,
    paired=True,
    min_points=3,
    scale="fisher",
    label="correlation of distances (RSA)",
    more="more alike in distances",
)
def rsa(
    X: Float[np.ndarray, "n d"],
    Y: Float[np.ndarray, "n e"],
    *,
    compare: Literal["spearman", "pearson"] = "spearman",
    distance: Literal["euclidean", "correlation"] = "euclidean",
) -> float:
    """Correlation of the two matrices of distances between points (representational similarity), −1 to 1.

    With distance="correlation" (1 − Pearson over dimensions) it is free of scale alone: neither a rotation
    nor a translation leaves it in place, whatever surveys declare. Distances of high-dimensional points bunch
    together, and a few far points decide Pearson: the shuffled pairing is the floor. NaN when all distances
    of a cloud are equal.
    """
    clouds = {k: _distances(Z, compare=compare, distance=distance) for k, Z in enumerate((X, Y))}
    return _rsa_pairs(clouds, [(0, 1)])[0]


@rsa.prepare
def _distances(X: np.ndarray, compare: str, distance: str) -> np.ndarray:
    """The upper triangle of the distances, ranked or not, about its mean and of unit norm; zeros where it is
    constant."""
    Z = centre(X).points
    if distance == "correlation":
        Z = np.asarray(X, np.float64) - np.mean(X, axis=1, keepdims=True, dtype=np.float64)
        norms = np.linalg.norm(Z, axis=1, keepdims=True)
        if (norms == 0).any():
            raise TransectError(
                "rsa: a point is the same in every dimension and correlates with nothing.", "Drop it."
            )
        Z = Z / norms
    d = squared_distances(Z)[np.triu_indices(len(Z), 1)]
    d = np.sqrt(d) if distance == "euclidean" else d
    if compare == "spearman":
        from scipy.stats import rankdata

        d = rankdata(d)
    d = d - d.mean()
    size = np.linalg.norm(d)
    return d / size if size > 1e-12 * np.sqrt(len(d)) else np.zeros_like(d)


@rsa.pairs
def _rsa_pairs(
    clouds: Mapping[int, np.ndarray], which: Pairs, compare: str = "", distance: str = ""
) -> list[float]:
    good = {k: bool(clouds[k].any()) for k in {k for pair in which for k in pair}}
    return [float(clouds[i] @ clouds[j]) if good[i] and good[j] else float("nan") for i, j in which]


@rsa.permuted
def _rsa_permuted(
    clouds: Mapping[int, np.ndarray], which: Pairs, order: np.ndarray, k: int, **_options: str
) -> list[np.ndarray]:
    from scipy.spatial.distance import squareform

    square = {i: squareform(clouds[i].astype(np.float32)) for i in {i for pair in which for i in pair}}
    return [
        inner_products(square[i], square[j], order, k) / 2
        if clouds[i].any() and clouds[j].any()
        else np.full(len(order), np.nan)
        for i, j in which
    ]


@measure(
    source=(
        "Huh et al. 2024, arXiv:2405.07987 (mutual nearest neighbours), with Euclidean distance on "
        "centred points"
    ),
    invariant_to=FREE,
    itself=1.0,
    paired=True,
    min_points=3,
    scale="logit",
    label="shared nearest neighbours",
    unit="share",
    more="more alike locally",
)
def knn_overlap(
    X: Float[np.ndarray, "n d"], Y: Float[np.ndarray, "n e"], *, k: Annotated[int, within(1)] = 10
) -> float:
    """Mean share of a point's k nearest neighbours that are the same in both views, 0 to 1.

    Chance is k / (n − 1), so that values at different n do not compare. Local: blind to what happens far
    away. Among points at equal distance, such as copies of one token below the first block, the choice is
    arbitrary. Raises when k is not between 1 and n − 2.
    """
    return _knn_pairs({0: _neighbours(X, k=k), 1: _neighbours(Y, k=k)}, [(0, 1)], k=k)[0]


@knn_overlap.prepare
def _neighbours(X: np.ndarray, k: int) -> np.ndarray:
    """[n, k] row numbers of the neighbours; [n, 0] where all points are one."""
    n = len(X)
    if not 1 <= k <= n - 2:
        raise TransectError(f"knn_overlap: k = {k} of {n} points.", "Take k between 1 and n − 2.")
    Z = centre(X).points
    if not Z.any():
        return np.empty((n, 0), np.int64)
    D = squared_distances(Z)
    np.fill_diagonal(D, np.inf)
    return np.argpartition(D, k, axis=1)[:, :k].astype(np.int32)


@knn_overlap.pairs
def _knn_pairs(clouds: Mapping[int, np.ndarray], which: Pairs, k: int) -> list[float]:
    results = []
    for i, j in which:
        X, Y = clouds[i], clouds[j]
        if not X.shape[1] or not Y.shape[1]:
            results.append(float("nan"))
            continue
        member = np.zeros((len(X), len(X)), bool)
        np.put_along_axis(member, X, True, axis=1)
        results.append(float(np.take_along_axis(member, Y, axis=1).mean()))
    return results


@knn_overlap.permuted
def _knn_permuted(
    clouds: Mapping[int, np.ndarray], which: Pairs, order: np.ndarray, tokens: int, *, k: int
) -> list[np.ndarray]:
    results = []
    for i, j in which:
        near, n = clouds[i], len(clouds[i])
        if not near.shape[1] or not clouds[j].shape[1]:
            results.append(np.full(len(order), np.nan))
            continue
        member = np.zeros((n, n), bool)
        np.put_along_axis(member, clouds[j], True, axis=1)
        moved = ((p[:, None] * tokens + np.arange(tokens)).ravel() for p in order)
        results.append(np.array([member.ravel()[rows[:, None] * n + rows[near]].mean() for rows in moved]))
    return results


def squared_distances(Z: np.ndarray) -> np.ndarray:
    """Squared distances of centred float64 points, [n, n], ≥ 0."""
    norms = (Z**2).sum(axis=1)
    return np.maximum(norms[:, None] + norms - 2 * (Z @ Z.T), 0)
