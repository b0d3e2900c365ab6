"""What a neuron study asks of a block of neurons, and of two blocks: importable tasks with JSON answers."""

import itertools
import math
from typing import Any, NamedTuple

import numpy as np

from transect.errors import TransectError
from transect.inference.accumulators import SplitMoments, split_moments, text_halves
from transect.inference.evaluate import opened
from transect.numeric.mds import per_neuron, scaled, stress, targets
from transect.numeric.moments import Accumulator, Moments
from transect.numeric.permute import text_permutations
from transect.random import rng
from transect.store.store import Store
from transect.studies.neurons import minibatch
from transect.studies.neurons.maps import _own_diagonal, align
from transect.studies.neurons.orders import neighbour_rho, order_cost, seriate
from transect.studies.neurons.tables import cards, heat, poles
from transect.work.keys import key_of

#: Permutations of whole texts beside each repetition: a reference, no test.
DRAWS = 4
#: Tokens of a mini-batch, at least, and steps of a descent, at least.
BATCH, STEPS = 256, 150


class Block(NamedTuple):
    """One task: a site of a store, or a pair of sites of which the second stands `skip` blocks later."""

    path: str
    content: str
    site: str
    site2: str
    skip: int
    drawn: bool
    cards: int
    dim: int
    layout: str
    method: str
    init: str
    order: str
    position0: bool
    seed: int

    def key(self) -> str:
        """Name of the task's answer."""
        return key_of(list(self)[1:], __name__)


def block(task: Block) -> dict[str, Any]:
    """Everything of one block from one pass over its activations: its map, halves and control."""
    store, site, seed = opened(task.path, task.content), task.site, task.seed
    split = split_moments(store, site, position0=task.position0, seed=seed)
    constant = split.whole.constant_x
    if (live := int((~constant).sum())) <= task.dim + 1:  # N points fit N − 1 dimensions whatever they do
        raise TransectError(
            f"{site}: {live} of {len(constant)} neurons change; dim = {task.dim} needs {task.dim + 2}.",
            "Lower --dim, or lay out wider sites.",
        )
    moments = _named(split)
    del split
    rho = {name: _own_diagonal(moments.pop(name).correlation) for name in list(moments)}  # N² numbers each
    laid = _batched(task, store, rho) if task.method == "minibatch" else _exact(task, rho)
    full, control = rho["whole"], rho["control"]
    order, noise = (_order(task, store, rho[k], k) for k in ("whole", "control"))
    indices, orders, upper = np.arange(len(full)), rng(seed, "orders"), np.triu_indices(len(full), 1)
    fits = {k: stress(laid[k], targets(rho[k])) for k in ("whole", "control")}
    row = {
        "measure": "stress",
        "site": site,
        "value": fits["whole"],
        "null": fits["control"],
        "control": "texts permuted by neuron",
        "half_ratios": [_ratio(laid, rho, k) for k in (0, 1)],
        "reproducibility": align(laid["half 0"], laid["half 1"])[1],
        "reproducibility_null": align(laid["control half 0"], laid["control half 1"])[1],
        "neurons": len(full),
        "constant": int(constant.sum()),
        "dim": task.dim,
        "method": task.method,
        "layout": task.layout if task.method == "exact" else None,
        "init": task.init or None,
        "order": task.order,
        "neighbour_rho": neighbour_rho(full, order),
        "neighbour_rho_before": neighbour_rho(full, indices),
        "neighbour_rho_null": neighbour_rho(control, noise),
        "order_cost": order_cost(order, full),
        "order_cost_before": order_cost(indices, full),
        "order_cost_random": float(
            np.mean([order_cost(orders.permutation(len(full)), full) for _ in range(3)])
        ),
        "mean_abs_rho": float(np.abs(full[upper]).mean()),
        "mean_abs_rho_null": float(np.abs(control[upper]).mean()),
        "worst_neuron": float(per_neuron(laid["whole"], targets(full)).max()),
        "status": "ok",
    }
    record = {"row": row, "positions": laid["whole"].tolist(), "heat": [], "control_positions": []}
    if task.drawn:
        sorted_rho = (full, full[np.ix_(order, order)], control[np.ix_(noise, noise)])
        for when, matrix in zip(("before", "after", "control"), sorted_rho, strict=True):
            record["heat"] += heat(site, when, matrix)
        record["control_positions"] = laid["control"].tolist()
    record["cards"] = cards(store, site, task.cards, task.position0, full, constant) if task.cards else []
    return record | {"poles": poles(site, laid, rho, rng(seed, "poles", site))}


def repeat(task: Block) -> dict[str, Any]:
    """How well the best match in a later block repeats a neuron: mean over neurons of the largest |ρ|.

    Value and null are of the same tokens, equally many of each text. The null gives every text of the first
    block the activations that another text has in the second.
    """
    store = opened(task.path, task.content)
    rows = equal_rows(store, task.position0, task.seed)
    texts = len(rows)
    orders = text_permutations(texts, DRAWS, rng(task.seed, "repeats", task.site, task.site2))
    sample = np.arange(texts)
    best, *null = (_best(store, task, rows, order) for order in (sample, *orders))
    return {
        "measure": "best_match",
        "site": task.site,
        "site2": task.site2,
        "skip": task.skip,
        "value": float(best.mean()),
        "null": float(np.mean(null)),
        "null_low": float(min(draw.mean() for draw in null)),
        "null_high": float(max(draw.mean() for draw in null)),
        "neuron_null_high": float(np.quantile(null, 0.975)),
        "above_null": float((best > np.quantile(null, 0.975)).mean()),
        "repeated": int((best > 0.9).sum()),
        "control": "permuted texts",
        "draws": DRAWS,
        "n": int(rows.size),
        "n_texts": texts,
        "tokens_a_text": rows.shape[1],
        "status": "ok",
    }


# below: helpers in reading order


def _ratio(laid: dict[str, np.ndarray], rho: dict[str, np.ndarray], half: int) -> float:
    """Stress of the map of half of the texts over that of its control."""
    plain, control = (stress(laid[k], targets(rho[k])) for k in (f"half {half}", f"control half {half}"))
    return plain / control if control > 0 else math.nan


def _named(split: SplitMoments) -> dict[str, Moments]:
    named = {"whole": split.whole, "control": split.control}
    for k in (0, 1):
        named |= {f"half {k}": split.halves[k], f"control half {k}": split.control_halves[k]}
    return named


def _exact(task: Block, rho: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {
        name: scaled(targets(matrix), task.dim, task.seed, task.layout, 300, 1e-4)
        for name, matrix in rho.items()
    }


def _batched(task: Block, store: Store, rho: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Maps by mini-batches of whole texts; those of a half from its own texts."""
    laid = {}
    for name in rho:
        start = int(
            rng(task.seed, "start of a map", name).integers(1 << 30)
        )  # else halves agree by their start
        o = minibatch.Batched(init=task.init, seed=start)
        batches = _batches(store, task, int(name[-1]) if "half" in name else None)
        batches = minibatch.turned(batches, task.seed) if "control" in name else batches
        steps = minibatch.correlations(batches, -(-STEPS // len(batches)))
        laid[name] = minibatch.descend(steps, task.dim, o)
    return laid


def _batches(store: Store, task: Block, half: int | None = None) -> list[np.ndarray]:
    selection = store.select("all", task.position0)
    if half is not None:
        selection = selection.subset(np.flatnonzero(text_halves(store, task.seed)[selection.texts] == half))
    batches = [store.read(task.site, rows) for rows in selection.split(BATCH) if len(rows) > 1]
    if not batches:
        raise TransectError(f"{task.site}: no batch has two tokens.", "Capture longer texts.")
    return batches


def _order(task: Block, store: Store, rho: np.ndarray, name: str) -> np.ndarray:
    """The neurons on a line, int [N]: as asked, and where by loss by the method asked."""
    if task.order != "loss":
        return seriate(rho, "leaf" if task.order == "leaf" else "spectral")
    o = minibatch.Batched(init=task.init or "normal", seed=task.seed, loss="order")
    if task.method == "exact":
        steps = itertools.repeat(rho, STEPS)
    else:
        batches = _batches(store, task)
        batches = minibatch.turned(batches, task.seed) if name == "control" else batches
        steps = minibatch.correlations(batches, -(-STEPS // len(batches)))
    return np.argsort(minibatch.descend(steps, 1, o)[:, 0], kind="stable")


def equal_rows(store: Store, position0: bool, seed: int) -> np.ndarray:
    """Rows [T, k]: k tokens of each text that has as many, in their order; k is where T · k is largest. A
    group of texts stands for a text, and a copy for none."""
    selection = store.select("all", position0)
    units = store.units[selection.texts]
    every = selection.rows[np.argsort(units, kind="stable")][(units < 0).sum() :]
    sizes = np.unique(units[units >= 0], return_counts=True)[1]
    k = max(range(1, int(sizes.max()) + 1), key=lambda k: (k * int((sizes >= k).sum()), -k))
    generator, begin = rng(seed, "tokens of a text"), np.cumsum(sizes) - sizes
    return np.stack(
        [
            every[first + np.sort(generator.permutation(size)[:k])]
            for first, size in zip(begin, sizes, strict=True)
            if size >= k
        ]
    )


def _best(store: Store, task: Block, rows: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Largest |ρ| of every neuron [N] with one of the later block, whose texts are in another order."""
    widths = store.width(task.site), store.width(task.site2)
    sums, size = Accumulator(*widths), max(1, (64 << 20) // (4 * max(widths) * rows.shape[1]))
    for k in range(0, len(rows), size):
        here, there = rows[k : k + size].ravel(), rows[order[k : k + size]].ravel()
        sums.update(store.read(task.site, here), store.read(task.site2, there))
    return np.abs(sums.freeze().correlation).max(axis=1)
