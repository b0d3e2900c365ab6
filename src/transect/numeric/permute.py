"""Permutations of whole texts: inner products of symmetric matrices under them, which nulls of CKA, RSA and
kNN need, and activations whose neurons have nothing to do with each other.

Rows come text by text, k of each of T texts. A draw copies n² / 2 entries, k² at a time.
"""

from collections.abc import Callable

import numpy as np

#: Number of a pair of points from |x|², |y|² and |x − y|²; NaN where it counts for nothing.
Pairwise = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def text_permutations(texts: int, draws: int, generator: np.random.Generator) -> np.ndarray:
    """Permutations of the texts, int [draws, T]."""
    return np.array([generator.permutation(texts) for _ in range(draws)], np.int64).reshape(draws, texts)


def restricted(order: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Permutations of the kept texts alone, int [draws, kept]: who would get a text that is left out gets the
    one that this one would have got. What is kept keeps its partner wherever that is kept too.

    Args:
        order: Permutations of all texts, int [draws, T].
        kept: Which texts stay, bool [T].
    """
    number, out = np.cumsum(kept) - 1, []
    for p in order:
        q = p.copy()
        while (gone := kept & ~kept[q]).any():
            q[gone] = p[q[gone]]
        out.append(number[q[kept]])
    return np.array(out, np.int64).reshape(len(order), int(kept.sum()))


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
    diagonal, other = left[:: T + 1].ravel(), right[:: T + 1]
    out = np.empty(len(order))
    for b, p in enumerate(order):
        np.take(right, p[s] * T + p[t], axis=0, out=moved, mode="clip")
        out[b] = 2 * float(half @ moved.ravel()) + float(diagonal @ other[p].ravel())
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


def permuted_means(X: np.ndarray, Y: np.ndarray, of: Pairwise, order: np.ndarray, k: int) -> np.ndarray:
    """Means over tokens of a number of x and y, under every permutation of Y's texts, float64 [draws].

    Args:
        X: Points [T · k, d], text by text; Y: the same tokens' other view, [T · k, d]. float64.
        of: The number of every pair, from squared norms [T, 1], [1, T] and squared distances [T, T].
        order: Permutations [draws, T].
        k: Tokens of one text.
    """
    T, each = len(X) // k, np.arange(len(X) // k)
    sums, counts = np.zeros((2, T, T))
    for A, B in zip(*(Z.reshape(T, k, -1).transpose(1, 0, 2) for Z in (X, Y)), strict=True):
        a, b = (np.einsum("ij,ij->i", Z, Z) for Z in (A, B))
        apart = np.clip(a[:, None] + b - 2 * A @ B.T, 0, None)
        apart[each, each] = np.einsum("ij,ij->i", A - B, A - B)  # one text with itself: nothing cancels
        means = of(a[:, None], b[None], apart)
        known = np.isfinite(means)
        sums += np.where(known, means, 0)
        counts += known
    with np.errstate(invalid="ignore"):
        return row_sums(sums, order) / row_sums(counts, order)
