"""The tuned lens: one affine map a site, from its states to those that leave the last block.

It is fitted on other texts than those it is judged on, in closed form: least squares of what is still to be
added, pulled towards adding nothing, so that with few texts it falls back to the logit lens. Belrose et al.
2023 (arXiv:2303.08112) descend on the KL instead; maps between states by regression are those of Din et al.
2023 (arXiv:2303.09435).
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

#: Ridge beside the mean eigenvalue of the states' second moments; the best on half the texts is taken.
RIDGES = tuple(10.0**k for k in range(-8, 4))


class Affine(NamedTuple):
    """x ↦ x + (x − at) A + add: what is left to be added to a state; the ridge it was fitted with."""

    at: np.ndarray
    A: np.ndarray
    add: np.ndarray
    ridge: float

    def __call__(self, X: np.ndarray) -> np.ndarray:
        """States [n, d] carried to the last block's exit."""
        return X + (X - self.at) @ self.A + self.add


class _Half(NamedTuple):
    """Weighted means and second moments of some texts, where those of the states are diagonal."""

    at: np.ndarray
    add: np.ndarray
    basis: np.ndarray
    sizes: np.ndarray
    cross: np.ndarray

    def solved(self, ridge: float) -> Affine:
        scale = self.sizes + ridge * max(float(self.sizes.mean()), np.finfo(float).tiny)
        return Affine(self.at, self.basis @ (self.cross / scale[:, None]), self.add, ridge)


def affine(X: Float[np.ndarray, "n d"], Y: Float[np.ndarray, "n d"], half: Float[np.ndarray, " n"]) -> Affine:
    """The map from X to Y: states of the same tokens at a site and behind the last block.

    Args:
        half: 0 or 1, by text: the ridge is chosen by how a fit on the one half does on the other.

    Tokens weigh as 1 ÷ ‖y‖², since the final norm divides by ‖y‖.
    """
    X, Y = X.astype(np.float64), Y.astype(np.float64)
    weight = 1 / np.maximum((Y**2).sum(axis=1), np.finfo(float).tiny)
    first, second = half == 0, half == 1
    ridge = RIDGES[-1]
    if first.sum() > 1 and second.sum() > 1:
        part = _moments(X[first], Y[first], weight[first])
        losses = [_miss(part.solved(r), X[second], Y[second], weight[second]) for r in RIDGES]
        ridge = RIDGES[int(np.argmin(losses))]
    return _moments(X, Y, weight).solved(ridge)


def _moments(X: np.ndarray, Y: np.ndarray, weight: np.ndarray) -> _Half:
    share = (weight / weight.sum())[:, None]
    at, D = (share * X).sum(axis=0), Y - X
    add = (share * D).sum(axis=0)
    Z = X - at
    sizes, basis = np.linalg.eigh(Z.T @ (share * Z))
    return _Half(at, add, basis, np.maximum(sizes, 0), basis.T @ (Z.T @ (share * (D - add))))


def _miss(affine: Affine, X: np.ndarray, Y: np.ndarray, weight: np.ndarray) -> float:
    return float((weight * ((Y - affine(X)) ** 2).sum(axis=1)).sum())
