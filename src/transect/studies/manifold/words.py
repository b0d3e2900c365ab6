"""The manifold study in words and figures: findings with their numbers, warnings, methods, captions."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from transect import __version__
from transect.inference.intervals import agreement
from transect.models import sites
from transect.results.study import Figure, Study, describe_run
from transect.results.table import Table
from transect.results.words import interval, share
from transect.store.store import Store
from transect.studies.manifold.plan import MapJob

WARNING = (
    "A high score means that a linear map can read the label in this shape from held-out texts. It does "
    "not mean that the"
    " model keeps the feature there, nor uses it: see the share of variance, the random-weight map, and "
    "--intervene and --steer."
)


def describe(
    study: Study,
    runs: list[Store],
    controls: list[Store],
    job: MapJob,
    notes: list[str],
    destination: str | None,
) -> None:
    """Fill in findings, warnings, methods, provenance and figures."""
    shown = "; ".join(describe_run(s) for s in [*runs, *controls])
    design = (
        f"{job.folds} folds that hold out whole values of {job.group or 'the label'}, repeated "
        f"{job.repeats} times;"
        f" {job.permutations} permutations of label values; ridge α = {job.alpha:g} on points scaled "
        f"{job.scale!r};"
        f" {job.n_components} dimensions"
    )
    study.provenance = {"transect": __version__, "label": job.label, "shapes": [list(s) for s in job.shapes]}
    study.provenance |= {
        "group": job.group,
        "folds": job.folds,
        "repeats": job.repeats,
        "permutations": job.permutations,
        "seed": job.seed,
    }
    study.provenance |= {
        "alpha": job.alpha,
        "scale": job.scale,
        "source": job.source,
        "dimension": job.n_components,
    }
    study.provenance |= {"runs": [s.manifest | {"path": str(s.path)} for s in [*runs, *controls]]}
    for table in study.tables.values():
        table.provenance = study.provenance
    study.findings = _findings(study, runs, controls, job)
    study.warnings = [WARNING, *notes]
    if not controls:
        study.warnings.append(
            "No random-weight control was given: what training added cannot be said (--random-weights)."
        )
    study.methods = _methods(job, design)
    study.figures = figures(study, runs, job, f"{shown}. {design}.", destination)


def _findings(study: Study, runs: list[Store], controls: list[Store], job: MapJob) -> list[str]:
    sentences, name = [], job.shapes[0][0]
    for store in runs:
        free = study.tables["map"].where(run=store.name, kind="free", shape=name, status="ok")
        rows = sorted(free, key=lambda r: -(r.get("added") or r["corrected"]))
        if not rows:
            continue
        top = rows[0]
        if controls:
            sentences.append(
                f"{store.name}: training added most at {where(top)}: {top['added']:.2f} "
                f"[{top['added_low']:.2f}, {top['added_high']:.2f}] corrected score over random weights"
                f"{_p(top, 'added_p_max', 'paired over folds, Holm over the map')}: corrected "
                f"{top['corrected']:.2f}{_p(top, 'p_max', 'permuted labels, max-T')} (score "
                f"{top['value']:.2f}, null {top['null']:.2f}) against {top['random']:.2f}; the subspace "
                f"holds {top['share']:.1%} of the variance there; {_same(rows, 'added_replicates')}."
            )
        high = [r for r in rows if r["corrected_low"] > 0 and (r.get("p_max") or 1) <= 0.05]
        above = f"{len(high)} of {len(rows)} cells score above the null (max-T p ≤ 0.05, interval above 0)"
        sentences.append(
            f"{store.name}: {top['untested'] or above};"
            f" corrected up to {interval(max(rows, key=lambda r: r['corrected']), 'corrected', 2)}. "
            "Decodable is not the same as being there."
        )
        sentences += _before(store, rows, job) + _transfer(study, store, job)
    sentences += _shapes(study)
    return sentences


def _same(rows: Sequence[dict[str, Any]], column: str) -> str:
    """Share of the folds whose largest number stands in the first row's cell."""
    drops = np.array([r[column] for r in rows], float)
    return f"{share(agreement(np.argmax(drops, axis=0).tolist(), 0))} of folds and repeats pick the same cell"


def _p(row: dict[str, Any], name: str, test: str) -> str:
    """A p-value with its test, in brackets; nothing where there is none."""
    p = row.get(name)
    return "" if p is None or p != p else f" (p = {p:.2g}, {test})"


def where(row: dict[str, Any]) -> str:
    """A cell in words: site, selector and token."""
    return f"{row['site']}, {row['token'].removeprefix('landmark:')} ({row['piece'].strip() or 'space'!r})"


def _before(store: Store, rows: list[dict[str, Any]], job: MapJob) -> list[str]:
    """Tokens before the source cannot know the label in a causal model: a check of the whole pipeline."""
    at = next((r["column"] for r in rows if r["token"] == job.source), None)
    early = [r for r in rows if at is not None and r["column"] < at]
    if store.manifest["model"]["kind"] != "decoder" or not early:
        return []
    low, high = min(r["corrected"] for r in early), max(r["corrected"] for r in early)
    return [f"{store.name}: before the source token, corrected scores lie between {low:.2f} and {high:.2f}."]


def _transfer(study: Study, store: Store, job: MapJob) -> list[str]:
    """The best of the reuse and the rigid map, away from the source."""
    sentences = []
    words = {
        "reuse": f"the subspace fitted at {job.source} reads",
        "orthonormal": "a rigid (orthonormal) map reads",
    }
    for kind, phrase in words.items():
        rows = [
            r
            for r in study.tables["map"].where(run=store.name, kind=kind, status="ok")
            if r["token"] != job.source
        ]
        if rows:
            rows.sort(key=lambda r: -r["corrected"])
            top = rows[0]
            random = top.get("random")
            beside = "" if random is None else f", random weights {random:.2f}"
            sentences.append(
                f"{store.name}: {phrase} best at {where(top)}: corrected {interval(top, 'corrected', 2)} "
                f"(null {top['null']:.2f}{beside}); {_same(rows, 'replicates')}."
            )
    return sentences


def _shapes(study: Study) -> list[str]:
    if "discovery" not in study.tables:
        return []
    sentences = []
    for run in study.tables["discovery"].values("run"):
        part = list(study.tables["discovery"].where(run=run, status="ok"))
        for filled in dict.fromkeys(r["target_rank"] for r in part):
            equal = [r for r in part if r["target_rank"] == filled]
            if len(equal) < 2:
                continue
            first, second = equal[:2]
            sure = "ahead of" if second["behind_low"] > 0 else "not told apart from"
            sentences.append(
                f"{run}: at {where(first)} the best shape of those that fill {filled} dimension"
                f"{'s' * (filled != 1)} is {first['shape']} (corrected {first['corrected']:.2f}), {sure}"
                f" {second['shape']} by {second['behind']:.3f} [{second['behind_low']:.3f}, "
                f"{second['behind_high']:.3f}]."
            )
    return sentences + [
        f"Friedman test over runs: {r['status']}." for r in study.tables["friedman"] if r["status"] != "ok"
    ]


def _methods(job: MapJob, design: str) -> list[str]:
    listed = ", ".join(f"{name} {parameters}" for name, parameters in job.shapes)
    return [
        f"Supervised MDS: {design}. Shapes and parameters: {listed}. Labels are not rescaled.",
        "Score: 1 − √(Σ(D − s·D̂)²/ΣD²) over all pairs of held-out texts, s the best scale. Corrected: (s "
        "− s₀)/(1 − s₀), s₀"
        " the mean of the permutation null, which permutes label values and keeps together the texts "
        "that "
        "share one.",
        "p = (1 + #null ≥ s)/(1 + B); max-T takes the largest corrected statistic over the whole site × "
        "token map of every"
        f" permutation. Both use the first repeat and at most {job.pairs} pairs a fold, the same for "
        "score and null.",
        (
            "Intervals: Nadeau–Bengio over repeated folds, 95 %. Share: held-out variance within the fitted "
            "subspace."
        ),
        f"Reuse: W is fitted on training texts at {job.source} and applied to held-out texts at the other "
        "token, which are"
        " centred and scaled by that token's own training texts, without labels.",
        (
            "Embedding: the same cell at resid.0, before any block. Random weights: the same map of the "
            "control runs."
        ),
        "Shapes that leave distances undefined (chains, separate graphs) enter the map by shortest paths; "
        "pairs without a"
        " distance are not scored.",
        "Shapes are ranked among those whose labels fill as many dimensions (a line fills one, and asks "
        "less). What training added is tested by the paired Nadeau–Bengio t over folds, one-sided, Holm over "
        "the map. The null takes it that how many texts share a value has nothing to do with the value.",
    ]


def figures(
    study: Study, runs: list[Store], job: MapJob, origin: str, destination: str | None
) -> list[Figure]:
    """Every figure of the study."""
    drawn: list[Figure] = []
    name, label, to = job.shapes[0][0], "/".join(job.label), _destination(study, destination)
    null = "null: mean of permuted labels; hatched: not computed"
    words = {
        "free": "Independent fits",
        "orthonormal": "Rigid fits",
        "reuse": "Subspace of the source, reused",
    }
    for k, store in enumerate(runs):
        end = f"-{k + 1}" if k else ""
        base: dict[str, Any] = {"run": store.name, "shape": name, "source": job.source, "destination": to}
        panels = (
            ["value", "corrected", "random", "added"]
            if _has(study.tables["map"], store, "added")
            else ["value", "corrected"]
        )
        caption = (
            f"Supervised MDS of {label} on a {name} at every site and token of {store.name}; {null}. {origin}"
        )
        titles = {"kind": "free", "panels": panels}
        drawn.append(
            Figure(f"map{end}", "manifold_map", "map", f"{label} on a {name}", caption, base | titles)
        )
        drawn.append(
            Figure(
                f"lines{end}",
                "manifold_lines",
                "map",
                f"{label} along the text at three depths",
                "Corrected score at 25, 50 and 75 % of the depth with 95 % intervals; dashed: random "
                "weights; band: 5–95 % of"
                f" the permutation null. {origin}",
                base | {"sites": _depths(study.tables["map"], store)},
            )
        )
        for kind in [
            k for k in ("orthonormal", "reuse") if len(study.tables["map"].where(run=store.name, kind=k))
        ]:
            title = f"{words[kind]}: {label} on a {name}"
            options = base | {"kind": kind, "panels": ["value", "corrected"]}
            drawn.append(
                Figure(f"{kind}{end}", "manifold_map", "map", title, f"{title}; {null}. {origin}", options)
            )
        text = "|cosine| of W (upper) and mean squared cosine of principal angles (lower) between tokens"
        caption = f"{text}; outlined: source to destination, its null in brackets (permuted labels). {origin}"
        drawn.append(
            Figure(
                f"similarity{end}", "manifold_similarity", "similarity", "Subspaces of tokens", caption, base
            )
        )
        caption = (
            f"Held-out texts in the subspace fitted on the others, beside where their labels belong. {origin}"
        )
        drawn.append(
            Figure(f"scatter{end}", "manifold_scatter", "scatter", f"{label}, held-out texts", caption, base)
        )
        if "discovery" in study.tables:
            caption = (
                "Corrected score of every shape at one cell, chosen by the mean of all shapes,"
                f" {job.n_components} dimensions; 0: permutation null. {origin}"
            )
            drawn.append(
                Figure(f"discovery{end}", "manifold_ranking", "discovery", "Which shape", caption, base)
            )
    return drawn


def _has(table: Table, store: Store, column: str) -> bool:
    return column in table.columns and any(r[column] is not None for r in table.where(run=store.name))


def _depths(table: Table, store: Store) -> list[str]:
    ordered = sorted(table.where(run=store.name).values("site"), key=sites.order)
    return list(dict.fromkeys(ordered[round(f * (len(ordered) - 1))] for f in (0.25, 0.5, 0.75)))


def _destination(study: Study, destination: str | None) -> str | None:
    """The token asked for, or the last landmark."""
    rows = sorted((r for r in study.tables["map"] if r.get("landmark")), key=lambda r: r["column"])
    names = {r["token"] for r in study.tables["map"]}
    if destination:
        return destination if destination in names else f"landmark:{destination}"
    return rows[-1]["token"] if rows else None
