"""How many directions one cloud fills: shape of its covariance spectrum, and intrinsic dimension from
neighbours.

Eigenvalues come from the smaller side (d × d or n × n), summed in float64, about the mean unless `centred` is
off. All of these are ratios, so neither rotation nor scale nor the divisor n or n - 1 matters.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from jaxtyping import Float

from transect.errors import TransectError
from transect.measures.arrays import attempt
from transect.measures.contract import Measure, measure
from transect.numeric import estimators
from transect.numeric.products import squared_apart
from transect.work.options import within

SHAPE_ONLY = {"rotation", "isotropic scaling", "translation", "row order"}
ZERO = 1e-28  # a squared deviation below this share of the squared norm is rounding


def spectrum(X: np.ndarray, *, centred: bool = True) -> np.ndarray:
    """Covariance eigenvalues in falling order, divided by their sum: [min(n, d)]. Raises when all points are
    equal."""
    values = np.clip(np.linalg.eigvalsh(_gram(X, centred))[::-1], 0, np.inf)
    return values / values.sum()


#: Measure → function of the shares of a spectrum, at its default options; filled below.
OF_SPECTRUM: dict[str, Callable[..., float]] = {}


def _share_spectrum(m: Measure, of: Callable[..., float]) -> None:
    """Fast path: one spectrum per cloud serves every measure that is a function of it."""

    def pairs(spectra: Mapping[int, np.ndarray], which: Sequence[tuple[int]], **options: Any) -> list[Any]:
        spectrum_options = {k: v for k, v in options.items() if k != "centred"}
        return [attempt(lambda k=k: of(spectra[k], **spectrum_options)) for (k,) in which]

    m.prepare(spectrum)
    m.pairs(pairs)
    defaults = {k: v for k, v in m.defaults({}).items() if k != "centred"}
    OF_SPECTRUM[m.name] = lambda shares: of(shares, **defaults)


@measure(
    source="Gao et al. 2017, doi:10.1101/214262",
    invariant_to=SHAPE_ONLY,
    scale="log",
    label="participation ratio",
    unit="dimensions",
    more="variance in more directions",
)
def participation_ratio(X: Float[np.ndarray, "n d"], *, centred: bool = True) -> float:
    """Participation ratio (Σλ)² / Σλ² of the covariance eigenvalues: a number of dimensions, 1 to min(n, d).

    Biased down by sampling: n points of an isotropic Gaussian read about n·d / (n + d). One heavy point or
    dimension can bring it to 1. With centred=False the mean counts as a direction, and translation matters.
    Raises when all points are equal.
    """
    return _participation(spectrum(X, centred=centred))


def _participation(shares: np.ndarray) -> float:
    return float(1 / (shares**2).sum())


_share_spectrum(participation_ratio, _participation)
participation_ratio.population(estimators.participation_ratio)


@measure(
    source="Roy & Vetterli 2007, EUSIPCO (entropy of singular values; here of eigenvalues)",
    invariant_to=SHAPE_ONLY,
    scale="log",
    label="effective rank",
    unit="dimensions",
    more="variance in more directions",
)
def effective_rank(X: Float[np.ndarray, "n d"], *, centred: bool = True) -> float:
    """Effective rank: exponential of the entropy of the normalised covariance eigenvalues, 1 to min(n, d).

    The exponential of `spectral_entropy`. Roy & Vetterli take singular values, which read higher. Biased down
    when n is not well above d. Raises when all points are equal.
    """
    return _effective(spectrum(X, centred=centred))


def _effective(shares: np.ndarray) -> float:
    return float(np.exp(_entropy(shares)))


_share_spectrum(effective_rank, _effective)


@measure(
    source="von Neumann 1932; Giraldo et al. 2015, arXiv:1211.2459",
    invariant_to=SHAPE_ONLY,
    scale="log",
    label="spectral entropy",
    unit="nats",
    more="variance in more directions",
)
def spectral_entropy(X: Float[np.ndarray, "n d"], *, centred: bool = True) -> float:
    """Von Neumann entropy of the covariance divided by its trace, in nats, 0 to log min(n, d).

    Biased down when n is not well above d. Raises when all points are equal.
    """
    return _entropy(spectrum(X, centred=centred))


_share_spectrum(spectral_entropy, lambda shares: _entropy(shares))


@measure(
    source="Rudelson & Vershynin 2007, doi:10.1145/1255443.1255449",
    invariant_to=SHAPE_ONLY,
    scale="log",
    label="stable rank",
    unit="dimensions",
    more="less ruled by one direction",
)
def stable_rank(X: Float[np.ndarray, "n d"], *, centred: bool = True) -> float:
    """Stable rank: squared Frobenius norm over squared spectral norm, Σλ / λ_max, 1 to min(n, d).

    Ruled by the largest eigenvalue, hence by outliers. Raises when all points are equal.
    """
    return float(1 / spectrum(X, centred=centred)[0])


_share_spectrum(stable_rank, lambda shares: float(1 / shares[0]))
stable_rank.population(estimators.top_variance, estimators.CROSS_FITTED, estimators.inverse)


@measure(
    source="Golub & Van Loan 2013, Matrix Computations, section 2.6",
    invariant_to=SHAPE_ONLY,
    scale="log",
    label="condition number",
    more="less even variance",
)
def condition_number(
    X: Float[np.ndarray, "n d"],
    *,
    centred: bool = True,
    floor: Annotated[float, within(1e-14, below=1)] = 1e-10,
) -> float:
    """Condition number of the covariance: largest eigenvalue over the smallest one above the floor, 1 to 1 /
    floor.

    Eigenvalues at or below floor × largest count as zero and are left out. For n ≤ d the covariance has d - n
    + 1 exact zeros: the value then describes the span of the points, and grows without limit as n nears d.
    Compare at equal n. Raises when all points are equal, or the floor is not between 1e-14 and 1.
    """
    return _condition(spectrum(X, centred=centred), floor)


def _condition(shares: np.ndarray, floor: float) -> float:
    if not 1e-14 <= floor < 1:
        raise TransectError(f"condition_number: floor = {floor:g}.", "Take 1e-14 ≤ floor < 1.")
    return float(shares[0] / shares[shares > floor * shares[0]][-1])


_share_spectrum(condition_number, _condition)


@measure(
    source="Jolliffe 2002, Principal Component Analysis, section 6.1, doi:10.1007/b98835",
    invariant_to=SHAPE_ONLY,
    scale="logit",
    label="variance in the top direction",
    unit="share",
    more="more ruled by few directions",
)
def top_variance(
    X: Float[np.ndarray, "n d"], *, k: Annotated[int, within(1)] = 1, centred: bool = True
) -> float:
    """Share of the variance in the k largest principal directions, k / min(n, d) to 1.

    Biased up when n is not well above d. Raises when all points are equal, or k is not between 1 and min(n,
    d).
    """
    return _top(spectrum(X, centred=centred), k)


def _top(shares: np.ndarray, k: int) -> float:
    if not 1 <= k <= len(shares):
        raise TransectError(
            f"top_variance: k = {k} with {len(shares)} eigenvalues.", f"Take 1 to {len(shares)}."
        )
    return float(shares[:k].sum())


_share_spectrum(top_variance, _top)
top_variance.population(estimators.top_variance, estimators.CROSS_FITTED)


@measure(
    source="Rudman et al. 2022, arXiv:2108.07344",
    invariant_to=SHAPE_ONLY,
    scale="logit",
    label="IsoScore",
    more="more even variance",
)
def isoscore(X: Float[np.ndarray, "n d"]) -> float:
    """IsoScore: how evenly the variance fills the d dimensions, 0 (one direction) to 1 (all alike).

    Their construction reduces to (participation ratio − 1) / (d − 1), which is how it is computed; it is
    biased down by sampling as that is (n points of an isotropic Gaussian read about n / (n + d)). Raises when
    all points are equal, or d is 1.
    """
    if X.shape[1] < 2:
        raise TransectError(
            "isoscore: one dimension has no isotropy.", "Pass points of 2 dimensions or more."
        )
    return (_participation(spectrum(X)) - 1) / (X.shape[1] - 1)


@measure(
    source="Facco et al. 2017, doi:10.1038/s41598-017-11873-y; Denti et al. 2022",
    invariant_to=SHAPE_ONLY,
    min_points=4,
    scale="log",
    label="TwoNN dimension",
    unit="dimensions",
    more="locally more dimensions",
)
def twonn(X: Float[np.ndarray, "n d"]) -> float:
    """Two-nearest-neighbour intrinsic dimension, maximum likelihood: (n - 1) / Σ log(r₂ / r₁), above 0.

    Assumes that the density is constant out to the second neighbour; reads the smallest scale, so noise
    raises it, and high dimensions are underestimated at few points. Repeated points count once. Raises when
    fewer than 4 distinct points remain.
    """
    r = _neighbours(X, 2, "twonn")
    return float((len(r) - 1) / _positive(np.log(r[:, 1] / r[:, 0]).sum(), "twonn"))


@measure(
    source="Denti et al. 2022, arXiv:2104.13832, doi:10.1038/s41598-022-20991-1",
    invariant_to=SHAPE_ONLY,
    min_points=4,
    scale="log",
    label="Gride dimension",
    unit="dimensions",
    more="more dimensions at this scale",
)
def gride(X: Float[np.ndarray, "n d"], *, scale: Annotated[int, within(1)] = 1) -> float:
    """Intrinsic dimension from the ratio of the 2·scale-th to the scale-th neighbour distance (Gride), above
    0.

    Sweep `scale` (1, 2, 4, …) for the dimension against the scale: a plateau is a dimension, a fall is noise.
    At scale 1 it is `twonn` × n / (n - 1). Assumes constant density out to the 2·scale-th neighbour. Repeated
    points count once. Raises when no more than 2·scale distinct points remain, or scale is below 1.
    """
    if scale < 1:
        raise TransectError(f"gride: scale = {scale}.", "Take 1 or more.")
    r = _neighbours(X, 2 * scale, "gride")
    logs = np.log(r[:, -1] / r[:, scale - 1])
    total = _positive(logs.sum(), "gride")
    if scale == 1:
        return float(len(logs) / total)
    from scipy.optimize import brentq

    def slope(log_d: float) -> float:
        """Derivative of the log-likelihood in d, times d; a ratio of 1 has the limit 1 for t / (1 - e^-t)."""
        t = np.exp(log_d) * logs
        pull = np.divide(t, -np.expm1(-t), out=np.ones_like(t), where=t > 1e-12)
        return float(len(t) + (scale - 1) * pull.sum() - (2 * scale - 1) * t.sum())

    root: Any = brentq(slope, -20.0, 20.0, xtol=1e-12)
    return float(np.exp(root))


def _gram(X: np.ndarray, centred: bool) -> np.ndarray:
    """Gram matrix of the smaller side, scaled to a largest entry near 1; its eigenvalues are the covariance's
    × n."""
    size = float(np.abs(X).max())
    A = (X - X.mean(axis=0, dtype=np.float64) if centred else X.astype(np.float64)) / (size or 1)
    if (A**2).sum() <= ZERO * X.size:
        raise TransectError(
            f"all {len(X)} points are equal, so there is no spectrum.", "Pass distinct points."
        )
    return A.T @ A if A.shape[1] <= len(A) else A @ A.T


def _entropy(shares: np.ndarray) -> float:
    held = shares[shares > 0]
    return max(0.0, float(-(held * np.log(held)).sum()))


def _positive(total: float, name: str) -> float:
    if not total > 0:
        raise TransectError(
            f"{name}: every neighbour is equally far, so no dimension follows.", "Use a larger scale."
        )
    return float(total)


def _distinct(A: np.ndarray) -> np.ndarray:
    """Rows without repetitions; sorting whole rows, which is slow, only where one projection does not tell
    all apart by more than its rounding: products of equal rows differ in their last bits by place."""
    v = np.random.default_rng(0).standard_normal(A.shape[1])
    rounding = A.shape[1] * np.finfo(float).eps * np.abs(A).max() * np.abs(v).sum()
    apart = np.diff(np.sort(A @ v)).min(initial=np.inf) > rounding
    return A if apart else np.unique(A, axis=0)


def _neighbours(X: np.ndarray, k: int, name: str) -> np.ndarray:
    """Distances [n, k] to the k nearest other points after de-duplication."""
    A = _distinct(X.astype(np.float64))
    if len(A) <= max(k, 3):
        raise TransectError(
            f"{name}: {len(A)} distinct points, needs {max(k, 3) + 1}.", "Add texts or lower scale."
        )
    A -= A.mean(axis=0)
    parts = []
    for start in range(0, len(A), 256):
        far = squared_apart(A[start : start + 256], A)
        far[np.arange(len(far)), start + np.arange(len(far))] = np.inf
        parts.append(np.sqrt(np.sort(np.partition(far, k - 1, axis=1)[:, :k], axis=1)))
    return np.concatenate(parts)
