"""Subspaces of the manifold study: how alike those of two tokens are, and the points of one in its fitted
plane."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from transect.store.store import Store
from transect.studies.manifold.fit import fit_at
from transect.studies.manifold.map import fitted_map, prepare
from transect.studies.manifold.plan import MapJob, Plan, plan_for
from transect.studies.manifold.positions import Column

#: Permuted fits behind the null of a similarity.
DRAWS = 20


def similarity(
    store: Store, job: MapJob, columns: Sequence[Column], sites: Sequence[str]
) -> list[dict[str, Any]]:
    """For every two tokens of a site: |cosine| of their W, principal angles of their subspaces, each with its
    null.

    Fits use the training rows of the first fold. Null: the second token's W fitted to permuted labels.
    """
    plan = plan_for(store, job)
    name = job.shapes[0][0]
    Y = plan.targets(name, 0)[: 1 + DRAWS]
    base = {"measure": "subspace_similarity", "run": store.name, "shape": name, "control": "permuted labels"}
    base |= {
        "label": "/".join(job.label),
        "n": len(plan.folds[0].train),
        "n_texts": len(store),
        "design": "one fold",
    }
    rows = []
    for site in sites:
        maps = {c.token: _maps(store, plan, site, c, Y) for c in columns}
        for k, c in enumerate(columns):
            for j, other in enumerate(columns[k:], k):
                row = base | {"site": site, "site2": site, "token": c.token, "token2": other.token}
                row |= {"piece": c.piece, "piece2": other.piece, "column": k, "column2": j}
                row |= {"landmark": c.landmark}
                rows.append(row | _alike(maps[c.token], maps[other.token]))
    return rows


def _maps(
    store: Store, plan: Plan, site: str, column: Column, Y: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | str:
    """(unit W, orthonormal bases) of a token for every draw of labels, or why there are none."""
    if column.status != "ok":
        return column.status
    X = store.take(site, store.select(column.token))
    if not np.ptp(X, axis=0).max() > 0:
        return "the points are the same in all texts"
    W = fitted_map(prepare(X, plan, 0), Y, "free")
    flat = W.reshape(len(W), -1)
    return flat / np.linalg.norm(flat, axis=1, keepdims=True), np.linalg.svd(W, full_matrices=False)[0]


def _alike(one: Any, other: Any) -> dict[str, Any]:
    for side in (one, other):
        if isinstance(side, str):
            return {"status": side}
    cosines = np.abs(other[0] @ one[0][0])
    s = np.clip(np.linalg.svd(one[1][0].T @ other[1], compute_uv=False), 0, 1)
    overlap, angles = (s**2).mean(axis=1), np.degrees(np.arccos(s))
    row = {
        "value": cosines[0],
        "null": cosines[1:].mean(),
        "p": (1 + (cosines[1:] >= cosines[0]).sum()) / len(cosines),
    }
    row |= {"overlap": overlap[0], "overlap_null": overlap[1:].mean(), "status": "ok"}
    return row | {
        "angle_first": angles[0, 0],
        "angle_last": angles[0, -1],
        "angle_last_null": angles[1:, -1].mean(),
    }


def scatter(
    store: Store, job: MapJob, at: tuple[str, str], orthonormal: bool = False
) -> list[dict[str, Any]]:
    """Held-out texts of the first fold in the subspace fitted on its other texts, beside where their labels
    belong."""
    fit = fit_at(store, job, *at, orthonormal=orthonormal)
    y, fold, name = fit.labels, fit.fold, job.shapes[0][0]
    Z, ideal = fit.model.transform(fit.points[fold.test]), fit.model.place(y[fold.test])
    level = fit.model.score(fit.points[fold.test], y[fold.test])
    shown = y[fold.test] if y.ndim == 1 else y[fold.test, 0]
    base = {
        "measure": "scatter",
        "run": store.name,
        "site": at[0],
        "token": at[1],
        "shape": name,
        "status": "ok",
    }
    base |= {
        "n": len(Z),
        "n_texts": len(store),
        "value": level,
        "label": "/".join(job.label),
        "design": "held out",
    }
    return [
        base
        | {"sample": store.ids[i], "label_value": value.item()}
        | {f"z{a + 1}": float(v) for a, v in enumerate(z)}
        | {f"ideal{a + 1}": float(v) for a, v in enumerate(w)}
        for i, value, z, w in zip(fold.test, shown, Z, ideal, strict=True)
    ]
