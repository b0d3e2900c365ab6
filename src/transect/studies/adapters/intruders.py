"""Intruders: leading singular vectors of W + ΔW that no singular vector of W resembles, beside random ΔW of
the same spectrum.

Source: Shuttleworth et al. 2024, arXiv:2410.21228.
"""

import hashlib
from typing import Any, NamedTuple

import numpy as np

from transect.random import rng
from transect.studies.adapters.changes import LAYER, Change
from transect.work.keys import key_of


class Sought(NamedTuple):
    """One task: the change of one matrix, and what an intruder is."""

    run: str
    change: Change
    top: int
    threshold: float
    draws: int
    seed: int

    def key(self) -> str:
        """Name of the task's answer."""
        digest = hashlib.sha256()
        for array in (self.change.left, self.change.values, self.change.right, self.change.weight):
            digest.update(np.ascontiguousarray(array).data)
        return key_of([self.run, self.change.name, *self[2:], digest.hexdigest()], __name__)


def is_sought(change: Change) -> bool:
    """Whether a change is one of a matrix inside a block."""
    return min(change.weight.shape) > 1 and LAYER.search(change.name) is not None


def delta(change: Change) -> np.ndarray:
    """ΔW, float64 [m, n]."""
    return (change.left * change.values) @ change.right


def leading(W: np.ndarray, k: int | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The k largest singular values of W (all without k) with their vectors: left [m, k], values [k], right
    [k, n], by the smaller Gram matrix; vectors of values that are rounding are 0."""
    wide = W.shape[0] < W.shape[1]
    square, vectors = np.linalg.eigh(W @ W.T if wide else W.T @ W)
    order = np.argsort(square)[::-1][:k]
    values = np.sqrt(np.maximum(square[order], 0))
    basis = vectors[:, order]
    size = np.where(values > 1e-7 * max(float(values[0]), 1e-300), values, np.inf)
    other = ((W.T if wide else W) @ basis) / size
    return (basis, values, other.T) if wide else (other, values, basis.T)


def resemblance(left: np.ndarray, tuned: np.ndarray) -> np.ndarray:
    """Largest |cosine| of each column of `tuned` [m, k] with a column of `left` [m, r], 0 to 1."""
    return np.abs(left.T @ tuned).max(axis=0)


def sought(task: Sought) -> list[dict[str, Any]]:
    """A row a leading vector of W + ΔW, and the number of intruders among them, each beside random ΔW."""
    change = task.change
    W = change.weight.astype(np.float64)
    left, k = leading(W)[0], min(task.top, *W.shape)
    tuned, values, _ = leading(W + delta(change), k)
    cosines = resemblance(left, tuned)
    draws = np.array(
        [resemblance(left, leading(W + _random(change, task.seed, d), k)[0]) for d in range(task.draws)]
    )
    counts = (draws < task.threshold).sum(axis=1)
    base: dict[str, Any] = {"run": task.run, "site": change.name, "design": "weights", "status": "ok"}
    block = LAYER.search(change.name)
    base |= {"layer": int(block[1]) if block else -1, "module": change.name.rsplit(".", 1)[-1]}
    base |= {"rank": change.rank, "control": "random ΔW of the same spectrum", "draws": task.draws}
    rows = [base | {"measure": "intruders", "value": float((cosines < task.threshold).sum())} | _ends(counts)]
    rows[0] |= {"top": k, "threshold": task.threshold, "counts": counts.tolist()}
    for j in range(k):
        row = (
            base | {"measure": "resemblance", "index": j + 1, "value": float(cosines[j])} | _ends(draws[:, j])
        )
        rows.append(row | {"absolute": float(values[j]), "intruder": bool(cosines[j] < task.threshold)})
    return rows


def _ends(draws: np.ndarray) -> dict[str, float]:
    low, high = np.quantile(draws, [0.025, 0.975])
    return {"null": float(draws.mean()), "null_low": float(low), "null_high": float(high)}


def _random(change: Change, seed: int, draw: int) -> np.ndarray:
    """A matrix with the singular values of ΔW and random singular vectors, [m, n]."""
    generator, r = rng(seed, "random change", change.name, draw), len(change.values)
    m, n = change.weight.shape
    U, V = (np.linalg.qr(generator.standard_normal((size, r)))[0] for size in (m, n))
    return (U * change.values) @ V.T
