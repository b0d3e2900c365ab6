"""Token geometry: how alike the tokens of a text become with depth, what each layer adds, and how arms differ
in it.

Any number of runs — models captured now or stores — beside the same architectures with random weights:
cosines raw and centred, rank and representation collapse, norms, updates, gradients, dimensions, neighbours,
paths, clusters, heatmaps.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Unpack

from transect.errors import TransectError
from transect.inference.design import Design
from transect.results.study import Study
from transect.results.table import Table
from transect.studies.runs import Run, Runs, open_runs
from transect.studies.tokens.contrasts import contrasts, differences
from transect.studies.tokens.losses import losses
from transect.studies.tokens.names import TokenOptions
from transect.studies.tokens.runs import arms_of, random_controls
from transect.studies.tokens.tables import curves, measured, similarities
from transect.studies.tokens.words import describe
from transect.texts.texts import Texts
from transect.work.options import Work, checked, group, only, within

#: The table that --json prints.
HEADLINE = "curves"
#: Said where tokens are chosen.
SEVERAL = (
    "Chosen tokens count in pooled measures; within a text, its paths, gradients and heatmaps need several "
    "tokens of each and take its first ones."
)


def tokens(
    runs: Runs,
    texts: str | Path | Texts | None = None,
    *,
    controls: Sequence[Run] = (),
    random_weights: bool = True,
    prompts: Annotated[int, within(1)] = 2,
    max_length: int | None = None,
    **options: Unpack[TokenOptions],
) -> Study:
    """How alike the tokens of a text become with depth, what each layer adds, and how models differ in it.

    Args:
        runs: Stores, or models that are captured on `texts`: a folder that transect train wrote, smollm2,
        random:SPEC, …
        texts: Texts to capture models on.
        controls: Stores of control runs, instead of random weights.
        random_weights: Capture the same architecture with random weights, once for each series.
        prompts: Heatmaps of so many texts.
        max_length: Cut texts at so many tokens; by default the context.

    Returns: a study with the tables layers, centred, updates, within, paths, gradients, skips, curves,
    differences, losses, similarity and arms. Final norms are no layer: `sites` is a family of layers. n is
    300 by default, or what every run holds.
    """
    only(options, TokenOptions)
    prompts = checked("prompts", prompts, within(1), int)
    design, work, how = Design.of(options), Work.of(options), group(options, TokenOptions)
    stores = open_runs(runs, texts, work.out, max_length=max_length, seed=design.seed, progress=work.progress)
    warnings = [] if design.tokens == "all" else [SEVERAL]
    others = open_runs(list(controls)) if controls else []
    if random_weights and work.out is not None and not others:
        try:
            others = random_controls(stores, arms_of(stores, []), work, design.seed)
        except TransectError as error:
            warnings.append(f"No random-weight control: {error}")
    arms = arms_of(stores, others)
    tables = measured([*stores, *others], design, work, how)
    tables["curves"] = curves(tables, arms)
    if contrasts(arms):
        tables["differences"] = differences(tables, arms)
        tables["losses"] = losses(arms)
    shown = {
        a.series: s for a, s in reversed([*zip(arms, stores, strict=False)])
    }  # the first run of each series
    some = [shown[name] for name in spread(sorted(shown), 3)]
    tables["similarity"] = similarities([*some, *others[:1]], design.sites, prompts, design.position0)
    tables["arms"] = Table([{"measure": "arm", "run": a.name, "status": "ok", **_columns(a)} for a in arms])
    study = Study("tokens", "How alike do tokens become with depth, and how do models differ in it?", tables)
    describe(study, [*stores, *others], arms, design.items() | {"window": how.window}, warnings)
    return study.marked().in_units_of([*stores, *others])


def spread(names: Sequence[str], most: int) -> list[str]:
    """At most so many of the names, evenly over them."""
    count = min(most, len(names))
    return list(dict.fromkeys(names[round(k * (len(names) - 1) / max(1, count - 1))] for k in range(count)))


def _columns(arm: Any) -> dict[str, Any]:
    columns = {"role": arm.role, "series": arm.series, "seed": arm.seed, "step": arm.step}
    over = arm.over or (None, None, None)
    columns |= {"over_baseline": over[0], "over_baseline_low": over[1], "over_baseline_high": over[2]}
    return columns | {"learned": arm.learned, "loss": arm.loss} | arm.choices
