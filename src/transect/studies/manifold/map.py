"""The map: supervised MDS at every site × token, with group folds and a permutation null, from one
factorisation a fold.

For fixed points and folds, W is linear in the targets: Wᵀ = M·Y, where M [d, label values] comes from one
Cholesky factor of the smaller Gram. Every shape, label set and permutation is then a right-hand side Y,
placed on units (label values within groups), not on rows. A block is one site; it is a pure function of its
job and is kept under its key.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from transect.errors import TransectError
from transect.numeric.scaling import pseudo_inverse
from transect.numeric.stress import scale_normalised
from transect.store.store import Store
from transect.studies.manifold.plan import MapJob, Plan, Wanted, plan_of

#: Draws of the null for which the variance share is taken too.
SHARES = 5


@dataclass(frozen=True)
class Prepared:
    """One fold of one cell after its factorisation: held-out points, the map M and the cross-moment XᵀE of
    label values."""

    held: np.ndarray
    M: np.ndarray
    cross: np.ndarray
    hat: np.ndarray  # held · M in float32: what the null's right-hand sides are multiplied by


def prepare(X: np.ndarray, plan: Plan, k: int) -> Prepared:
    """The one factorisation of a cell and fold. Centre and scale come from the training rows alone."""
    from scipy.linalg import cho_factor, cho_solve

    fold, alpha = plan.folds[k], plan.job.alpha
    train = X[fold.train[fold.order]].astype(np.float64)  # rows sorted by unit
    mean = train.mean(axis=0)
    train -= mean
    size = size_of(train, plan.job.scale)
    train /= size
    starts = np.concatenate([[0], np.cumsum(fold.counts)[:-1]])
    cross = np.add.reduceat(train, starts, axis=0).T
    n, d = train.shape
    if alpha == 0:
        M = np.add.reduceat(pseudo_inverse(train), starts, axis=1)
    elif d <= n:
        M = cho_solve(cho_factor(train.T @ train + alpha * np.eye(d), overwrite_a=True), cross)
    else:
        E = np.repeat(np.eye(len(fold.counts)), fold.counts, axis=0)
        M = train.T @ cho_solve(cho_factor(train @ train.T + alpha * np.eye(n), overwrite_a=True), E)
    held = (X[fold.test] - mean) / size
    return Prepared(held, M, cross, (held @ M).astype(np.float32))


def size_of(train: np.ndarray, scale: str) -> Any:
    """What centred training rows are divided by: one number, one a feature, or 1."""
    if scale == "unit":
        return np.sqrt((train**2).mean())
    if scale == "standard":
        spread = train.std(axis=0)
        return np.where(spread > 0, spread, 1.0)
    return 1.0


def fitted_map(prepared: Prepared, Y: np.ndarray, kind: str) -> np.ndarray:
    """Wᵀ [draws, d, k] for targets Y [draws, values, k]."""
    side = prepared.cross if kind == "orthonormal" else prepared.M
    W = (
        (side @ Y.transpose(1, 0, 2).reshape(side.shape[1], -1))
        .reshape(len(side), len(Y), -1)
        .transpose(1, 0, 2)
    )
    if kind != "orthonormal":
        return W
    values, vectors = np.linalg.eigh(np.swapaxes(W, 1, 2) @ W)
    root = np.where(values > 1e-12 * values[:, -1:], 1 / np.sqrt(np.maximum(values, 1e-300)), 0.0)
    return W @ (vectors * root[:, None]) @ np.swapaxes(vectors, 1, 2)


def null_scores(Z: np.ndarray, pairs: tuple[np.ndarray, np.ndarray], wanted: Wanted) -> np.ndarray:
    """Scores of all draws at once: Z [k, held-out rows, draws] in float32."""
    draws = Z.shape[2]
    dot, size = np.zeros(draws), np.zeros(draws)
    for begin in range(0, len(wanted.D), 256):
        D = wanted.D[begin : begin + 256]
        i, j = (side[begin : begin + 256] for side in pairs)
        d2 = np.zeros_like(D)
        for component in Z:
            gap = component[i]
            gap -= component[j]
            gap *= gap
            d2 += gap
        if wanted.known is not None:
            d2 *= wanted.known[begin : begin + 256]
        size += d2.sum(axis=0)
        np.sqrt(d2, out=d2)
        d2 *= D
        dot += d2.sum(axis=0)
    bound = size * wanted.total
    cosine2 = np.divide(dot**2, bound, out=np.zeros(draws), where=bound > 0)
    return 1 - np.sqrt(np.clip(1 - cosine2, 0, 1))


def evaluate_cell(prepared: list[Prepared], plan: Plan, name: str, kind: str) -> dict[str, Any]:
    """Scores of every fold (all pairs), the statistic and its null (the null's pairs, first repeat), variance
    shares."""
    from scipy.spatial.distance import pdist

    scores, nulls, shares, null_shares, rank = [], [], [], [], plan.job.n_components
    for k, (fold, cell) in enumerate(zip(plan.folds, prepared, strict=True)):
        Y = plan.targets(name, k)
        held, null_wanted = plan.wanted(name, k)
        if kind == "orthonormal":
            maps = fitted_map(cell, Y, kind)
            Z = np.einsum("nd,bdk->knb", cell.held, maps, optimize=True)
        else:
            A = cell.hat
            flat = A @ np.ascontiguousarray(Y.transpose(1, 2, 0), np.float32).reshape(len(Y[0]), -1)
            Z = flat.reshape(len(A), Y.shape[2], len(Y)).transpose(1, 0, 2)
            maps = fitted_map(cell, Y[: 1 + SHARES], kind)
        rank = min(rank, int((np.abs(Y[0]).max(axis=0) > 1e-9 * np.abs(Y[0]).max()).sum()))
        scores.append(1 - scale_normalised(held, pdist(cell.held @ maps[0])))
        parts = _shares(cell.held, maps[: 1 + SHARES])
        shares.append(parts[0])
        if fold.repeat == 0:
            nulls.append(null_scores(np.ascontiguousarray(Z, np.float32), fold.pairs, null_wanted))
            null_shares.append(np.mean(parts[1:]) if len(parts) > 1 else np.nan)
    null = np.mean(nulls, axis=0)
    answer = {"scores": scores, "statistic": float(null[0]), "null": null[1:].tolist(), "rank": rank}
    return answer | {
        "share": float(np.mean(shares)),
        "null_share": _number(np.mean(null_shares)),
        "status": "ok",
    }


def _shares(X: np.ndarray, W: np.ndarray) -> np.ndarray:
    """Share of the held-out points' spread about the training mean that lies in the span of each W [draws, d,
    k]."""
    Z = (X @ W.transpose(1, 0, 2).reshape(len(W[0]), -1)).reshape(len(X), len(W), -1).transpose(1, 0, 2)
    inverse = np.linalg.pinv(W.transpose(0, 2, 1) @ W, rcond=1e-12, hermitian=True)
    return np.einsum("bij,bji->b", inverse, Z.transpose(0, 2, 1) @ Z) / float((X**2).sum())


def _number(x: Any) -> float | None:
    return float(x) if np.isfinite(x) else None


def evaluate_site(task: tuple[MapJob, str]) -> dict[str, Any]:
    """All cells of one site: token → "kind shape" → results."""
    from threadpoolctl import threadpool_limits

    job, site = task
    store, plan = plan_of(job)
    answer: dict[str, Any] = {}
    with threadpool_limits(
        1
    ):  # sites run side by side; two threads on matrices of this size cost more than one
        source = _prepared(store, plan, site, job.source) if job.source and "reuse" in job.kinds else None
        for token in job.tokens:
            cell = _prepared(store, plan, site, token)
            answer[token] = {}
            for kind in job.kinds:
                for name, _ in job.shapes if kind == "free" else job.shapes[:1]:
                    answer[token][f"{kind} {name}"] = _attempt(plan, cell, source, name, kind)
    return answer


def _attempt(
    plan: Plan, cell: list[Prepared] | str, source: list[Prepared] | str | None, name: str, kind: str
) -> dict[str, Any]:
    shape = plan.shapes[name]
    if isinstance(shape, TransectError):
        return {"status": str(shape)}
    if isinstance(cell, str):
        return {"status": cell}
    if kind == "reuse":
        if not isinstance(source, list):
            return {"status": f"source: {source}"}
        cell = [
            Prepared(trained.held, its.M, its.cross, (trained.held @ its.M).astype(np.float32))
            for trained, its in zip(cell, source, strict=True)
        ]
    try:
        return evaluate_cell(cell, plan, name, kind)
    except TransectError as error:
        return {"status": str(error)}


def _prepared(store: Store, plan: Plan, site: str, token: str) -> list[Prepared] | str:
    """Every fold of a cell after its factorisation, or why the cell cannot be computed."""
    selection = store.select(token)
    if selection.missing:
        return f"{len(selection.missing)} of {len(store)} texts have no such token"
    X = store.take(site, selection)
    if not np.isfinite(X).all():
        return f"{int((~np.isfinite(X)).any(axis=1).sum())} points are not finite"
    if not np.ptp(X, axis=0).max() > 1e-6 * max(float(np.abs(X).max()), 1e-30):
        return "the points are the same in all texts"
    try:
        return [prepare(X, plan, k) for k in range(len(plan.folds))]
    except np.linalg.LinAlgError:
        return f"the Gram matrix is singular at alpha {plan.job.alpha}"
