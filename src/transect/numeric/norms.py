"""Norms of tokens: which of them are massive."""

from collections.abc import Sequence

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


def ordinary_tokens(
    texts: Sequence[np.ndarray], factor: float, *runs: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """Texts [sites, tokens, d] without the tokens that are not `ordinary` among those of all texts, in this
    run or in another of the same tokens."""
    every = [np.concatenate([np.linalg.norm(X, axis=-1) for X in run], axis=1) for run in (texts, *runs)]
    kept = np.all([ordinary(norms, factor) for norms in every], axis=0)
    ends = np.cumsum([X.shape[1] for X in texts])[:-1]
    return [X[:, mask] for X, mask in zip(texts, np.split(kept, ends), strict=True)]
