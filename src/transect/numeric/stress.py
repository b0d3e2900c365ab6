"""Stress: how far distances D̂ of fitted points are from target distances D, in the ways the literature
knows.

Each takes two square matrices, or two vectors of the same pairs; pairs whose target is NaN do not count.
Source: Smelser, Miller & Kobourov 2024, arXiv:2408.07724; Smelser et al. 2025, arXiv:2510.08660 (KL); Kruskal
1964 (non-metric).
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from transect.errors import TransectError


def scale_normalised(D: Any, D_hat: Any) -> float:
    """√(Σ(D − s·D̂)² / ΣD²) with the best scale s ≥ 0; 0 to 1, 1 also when every D̂ is 0."""
    d, e = _pairs(D, D_hat)
    # by the residual, not by 1 − cos², which loses half the digits when the fit is good
    size = float((e**2).sum())
    s = float((d * e).sum()) / size if size > 0 else 0.0
    return float(np.sqrt(((d - s * e) ** 2).sum() / (d**2).sum()))


def normalised(D: Any, D_hat: Any) -> float:
    """√(Σ(D − D̂)² / ΣD²), no scale fitted; 0 and up."""
    d, e = _pairs(D, D_hat)
    return float(np.sqrt(((d - e) ** 2).sum() / (d**2).sum()))


def non_metric(D: Any, D_hat: Any) -> float:
    """Kruskal's stress-1: √(Σ(D̂ − f(D))² / ΣD̂²), f the best monotone function of D; 0 to 1, only D's order
    counts."""
    from scipy.optimize import isotonic_regression

    d, e = _pairs(D, D_hat)
    if not (e**2).sum() > 0:
        raise TransectError("non-metric stress: every fitted distance is 0.", "It is not defined there.")
    _, tie, counts = np.unique(np.round(d / d.max(), 12), return_inverse=True, return_counts=True)
    fitted: np.ndarray = isotonic_regression(np.bincount(tie, e) / counts, weights=counts).x
    return float(np.sqrt(((e - fitted[tie]) ** 2).sum() / (e**2).sum()))


def shepard(D: Any, D_hat: Any) -> float:
    """Spearman's correlation of D with D̂; −1 to 1, and 1 is best."""
    from scipy.stats import rankdata

    ranks = [rankdata(v) for v in _pairs(D, D_hat)]
    if any(np.ptp(r) == 0 for r in ranks):
        raise TransectError("Shepard correlation: all distances are equal.", "It is not defined there.")
    return float(np.corrcoef(ranks)[0, 1])


def kl(D: Any, D_hat: Any, *, sigma: float | int = 1.0) -> float:
    """KL divergence of Gaussian neighbourhoods (width `sigma`, in the units of D) of D̂ from those of D,
    nats; 0 and up.

    Needs square matrices. Neighbours' shares are taken per point, so the scale of D̂ counts.
    """
    D, D_hat = np.asarray(D, np.float64), np.asarray(D_hat, np.float64)
    if D.ndim != 2 or D.shape != D_hat.shape:
        raise TransectError(f"KL stress: needs two square matrices, got {D.shape} and {D_hat.shape}.")
    known = np.isfinite(D) & ~np.eye(len(D), dtype=bool)
    P, Q = (_log_neighbours(M, known, sigma) for M in (D, D_hat))
    rows = known.any(axis=1)
    gain = np.where(known, np.exp(P) * (np.where(known, P, 0) - np.where(known, Q, 0)), 0.0)
    return float(gain.sum(axis=1)[rows].mean())


def _log_neighbours(D: np.ndarray, known: np.ndarray, sigma: float | int) -> np.ndarray:
    """log p(j | i) ∝ −D²/2σ² over the known pairs of each row."""
    from scipy.special import log_softmax

    energy = np.where(known, -(np.where(known, D, 0.0) ** 2) / (2 * sigma**2), -np.inf)
    energy[~known.any(axis=1)] = 0.0
    return log_softmax(energy, axis=1)


def _pairs(D: Any, D_hat: Any) -> tuple[np.ndarray, np.ndarray]:
    """Each pair once, float64, those with a target only."""
    d, e = np.asarray(D, np.float64), np.asarray(D_hat, np.float64)
    if d.shape != e.shape:
        raise TransectError(f"stress: needs the same pairs, got {d.shape} and {e.shape} distances.")
    if d.ndim == 2:
        upper = np.triu_indices(len(d), 1)
        d, e = d[upper], e[upper]
    known = np.isfinite(d)
    d, e = d[known], e[known]
    if not (d**2).sum() > 0:
        raise TransectError(
            "stress: no pair has a target distance above 0.",
            "Labels fall on one point of the shape; see its period.",
        )
    return d, e


#: name → (stress, how it becomes a score where higher is better)
STRESS: dict[str, tuple[Callable[..., float], Callable[[float], float]]] = {
    "scale_normalised": (scale_normalised, lambda s: 1 - s),
    "normalised": (normalised, lambda s: 1 - s),
    "non_metric": (non_metric, lambda s: 1 - s),
    "shepard": (shepard, lambda s: s),
    "kl": (kl, lambda s: float(np.exp(-s))),
}


def score(metric: str, D: Any, D_hat: Any) -> float:
    """The stress called `metric` as a score: 1 is best."""
    if metric not in STRESS:
        raise TransectError(f"no stress {metric!r}.", f"There are: {', '.join(STRESS)}.")
    stress, as_score = STRESS[metric]
    return float(as_score(stress(D, D_hat)))
