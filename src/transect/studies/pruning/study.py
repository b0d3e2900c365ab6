"""Perplexity against the fraction of neurons removed, for every way of choosing them, with intervals by text.

Folds of texts are judged in turn by a model calibrated on the others, so that each text counts once and none was seen.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from transect.errors import TransectError
from transect.inference import controls
from transect.inference.accumulators import model_moments
from transect.models.losses import losses
from transect.studies.pruning.cut import METHODS, prune

if TYPE_CHECKING:
    from transect.models.models import Model
    from transect.texts.texts import Texts


def curve(
    model: "Model",
    texts: "Texts",
    fractions: Sequence[float],
    *,
    methods: Sequence[str] = METHODS,
    scope: str = "layer",
    compensate: bool = True,
    folds: int = 2,
    groups: int = 10,
    seed: int = 0,
    max_length: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """Rows of perplexity against fraction removed for every method, all texts judged, each by a model calibrated without it.

    value, low, high: perplexity with a 95 % jackknife interval over `groups` of texts; null: the unpruned model's on the same
    texts; ratio, ratio_low, ratio_high: value / null with the interval of the paired log ratio. "random" draws anew in each fold.
    """
    if not 2 <= folds <= len(texts):
        raise TransectError(f"folds = {folds} of {len(texts)} texts.", "Take 2 or more, and at least as many texts.")
    if len(set(texts.hashes)) < len(texts):
        raise TransectError("some texts occur twice; one would be judged after calibrating on it.", "Leave copies out.")
    order = np.random.default_rng(seed).permutation(len(texts))
    held = [np.sort(order[k::folds]) for k in range(folds)]
    jobs = [(method, f) for method in methods for f in fractions]
    before, count = np.zeros(len(texts)), np.zeros(len(texts))
    after = {job: np.zeros(len(texts)) for job in jobs}
    for k, members in enumerate(held):
        judged = texts.subset(members.tolist())
        rest = texts.subset(np.setdiff1d(order, members).tolist())
        moments = model_moments(model, rest, ["mlp.act"], max_length=max_length)
        before[members], count[members] = losses(model, judged, max_length=max_length)
        for j, (method, fraction) in enumerate(jobs):
            small = prune(
                model, moments, fraction, method=method, scope=scope, compensate=compensate, seed=seed * folds + k
            )
            after[method, fraction][members] = losses(small, judged, max_length=max_length)[0]
            if progress:
                progress(k * len(jobs) + j + 1, folds * len(jobs))
    told = {"run": model.name, "n": int(count.sum()), "n_texts": len(texts), "folds": folds, "compensated": compensate}
    told |= {"measure": "perplexity", "scope": scope, "seed": seed, "status": "ok"}
    group = np.arange(len(order))[np.argsort(order)] % min(groups, len(texts))
    return [
        told | {"method": method, "fraction": fraction} | _judged(after[method, fraction], before, count, group)
        for method, fraction in jobs
    ]


def _judged(after: np.ndarray, before: np.ndarray, count: np.ndarray, group: np.ndarray) -> dict[str, float]:
    """Perplexities and their ratio, intervals by leaving out each group of texts, on the log scale."""
    keep = [np.ones(len(group), bool)] + [group != g for g in range(int(group.max()) + 1)]
    logs = np.array([[x[k].sum() / count[k].sum() for k in keep] for x in (after, before, after - before)])
    (low, high), (ratio_low, ratio_high) = (controls.jackknife(float(v[0]), v[1:]) for v in (logs[0], logs[2]))
    named = {"value": logs[0, 0], "low": low, "high": high, "null": logs[1, 0]}
    named |= {"ratio": logs[2, 0], "ratio_low": ratio_low, "ratio_high": ratio_high}
    return {k: float(np.exp(v)) for k, v in named.items()}
