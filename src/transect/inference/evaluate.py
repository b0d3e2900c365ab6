"""Cells: pairs of clouds and their replicates, as a worker evaluates them. One mechanism for every control.

A replicate is another set of texts (a group left out, half of them, texts permuted or swapped between two
sites), and a measure sees only arrays. A block of cells is a pure function of its job, and is kept under its
key.
"""

import functools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from transect.errors import TransectError
from transect.inference import controls
from transect.inference.draws import Draw, draw
from transect.measures.contract import Measure
from transect.measures.registry import find
from transect.numeric.norms import ordinary
from transect.numeric.permute import restricted, text_permutations
from transect.random import rng
from transect.store.selection import Selection
from transect.store.store import Store, open_store
from transect.store.units import full_label, units_of_runs
from transect.work.keys import key_of
from transect.work.pool import threads

Cloud = tuple[int, str, str]  # run, site, texts of it: "a", "b" or "all"
Cell = tuple[Cloud, ...]
#: Draws of a cheap null that are made again without each group of texts: how far it moves with the texts.
AGAIN = 16
Answer = dict[str, dict[str, list[Any]]]  # measure → kind of replicate → results


@dataclass(frozen=True)
class Job:
    """All that decides the numbers of some cells, and nothing else: its fields are the key under which they
    are kept."""

    stores: tuple[str, ...]
    contents: tuple[str, ...]  # what the stores hold, shard by shard
    measures: tuple[str, ...]  # of one kind; they share clouds and prepared work
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
    null: str = "texts"  # what the paired null permutes: whole texts, or tokens within each
    swaps: int = 0
    halves: int = 0
    left_out: tuple[tuple[int, ...], ...] = ()  # massive tokens of every store: rows of its selection

    def key(self, cells: Sequence[Cell]) -> str:
        """Name of a block: the same cells of the same job, wherever the stores lie now."""
        identity = {k: v for k, v in asdict(self).items() if k != "stores"} | {"cells": cells}
        return key_of(identity, __name__, *(find(m).__module__ for m in self.measures))

    @property
    def halved(self) -> bool:
        """Whether two clouds come from disjoint texts."""
        return self.design == "disjoint"


def is_split(cell: Cell) -> bool:
    """Whether a cell compares a site with itself between the halves of the texts."""
    return len(cell) == 2 and cell[0][:2] == cell[1][:2]


def evaluate(task: tuple[Job, tuple[Cell, ...]]) -> list[Answer]:
    """All measures and replicates of the cells of one block."""
    from threadpoolctl import threadpool_limits

    job, block = task
    measures, rig = [find(name) for name in job.measures], rig_of(job)
    answers: list[Answer] = [{m.name: {} for m in measures} for _ in block]
    with threadpool_limits(threads()):
        for kind, index in _replicates(job, rig.draws[0].groups):
            selected = [
                k for k, cell in enumerate(block) if kind in ("full", "drop", "half") or not is_split(cell)
            ]
            if not selected:
                continue
            clouds: list[np.ndarray] = []
            times: dict[Any, int] = {}
            which = [rig.place(block[k], kind, index, times, clouds) for k in selected]
            shared: dict[Any, Any] = {}
            for m in measures:
                if "y" in m.data:
                    values = [rig.labelled(m, clouds[pair[0]], kind, index) for pair in which]
                elif m.data == ("X",) and m.estimates != m.estimand:
                    values = [_estimated(job, m, clouds, i, rig.draws[0].k, shared) for (i,) in which]
                else:
                    values = m.values(clouds, which, shared, rig.draws[0].k, **job.options[m.name])
                    if null := _null_beside(job, m, kind):
                        left_out = index if kind == "drop" else None
                        rows = _permuted(job, rig, m, left_out, clouds, which, shared)
                        for k, row in zip(selected, rows, strict=True):
                            answers[k][m.name].setdefault(null, []).extend(map(_plain, row))
                for k, value in zip(selected, values, strict=True):
                    answers[k][m.name].setdefault(kind, []).append(_plain(value))
    return answers


def _estimated(job: Job, m: Measure, clouds: list[np.ndarray], i: int, k: int, shared: dict[Any, Any]) -> Any:
    """What a measure of cloud i, k points of each text, estimates of the population."""
    texts, cache = np.arange(len(clouds[i])) // k, shared.setdefault(("cloud", i), {})
    return m.estimate(clouds[i], texts, cache, **job.options[m.name])


def _null_beside(job: Job, m: Measure, kind: str) -> str | None:
    """Under which name the null of a paired measure is made beside the values of this kind, if it is."""
    if not (m.paired and job.permutations):
        return None
    return {"full": "null", "drop": "null drop" if m.cheap_null else None}.get(kind)


def _permuted(
    job: Job,
    rig: "Rig",
    m: Measure,
    left_out: int | None,
    clouds: list[np.ndarray],
    which: list[tuple[int, ...]],
    shared: dict[Any, Any],
) -> list[list[Any]]:
    """The null of a paired measure: the second view's texts permuted as blocks, or its tokens within each
    text; without one group of texts only the first draws, restricted to the others."""
    options, d = job.options[m.name], rig.draws[0]
    pairs, kept = [(i, j) for i, j in which], d.group != left_out
    draws = job.permutations if left_out is None else min(AGAIN, job.permutations)
    if job.null == "texts":
        order = text_permutations(len(d.texts), job.permutations, rng(job.seed, "permutations"))[:draws]
        order = restricted(order, kept) if left_out is not None else order
        rows = m.null_values(clouds, pairs, order, d.k, shared, **options)
        return [row if len(row) == draws else row * draws for row in rows]  # one error stands for all
    results: list[list[Any]] = [[] for _ in pairs]
    for b in range(draws):
        rows = controls.within_texts(int(kept.sum()), d.k, rng(job.seed, "within texts", b))
        arrays = [*clouds, *(clouds[j][rows] for _, j in pairs)]
        moved = m.values(
            arrays, [(i, len(clouds) + k) for k, (i, _) in enumerate(pairs)], None, d.k, **options
        )
        for row, value in zip(results, moved, strict=True):
            row.append(value)
    return results


def _replicates(job: Job, groups: int) -> list[tuple[str, int]]:
    listed = [("full", 0)] + [("drop", g) for g in range(groups)]
    if not all(find(m).paired for m in job.measures):
        listed += [("null", b) for b in range(job.permutations)]
    listed += [("half", b) for b in range(job.halves)]
    return listed + [("swap", b) for b in range(job.swaps)]


def _plain(value: Any) -> Any:
    """A result as JSON: a number, a list of fields, or {"error": reason}."""
    if isinstance(value, TransectError):
        return {"error": str(value)}
    return list(value) if isinstance(value, tuple) else value


@functools.lru_cache(maxsize=8)
def opened(path: str, content: str) -> Store:
    """The store in a folder while it holds just that; kept between the blocks of one process."""
    store = open_store(path)
    if store.content != content:
        raise TransectError(f"{path} was captured anew while it was measured.", "Run the same command again.")
    return store


_RIGS: dict[tuple[Any, ...], "Rig"] = {}


def rig_of(job: Job) -> "Rig":
    """The data of a job, kept between the blocks that one process runs, whatever they measure."""
    key = (job.stores, job.contents, job.tokens, job.position0, job.normalise, job.n, job.groups, job.seed)
    key = (*key, job.left_out, job.halved)
    if key not in _RIGS:
        _RIGS.clear()
        _RIGS[key] = Rig(job)
    rig = _RIGS[key]
    rig.job = job
    return rig


class Rig:
    """Clouds of a job: drawn once, read once per site as [texts, tokens, d], then cut or shuffled by whole
    texts."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.stores = [opened(p, c) for p, c in zip(job.stores, job.contents, strict=True)]
        self.selections = [s.select(job.tokens, job.position0) for s in self.stores]
        if job.left_out:
            pairs = zip(self.selections, job.left_out, strict=True)
            self.selections = [c.subset(np.setdiff1d(np.arange(len(c)), out)) for c, out in pairs]
        self.draws: list[Draw] = [
            draw(c, units=units, n=job.n, groups=job.groups, seed=job.seed, halves=job.halved)
            for c, units in zip(self.selections, units_of_runs(self.stores), strict=True)
        ]
        self.read: dict[tuple[int, str], np.ndarray] = {}

    def cloud(self, cloud: Cloud) -> np.ndarray:
        """Points of one cloud, normalised, [texts, tokens, d]."""
        run, site, half = cloud
        if (run, site) not in self.read:
            d = self.draws[run]
            X = self.stores[run].take(site, self.selections[run].subset(d.rows.ravel()))
            if self.job.normalise == "unit":
                X = X / np.maximum(np.linalg.norm(X, axis=1, keepdims=True), np.finfo(np.float32).tiny)
            self.read[run, site] = X.reshape(*d.rows.shape, -1)
        points = self.read[run, site]
        return points if half == "all" else points[self.draws[run].members(half)]

    def place(
        self, cell: Cell, kind: str, index: int, counts: dict[Any, int], clouds: list[np.ndarray]
    ) -> tuple[int, ...]:
        """Indices into `clouds` of the cell's arrays [n, d] for one replicate; equal arrays are made once."""
        joint = bool(self.job.pca) or kind == "swap"
        keys = [(*cell, side) for side in range(len(cell))] if joint else list(cell)
        if any(key not in counts for key in keys):
            arrays = [self._one(cloud, kind, index, len(cell)) for cloud in cell]
            if joint:
                arrays = self._joint(cell, kind, index, arrays)
            for key, array in zip(keys, arrays, strict=True):
                if key not in counts:
                    counts[key] = len(clouds)
                    clouds.append(array.reshape(-1, array.shape[-1]))
        return tuple(counts[key] for key in keys)

    def _one(self, cloud: Cloud, kind: str, index: int, arity: int) -> np.ndarray:
        X, d = self.cloud(cloud), self.draws[cloud[0]]
        if kind == "drop":
            return X[d.group[d.members(cloud[2])] != index]
        if kind == "half":
            kept = rng(self.job.seed, "halves", index).permutation(len(X))[: max(2, len(X) // 2)]
            return X[np.sort(kept)]
        if kind == "null" and arity == 1 and self.job.label is None:
            return controls.shuffle_columns(X, rng(self.job.seed, "columns", index))
        return X

    def _joint(self, cell: Cell, kind: str, index: int, arrays: list[np.ndarray]) -> list[np.ndarray]:
        """Both clouds of a pair at once: swapped text by text, or projected on one basis fitted on both."""
        if kind == "swap":
            change = (
                rng(self.job.seed, "swaps", index).integers(0, 2, len(arrays[0])).astype(bool)[:, None, None]
            )
            arrays = [np.where(change, arrays[1], arrays[0]), np.where(change, arrays[0], arrays[1])]
        if self.job.pca:
            from transect.measures.distances import shared_basis

            flat = [X.reshape(-1, X.shape[-1]) for X in arrays]
            basis = shared_basis(flat, self.job.pca)
            arrays = [(X - basis.mean) @ basis.axes for X in flat]
        return arrays

    def labelled(self, m: Measure, X: np.ndarray, kind: str, index: int) -> Any:
        """A measure of points and labels: labels of the texts the points come from, permuted by text for the
        null."""
        d = self.draws[0]
        labels = full_label(self.stores[0], str(self.job.label))[d.texts]
        if kind == "null":
            labels = labels[rng(self.job.seed, "labels", index).permutation(len(labels))]
        if kind == "drop":
            labels = labels[d.group != index]
        if kind == "half":
            kept = rng(self.job.seed, "halves", index).permutation(len(labels))[: max(2, len(labels) // 2)]
            labels = labels[np.sort(kept)]
        try:
            return m(X, np.repeat(labels, d.k, axis=0), **self.job.options[m.name])
        except TransectError as error:
            return error


def massive_tokens(
    stores: Sequence[Store], names: Sequence[Sequence[str]], selections: Any, factor: float
) -> Any:
    """Per store the points of its selection whose norm exceeds `factor` × the median norm at any of the
    sites.

    Runs that hold the same tokens lose the same ones: the union over all of them, so that "same tokens" stays
    true.
    """
    massive = [_massive(*each, factor) for each in zip(stores, names, selections, strict=True)]
    kin: dict[Any, set[int]] = {}
    keys = [
        (s.manifest["tokens_hash"], c.texts.tobytes(), c.position.tobytes())
        for s, c in zip(stores, selections, strict=True)
    ]
    for key, heavy in zip(keys, massive, strict=True):
        kin[key] = kin.get(key, set()) | heavy
    return tuple(tuple(sorted(kin[key])) for key in keys)


_MASSIVE: dict[tuple[Any, ...], frozenset[int]] = {}


def _massive(store: Store, sites: Sequence[str], selection: Selection, factor: float) -> frozenset[int]:
    """Those of one store; kept, because every ask of a study wants them and they take all points of all
    sites."""
    key = (str(store.path), store.content, *sites, selection.rows.tobytes(), selection.spans, factor)
    if key not in _MASSIVE:
        gone: set[int] = set()
        for site in sites:
            norms = _norms(store, site, selection)
            gone |= set(np.flatnonzero(~ordinary(norms[None], factor)).tolist())
        if len(_MASSIVE) > 64:
            _MASSIVE.clear()
        _MASSIVE[key] = frozenset(gone)
    return _MASSIVE[key]


def _norms(store: Store, site: str, selection: Selection) -> np.ndarray:
    """Norm of every point of a selection, read in blocks: a site may hold more than memory."""
    if selection.pooled:
        return np.linalg.norm(store.take(site, selection), axis=1)
    parts = selection.split(max(1, (64 << 20) // (4 * store.width(site))))
    return np.concatenate([np.linalg.norm(store.read(site, rows), axis=1) for rows in parts])
