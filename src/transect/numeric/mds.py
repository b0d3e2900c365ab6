"""Multidimensional scaling of a full target matrix: classical scaling, then over-relaxed majorisation, in row
blocks."""

import importlib
from typing import Any

import numpy as np

from transect.errors import TransectError

#: Methods that keep neighbourhoods, not distances: module → name. Both come with the extra `maps`.
NEIGHBOURS = {"umap": "UMAP", "pacmap": "PaCMAP"}
#: Distances 1 − ρ below this are rounding of ρ.
RESOLVED = 1e-6


def stress(positions: np.ndarray, target: np.ndarray) -> float:
    """√(Σ(D − D̂)² / ΣD²) over all pairs: 0 is exact; pure noise in 3-D ends in a hollow ball at about
    0.33."""
    wrong = right = 0.0
    for rows in _row_blocks(len(target)):
        D = _distances(positions[rows], positions)
        wrong += float(((D - target[rows]) ** 2).sum(dtype=np.float64))
        right += float((target[rows].astype(np.float64) ** 2).sum())
    return float(np.sqrt(wrong / right)) if right else 0.0


def targets(rho: np.ndarray) -> np.ndarray:
    """Target distances 1 − ρ, float32 [N, N]. TransectError unless ρ is square, finite and symmetric."""
    rho = np.asarray(rho)
    if rho.ndim != 2 or rho.shape[0] != rho.shape[1] or len(rho) < 2:
        raise TransectError(f"rho must be square with at least 2 neurons, got {rho.shape}.")
    if not np.isfinite(rho).all():
        bad = int((~np.isfinite(rho)).any(axis=1).sum())
        raise TransectError(f"rho is not finite for {bad} neurons.", "Leave out neurons that never change.")
    if not np.allclose(rho, rho.T, atol=1e-6):
        raise TransectError("rho is not symmetric.", "Pass the correlations of one block with itself.")
    target = (1 - rho).astype(np.float32)
    np.fill_diagonal(target, 0)
    return target


def scaled(target: np.ndarray, dim: int, seed: int, method: str, max_iter: int, tol: float) -> np.ndarray:
    if method in NEIGHBOURS:
        return _neighbours(target, dim, seed, method)
    X = _classical(target, dim, seed)
    if method == "classical":
        return X
    before = np.inf
    for k in range(max_iter):
        step = _guttman(X, target)
        X = 2 * step - X if k % 5 else step  # over-relaxed; the plain step in between keeps the descent
        if k % 5 == 0:
            now = stress(X, target)
            if before - now < tol * now:
                break
            before = now
    return _guttman(X, target)


def neighbour_library(method: str) -> Any:
    """The module of umap or pacmap. TransectError, naming the extra, where it is not installed."""
    try:
        return importlib.import_module(method)
    except ImportError:
        raise TransectError(
            f"{NEIGHBOURS[method]} is not installed.", "Install transect[maps], or lay out by smacof."
        ) from None


def _neighbours(target: np.ndarray, dim: int, seed: int, method: str) -> np.ndarray:
    """UMAP of the distances, or PaCMAP of points whose squared distances are twice them, at the size that
    fits best."""
    room = neighbour_library(method)
    if method == "umap":
        X = room.UMAP(n_components=dim, metric="precomputed", random_state=seed, n_jobs=1).fit_transform(
            target
        )
    else:
        values, vectors = np.linalg.eigh(1 - target.astype(np.float64))
        points = (vectors * np.sqrt(np.maximum(values, 0))).astype(np.float32)
        near = min(10, len(target) - 2)
        X = room.PaCMAP(n_components=dim, n_neighbors=near, random_state=seed, apply_pca=False).fit_transform(
            points
        )
    X = np.asarray(X - X.mean(axis=0), np.float32)
    D = _distances(X, X)
    return X * np.float32((D * target).sum() / max(float((D**2).sum()), 1e-30))


def _classical(target: np.ndarray, dim: int, seed: int) -> np.ndarray:
    """Classical scaling: top eigenvectors of −½ H D² H. Directions without variance get a little noise, not
    zeros."""
    from scipy.sparse.linalg import LinearOperator, eigsh

    squares = target.astype(np.float64) ** 2
    n = len(target)
    if target.max() < RESOLVED:
        return np.zeros((n, dim), np.float32)  # all of them are one point

    def product(v: np.ndarray) -> np.ndarray:
        v = v - v.mean()
        out = -0.5 * (squares @ v)
        return out - out.mean()

    rng = np.random.default_rng([seed, 8])
    if dim < n - 1 and n > 3:
        operator: Any = LinearOperator((n, n), matvec=product, dtype=np.float64)  # type: ignore[call-arg]
        values, vectors = eigsh(operator, k=dim, which="LA", v0=rng.normal(size=n))
    else:
        centred = np.stack([product(e) for e in np.eye(n)])
        values, vectors = np.linalg.eigh((centred + centred.T) / 2)
        values, vectors = values[-dim:], vectors[:, -dim:]
    X = vectors[:, ::-1] * np.sqrt(np.maximum(values[::-1], 0))
    X = X * np.sign(X[np.abs(X).argmax(axis=0), np.arange(dim)] + 1e-30)
    return (X + 1e-3 * float(target.mean()) * rng.normal(size=X.shape)).astype(np.float32)


def _guttman(X: np.ndarray, target: np.ndarray) -> np.ndarray:
    """One majorisation step: B(X) X / N.

    Distances below what float32 products resolve are taken as that much: dividing by a 0 that is rounding
    throws near-copies apart.
    """
    out, floor = np.empty_like(X), max(1e-3 * float(np.sqrt((X**2).sum(axis=1).mean())), 1e-9)
    for rows in _row_blocks(len(target)):
        D = _distances(X[rows], X)
        np.maximum(D, floor, out=D)
        np.divide(target[rows], D, out=D)
        out[rows] = D.sum(axis=1, keepdims=True) * X[rows] - D @ X
    return out / np.float32(len(X))


def _distances(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Euclidean distances of centred float32 positions by one product; near-coincident points are exact to
    about 1e-3 of the spread, which is far below any stress."""
    total = A @ (-2 * B.T)
    total += np.einsum("ij,ij->i", A, A)[:, None]
    total += np.einsum("ij,ij->i", B, B)
    np.maximum(total, 0, out=total)
    return np.sqrt(total, out=total)


def _row_blocks(n: int) -> list[slice]:
    size = max(1, (8 << 20) // (4 * n))
    return [slice(k, min(k + size, n)) for k in range(0, n, size)]


def per_neuron(positions: np.ndarray, target: np.ndarray) -> np.ndarray:
    out = np.empty(len(target))
    for rows in _row_blocks(len(target)):
        D = _distances(positions[rows], positions)
        scale = np.maximum((target[rows].astype(np.float64) ** 2).sum(axis=1), 1e-30)
        out[rows] = np.sqrt(((D - target[rows]) ** 2).sum(axis=1, dtype=np.float64) / scale)
    return out
