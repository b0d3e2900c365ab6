"""Entries that run the model: with blocks removed or swapped, read out early, or moved along a manifold."""

from typing import Any

import numpy as np

from transect.errors import TransectError
from transect.inference.asks import Ask, answer
from transect.numeric.ranks import spearman
from transect.results.table import Table
from transect.results.words import interval
from transect.studies.depth.edits import TEXTS, Judged, edits, judged
from transect.studies.depth.similar import by_token
from transect.studies.judging import blocks_of, drawn
from transect.studies.lens.study import lens
from transect.studies.manifold.plan import MapJob
from transect.studies.manifold.question import Moving
from transect.studies.manifold.steer import GAP, steer
from transect.studies.reproduce.asked import Asked, Found, beyond, finding, layers


def damage(
    asked: Asked, store: Any, kinds: tuple[str, ...]
) -> tuple[list[Any], dict[str, np.ndarray], list[int]]:
    """(edits, sums per edit and text of loss rise and agreement beside tokens [texts], texts that judge)."""
    members = drawn(store, "reproduce", asked.how.judges, asked.how.seed)
    where = str(store.path), store.content
    cut = [tuple(members[k : k + TEXTS]) for k in range(0, len(members), TEXTS)]
    tasks = tuple(Judged(*where, part, asked.how.longest, kinds, ()) for part in cut)
    ask = Ask(judged, tasks, list, key=Judged.key, weight=lambda t: len(t.members))
    answers = answer({"blocks": ask}, asked.work, "blocks")["blocks"]
    joined = {k: np.concatenate([np.asarray(a[k], float) for a in answers], axis=-1) for k in answers[0]}
    joined["rise"] = joined["loss"] - joined["whole"]
    return edits(len(blocks_of(store)), kinds, ()), joined, members


def shortgpt_influence(asked: Asked) -> Found:
    """Rank correlation over blocks of block influence and the damage of removal."""
    both = []
    trained = asked.store()
    for store in (trained, asked.random(trained)):
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

        both.append(asked.by_text(rho, len(members), "fisher"))
    note = "Blocks are no sample, so there is no p; with random weights both fall with depth."
    return finding(both[0], beyond(both[0]), "random weights", both[1], len(members), note)


def lad_stages(asked: Asked) -> Found:
    """Agreement with the whole model over removals and swaps, without the first and last block."""
    store = asked.store()
    every, sums, members = damage(asked, store, ("remove", "swap"))
    last = len(blocks_of(store)) - 1
    inner = [k for k, e in enumerate(every) if e.first > 0 and e.first + e.count - 1 < last]
    ends = [k for k in range(len(every)) if k not in inner]

    def mean(m: np.ndarray, which: list[int]) -> float:
        return float((sums["agreement"][which][:, m].sum(axis=1) / sums["tokens"][m].sum()).mean())

    middle, outer = (asked.by_text(lambda m, w=w: mean(m, w), len(members), "logit") for w in (inner, ends))
    holds = bool(middle[1] <= 0.95 and middle[2] >= 0.72)
    note = "Agreement with the model's own top token, not accuracy; control: edits of the first and last "
    note += "block."
    return finding(middle, holds, "edits of the first and last block", outer, len(members), note)


def belrose_tuned(asked: Asked) -> Found:
    """KL of the logit lens minus that of a fitted map, in the middle."""
    store = asked.store()
    names = layers(store)
    site = names[len(names) // 2]
    options: dict[str, Any] = {
        "judges": asked.how.judges,
        "longest": asked.how.longest,
        "seed": asked.how.seed,
    }
    table = (
        lens(store, sites=site, workers=1, **options).tables["lens"].where(measure="kl_divergence", site=site)
    )
    logit, tuned = (next(iter(table.where(lens=k))) for k in ("logit", "tuned"))
    value = logit["value"] - tuned["value"]
    half = float(np.hypot(*((r["high"] - r["low"]) / 2 for r in (logit, tuned))))
    numbers = value, value - half, value + half
    note = f"At {site}: logit {logit['value']:.3g}, tuned {tuned['value']:.3g} nats; a constant state "
    note += f"{tuned['null']:.3g}." if tuned["null"] is not None else "."
    return finding(numbers, beyond(numbers), "no map", [0.0], int(tuned["n_texts"]), note)


def goodfire_steering(asked: Asked) -> Found:
    """Months moved a quarter of a year on: what half of the way does to the word of the month between, along
    the curve through the other texts' months minus on the straight line."""
    store = asked.store()
    names = layers(store)
    site, circle = names[len(names) // 2], (("circle", '{"period": 12.0}'),)
    job = MapJob(str(store.path), store.content, (), ("month",), None, circle, seed=asked.how.seed)
    steered = Table(steer(Moving(job, site, "landmark:month", 3.0)))
    table = steered.where(fraction=0.5, status="ok")
    rows = {r["path"]: r for r in table.where(measure="between_shift")}
    if not rows:
        raise TransectError(
            f"{store.name}: its tokenizer has no token for each month.",
            "Use a model whose tokenizer has them.",
        )
    off = {r["path"]: interval(r, digits=2) for r in table.where(measure="off_manifold")}
    trained, control = ([rows[path][k] for k in ("value", "low", "high")] for path in (GAP, "random"))
    note = f"At {site}, the token of the month: on the curve {interval(rows['manifold'], digits=2)}, on the "
    note += f"line {interval(rows['line'], digits=2)}. States there are {off['manifold']} steps from the "
    note += f"held-out texts' own curve on the curve, {off['line']} on the line."
    return finding(trained, beyond(trained), "random directions", control, rows[GAP]["n_texts"], note)
