"""What every cell of a manifold map shares: label values, group folds, permutations, targets. No point is
seen here.

Folds hold out whole groups (by default: label values), so no date is in both parts. Labels are permuted
between groups: texts of one value and group stay together, and the values of a group move together. The null
breaks the geometry of the labels and keeps which texts share one.
"""

import functools
import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from transect.errors import TransectError
from transect.numeric.scaling import classical, completed
from transect.numeric.shapes import find_shape
from transect.random import rng
from transect.store.store import Store, open_store
from transect.store.units import full_label
from transect.work.keys import key_of

KINDS = ("free", "orthonormal", "reuse")


@dataclass(frozen=True)
class MapJob:
    """All that decides the numbers of a map; its fields, but for the store's path, are the key of its
    blocks."""

    store: str
    fingerprint: str
    tokens: tuple[str, ...]
    label: tuple[str, ...]
    group: str | None
    shapes: tuple[
        tuple[str, str], ...
    ]  # name, parameters as JSON; the first is the one of the rigid and reuse maps
    kinds: tuple[str, ...] = ("free",)
    source: str | None = None
    n_components: int = 2
    alpha: float = 0.1
    scale: str = "unit"
    folds: int = 3
    repeats: int = 1
    permutations: int = 100
    pairs: int = 2048
    seed: int = 0

    def key(self, site: str) -> str:
        """Name of the block of a site, wherever the store lies now."""
        settings = {k: v for k, v in asdict(self).items() if k != "store"} | {"site": site}
        return key_of(settings, "transect.studies.manifold.map")


@dataclass(frozen=True)
class Fold:
    """Rows of one fold; `present`: units among the training rows, `counts` of each, `order` sorts rows by
    unit. A unit is what never comes apart: the texts of one label value in one group."""

    repeat: int
    train: np.ndarray
    test: np.ndarray
    present: np.ndarray
    counts: np.ndarray
    order: np.ndarray
    pairs: tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Wanted:
    """Target distances of the null's pairs, [pairs, draws] in float32, 0 where not `known`; `total`: their
    squares' sum."""

    D: np.ndarray
    known: np.ndarray | None
    total: np.ndarray


def group_folds(groups: np.ndarray, folds: int, generator: np.random.Generator) -> list[np.ndarray]:
    """Rows of each fold's held-out part: whole groups, dealt at random to the fold with the fewest rows so
    far."""
    names, member, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if len(names) < folds:
        raise TransectError(
            f"{len(names)} group{'s' * (len(names) != 1)} of labels for {folds} folds.",
            "Every fold holds out whole groups: ask for fewer folds, or add labels.",
        )
    held, place = np.zeros(folds), np.empty(len(names), int)
    for g in generator.permutation(len(names)):
        place[g] = int(held.argmin())
        held[place[g]] += sizes[g]
    return [np.flatnonzero(place[member] == f) for f in range(folds)]


def block_permutation(groups: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """An order of units that moves whole groups: the units of one, in their own order, onto those of another.

    Groups are laid end to end in two random orders, one under the other; where their sizes differ, blocks
    meet with an offset. With one unit a group it is a plain permutation.
    """
    count = int(groups.max()) + 1
    sides = []
    for _ in range(2):
        place = generator.permutation(count)
        sides.append(np.argsort(place[groups], kind="stable"))
    order = np.empty(len(groups), int)
    order[sides[0]] = sides[1]
    return order


class Plan:
    """What all cells of a map share: label values, folds, permutations, targets. Nothing here has seen a
    point."""

    def __init__(self, job: MapJob, y: np.ndarray, groups: np.ndarray | None = None) -> None:
        self.job, y = job, np.asarray(y)
        self.values, self.value = np.unique(y, axis=0, return_inverse=True)
        self.value = self.value.ravel()
        if len(self.values) < 2:
            raise TransectError(
                f"label {'/'.join(job.label)} is constant: {y[0]}.", "Choose a label that varies."
            )
        groups = self.value if groups is None else np.unique(groups, return_inverse=True)[1].ravel()
        of_unit, unit = np.unique(np.stack([groups, self.value]), axis=1, return_inverse=True)
        self.unit = unit.ravel()
        self.folds = [
            self._fold(r, test, f)
            for r in range(job.repeats)
            for f, test in enumerate(group_folds(groups, job.folds, rng(job.seed, "folds", r)))
        ]
        least = min(len(np.unique(of_unit[1, f.present])) for f in self.folds)
        if least <= job.n_components:
            raise TransectError(
                f"{least} label values in a training fold for {job.n_components} dimensions.",
                "Lower --components, or add texts.",
            )
        labels = rng(job.seed, "labels")
        orders = [np.arange(len(of_unit[0]))]
        orders += [block_permutation(of_unit[0], labels) for _ in range(job.permutations)]
        self.draws = of_unit[1, np.array(orders)]  # value of every unit; row 0: the labels as they are
        self.shapes = {name: self._shape(name, json.loads(parameters)) for name, parameters in job.shapes}
        self._targets: dict[tuple[str, int], np.ndarray] = {}
        self._wanted: dict[tuple[str, int], tuple[np.ndarray, Wanted]] = {}

    def _fold(self, repeat: int, test: np.ndarray, number: int) -> Fold:
        train = np.setdiff1d(np.arange(len(self.value)), test)
        present, counts = np.unique(self.unit[train], return_counts=True)
        total = len(test) * (len(test) - 1) // 2
        if len(test) < 3:
            raise TransectError(f"a fold holds out {len(test)} texts.", "Ask for fewer folds, or add texts.")
        some = np.arange(total)
        if total > self.job.pairs:
            draw = rng(self.job.seed, "pairs", repeat, number)
            some = np.sort(draw.choice(total, self.job.pairs, replace=False))
        i, j = (side[some] for side in np.triu_indices(len(test), 1))
        return Fold(repeat, train, test, present, counts, np.argsort(self.unit[train], kind="stable"), (i, j))

    def _shape(
        self, name: str, parameters: dict[str, Any]
    ) -> tuple[np.ndarray | None, np.ndarray] | TransectError:
        """(coordinates of the label values or None, their distances), or why there are none."""
        kind = find_shape(name)
        try:
            shape = kind(self.values, **parameters)
            D = kind.distances(self.values, **parameters)
            if not np.nanmax(D) > 1e-12:
                raise TransectError(
                    f"all labels fall on one point of the {name}: they are whole periods apart.",
                    "Give their period.",
                )
            return (shape if kind.gives == "coordinates" else None), D
        except TransectError as error:
            return error

    def targets(self, name: str, k: int) -> np.ndarray:
        """Y for every draw of labels in fold k, [draws, units present, components]; folds after the first
        repeat: draw 0."""
        if (name, k) not in self._targets:
            fold, (C, D) = self.folds[k], self.shapes[name]  # type: ignore[misc]
            draws = (self.draws if fold.repeat == 0 else self.draws[:1])[:, fold.present]
            wide = self.job.n_components
            if C is not None:
                components = _principal(C[draws], fold.counts, wide)
            else:
                full = completed(D)
                components = np.array([classical(full[np.ix_(p, p)], wide, fold.counts)[0] for p in draws])
            self._targets[name, k] = components
        return self._targets[name, k]

    def wanted(self, name: str, k: int) -> tuple[np.ndarray, Wanted]:
        """(target distances of all held-out pairs, those of the null's pairs for every draw)."""
        if (name, k) not in self._wanted:
            fold, D = self.folds[k], self.shapes[name][1]  # type: ignore[index]
            held, unit = self.value[fold.test], self.unit[fold.test]
            i, j = np.triu_indices(len(held), 1)
            draws = self.draws if fold.repeat == 0 else self.draws[:0]
            a, b = unit[fold.pairs[0]], unit[fold.pairs[1]]
            null = np.ascontiguousarray(D[draws[:, a], draws[:, b]].T, np.float32)
            known = None if np.isfinite(D).all() else np.isfinite(null)
            null = np.nan_to_num(null, copy=False)
            self._wanted[name, k] = (
                D[held[i], held[j]],
                Wanted(null, known, (null.astype(float) ** 2).sum(axis=0)),
            )
        return self._wanted[name, k]


def _principal(C: np.ndarray, counts: np.ndarray, k: int) -> np.ndarray:
    """Classical scaling of points [draws, m, q] that stand `counts` times: centred, on their k principal
    axes."""
    C = C - np.einsum("bmq,m->bq", C, counts)[:, None] / counts.sum()
    if C.shape[2] > k:
        _, axes = np.linalg.eigh(np.einsum("bmq,m,bmr->bqr", C, counts, C))
        C = C @ axes[:, :, ::-1][:, :, :k]
    return np.pad(C, ((0, 0), (0, 0), (0, max(0, k - C.shape[2]))))


@functools.lru_cache(maxsize=2)
def plan_of(job: MapJob) -> tuple[Store, Plan]:
    """The store of a job and its plan, kept between the blocks that one process runs."""
    store = open_store(job.store)
    return store, plan_for(store, job)


def plan_for(store: Store, job: MapJob) -> Plan:
    """The plan of a job on the labels and groups of this store."""
    groups = None if job.group is None else full_label(store, job.group)
    return Plan(job, read_labels(store, job.label), groups)


def read_labels(store: Store, names: tuple[str, ...]) -> np.ndarray:
    """Labels [n], or [n, columns] for several names; TransectError when some texts have none."""
    columns = [full_label(store, name) for name in names]
    return columns[0] if len(columns) == 1 else np.stack(columns, axis=1)
