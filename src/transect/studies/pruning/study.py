"""Perplexity against the fraction of neurons removed, for every way of choosing them, with intervals by text.

Folds of texts are judged in turn by a model calibrated on the others, so that each text counts once and none
was seen.
"""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Unpack

import numpy as np

from transect.errors import TransectError
from transect.inference.accumulators import model_moments
from transect.inference.asks import Ask, answer
from transect.inference.intervals import jackknife
from transect.models.models import Model, open_model
from transect.random import rng
from transect.results.study import Study
from transect.results.table import Table
from transect.studies.pruning.cut import (
    BY_ACTIVATION,
    METHODS,
    block_widths,
    check_sizes,
    check_way,
    prune,
    save_pruned,
)
from transect.studies.pruning.folds import Fold, collected, forget, judged
from transect.studies.pruning.words import describe
from transect.texts.texts import Texts, open_texts
from transect.work.options import Option, Work, WorkOptions, group, only

#: The table that --json prints.
HEADLINE = "pruning"


class PruningOptions(WorkOptions, total=False):
    """How neurons are chosen, removed and judged."""

    scope: Annotated[
        str, Option("layer", "Same share of every block, or of all together.", choices=("layer", "global"))
    ]
    folds: Annotated[int, Option(2, "Parts of the texts, judged in turn.", least=2)]
    compensation: Annotated[bool, Option(True, "Fold removed neurons into the down-projection.")]
    save: Annotated[
        float | None, Option(None, "Also save the model pruned by so much, by the first method.", 0, 0.99)
    ]
    max_length: Annotated[int, Option(256, "Cut texts at so many tokens.", least=2)]
    seed: Annotated[int, Option(0, "Seed of every random choice.", least=0)]


def pruning(
    model: Model | str | Path,
    texts: str | Path | Texts,
    *,
    fractions: Sequence[float] = (0.1, 0.25, 0.5),
    methods: Sequence[str] = METHODS,
    **options: Unpack[PruningOptions],
) -> Study:
    """Perplexity against the fraction of neurons removed, by redundancy and beside other ways.

    Each fold of the texts is judged by a model calibrated on the others, all in one process: correlations of
    every block are in memory at once.

    Args:
        model: A model, or a spec of one.
        texts: Texts: each fold is judged by a model calibrated on the others.
        fractions: Fractions of neurons to remove.
        methods: Ways to compare: redundancy, clusters, activation, magnitude, random.

    Returns: a study with the table pruning.
    """
    only(options, PruningOptions)
    how, work = group(options, PruningOptions), Work.of(options)
    save, seed, out = how.save, how.seed, work.out
    if work.engine != "local":
        raise TransectError(
            f"pruning by engine {work.engine!r}: it runs in one process.", "Leave out --engine and --shard."
        )
    if save is not None and out is None:
        raise TransectError(f"save={save} without a folder.", "Give out=DIR.")
    samples, loaded = open_texts(texts, seed=seed), open_model(model)
    if save is not None:
        check_sizes(loaded, how.scope)
    rows = curve(loaded, samples, list(fractions), methods, work=work, **how.items())
    study = Study("pruning", "How many neurons are redundant?", {"pruning": Table(rows)})
    describe(study, loaded, samples, how)
    if save is not None and out is not None:
        need = methods[0] in BY_ACTIVATION or how.compensation
        text_options = {"max_length": how.max_length}
        moments = model_moments(loaded, samples, ["mlp.act"], **text_options) if need else {}
        asked: dict[str, Any] = {"scope": how.scope, "compensate": how.compensation, "seed": seed}
        save_pruned(prune(loaded, moments, save, method=methods[0], **asked), Path(out) / "model", how.scope)
    return study.marked()


def curve(
    model: "Model",
    texts: "Texts",
    fractions: Sequence[float],
    methods: Sequence[str] = METHODS,
    *,
    groups: int = 10,
    work: Work | None = None,
    **options: Unpack[PruningOptions],
) -> list[dict[str, Any]]:
    """Rows of perplexity against fraction removed for every method, all texts judged, each by a model
    calibrated without it.

    Raises: TransectError for texts that occur twice, and where the correlations do not fit into memory.

    value, low, high: perplexity with a 95 % jackknife interval over `groups` of texts; null: the unpruned
    model's on the same texts; ratio, ratio_low, ratio_high: value / null with the interval of the paired log
    ratio. "random" draws anew in each fold.
    """
    o = group(options, PruningOptions)
    if not (methods and fractions):
        raise TransectError("no methods or no fractions.", "Name one of each.")
    for method, fraction in itertools.product(methods, fractions):
        check_way(method, o.scope, fraction)
    folds = o.folds
    if not 2 <= folds <= len(texts):
        raise TransectError(
            f"folds = {folds} of {len(texts)} texts.", "Take 2 or more, and at least as many texts."
        )
    if len(set(texts.hashes)) < len(texts):
        raise TransectError(
            "some texts occur twice; one would be judged after calibrating on it.", "Leave copies out."
        )
    need = o.compensation or any(method in BY_ACTIVATION for method in methods)
    if need:
        check_memory(model)
    kept = tuple(dict.fromkeys(fractions))
    tasks = tuple(Fold(model, texts, k, method, kept, o) for k in range(folds) for method in methods)
    asked = {"pruning": Ask(judged, tasks, list, key=Fold.key, weight=lambda task: len(task.fractions))}
    try:
        answers = answer(asked, (work or Work()).replace(workers=1), "pruning")["pruning"]
    finally:
        forget()
    before, count, after = collected(tasks, answers)
    width = max(block_widths(model))
    row = {
        "run": model.name,
        "n": int(count.sum()),
        "n_texts": len(texts),
        "folds": folds,
        "compensated": o.compensation,
        "calibration_tokens": min((a["seen"] for a in answers if a["seen"] is not None), default=None),
        "control": "not pruned",
    }
    row |= {"measure": "perplexity", "scope": o.scope, "seed": o.seed, "status": "ok"}
    order = rng(o.seed, "folds").permutation(len(texts))
    parts = np.arange(len(order))[np.argsort(order)] % min(groups, len(texts))
    return [
        row
        | {"method": method, "fraction": fraction, "kept": width - round(fraction * width)}
        | _judged(after[method, fraction], before, count, parts)
        for method in methods
        for fraction in fractions
    ]


def check_memory(model: Model) -> None:
    """TransectError where the moments of all MLPs do not fit into the memory that is free.

    One N × N matrix of float64 is kept for each block, and five more of the widest while it is worked on.
    """
    import psutil

    widths = block_widths(model)
    need = 8 * (sum(w * w for w in widths) + 5 * max(widths, default=0) ** 2)
    need += sum(p.numel() * p.element_size() for p in model.model.parameters())
    free = psutil.virtual_memory().available
    if need > free:
        raise TransectError(
            f"{model.name}: correlations of {len(widths)} blocks of {max(widths):,} neurons and a copy of "
            f"the model need {need / 1e9:.1f} GB; {free / 1e9:.1f} GB are free.",
            "Prune by magnitude and random without compensation (methods=…, compensation=False), which need "
            "no correlations; or take a model with fewer or narrower MLPs.",
        )


def _judged(after: np.ndarray, before: np.ndarray, count: np.ndarray, group: np.ndarray) -> dict[str, float]:
    """Perplexities and their ratio, intervals by leaving out each group of texts, on the log scale."""
    keep = [np.ones(len(group), bool)] + [group != g for g in range(int(group.max()) + 1)]
    logs = np.array([[x[k].sum() / count[k].sum() for k in keep] for x in (after, before, after - before)])
    (low, high), (ratio_low, ratio_high) = (jackknife(float(v[0]), v[1:]) for v in (logs[0], logs[2]))
    named = {"value": logs[0, 0], "low": low, "high": high, "null": logs[1, 0]}
    named |= {"ratio": logs[2, 0], "ratio_low": ratio_low, "ratio_high": ratio_high}
    return {k: float(np.exp(v)) for k, v in named.items()}
