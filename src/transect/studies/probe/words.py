"""The probe study in words: findings with their numbers, warnings, methods, captions."""

from collections.abc import Sequence
from typing import Any

from transect.results.study import Figure, Study, describe_run
from transect.results.words import flagged, interval, other_texts
from transect.store.store import Store
from transect.studies.probe.cells import STANDARD, TYPES

CLASSES = {
    "ridge": "least squares on one column a class",
    "logistic": "penalised logistic regression (scikit-learn, balanced classes)",
}
SCORES = {"ridge": "R²", "classes": "balanced accuracy", "ordinal": "Spearman's ρ"}


def describe(study: Study, stores: Sequence[Store], others: Sequence[Store], label: str, how: Any) -> None:
    """Fill in findings, warnings, methods, provenance and figures."""
    table, every = study.tables["probe"], [*stores, *others]
    study.findings = [line for s in stores for line in _findings(study, s.name, [o.name for o in others])]
    known = table.where(status="ok")
    texts = min((int(n) for n in known.column("n_texts")), default=0)
    study.warnings = [*other_texts(every), *flagged(study.tables)]
    if not others:
        study.warnings.append(
            "No control run: random weights carry positions and tokens too. What training added is the "
            "gap to "
            "--random-weights."
        )
    study.methods = _methods(label, how)
    study.trace(every, how, label=label)
    kinds = known.values("kind")
    origin = f"{'; '.join(describe_run(s) for s in every)}. {texts} groups of texts, seed {how.seed}."
    if not kinds:
        return
    study.figures = [
        Figure(
            "probe",
            "depth",
            "probe",
            f"Where {label} can be read",
            f"{origin} {SCORES[str(kinds[0])]} of held-out groups, 95 % by groups of texts; dotted with its "
            "band: permuted labels.",
            {"measures": ["probe_score"], "panels": "token", "runs": [s.name for s in every]}
            | {
                "controls": [o.name for o in others],
                "labels": {"probe_score": f"{label}: {SCORES[str(kinds[0])]}"},
            },
        ),
        Figure(
            "selectivity",
            "columns",
            "probe",
            f"What {label} is read with",
            f"{origin} Score, score beyond the control task, and share of held-out variance in the "
            "probe's span.",
            {"where": {"token": str(known.values("token")[0])}, "runs": [s.name for s in every]}
            | {"controls": [o.name for o in others]}
            | {
                "columns": {
                    "value": "score",
                    "selectivity": "score − control task",
                    "variance": "variance used",
                }
            },
        ),
    ]


def _findings(study: Study, run: str, controls: Sequence[str]) -> list[str]:
    sentences = []
    for token in study.tables["probe"].where(run=run, status="ok").values("token"):
        rows = list(study.tables["probe"].where(run=run, token=token, status="ok"))
        best = max(rows, key=lambda r: r["value"])
        line = f"{run}, {token}: {best['label']} is read best at {best['site']}, {SCORES[best['kind']]} "
        line += interval(best, digits=3)
        if best["null"] is not None:
            line += f" (permuted labels {best['null']:.3g}"
            line += f", max-T p {best['p_max']:.2g} over {len(rows)} cells)" if best["p_max"] else ")"
        if best["selectivity"] is not None:
            line += f"; a control task of the same tokens {best['control_task']:.3g}"
        line += f"; the probe's span holds {best['variance']:.2%} of the variance"
        for other in controls:
            beside = list(study.tables["probe"].where(run=other, token=token, site=best["site"], status="ok"))
            line += f"; {other}: {interval(beside[0], digits=3)}" if beside else ""
        sentences.append(line + ".")
    return sentences


def _methods(label: str, how: Any) -> list[str]:
    moved = (
        "turned round within each text by an offset of its own, so that neighbours stay neighbours"
        if label in STANDARD
        else "moved between whole groups"
    )
    kinds = f" Token identity: the {TYPES} most frequent tokens." if label == "token" else ""
    return [
        f"Linear probes in {how.folds} folds that hold out whole groups of texts; ridge "
        "chosen on half of the training groups, fitted on the other half; classes by "
        f"{CLASSES[how.classifier]}, "
        "ordinal labels "
        f"by ridge on their ranks. Position 0 is left out.{kinds} Intervals leave {how.groups} groups of "
        "texts out in turn, of training and of judging.",
        f"Null: {how.permutations} labellings {moved}, each fitted anew with a ridge of its own; p_max "
        "is max-T "
        "over all cells of a run. Control task: every kind of token gets a random label (Hewitt & Liang "
        "2019, "
        "arXiv:1909.03368); selectivity is the score beyond it. Variance used: share of held-out "
        "variance in the "
        "span of the probe's weights.",
    ]
