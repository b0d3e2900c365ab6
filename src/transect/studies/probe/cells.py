"""Cells of a probe's map: states of a site and token, their labels, permuted labels, control task."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from transect.errors import TransectError
from transect.inference.evaluate import opened
from transect.inference.intervals import jackknife
from transect.inference.tests import arrangements
from transect.random import rng
from transect.store.store import Store
from transect.store.units import full_label
from transect.studies.manifold.plan import block_permutation, group_folds
from transect.studies.probe.fit import Held, held_out, score, targets, without
from transect.studies.probe.logistic import logistic
from transect.work.keys import key_of

#: Labels that every store has, of its tokens.
STANDARD = ("position", "token")
#: Kinds of token that token identity is read of, the most frequent ones.
TYPES = 20


class Probe(NamedTuple):
    """One task: a site at a token, with everything that its score needs."""

    path: str
    content: str
    site: str
    token: str
    label: str
    kind: str
    group: str | None
    folds: int
    permutations: int
    groups: int
    seed: int
    classifier: str = "ridge"

    def key(self) -> str:
        """Name of the task's answer."""
        return key_of(list(self)[1:], __name__)


class Units(NamedTuple):
    """Rows of a site, each with label, text, group of texts, and the kind of token that stands there."""

    rows: np.ndarray
    labels: np.ndarray
    texts: np.ndarray
    groups: np.ndarray
    types: np.ndarray


def units_of(store: Store, task: Probe) -> Units:
    """What is probed. Raises: TransectError for labels that some texts lack, or that are all the same."""
    selection = store.select("all" if task.label in STANDARD else task.token, position0=False)
    if selection.pooled:
        raise TransectError("a probe reads tokens, not means.", "Give last, landmark:NAME+k or a position.")
    first = store.start[selection.texts]
    if not store.manifest["pool"]:
        types = np.array(
            [store.token_ids(t)[p] for t, p in zip(selection.texts, selection.rows - first, strict=True)]
        )
    elif task.label in STANDARD:
        raise TransectError(
            f"{store.path} holds one point a text, which has no {task.label}.", "Name a label of the texts."
        )
    else:
        types = np.zeros(len(selection), np.int64)  # no one token stands there: no control task
    rows, texts = selection.rows, selection.texts
    if task.label == "position":
        labels = (selection.rows - first).astype(float)
    elif task.label == "token":
        names, count = np.unique(types, return_counts=True)
        kept = np.isin(types, names[np.argsort(-count, kind="stable")[:TYPES]])
        rows, texts, labels, types = rows[kept], texts[kept], types[kept], types[kept]
    else:
        labels = full_label(store, task.label)[texts]
    if task.group is None and (store.units[texts] < 0).any():  # copies are not read again
        kept = store.units[texts] >= 0
        rows, texts, labels, types = rows[kept], texts[kept], labels[kept], types[kept]
    if len(np.unique(labels)) < 2:
        where = "over all tokens" if task.token == "all" else f"at {task.token}"
        raise TransectError(f"label {task.label} has one value {where}.", "Choose another.")
    groups = store.units[texts] if task.group is None else full_label(store, task.group)[texts]
    return Units(rows, labels, texts, np.unique(groups, return_inverse=True)[1], types)


def labellings(units: Units, task: Probe) -> np.ndarray:
    """[n, 2 + permutations]: the labels, the control task, and labels permuted.

    Labels of texts move between whole groups. Labels that differ within texts turn round within each text by
    an offset of its own: neighbours stay neighbours, which a free permutation would take apart. The control
    task (Hewitt & Liang 2019, arXiv:1909.03368) gives each kind of token a label drawn from all of them.
    """
    names, code = np.unique(units.labels, return_inverse=True)
    draw = rng(task.seed, "control task")
    kinds, kind = np.unique(units.types, return_inverse=True)
    columns = [code, draw.choice(code, len(kinds))[kind]]
    for k in range(task.permutations):
        generator = rng(task.seed, "probe", k)
        columns.append(_turned(code, units.texts, generator) if task.label in STANDARD
                       else code[block_permutation(units.groups, generator)])  # fmt: skip
    table = np.stack(columns, axis=1)
    return table if task.kind == "classes" else np.asarray(names, float)[table]


def _turned(code: np.ndarray, texts: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    out = code.copy()
    for t in np.unique(texts):
        members = np.flatnonzero(texts == t)
        out[members] = np.roll(code[members], generator.integers(len(members)))
    return out


def _left_out(
    X: np.ndarray, Y: np.ndarray, folds: list[np.ndarray], groups: np.ndarray, made: Held, kept: np.ndarray,
    task: Probe,
) -> float:  # fmt: skip
    """The score of the labels where only the rows `kept` are there, for training and for testing."""
    if made.ridges:
        again = without(X, Y[:, 0], folds, made.ridges, kept)[:, None]
    else:
        place = np.cumsum(kept) - 1
        parts = [place[fold[kept[fold]]] for fold in folds]
        again = logistic(X[kept], Y[kept], [p for p in parts if len(p)], groups[kept]).predicted
    return float(score(again, Y[kept], task.kind)[0])


def probed(task: Probe) -> dict[str, Any]:
    """Score of the labels with its interval, of the control task, of permuted labels; share of variance."""
    store = opened(task.path, task.content)
    units = units_of(store, task)
    X = store.read(task.site, units.rows).astype(np.float64)
    if not np.ptp(X, axis=0).max() > 0:
        return {"status": "the points are the same in all texts"}
    Y = targets(labellings(units, task), task.kind)
    folds = group_folds(units.groups, task.folds, rng(task.seed, "probe folds"))
    probe = logistic if task.classifier == "logistic" else held_out
    made = probe(X, Y, folds, units.groups)
    scores = score(made.predicted, Y, task.kind)
    parts = rng(task.seed, "groups").permutation(int(units.groups.max()) + 1) % task.groups
    drops = [_left_out(X, Y[:, :1], folds, units.groups, made, parts[units.groups] != g, task)
             for g in np.unique(parts)]  # fmt: skip
    low, high = interval(float(scores[0]), drops, task.kind)
    row = {"value": float(scores[0]), "low": low, "high": high, "variance": made.share, "n": len(X)}
    several = len(np.unique(units.types)) > 1
    row |= {"control_task": float(scores[1]) if several else None, "null": scores[2:].tolist()}
    row["ways"] = None
    if task.label not in STANDARD:
        row["ways"] = arrangements(units.labels[np.unique(units.groups, return_index=True)[1]])
    return row | {"n_texts": int(units.groups.max()) + 1, "status": "ok"}


def interval(value: float, drops: Sequence[float], kind: str) -> tuple[float, float]:
    """Interval of a score where it lives: R² below 1, accuracy in 0 … 1, ρ in -1 … 1."""
    if kind == "ridge":
        missed = jackknife(1 - value, [1 - drop for drop in drops], scale="log")
        return 1 - missed[1], 1 - missed[0]
    return jackknife(value, drops, scale="logit" if kind == "classes" else "fisher")
