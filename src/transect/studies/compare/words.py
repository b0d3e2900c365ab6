"""The comparison in words and figures: findings with their numbers, warnings, methods, captions."""

from collections.abc import Sequence
from typing import Any

from transect.measures.contract import find
from transect.results.study import Figure, Study, describe_run
from transect.store.store import Store
from transect.studies.compare.arms import MATCHED, Arm, ends

#: What the headline curve and the heatmap show, in order.
SHOWN = ("cka", "procrustes", "knn_overlap", "rsa", "cosine", "sinkhorn")


def describe(study: Study, every: Sequence[Store], arms: Sequence[Arm], matrix: str, given: dict[str, Any]) -> None:
    layers = study.tables["layers"]
    n, texts = int(layers.column("n")[0]), int(layers.column("n_texts")[0])
    position = "kept" if given["position0"] else "dropped"
    shown = "; ".join(describe_run(s) for s in every)
    origin = f"{shown}. n = {n} tokens, position 0 {position}, raw points, same tokens in every run; 95 % intervals by leaving out groups of texts."
    study.provenance = {
        "runs": [s.manifest | {"path": s.path.name} for s in every],
        "settings": {k: v for k, v in given.items() if k not in ("out", "engine", "workers")},
    }
    study.findings = _findings(study, arms)
    study.warnings += _warnings(study, arms)
    study.methods = _methods(n, texts, position, given, arms)
    study.figures = _figures(study, arms, matrix, given, origin)


def _figures(study: Study, arms: Sequence[Arm], matrix: str, given: dict[str, Any], origin: str) -> list[Figure]:
    token = given["tokens"][0]
    common = {"token": token, "normalise": "raw"}
    final = list(dict.fromkeys(a.series for a in ends(arms)))
    steps = list(dict.fromkeys(a.series for a in arms if a.role == "run" and a.series not in final))
    floors = [s for s in study.tables["curves"].values("series") if s not in (*final, *steps)]
    figures = [
        Figure("drift", "compare_curves", "curves", "Drift from the base, layer by layer",
               f"1 − similarity, or distance, of each layer to the same layer of the base; grey: controls, which may lie below the axis. Band: interval by text of the mean over seeds. {origin}",
               {"measures": [m for m in SHOWN if m in given["measures"]], "series": final, "controls": floors, **common}),
        Figure("heatmap", "compare_heat", "curves", "Drift by layer and run",
               f"Drift of every run from the base, logarithmic colours. {origin}",
               {"measure": given["measures"][0], "series": [*final, *steps, *floors], **common}),
    ]  # fmt: skip
    if "matrices" in study.tables:
        first = {a.series: a.name for a in reversed(ends(arms))}.values()
        panels = [
            p
            for k, p in enumerate(study.tables["matrices"].values("panel"))
            if k == 0 or p.endswith("− base") or p.split(" × ")[0] in first
        ]
        figures.append(
            Figure("matrices", "compare_matrices", "matrices", f"Layer × layer {matrix}",
                   f"The base with itself; the first run of each kind with itself and with the base; every run with the base, less the base with itself (one scale). {origin}",
                   {"panels": panels, "measure": matrix}))  # fmt: skip
    if steps:
        figures.append(
            Figure("training", "compare_points", "score", "Drift along training",
                   f"Mean drift over layers against the training step. {origin}",
                   {"measures": [m for m in SHOWN if m in given["measures"]][:3], "x": "step", "xlabel": "training step", "lines": True, **common}))  # fmt: skip
    if any(a.score == a.score for a in arms):
        figures.append(
            Figure("score", "compare_points", "score", "Drift against score",
                   f"Mean drift over layers against the score on held-out examples; a point per run or checkpoint. {origin}",
                   {"measures": [m for m in SHOWN if m in given["measures"]][:3], "x": "score", "xlabel": "score on held-out examples", "lines": False, **common}))  # fmt: skip
    if "weights" in study.tables:
        figures.append(
            Figure("weights", "adapter_layers", "weights", "Size of the weight change by layer", f"‖ΔW‖ / ‖W‖ of every block. {origin}", {}))  # fmt: skip
    return figures


def _findings(study: Study, arms: Sequence[Arm]) -> list[str]:
    told = []
    for arm in ends(arms):
        part = study.tables["ranking"].where(run=arm.name, measure="cka", normalise="raw")
        first = list(part)[:3]
        if first:
            best = "; ".join(
                f"{r['site']} {_number(r, 'value', 'low', 'high')} ({r['top3']:.0%} of replicates in the top 3)"
                for r in first
            )
            told.append(f"{arm.name}: largest drift (1 − unbiased CKA) at {best}.")
        for row in study.tables["summary"].where(series=arm.series, measure="cka", normalise="raw"):
            if row["runs"] > 0 and arm is next(a for a in arms if a.series == arm.series):
                told.append(
                    f"{arm.series}: mean drift over layers {_number(row, 'value', 'low', 'high')} (1 − unbiased CKA, {row['runs']} run{'s' if row['runs'] > 1 else ''})."
                )
        if arm.headline and arm.score == arm.score:
            base = "" if arm.baseline != arm.baseline else f", baseline {arm.baseline:.3g}"
            told.append(
                f"{arm.name}: {arm.headline} {arm.score:.3g} on {arm.n_judged or 'the'} held-out examples{base}; loss {arm.loss:.3g}."
            )
    contrasts = study.tables["contrasts"]
    for name in contrasts.values("contrast") if len(contrasts) else []:
        for run in contrasts.where(contrast=name).values("run"):
            for other in contrasts.where(contrast=name, run=run).values("run2"):
                family = contrasts.where(contrast=name, run=run, run2=other)
                kept = family.where(lambda r: r["p_holm"] is not None and r["p_holm"] < 0.05)
                told.append(
                    f"{run}, {name} ({other}): {len(kept)} of {len(family)} layer × measure cells at Holm-corrected p < 0.05."
                )
    if "relation" in study.tables:
        told += [
            f"{row['run']}: rank correlation over layers of {row['measure'][9:-1]}: {row['value']:.2f} (n = {row['n']}, Holm p = {row['p_holm']:.2g})."
            for row in study.tables["relation"].where(
                measure=["spearman(ΔW, step of cka)", "spearman(ΔW, step of euclidean)"]
            )
        ]
    return told


def _warnings(study: Study, arms: Sequence[Arm]) -> list[str]:
    told, roles = [], {a.role for a in arms}
    for role, flag, what in (
        ("noise", "--noise", "numeric noise"),
        ("seed", "--seed-control", "a second seed"),
        ("random", "--random", "random weights"),
    ):
        if role not in roles and not (role == "seed" and "between" in study.tables):
            told.append(f"No control for {what} was given ({flag}): differences from zero say little without it.")
    for name in ("layers", "matrices"):
        if name in study.tables:
            bad = study.tables[name].where(lambda row: row["status"] != "ok")
            if len(bad):
                first = next(iter(bad))
                told.append(
                    f"{name}: {len(bad)} of {len(study.tables[name])} rows are flagged; first: {first['measure']} {first['site']}: {first['status']}"
                )
    return told


def _methods(n: int, texts: int, position: str, given: dict[str, Any], arms: Sequence[Arm]) -> list[str]:
    measures = "; ".join(f"{m} ({find(m).source})" for m in given["measures"])
    runs = [a for a in arms if a.role == "run"]
    found = "; ".join(f"{a.name}: {a.method}, task {a.task}, seed {a.seed}, step {a.step}" for a in runs if a.task)
    return [
        f"All runs were captured on the same token ids. Points are tokens; position 0 is {position}. {n} tokens were drawn from {texts} texts, the same number from each of {given['groups']} groups of texts (seed {given['seed']}), and the same tokens were used at every layer of every run. Token classes: {', '.join(given['tokens'])}.",
        f"Drift of a layer is 1 − similarity, or the distance, between the run and the base at that layer: {measures}. Sinkhorn and Bures compare the two clouds of the same tokens; their null, the value between two halves of the texts at one layer, is the size of sampling differences. The null of the others is a shuffled pairing.",
        "Intervals are 95 %, from leaving out one group of texts at a time (delete-group jackknife, t with G − 1 degrees of freedom). Every run leaves out the same groups, so that differences of drift have intervals of their own. They resample texts; training seeds are shown one by one.",
        "Contrasts: drift beyond numeric noise (the base captured again with another batch plan or dtype), beyond a second seed (the distance between two fine-tunes of one recipe), one-sided; full less LoRA, two-sided. p-values follow t and are corrected by Holm over layers × measures of one contrast of one run.",
        f"LoRA and full runs are matched on held-out loss: for each LoRA run the full checkpoint of its task (and seed, where there is one) with the nearest loss; more than {MATCHED:.0%} apart counts as not matched. An arm learned when its score exceeds the baseline (majority class, no answer, or the untrained loss) with 95 % confidence over examples.",
        *([f"Runs: {found}."] if found else []),
    ]


def _number(row: dict[str, Any], value: str, low: str, high: str) -> str:
    if row[low] is None:
        return f"{row[value]:.3g}"
    return f"{row[value]:.3g} [{row[low]:.3g}, {row[high]:.3g}]"
