"""Cells: pairs of clouds and their replicates, as a worker evaluates them. One mechanism for every control.

A replicate is another set of rows (a group of texts left out, a pairing or columns shuffled, texts swapped between two
sites), and a measure sees only arrays. A block of cells is a pure function of its job, and is kept under its key.
"""

import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from transect import __version__
from transect.errors import TransectError
from transect.files import kept_json, write_json
from transect.inference import controls
from transect.measures.contract import Measure, find
from transect.store.selection import Selection
from transect.store.store import Store, open_store
from transect.work.pool import threads

Cloud = tuple[int, str, str]  # run, site, half ("a", "b" or "ab")
Cell = tuple[Cloud, ...]
Answer = dict[str, dict[str, list[Any]]]  # measure → kind of replicate → results


@dataclass(frozen=True)
class Job:
    """All that decides the numbers of a sweep, and nothing else: its fields are the key under which blocks are kept."""

    stores: tuple[str, ...]
    fingerprints: tuple[str, ...]
    measures: dict[str, str]  # name → version; those of one job share clouds and prepared work
    options: dict[str, dict[str, Any]]
    tokens: str | int
    position0: bool
    normalise: str
    pca: int | None
    label: str | None
    design: str
    n: int | None
    groups: int
    permutations: int
    seed: int
    swaps: int = 0
    halves: int = 0
    left_out: tuple[tuple[int, ...], ...] = ()  # massive tokens of every store: rows of its selection

    def key(self, cells: Sequence[Cell]) -> str:
        """Name of a block: the same cells of the same job, wherever the stores lie now."""
        told = {k: v for k, v in asdict(self).items() if k != "stores"} | {"cells": cells, "transect": __version__}
        return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()[:24]


def is_split(cell: Cell) -> bool:
    """Whether a cell compares a site with itself between the halves of the texts."""
    return len(cell) == 2 and cell[0][:2] == cell[1][:2]


def evaluate(folder: Path | None, task: tuple[Job, tuple[Cell, ...]]) -> list[Answer]:
    """All measures and replicates of the cells of one block; written under its key before it is returned."""
    from threadpoolctl import threadpool_limits

    job, block = task
    measures = [find(name) for name in job.measures]
    rig = rig_of(job)
    answers: list[Answer] = [{m.name: {} for m in measures} for _ in block]
    with threadpool_limits(threads()):
        for kind, index in _replicates(job, rig.draws[0].groups):
            chosen = [k for k, cell in enumerate(block) if kind in ("full", "drop", "half") or not is_split(cell)]
            made: dict[Any, int] = {}
            clouds: list[np.ndarray] = []
            which = [rig.place(block[k], kind, index, made, clouds) for k in chosen]
            shared: dict[Any, Any] = {}
            for m in measures:
                if "y" in m.data:
                    values = [rig.labelled(m, clouds[pair[0]], kind, index) for pair in which]
                else:
                    values = m.values(clouds, which, shared, **job.options[m.name])
                for k, value in zip(chosen, values, strict=True):
                    answers[k][m.name].setdefault(kind, []).append(_told(value))
    if folder:
        write_json(folder / f"{job.key(block)}.json", answers)
    return answers


def kept_answers(folder: Path, task: tuple[Job, tuple[Cell, ...]]) -> list[Answer] | None:
    """What an earlier run left of a block, or None."""
    job, block = task
    return kept_json(folder, job.key(block))


def _replicates(job: Job, groups: int) -> list[tuple[str, int]]:
    listed = [("full", 0)] + [("drop", g) for g in range(groups)]
    listed += [("null", b) for b in range(job.permutations)]
    listed += [("half", b) for b in range(job.halves)]
    return listed + [("swap", b) for b in range(job.swaps)]


def _told(value: Any) -> Any:
    """A result as JSON: a number, a list of fields, or {"error": reason}."""
    if isinstance(value, TransectError):
        return {"error": str(value)}
    return list(value) if isinstance(value, tuple) else value


@functools.lru_cache(maxsize=4)
def _opened(path: str) -> Store:
    return open_store(path)


def massive_tokens(store: Store, names: Sequence[str], chosen: Selection, factor: float) -> tuple[int, ...]:
    """Points of a selection whose norm exceeds `factor` × the median norm at any of the sites: further sinks."""
    found: set[int] = set()
    for site in names:
        norms = np.linalg.norm(store.take(site, chosen), axis=1)
        found |= set(np.flatnonzero(norms > factor * np.median(norms)).tolist())
    return tuple(sorted(found))


_RIGS: dict[tuple[Any, ...], "Rig"] = {}


def rig_of(job: Job) -> "Rig":
    """The data of a job, kept between the blocks that one process runs, whatever they measure."""
    key = (job.stores, job.fingerprints, job.tokens, job.position0, job.normalise, job.n, job.groups, job.seed)
    key = (*key, job.left_out)
    if key not in _RIGS:
        _RIGS.clear()
        _RIGS[key] = Rig(job)
    rig = _RIGS[key]
    rig.job = job
    return rig


class Rig:
    """Clouds of a job: drawn once, read once per site, then cut or shuffled as a replicate says."""

    def __init__(self, job: Job) -> None:
        self.job, self.stores = job, [_opened(p) for p in job.stores]
        self.selections = [s.select(job.tokens, job.position0) for s in self.stores]
        if job.left_out:
            pairs = zip(self.selections, job.left_out, strict=True)
            self.selections = [c.subset(np.setdiff1d(np.arange(len(c)), out)) for c, out in pairs]
        self.draws = [controls.draw(c, n=job.n, groups=job.groups, seed=job.seed) for c in self.selections]
        self.read: dict[Cloud, np.ndarray] = {}

    def cloud(self, cloud: Cloud) -> np.ndarray:
        """Points of one cloud, normalised."""
        if cloud not in self.read:
            run, site, half = cloud
            if half == "ab":
                X = np.concatenate([self.cloud((run, site, "a")), self.cloud((run, site, "b"))])
            else:
                rows = getattr(self.draws[run], half)
                X = self.stores[run].take(site, self.selections[run].subset(rows))
                if self.job.normalise == "unit":
                    X = X / np.maximum(np.linalg.norm(X, axis=1, keepdims=True), np.finfo(np.float32).tiny)
            self.read[cloud] = X
        return self.read[cloud]

    def group(self, cloud: Cloud) -> np.ndarray:
        """Group of texts of every point; the halves of "ab" share group numbers."""
        d = self.draws[cloud[0]]
        return np.concatenate([d.group_a, d.group_b]) if cloud[2] == "ab" else getattr(d, f"group_{cloud[2]}")

    def place(
        self, cell: Cell, kind: str, index: int, made: dict[Any, int], clouds: list[np.ndarray]
    ) -> tuple[int, ...]:
        """Indices into `clouds` of the cell's arrays for one replicate; arrays that are the same are made once."""
        if self.job.pca or kind == "swap":
            keys = [(*cell, side) for side in range(len(cell))]
            arrays = self._joint(cell, kind, index) if any(k not in made for k in keys) else []
        else:
            keys = [(cloud, side if kind == "null" else 0) for side, cloud in enumerate(cell)]
            arrays = [
                self._one(cloud, kind, index, side, len(cell)) if key not in made else clouds[made[key]]
                for side, (cloud, key) in enumerate(zip(cell, keys, strict=True))
            ]
        for key, array in zip(keys, arrays, strict=False):
            if key not in made:
                made[key] = len(clouds)
                clouds.append(array)
        return tuple(made[key] for key in keys)

    def _one(self, cloud: Cloud, kind: str, index: int, side: int, arity: int) -> np.ndarray:
        X = self.cloud(cloud)
        if kind == "drop":
            return X[self.group(cloud) != index]
        if kind == "half":
            count = self.draws[cloud[0]].groups
            kept = np.random.default_rng([self.job.seed, 4, index]).permutation(count)[: max(2, count // 2)]
            return X[np.isin(self.group(cloud), kept)]
        rng = np.random.default_rng([self.job.seed, 2, index])
        if kind == "null" and arity == 1 and self.job.label is None:
            return controls.shuffle_columns(X, rng)
        if kind == "null" and arity == 2 and side == 1:
            return X[rng.permutation(len(X))]
        return X

    def _joint(self, cell: Cell, kind: str, index: int) -> list[np.ndarray]:
        """Both clouds of a pair at once: swapped text by text, or projected on one basis fitted on both."""
        arrays = [self._one(cloud, kind, index, side, len(cell)) for side, cloud in enumerate(cell)]
        if kind == "swap":
            run = cell[0][0]
            rng = np.random.default_rng([self.job.seed, 3, index])
            change = controls.swap_texts(self.selections[run], self.draws[run].a, rng)[:, None]
            arrays = [np.where(change, arrays[1], arrays[0]), np.where(change, arrays[0], arrays[1])]
        if self.job.pca:
            from transect.measures.distances import shared_basis

            basis = shared_basis(arrays, self.job.pca)
            arrays = [(X - basis.mean) @ basis.axes for X in arrays]
        return arrays

    def labelled(self, m: Measure, X: np.ndarray, kind: str, index: int) -> Any:
        """A measure of points and labels: labels of the texts the points come from, permuted by text for the null."""
        d, chosen = self.draws[0], self.selections[0]
        texts = chosen.texts[np.concatenate([d.a, d.b])]
        labels = self.stores[0].label(str(self.job.label))
        if kind == "null":
            labels = labels[np.random.default_rng([self.job.seed, 2, index]).permutation(len(labels))]
        if kind == "drop":
            texts = texts[np.concatenate([d.group_a, d.group_b]) != index]
        try:
            return m(X, labels[texts], **self.job.options[m.name])
        except TransectError as error:
            return error
