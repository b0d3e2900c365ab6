"""Streaming moments of a site: Σx and Σxxᵀ over all tokens in one pass, summed in float64, then correlations.

Whole-data correlation needs no sample and no gradient: it is one product per block. Blocks are centred on a
provisional mean before they are multiplied in float32, so that a large mean costs no digits.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from transect.errors import TransectError
from transect.numeric.products import product

#: A standard deviation below this share of the largest |x| seen is rounding: the neuron is constant.
CONSTANT = 1e-6


@dataclass(frozen=True)
class Moments:
    """Frozen sums of two blocks of neurons over the same n tokens (one block: x is y)."""

    n: int
    mean_x: np.ndarray
    mean_y: np.ndarray
    var_x: np.ndarray
    var_y: np.ndarray
    cross: np.ndarray  # centred cross-products / n, float64 [N, M]
    constant_x: np.ndarray
    constant_y: np.ndarray

    @property
    def correlation(self) -> np.ndarray:
        """Pearson correlations, float64 [N, M], −1 to 1. A constant neuron correlates 0 with others and 1
        with itself."""
        scale_x = np.where(self.constant_x, 1.0, np.sqrt(np.maximum(self.var_x, 0)))
        scale_y = np.where(self.constant_y, 1.0, np.sqrt(np.maximum(self.var_y, 0)))
        rho = self.cross / np.where(scale_x == 0, 1, scale_x)[:, None] / np.where(scale_y == 0, 1, scale_y)
        rho[self.constant_x] = 0.0
        rho[:, self.constant_y] = 0.0
        return np.clip(rho, -1.0, 1.0)


class Accumulator:
    """`update` with blocks of rows, in any order and number; `freeze` into Moments."""

    def __init__(self, width_x: int, width_y: int | None = None) -> None:
        self.own = width_y is None
        self.n = 0
        self.shift_x: np.ndarray | None = None
        self.shift_y: np.ndarray | None = None
        self.sum_x, self.sum_y = np.zeros(width_x), np.zeros(width_y or width_x)
        self.square_x, self.square_y = np.zeros(width_x), np.zeros(width_y or width_x)
        self.peak_x, self.peak_y = np.zeros(width_x), np.zeros(width_y or width_x)
        self.products = np.zeros((width_x, width_y or width_x))

    def about(self, X: np.ndarray, Y: np.ndarray | None = None) -> "Accumulator":
        """Count from the mean of these rows, which are not added: accumulators about one point can merge."""
        self.shift_x = X.mean(axis=0, dtype=np.float64).astype(np.float32)
        self.shift_y = self.shift_x if Y is None else Y.mean(axis=0, dtype=np.float64).astype(np.float32)
        return self

    def merge(self, other: "Accumulator") -> "Accumulator":
        """Add the tokens of another accumulator, which must count from the same point (`about`)."""
        if not other.n:
            return self
        pairs = ((self.shift_x, other.shift_x), (self.shift_y, other.shift_y))
        if any(a is None or b is None or not np.array_equal(a, b) for a, b in pairs):
            raise TransectError("accumulators about different points.", "Give both the same rows in `about`.")
        self.n += other.n
        self.products += other.products
        for side in "x" if self.own else "xy":
            for name in (f"sum_{side}", f"square_{side}"):
                setattr(self, name, getattr(self, name) + getattr(other, name))
            peaks = [getattr(sums, f"peak_{side}") for sums in (self, other)]
            setattr(self, f"peak_{side}", np.maximum(*peaks))
        return self

    def update(self, X: np.ndarray, Y: np.ndarray | None = None) -> "Accumulator":
        """Add rows X [k, N] (and the same tokens' Y [k, M])."""
        if self.shift_x is None or self.shift_y is None:
            self.about(X, Y)
        A = np.asarray(X, np.float32) - np.asarray(self.shift_x)
        B = A if Y is None else np.asarray(Y, np.float32) - np.asarray(self.shift_y)
        self.n += len(A)
        self.sum_x += A.sum(axis=0, dtype=np.float64)
        self.square_x += np.einsum("ij,ij->j", A, A, dtype=np.float64)
        self.peak_x = np.maximum(self.peak_x, np.abs(X).max(axis=0))
        if not self.own:
            self.sum_y += B.sum(axis=0, dtype=np.float64)
            self.square_y += np.einsum("ij,ij->j", B, B, dtype=np.float64)
            self.peak_y = np.maximum(self.peak_y, np.abs(Y).max(axis=0))  # type: ignore[arg-type]
        self.products += product(A.T, B)
        return self

    def freeze(self) -> Moments:
        """The moments so far. TransectError for fewer than two tokens."""
        if self.n < 2 or self.shift_x is None or self.shift_y is None:
            raise TransectError(f"correlation needs at least 2 tokens, got {self.n}.", "Capture more texts.")
        if self.own:
            self.sum_y, self.square_y, self.peak_y = self.sum_x, self.square_x, self.peak_x
        mean_x, mean_y = self.sum_x / self.n, self.sum_y / self.n
        var_x, var_y = self.square_x / self.n - mean_x**2, self.square_y / self.n - mean_y**2
        cross = self.products / self.n - np.outer(mean_x, mean_y)
        if self.own:
            var_x = var_y = np.diagonal(cross).copy()
        flat_x = np.sqrt(np.maximum(var_x, 0)) <= CONSTANT * self.peak_x
        flat_y = np.sqrt(np.maximum(var_y, 0)) <= CONSTANT * self.peak_y
        means = mean_x + self.shift_x, mean_y + self.shift_y
        return Moments(self.n, *means, var_x, var_y, cross, flat_x, flat_y)


def prompt_average(blocks: Iterable[np.ndarray]) -> np.ndarray:
    """Mean over prompts of the correlation within each prompt [N, N]: what a mini-batch of one prompt sees.
    Neurons that are constant in a prompt count 0 there."""
    total, count = None, 0
    for X in blocks:
        if len(X) < 2:
            continue
        rho = Accumulator(X.shape[1]).update(X).freeze().correlation
        total, count = (rho if total is None else total + rho), count + 1
    if total is None:
        raise TransectError("no prompt has two tokens.", "Capture longer texts.")
    return total / count
