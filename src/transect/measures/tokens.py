"""One cloud of token states: how much the points share a direction, how long they are, and who dominates.

These are the figures to print beside any score that second moments rule: a few heavy dimensions or tokens can
make it.
"""

from typing import Annotated

import numpy as np
from jaxtyping import Float

from transect.errors import TransectError
from transect.measures.contract import measure
from transect.work.options import within


@measure(
    source="Ethayarajh 2019, arXiv:1909.00512",
    invariant_to={"rotation", "isotropic scaling", "row order"},
    scale="fisher",
    label="mean cosine between tokens",
    more="more alike in direction",
    estimand="population",
)
def anisotropy(X: Float[np.ndarray, "n d"], *, centred: bool = False) -> float:
    """Mean cosine between two different points, -1 / (n - 1) to 1; 0 for directions spread evenly.

    Uncentred it sees mostly the shared mean; with centred=True the mean is taken out first, and the value
    tends to lie near -1 / (n - 1). Every point weighs the same whatever its norm. Raises when a point has
    norm 0, for it has no direction.
    """
    total = _directions(X, centred, "anisotropy").sum(axis=0)
    return float((total @ total - len(X)) / (len(X) * (len(X) - 1)))


@measure(
    source=(
        "Dong et al. 2021, arXiv:2103.03404 (residual of the rank-one part); Noci et al. 2022, "
        "arXiv:2206.03126"
    ),
    invariant_to={"rotation", "isotropic scaling", "row order"},
    scale="logit",
    label="rank residual",
    more="farther from rank collapse",
)
def rank_residual(X: Float[np.ndarray, "n d"]) -> float:
    """Residual ‖X − 1x̄ᵀ‖ / ‖X‖ of the best matrix of equal rows, Frobenius norms, 0 to 1; 0 is rank
    collapse.

    x̄ is the mean, the best row in this norm; Dong et al. take the geometric mean of the 1- and ∞-norm, where
    rank collapse is the same event. Of the states of one text it says how far its tokens still differ; tokens
    with one mean of norm m and deviations of root mean square s give s / √(s² + m²). Raises when all points
    are 0.
    """
    A = _scaled(X)
    total = (A**2).sum()
    if not total > 0:
        raise TransectError("rank_residual: all points are 0.", "Pass points with a norm.")
    return float(np.sqrt(((A - A.mean(axis=0)) ** 2).sum() / total))


@measure(
    source=(
        "Geshkovski et al. 2023, arXiv:2312.10794, arXiv:2305.05465 (tokens cluster on the sphere with depth)"
    ),
    invariant_to={"rotation", "isotropic scaling", "row order"},
    scale="log",
    label="clusters of tokens",
    unit="clusters",
    more="more distinct directions",
)
def cluster_count(
    X: Float[np.ndarray, "n d"],
    *,
    cosine: Annotated[float, within(above=-1, below=1)] = 0.9,
    centred: bool = False,
) -> float:
    """Number of clusters of directions, 1 to n: connected components of points whose cosine is at least
    `cosine`.

    Single linkage on the sphere: chains count as one. Attention alone is predicted to bring deep states to
    few clusters, in the end one. It grows with n, so compare at equal n, and falls to 1 where all points
    share a large mean; centred takes the mean out first. Raises when a point has norm 0, or cosine is not
    between -1 and 1.
    """
    if not -1 < cosine < 1:
        raise TransectError(f"cluster_count: cosine = {cosine:g}.", "Take a value between -1 and 1.")
    U = _directions(X, centred, "cluster_count")
    near, label = cosine <= U @ U.T, np.arange(len(U))
    np.fill_diagonal(near, True)
    while True:  # each point takes the least label beside it, and that one's, until all of a cluster have one
        least = np.where(near, label, len(U)).min(axis=1)
        if np.array_equal(least := least[least], label):
            return float(len(np.unique(label)))
        label = least


@measure(
    source="Kobayashi et al. 2020, arXiv:2004.10102 (norms of token states)",
    invariant_to={"rotation", "row order"},
    min_points=1,
    scale="log",
    label="mean norm",
    unit="activation units",
    more="longer",
    estimand="population",
)
def mean_norm(X: Float[np.ndarray, "n d"]) -> float:
    """Mean Euclidean norm of the points, in activation units, ≥ 0.

    A mean: one massive token moves it. See `massive_tokens` for their share.
    """
    return float(_norms(X).mean())


@measure(
    source="Shannon 1948, doi:10.1002/j.1538-7305.1948.tb01338.x",
    invariant_to={"rotation", "isotropic scaling", "row order"},
    scale="log",
    label="entropy of norms",
    unit="nats",
    more="more equal norms",
)
def norm_entropy(X: Float[np.ndarray, "n d"]) -> float:
    """Entropy of the token norms divided by their sum, in nats, 0 to log n.

    About log n whatever the geometry, because norms differ little: it says how equal the norms are and
    nothing about directions (see `spectral_entropy`). Compare at equal n. Raises when all points are 0.
    """
    share = _of_total(_norms(X), "norm_entropy")
    held = share[share > 0]
    return max(0.0, float(-(held * np.log(held)).sum()))


@measure(
    source="Kovaleva et al. 2021, arXiv:2105.06990; Timkey & van Schijndel 2021, arXiv:2109.04404",
    invariant_to={"isotropic scaling", "row order"},
    scale="logit",
    label="share of top 3 dimensions",
    unit="share",
    more="ruled by few dimensions",
)
def outlier_dimensions(X: Float[np.ndarray, "n d"], *, k: Annotated[int, within(1)] = 3) -> float:
    """Share of the second moment (squares about 0) in the k heaviest dimensions, k / d to 1.

    Depends on the axes: a rotation changes it. Raises when all points are 0, or k is not between 1 and d.
    """
    if not 1 <= k <= X.shape[1]:
        raise TransectError(
            f"outlier_dimensions: k = {k} with {X.shape[1]} dimensions.", f"Take 1 to {X.shape[1]}."
        )
    moments = (_scaled(X) ** 2).sum(axis=0)
    return float(np.sort(_of_total(moments, "outlier_dimensions"))[-k:].sum())


@measure(
    source="Sun et al. 2024, arXiv:2402.17762",
    invariant_to={"rotation", "isotropic scaling", "row order"},
    scale="logit",
    label="share of the heaviest tokens",
    unit="share",
    more="ruled by few tokens",
)
def outlier_tokens(
    X: Float[np.ndarray, "n d"], *, top: Annotated[float, within(most=1, above=0)] = 0.01
) -> float:
    """Share of the squared norm in the heaviest tokens, `top` of them by number (rounded up), top to 1.

    Raises when all points are 0, or top is not above 0 and at most 1.
    """
    if not 0 < top <= 1:
        raise TransectError(f"outlier_tokens: top = {top:g}.", "Take a share above 0 and at most 1.")
    count = int(np.ceil(round(top * len(X), 9)))
    return float(np.sort(_of_total(_norms(_scaled(X)) ** 2, "outlier_tokens"))[-count:].sum())


@measure(
    source="Sun et al. 2024, arXiv:2402.17762",
    invariant_to={"rotation", "isotropic scaling", "row order"},
    scale="identity",
    label="massive tokens",
    unit="share",
    more="more massive tokens",
    estimand="population",
)
def massive_tokens(X: Float[np.ndarray, "n d"], *, factor: Annotated[float, within(above=0)] = 10.0) -> float:
    """Share of tokens whose norm exceeds `factor` times the median norm, 0 to 1.

    The median is not moved by fewer than half of the tokens. Above 0, print the value without these tokens
    beside every score. Raises when factor is not above 0.
    """
    if not factor > 0:
        raise TransectError(f"massive_tokens: factor = {factor:g}.", "Take a factor above 0.")
    norms = _norms(X)
    return float((norms > factor * np.median(norms)).mean())


def _directions(X: np.ndarray, centred: bool, name: str) -> np.ndarray:
    """Points brought to norm 1 in float64, about their mean where asked."""
    A = X - X.mean(axis=0, dtype=np.float64) if centred else X.astype(np.float64)
    norms = np.linalg.norm(A, axis=1)
    zero = norms <= 1e-14 * np.abs(X).max() * np.sqrt(X.shape[1])
    if zero.any():
        raise TransectError(
            f"{name}: {zero.sum()} of {len(X)} points have norm 0 (no direction).", "Drop them."
        )
    return A / norms[:, None]


def _norms(X: np.ndarray) -> np.ndarray:
    return np.linalg.norm(X.astype(np.float64), axis=1)


def _scaled(X: np.ndarray) -> np.ndarray:
    """X in float64 with largest entry 1, so that squares neither overflow nor vanish."""
    size = float(np.abs(X).max())
    return X.astype(np.float64) / (size or 1)


def _of_total(parts: np.ndarray, name: str) -> np.ndarray:
    if not (total := parts.sum()) > 0:
        raise TransectError(f"{name}: all points are 0.", "Pass points with a norm.")
    return parts / total
