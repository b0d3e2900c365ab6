"""Neurons by what they do: correlations over a whole data set, and positions whose distances are 1 − ρ.

Positions come with their stress, the stress of a control without structure, and are drawn by SMACOF from
classical scaling; an order on a line comes from spectral seriation, since the sum Σ D·C is smallest when all
points collapse.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from transect.errors import TransectError
from transect.inference.accumulators import store_moments
from transect.numeric.mds import per_neuron, scaled, stress
from transect.numeric.moments import Moments, prompt_average
from transect.random import rng
from transect.store.store import Store

OUTPUTS = re.compile(r"(mlp|attn)\.\d+\.out")


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
    target = _target(rho)
    if not 1 <= dim < len(target):
        raise TransectError(
            f"project: dim = {dim} for {len(target)} neurons.", f"Choose 1 to {len(target) - 1}."
        )
    positions = scaled(target, dim, seed, method, max_iter, tol)
    null = _shuffled(target, seed) if control is None else _target(control)
    flat = scaled(null, dim, seed, method, max_iter, tol)
    per = per_neuron(positions, target)
    return Projection(positions, stress(positions, target), stress(flat, null), per)


def align(positions: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, float]:
    """Positions turned, mirrored, moved and scaled onto a reference, and the Procrustes correlation √(1 −
    d²), 0 to 1."""
    if positions.shape != reference.shape:
        raise TransectError(
            f"maps of shape {positions.shape} and {reference.shape} cannot be aligned.",
            "Same neurons, same dim.",
        )
    A, B = positions - positions.mean(0), reference - reference.mean(0)
    U, S, Vt = np.linalg.svd(A.T @ B)
    scale = S.sum() / (A**2).sum()
    agreement = float(S.sum() / np.sqrt((A**2).sum() * (B**2).sum()))
    return scale * A @ (U @ Vt) + reference.mean(0), agreement


def reproducibility(store: Store, site: str, dim: int = 3, *, seed: int = 0, position0: bool = True) -> float:
    """Procrustes correlation of the maps drawn from two halves of the texts, 0 to 1."""
    halves = [
        _own_diagonal(store_moments(store, site, half=h, position0=position0).correlation) for h in (0, 1)
    ]
    maps = [scaled(_target(rho), dim, seed, "smacof", 300, 1e-4) for rho in halves]
    return align(*maps)[1]


def seriate(rho: np.ndarray, method: Literal["spectral", "leaf"] = "spectral") -> np.ndarray:
    """An order of the neurons that puts correlated ones side by side: int [N].

    spectral: order of the Fiedler vector of the graph with weights (1 + ρ)/2 (Atkins et al. 1998); leaf:
    average linkage on 1 − ρ with optimal leaf ordering (Bar-Joseph et al. 2001), cubic in N.
    """
    target = _target(rho)
    if method == "leaf":
        from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
        from scipy.spatial.distance import squareform

        condensed = squareform(target.astype(np.float64), checks=False)
        return leaves_list(optimal_leaf_ordering(linkage(condensed, "average"), condensed))
    from scipy.linalg import eigh

    weights = 1 - target.astype(np.float64) / 2
    np.fill_diagonal(weights, 0)
    degree = weights.sum(axis=1)
    root = 1 / np.sqrt(np.maximum(degree, 1e-12))
    _, vectors = eigh(np.eye(len(target)) - root[:, None] * weights * root, subset_by_index=[1, 1])
    return np.argsort(vectors[:, 0] * root, kind="stable")


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


def save_positions(
    path: str | Path,
    positions: Mapping[str, np.ndarray],
    *,
    layout: Literal["sites", "modules"] = "sites",
    **origin: Any,
) -> Path:
    """Positions of several sites as safetensors, float32 [N, dim], origin in the metadata.

    sites: named by site. modules: `model.layers.3.mlp.neuron_projections` and
    `….self_attn.neuron_projections`, as the program Transformer Projector reads them; it knows block outputs
    alone, so that other sites than `mlp.out` and `attn.out` are refused.
    """
    from safetensors.numpy import save

    from transect.files import write_bytes

    if layout == "modules" and (odd := [s for s in positions if not OUTPUTS.fullmatch(s)]):
        raise TransectError(f"{odd[0]} is not the output of a block.", "Lay out mlp.out and attn.out.")
    named = {_module_of(site) if layout == "modules" else site: p for site, p in positions.items()}
    data = {name: np.ascontiguousarray(p, np.float32) for name, p in named.items()}
    write_bytes(Path(path), save(data, {k: str(v) for k, v in origin.items()}))
    return Path(path)


def load_positions(path: str | Path, store: Store | None = None) -> dict[str, np.ndarray]:
    """Positions from safetensors, by site: both layouts of `save_positions`, a checkpoint of
    Transformer Projector, or any file of [N, dim] tensors whose names hold a layer number and mlp or attn.

    With a store, sites that it does not hold or that have another width are refused.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        found = load_file(path)
    except (OSError, SafetensorError) as error:
        raise TransectError(
            f"{path}: not a readable safetensors file ({error}).", "Check the path."
        ) from error
    learned = {key: value for key, value in found.items() if "neuron_projection" in key}
    named = {_site_of(key): value for key, value in (learned or found).items() if value.ndim == 2}
    for site, value in named.items() if store else ():
        assert store is not None
        if store.width(site) != len(value):
            raise TransectError(
                f"{path}: {site} has {len(value)} neurons, the store {store.width(site)}.",
                "It belongs to another model.",
            )
    return named


# below: helpers in reading order


def _module_of(site: str) -> str:
    block, layer, _ = site.split(".")
    return f"model.layers.{layer}.{'self_attn' if block == 'attn' else block}.neuron_projections"


def _site_of(key: str) -> str:
    from transect.models.sites import SITE

    if SITE.match(key):
        return key
    number, kind = re.search(r"\d+", key), re.search(r"mlp|attn|attention", key)
    if not number or not kind:
        raise TransectError(f"{key!r} names no layer and block.", "Name tensors like mlp.3.out.")
    return f"{'mlp' if kind[0] == 'mlp' else 'attn'}.{number[0]}.out"


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


def _target(rho: np.ndarray) -> np.ndarray:
    """Target distances 1 − ρ as float32, checked."""
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


def _shuffled(target: np.ndarray, seed: int) -> np.ndarray:
    upper = np.triu_indices(len(target), 1)
    out = np.zeros_like(target)
    out[upper] = rng(seed, "shuffled targets").permutation(target[upper])
    return out + out.T
