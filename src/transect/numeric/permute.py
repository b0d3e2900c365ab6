"""Permutations of whole texts: inner products of symmetric matrices under them, which nulls of CKA, RSA and
kNN need, and activations whose neurons have nothing to do with each other.

Rows come text by text, k of each of T texts. A draw copies n² / 2 entries, k² at a time.
"""

import numpy as np


def text_permutations(texts: int, draws: int, generator: np.random.Generator) -> np.ndarray:
    """Permutations of the texts, int [draws, T]."""
    return np.array([generator.permutation(texts) for _ in range(draws)], np.int64).reshape(draws, texts)


def columns_by_text(X: np.ndarray, lengths: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Every column with its texts in an order of its own, laid end to end and turned by an offset of its own.

    Each column keeps its values and, within a text, their sequence: tokens of one text stay as alike as they
    are, so that chance correlations stay as large. The offset does the work where there are few texts.

    Args:
        X: Rows by text, [n, N].
        lengths: Rows of each text, int [T], which sum to n.
        generator: Where the orders come from.

    Returns: float [n, N].
    """
    n, begin = len(X), np.cumsum(lengths) - lengths
    source, out = np.ascontiguousarray(X.T), np.empty(X.shape[::-1], X.dtype)
    for column, kept in zip(source, out, strict=True):
        order = generator.permutation(len(lengths))
        size = lengths[order]
        rows = np.repeat(begin[order] - (np.cumsum(size) - size), size) + np.arange(n)
        turn = int(generator.integers(n))
        kept[:turn], kept[turn:] = column[rows[n - turn :]], column[rows[: n - turn]]
    return out.T


def inner_products(A: np.ndarray, B: np.ndarray, order: np.ndarray, k: int) -> np.ndarray:
    """Σ_ij A_ij B_π(i)π(j) for every permutation of texts, float64 [draws].

    Args:
        A: Symmetric matrix [n, n] over tokens, text by text.
        B: The same for the other view.
        order: Permutations [draws, T] with T · k = n.
        k: Tokens of one text.
    """
    T = len(A) // k
    s, t = np.tril_indices(T, -1)  # of symmetric matrices half the pairs of texts are enough
    left, right = _blocks(A, k), _blocks(B, k)
    half, moved = left[s * T + t].ravel(), np.empty((len(s), k * k), right.dtype)
    own, other = left[:: T + 1].ravel(), right[:: T + 1]
    out = np.empty(len(order))
    for b, p in enumerate(order):
        np.take(right, p[s] * T + p[t], axis=0, out=moved, mode="clip")
        out[b] = 2 * float(half @ moved.ravel()) + float(own @ other[p].ravel())
    return out


def _blocks(A: np.ndarray, k: int) -> np.ndarray:
    """[T², k²]: the k × k blocks of a matrix, row of blocks by row of blocks."""
    T = len(A) // k
    return A.reshape(T, k, T, k).transpose(0, 2, 1, 3).reshape(T * T, k * k)


def row_sums(S: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Σ_s S[s, π(s)] for every permutation, float64 [draws]; S [T, T] sums over the tokens of two texts in
    their order."""
    T = len(S)
    return S[np.arange(T), order].sum(axis=1, dtype=np.float64)
