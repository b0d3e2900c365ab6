"""Intervention: move points along a fitted manifold inside the model, and see whether the next token follows.

A map says where a feature can be read; this says where it is used. At one token of one site each held-out
text is moved from its own label to another one (a date by 90 days), and the model's next-token distribution
is compared with the unmoved one, beside moves of equal size in random subspaces.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from transect.errors import TransectError
from transect.inference.asks import Ask, answer
from transect.results.study import Figure, Study, describe_run
from transect.results.table import Table
from transect.results.words import interval
from transect.store.recapture import model_or_refuse
from transect.store.store import Store
from transect.studies.manifold.moves import next_token, plan_move
from transect.studies.manifold.plan import read_labels
from transect.studies.manifold.question import (
    Moving,
    answered,
    by_unit,
    mean_interval,
    question,
    tasks_of,
)  # fmt: skip
from transect.work.options import Work

TEXTS, DRAWS = 32, 3  # held-out texts that are moved; random directions of the same size
#: Shares of the depth at which texts are moved.
DEPTHS = np.linspace(0.1, 0.95, 5).tolist()


def intervene(task: Moving) -> list[dict[str, Any]]:
    """A row for each measure: `kl` (nats, moved against unmoved), and `label_shift` where the label has
    words: how much the log-odds of the new label's word over the old one's rise. null: random subspace;
    `covariance`: drawn from the points' covariance. Means and intervals over groups of texts, or label values
    where there are none."""
    asked, shift = question(task), float(task.shift or 0)
    store, model = asked.store, asked.model
    base = answered(asked, task, shift) | {"shape": task.job.shapes[0][0], "draws": DRAWS}
    base["control"] = "random subspace, same size"
    try:
        move = plan_move(store, task.job, task.site, task.token, shift, texts=TEXTS, draws=DRAWS)
    except TransectError as error:
        return [base | {"measure": m, "status": str(error)} for m in ("kl", "label_shift")]
    ids = asked.ids(move.texts)

    def after(delta: np.ndarray) -> np.ndarray:
        return next_token(model, ids, (task.site, move.position, delta))

    before, along = next_token(model, ids), after(move.along)
    random, shaped = ([after(d) for d in draws] for draws in (move.random, move.covariance))
    y = read_labels(store, task.job.label)[move.texts]
    old, new = (asked.tokens(y + s) for s in (0.0, shift))
    measures: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "kl": lambda q: (np.exp(before) * (before - q)).sum(1)
    }
    size = float(np.mean(np.linalg.norm(move.along, axis=1)))
    norm = float(np.mean(np.linalg.norm(store.take(task.site, store.select(task.token)), axis=1)))
    base |= {"n": len(ids), "n_texts": len(ids), "size": size, "relative_size": size / norm}
    if len(old):
        measures["label_shift"] = lambda q: _odds(q, old, new) - _odds(before, old, new)
        base["old_word"] = float(np.mean(np.exp(before[np.arange(len(ids)), old])))
        base["new_word"] = float(np.mean(np.exp(along[np.arange(len(ids)), new])))
    rows = []
    for name, measure in measures.items():
        null, other = ([measure(q) for q in draws] for draws in (random, shaped))
        rows.append(base | {"measure": name, "status": "ok"} | _row(measure(along), null, other, move.units))
    if not len(old):
        why = "the label has no words of one token each"
        rows.append(base | {"measure": "label_shift", "status": why})
    return rows


def _odds(logp: np.ndarray, old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Log-odds of a new word over an old one [texts], from log-probabilities [texts, vocabulary]."""
    n = np.arange(len(logp))
    return logp[n, new] - logp[n, old]


def _row(
    values: np.ndarray, null: list[np.ndarray], shaped: list[np.ndarray], units: np.ndarray
) -> dict[str, Any]:
    """Means over units (groups, or label values) with t-intervals: of the value, of the controls, of the
    excess. Every number weighs units alike."""
    means, draws = by_unit(values, units), np.array([by_unit(v, units) for v in null])
    row = dict(zip(("value", "low", "high"), mean_interval(means), strict=True))
    levels = draws.mean(axis=1)
    row |= {"null": levels.mean(), "null_low": levels.min(), "null_high": levels.max()}
    beyond = mean_interval(means - draws.mean(axis=0))
    row |= dict(zip(("corrected", "corrected_low", "corrected_high"), beyond, strict=True))
    row |= {"covariance": np.mean([by_unit(v, units).mean() for v in shaped]), "n_units": len(means)}
    return {name: float(number) for name, number in row.items()}


def add_intervention(study: Study, store: Store, moves: Mapping[str, Any], work: Work) -> Study:
    """Add the table, figure and findings of an intervention to a manifold study: `at` a token (its source),
    by a `shift` (a quarter of the shape), read after a `prompt`."""
    model_or_refuse(store, "an intervention")
    parameters = json.loads(study.provenance["shapes"][0][1])
    quarter = parameters.get("period", parameters.get("span", 4.0)) / 4
    shift = float(moves["shift"] if moves["shift"] is not None else quarter)
    tasks = tuple(replace(task, shift=shift) for task in tasks_of(study, store, DEPTHS, moves))
    ask = Ask(
        intervene, tasks, lambda answers: Table([row for rows in answers for row in rows]),
        key=lambda task: task.key(__name__),
    )  # fmt: skip
    table = answer({"intervention": ask}, work, "intervention")["intervention"]
    table.provenance = study.provenance
    study.tables["intervention"] = table
    for row in table.where(status="ok"):
        unit = {
            "kl": "KL of the next token",
            "label_shift": "log-odds of the new label's word over the old one's",
        }
        study.findings.append(
            f"{store.name}: moved by {shift:g} at {row['site']}, {tasks[0].token}: {unit[row['measure']]} "
            f"{interval(row, digits=3)}, {interval(row, 'corrected', 3)} "
            f"beyond a random subspace of the same size ({row['null']:.3g}); "
            f"directions of the points' covariance {row['covariance']:.3g} (size "
            f"{row['relative_size']:.0%} of the mean norm)."
        )
    if any(row["n_units"] == 1 for row in table.where(status="ok")):
        study.warnings.append(
            "Intervention: the texts that were moved are of one group, so that it has no interval. "
            "Raise --folds, or choose another --group."
        )
    title = f"Next token after a move of {shift:g} along the manifold"
    where = repr(moves["prompt"]) if moves["prompt"] else "the default prompt"
    caption = (
        f"Held-out texts moved at {tasks[0].token}; the next token is read after {where}; dashed: moves of "
        "the same size in a random subspace, band: their range; dotted: drawn from the points' covariance."
        f" {describe_run(store)}."
    )
    if len(table.where(status="ok")):
        options = {"run": store.name, "token": tasks[0].token}
        study.figures.append(
            Figure("intervention", "manifold_intervention", "intervention", title, caption, options)
        )
    return study
