"""Permutations of whole texts: inner products of square matrices under them, which nulls of CKA, RSA and kNN
need, and activations whose neurons have nothing to do with each other.

Rows come text by text, k of each of T texts. <A, P B Pᵀ> is a sum over pairs of texts (s, t) of <A_st,
B_π(s)π(t)>, k × k blocks: all such products are one matrix product of 2 n² T² operations, after which a draw
is T² look-ups. With many texts that costs more than permuting B for every draw, which is done then.
"""

import numpy as np

#: Operations of one gathered entry beside one of a matrix product, measured.
GATHER = 40
#: Most texts whose table of products is kept (T⁴ entries of float32).
MOST = 80


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
        A: Square matrix [n, n] over tokens, text by text.
        B: The same for the other view.
        order: Permutations [draws, T] with T · k = n.
        k: Tokens of one text.
    """
    T = len(A) // k
    if T <= MOST and GATHER * len(order) >= 2 * T * T:
        return _by_table(A, B, order, k)
    return _by_gathering(A, B, order, k)


def _blocks(A: np.ndarray, k: int) -> np.ndarray:
    """[T², k²]: the k × k blocks of a matrix, row of blocks by row of blocks."""
    T = len(A) // k
    return A.reshape(T, k, T, k).transpose(0, 2, 1, 3).reshape(T * T, k * k)


def _by_table(A: np.ndarray, B: np.ndarray, order: np.ndarray, k: int) -> np.ndarray:
    T = len(A) // k
    table = (_blocks(A, k) @ _blocks(B, k).T).reshape(T, T, T, T)
    s, t = np.meshgrid(np.arange(T), np.arange(T), indexing="ij")
    return np.array([table[s, t, p[:, None], p[None]].sum(dtype=np.float64) for p in order])


def _by_gathering(A: np.ndarray, B: np.ndarray, order: np.ndarray, k: int) -> np.ndarray:
    out, flat = np.empty(len(order)), np.ascontiguousarray(A).ravel()
    for b, p in enumerate(order):
        rows = (p[:, None] * k + np.arange(k)).ravel()
        out[b] = float(flat @ np.take(B[rows], rows, axis=1).ravel())
    return out


def row_sums(S: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Σ_s S[s, π(s)] for every permutation, float64 [draws]; S [T, T] sums over the tokens of two texts in
    their order."""
    T = len(S)
    return S[np.arange(T), order].sum(axis=1, dtype=np.float64)
