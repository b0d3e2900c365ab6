"""Neurons by what they do: correlations over a whole data set, and positions whose distances are 1 − ρ.

Positions come with their stress and the stress of a control without structure, and are laid out by SMACOF
from classical scaling. `orders` sorts neurons on a line, `positions` reads and writes maps.
"""

from typing import Any, Literal, NamedTuple

import numpy as np

from transect.errors import TransectError
from transect.inference.accumulators import split_moments, store_moments
from transect.numeric.mds import per_neuron, scaled, stress, targets
from transect.numeric.moments import Moments, prompt_average
from transect.random import rng
from transect.store.store import Store
from transect.studies.neurons.orders import neighbour_rho, order_cost, seriate
from transect.studies.neurons.positions import load_positions, save_positions

__all__ = [
    "Projection", "align", "constant", "correlation", "load_positions", "neighbour_rho", "order_cost",
    "project", "reproducibility", "save_positions", "seriate", "stress",
]  # fmt: skip


class Projection(NamedTuple):
    """positions [N, dim]; stress and control_stress: √(Σ(D − D̂)²/ΣD²), 0 to about 1; per_neuron [N] the same
    by neuron."""

    positions: np.ndarray
    stress: float
    control_stress: float
    per_neuron: np.ndarray


def correlation(
    store: Store,
    site: str,
    site2: str | None = None,
    *,
    kind: Literal["pearson", "spearman", "absolute", "prompt"] = "pearson",
    position0: bool = True,
) -> np.ndarray:
    """Correlation of every two neurons over all tokens of a store, float64 [N, N] (or [N, M] with `site2`),
    −1 to 1.

    pearson: exact, streamed in blocks, sums in float64. spearman: of ranks over all tokens, which must fit in
    memory. absolute: |pearson|. prompt: the mean over texts of the correlation within each. A constant neuron
    has ρ = 0 with all others (`constant` names them) and 1 with itself. position0=False leaves out the first
    token of every text.
    """
    if kind == "prompt":
        if site2 is not None:
            raise TransectError("prompt averages are taken within one site.", "Leave site2 out.")
        return _own_diagonal(prompt_average(_texts(store, site, position0)))
    if kind == "spearman":
        return _spearman(store, site, site2, position0)
    rho = store_moments(store, site, site2, position0=position0).correlation
    rho = rho if site2 is not None else _own_diagonal(rho)
    return np.abs(rho) if kind == "absolute" else rho


def constant(store: Store, site: str, *, position0: bool = True) -> np.ndarray:
    """Indices of the neurons that never change."""
    return np.flatnonzero(store_moments(store, site, position0=position0).constant_x)


def project(
    rho: np.ndarray,
    dim: int = 3,
    *,
    seed: int = 0,
    method: Literal["smacof", "classical", "umap", "pacmap"] = "smacof",
    control: np.ndarray | None = None,
    max_iter: int = 300,
    tol: float = 1e-4,
) -> Projection:
    """Positions [N, dim] whose distances match 1 − ρ, with their stress and a control's.

    smacof: majorisation from classical scaling (de Leeuw 1977), over-relaxed (de Leeuw & Heiser 1980);
    classical: classical scaling alone (Torgerson 1952); umap: UMAP on the same distances (McInnes et al.
    2018, arXiv:1802.03426; the extra `maps`); pacmap: PaCMAP (Wang et al. 2021, arXiv:2012.04456; same extra)
    of points whose squared distances are 2(1 − ρ). Both keep neighbourhoods and not distances, so that their
    stress is only for comparison. control: a correlation matrix without structure, such as that of shuffled
    columns; by default the entries of ρ in random order. Neurons without a defined ρ raise; dim must be below
    N.
    """
    target = targets(rho)
    if not 1 <= dim < len(target):
        raise TransectError(
            f"project: dim = {dim} for {len(target)} neurons.", f"Choose 1 to {len(target) - 1}."
        )
    positions = scaled(target, dim, seed, method, max_iter, tol)
    null = _shuffled(target, seed) if control is None else targets(control)
    flat = scaled(null, dim, seed, method, max_iter, tol)
    per = per_neuron(positions, target)
    return Projection(positions, stress(positions, target), stress(flat, null), per)


def align(positions: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, float]:
    """Positions turned, mirrored, moved and scaled onto a reference, and the Procrustes correlation √(1 −
    d²), 0 to 1; of maps that are one point, 1 where both are."""
    if positions.shape != reference.shape:
        raise TransectError(
            f"maps of shape {positions.shape} and {reference.shape} cannot be aligned.",
            "Same neurons, same dim.",
        )
    A, B = positions - positions.mean(0), reference - reference.mean(0)
    if not (A.any() and B.any()):
        return reference.copy(), float(not A.any() and not B.any())
    U, S, Vt = np.linalg.svd(A.T @ B)
    scale = S.sum() / (A**2).sum()
    agreement = float(S.sum() / np.sqrt((A**2).sum() * (B**2).sum()))
    return scale * A @ (U @ Vt) + reference.mean(0), agreement


def reproducibility(store: Store, site: str, dim: int = 3, *, seed: int = 0, position0: bool = True) -> float:
    """Procrustes correlation of the maps drawn from two halves of the texts, 0 to 1; the seed draws them."""
    halves = split_moments(store, site, position0=position0, seed=seed).halves
    rho = [_own_diagonal(half.correlation) for half in halves]
    return align(*(scaled(targets(r), dim, seed, "smacof", 300, 1e-4) for r in rho))[1]


# below: helpers in reading order


def _texts(store: Store, site: str, position0: bool) -> Any:
    for i in range(len(store)):
        X = store.sample(i, site)
        yield X if position0 else X[1:]


def _spearman(store: Store, site: str, site2: str | None, position0: bool) -> np.ndarray:
    from scipy.stats import rankdata

    from transect.numeric.moments import Accumulator

    need = len(store.select("all", position0)) * store.width(site) * 8
    if need > 4 << 30:
        raise TransectError(
            f"spearman: ranks of {site} need {need / 1e9:.0f} GB.",
            "Use kind='pearson', or capture fewer tokens.",
        )
    ranked = [
        rankdata(store.points(s, position0=position0), axis=0).astype(np.float32) for s in (site, site2) if s
    ]
    moments: Moments = (
        Accumulator(ranked[0].shape[1], ranked[1].shape[1] if site2 else None).update(*ranked).freeze()
    )
    return moments.correlation if site2 else _own_diagonal(moments.correlation)


def _own_diagonal(rho: np.ndarray) -> np.ndarray:
    np.fill_diagonal(rho, 1.0)
    return rho


def _shuffled(target: np.ndarray, seed: int) -> np.ndarray:
    upper = np.triu_indices(len(target), 1)
    out = np.zeros_like(target)
    out[upper] = rng(seed, "shuffled targets").permutation(target[upper])
    return out + out.T
