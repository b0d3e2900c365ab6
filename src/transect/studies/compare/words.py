"""The comparison in words and figures: findings with their numbers, warnings, methods, captions."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from transect.inference.ruling import ruled
from transect.measures.registry import find
from transect.results.study import Figure, Study, describe_run
from transect.results.words import flagged, interval, share
from transect.store.store import Store
from transect.studies.compare.arms import MATCHED, Arm, ends, judgement
from transect.studies.compare.contrasts import SEEDS

#: What the headline curve and the heatmap show, in order.
SHOWN = ("cka", "procrustes", "knn_overlap", "rsa", "cosine", "sinkhorn")


def describe(
    study: Study, every: Sequence[Store], arms: Sequence[Arm], matrix: str, options: dict[str, Any]
) -> None:
    layers = study.tables["layers"]
    n, texts = int(layers.column("n")[0]), int(layers.column("n_texts")[0])
    position = "kept" if options["position0"] else "dropped"
    shown = "; ".join(describe_run(s) for s in every)
    origin = (
        f"{shown}. n = {n} tokens, position 0 {position}, raw points, same tokens in every run; 95 % "
        "intervals by"
        " leaving out groups of texts."
    )
    study.trace(every, options)
    study.findings = _findings(study, arms)
    study.warnings += _warnings(study, arms)
    if "ruling" in study.tables:
        raw = layers.where(normalise="raw")
        study.warnings += ruled(list(study.tables["ruling"]), list(raw), list(study.tables["ruled"]))
    study.methods = _methods(n, texts, position, options, arms)
    study.figures = _figures(study, arms, matrix, options, origin)


def _figures(
    study: Study, arms: Sequence[Arm], matrix: str, options: dict[str, Any], origin: str
) -> list[Figure]:
    token = options["tokens"][0]
    common = {"token": token, "normalise": "raw"}
    final = list(dict.fromkeys(a.series for a in ends(arms)))
    steps = list(dict.fromkeys(a.series for a in arms if a.role == "run" and a.series not in final))
    floors = list(study.tables["curves"].where(role=["noise", "random", "seed"]).values("series"))
    figures = [
        Figure(
            "drift",
            "compare_curves",
            "curves",
            "Drift from the base, layer by layer",
            (
                "1 − similarity, or distance, of each layer to the same layer of the base; grey: "
                "controls, which may lie below the axis. Band: interval by text of the mean over seeds. "
                f"{origin}"
            ),
            {
                "measures": [m for m in SHOWN if m in options["measures"]],
                "series": final,
                "controls": floors,
                **common,
            },
        ),
        Figure(
            "heatmap",
            "compare_heat",
            "curves",
            "Drift by layer and run",
            f"Drift of every run from the base, logarithmic colours. {origin}",
            {"measure": options["measures"][0], "series": [*final, *steps, *floors], **common},
        ),
    ]
    if "matrices" in study.tables:
        first = {a.series: a.name for a in reversed(ends(arms))}.values()
        seen = {r["panel"]: r for r in reversed(list(study.tables["matrices"]))}
        panels = [
            p
            for k, p in enumerate(study.tables["matrices"].values("panel"))
            if k == 0 or seen[p]["kind"] == "difference" or (seen[p]["run2"] or seen[p]["run"]) in first
        ]
        figures.append(
            Figure(
                "matrices",
                "compare_matrices",
                "matrices",
                f"Layer × layer {matrix}",
                (
                    "The base with itself; the first run of each kind with itself and with the base; "
                    f"every run with the base, less the base with itself (one scale). {origin}"
                ),
                {"panels": panels, "measure": matrix},
            )
        )
    if steps:
        figures.append(
            Figure(
                "training",
                "compare_points",
                "score",
                "Drift along training",
                f"Mean drift over layers against the training step. {origin}",
                {
                    "measures": [m for m in SHOWN if m in options["measures"]][:3],
                    "x": "step",
                    "xlabel": "training step",
                    "lines": True,
                    **common,
                },
            )
        )
    if any(a.score == a.score for a in arms):
        figures.append(
            Figure(
                "score",
                "compare_points",
                "score",
                "Drift against score",
                (
                    "Mean drift over layers against the score on held-out examples; a point per run or "
                    f"checkpoint. {origin}"
                ),
                {
                    "measures": [m for m in SHOWN if m in options["measures"]][:3],
                    "x": "score",
                    "xlabel": "score on held-out examples",
                    "lines": False,
                    **common,
                },
            )
        )
    if "weights" in study.tables:
        figures.append(
            Figure(
                "weights",
                "adapter_layers",
                "weights",
                "Size of the weight change by layer",
                f"‖ΔW‖ / ‖W‖ of every block. {origin}",
                {},
            )
        )
    return figures


def _findings(study: Study, arms: Sequence[Arm]) -> list[str]:
    sentences = []
    for arm in ends(arms):
        every = study.tables["entering"].where(run=arm.name, measure="cka", normalise="raw")
        steps = [r for r in every if r["low"] is not None and r["low"] > 0][:3]
        if steps:
            best = "; ".join(
                f"{r['site']} → {r['site2']} {interval(r, digits=3)}"
                + _beside(_agreed(r, len(every)), _controls(study, arms, "entering", r))
                for r in steps
            )
            sentences.append(
                f"{arm.name}: change enters most (growth of 1 − unbiased CKA across a block) at {best}."
            )
        every = study.tables["ranking"].where(run=arm.name, measure="cka", normalise="raw")
        first = list(every)[:3]
        if first and not any(r["value"] for r in first):
            sentences.append(f"{arm.name}: at every layer the points of the base, to the last bit of CKA.")
        elif first:
            best = "; ".join(
                f"{r['site']} {interval(r, digits=3)}"
                + _beside(_agreed(r, len(every)), _controls(study, arms, "ranking", r))
                for r in first
            )
            sentences.append(
                f"{arm.name}: largest accumulated drift from the base (1 − unbiased CKA) at {best}."
            )
        if arm is next(a for a in arms if a.series == arm.series):
            for row in study.tables["summary"].where(series=arm.series, measure="cka", normalise="raw"):
                sentences.append(_mean_drift(study, arm, row))
        if arm.headline and arm.score == arm.score:
            base = "" if arm.baseline != arm.baseline else f" ({judgement(arm)})"
            sentences.append(
                f"{arm.name}: {arm.headline} {arm.score:.3g} on {arm.n_judged or 'the'} held-out "
                f"examples{base}; loss {arm.loss:.3g}."
            )
    sentences += _second_seeds(study)
    sentences += _methods_compared(study)
    for row in study.tables.get("relation", ()):
        if row["with"] in ("cka", "euclidean"):
            sentences.append(
                f"{row['run']}: rank correlation over layers of ‖ΔW‖ / ‖W‖ with the step of "
                f"{row['with']}: {row['value']:.2f}"
                f" (n = {row['n']} layers, which are not independent)."
            )
    return sentences


def _beside(*parts: str) -> str:
    """What there is of some parts, in brackets."""
    said = "; ".join(part for part in parts if part)
    return f" ({said})" if said else ""


def _agreed(row: dict[str, Any], places: int) -> str:
    """How many replicates agree that a place is among the first three; of three places all are."""
    return f"{share(row['top3'])} of replicates in the top 3" if places > 3 else ""


def _controls(study: Study, arms: Sequence[Arm], table: str, row: dict[str, Any]) -> str:
    """The number of every control in the place of a row."""
    names = [a.name for a in arms if a.role in ("noise", "random", "seed")]
    same = {k: row[k] for k in ("measure", "site", "token", "normalise")}
    controls = study.tables[table].where(run=names, **same)
    return "; ".join(f"{r['run']} {interval(r, digits=3)}" for r in controls)


def _mean_drift(study: Study, arm: Arm, row: dict[str, Any]) -> str:
    """Mean drift of a series, beside the controls that were given."""
    beside = [
        f"{r['series']} {interval(r, digits=3)}"
        for r in study.tables["summary"].where(role=["noise", "random"], measure="cka", normalise="raw")
    ]
    tail = f"; controls: {'; '.join(beside)}" if beside else ""
    runs = f"{row['runs']} run{'s' if row['runs'] > 1 else ''}"
    return f"{arm.series}: mean drift over layers {interval(row, digits=3)} (1 − unbiased CKA, {runs}){tail}."


def _second_seeds(study: Study) -> list[str]:
    """How far a run lies from the base beside how far two of its seeds lie apart; nothing is tested."""
    if not len(study.tables["contrasts"]):
        return []
    sentences = []
    table = study.tables["contrasts"].where(contrast="beyond second seed", measure="cka")
    for run in table.values("run"):
        rows = [r for r in table.where(run=run) if r["left"] is not None and r["right"] is not None]
        if rows:
            left, right = (float(np.mean([r[k] for r in rows])) for k in ("left", "right"))
            sentences.append(
                f"{run}: mean over layers of 1 − unbiased CKA: {left:.3g} to the base, {right:.3g} to "
                f"{rows[0]['run2']} of another seed; one pair of seeds tests nothing."
            )
    return sentences


def _methods_compared(study: Study) -> list[str]:
    """What was tested over seeds, or why nothing was."""
    table = study.tables["contrasts"]
    over = table.where(basis="seeds") if len(table) else table
    if not len(over):
        return [f"Methods are not compared: that needs {SEEDS} training seeds an arm of one task."]
    sentences = []
    for name in over.values("contrast"):
        rows = list(over.where(contrast=name))
        hits = sum(r["p_holm"] is not None and r["p_holm"] < 0.05 for r in rows)
        sentences.append(
            f"{name}: {hits} of {len(rows)} layer × measure cells differ (Welch's t over "
            f"{rows[0]['seeds']} seeds an arm or"
            " more, Holm-corrected p < 0.05)."
        )
    return sentences


def _warnings(study: Study, arms: Sequence[Arm]) -> list[str]:
    sentences, roles = [], {a.role for a in arms}
    for role, flag, what in (
        ("noise", "--noise", "numeric noise"),
        ("seed", "--seed-control", "a second seed"),
        ("random", "--random", "random weights"),
    ):
        if role not in roles and not (role == "seed" and "between" in study.tables):
            sentences.append(
                f"No control for {what} was given ({flag}): differences from zero say little without it."
            )
    sentences += flagged({k: v for k, v in study.tables.items() if k in ("layers", "matrices")})
    return sentences


def _methods(n: int, texts: int, position: str, options: dict[str, Any], arms: Sequence[Arm]) -> list[str]:
    measures = "; ".join(f"{m} ({find(m).source})" for m in options["measures"])
    runs = [a for a in arms if a.role == "run"]
    scalings = "; ".join(
        f"{a.name}: {a.method}, task {a.task}, seed {a.seed}, step {a.step}" for a in runs if a.task
    )
    return [
        (
            f"All runs hold the same tokens. Points are tokens; position 0 is {position}. {n} "
            f"tokens were drawn from {texts} texts, the same number from each of {options['groups']} groups "
            f"of texts (seed {options['seed']}), and the same tokens were used at every layer of every run. "
            f"Token classes: {', '.join(options['tokens'])}."
        ),
        (
            "Drift of a layer is 1 − similarity, or the distance, between the run and the base at that "
            f"layer: {measures}. Sinkhorn and Bures compare the two clouds of the same tokens; of the same "
            "tokens there is no split-half null. The null of the others permutes whole texts."
        ),
        (
            "Intervals are 95 %, from leaving out one group of texts at a time (delete-group jackknife, t "
            "with G − 1 degrees of freedom). Every run leaves out the same groups, so that differences of "
            "drift have intervals of their own. They resample texts; training seeds are shown one by one."
        ),
        "Contrasts of two given runs (beyond numeric noise, beyond a second seed, full less LoRA) have "
        "intervals over texts and no p."
        f" A claim about methods resamples training seeds: Welch's t where each arm of a task has {SEEDS} "
        "seeds or more, Holm over"
        " layers × measures; with fewer nothing is tested.",
        (
            "LoRA and full runs are matched on held-out loss: for each LoRA run the full checkpoint of its "
            f"task (and seed, where there is one) with the nearest loss; more than {MATCHED:.0%} apart "
            "counts "
            "as not matched. An arm learned when its score exceeds the baseline (majority class, no answer, "
            "or the untrained loss) with 95 % confidence over examples."
        ),
        *([f"Runs: {scalings}."] if scalings else []),
    ]
