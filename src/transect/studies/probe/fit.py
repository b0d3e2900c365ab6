"""Linear probes in closed form, many labellings at once: ridge on numbers, on ranks, and on classes.

One decomposition of the training states serves the labels, their permutations and the control task; each
picks its own ridge on half of the training groups, fitted on the other half.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

KINDS = ("ridge", "classes", "ordinal")
#: Ridges beside the mean of the squared singular values.
RIDGES = 10.0 ** np.arange(-6, 7)


class Held(NamedTuple):
    """Predictions of held-out rows [n, m, c], the share of held-out variance in the span of the first
    labelling's weights, and the ridge of that labelling by fold."""

    predicted: np.ndarray
    share: float
    ridges: tuple[float, ...] = ()


def targets(labels: np.ndarray, kind: str) -> np.ndarray:
    """Labels [n, m] as what is regressed on, [n, m, c]: numbers, ranks in 0 to 1, or one column a class."""
    from scipy.stats import rankdata

    if kind == "classes":
        return (labels[..., None] == np.unique(labels)).astype(np.float64)
    values = rankdata(labels, axis=0) / len(labels) if kind == "ordinal" else labels.astype(np.float64)
    return values[..., None]


class _Basis(NamedTuple):
    """Training states about their mean, decomposed, and the labels' part in each direction."""

    at: np.ndarray
    mean: np.ndarray
    square: np.ndarray
    Vt: np.ndarray
    flat: np.ndarray

    def weights(self, ridge: np.ndarray) -> np.ndarray:
        """Coefficients [r, m, c] by a ridge for each labelling [m], in units of the mean square."""
        scale = self.square[:, None] + ridge * max(float(self.square.mean()), 1e-300)
        return self.flat / scale[..., None]

    def predict(self, X: np.ndarray, ridge: np.ndarray) -> np.ndarray:
        return self.mean + np.tensordot((X - self.at) @ self.Vt.T, self.weights(ridge), axes=1)


def held_out(
    X: Float[np.ndarray, "n d"], Y: Float[np.ndarray, "n m c"], folds: list[np.ndarray], groups: np.ndarray
) -> Held:
    """Predictions of every row by a probe fitted without its fold; `groups` [n] stay whole where a ridge is
    chosen too, since rows of one text resemble each other."""
    predicted, shares, ridges = np.empty(Y.shape), [], []
    for test in folds:
        train = np.setdiff1d(np.arange(len(X)), test)
        svd = _decomposed(X[train], Y[train])
        ridge = _ridges(X[train], Y[train], groups[train])
        predicted[test] = svd.predict(X[test], ridge)
        ridges.append(float(ridge[0]))
        W = np.linalg.qr(svd.Vt.T @ svd.weights(ridge)[:, 0])[0]
        Z = X[test] - X[test].mean(axis=0)
        shares.append(float(((Z @ W) ** 2).sum() / max(float((Z**2).sum()), 1e-300)))
    return Held(predicted, float(np.mean(shares)), tuple(ridges))


def without(
    X: Float[np.ndarray, "n d"], Y: Float[np.ndarray, "n c"], folds: list[np.ndarray],
    ridges: tuple[float, ...], kept: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """Predictions of the rows `kept` (bool [n]), [rows, c], by probes that never saw the others; the ridges,
    one a fold, stay."""
    predicted = np.zeros(Y.shape)
    for test, ridge in zip(folds, ridges, strict=True):
        train = kept.copy()
        train[test] = False
        if not train.any():
            return np.full((int(kept.sum()), Y.shape[1]), np.nan)
        predicted[test] = _ridge(X[train], Y[train], X[test], ridge)
    return predicted[kept]


def _ridge(X: np.ndarray, Y: np.ndarray, T: np.ndarray, ridge: float) -> np.ndarray:
    """Predictions for T by one regression on the smaller Gram side, as `_Basis` makes them."""
    from scipy.linalg import cho_factor, cho_solve

    at, mean = X.mean(axis=0), Y.mean(axis=0)
    Z = X - at
    small = Z @ Z.T if len(Z) <= Z.shape[1] else Z.T @ Z
    if not (scale := float(np.trace(small)) / len(small)) > 0:
        return np.broadcast_to(mean, (len(T), len(mean)))
    small[np.diag_indices_from(small)] += ridge * scale
    factor = cho_factor(small, overwrite_a=True)
    if len(Z) <= Z.shape[1]:
        return mean + (T - at) @ (Z.T @ cho_solve(factor, Y - mean))
    return mean + (T - at) @ cho_solve(factor, Z.T @ (Y - mean))


def _decomposed(X: np.ndarray, Y: np.ndarray) -> _Basis:
    at, mean = X.mean(axis=0), Y.mean(axis=0)
    U, s, Vt = np.linalg.svd(X - at, full_matrices=False)
    flat = np.tensordot(U.T, Y - mean, axes=1) * s[:, None, None]
    return _Basis(at, mean, s**2, Vt, flat)


def _ridges(X: np.ndarray, Y: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """The ridge of each labelling [m] that does best on every second group when fitted on the others."""
    second = np.unique(groups, return_inverse=True)[1] % 2 == 1
    if second.all() or not second.any():
        return np.full(Y.shape[1], RIDGES[-1])
    svd = _decomposed(X[~second], Y[~second])
    misses = []
    for ridge in RIDGES:
        missed = (Y[second] - svd.predict(X[second], np.full(Y.shape[1], ridge))) ** 2
        misses.append(missed.sum(axis=(0, 2)))
    return RIDGES[np.argmin(misses, axis=0)]


def score(predicted: np.ndarray, Y: np.ndarray, kind: str) -> np.ndarray:
    """Per labelling [m]: R² about the mean (ridge), balanced accuracy (classes), Spearman's ρ (ordinal)."""
    if kind == "classes":
        right = predicted.argmax(axis=2) == Y.argmax(axis=2)
        count = Y.sum(axis=0)
        recall = (right[..., None] * Y).sum(axis=0) / np.maximum(count, 1)
        return recall.sum(axis=1) / np.maximum((count > 0).sum(axis=1), 1)
    P, T = predicted[..., 0], Y[..., 0]
    if kind == "ordinal":
        from scipy.stats import rankdata

        P, T = (rankdata(a, axis=0) - (len(a) + 1) / 2 for a in (P, T))
        size = np.sqrt((P**2).sum(axis=0) * (T**2).sum(axis=0))
        return np.divide((P * T).sum(axis=0), size, out=np.zeros(P.shape[1]), where=size > 0)
    spread = ((T - T.mean(axis=0)) ** 2).sum(axis=0)
    missed = ((T - P) ** 2).sum(axis=0)
    return 1 - np.divide(missed, spread, out=np.ones(P.shape[1]), where=spread > 0)
