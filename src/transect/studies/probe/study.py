"""Probe: what a linear map reads from states at each layer and token, beside what it reads from anything.

Groups of texts are held out whole. Labels permuted, a control task and control runs stand beside every score.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Any, Unpack

import numpy as np

from transect.errors import TransectError
from transect.inference.asks import Ask, answer
from transect.inference.tests import max_t, permutation_p, studentised, untested
from transect.models import sites
from transect.results.study import Study
from transect.results.table import Table, merge
from transect.store.store import Store
from transect.store.units import full_label
from transect.studies.probe.cells import STANDARD, Probe, probed, units_of
from transect.studies.probe.fit import KINDS
from transect.studies.probe.words import describe
from transect.studies.runs import Run, captured_controls, distinct, open_runs
from transect.work.options import MOST_DRAWS, Option, Work, WorkOptions, group, only

#: The table that --json prints.
HEADLINE = "probe"
#: Different numbers from which labels are regressed on where nobody says.
NUMBERS = 8
#: How classes are read.
CLASSIFIERS = ("ridge", "logistic")


class ProbeOptions(WorkOptions, total=False):
    """What is read, from where, and how it is judged."""

    texts: Annotated[Any, Option(None, "Texts to capture a model on: a file, birthdays:400, …")]
    sites: Annotated[str, Option("resid", "Family or single site; several separated by commas.")]
    kind: Annotated[
        str | None,
        Option(
            None, "Of the labels: ridge for numbers, classes, ordinal; by default as they are.", choices=KINDS
        ),
    ]
    classifier: Annotated[
        str, Option("ridge", "Of classes: least squares or logistic regression.", choices=CLASSIFIERS)
    ]
    hold_out: Annotated[
        str | None,
        Option(None, "Label whose values are held out whole; by default a text's document, else the text."),
    ]
    folds: Annotated[int, Option(5, "Parts of the groups, held out in turn.", least=2)]
    permutations: Annotated[int, Option(99, "Permuted labellings behind null and p.", 0, MOST_DRAWS)]
    groups: Annotated[int, Option(10, "Groups of texts behind the intervals.", least=2)]
    seed: Annotated[int, Option(0, "Seed of every random choice.", least=0)]


def probe(
    stores: Run | Sequence[Run],
    *,
    label: str = "position",
    tokens: Sequence[str] | None = None,
    controls: Sequence[Run] = (),
    random_weights: bool = False,
    **options: Unpack[ProbeOptions],
) -> Study:
    """What a linear probe reads at each layer and token, beside permuted labels and a control task.

    Args:
        stores: Stores, or models that are captured on `texts`.
        label: Label of the texts; or position or token, which every store has.
        tokens: Tokens that a text's label is read at: last, landmark:NAME+k, a position; by default last, or
        the one point of texts that were pooled.
        controls: Store of a control run, as often as there are some.
        random_weights: Capture a control: the same architecture with random weights.

    Returns: a study with the table probe.

    Raises: TransectError for a label that a store lacks or that has one value, and for too few groups.
    """
    only(options, ProbeOptions)
    how, work = group(options, ProbeOptions), Work.of(options)
    opened = open_runs(stores, how.texts, work.out, seed=how.seed, progress=work.progress)
    others = open_runs(list(controls)) if controls else []
    others += captured_controls(opened[0], work, how.seed, random_weights=random_weights)
    distinct([*opened, *others])
    pooled = any(s.manifest["pool"] for s in opened)
    where = ["all"] if label in STANDARD or (pooled and tokens is None) else list(tokens or ["last"])
    asks: dict[str, Ask] = {}
    for store in [*opened, *others]:
        names = sites.select(store.sites, sites.asked(how.sites))
        tasks = [_task(store, names[0], token, label, how) for token in where]
        for task in tasks:
            units_of(store, task)  # refuses before any work
        cells = tuple(task._replace(site=name) for task in tasks for name in names)
        asks[store.name] = Ask(probed, cells, list, key=Probe.key)
    answers = answer(asks, work, "probe")
    study = Study("probe", f"Where can {label} be read linearly?", {})
    study.tables["probe"] = merge([_table(run, asks[run].tasks, answers[run], how) for run in asks])
    describe(study, opened, others, label, how)
    return study.marked().in_units_of([*opened, *others])


def _task(store: Store, site: str, token: str, label: str, how: Any) -> Probe:
    kind = how.kind
    if label not in STANDARD:
        values = full_label(store, label)
        numbers = values.dtype.kind in "if" and len(np.unique(values)) >= NUMBERS
        kind = kind or ("ridge" if numbers else "classes")
        if kind != "classes" and values.dtype.kind not in "ifb":
            raise TransectError(f"label {label} is no number.", "Use --kind classes.")
    kind = kind or {"position": "ridge", "token": "classes"}[label]
    where = (str(store.path), store.content, site, token, label, kind)
    if how.classifier != "ridge" and kind != "classes":
        raise TransectError(f"a {how.classifier} probe of {label}, which is {kind}.", "Use --kind classes.")
    return Probe(*where, how.hold_out, how.folds, how.permutations, how.groups, how.seed, how.classifier)


def _table(run: str, tasks: Sequence[Probe], answers: Sequence[dict[str, Any]], how: Any) -> Table:
    """A row a cell; p_max over all cells of the run, from studentised scores."""
    rows = [_row(run, task, numbers) for task, numbers in zip(tasks, answers, strict=True)]
    known = [k for k, numbers in enumerate(answers) if numbers.get("null")]
    if known and all(_tested(answers[k]) for k in known):
        values = np.array([answers[k]["value"] for k in known])
        z, null = studentised(values, np.array([answers[k]["null"] for k in known]).T)
        for k, p in zip(known, max_t(z, null).tolist(), strict=True):
            rows[k]["p_max"] = p
    return Table(rows)


def _tested(numbers: dict[str, Any]) -> bool:
    """Whether a p can be small: enough draws, and enough different ones."""
    return untested(len(numbers["null"]), ways=numbers["ways"] or math.inf) is None


def _row(run: str, task: Probe, numbers: dict[str, Any]) -> dict[str, Any]:
    row = {"measure": "probe_score", "run": run, "site": task.site, "token": task.token, "label": task.label}
    row |= {
        "kind": task.kind,
        "seed": task.seed,
        "position0": "dropped",
        "status": numbers["status"],
        "p_max": None,
    }
    if numbers["status"] != "ok":
        return row
    row |= {k: numbers[k] for k in ("value", "low", "high", "n", "n_texts", "variance", "control_task")}
    row["selectivity"] = (
        None if numbers["control_task"] is None else numbers["value"] - numbers["control_task"]
    )
    null = np.array(numbers["null"])
    if len(null):
        ends = np.quantile(null, [0.025, 0.975]).tolist()
        row |= {"null": float(null.mean()), "null_low": ends[0], "null_high": ends[1], "draws": len(null)}
        row |= {"corrected": numbers["value"] - float(null.mean()), "control": "permuted labels"}
        row["p"] = permutation_p(numbers["value"], null) if _tested(numbers) else None
    return row
