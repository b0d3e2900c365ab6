"""A reproduced claim in words: what was published, what came out, the outcome."""

from typing import Any

from transect.results.study import Figure, Study
from transect.results.words import interval
from transect.studies.reproduce.claims import Claim


def describe(study: Study, claim: Claim, model: str, how: Any) -> None:
    """Fill in findings, warnings, methods and the figure."""
    row = next(iter(study.tables["reproduced"]))
    runs = ", ".join([model, *(str(r) for r in (how.other, how.adapter, how.full) if r is not None)])
    control = {"value": row["null"], "low": row["null_low"], "high": row["null_high"]}
    beside = f"; {row['control']}: {interval(control, digits=3)}" if row["null"] is not None else ""
    study.findings = [
        f"Published ({claim.source}): {claim.claim} {claim.number[0].upper()}{claim.number[1:]}.",
        f"Here, {runs}: {interval(row, digits=3)} {claim.unit}{beside}. {row['note']}",
        f"Outcome: {row['outcome']}.",
    ]
    if row["holds"] and row["control"] == "random weights" and (row["null_low"] or 0) > 0:
        study.findings.insert(2, "Random weights show it as well: it does not need training.")
    study.warnings = []
    if claim.scope != "formula":
        study.warnings.append(
            f"The paper is about {', '.join(claim.models)}: a number of another model, other texts or fewer "
            "tokens is no refutation of it and no confirmation."
        )
    by_texts = f"Texts: {_texts(how)}, {how.longest} tokens of each at most, seed {how.seed}; 95 % by "
    by_texts += f"{how.groups} groups of texts left out."
    exact = "No texts are read: the number is exact for these weights."
    study.methods = [f"Measured: {claim.measures}. {by_texts if row['n_texts'] else exact}"]
    by_texts = f"{row['n_texts']} texts of {_texts(how)}, 95 % by groups of texts"
    study.figures = [
        Figure(
            "reproduced",
            "reproduced",
            "reproduced",
            claim.name,
            f"{claim.source}. Measured on {runs}: {claim.measures}; "
            f"{by_texts if row['n_texts'] else 'exact for these weights'}; "
            f"grey: {row['control'] or 'no control'}. Outcome: {row['outcome']}.",
            {"unit": claim.unit},
        )
    ]


def _texts(how: Any) -> str:
    """The texts that were read: those on which is forgotten and those of the task, where they were named."""
    task = [] if how.task_texts is None else [f"task {how.task_texts}"]
    return ", ".join([str(how.other_texts or how.texts), *task])
