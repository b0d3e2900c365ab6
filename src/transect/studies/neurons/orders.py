"""Orders of neurons on a line: alike ones side by side."""

from typing import Any, Literal

import numpy as np

from transect.numeric.mds import targets
from transect.random import rng


def seriate(rho: np.ndarray, method: Literal["leaf", "spectral"] = "leaf") -> np.ndarray:
    """An order of the neurons that puts correlated ones side by side: int [N].

    leaf: leaves of average linkage on 1 − ρ, every two clusters joined at their closest ends (Gruvaeus &
    Wainer 1972); scipy's optimal_leaf_ordering is cubic and sorted no better wherever it was tried.
    spectral: order of the Fiedler vector of the graph with weights (1 + ρ)/2 (Atkins et al. 1998), by
    Lanczos iteration. Raises: TransectError for ρ that is not square, finite and symmetric.
    """
    return _leaves(targets(rho)) if method == "leaf" else np.argsort(_fiedler(rho), kind="stable")


def neighbour_rho(rho: np.ndarray, order: np.ndarray) -> float:
    """Mean correlation of neurons that stand side by side, −1 to 1."""
    return float(rho[order[:-1], order[1:]].mean())


def order_cost(order: np.ndarray, rho: np.ndarray) -> float:
    """The replaced program's loss Σ D·C of an order on an even line of length √N, C = (1 − ρ)/2; for
    comparison only.

    With free positions it is smallest when all collapse. On a fixed line it is smallest when uncorrelated
    neurons stand side by side: C weighs exactly the pairs that should be far apart, so sorting by correlation
    raises it.
    """
    place = np.empty(len(order))
    place[order] = np.linspace(0, np.sqrt(len(order)), len(order))
    upper = np.triu_indices(len(order), 1)
    return float((np.abs(place[:, None] - place)[upper] * ((1 - rho) / 2)[upper]).sum())


# below: helpers in reading order


def _leaves(target: np.ndarray) -> np.ndarray:
    from scipy.cluster.hierarchy import linkage
    from scipy.spatial.distance import squareform

    condensed = squareform(target.astype(np.float64), checks=False)
    merges, n = linkage(condensed, "average"), len(target)
    runs = {k: np.array([k]) for k in range(n)}
    for step, (i, j) in enumerate(merges[:, :2].astype(int).tolist()):
        left, right = runs.pop(i), runs.pop(j)
        gaps = target[np.ix_(left[[0, -1]], right[[0, -1]])]
        begin, end = np.unravel_index(int(np.argmin(gaps)), gaps.shape)
        runs[n + step] = np.concatenate([left if begin else left[::-1], right[::-1] if end else right])
    return runs[2 * n - 2]


def _fiedler(rho: np.ndarray) -> np.ndarray:
    """Second eigenvector of the normalised graph, float64 [N]; the first, known, is projected out.

    The weights W = (1 + ρ)/2 without their diagonal are never formed: W v = (Σv + ρv)/2 − v. ρv is taken in
    ρ's own type: a float32 matrix is not copied for each product.
    """
    from scipy.sparse.linalg import LinearOperator, eigsh

    targets(rho)
    n, diagonal = len(rho), np.diagonal(rho)
    degree = np.maximum((n + rho.sum(axis=1) - diagonal - 1) / 2, 1e-12)
    root, first = 1 / np.sqrt(degree), np.sqrt(degree / degree.sum())

    def product(v: np.ndarray) -> np.ndarray:
        along = first @ v
        x = root * (v - first * along)
        out = root * ((x.sum() + rho @ x.astype(rho.dtype)) / 2 - (1 + diagonal) / 2 * x)
        return out - first * (first @ out + 2 * along)  # eigenvalue −2: below all others

    if n < 4:
        return np.linalg.eigh(np.stack([product(e) for e in np.eye(n)]))[1][:, -1] * root
    operator: Any = LinearOperator((n, n), matvec=product, dtype=np.float64)  # type: ignore[call-arg]
    options: Any = {"v0": rng(0, "seriate").normal(size=n), "tol": 1e-6}
    return eigsh(operator, k=1, which="LA", **options)[1][:, 0] * root
