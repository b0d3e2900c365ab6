"""Controls: what is shuffled, by whole texts wherever texts are the unit; and how much tokens of one text are
alike."""

import numpy as np


def shuffle_columns(X: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Each column's texts permuted by themselves, X [texts, tokens, d] or [n, d]: a reference, not a test.

    Marginals stay, and with them what tokens of one text share in one dimension; every relation between
    dimensions goes.
    """
    order = np.argsort(generator.random((len(X), X.shape[-1])), axis=0)
    return np.take_along_axis(X, order[:, None] if X.ndim == 3 else order, axis=0)


def within_texts(texts: int, k: int, generator: np.random.Generator) -> np.ndarray:
    """Row numbers [texts · k] with the tokens of every text in random order: is it more than what a text has
    in common?"""
    order = np.argsort(generator.random((texts, k)), axis=1)
    return (np.arange(texts)[:, None] * k + order).ravel()


def design_effect(X: np.ndarray, texts: np.ndarray) -> tuple[float, float]:
    """(ICC, design effect) of points grouped by text: one-way variance components over all dimensions.

    ICC = between-text share of variance; design effect 1 + (m₀ − 1)·ICC with m₀ the effective text size: how
    many times too small a variance by token would be. Source: Kish 1965; Donner & Koval 1980.
    """
    labels, inverse, sizes = np.unique(texts, return_inverse=True, return_counts=True)
    k, n = len(labels), len(X)
    if k < 2 or n <= k:
        return float("nan"), float("nan")
    X = np.asarray(X, float) - X.mean(axis=0, dtype=float)
    rows = X[np.argsort(inverse, kind="stable")]
    sums = np.add.reduceat(rows, np.cumsum(sizes) - sizes, axis=0)
    between = float((sums**2 / sizes[:, None]).sum()) / (k - 1)
    within = float((X**2).sum() - (sums**2 / sizes[:, None]).sum()) / (n - k)
    m0 = (n - (sizes**2).sum() / n) / (k - 1)
    if between + (m0 - 1) * within <= 0:
        return float("nan"), float("nan")
    icc = (between - within) / (between + (m0 - 1) * within)
    return icc, 1 + (m0 - 1) * max(icc, 0.0)
