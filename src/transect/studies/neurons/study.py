"""Neurons laid out by what they do: maps whose distances are 1 − ρ, how far to believe them, and repetition
in depth."""

from pathlib import Path
from typing import Annotated, Any, NamedTuple, Unpack

import numpy as np

from transect.errors import TransectError
from transect.inference.accumulators import store_moments
from transect.inference.asks import Ask, answer
from transect.inference.evaluate import opened
from transect.models import sites as names
from transect.random import rng
from transect.results.study import Study
from transect.results.table import Table
from transect.store.store import Store
from transect.studies.neurons import maps as rooms
from transect.studies.neurons.tables import _cards, _heat, _neighbours, _poles, _position_rows
from transect.studies.neurons.words import _describe
from transect.studies.runs import Runs, open_runs
from transect.work.keys import key_of
from transect.work.options import Option, Values, Work, WorkOptions, only

#: The table that --json prints.
HEADLINE = "maps"


class NeuronOptions(WorkOptions, total=False):
    """Which neurons are looked at, and from which seed."""

    texts: Annotated[Any, Option(None, "Texts to capture a model on.")]
    sites: Annotated[str, Option("mlp.act", "Family or single site; several separated by commas.")]
    position0: Annotated[bool, Option(False, "Keep the first token of every text.")]
    seed: Annotated[int, Option(0, "Seed of every random choice.", least=0)]


class NeuronPlace(Values):
    """Frozen value of NeuronOptions."""

    group = NeuronOptions


class Block(NamedTuple):
    """One task: a site of a store, or a pair of sites of which the second stands `skip` blocks later."""

    path: str
    content: str
    site: str
    site2: str
    skip: int
    dim: int
    cards: int
    position0: bool
    seed: int

    def key(self) -> str:
        """Name of the task's answer."""
        return key_of(list(self)[1:], __name__)


def neurons(
    store: Runs,
    *,
    dim: int = 3,
    skip: tuple[int, ...] = (1, 2, 4),
    cards: int = 3,
    reference: str | Path | None = None,
    **options: Unpack[NeuronOptions],
) -> Study:
    """Which neurons do the same: maps of every block, with stress, control and reproducibility; repetition in
    depth.

    Args:
        store: A store, or a model that is captured on `texts`.
        dim: Dimensions of the maps.
        skip: Blocks between a neuron and its repetition.
        cards: Neurons per block with their top token in context.
        reference: Positions of the same neurons in another run (a file), which maps are turned onto.

    Returns: a study with the tables maps, positions, poles, sorted, repeats and cards. With `out`, positions
    are also saved as OUT/positions.safetensors, those of block outputs also as OUT/model.safetensors as the
    program Transformer Projector reads them.
    """
    only(options, NeuronOptions)
    place, work = NeuronPlace.of(options), Work.of(options)
    asked = [s.strip() for s in place.sites.split(",")]
    given = {"seed": place.seed, "sites": asked, "progress": work.progress}
    run = open_runs(store, place.texts, work.out, **given)[0]
    chosen = names.select(run.sites, asked)
    study = Study("neurons", "Which neurons do the same, and where are they repeated?", {})
    fixed = (dim, cards, place.position0, place.seed)
    blocks = tuple(Block(str(run.path), run.content, s, "", 0, *fixed) for s in chosen)
    apart = {(a, b): (names.layer(b) or 0) - (names.layer(a) or 0) for a in chosen for b in chosen}
    later = [(a, b, step) for step in skip for (a, b), gap in apart.items() if gap == step]
    pairs = tuple(Block(str(run.path), run.content, *pair, *fixed) for pair in later)
    asks = {
        "blocks": Ask(_block, blocks, list, key=Block.key, weight=lambda _task: 4),
        "repeats": Ask(_repeat, pairs, list, key=Block.key),
    }
    found = answer(asks, work, "neurons")
    base = {
        "run": run.name,
        "n": len(run.select("all", place.position0)),
        "n_texts": len(run),
        "seed": place.seed,
    }
    positions = _gathered(study, base, chosen, found, reference, run)
    if work.out is not None:
        _save(Path(work.out), run, positions, dim)
    _describe(study, run, chosen, dim, place.position0)
    return study


def _gathered(
    study: Study, base: dict[str, Any], chosen: list[str], found: dict[str, Any], reference: Any, store: Store
) -> dict[str, np.ndarray]:
    """Fill the study's tables from the answers; the positions by site."""
    others = {} if reference is None else rooms.load_positions(reference, store)
    positions: dict[str, np.ndarray] = {}
    for site, told in zip(chosen, found["blocks"], strict=True):
        positions[site] = np.array(told["positions"], np.float32)
        if site in others:
            positions[site], told["row"]["aligned"] = rooms.align(positions[site], others[site])
    ends = (0, len(chosen) // 2, len(chosen) - 1)
    several = found["blocks"]
    study.tables["maps"] = Table([base | told["row"] for told in several])
    study.tables["positions"] = Table(_position_rows(store, positions))
    study.tables["sorted"] = Table([c for k, told in enumerate(several) if k in ends for c in told["heat"]])
    study.tables["poles"] = Table([base | pole for told in several for pole in told["poles"]])
    study.tables["repeats"] = Table([base | row for row in found["repeats"]])
    if cards := [base | c for told in several for c in told["cards"]]:
        study.tables["cards"] = Table(cards)
    return positions


def _save(out: Path, store: Store, positions: dict[str, np.ndarray], dim: int) -> None:
    origin = {"fingerprint": store.fingerprint, "run": store.name, "distance": "1 - rho", "dim": dim}
    rooms.save_positions(out / "positions.safetensors", positions, **origin)
    if outputs := {s: p for s, p in positions.items() if rooms.OUTPUTS.fullmatch(s)}:
        rooms.save_positions(out / "model.safetensors", outputs, layout="modules", **origin)


def _block(task: Block) -> dict[str, Any]:
    """Everything of one block from one pass over its activations and one over their shuffled columns."""
    store, site, dim, seed = opened(task.path, task.content), task.site, task.dim, task.seed
    m = store_moments(store, site, position0=task.position0)
    alive = np.flatnonzero(~m.constant_x)
    if len(alive) <= dim:
        raise TransectError(
            f"{site}: {len(alive)} neurons that change, dim = {dim}.", "Capture more texts or lower --dim."
        )
    rho = m.correlation
    np.fill_diagonal(rho, 1.0)
    control = store_moments(store, site, position0=task.position0, shuffle=seed).correlation
    np.fill_diagonal(control, 1.0)
    made = rooms.project(rho, dim, seed=seed, control=control)
    order = rooms.seriate(rho)
    orders = rng(seed, "orders")
    random_cost = np.mean([rooms.order_cost(orders.permutation(len(rho)), rho) for _ in range(3)])
    row = {
        "measure": "stress",
        "site": site,
        "value": made.stress,
        "null": made.control_stress,
        "control": "shuffled columns",
        "reproducibility": rooms.reproducibility(store, site, dim, seed=seed, position0=task.position0),
        "neurons": len(rho),
        "constant": int(m.constant_x.sum()),
        "dim": dim,
        "neighbour_rho": _neighbours(rho, order),
        "neighbour_rho_before": _neighbours(rho, np.arange(len(rho))),
        "order_cost": rooms.order_cost(order, rho),
        "order_cost_before": rooms.order_cost(np.arange(len(rho)), rho),
        "order_cost_random": float(random_cost),
        "mean_abs_rho": float(np.abs(rho[np.triu_indices(len(rho), 1)]).mean()),
        "mean_abs_rho_null": float(np.abs(control[np.triu_indices(len(rho), 1)]).mean()),
        "status": "ok",
    }
    noise = rooms.seriate(control)
    cells = [*_heat(site, "before", rho), *_heat(site, "after", rho[np.ix_(order, order)])]
    cells += _heat(site, "control", control[np.ix_(noise, noise)])
    cards = _cards(store, site, task.cards, task.position0, m) if task.cards else []
    told = {"row": row, "positions": made.positions.tolist(), "heat": cells, "cards": cards}
    return told | {"poles": _poles(site, made.positions, rho)}


def _repeat(task: Block) -> dict[str, Any]:
    """How well the best match in a later block repeats a neuron: mean over neurons of the largest |ρ|.

    The columns of the null are shuffled in blocks of tokens, a reference: tokens of one text stay alike, so
    no p is given.
    """
    store, given = opened(task.path, task.content), {"position0": task.position0}
    rho = np.abs(store_moments(store, task.site, task.site2, **given).correlation)
    null = [
        np.abs(store_moments(store, task.site, task.site2, shuffle=task.seed + b, **given).correlation).max(1)
        for b in range(2)
    ]
    best = rho.max(axis=1)
    return {
        "measure": "best_match",
        "site": task.site,
        "site2": task.site2,
        "skip": task.skip,
        "value": float(best.mean()),
        "null": float(np.mean(null)),
        "null_high": float(np.quantile(null, 0.975)),
        "above_null": float((best > np.quantile(null, 0.975)).mean()),
        "repeated": int((best > 0.9).sum()),
        "control": "shuffled columns",
        "status": "ok",
    }
