"""Rows of a neuron study: poles, heatmaps, positions, cards."""

from typing import Any

import numpy as np

from transect.models import sites as names
from transect.numeric.moments import Moments
from transect.store.store import Store

CELLS = 96  # a sorted heatmap is kept as so many block means a side


def _poles(site: str, positions: np.ndarray, rho: np.ndarray, count: int = 5) -> list[dict[str, Any]]:
    """The neurons at both ends of the longest axis of a map, and how alike the ends are within and
    between."""
    centred = positions - positions.mean(axis=0)
    along = centred @ np.linalg.svd(centred, full_matrices=False)[2][0]
    order = np.argsort(along)
    count = min(count, len(order) // 2)
    ends = {"low": order[:count], "high": order[-count:]}
    between = float(rho[np.ix_(ends["low"], ends["high"])].mean())
    return [
        {
            "measure": "pole_rho",
            "site": site,
            "pole": name,
            "value": float(rho[np.ix_(end, end)].mean()),
            "between": between,
            "neurons": end.tolist(),
            "status": "ok",
        }
        for name, end in ends.items()
    ]


def _neighbours(rho: np.ndarray, order: np.ndarray) -> float:
    """Mean correlation of neurons that stand side by side."""
    return float(rho[order[:-1], order[1:]].mean())


def _heat(site: str, when: str, rho: np.ndarray) -> list[dict[str, Any]]:
    edges = np.linspace(0, len(rho), min(CELLS, len(rho)) + 1).astype(int)
    means = np.add.reduceat(np.add.reduceat(rho, edges[:-1], 0), edges[:-1], 1)
    means /= np.diff(edges)[:, None] * np.diff(edges)
    return [
        {
            "measure": "rho",
            "site": site,
            "order": when,
            "row": i,
            "col": j,
            "value": float(means[i, j]),
            "status": "ok",
        }
        for i in range(len(means))
        for j in range(len(means))
    ]


def _position_rows(store: Store, positions: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    axes = "xyzuvw"
    return [
        {"measure": "position", "run": store.name, "site": site, "neuron": i, "status": "ok"}
        | {axes[k]: float(v) for k, v in enumerate(point[: len(axes)])}
        for site, found in positions.items()
        for i, point in enumerate(found)
    ]


def _cards(store: Store, site: str, count: int, position0: bool, m: Moments) -> list[dict[str, Any]]:
    """The most heavy-tailed neurons of a block: mean, kurtosis, sparsity, nearest neuron, top token in
    context."""
    chosen = store.select("all", position0)
    X = store.take(site, chosen)
    centred = X - X.mean(axis=0, dtype=np.float64)
    var = (centred**2).mean(axis=0)
    flat = m.constant_x
    kurtosis = np.where(flat, -np.inf, (centred**4).mean(axis=0) / np.where(flat, 1, var) ** 2 - 3)
    rho = m.correlation
    np.fill_diagonal(rho, 0)
    rows = []
    heads = store.manifest["model"].get("heads") if names.family(site).endswith("attn.head") else None
    for i in np.argsort(-kurtosis)[:count].tolist():
        top = int(np.argmax(np.abs(X[:, i])))
        text, at = int(chosen.texts[top]), int(chosen.position[top])
        pieces = store.tokens(text)
        context = (
            "".join(pieces[max(0, at - 6) : at]) + "«" + pieces[at] + "»" + "".join(pieces[at + 1 : at + 4])
        )
        nearest = int(np.argmax(np.abs(rho[i])))
        rows.append(
            {
                "measure": "kurtosis",
                "site": site,
                "neuron": i,
                "value": float(kurtosis[i]),
                "mean": float(X[:, i].mean()),
                "active": float((np.abs(X[:, i]) > 0.1 * np.abs(X[:, i]).max()).mean()),
                "nearest": nearest,
                "nearest_rho": float(rho[i, nearest]),
                "head": i * heads // X.shape[1] if heads else None,
                "top": float(X[top, i]),
                "context": context,
                "status": "ok",
            }
        )
    return rows
