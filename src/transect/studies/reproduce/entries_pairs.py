"""Entries of two models: seeds, adapters, fine-tunes, other families. They take the second one as an
argument."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from transect.measures.neighbours import knn_overlap
from transect.measures.similarity import cka
from transect.models.losses import losses
from transect.models.models import open_model
from transect.numeric.permute import text_permutations
from transect.random import rng
from transect.store.store import Store
from transect.studies.adapters.study import adapters
from transect.studies.match.study import match
from transect.studies.reproduce.asked import Asked, Found, beyond, finding, layers
from transect.studies.reproduce.entries_states import DRAWS, growth
from transect.texts.texts import open_texts

#: By how much the correlation of a twin exceeds what rotations reach.
EXCESS = 0.5
#: Why nothing is tested between two runs of training.
ONE_RUN = "One run an arm is no sample of seeds: shown, not tested."


def gurnee_universal(asked: Asked) -> Found:
    """Share of neurons with a twin in any block of the other model."""
    trained, other = asked.store("mlp.act"), asked.store("mlp.act", asked.how.other)
    options: dict[str, Any] = {"everywhere": True, "excess": EXCESS, "seed": asked.how.seed}
    options["groups"] = asked.how.groups
    table = match(trained, other, workers=1, **options).tables["matches"].where(run=trained.name, status="ok")
    rows, best = (list(table.where(measure=name)) for name in ("shared", "best_match"))
    weight = np.array([r["neurons"] for r in rows], float)
    value, low, high, null = (
        np.average([r[k] for r in rows], weights=weight) for k in ("value", "low", "high", "null")
    )
    alike, turned = (np.average([r[k] for r in best], weights=weight) for k in ("value", "rotated"))
    numbers = float(value), float(low), float(high)
    room = turned < 1 - EXCESS
    holds = bool(low <= 0.05 and high >= 0.01) if room else None
    note = f"One pair of models, {weight.sum():.0f} neurons, {int(rows[0]['n']):,} tokens; theirs are five "
    note += f"seeds and 100 million tokens. Mean best |ρ| {alike:.2f}, among rotations {turned:.2f}"
    note += "." if room else f": these leave no room for an excess of {EXCESS:g}."
    return finding(numbers, holds, "texts permuted", [float(null)], int(rows[0]["n_texts"]), note)


def shuttleworth_intruders(asked: Asked) -> Found:
    """Intruders of an adapter beside random changes of the same spectrum; those of a full fine-tune where
    there is one."""
    full = str(asked.how.full) if asked.how.full else None
    base, out = str(asked.model), None if asked.work.out is None else Path(asked.work.out) / "adapters"
    study = adapters(
        asked.how.adapter, base, full=full, intruders=True, seed=asked.how.seed, workers=1, out=out
    )
    lora, *others = study.tables["intruders"].where(measure="intruders_of_run")
    note = f"Of {lora['of']} leading vectors; exact for these weights. In the full fine-tune: "
    note += f"{others[0]['value']:.0f} (random ΔW {others[0]['null']:.1f}). " if others else "not given. "
    if lora["value"] <= lora["null_high"]:
        note += "Random ΔW have as many: they come with the size of the change, not with what was learned. "
    holds = None if lora["value"] else False
    null = [lora[k] for k in ("null", "null_low", "null_high")]
    return finding([lora["value"]], holds, "random ΔW of the same spectrum", null, 0, note + ONE_RUN)


def biderman_forgets(asked: Asked) -> Found:
    """Loss on other texts of the full fine-tune minus that of the adapter, and on the task's."""
    by_role = {}
    for name, spec in (("other", asked.how.other_texts or asked.how.texts), ("task", asked.how.task_texts)):
        if spec is None:
            continue
        texts = open_texts(spec, seed=asked.how.seed)
        runs = (f"{asked.model}+{asked.how.adapter}", str(asked.how.full), str(asked.model))
        by_role[name] = _apart(asked, texts, runs)
    (trained, base), texts = (
        by_role["other"],
        len(open_texts(asked.how.other_texts or asked.how.texts, seed=asked.how.seed)),
    )
    note = ONE_RUN
    if "task" in by_role:
        value, low, high = by_role["task"][0]
        note = f"On the task's texts: {value:.3g} [{low:.3g}, {high:.3g}]. {note}"
    return finding(trained, None, "the same with the base for the adapter", base, texts, note)


def _apart(asked: Asked, texts: Any, runs: Sequence[str]) -> list[tuple[float, float, float]]:
    """Loss a token of the second run minus that of the first, and of the third, with intervals."""
    each = [losses(open_model(r, dtype="float32"), texts, max_length=asked.how.longest) for r in runs]
    count = each[0][1]

    def apart(k: int) -> tuple[float, float, float]:
        gap = each[1][0] - each[k][0]
        return asked.by_text(lambda m: float(gap[m].sum() / count[m].sum()), len(texts))

    return [apart(0), apart(2)]


def kim_peri_ln(asked: Asked) -> Found:
    """Growth of the variance of states: Pre-LN minus Peri-LN."""
    stores = asked.store(), asked.store(model=asked.how.other)
    (one, texts), (two, _) = (growth(asked, s) for s in stores)
    value = one[0] - two[0]
    half = float(np.hypot((one[2] - one[1]) / 2, (two[2] - two[1]) / 2))
    numbers = value, value - half, value + half
    note = f"{stores[0].name} {one[0]:.3g}, {stores[1].name} {two[0]:.3g}. {ONE_RUN}"
    return finding(numbers, None, "no difference", [0.0], texts, note)


def huh_platonic(asked: Asked) -> Found:
    """Shared neighbours of texts beyond permuted texts; a pair that is alike shows no trend."""
    found, _ = _alike(asked)
    return replace(found, holds=None if found.holds else found.holds)


def groger_aristotle(asked: Asked) -> Found:
    """The same, beside debiased CKA: seen where neighbours are shared beyond chance and CKA is not."""
    found, everywhere = _alike(asked)
    return replace(found, holds=None if found.holds and everywhere else found.holds)


def _alike(asked: Asked) -> tuple[Found, bool]:
    """(Whether texts have the same neighbours in both models, whether their debiased CKA is beyond chance
    too)."""
    stores = asked.store(), asked.store(model=asked.how.other)
    X, Y = (_means(s) for s in stores)
    n = min(len(X), len(Y))
    X, Y, k = X[:n], Y[:n], max(2, n // 8)
    orders = text_permutations(n, DRAWS, rng(asked.how.seed, "permuted texts"))

    def near(m: np.ndarray) -> float:
        return float(knn_overlap(X[m], Y[m], k=k))

    numbers = asked.by_text(near, n)
    null = np.array([float(knn_overlap(X, Y[o], k=k)) for o in orders])
    full, bound = float(cka(X, Y)), float(np.quantile([float(cka(X, Y[o])) for o in orders], 0.975))
    low, high = np.quantile(null, [0.025, 0.975]).tolist()
    note = (
        f"Debiased CKA {full:.2f}, permuted up to {bound:.2f}; k = {k} of {n} texts, one pair of models: no "
    )
    note += "trend can be seen."
    beside = [float(null.mean()), low, high]
    return finding(numbers, beyond(numbers, high), "texts permuted", beside, n, note), full > bound


def _means(store: Store) -> np.ndarray:
    """Mean of every text's tokens without the first at two thirds of the depth, [texts, d]."""
    names = layers(store)
    site = names[2 * len(names) // 3]
    return np.stack(
        [store.sample(i, site)[1:].mean(axis=0) for i in range(len(store)) if store.lengths[i] > 1]
    )
