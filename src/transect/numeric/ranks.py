"""Rank correlation of two columns."""

import numpy as np


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's ρ of two columns [n], −1 to 1; ties get mean ranks; NaN where either is constant or not
    finite."""
    from scipy.stats import rankdata

    if not (np.isfinite(a).all() and np.isfinite(b).all()) or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])
