"""Ways from one label to another: along a curve through class means, straight, and in directions that know
nothing of the label. All of it is made of training texts; held-out ones are moved and judge."""

import json
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from transect.errors import TransectError
from transect.numeric.shapes import find_shape
from transect.numeric.splines import Curve
from transect.random import rng
from transect.store.store import Store
from transect.store.units import full_label
from transect.studies.manifold.plan import MapJob, group_folds, read_labels

#: Ways of a move, in the order of tables and figures.
PATHS = ("manifold", "line", "random", "covariance")
#: Parts of the way at which states are looked at; at the last one manifold and line meet.
FRACTIONS = (0.25, 0.5, 0.75, 1.0)
#: Held-out texts that are moved; label values above which neighbours are classed together, and into how many.
TEXTS, MOST, BINS = 36, 24, 12


class Classes(NamedTuple):
    """Texts by label: `values` [K] the mean label of each class, rising; `of` [n] the class of each text;
    `labels` [n]; the period that labels come round after, if any."""

    values: np.ndarray
    of: np.ndarray
    labels: np.ndarray
    period: float | None

    def means(self, X: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Mean points [K, d] of the classes over some texts, every text alike."""
        total = np.zeros((len(self.values), X.shape[1]))
        np.add.at(total, self.of[rows], X[rows])
        return total / np.bincount(self.of[rows], minlength=len(self.values))[:, None]

    def targets(self, rows: np.ndarray, shift: float | int) -> np.ndarray:
        """Where texts go: their label + shift; − shift where + leaves the labels; NaN where both do."""
        y = self.labels[rows]
        if self.period is not None:
            return y + shift
        low, high = self.labels.min(), self.labels.max()
        inside = [(low <= end) & (end <= high) for end in (y + shift, y - shift)]
        return np.select(inside, [y + shift, y - shift], np.nan)


@dataclass(frozen=True)
class Ways:
    """Moves of held-out texts at one site. `deltas`: path → [fractions, n, d]; `off`: path → [1 + fractions,
    n] distance of the path's states from the curve of held-out texts, in steps, from the start on. `step`:
    mean distance of neighbouring class means. `ends` [n]: labels that texts are moved to."""

    texts: np.ndarray
    units: np.ndarray
    position: np.ndarray
    ends: np.ndarray
    step: float
    deltas: dict[str, np.ndarray]
    off: dict[str, np.ndarray]
    curve: Curve

    def sizes(self, path: str) -> np.ndarray:
        """How far texts are moved, in steps, [fractions, n]."""
        return np.linalg.norm(self.deltas[path], axis=2) / self.step


def classes_of(store: Store, job: MapJob) -> Classes:
    """The classes of a job's label. Raises: TransectError for labels that are no single number."""
    y = read_labels(store, job.label)
    if y.dtype.kind not in "fiu" or y.ndim > 1:
        raise TransectError(f"label {'/'.join(job.label)}: no curve leads through it.", "Choose one number.")
    name, parameters = job.shapes[0][0], json.loads(job.shapes[0][1])
    y, period = y.astype(np.float64), parameters.get("period")
    if period is not None:  # a helix has a period too, and does not come round
        closed = find_shape(name).distances(np.array([y[0], y[0] + period]), **parameters)[0, 1] < 1e-9
        period = float(period) if closed else None
    turned = y if period is None else y % period
    values, of = np.unique(turned, return_inverse=True)
    if len(values) > MOST:
        width = (np.ptp(turned) * (1 + 1e-9) if period is None else period) / BINS
        low = turned.min() if period is None else 0.0
        of = np.unique(((turned - low) / width).astype(int), return_inverse=True)[1]
        values = np.bincount(of, turned) / np.bincount(of)
    return Classes(values, of, turned, period)


def held_out(classes: Classes, groups: np.ndarray | None, folds: int, seed: int) -> np.ndarray:
    """Texts that judge, those of all classes by turns: whole groups, or one of `folds` texts of each class.

    Raises: TransectError where a class has no text on either side.
    """
    draw = rng(seed, "steered texts")
    order = draw.permutation(len(classes.of))
    order = order[np.argsort(classes.of[order], kind="stable")]
    if groups is None:
        rank = np.arange(len(order)) - np.searchsorted(classes.of[order], classes.of[order])
        part = np.sort(order[rank % folds == 0])
    else:
        part = group_folds(groups, folds, draw)[0]
    counts = np.bincount(classes.of[part], minlength=len(classes.values))
    lack = (counts == 0) | (counts == np.bincount(classes.of))
    if lack.any():
        raise TransectError(
            f"label value {classes.values[lack.argmax()]:g} has no text to fit on, or none held out.",
            "Add texts, or ask for other folds or another group.",
        )
    order = order[np.isin(order, part)]
    rank = np.arange(len(order)) - np.searchsorted(classes.of[order], classes.of[order])
    return order[np.argsort(rank, kind="stable")]


def ways(store: Store, job: MapJob, site: str, token: str, shift: float | int) -> Ways:
    """Every way of a move at a site. Raises: TransectError where points are the same, or no text can move."""
    classes, selection = classes_of(store, job), store.select(token)
    groups = None if job.group is None else full_label(store, job.group)
    held = held_out(classes, groups, job.folds, job.seed)
    train = np.setdiff1d(np.arange(len(classes.of)), held)
    X = store.take(site, selection).astype(np.float64)
    if not np.ptp(X[train], axis=0).max() > 0:
        raise TransectError(f"{site}, {token}: the points are the same in all texts.", "Choose a later site.")
    fitted, judged = (classes.means(X, rows) for rows in (train, held))
    fitted, judged = fitted - fitted.mean(axis=0), judged - judged.mean(axis=0)
    curve, judge = (Curve(classes.values, means, classes.period) for means in (fitted, judged))
    ends = classes.targets(held, shift)
    if not np.isfinite(ends).any():
        raise TransectError(
            f"no label stays among the labels when moved by {shift:g}.", "Give a smaller --shift."
        )
    kept = np.isfinite(ends)
    texts, ends = held[kept][:TEXTS], ends[kept][:TEXTS]
    begin = classes.labels[texts]
    deltas = _deltas(curve, begin, ends, X[train] - X[train].mean(axis=0), job.seed)
    closing = [] if classes.period is None else [judged[:1]]
    step = float(np.linalg.norm(np.diff(np.concatenate([judged, *closing]), axis=0), axis=1).mean())
    start = curve.at(begin)
    off = {
        path: np.stack([judge.distances(start + move) for move in (0 * start, *moves)]) / step
        for path, moves in deltas.items()
    }
    units = np.unique(classes.of if groups is None else groups, return_inverse=True)[1].ravel()[texts]
    return Ways(texts, units, selection.position[texts], ends, step, deltas, off, curve)


def _deltas(
    curve: Curve, begin: np.ndarray, ends: np.ndarray, T: np.ndarray, seed: int
) -> dict[str, np.ndarray]:
    """What is added on each way, path → [fractions, n, d]; random ones go as far as the curve does."""
    parts, start = np.array(FRACTIONS)[:, None], curve.at(begin)
    along = np.stack([curve.at(begin + f * (ends - begin)) for f in FRACTIONS]) - start
    line = parts[:, None] * (curve.at(ends) - start)
    lengths = np.linalg.norm(along, axis=2, keepdims=True)
    if not np.linalg.norm(line, axis=2).min() > 1e-9 * np.abs(T).max():
        raise TransectError(
            "a move that comes back to where it began.", "Give another --shift than a period."
        )
    draw = rng(seed, "steered at random")
    free = draw.standard_normal((len(begin), T.shape[1]))
    shaped = draw.standard_normal((len(begin), len(T))) @ T
    other = [D / np.linalg.norm(D, axis=1, keepdims=True) * lengths for D in (free, shaped)]
    return dict(zip(PATHS, [along, line, *other], strict=True))
