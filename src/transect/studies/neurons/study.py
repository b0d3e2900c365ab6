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
from transect.numeric.moments import Moments
from transect.random import rng
from transect.results.study import Figure, Study, describe_run
from transect.results.table import Table
from transect.store.store import Store
from transect.studies.neurons import maps as rooms
from transect.studies.runs import Runs, open_runs
from transect.work.keys import key_of
from transect.work.options import Option, Values, Work, WorkOptions, only

#: The table that --json prints.
HEADLINE = "maps"
CELLS = 96  # a sorted heatmap is kept as so many block means a side


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


def _poles(site: str, positions: np.ndarray, rho: np.ndarray, count: int = 5) -> list[dict[str, Any]]:
    """The neurons at both ends of the longest axis of a map, and how alike the ends are within and
    between."""
    centred = positions - positions.mean(axis=0)
    along = centred @ np.linalg.svd(centred, full_matrices=False)[2][0]
    order = np.argsort(along)
    count = min(count, len(order) // 2)
    ends = {"low": order[:count], "high": order[-count:]}
    between = float(rho[np.ix_(ends["low"], ends["high"])].mean())
    return [
        {
            "measure": "pole_rho",
            "site": site,
            "pole": name,
            "value": float(rho[np.ix_(end, end)].mean()),
            "between": between,
            "neurons": ", ".join(map(str, end.tolist())),
            "status": "ok",
        }
        for name, end in ends.items()
    ]


def _neighbours(rho: np.ndarray, order: np.ndarray) -> float:
    """Mean correlation of neurons that stand side by side."""
    return float(rho[order[:-1], order[1:]].mean())


def _heat(site: str, when: str, rho: np.ndarray) -> list[dict[str, Any]]:
    edges = np.linspace(0, len(rho), min(CELLS, len(rho)) + 1).astype(int)
    means = np.add.reduceat(np.add.reduceat(rho, edges[:-1], 0), edges[:-1], 1)
    means /= np.diff(edges)[:, None] * np.diff(edges)
    return [
        {
            "measure": "rho",
            "site": site,
            "order": when,
            "row": i,
            "col": j,
            "value": float(means[i, j]),
            "status": "ok",
        }
        for i in range(len(means))
        for j in range(len(means))
    ]


def _position_rows(store: Store, positions: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    axes = "xyzuvw"
    return [
        {"measure": "position", "run": store.name, "site": site, "neuron": i, "status": "ok"}
        | {axes[k]: float(v) for k, v in enumerate(point[: len(axes)])}
        for site, found in positions.items()
        for i, point in enumerate(found)
    ]


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


def _cards(store: Store, site: str, count: int, position0: bool, m: Moments) -> list[dict[str, Any]]:
    """The most heavy-tailed neurons of a block: mean, kurtosis, sparsity, nearest neuron, top token in
    context."""
    chosen = store.select("all", position0)
    X = store.take(site, chosen)
    centred = X - X.mean(axis=0, dtype=np.float64)
    var = (centred**2).mean(axis=0)
    flat = m.constant_x
    kurtosis = np.where(flat, -np.inf, (centred**4).mean(axis=0) / np.where(flat, 1, var) ** 2 - 3)
    rho = m.correlation
    np.fill_diagonal(rho, 0)
    rows = []
    heads = store.manifest["model"].get("heads") if names.family(site).endswith("attn.head") else None
    for i in np.argsort(-kurtosis)[:count].tolist():
        top = int(np.argmax(np.abs(X[:, i])))
        text, at = int(chosen.texts[top]), int(chosen.position[top])
        pieces = store.tokens(text)
        context = (
            "".join(pieces[max(0, at - 6) : at]) + "«" + pieces[at] + "»" + "".join(pieces[at + 1 : at + 4])
        )
        nearest = int(np.argmax(np.abs(rho[i])))
        rows.append(
            {
                "measure": "kurtosis",
                "site": site,
                "neuron": i,
                "value": float(kurtosis[i]),
                "mean": float(X[:, i].mean()),
                "active": float((np.abs(X[:, i]) > 0.1 * np.abs(X[:, i]).max()).mean()),
                "nearest": nearest,
                "nearest_rho": float(rho[i, nearest]),
                "head": i * heads // X.shape[1] if heads else None,
                "top": float(X[top, i]),
                "context": context,
                "status": "ok",
            }
        )
    return rows


def _describe(study: Study, store: Store, chosen: list[str], dim: int, position0: bool) -> None:
    maps, repeats = study.tables["maps"], study.tables["repeats"]
    ratio = maps.column("value") / maps.column("null")
    k = int(np.argmin(ratio))
    study.findings = [
        f"{store.name}: maps in {dim} dimensions have stress "
        f"{maps.column('value').min():.3f}–{maps.column('value').max():.3f}; "
        f"column-shuffled activations give {maps.column('null').min():.3f}–{maps.column('null').max():.3f}. "
        "Halves of the texts agree to a Procrustes correlation of "
        f"{maps.column('reproducibility').min():.2f}–{maps.column('reproducibility').max():.2f}.",
        (
            f"The most structured block is {maps.column('site')[k]}: stress {maps.column('value')[k]:.3f} "
            f"against {maps.column('null')[k]:.3f}."
        ),
    ]
    if len(repeats):
        top = max(repeats, key=lambda r: r["value"] - r["null"])
        study.findings.append(
            f"Neurons of {top['site']} are repeated best in {top['site2']}: mean largest |ρ| "
            f"{top['value']:.2f} (shuffled {top['null']:.2f}), {top['repeated']} above 0.9."
        )
    if low := [r["site"] for r in maps if r["reproducibility"] < 0.8]:
        study.warnings.append(
            f"{len(low)} of {len(maps)} maps are not reproduced by half the texts (Procrustes correlation "
            f"below 0.8): {', '.join(low[:6])}."
        )
    if dead := int(np.sum(maps.column("constant"))):
        study.warnings.append(f"{dead} neurons never change and correlate with nothing.")
    origin = f"{describe_run(store)}; position 0 {'kept' if position0 else 'dropped'}."
    study.provenance = {"runs": [store.manifest | {"path": str(store.path)}]}
    study.methods = [
        "Correlations are Pearson's over all tokens, from sums streamed in one pass (float64 "
        "accumulation). Positions minimise "
        "the squared error between distances and 1 − ρ (SMACOF from classical scaling); stress is √(Σ(D − "
        "D̂)²/ΣD²). The control "
        "shuffles every neuron's tokens by itself. Reproducibility is the Procrustes correlation of maps "
        "drawn from two halves of the texts.",
        "The order on a line is that of the Fiedler vector of the graph with weights (1 + ρ)/2; "
        "`neighbour_rho` is the mean "
        "correlation of neighbours. `order_cost` is the loss Σ D·(1 − ρ)/2 of the program this study "
        "replaces, on an even line: it "
        "falls when uncorrelated neurons stand close, so sorting raises it.",
    ]
    shown = {"runs": [store.name], "controls": []}
    study.figures = [
        Figure(
            "stress",
            "depth",
            "maps",
            "Stress of each map",
            f"Dotted: the same with every column shuffled. {origin}",
            {"measures": ["stress"], **shown},
        ),
        Figure(
            "maps",
            "maps",
            "positions",
            f"Neurons of {store.name}",
            f"First two of {dim} coordinates, distance 1 − ρ; colour: third. {origin}",
            {
                "sites": [
                    chosen[i]
                    for i in sorted(
                        {0, len(chosen) // 4, len(chosen) // 2, 3 * len(chosen) // 4, len(chosen) - 1}
                    )
                ]
            },
        ),
        Figure(
            "sorted",
            "sorted",
            "sorted",
            "Correlations before and after seriation",
            f"Mean ρ in blocks; right: shuffled columns sorted the same way (control). {origin}",
            {},
        ),
        Figure(
            "repeats",
            "depth",
            "repeats",
            "Repetition of neurons in later blocks",
            (
                "Mean over neurons of the largest |ρ| with a neuron of the block `skip` further on; dotted: "
                f"columns shuffled. {origin}"
            ),
            {"measures": ["best_match"], "panels": "skip", "xlabel": "layer l", **shown},
        ),
    ]
    if not len(repeats):
        study.figures.pop()
