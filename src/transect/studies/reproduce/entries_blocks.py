"""Entries that run the model: with blocks removed or swapped, read out early, or moved along a manifold."""

from typing import Any

import numpy as np

from transect.inference.asks import Ask, answer
from transect.numeric.ranks import spearman
from transect.studies.depth.edits import TEXTS, Judged, edits, judged
from transect.studies.depth.similar import by_token
from transect.studies.judging import blocks_of, drawn
from transect.studies.lens.study import lens
from transect.studies.reproduce.asked import Asked, Found, beyond, found, layers


def damage(
    asked: Asked, store: Any, kinds: tuple[str, ...]
) -> tuple[list[Any], dict[str, np.ndarray], list[int]]:
    """(edits, sums per edit and text of loss rise and agreement beside tokens [texts], texts that judge)."""
    members = drawn(store, "reproduce", asked.how.judges, asked.how.seed)
    where = str(store.path), store.content
    cut = [tuple(members[k : k + TEXTS]) for k in range(0, len(members), TEXTS)]
    tasks = tuple(Judged(*where, part, asked.how.longest, kinds, ()) for part in cut)
    ask = Ask(judged, tasks, list, key=Judged.key, weight=lambda t: len(t.members))
    told = answer({"blocks": ask}, asked.work, "blocks")["blocks"]
    joined = {k: np.concatenate([np.asarray(a[k], float) for a in told], axis=-1) for k in told[0]}
    joined["rise"] = joined["loss"] - joined["whole"]
    return edits(len(blocks_of(store)), kinds, ()), joined, members


def shortgpt_influence(asked: Asked) -> Found:
    """Rank correlation over blocks of block influence and the damage of removal."""
    told = []
    own = asked.store()
    for store in (own, asked.random(own)):
        _, sums, members = damage(asked, store, ("remove",))
        names = layers(store)
        influence = []
        for i in members:
            X = np.stack([store.sample(i, s)[1 : asked.how.longest] for s in names])
            influence.append(np.diagonal(by_token(X)["block_influence"].mean(axis=0), 1))
        table = np.array(influence)

        def rho(m: np.ndarray, table: np.ndarray = table, sums: dict[str, np.ndarray] = sums) -> float:
            rise = sums["rise"][:, m].sum(axis=1) / sums["tokens"][m].sum()
            return spearman(table[m].mean(axis=0), rise)

        told.append(asked.by_text(rho, len(members), "fisher"))
    note = "Blocks are no sample, so there is no p; with random weights both fall with depth."
    return found(told[0], beyond(told[0]), "random weights", told[1], len(members), note)


def lad_stages(asked: Asked) -> Found:
    """Agreement with the whole model over removals and swaps, without the first and last block."""
    store = asked.store()
    every, sums, members = damage(asked, store, ("remove", "swap"))
    last = len(blocks_of(store)) - 1
    inner = [k for k, e in enumerate(every) if e.first > 0 and e.first + e.count - 1 < last]
    ends = [k for k in range(len(every)) if k not in inner]

    def mean(m: np.ndarray, which: list[int]) -> float:
        return float((sums["agreement"][which][:, m].sum(axis=1) / sums["tokens"][m].sum()).mean())

    own, outer = (asked.by_text(lambda m, w=w: mean(m, w), len(members), "logit") for w in (inner, ends))
    holds = bool(own[1] <= 0.95 and own[2] >= 0.72)
    note = "Agreement with the model's own top token, not accuracy; control: edits of the first and last "
    note += "block."
    return found(own, holds, "edits of the first and last block", outer, len(members), note)


def belrose_tuned(asked: Asked) -> Found:
    """KL of the logit lens minus that of a fitted map, in the middle."""
    store = asked.store()
    names = layers(store)
    site = names[len(names) // 2]
    given: dict[str, Any] = {"judges": asked.how.judges, "longest": asked.how.longest, "seed": asked.how.seed}
    table = (
        lens(store, sites=site, workers=1, **given).tables["lens"].where(measure="kl_divergence", site=site)
    )
    logit, tuned = (next(iter(table.where(lens=k))) for k in ("logit", "tuned"))
    value = logit["value"] - tuned["value"]
    half = float(np.hypot(*((r["high"] - r["low"]) / 2 for r in (logit, tuned))))
    own = value, value - half, value + half
    note = f"At {site}: logit {logit['value']:.3g}, tuned {tuned['value']:.3g} nats; a constant state "
    note += f"{tuned['null']:.3g}." if tuned["null"] is not None else "."
    return found(own, beyond(own), "no map", [0.0], int(tuned["n_texts"]), note)


def goodfire_steering(asked: Asked) -> Found:
    """States halfway between two months: on the straight line, and on a closed curve through the other
    months, beside the mean of the month between them."""
    store = asked.store()
    names = layers(store)
    site = names[len(names) // 2]
    chosen = store.select("landmark:month")
    X, month = store.take(site, chosen).astype(np.float64), store.label("month")[chosen.texts].astype(int)

    def gap(m: np.ndarray) -> float:
        return float(np.mean([a - b for a, b in _halfway(X[m], month[m])]))

    own = asked.by_text(gap, len(X))
    line, curve = np.mean(_halfway(X, month), axis=0)
    note = f"At {site}, the token of the month: line {line:.2f}, curve {curve:.2f} steps from the month "
    note += "between. "
    note += "The states' side of the claim; behaviour is not steered here (transect manifold --intervene)."
    return found(own, beyond(own), "the straight line itself", [0.0], len(X), note)


def _halfway(X: np.ndarray, month: np.ndarray, period: int = 12) -> list[tuple[float, float]]:
    """For every month that texts have: how far the line between its neighbours' means and a closed curve
    (first and second harmonic) through all other means pass by its own mean, in steps."""
    every = np.unique(month)
    means = {int(k): X[month == k].mean(axis=0) for k in every}
    step = np.mean(
        [np.linalg.norm(means[k] - means[k % period + 1]) for k in means if k % period + 1 in means]
    )

    def harmonics(k: np.ndarray) -> np.ndarray:
        angle = 2 * np.pi * np.asarray(k, float)[:, None] / period
        return np.hstack(
            [np.ones_like(angle), np.cos(angle), np.sin(angle), np.cos(2 * angle), np.sin(2 * angle)]
        )

    told = []
    for k in means:
        before, after = (k - 2) % period + 1, k % period + 1
        others = [j for j in means if j != k]
        if before not in means or after not in means or len(others) < 6:
            continue
        fit = np.linalg.lstsq(harmonics(np.array(others)), np.stack([means[j] for j in others]), rcond=None)[
            0
        ]
        line, curve = (means[before] + means[after]) / 2, (harmonics(np.array([k])) @ fit)[0]
        told.append(tuple(float(np.linalg.norm(p - means[k]) / step) for p in (line, curve)))
    return told
