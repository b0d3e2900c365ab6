"""Paired measures that are means over tokens: their null of permuted texts costs no more than one product."""

from collections.abc import Mapping, Sequence

import numpy as np

from transect.measures.arrays import attempt
from transect.measures.contract import Measure
from transect.numeric.permute import Pairwise, permuted_means

Pairs = Sequence[tuple[int, int]]


def additive(m: Measure, of: Pairwise) -> None:
    """Give `m` its null: `of` says what a pair of points adds, from |x|², |y|² and |x − y|²."""

    def pairs(clouds: Mapping[int, np.ndarray], which: Pairs) -> list[object]:
        return [attempt(lambda i=i, j=j: m.func(clouds[i], clouds[j])) for i, j in which]

    def permuted(
        clouds: Mapping[int, np.ndarray], which: Pairs, order: np.ndarray, k: int
    ) -> list[np.ndarray]:
        return [permuted_means(clouds[i], clouds[j], of, order, k) for i, j in which]

    m.prepare(_double)
    m.pairs(pairs)
    m.permuted(permuted)


def _double(X: np.ndarray) -> np.ndarray:
    """Points in float64, shared by all of these measures."""
    return X.astype(np.float64)
