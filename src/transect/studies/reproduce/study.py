"""Reproduce: a published claim, measured again on a model of yours, with interval and control.

A number measured on another model than the paper's is no verdict on the paper, whichever way it falls.
"""

import re
from collections.abc import Callable
from typing import Annotated, Any, Unpack

from transect import __version__
from transect.errors import TransectError
from transect.results.study import Study
from transect.results.table import Table
from transect.studies.reproduce import entries_blocks, entries_pairs, entries_seeds, entries_states
from transect.studies.reproduce.asked import Asked, Found
from transect.studies.reproduce.claims import Claim, claims, find
from transect.studies.reproduce.words import describe
from transect.studies.runs import Run
from transect.work.options import Option, Work, WorkOptions, group, only

#: The table that --json prints.
HEADLINE = "reproduced"
#: What an outcome can be.
OUTCOMES = {
    (True, True): "same",
    (True, False): "not the same",
    (True, None): "undecided",
    (False, True): "other model: it holds here too",
    (False, False): "other model: not seen here, no verdict on the paper",
    (False, None): "other model: undecided here",
}


class ReproduceOptions(WorkOptions, total=False):
    """On which texts a claim is measured, and the second model where it needs one."""

    texts: Annotated[Any, Option(None, "Texts to capture the models on; by default those of the claim.")]
    other: Annotated[Any, Option(None, "The second model or store: another seed, family, architecture.")]
    adapter: Annotated[str | None, Option(None, "A LoRA adapter of the model, where a claim is of adapters.")]
    full: Annotated[str | None, Option(None, "A full fine-tune of the model.")]
    other_texts: Annotated[Any, Option(None, "Texts on which is forgotten, where a claim is of forgetting.")]
    task_texts: Annotated[Any, Option(None, "Texts of the task, where a claim is of forgetting.")]
    judges: Annotated[int, Option(16, "Texts that judge edited blocks and lenses.", least=8)]
    longest: Annotated[int, Option(48, "Tokens of a text that are used.", least=8)]
    groups: Annotated[int, Option(8, "Groups of texts behind the intervals.", least=2)]
    seed: Annotated[int, Option(0, "Seed of every random choice.", least=0)]


def reproduce(claim: str, *, model: str = "smollm2", **options: Unpack[ReproduceOptions]) -> Study:
    """A published claim, measured again: the published number beside ours, with interval, control, outcome.

    Args:
        claim: Name of a claim; `--list` shows all of them.
        model: A model, or a store of it.

    Returns: a study with the table reproduced, a row.

    Raises: TransectError for a claim that is not known, and for one that needs a second model.
    """
    only(options, ReproduceOptions)
    how, work = group(options, ReproduceOptions), Work.of(options)
    entry = find(claim)
    if missing := [name for name in entry.needs if getattr(how, name) is None]:
        raise TransectError(
            f"{claim} needs {' and '.join(f'--{name}' for name in missing)}.",
            f"It measures: {entry.measures}.",
        )
    if how.texts is None:
        how = how.replace(texts=entry.texts)
    if work.out is None:
        raise TransectError("models are captured into the study's folder.", "Give out=DIR.")
    answer = entries()[claim](Asked(model, how, work))
    study = Study("reproduce", f"Does it hold here: {entry.claim}", {})
    study.tables["reproduced"] = Table([_row(entry, answer, model, how)])
    options_told = {k: v for k, v in how.items().items() if k not in ("out", "progress", "engine")}
    study.provenance = {"transect": __version__, "model": str(model), "claim": claim, "options": options_told}
    study.tables["reproduced"].provenance = study.provenance
    describe(study, entry, str(model), how)
    return study.marked()


def entries() -> dict[str, Callable[[Asked], Found]]:
    """Name of a claim → the function of the same name that measures it."""
    rooms = (entries_states, entries_blocks, entries_pairs, entries_seeds)
    known: dict[str, Any] = {k: f for room in rooms for k, f in vars(room).items()}
    return {name: known[name.replace("-", "_")] for name in claims()}


def outcome(claim: Claim, model: Run, holds: bool | None) -> str:
    """In words whether the claim holds: a verdict on the paper only for its own model, or for a formula."""
    bare = re.sub(r"[^a-z0-9]", "", str(model).rsplit("/", 1)[-1].lower())
    models = {re.sub(r"[^a-z0-9]", "", m.lower()) for m in claim.models}
    comparable = claim.scope == "formula" or bare in models
    return OUTCOMES[comparable, holds]


def _row(claim: Claim, answer: Found, model: Run, how: Any) -> dict[str, Any]:
    row: dict[str, Any] = {"measure": "reproduced", "claim": claim.name, "run": str(model)}
    row["run2"] = next((str(r) for r in (how.other, how.adapter) if r is not None), None)
    row |= {"published": claim.number, "published_low": claim.low, "published_high": claim.high}
    row |= {
        k: getattr(answer, k) for k in ("value", "low", "high", "null", "null_low", "null_high", "control")
    }
    row |= {"n_texts": answer.n_texts, "unit": claim.unit, "holds": answer.holds, "note": answer.note}
    row |= {"outcome": outcome(claim, model, answer.holds), "paper": claim.source, "seed": how.seed}
    return row | {"measures": claim.measures, "status": "ok"}
