"""Scaling: targets from distances and linear maps onto targets, the formulas behind `smds.py`.

Classical scaling (Torgerson 1952), ridge, pseudo-inverse and orthonormal maps, and SMACOF where distances are
undefined (de Leeuw & Heiser 1980).
"""

from typing import Any

import numpy as np

from transect.numeric.shape import straight

#: Seeded starts, beside the closed form, where undefined distances leave an optimisation.
STARTS = 4


def classical(D: np.ndarray, k: int, counts: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Classical scaling: the top-k eigenvectors of −½HD²H times √λ, [n, k], and λ; a negative λ counts as 0.

    counts: how many points stand at each row; the result is that of the rows repeated so often.
    """
    from scipy.linalg import eigh

    n = len(D)
    c = np.ones(n) if counts is None else np.asarray(counts, np.float64)
    root = np.sqrt(c)
    D2 = D**2
    rows = D2 @ c / c.sum()
    B = -0.5 * (D2 - rows[:, None] - rows + rows @ c / c.sum())
    low = max(0, n - k)
    values, vectors = eigh(B * root[:, None] * root, subset_by_index=[low, n - 1])
    values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]
    values[values < 1e-12 * max(values[0], 1e-300)] = 0.0
    Y = vectors * np.sqrt(values) / root[:, None]
    Y *= np.where(Y[np.abs(Y).argmax(axis=0), np.arange(Y.shape[1])] < 0, -1.0, 1.0)
    pad = k - Y.shape[1]
    return np.pad(Y, ((0, 0), (0, pad))), np.pad(values, (0, pad))


def ridge_map(X: np.ndarray, Y: np.ndarray, alpha: float | int) -> np.ndarray:
    """W = YᵀX(XᵀX + αI)⁻¹ for centred X, by the smaller Gram; α = 0: the pseudo-inverse."""
    from scipy.linalg import solve

    n, d = X.shape
    if alpha == 0:
        return (pseudo_inverse(X) @ Y).T
    if d <= n:
        return solve(X.T @ X + alpha * np.eye(d), X.T @ Y, assume_a="pos").T
    return solve(X @ X.T + alpha * np.eye(n), Y, assume_a="pos").T @ X


def pseudo_inverse(X: np.ndarray) -> np.ndarray:
    """Moore–Penrose inverse; directions that only rounding fills (centring leaves one when d ≥ n) count as
    empty."""
    return np.linalg.pinv(X, rcond=float(max(X.shape) * 10 * np.finfo(np.float64).eps))


def orthonormal_map(X: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """W = UVᵀ of the SVD of YᵀX: orthonormal rows, a rotation and no stretch; 0 along targets without
    extent."""
    U, s, Vt = np.linalg.svd(Y.T @ X, full_matrices=False)
    keep = s > 1e-12 * max(float(s[0]), 1e-300)
    return U[:, keep] @ Vt[keep]


def principal(C: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Centred coordinates as they are, or the k principal ones where there are more."""
    C = C - C.mean(axis=0)
    if C.shape[1] == k:
        return C, (C**2).sum(axis=0)
    U, s, _ = np.linalg.svd(C, full_matrices=False)
    return U[:, :k] * s[:k], s[:k] ** 2


def completed(D: np.ndarray) -> np.ndarray:
    """Undefined distances replaced by shortest paths over the defined ones; separate parts lie as far as the
    longest."""
    from scipy.sparse.csgraph import shortest_path

    if np.isfinite(D).all():
        return D
    paths = shortest_path(np.ma.masked_invalid(D).filled(np.inf), directed=False)
    far = paths[np.isfinite(paths)].max()
    return np.where(np.isfinite(D), D, np.where(np.isfinite(paths), paths, far))


def _guttman(D: np.ndarray, Z: np.ndarray) -> tuple[np.ndarray, float]:
    """B(Z)Z of SMACOF over the defined pairs, and their stress Σ(D − d)²."""
    known, d = np.isfinite(D), straight(Z)
    target = np.where(known, D, 0.0)
    ratio = np.where(d > 0, target / np.where(d > 0, d, 1.0), 0.0)
    BZ = ratio.sum(axis=1)[:, None] * Z - ratio @ Z
    return BZ, float((np.where(known, D - d, 0.0) ** 2).sum() / 2)


def _laplacian(D: np.ndarray) -> np.ndarray:
    weights = np.isfinite(D).astype(np.float64)
    np.fill_diagonal(weights, 0.0)
    return np.diag(weights.sum(axis=1)) - weights


def smacof(D: np.ndarray, Y: np.ndarray, max_iter: int, tol: float) -> np.ndarray:
    """Points whose distances fit the defined ones of D, from Y by SMACOF; centred."""
    V = np.linalg.pinv(_laplacian(D), hermitian=True)
    before = np.inf
    for _ in range(max_iter):
        BZ, value = _guttman(D, Y)
        if before - value <= tol * max(value, 1e-300):
            break
        Y, before = V @ BZ, value
    return Y - Y.mean(axis=0)


def restricted_map(
    X: np.ndarray, D: np.ndarray, W: np.ndarray, alpha: Any, max_iter: Any, tol: Any
) -> tuple[Any, int]:
    """(W, iterations): the W that minimises Σ(D − |W(xᵢ − xⱼ)|)² + nα|W|² over defined pairs.

    L-BFGS in coordinates that make SMACOF's majoriser a sphere, from the closed form and from STARTS seeded
    subspaces; the lowest is kept, because a chain started straight can stay folded wrongly.
    """
    from scipy.optimize import minimize

    _, s, Vt = np.linalg.svd(X, full_matrices=False)
    basis = Vt[s > 1e-10 * s[0]].T
    T = X @ basis
    values, vectors = np.linalg.eigh(T.T @ _laplacian(D) @ T + len(X) * alpha * np.eye(T.shape[1]))
    values = np.maximum(values, 1e-12 * values[-1])
    T, basis = T @ (vectors / np.sqrt(values)), basis @ (vectors / np.sqrt(values))
    penalty = len(X) * alpha / values[:, None]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        A = flat.reshape(-1, len(W))
        BZ, value = _guttman(D, T @ A)
        return value + float((penalty * A**2).sum()), 2 * (A - T.T @ BZ).ravel()

    rng = np.random.default_rng(0)
    starts = [np.linalg.lstsq(basis, W.T, rcond=None)[0]]
    starts += [rng.standard_normal(starts[0].shape) * np.linalg.norm(starts[0]) for _ in range(STARTS)]
    options = {"maxiter": max_iter, "ftol": tol}
    runs = [minimize(loss, start.ravel(), jac=True, method="L-BFGS-B", options=options) for start in starts]
    best = min(runs, key=lambda run: run.fun)
    return (basis @ best.x.reshape(-1, len(W))).T, max(1, int(best.nit))
