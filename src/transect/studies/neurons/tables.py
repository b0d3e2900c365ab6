"""Rows of a neuron study: poles, heatmaps, positions, cards."""

from typing import Any

import numpy as np

from transect.models import sites as names
from transect.store.store import Store

#: A sorted heatmap has so many lines and columns at most; beyond, each is the mean over several neurons.
CELLS = 256
#: Random sets of neurons beside the two poles.
SETS = 200


def poles(
    site: str,
    laid: dict[str, np.ndarray],
    rho: dict[str, np.ndarray],
    generator: np.random.Generator,
    count: int = 5,
) -> list[dict[str, Any]]:
    """The neurons at both ends of the longest axis of a map, and how alike the ends are within and between.

    laid, rho: positions [N, dim] and correlations [N, N] of the whole and of each half. The ends are named on
    the whole map; how alike they are is read where it was not sought: ends of one half's map in the other
    half's correlations, both ways averaged, beside random sets of as many neurons (mean and 95 %).
    """
    along = _along(laid["whole"])
    count = min(count, len(along) // 2)
    halves = [(_along(laid[f"half {k}"], along), rho[f"half {1 - k}"]) for k in (0, 1)]

    def read(sets: list[list[np.ndarray]]) -> np.ndarray:
        pairs = list(zip(sets, (matrix for _, matrix in halves), strict=True))
        inside = [[_within(matrix, end) for end in ends] for ends, matrix in pairs]
        between = [float(matrix[np.ix_(*ends)].mean()) for ends, matrix in pairs]
        return np.array([*np.mean(inside, axis=0), np.mean(between)])

    low, high, between = read([_ends(axis, count) for axis, _ in halves])
    drawn = [generator.permutation(len(along))[: 2 * count] for _ in range(SETS)]
    null = np.array([read([[d[:count], d[count:]]] * 2) for d in drawn])
    inner, outer = null[:, :2].ravel(), null[:, 2]
    return [
        {
            "measure": "pole_rho",
            "site": site,
            "pole": name,
            "value": float(value),
            "null": float(inner.mean()),
            "null_low": float(np.quantile(inner, 0.025)),
            "null_high": float(np.quantile(inner, 0.975)),
            "between": float(between),
            "between_null": float(outer.mean()),
            "between_null_low": float(np.quantile(outer, 0.025)),
            "between_null_high": float(np.quantile(outer, 0.975)),
            "neurons": end.tolist(),
            "control": "random neurons",
            "draws": SETS,
            "status": "ok",
        }
        for name, value, end in zip(("low", "high"), (low, high), _ends(along, count), strict=True)
    ]


def _along(positions: np.ndarray, like: np.ndarray | None = None) -> np.ndarray:
    """Places along the longest axis [N], in the sense of another map's."""
    centred = positions - positions.mean(axis=0)
    along = centred @ np.linalg.svd(centred, full_matrices=False)[2][0]
    return -along if like is not None and along @ like < 0 else along


def _ends(along: np.ndarray, count: int) -> list[np.ndarray]:
    order = np.argsort(along)
    return [order[:count], order[-count:]]


def _within(rho: np.ndarray, members: np.ndarray) -> float:
    """Mean correlation of the pairs of a set; 1 for a set of one."""
    pairs = rho[np.ix_(members, members)][np.triu_indices(len(members), 1)]
    return float(pairs.mean()) if len(pairs) else 1.0


def heat(site: str, when: str, rho: np.ndarray) -> list[dict[str, Any]]:
    """A heatmap line by line: all ρ, or their means over pairs of different neurons where there are more than
    256. `first` and `last` are the places in the order that a line stands for; None is a neuron with itself.
    """
    edges = np.linspace(0, len(rho), min(CELLS, len(rho)) + 1).astype(int)
    apart = rho - np.diag(np.diagonal(rho))
    sums = np.add.reduceat(np.add.reduceat(apart, edges[:-1], 0), edges[:-1], 1)
    size = np.diff(edges)
    pairs = np.outer(size, size) - np.diag(size)
    means = np.round(sums / np.maximum(pairs, 1), 4)
    return [
        {
            "measure": "rho",
            "site": site,
            "order": when,
            "row": i,
            "first": int(edges[i]),
            "last": int(edges[i + 1]) - 1,
            "values": [m if n else None for m, n in zip(line.tolist(), pairs[i].tolist(), strict=True)],
            "status": "ok",
        }
        for i, line in enumerate(means)
    ]


def position_rows(store: Store, positions: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    axes = "xyzuvw"
    return [
        {"measure": "position", "run": store.name, "site": site, "neuron": i, "status": "ok"}
        | {axes[k]: float(v) for k, v in enumerate(point[: len(axes)])}
        for site, arrays in positions.items()
        for i, point in enumerate(arrays)
    ]


def cards(
    store: Store, site: str, count: int, position0: bool, rho: np.ndarray, constant: np.ndarray
) -> list[dict[str, Any]]:
    """The most heavy-tailed neurons of a block: mean, kurtosis, sparsity, nearest neuron, top token in
    context."""
    selection = store.select("all", position0)
    X = store.take(site, selection)
    centred = X - X.mean(axis=0, dtype=np.float64)
    var = (centred**2).mean(axis=0)
    flat = constant
    kurtosis = np.where(flat, -np.inf, (centred**4).mean(axis=0) / np.where(flat, 1, var) ** 2 - 3)
    rows = []
    heads = store.manifest["model"].get("heads") if names.family(site).endswith("attn.head") else None
    for i in np.argsort(-kurtosis)[:count].tolist():
        top = int(np.argmax(np.abs(X[:, i])))
        text, at = int(selection.texts[top]), int(selection.position[top])
        pieces = store.tokens(text)
        context = (
            "".join(pieces[max(0, at - 6) : at]) + "«" + pieces[at] + "»" + "".join(pieces[at + 1 : at + 4])
        )
        nearest = int(np.argmax(np.where(np.arange(len(rho)) == i, 0, np.abs(rho[i]))))
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
