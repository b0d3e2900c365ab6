"""Neurons laid out by what they do: maps whose distances are 1 − ρ, how far to believe them, and repetition
in depth."""

from pathlib import Path
from typing import Annotated, Any, Unpack

import numpy as np

from transect.errors import TransectError
from transect.inference.asks import Ask, answer
from transect.models import sites as names
from transect.numeric.mds import NEIGHBOURS, neighbour_library
from transect.results.study import Study
from transect.results.table import Table
from transect.store.store import Store
from transect.studies.neurons.blocks import Block, block, repeat
from transect.studies.neurons.maps import align
from transect.studies.neurons.minibatch import INITIALISATIONS
from transect.studies.neurons.positions import OUTPUTS, load_positions, save_positions
from transect.studies.neurons.tables import position_rows
from transect.studies.neurons.words import describe
from transect.studies.runs import Runs, listed, open_runs
from transect.work.options import Option, Values, Work, WorkOptions, checked, only, within

#: The table that --json prints.
HEADLINE = "maps"


class NeuronOptions(WorkOptions, total=False):
    """Which neurons are looked at, how they are laid out and sorted, and from which seed."""

    texts: Annotated[Any, Option(None, "Texts to capture a model on.")]
    sites: Annotated[str, Option("mlp.act", "Family or single site; several separated by commas.")]
    dim: Annotated[int, Option(3, "Dimensions of the maps; 1 is a line.", least=1)]
    layout: Annotated[
        str,
        Option("smacof", "How exact maps are made.", choices=("smacof", "classical", *NEIGHBOURS)),
    ]
    method: Annotated[
        str,
        Option("exact", "All tokens at once, or gradient steps by batch.", choices=("exact", "minibatch")),
    ]
    init: Annotated[
        str | None, Option(None, "Where mini-batch steps start; normal if left out.", choices=INITIALISATIONS)
    ]
    order: Annotated[
        str,
        Option("leaf", "How neurons are sorted on a line.", choices=("leaf", "spectral", "loss")),
    ]
    position0: Annotated[bool, Option(False, "Keep the first token of every text.")]
    seed: Annotated[int, Option(0, "Seed of every random choice.", least=0)]


class NeuronPlace(Values):
    """Frozen value of NeuronOptions."""

    group = NeuronOptions


def neurons(
    store: Runs,
    *,
    skip: tuple[int, ...] = (1, 2, 4),
    cards: Annotated[int, within(0)] = 3,
    reference: str | Path | None = None,
    **options: Unpack[NeuronOptions],
) -> Study:
    """Which neurons do the same: maps of every block, with stress and control; repetition in depth.

    Args:
        store: One store, or one model that is captured on `texts`.
        skip: Blocks between a neuron and its repetition.
        cards: Neurons per block with their top token in context.
        reference: Positions of the same neurons in another run (a file), which maps are turned onto.

    Returns: a study with the tables maps, positions, control_positions, poles, sorted, repeats and cards.
    With `out`, positions are also saved as OUT/positions.safetensors, those of block outputs also as
    OUT/model.safetensors as the program Transformer Projector reads them.

    Raises: TransectError for several stores, for a layout that is not installed, and for options that do not
    go together, before any work is done.
    """
    only(options, NeuronOptions)
    place, work = NeuronPlace.of(options), Work.of(options)
    asked = names.asked(place.sites)
    steps = [checked("skip", step, within(1), int) for step in skip]
    cards = checked("cards", cards, within(0), int)
    _check(store, place)
    run_options = {"seed": place.seed, "sites": asked, "progress": work.progress}
    run = open_runs(store, place.texts, work.out, **run_options)[0]
    selected = names.select(run.sites, asked)
    shown = _shown(selected)
    study = Study("neurons", "Which neurons do the same, and where are they repeated?", {})
    init = place.init or ("normal" if place.method == "minibatch" else "")
    ways = (place.dim, place.layout, place.method, init, place.order, place.position0, place.seed)
    where = (str(run.path), run.content)
    blocks = tuple(Block(*where, s, "", 0, s in shown, cards, *ways) for s in selected)
    later = _later(selected, steps)
    pairs = tuple(Block(*where, *pair, False, 0, *ways) for pair in later)
    asks = {
        "blocks": Ask(block, blocks, list, key=Block.key, weight=lambda _task: 4),
        "repeats": Ask(repeat, pairs, list, key=Block.key),
    }
    answers = answer(asks, work, "neurons")
    base = {
        "run": run.name,
        "n": len(run.select("all", place.position0)),
        "n_texts": len(run),
        "seed": place.seed,
    }
    positions = _gathered(study, base, selected, answers, reference, run)
    if work.out is not None:
        _save(Path(work.out), run, positions, place.dim)
    describe(study, run, shown, place)
    return study.marked().in_units_of([run])


def _check(store: Runs, place: Any) -> None:
    """TransectError, before any work, for what cannot be done."""
    if len(several := listed(store)) > 1:
        raise TransectError(
            f"neurons: {len(several)} runs; maps of different runs have different neurons.",
            "Run it once for each; reference=FILE lays a map onto that of the same neurons in another run.",
        )
    if place.method == "minibatch" and place.layout != "smacof":
        raise TransectError(f"layout={place.layout!r} by mini-batches.", "Leave out layout, or method.")
    if place.init and place.method == "exact" and place.order != "loss":
        raise TransectError(
            f"init={place.init!r} where nothing descends.", "Add method='minibatch' or order='loss'."
        )
    if place.layout in NEIGHBOURS:
        neighbour_library(place.layout)


def _later(mapped: list[str], steps: list[int]) -> list[tuple[str, str, int]]:
    """(site, site of the same family so many blocks later, blocks) for every step."""
    families = [(a, b) for a in mapped for b in mapped if names.family(a) == names.family(b)]
    gaps = [(a, b, (names.layer(b) or 0) - (names.layer(a) or 0)) for a, b in families]
    return [(a, b, gap) for step in steps for a, b, gap in gaps if gap == step]


def _shown(mapped: list[str]) -> list[str]:
    """Sites that are drawn: the first, middle and last of each family, two families at most."""
    families: dict[str, list[str]] = {}
    for site in mapped:
        families.setdefault(names.family(site), []).append(site)
    picks = [
        part[k] for part in list(families.values())[:2] for k in sorted({0, len(part) // 2, len(part) - 1})
    ]
    return picks[:4]


def _gathered(
    study: Study,
    base: dict[str, Any],
    selected: list[str],
    answers: dict[str, Any],
    reference: Any,
    store: Store,
) -> dict[str, np.ndarray]:
    """Fill the study's tables from the answers; the positions by site."""
    others = {} if reference is None else load_positions(reference, store)
    positions: dict[str, np.ndarray] = {}
    for site, block_answer in zip(selected, answers["blocks"], strict=True):
        positions[site] = np.array(block_answer["positions"], np.float32)
        if site in others:
            positions[site], block_answer["row"]["aligned"] = align(positions[site], others[site])
    several = answers["blocks"]
    study.tables["maps"] = Table([base | block_answer["row"] for block_answer in several])
    study.tables["positions"] = Table(position_rows(store, positions))
    controls = {
        s: np.array(block_answer["control_positions"])
        for s, block_answer in zip(selected, several, strict=True)
    }
    study.tables["control_positions"] = Table(position_rows(store, controls))
    study.tables["sorted"] = Table([base | line for block_answer in several for line in block_answer["heat"]])
    study.tables["poles"] = Table([base | pole for block_answer in several for pole in block_answer["poles"]])
    study.tables["repeats"] = Table([base | row for row in answers["repeats"]])
    if cards := [base | c for block_answer in several for c in block_answer["cards"]]:
        study.tables["cards"] = Table(cards)
    return positions


def _save(out: Path, store: Store, positions: dict[str, np.ndarray], dim: int) -> None:
    origin = {"fingerprint": store.fingerprint, "run": store.name, "distance": "1 - rho", "dim": dim}
    save_positions(out / "positions.safetensors", positions, **origin)
    if outputs := {s: p for s, p in positions.items() if OUTPUTS.fullmatch(s)}:
        save_positions(out / "model.safetensors", outputs, layout="modules", **origin)
