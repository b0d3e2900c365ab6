"""A reproduced claim in words: what was published, what came out, the outcome."""

from typing import Any

from transect.results.study import Figure, Study
from transect.results.words import interval
from transect.studies.reproduce.claims import Claim


def describe(study: Study, claim: Claim, model: str, how: Any) -> None:
    """Fill in findings, warnings, methods and the figure."""
    row = next(iter(study.tables["reproduced"]))
    control = {"value": row["null"], "low": row["null_low"], "high": row["null_high"]}
    beside = f"; {row['control']}: {interval(control, digits=3)}" if row["null"] is not None else ""
    study.findings = [
        f"Published ({claim.source}): {claim.claim} {claim.number[0].upper()}{claim.number[1:]}.",
        f"Here, {model}: {interval(row, digits=3)} {claim.unit}{beside}. {row['note']}",
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
    study.methods = [
        f"Measured: {claim.measures}. Texts: {how.texts}, {how.longest} tokens of each at most, seed "
        f"{how.seed}; "
        f"95 % by {how.groups} groups of texts left out."
    ]
    study.figures = [
        Figure(
            "reproduced",
            "reproduced",
            "reproduced",
            claim.name,
            f"{claim.source}. Measured on {model}: {claim.measures}; {row['n_texts']} texts of "
            f"{how.texts}, 95 % by "
            f"groups of texts; grey: {row['control'] or 'no control'}. Outcome: {row['outcome']}.",
            {"unit": claim.unit},
        )
    ]
