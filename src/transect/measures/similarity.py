"""Similarity of two views of the same points: row i of X and row i of Y are one token at two sites or in two
models.

Every cloud is centred in float64 before anything else and brought to unit scale, so that no common offset or
factor can cancel or overflow. A cloud without variance has no similarity: the result is NaN, never 1. Nothing
is clamped.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from transect.errors import TransectError
from transect.measures.contract import measure
from transect.numeric.permute import inner_products, row_sums
from transect.numeric.products import product
from transect.numeric.sinkhorn import in_threads

Pairs = Sequence[tuple[int, int]]
FREE = {"rotation", "isotropic scaling", "translation"}
#: Rows of a Gram matrix that are made at a time.
BLOCK = 128


class Centred(NamedTuple):
    """Points about their mean over their root mean squared norm, float64 [n, d]; whether they came in
    float32.

    Points that are all equal become zeros: what is left of them after centring is rounding.
    """

    points: np.ndarray
    single: bool


def centre(X: np.ndarray) -> Centred:
    """The `prepare` of every similarity that is free of offset and scale."""
    Z = np.array(X, np.float64, order="C")
    Z -= Z.mean(axis=0)
    size = np.linalg.norm(Z) / np.sqrt(len(Z))
    flat = size <= 1e-13 * max(float(X.max()), -float(X.min())) * np.sqrt(X.shape[1])
    Z *= 0 if flat else 1 / size
    return Centred(Z, X.dtype == np.float32)


@measure(
    source="the seeds' simple distance; Ethayarajh 2019, arXiv:1909.00512",
    invariant_to={"common rotation", "common scaling"},
    itself=1.0,
    paired=True,
    scale="fisher",
    label="mean paired cosine",
    more="more alike in direction",
    estimand="population",
)
def cosine(X: Float[np.ndarray, "n d"], Y: Float[np.ndarray, "n d"]) -> float:
    """Mean cosine between each point of X and the same point of Y, without centring, −1 to 1.

    A mean shared by all points makes it high for any pairing: read it against its shuffled pairing. Raises
    when a point is zero.
    """
    if X.shape[1] != Y.shape[1]:
        raise TransectError(
            f"cosine: X has {X.shape[1]} dimensions, Y {Y.shape[1]}.", "Compare sites of one width."
        )
    norms = [np.linalg.norm(A.astype(np.float64), axis=1) for A in (X, Y)]
    if zero := sum(int((n == 0).sum()) for n in norms):
        raise TransectError(
            f"cosine: {zero} points are zero, their direction is undefined.", "Leave them out."
        )
    dots = np.einsum("ij,ij->i", X, Y, dtype=np.float64)
    return float((dots / (norms[0] * norms[1])).mean())


@cosine.prepare
def _directions(X: np.ndarray) -> np.ndarray:
    """Points of norm 1, float64."""
    norms = np.linalg.norm(X.astype(np.float64), axis=1)
    if zero := int((norms == 0).sum()):
        raise TransectError(
            f"cosine: {zero} points are zero, their direction is undefined.", "Leave them out."
        )
    return X / norms[:, None]


@cosine.pairs
def _cosine_pairs(clouds: Mapping[int, np.ndarray], which: Pairs) -> list[float]:
    return [float(np.einsum("ij,ij->i", clouds[i], clouds[j]).mean()) for i, j in which]


@cosine.permuted
def _cosine_permuted(
    clouds: Mapping[int, np.ndarray], which: Pairs, order: np.ndarray, k: int
) -> list[np.ndarray]:
    T = order.shape[1]
    flat = {i: clouds[i].reshape(T, -1) for i in {i for pair in which for i in pair}}
    return [row_sums(flat[i] @ flat[j].T, order) / (T * k) for i, j in which]


@measure(
    source=(
        "Kornblith et al. 2019, arXiv:1905.00414; Song et al. 2012 (unbiased HSIC); Murphy et al. "
        "2024, arXiv:2405.01012"
    ),
    invariant_to=FREE,
    itself=1.0,
    paired=True,
    min_points=4,
    scale="fisher",
    label="unbiased linear CKA",
    more="more alike up to rotation and scale",
    estimand="population",
)
def cka(X: Float[np.ndarray, "n d"], Y: Float[np.ndarray, "n e"], *, unbiased: bool = True) -> float:
    """Linear centred kernel alignment of two views of the same points; 1 is equality up to rotation and
    scale.

    Unbiased, it is near 0 for unrelated views and may fall slightly below; NaN when a self-term is not
    positive, as for points that are all equal, or all equally far apart. The biased form lies in 0 to 1 and
    reads about d / (n + d) on unrelated Gaussian views of d dimensions each (0.88 at n = 277, d = 2048):
    compare it with nothing but its own null. A few directions of large variance decide it, and so does a
    single token of large norm. Float32 points have their Gram matrices in float32. Points count as
    independent; a sweep, which knows their texts, multiplies products of tokens of different texts alone.
    """
    return _cka_pairs({0: centre(X), 1: centre(Y)}, [(0, 1)], unbiased=unbiased)[0]


cka.prepare(centre)


@cka.pairs
def _cka_pairs(
    clouds: Mapping[int, Centred], which: Pairs, *, unbiased: bool = True, per_text: int = 1
) -> list[float]:
    """All pairs of clouds of one size in one product of their Gram matrices, which are never held whole."""
    results: dict[tuple[int, int], float] = {}
    for n in {len(clouds[i].points) for i, _ in which}:
        here = [pair for pair in which if len(clouds[pair[0]].points) == n]
        order = sorted({k for pair in here for k in pair})
        at = {k: p for p, k in enumerate(order)}
        hsic = _hsic([clouds[k] for k in order], unbiased, per_text if unbiased else 1)
        for i, j in here:
            results[i, j] = float(hsic[at[i], at[j]] / np.sqrt(hsic[at[i], at[i]] * hsic[at[j], at[j]]))
    return [results[pair] for pair in which]


@cka.permuted
def _cka_permuted(
    clouds: Mapping[int, Centred], which: Pairs, order: np.ndarray, k: int, *, unbiased: bool = True
) -> list[np.ndarray]:
    """HSIC is an inner product of one Gram matrix with the other one centred, which permuting texts only
    re-orders."""
    ready = {}
    for i in {i for pair in which for i in pair}:
        X = clouds[i].points.astype(np.float32) if clouds[i].single else clouds[i].points
        ready[i] = gram_pair(product(X, X.T), k, unbiased)
    return [inner_products(ready[i][0], ready[j][1], order, k) for i, j in which]


def gram_pair(K: np.ndarray, k: int, unbiased: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Gram matrix K and its centred form M(K) over √⟨K, M(K)⟩, float32 [n, n]; NaN where that is not
    positive. K is spoilt.

    Unbiased: pairs of one text are 0, and ⟨K, M(L)⟩ is the estimate of `_hsic` over different texts. With one
    token a text M is the U-centring of Székely & Rizzo 2014.
    """
    T, each, M = len(K) // k, np.arange(len(K) // k), K
    if unbiased:
        blocks = K.reshape(T, k, T, k)
        blocks[each, :, each] = 0
        by_text = blocks.sum(axis=3, dtype=np.float64)  # [T, k, T]: of a token with those of another text
        between = by_text.sum(axis=1)
        texts = between.sum(axis=1)
        one = (by_text - by_text.sum(axis=2, keepdims=True)) / ((T - 2) * k)
        both = (texts.sum() + 2 * (between - texts[:, None] - texts)) / ((T - 2) * (T - 3) * k * k)
        left = (one + both[:, None] / 2).astype(K.dtype)[..., None]
        centred = blocks + left
        centred += left.transpose(2, 3, 0, 1)
        centred[each, :, each] = 0
        M = centred.reshape(K.shape)
    size = float(np.einsum("ij,ij->i", K, M).sum(dtype=np.float64))
    scale = K.dtype.type(1 / np.sqrt(size) if size > 0 else np.nan)
    return (K * scale).astype(np.float32, copy=False), (M * scale).astype(np.float32, copy=False)


def _hsic(clouds: Sequence[Centred], unbiased: bool, k: int = 1) -> np.ndarray:
    """[L, L] inner products of centred linear Gram matrices, up to one common factor; k tokens of each text.

    Unbiased: Σ K_ij L_ij over two texts, K_ij L_il over three and K_ij L_lm over four different texts, as
    Song's estimator does with points. Rows of a centred Gram matrix sum to 0, so that sums over other texts
    follow from those within one, and only sums over i > j need the matrices, a block of rows at a time. A
    self-term that is 0 but for rounding (no variance, or all points equally far apart) is NaN.
    """
    T = len(clouds[0].points) // k
    points = [c.points.astype(np.float32) if c.single else c.points for c in clouds]
    below, triples, quadruples = _below(points, k)
    norms = np.stack([(c.points**2).sum(axis=1) for c in clouds])
    corner = norms @ norms.T
    doubled = 2 * below + corner
    if unbiased:
        sums = [c.points.reshape(T, k, -1).sum(axis=1) for c in clouds]
        rows = np.stack(
            [
                np.einsum("ij,ij->i", c.points, np.repeat(s, k, axis=0))
                for c, s in zip(clouds, sums, strict=True)
            ]
        )
        texts = rows.reshape(len(clouds), T, k).sum(axis=2)
        total = texts.sum(axis=1)
        doubled = 2 * below - 2 / ((T - 2) * k) * (rows @ rows.T - triples)
        four = np.outer(total, total) - 4 * texts @ texts.T + 4 * quadruples
        doubled += four / ((T - 2) * (T - 3) * k * k)
    rounding = np.array([1e-7 if c.single else 1e-12 for c in clouds])
    nothing = np.diag(doubled) <= rounding * np.diag(corner)
    doubled[np.diag(nothing)] = np.nan
    return doubled


def _below(points: Sequence[np.ndarray], k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inner products [L, L] of Gram matrices below the diagonal of k × k blocks: of their entries; of their
    sums over the tokens of either text; of their sums over both."""
    n, L = len(points[0]), len(points)
    below, triples, quadruples = np.zeros((L, L)), np.zeros((L, L)), np.zeros((L, L))
    step = max(1, BLOCK // k) * k
    for begin in range(0, n, step):
        end = min(n, begin + step)
        rows, single, double = [], [], []
        strict = np.kron(np.tri((end - begin) // k, k=-1, dtype=np.float32), np.ones((k, k), np.float32))
        for X in points:
            G = product(X[begin:end], X[:end].T)
            G[:, begin:] *= strict
            rows.append(G.ravel())
            if k > 1:
                left, upper = G.reshape(end - begin, -1, k).sum(axis=2), G.reshape(-1, k, end).sum(axis=1)
                single.append(np.concatenate([left.ravel(), upper.ravel()]))
                double.append(upper.reshape(len(upper), -1, k).sum(axis=2).ravel())
        below += _products(rows)
        if k > 1:
            triples, quadruples = triples + _products(single), quadruples + _products(double)
    return (below, triples, quadruples) if k > 1 else (below, 2 * below, below)


def _products(rows: list[np.ndarray]) -> np.ndarray:
    wide = np.stack(rows).astype(np.float64)
    return wide @ wide.T


@measure(
    source="Williams et al. 2021, arXiv:2110.14739 (angular shape metric)",
    invariant_to=FREE,
    itself=0.0,
    paired=True,
    scale="log",
    label="Procrustes angle",
    unit="radians",
    more="less alike up to rotation and scale",
)
def procrustes(X: Float[np.ndarray, "n d"], Y: Float[np.ndarray, "n e"]) -> float:
    """Angle between two views after the best rotation, in radians, 0 to π/2: a metric on shapes.

    arccos of |XᵀY|_* / (|X| |Y|) for centred points; it obeys the triangle inequality. The nuclear norm of
    unrelated views grows with d / n, so that the angle falls short of π/2: read it against its shuffled
    pairing. NaN when a cloud has no variance.
    """
    return _procrustes_pairs({0: centre(X), 1: centre(Y)}, [(0, 1)])[0]


procrustes.prepare(centre)


@procrustes.pairs
def _procrustes_pairs(clouds: Mapping[int, Centred], which: Pairs) -> list[float]:
    small = {k: _smaller(clouds[k].points) for k in {k for pair in which for k in pair}}
    return in_threads(lambda pair: _angle(small[pair[0]], small[pair[1]]), which)


def _smaller(X: np.ndarray) -> np.ndarray:
    """Points of unit Frobenius norm in at most n dimensions: a rotation, which changes no angle."""
    X = X / max(float(np.linalg.norm(X)), np.finfo(float).tiny)
    return np.asarray(np.linalg.qr(X.T, mode="r")).T if X.shape[1] > len(X) else X


def _angle(X: np.ndarray, Y: np.ndarray) -> float:
    """By the spectrum of MᵀM; where that loses digits (small angles, tiny singular values) by the rotation
    itself."""
    if not X.any() or not Y.any():
        return float("nan")
    M = X.T @ Y
    spectrum = np.linalg.eigvalsh(M @ M.T if len(M) <= M.shape[1] else M.T @ M)
    cosine = float(np.sqrt(np.clip(spectrum, 0, np.inf)).sum())
    if cosine < 0.999 and (spectrum < 1e-12 * spectrum[-1]).sum() <= 1:
        return float(np.arccos(cosine))
    U, s, V = np.linalg.svd(M, full_matrices=False)
    if s.sum() < 0.999:
        return float(np.arccos(s.sum()))
    gap = X @ U - Y @ V.T  # both views in the common frame; what lies outside of it counts too
    outside = max(0.0, 2 - float(((X @ U) ** 2).sum()) - float(((Y @ V.T) ** 2).sum()))
    missing = outside if outside > 1e-12 else 0.0
    return float(2 * np.arcsin(min(1.0, np.sqrt((gap**2).sum() + missing) / 2)))
