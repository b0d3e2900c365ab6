"""The drift study in words and figures: findings with their numbers, warnings, methods, captions."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from transect.inference.design import Design
from transect.inference.ruling import ruled
from transect.measures.registry import find
from transect.results.study import Study, describe_run
from transect.results.table import Table
from transect.results.words import flagged, interval, other_texts, share
from transect.store.store import Store
from transect.studies.drift.captions import _figures
from transect.studies.drift.names import STABLE

#: Half-samples that must pick the same layer before a sentence calls it the largest.
AGREED = 0.5


def describe(
    study: Study, stores: Sequence[Store], others: Sequence[Store], measure: str, design: Design
) -> None:
    """Fill in findings, warnings, methods, provenance and figures."""
    adjacent = study.tables["adjacent"]
    n, texts = (int(adjacent.where(design="disjoint").column(k)[0]) for k in ("n", "n_texts"))
    position = _position(study, design)
    shown = "; ".join(describe_run(s) for s in [*stores, *others])
    origin = f"{shown}. n = {n} tokens per cloud, {position}, 95 % intervals by leaving out groups of texts."
    study.trace([*stores, *others], design)
    study.provenance |= {"measures": adjacent.provenance.get("measures", {})}
    study.findings = [
        line for s in stores for line in _findings(study, s.name, [c.name for c in others], measure)
    ]
    study.warnings = [*other_texts([*stores, *others]), *_warnings(study, [s.name for s in stores])]
    study.methods = _methods(measure, n, texts, position, design)
    study.figures = _figures(study, stores, others, measure, origin)


def _position(study: Study, design: Design) -> str:
    """What was left out, with counts."""
    kept = "position 0 kept" if design.position0 else "position 0 dropped"
    if not design.massive:
        return kept
    adjacent = study.tables["adjacent"]
    counts = {
        run: int(adjacent.where(run=run).column("massive_dropped")[0]) for run in adjacent.values("run")
    }
    listed = ", ".join(f"{run}: {count}" for run, count in counts.items())
    return f"{kept}, tokens above {design.massive:g} × the median norm dropped ({listed})"


def _findings(study: Study, run: str, controls: Sequence[str], measure: str) -> list[str]:
    return [
        *_largest(study, run, measure, controls),
        *_tested(study, run, controls),
        *_verdict(study, run, controls),
        *_changed(study, run, controls),
    ]


def _largest(study: Study, run: str, measure: str, controls: Sequence[str] = ()) -> list[str]:
    """The largest step of the disjoint excess, with the share of half-samples that pick it too, and the
    excess of the controls there."""
    steps = study.tables["adjacent"].where(measure=measure, design="disjoint", normalise="unit", status="ok")
    part = steps.where(run=run)
    if not len(part):
        return []
    k = int(np.argmax(part.column("corrected")))
    row = list(part)[k]
    halves = [h for h in part.column("halves") if h is not None] if "halves" in part.columns else []
    picks = [int(np.argmax(h)) for h in zip(*halves, strict=True)] if len(halves) == len(part) else []
    agree = float(np.mean([p == k for p in picks])) if picks else math.nan
    word = (
        "the largest step is" if not picks or agree >= AGREED else "the largest step is not settled; first is"
    )
    tail = f"; {share(agree)} of {len(picks)} half-samples of texts pick the same" if picks else ""
    there = steps.where(run=list(controls), site=row["site"], site2=row["site2"])
    beside = "".join(f"; {r['run']} has {interval(r, 'corrected')} there" for r in there)
    return [
        f"{run}: {word} {row['site']} → {row['site2']}: excess {interval(row, 'corrected')} over a "
        "split-half null of"
        f" {row['null']:.4g} ({find(measure).label}, unit-norm points of different texts){tail}{beside}."
    ]


def _tested(study: Study, run: str, controls: Sequence[str] = ()) -> list[str]:
    sentences = []
    for name in study.tables["tests"].values("measure"):
        rows = [
            r for r in study.tables["tests"].where(run=run, measure=name, status="ok") if r["p"] is not None
        ]
        if rows:
            hits = sum(r["p"] <= 0.05 for r in rows)
            theirs = study.tables["tests"].where(run=list(controls), measure=name, status="ok")
            theirs = theirs.where(lambda r: r["p"] is not None)
            beside = "".join(
                f"; {c}: {(tested.column('p') <= 0.05).sum()} of {len(tested)}"
                for c in theirs.values("run")
                if len(tested := theirs.where(run=c))
            )
            sentences.append(
                f"{run}: at {hits} of {len(rows)} steps the two layers differ in distribution "
                f"({find(name).label}; whole texts swapped between them, {rows[0]['draws']} draws; p ≤ 0.05 "
                f"by the largest statistic over all steps){beside}."
            )
    return sentences


def _verdict(study: Study, run: str, controls: Sequence[str]) -> list[str]:
    table = study.tables["verdict"].where(normalise="unit")
    beside = [
        f"{r['run']} {math.exp(r['value']):.2f} [{math.exp(r['low']):.2f}, {math.exp(r['high']):.2f}]"
        for r in table.where(run=list(controls))
    ]
    tail = f"; controls: {', '.join(beside)}" if beside else ""
    return [
        f"{run}: {row['verdict']}: effective rank at n = {row['n']} changes by a factor "
        f"{math.exp(row['value']):.2f}"
        f" [{math.exp(row['low']):.2f}, {math.exp(row['high']):.2f}] from the first to the last third of "
        f"the depth{tail}."
        for row in table.where(run=run)
    ]


def _changed(study: Study, run: str, controls: Sequence[str]) -> list[str]:
    sentences = []
    table = study.tables["changes"]
    words = {"jump": "a jump", "block": "a block ends"}
    for row in table.where(run=run, status="ok"):
        at = {k: row[k] for k in ("kind", "site", "normalise")}
        beside = "" if row["kind"] == "block" or not controls else _beside(row, table.where(**at), controls)
        sentences.append(
            f"{run}: {words[row['kind']]} at {row['site']} → {row['site2']} ({row['normalise']} points; its "
            f"misfit is {row['z']:.1f} × that of the other steps, {share(row['support'])} of "
            f"{row['resamples']} half-samples find it{beside})."
        )
    if not sentences:
        sentences.append(f"{run}: no jump and no block boundary was found.")
    return sentences


def _beside(row: Mapping[str, Any], same: Table, controls: Sequence[str]) -> str:
    """Whether controls have a jump of a run too, and whether it stands out of the difference from them."""
    if row.get("beyond_control"):
        return "; also in the difference from every control"
    having = [c for c in controls if len(same.where(run=c, status="ok"))]
    if having:
        return f"; {', '.join(having)} has it too"
    return "; no control has a jump there, and their difference does not single it out"


def _warnings(study: Study, names: list[str]) -> list[str]:
    sentences = flagged(study.tables, ("ok", "none found"))
    diagnoses = study.tables["diagnostics"].where(run=names)
    effect = diagnoses.where(measure="design_effect").column("value")
    if np.isfinite(effect).any():
        sentences.append(
            f"Tokens of one text are not independent: design effect up to {np.nanmax(effect):.1f}; "
            "halves, groups and draws"
            " are of whole texts."
        )
    sink = diagnoses.where(measure="sink_norm_ratio").column("value")
    if np.isfinite(sink).any() and np.nanmax(sink) > 10:
        sentences.append(
            f"Position 0 is a sink: its norm reaches {np.nanmax(sink):.0f} × the median of the others."
        )
    if "ruling" in study.tables:
        adjacent = study.tables["adjacent"].where(design="disjoint", normalise="raw")
        sentences += ruled(list(study.tables["ruling"]), list(adjacent), list(study.tables["ruled"]))
    return sentences


def _methods(measure: str, n: int, texts: int, position: str, design: Design) -> list[str]:
    m = find(measure)
    return [
        f"Points are tokens; {position}. Every text gives the same number of tokens; {n} make a cloud, "
        f"from half of {texts}"
        f" texts, in {design.groups} groups of texts or as many as there are (seed {design.seed}); the "
        "same tokens were used"
        " at every layer, and what is dropped in one run is dropped in all runs of the same tokens.",
        f"Drift is {m.label} ({m.source}): {m.summary} Its null is the value between two halves of the "
        "texts at one layer,"
        " averaged over the two layers compared; the headline is the excess over it, for clouds of "
        "different texts. The same"
        " tokens at both layers are another design, without that null: their transport stands beside "
        "their displacement.",
        "Intervals are 95 %, from leaving out one group of texts at a time (delete-group jackknife, t "
        "with G − 1 degrees of"
        " freedom), on the log scale for distances; those of an excess include the variation of its null. "
        "Measures of one"
        " layer stand beside the same points with the texts of every column permuted by themselves, a "
        "reference, no test.",
        "Whether two neighbouring layers follow one law is tested by swapping whole texts between them "
        "(99 draws, unit-norm"
        " points), with max-T (Westfall & Young 1993) over the layers.",
        "A jump is a step whose log excess is out of line with a robust local fit of its neighbours, "
        "studentised by sampling"
        " error and the scatter of layers, max over layers at 5 %. A block boundary is one whose pairs "
        "across are farther"
        " apart than pairs of the same lag on either side. Support: share of half-samples of texts that "
        "find it.",
        "The verdict compares effective rank between the first and the last third of the depth at one n; "
        "stable means that"
        f" the whole interval lies within a factor {STABLE}. Rank correlations over layers have no p: "
        "curves through depth"
        " are autocorrelated.",
    ]
