"""Steering: held-out texts moved along the curve through class means, beside the straight line and directions
of equal size that know nothing of the label. What the next token does, where the states are on the way, and
whether the outputs of classes lie as their states do."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from transect.errors import TransectError
from transect.inference.intervals import jackknife
from transect.inference.tests import permutation_p
from transect.numeric.ranks import spearman
from transect.random import rng
from transect.studies.manifold.moves import next_token
from transect.studies.manifold.paths import FRACTIONS, PATHS, Classes, Ways, classes_of, ways
from transect.studies.manifold.question import Moving, answered, by_unit, mean_interval, question

#: Permuted classes behind the null of the output's geometry.
DRAWS = 199
#: The paired comparison that a row is of.
GAP = "manifold − line"


def steer(task: Moving) -> list[dict[str, Any]]:
    """A row for each path, part of the way and measure: `kl` (nats from the unmoved next token),
    `label_shift` (rise of the log-odds of the target's word over the old one's), `between_shift` (of the
    word halfway over both), `off_manifold` (steps from the curve of held-out texts); and how the outputs of
    classes lie beside their states, `output_geometry`. null: random directions of equal size.
    """
    asked = question(task)
    classes = classes_of(asked.store, task.job)
    span = float(np.ptp(classes.labels)) if classes.period is None else classes.period
    shift = span / 4 if task.shift is None else float(task.shift)
    base = answered(asked, task, shift) | {"design": "held out"}
    try:
        way = ways(asked.store, task.job, task.site, task.token, shift)
    except TransectError as error:
        return [base | {"measure": "kl", "status": str(error)}]
    ids = asked.ids(way.texts)
    before = next_token(asked.model, ids)
    y = classes.labels[way.texts]
    words = [asked.tokens(y + part * (way.ends - y)) for part in (0.0, 0.5, 1.0)]
    telling = Telling(before, *words)
    moved = {
        path: [telling(next_token(asked.model, ids, (task.site, way.position, d))) for d in deltas]
        for path, deltas in way.deltas.items()
    }
    base |= {"step": way.step, "n": len(ids), "n_texts": len(ids), "status": "ok"}
    rows = [*effects(moved, way), *aside(way), *shared_geometry(before, classes, way, task.job.seed)]
    return [base | row for row in rows]


class Telling:
    """Measures of the next token of moved texts, [n] each, against the unmoved ones."""

    def __init__(self, before: np.ndarray, old: np.ndarray, middle: np.ndarray, new: np.ndarray) -> None:
        """`before`: log-probabilities [n, vocabulary]; the tokens [n] that stand for the label where a text
        begins, halfway and at its end; empty where the label has no words."""
        self.before, self.old, self.middle, self.new = before, old, middle, new

    def __call__(self, after: np.ndarray) -> dict[str, np.ndarray]:
        values = {"kl": (np.exp(self.before) * (self.before - after)).sum(1)}
        if len(self.old):
            gain = after - self.before
            n = np.arange(len(gain))
            old, middle, new = (gain[n, k] for k in (self.old, self.middle, self.new))
            values["label_shift"] = new - old
            if not ((self.middle == self.old) | (self.middle == self.new)).any():
                values["between_shift"] = middle - (new + old) / 2
        return values


def effects(moved: dict[str, list[dict[str, np.ndarray]]], way: Ways) -> list[dict[str, Any]]:
    """Rows of the next token, of path → at every fraction measure → [n]. `per_step`: by how far texts are
    moved."""
    rows, sizes = [], {path: way.sizes(path) for path in moved}
    for measure in moved[PATHS[0]][0]:
        values = {path: np.stack([at[measure] for at in ats]) for path, ats in moved.items()}
        rates = {path: v / sizes[path] for path, v in values.items()}
        for k, fraction in enumerate(FRACTIONS):
            base = {"measure": measure, "fraction": fraction}
            for path in PATHS:
                row = _row({p: v[k] for p, v in values.items()}, path, way.units)
                rate = dict(zip(RATE, mean_interval(by_unit(rates[path][k], way.units)), strict=True))
                rows.append(base | row | rate | {"size": float(sizes[path][k].mean())})
            gap = mean_interval(by_unit((rates["manifold"] - rates["line"])[k], way.units))
            row = _row({GAP: (values["manifold"] - values["line"])[k]}, GAP, way.units)
            rows.append(base | row | dict(zip(RATE, gap, strict=True)))
    return rows


RATE = ("per_step", "per_step_low", "per_step_high")


def aside(way: Ways) -> list[dict[str, Any]]:
    """Rows of how far the states of each path are from the curve of held-out texts, in steps; at 0 and 1 the
    class means of training texts themselves: what sampling makes."""
    rows = []
    for k, fraction in enumerate((0.0, *FRACTIONS)):
        base = {"measure": "off_manifold", "fraction": fraction}
        rows += [base | _row({p: v[k] for p, v in way.off.items()}, path, way.units) for path in PATHS]
        rows.append(base | _row({GAP: (way.off["manifold"] - way.off["line"])[k]}, GAP, way.units))
    return rows


def _row(values: dict[str, np.ndarray], path: str, units: np.ndarray) -> dict[str, Any]:
    """Mean over units of one path with its t-interval, that of random directions, and the paired excess."""
    means = by_unit(values[path], units)
    row: dict[str, Any] = {"path": path, "n_units": len(means)}
    row |= dict(zip(("value", "low", "high"), mean_interval(means), strict=True))
    if "random" in values and path != "random":
        null = by_unit(values["random"], units)
        ends = ("corrected", "corrected_low", "corrected_high")
        row |= {"null": float(null.mean()), "control": "random directions, same size"}
        row |= dict(zip(ends, mean_interval(means - null), strict=True))
    return row


def hellinger(P: np.ndarray) -> np.ndarray:
    """Distances √(1 − Σ √(p q)) of laws [k, vocabulary], [k, k], 0 to 1. Source: Hellinger 1909."""
    root = np.sqrt(P)
    return np.sqrt(np.clip(1 - root @ root.T, 0, 1))


def shared_geometry(before: np.ndarray, classes: Classes, way: Ways, seed: int) -> list[dict[str, Any]]:
    """Rows of Spearman's ρ over pairs of classes between the Hellinger distance of what held-out texts are
    followed by and the distance of training texts' class means, along the curve and straight.

    Intervals leave out a class at a time (Fisher's z); null: classes permuted whole.
    """
    of = classes.of[way.texts]
    there = np.unique(of)
    laws = hellinger(np.stack([np.exp(before[of == k].astype(np.float64)).mean(axis=0) for k in there]))
    v = classes.values[there]
    a, b = np.triu_indices(len(v), 1)
    along, straight = np.zeros_like(laws), np.zeros_like(laws)
    along[a, b] = along[b, a] = way.curve.lengths(v[a], v[b])
    gap = way.curve.at(v)[a] - way.curve.at(v)[b]
    straight[a, b] = straight[b, a] = np.linalg.norm(gap, axis=1)
    draws = [rng(seed, "permuted classes", k).permutation(len(v)) for k in range(DRAWS)]
    return related(laws, {"manifold": along, "line": straight}, draws)


def related(
    laws: np.ndarray, states: dict[str, np.ndarray], draws: Sequence[np.ndarray]
) -> list[dict[str, Any]]:
    """Rows of rank correlations between distances of outputs [k, k] and several of states, and their gap."""
    count = len(laws)
    if count < 5:
        why = f"{count} classes; a rank correlation over their pairs needs 5"
        return [{"measure": "output_geometry", "path": path, "status": why} for path in states]

    def rho(D: np.ndarray, E: np.ndarray, kept: np.ndarray) -> float:
        i, j = kept[np.stack(np.triu_indices(len(kept), 1))]
        return spearman(D[i, j], E[i, j])

    every = np.arange(count)
    values = {path: rho(laws, D, every) for path, D in states.items()}
    drops = {p: np.array([rho(laws, D, np.delete(every, k)) for k in every]) for p, D in states.items()}
    rows = []
    for path, D in states.items():
        null = [rho(laws[np.ix_(p, p)], D, every) for p in draws]
        low, high = jackknife(values[path], drops[path], scale="fisher")
        row: dict[str, Any] = {"path": path, "value": values[path], "low": low, "high": high}
        row |= dict(zip(("null_low", "null_high"), np.quantile(null, [0.025, 0.975]).tolist(), strict=True))
        row |= {"null": float(np.mean(null)), "control": "permuted classes", "draws": len(draws)}
        rows.append(row | {"p": permutation_p(values[path], null)})
    one, other = states
    gap = values[one] - values[other]
    low, high = jackknife(gap, drops[one] - drops[other])
    rows.append({"path": GAP, "value": gap, "low": low, "high": high})
    return [{"measure": "output_geometry", "n_units": count} | row for row in rows]
