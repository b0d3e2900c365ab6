"""Norms of tokens: which of them are massive."""

import numpy as np


def ordinary(norms: np.ndarray, factor: float) -> np.ndarray:
    """Which tokens have at most `factor` × the median norm, and that at every site; all of them for factor 0.

    Args:
        norms: [sites, tokens].

    Returns: bool [tokens].
    Source: Sun et al. 2024, arXiv:2402.17762 (massive activations).
    """
    if not factor:
        return np.ones(norms.shape[1], bool)
    return np.asarray((norms <= factor * np.median(norms, axis=1, keepdims=True)).all(axis=0))
