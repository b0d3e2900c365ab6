"""Token geometry: how alike the tokens of a text become with depth, what each layer adds, and how arms differ in it.

Any number of runs — models captured now or stores — beside the same architectures with random weights: cosines raw and
centred, rank and representation collapse, norms, updates, gradients, dimensions, neighbours, paths, clusters, heatmaps.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from transect.errors import TransectError
from transect.models.models import Model
from transect.results.study import Study
from transect.results.table import Table
from transect.store.store import Store
from transect.studies.tokens.runs import Given, arms_of, opened, random_controls
from transect.studies.tokens.tables import contrasts, curves, differences, measured, similarities
from transect.studies.tokens.words import describe
from transect.texts.texts import Texts


def tokens(
    runs: Given | Sequence[Given],
    texts: str | Path | Texts | None = None,
    *,
    controls: Sequence[Store] = (),
    random_weights: bool = True,
    sites: str = "resid",
    tokens: str = "all",
    position0: bool = False,
    massive: float | None = 10.0,
    n: int | None = None,
    window: int | None = None,
    groups: int = 10,
    prompts: int = 2,
    gradients: bool = True,
    gradient_texts: int = 12,
    gradient_positions: int = 4,
    max_length: int | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    engine: str = "local",
    workers: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Study:
    """The token study of stores or of models, which are captured on `texts` into OUT/stores.

    random_weights: add the same architecture with random weights, once for each series, where its configuration can be
    opened. massive: leave tokens above so many median norms out of the pooled measures. n: points of the pooled measures
    (default 300 or what every run's halves hold). window: tokens of each text in the measures within texts (default 32 or
    what most have). gradients: of each token's own loss, on gradient_texts texts at gradient_positions positions; needs
    the model. prompts: heatmaps of so many texts. Final norms are no layer: `sites` is a family of layers. Tables: layers,
    centred, updates, within, paths, gradients, curves, differences, similarity, arms.
    """
    listed = [runs] if isinstance(runs, Store | Model | str | Path) else list(runs)
    if not listed:
        raise TransectError("no run given.", "Name a model or a store.")
    stores = opened(listed, texts, out, max_length=max_length, seed=seed, progress=progress)
    warnings: list[str] = []
    others = [*controls]
    if random_weights and out is not None and not others:
        try:
            others = random_controls(stores, arms_of(stores, []), out, seed=seed, progress=progress)
        except TransectError as error:
            warnings.append(f"No random-weight control: {error}")
    arms = arms_of(stores, others)
    given: dict[str, Any] = {"sites": sites, "tokens": tokens, "position0": position0, "massive": massive, "n": n}
    given |= {"window": window, "groups": groups, "seed": seed, "out": out, "engine": engine, "workers": workers}
    grads = {"texts": gradient_texts, "positions": gradient_positions} if gradients else None
    told = (lambda step: lambda done, total: progress(step, done, total)) if progress else (lambda step: None)
    tables = measured([*stores, *others], given, grads, told)
    tables["curves"] = curves(tables, arms)
    if contrasts(arms):
        tables["differences"] = differences(tables, arms)
    shown = {a.series: s for a, s in reversed([*zip(arms, stores, strict=False)])}  # the first run of each series
    some = [shown[name] for name in spread(sorted(shown), 3)]
    tables["similarity"] = similarities([*some, *others[:1]], sites, prompts, position0)
    tables["arms"] = Table([{"measure": "arm", "run": a.name, "status": "ok", **_told(a)} for a in arms])
    study = Study("tokens", "How alike do tokens become with depth, and how do models differ in it?", tables)
    describe(study, [*stores, *others], arms, given, warnings)
    return study


def spread(names: Sequence[str], most: int) -> list[str]:
    """At most so many of the names, evenly over them."""
    count = min(most, len(names))
    return list(dict.fromkeys(names[round(k * (len(names) - 1) / max(1, count - 1))] for k in range(count)))


def _told(arm: Any) -> dict[str, Any]:
    told = {"role": arm.role, "series": arm.series, "seed": arm.seed, "step": arm.step}
    return told | {"learned": arm.learned, "loss": arm.loss} | arm.choices
