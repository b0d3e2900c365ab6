"""Estimates for a population of texts, beside the plug-in readings of the spectra; texts are clusters.

Tokens of one text are alike, so each product of independent draws takes tokens of different texts. Every
function takes points X [n, d] and the text of each point. Intervals come from leaving whole texts out.
"""

import numpy as np
from scipy.linalg import eigh

from transect.errors import TransectError
from transect.numeric.products import squared_apart

SPLITS = 8  # random splits into halves of texts that are averaged
BLOCK = 256
#: What `top_variance` and `stable_rank` estimate: no unbiased share of the best direction is known where
#: eigenvalues lie close, but the share of a direction that half of the texts show is estimated without bias.
CROSS_FITTED = "at n: directions from one half of the texts, variance in the other"


def participation_ratio(X: np.ndarray, texts: np.ndarray) -> float:
    """Participation ratio (tr C)² / tr C² of a population of texts, a number of dimensions, about 1 to d.

    Estimand: C is the covariance of a token drawn from the population, a long text counting for more. For
    texts a, b let K_ab be half the sum of (x − y)(x − y)ᵀ over x in a, y in b; its mean is C up to a factor
    that cancels. Both parts are U-statistics: tr K_ab tr K_cd and tr K_ab K_cd over four different texts.

    Returns: the ratio; NaN where the estimate of tr C² is not positive, as few texts can bring about. Bias:
    that of a ratio of two unbiased numbers, of order 1 / texts. Raises: TransectError for fewer than 4 texts,
    or lengths that differ. Source: Serfling 1980, Approximation Theorems of Mathematical Statistics, section
    5.1.
    """
    X, of, count = _clustered(X, texts, 4, "participation_ratio")
    S, n, w = _sums(X, of, count)
    G = S @ S.T
    np.fill_diagonal(G, 0)
    rows, total = G.sum(axis=1), n.sum()
    means = float(rows.sum() ** 2 - 4 * (rows**2).sum() + 2 * (G**2).sum())  # both parts share it
    weight = (total - n[:, None] - n) ** 2 - ((n**2).sum() - n[:, None] ** 2 - n**2)
    np.fill_diagonal(weight, 0)
    without = rows.sum() - 2 * rows
    weighted = n @ rows - n * rows - n @ G
    top = w @ weight @ w - 2 * float(w @ ((total - n) * without - 2 * weighted)) + means
    below = float((_squares(X, of, count) * weight).sum()) - 2 * _mixed(X, of, S, n) + means
    return float(top / below) if below > 0 else float("nan")


def stable_rank(X: np.ndarray, texts: np.ndarray, *, splits: int = SPLITS, seed: int = 0) -> float:
    """Stable rank tr C / λ_max, direction from one half of the texts, variance in the other; 1 or more.

    Returns: one over `top_variance` with k = 1; inf where that is not positive. A reading at n, above the
    population's, since the variance along an estimated direction is below λ_max; near it where λ_max stands
    well apart. Raises: as
    `top_variance`.
    """
    return inverse(top_variance(X, texts, k=1, splits=splits, seed=seed))


def inverse(share: float) -> float:
    """The stable rank that a share of the top direction comes to."""
    return 1 / share if share > 0 else float("inf")


def top_variance(
    X: np.ndarray, texts: np.ndarray, k: int = 1, *, splits: int = SPLITS, seed: int = 0
) -> float:
    """Share of variance in the k largest principal directions, cross-fitted between halves of texts, up to 1.

    Directions come from one half, the variance along them and the total from pairs of different texts of the
    other; both ways and all random splits are averaged.

    Returns: the share; noise of few texts may bring it below k / d. A reading at n, below the population's,
    since estimated directions hold less than the best ones; near it where λ_k stands well apart from λ_k+1.
    Raises: TransectError for
    fewer than 4 texts, or k not between 1 and min(d, points of a half − 1). Source: Owen & Perry 2009,
    doi:10.1214/08-AOAS227 (bi-cross-validation).
    """
    X, of, count = _clustered(X, texts, 4, "top_variance")
    rng, shares, sums = np.random.default_rng(seed), [], _sums(X, of, count)
    G = X @ X.T if len(X) <= X.shape[1] else None
    for _ in range(splits):
        texts_a = np.zeros(count, bool)
        texts_a[rng.permutation(count)[: count // 2]] = True
        for fitted in (texts_a, ~texts_a):
            half = fitted[of]
            if not 1 <= k <= min(X.shape[1], int(half.sum()) - 1):
                raise TransectError(
                    f"top_variance: k = {k} for halves of {int(half.sum())} points.", "Take a smaller k."
                )
            along = _sums(_along(X, half, k) if G is None else _along_by_gram(G, half, k), of[~half], count)
            along, total = (_variance(*(part[~fitted] for part in s)) for s in (along, sums))
            shares.append(along / total if total > 0 else np.nan)
    return float(np.mean(shares))


def _along(X: np.ndarray, half: np.ndarray, k: int) -> np.ndarray:
    """Points outside of a half along its k leading principal directions, [points, k]; the eigenvectors of its
    covariance."""
    A = X[half] - X[half].mean(axis=0)
    return X[~half] @ _leading(A.T @ A, k)[1]


def _along_by_gram(G: np.ndarray, half: np.ndarray, k: int) -> np.ndarray:
    """The same from inner products of all points, where these are fewer than dimensions: a direction is
    AᵀU λ^-½ for eigenvectors U of AAᵀ. One along which nothing varies counts as 0."""
    inner = G[half][:, half]
    means = inner.mean(axis=0)
    values, U = _leading(inner - means - means[:, None] + means.mean(), k)
    size = np.sqrt(np.maximum(values, np.finfo(float).tiny))
    return G[~half][:, half] @ ((U - U.mean(axis=0)) / size * (values > 0))


def _leading(G: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k largest eigenvalues of a symmetric matrix, which is overwritten, and their vectors."""
    at = [len(G) - k, len(G) - 1]
    return eigh(G, subset_by_index=at, overwrite_a=True, check_finite=False)


def extrapolated(values: np.ndarray, ns: np.ndarray) -> float:
    """Limit a of the least-squares fit a + b / n to readings at several n, in units of the values.

    For effective rank and entropy, read on nested subsamples of texts; the caller repeats it with texts left
    out for an interval.

    Bias: of order 1 / n²; large where the smallest n is not well above d. Raises: TransectError for fewer
    than 3 different n, or values that are not finite. Source: Miller 1955 (entropy: bias of order 1 / n);
    Quenouille 1956, doi:10.1093/biomet/43.3-4.353.
    """
    values, ns = np.asarray(values, float), np.asarray(ns, float)
    if (
        values.shape != ns.shape
        or len(np.unique(ns)) < 3
        or not np.isfinite(values).all()
        or not (ns > 0).all()
    ):
        raise TransectError(
            f"extrapolated: {values.shape} values at {ns.shape} n.", "Pass 3 different n or more."
        )
    return float(np.linalg.lstsq(np.stack([np.ones(len(ns)), 1 / ns], axis=1), values, rcond=None)[0][0])


def twonn(X: np.ndarray, texts: np.ndarray) -> float:
    """Two-nearest-neighbour intrinsic dimension (n − 1) / Σ log(r₂ / r₁) through other texts, above 0.

    r₁ and r₂ are distances to the nearest points of the two nearest other texts, so that tokens crowded in
    their text count once. Points equal to the given one are passed over. A reading at n, not extrapolated.

    Bias: down by about 1 / texts, and as the plug-in in high dimensions at few points.
    Raises: TransectError for fewer than 3 texts, or no two neighbours at different distances.
    Source: Facco et al. 2017, doi:10.1038/s41598-017-11873-y.
    """
    return twonn_of(nearest_texts(X, texts))


def nearest_texts(X: np.ndarray, texts: np.ndarray) -> np.ndarray:
    """Squared distance of every point to the nearest point of each text, [n, texts], texts in rising order,
    in units of the largest entry; inf where that is its own text. Points equal to the given one are passed
    over. Raises: TransectError for fewer than 3 texts."""
    X, of, count = _clustered(X, texts, 3, "twonn")
    order = np.argsort(of, kind="stable")
    sorted_of, Z = of[order], X[order]
    starts, equal, near = np.searchsorted(sorted_of, np.arange(count)), 1e-20 * (X**2).sum(axis=1).max(), []
    for start in range(0, len(X), BLOCK):
        part = slice(start, start + BLOCK)
        far = squared_apart(X[part], Z)
        far[(of[part, None] == sorted_of) | (far <= equal)] = np.inf
        near.append(np.minimum.reduceat(far, starts, axis=1))
    return np.concatenate(near)


def twonn_of(near: np.ndarray) -> float:
    """`twonn` of some points [n] by their squared distances to some texts, [n, texts], of `nearest_texts`."""
    two = np.partition(near, 1, axis=1)[:, :2]
    two = two[np.isfinite(two).all(axis=1)]
    ratios = np.log(two[:, 1] / two[:, 0]) / 2
    if not ratios.sum() > 0:
        raise TransectError("twonn: no two neighbours of other texts at different distances.", "Add texts.")
    return float((len(ratios) - 1) / ratios.sum())


def _clustered(
    X: np.ndarray, texts: np.ndarray, fewest: int, name: str
) -> tuple[np.ndarray, np.ndarray, int]:
    """Points about their mean in float64, scaled to a largest entry of 1; text 0 … T − 1 of each; T."""
    X, texts = np.asarray(X, np.float64), np.asarray(texts)
    if X.ndim != 2 or texts.shape != X.shape[:1] or not np.isfinite(X).all():
        raise TransectError(
            f"{name}: points {X.shape}, texts {texts.shape}.", "Pass one text for each finite point."
        )
    known, of = np.unique(texts, return_inverse=True)
    if len(known) < fewest:
        raise TransectError(f"{name}: {len(known)} texts, needs {fewest}.", "Add texts.")
    X = X - X.mean(axis=0)
    return X / (np.abs(X).max() or 1), of, len(known)


def _sums(X: np.ndarray, of: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sum of points, number of points and sum of squared norms of each text."""
    n, S = np.bincount(of, minlength=count), np.zeros((count, X.shape[1]))
    rows = X if (of[:-1] <= of[1:]).all() else X[np.argsort(of, kind="stable")]
    S[n > 0] = np.add.reduceat(rows, (np.cumsum(n) - n)[n > 0], axis=0)
    return S, n.astype(float), np.bincount(of, (X**2).sum(axis=1), count)


def _variance(S: np.ndarray, n: np.ndarray, w: np.ndarray) -> float:
    """Σ tr K_ab over ordered pairs of different texts, from what `_sums` says of them."""
    return float(n.sum() * w.sum() - n @ w - (S.sum(axis=0) ** 2).sum() + (S**2).sum())


def _squares(X: np.ndarray, of: np.ndarray, count: int) -> np.ndarray:
    """Sum of squared inner products between the points of two texts: [texts, texts]."""
    member = np.zeros((len(X), count))
    member[np.arange(len(X)), of] = 1
    rows = [(X[k : k + BLOCK] @ X.T) ** 2 @ member for k in range(0, len(X), BLOCK)]
    return member.T @ np.concatenate(rows)


def _mixed(X: np.ndarray, of: np.ndarray, S: np.ndarray, n: np.ndarray) -> float:
    """Σ n_a s_cᵀ M_b s_d over four different texts, M_b the sum of xxᵀ and s the sum of x over a text."""
    P = X @ S.T
    P[np.arange(len(X)), of] = 0
    one, two = P.sum(axis=1), (P**2).sum(axis=1)
    return float(((n.sum() - n[of]) * (one**2 - two) - 2 * ((P @ n) * one - P**2 @ n)).sum())
