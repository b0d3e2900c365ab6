"""A study: how far the means of neighbouring layers are apart, beyond two halves of the texts."""

from typing import Unpack

from transect.inference.asks import answer
from transect.inference.design import Design, RunOptions
from transect.inference.sweep import ask
from transect.results.study import Figure, Study
from transect.results.words import interval
from transect.studies.runs import Runs, open_runs
from transect.work.options import Work, only

#: The table that --json prints.
HEADLINE = "gaps"


def spread(stores: Runs, *, squared: bool = False, **options: Unpack[RunOptions]) -> Study:
    """How far the means of neighbouring layers are apart.

    Args:
        stores: Stores, or models that are captured on `texts`.
        squared: Squared distances.

    Returns: a study with the table gaps.
    """
    only(options, RunOptions)
    design, work = Design.of(options), Work.of(options)
    runs = open_runs(stores, options.get("texts"), work.out, seed=design.seed, progress=work.progress)
    table = answer({"gaps": ask("mean_gap", runs, squared=squared, **design.items())}, work, "gaps")["gaps"]
    study = Study("spread", "How far are the means of neighbouring layers apart?", {"gaps": table})
    top = max((r for r in table if r["status"] == "ok"), key=lambda r: r["corrected"])
    study.findings = [
        f"{top['run']}: the largest gap is {top['site']} → {top['site2']}: "
        f"excess {interval(top, 'corrected')} over a split-half null of {top['null']:.3g}."
    ]
    study.methods = ["Means of tokens of different texts; null: two halves of the texts at one layer."]
    study.provenance = table.provenance
    caption = f"Excess over the split-half null with 95 % intervals by text; n = {top['n']} tokens."
    study.figures = [Figure("gaps", "gaps", "gaps", "Gap of the means", caption)]
    return study
