"""Dimension and loss: how many dimensions states fill at each layer, where that rises and peaks, and whether
texts that a model finds hard lie in more of them.

Several models stand side by side by share of depth. Random weights see the same tokens and are judged by the
trained model's losses: what they show needs no training.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Unpack

import numpy as np

from transect.inference.asks import Ask, answer
from transect.models import sites
from transect.results.study import Study
from transect.results.table import merge
from transect.store.recapture import has_model
from transect.store.store import Store
from transect.studies.dimension.cells import (
    FEWEST,
    TEXTS,
    Layer,
    Losses,
    Window,
    judged,
    measured,
    window_of,
)
from transect.studies.dimension.tables import Measured, beside_loss, curves, phases
from transect.studies.dimension.words import describe
from transect.studies.runs import Runs, captured_controls, open_runs
from transect.work.options import MOST_DRAWS, Option, Work, WorkOptions, group, only

#: The table that --json prints.
HEADLINE = "dimension"


class DimensionOptions(WorkOptions, total=False):
    """Which tokens are looked at, and how sure the answers are."""

    texts: Annotated[Any, Option(None, "Texts to capture models on: a file, gsm-test:60, …")]
    sites: Annotated[str, Option("resid", "Family of sites, one after the other through depth.")]
    judges: Annotated[int, Option(60, "Texts that are looked at.", least=FEWEST)]
    window: Annotated[
        int | None,
        Option(None, "Tokens of each text; by default 32, or what four texts in five have.", least=4),
    ]
    each: Annotated[int, Option(8, "Tokens that each text gives to the dimension of all together.", least=1)]
    massive: Annotated[
        float, Option(10.0, "Tokens above so many median norms are passed over; 0 keeps them.", least=0)
    ]
    permutations: Annotated[int, Option(999, "Permuted losses behind null and p.", 0, MOST_DRAWS)]
    halves: Annotated[int, Option(50, "Half samples of texts behind peak and onset.", 2, MOST_DRAWS)]
    groups: Annotated[int, Option(10, "Groups of texts behind the intervals.", least=2)]
    seed: Annotated[int, Option(0, "Seed of every random choice.", least=0)]


def dimension(
    stores: Runs,
    *,
    random_weights: bool = False,
    loss: bool = True,
    **options: Unpack[DimensionOptions],
) -> Study:
    """How many dimensions states fill by layer, where that peaks, and whether hard texts fill more.

    Args:
        stores: Stores with all tokens of their texts, or models that are captured on `texts`.
        random_weights: Also a control: the first run's architecture with random weights.
        loss: Also each text's loss, by the store's own model where it has one; without it dimensions alone.

    Returns: a study with the tables dimension and phases, and loss where it is asked for.

    Raises: TransectError for stores without tokens or too few long texts, and for models without a next
    token.
    """
    only(options, DimensionOptions)
    how, work = group(options, DimensionOptions), Work.of(options)
    runs = open_runs(stores, how.texts, work.out, seed=how.seed, progress=work.progress)
    window_of(runs[:1], how)  # refuses before anything is captured
    controls = captured_controls(runs[0], work, how.seed, random_weights=random_weights)
    first = window_of([runs[0], *controls], how)
    windows = {s.name: first for s in [runs[0], *controls]}
    windows |= {s.name: window_of([s], how) for s in runs[1:]}
    asks: dict[str, Ask] = {}
    for store in [*runs, *controls]:
        asks[f"layers {store.name}"] = _layers(store, windows[store.name], how)
    judges = [s for s in runs if loss and has_model(s)]
    for store in judges:
        asks[f"loss {store.name}"] = _losses(store, windows[store.name])
    answers = answer(asks, work, "dimension")
    measured_runs = []
    for store in [*runs, *controls]:
        judge = runs[0] if store in controls else store
        losses = np.array(answers[f"loss {judge.name}"], float) if judge in judges else None
        names = [task.site for task in asks[f"layers {store.name}"].tasks]
        size = min(how.each, len(windows[store.name].tokens[0]))
        layers = answers[f"layers {store.name}"]
        measured_runs.append(
            Measured(store.name, names, layers, windows[store.name], size, losses, judge.name)
        )
    study = Study("dimension", "How many dimensions do states fill, and do hard texts fill more?", {})
    study.tables["dimension"] = merge([curves(one, how.seed) for one in measured_runs])
    study.tables["phases"] = merge([phases(one, how.seed) for one in measured_runs])
    if judges:
        beside = [one for one in measured_runs if one.loss is not None]
        study.tables["loss"] = merge([beside_loss(one, how) for one in beside])
    describe(study, runs, controls, measured_runs, how)
    study.warnings += [
        f"{s.name} was made from arrays: without its model there is no loss of its texts."
        for s in runs
        if loss and not has_model(s)
    ]
    return study.marked().in_units_of([*runs, *controls])


def _layers(store: Store, window: Window, how: Any) -> Ask:
    """A task a site."""
    names = sites.select(store.sites, sites.asked(how.sites))
    where, rest = (str(store.path), store.content), (how.each, how.groups, how.halves, how.seed)
    return Ask(measured, tuple(Layer(*where, site, window, *rest) for site in names), list, key=Layer.key)


def _losses(store: Store, window: Window) -> Ask:
    """A task of few texts each; their losses in the window's order."""
    cut: Sequence[tuple[int, ...]] = [window.texts[k : k + TEXTS] for k in range(0, len(window.texts), TEXTS)]
    tasks = tuple(Losses(str(store.path), store.content, part, len(window.tokens[0]) + 1) for part in cut)
    return Ask(
        judged, tasks, lambda parts: [x for part in parts for x in part], key=Losses.key,
        weight=lambda task: len(task.members),
    )  # fmt: skip
