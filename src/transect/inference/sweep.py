"""Sweep: Measure × Store → Table. Which cells there are, which blocks they make, and the row that each becomes.

A finished block is kept under its key in `out/cells`, and an interrupted sweep goes on from there.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from transect import __version__
from transect.errors import TransectError
from transect.inference import controls
from transect.inference.evaluate import Answer, Cell, Job, evaluate, is_split, kept_answers, massive_tokens, rig_of
from transect.measures.contract import Measure, find
from transect.models import sites
from transect.results.table import Table
from transect.store.store import Store
from transect.work.pool import run_blocks

#: Into how many blocks the cells of a job are cut, of at most 64 cells each: whoever does them, so that work that one number
#: of workers began is found by another.
BLOCKS = 8


def sweep(
    measure: str | Measure | Sequence[str | Measure],
    stores: Store | Sequence[Store],
    *,
    sites: str | Sequence[str] | None = None,
    pairs: str | Sequence[tuple[str, str]] = "adjacent",
    tokens: str | int = "all",
    position0: bool = False,
    massive: float | None = None,
    normalise: str = "raw",
    pca: int | None = None,
    label: str | None = None,
    design: str | None = None,
    n: int | None = None,
    groups: int = 10,
    permutations: int = 19,
    swaps: int = 0,
    halves: int = 0,
    seed: int = 0,
    out: str | Path | None = None,
    engine: str = "local",
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> Table:
    """Measure every cell, with interval and null; one row per cell.

    pairs: "adjacent" or "all" within each run, "same" (a site of the first run with the same site of every other),
    "cross" (every site of the first run with every site of the others), or a list of (site, site2). Measures of one
    cloud ignore it. tokens: as in Store.points; position0=False leaves out the first token of every text; massive=10 also the
    tokens whose norm exceeds 10 × the median at any of the sites. normalise:
    "raw" or "unit" (each point to norm 1). pca: project each pair on one basis of so many dimensions fitted on both.
    design: "paired" (same tokens at both sites), "disjoint" (tokens of different texts), by default what the measure
    needs. n: points per cloud. Intervals are 95 %, by leaving out each of `groups` groups of texts. permutations: draws
    of the null. swaps: for clouds, draws of the null that both sites follow one law. halves: corrected values on random halves of the
    groups, kept in the column `halves` (the leave-one-out values are in `replicates`). A cell that fails is a row that
    says why.
    """
    stores = [stores] if isinstance(stores, Store) else list(stores)
    chosen = [find(m) for m in ([measure] if isinstance(measure, str | Measure) else measure)]
    for m in chosen:
        m.check_options(options)
    names = _sites(stores, sites)
    setting = {"tokens": tokens, "position0": position0, "normalise": normalise, "pca": pca, "label": label, "n": n}
    setting |= {"groups": groups, "permutations": permutations, "swaps": swaps, "halves": halves, "seed": seed}
    if massive:
        picks = [s.select(tokens, position0) for s in stores]
        setting["left_out"] = tuple(massive_tokens(*each, massive) for each in zip(stores, names, picks, strict=True))
    together: dict[Any, list[Measure]] = {}
    for m in chosen:
        together.setdefault((m.data, m.paired), []).append(m)
    jobs = [_job(several, stores, options, setting, design) for several in together.values()]
    cells = [_cells(find(next(iter(job.measures))), job, stores, names, pairs) for job in jobs]
    results = _results(jobs, cells, out, engine, workers, progress)
    rows: list[dict[str, Any]] = []
    for m in chosen:
        k = next(k for k, job in enumerate(jobs) if m.name in job.measures)
        rows += [_row(m, jobs[k], stores, cell, results[k]) for cell in cells[k] if not is_split(cell)]
    return Table(rows, _provenance(stores, jobs))


def _job(
    several: list[Measure],
    stores: Sequence[Store],
    options: dict[str, Any],
    setting: dict[str, Any],
    design: str | None,
) -> Job:
    m = several[0]
    single, paired = "Y" not in m.data, m.paired
    design = design or ("labels" if "y" in m.data else "single" if single else "paired")
    if design not in ("paired", "disjoint") and not single:
        raise TransectError(f"design {design!r}: 'paired' or 'disjoint'.")
    if paired and design == "disjoint":
        raise TransectError(f"{m.name} compares the same tokens at two sites.", "Use design='paired'.")
    if setting["normalise"] not in ("raw", "unit"):
        raise TransectError(f"normalise={setting['normalise']!r}: 'raw' or 'unit'.")
    if "y" in m.data and setting["label"] is None:
        raise TransectError(f"{m.name} needs labels.", "Pass label=NAME.")
    # a null that is not defined for these measures is not drawn, and does not change the key
    own = {"permutations": setting["permutations"] if single or paired else 0}
    own["swaps"] = setting["swaps"] if not single and not paired and design == "paired" else 0
    return Job(
        stores=tuple(str(s.path) for s in stores),
        fingerprints=tuple(s.fingerprint for s in stores),
        measures={m.name: m.version for m in several},
        options={m.name: m.defaults({k: v for k, v in options.items() if k in m.options}) for m in several},
        design=design,
        **{**setting, **own},
    )


def _sites(stores: Sequence[Store], wanted: str | Sequence[str] | None) -> list[list[str]]:
    """Sites of every run, in order."""
    if wanted is None:
        wanted = ["resid"] if any(sites.family(s).endswith("resid") for s in stores[0].sites) else stores[0].sites
    return [sites.select(store.sites, [wanted] if isinstance(wanted, str) else wanted) for store in stores]


def _cells(
    m: Measure, job: Job, stores: Sequence[Store], names: list[list[str]], pairs: str | Sequence[tuple[str, str]]
) -> list[Cell]:
    """The cells asked for, and the same-site cells between halves that an unpaired measure's null needs."""
    if "Y" not in m.data:
        return [((run, site, "ab"),) for run, own in enumerate(names) for site in own]
    other = "b" if job.design == "disjoint" else "a"
    joined: list[tuple[int, str, int, str]] = []
    for run, own in enumerate(names):
        if pairs == "adjacent":
            joined += [(run, s, run, t) for s, t in _adjacent(own)]
        elif pairs == "all":
            joined += [(run, s, run, t) for i, s in enumerate(own) for t in own[i + 1 :]]
        elif pairs in ("same", "cross"):
            joined += [(0, s, run, t) for s in names[0] for t in own if run and (pairs == "cross" or s == t)]
        elif isinstance(pairs, str):
            raise TransectError(f"pairs={pairs!r}: 'adjacent', 'all', 'same', 'cross' or a list of site pairs.")
        else:
            joined += [(run, stores[run].check_site(s), run, stores[run].check_site(t)) for s, t in pairs]
    if not joined:
        raise TransectError(f"pairs={pairs!r}: no pairs among {sum(map(len, names))} sites of {len(stores)} runs.")
    crossing = {(a, b) for a, _, b, _ in joined if a != b}
    if job.design == "paired":
        for a, b in crossing:
            if not stores[a].same_tokens(stores[b]):
                raise TransectError(
                    f"{stores[a].path} and {stores[b].path} hold different tokens.",
                    "Capture both from the same texts with one tokenizer.",
                )
    cells: list[Cell] = [((a, s, "a"), (b, t, other)) for a, s, b, t in joined]
    if not m.paired:
        needed = dict.fromkeys((run, site) for cell in cells for run, site, _ in cell)
        cells += [((run, site, "a"), (run, site, "b")) for run, site in needed]
    return cells


def _adjacent(own: list[str]) -> list[tuple[str, str]]:
    """Neighbouring layers of each family."""
    return [(s, t) for s, t in itertools.pairwise(own) if sites.family(s) == sites.family(t)]


# evaluation


def _results(
    jobs: list[Job],
    cells: list[list[Cell]],
    out: str | Path | None,
    engine: str,
    workers: int | None,
    progress: Callable[[int, int], None] | None,
) -> list[dict[Cell, Answer]]:
    """Per job, cell → its answer; finished blocks are read back."""
    folder = None if out is None else Path(out) / "cells"
    tasks: list[tuple[Job, tuple[Cell, ...]]] = []
    for job, own in zip(jobs, cells, strict=True):
        size = max(1, min(64, math.ceil(len(own) / BLOCKS)))
        tasks += [(job, tuple(own[k : k + size])) for k in range(0, len(own), size)]
    results: dict[int, list[Answer]] = {}
    total, done = sum(len(own) for own in cells), 0
    place = {id(task): k for k, task in enumerate(tasks)}
    known = functools.partial(kept_answers, folder) if folder else None
    if progress:
        progress(0, total)
    blocks = run_blocks(functools.partial(evaluate, folder), tasks, engine=engine, workers=workers, receipt=known)
    for task, answers in blocks:
        results[place[id(task)]] = answers
        done += len(answers)
        if progress:
            progress(done, total)
    found: dict[int, dict[Cell, Answer]] = {id(job): {} for job in jobs}
    for k, (job, block) in enumerate(tasks):
        found[id(job)] |= dict(zip(block, results[k], strict=True))
    return [found[id(job)] for job in jobs]


# rows


def _row(m: Measure, job: Job, stores: Sequence[Store], cell: Cell, results: dict[Cell, Answer]) -> dict[str, Any]:
    answer = results[cell][m.name]
    full = answer["full"][0]
    left, right = cell[0], cell[-1] if len(cell) == 2 else None
    rig = rig_of(job)
    n = rig.draws[left[0]].n * (1 if right else 2)
    row: dict[str, Any] = {
        "measure": m.name,
        "run": stores[left[0]].name,
        "run2": stores[right[0]].name if right else None,
        "site": left[1],
        "site2": right[1] if right else None,
        "token": str(job.tokens),
        "position0": "kept" if job.position0 else "dropped",
        "normalise": job.normalise,
        "pca": job.pca,
        "massive": f"dropped ({len(job.left_out[left[0]])})" if job.left_out else "kept",
        "design": job.design,
        "n": n,
        "n_texts": rig.draws[left[0]].n_texts,
        "control": m.control,
        "draws": job.permutations or job.swaps,
        "seed": job.seed,
        "status": "ok",
        **job.options[m.name],
    }
    if isinstance(full, dict):
        return row | {"status": full["error"]}
    if m.fields:
        row |= {f"{m.name}_{name}": value for name, value in zip(m.fields, full, strict=True)}
    value = _headline(m, full)
    row["value"] = value
    row |= _judged(m, value, answer, [results[s][m.name] for s in _splits(m, cell)])
    if not math.isfinite(value):
        row["status"] = "undefined: the measure is NaN on these points"
    elif m.fields and "converged" in m.fields and not full[m.fields.index("converged")]:
        row["status"] = (
            f"not converged: marginal error {full[m.fields.index('error')]:.1e} after {full[m.fields.index('iterations')]} iterations"
        )
    return row


def _splits(m: Measure, cell: Cell) -> list[Cell]:
    """The same-site cells whose mean is an unpaired pair's null."""
    if len(cell) == 1 or m.paired:
        return []
    return [((run, site, "a"), (run, site, "b")) for run, site, _ in cell]


def _judged(m: Measure, value: float, answer: dict[str, list], splits: list[dict[str, list]]) -> dict[str, Any]:
    """Interval, null, corrected value and p of one cell."""
    drops = np.array([_headline(m, r) for r in answer.get("drop", [])])
    told: dict[str, Any] = dict(zip(("low", "high"), controls.jackknife(value, drops), strict=True))
    if splits:
        null = float(np.mean([_headline(m, s["full"][0]) for s in splits]))
        told |= {f"null_{name}": _headline(m, s["full"][0]) for name, s in zip(("site", "site2"), splits, strict=True)}
        null_drops = np.mean([[_headline(m, r) for r in s["drop"]] for s in splits], axis=0)
        told |= dict(zip(("null_low", "null_high"), controls.jackknife(float(null), null_drops), strict=True))
        swapped = [_headline(m, r) for r in answer.get("swap", [])]
        told |= {"null_draws": swapped} if swapped else {}
        told["p"] = controls.permutation_p(value, swapped, "greater" if m.itself == 0 else "two")
    else:
        draws = np.array([_headline(m, r) for r in answer.get("null", [])])
        null, null_drops = (float(np.mean(draws)) if len(draws) else math.nan), np.nan
        if len(draws):
            told |= {"null_low": float(np.quantile(draws, 0.025)), "null_high": float(np.quantile(draws, 0.975))}
        side = "two" if m.itself is None else "less" if m.itself == 0 else "greater"
        told["p"] = controls.permutation_p(value, draws, side)
        null_drops = np.full(len(drops), null)
    told["null"] = float(null)
    halves = [_headline(m, r) for r in answer.get("half", [])]
    if halves:
        floor = (
            np.mean([[_headline(m, r) for r in s["half"]] for s in splits], axis=0)
            if splits
            else np.full(len(halves), null)
        )
        told["halves"] = [corrected(m, v, b) for v, b in zip(halves, floor.tolist(), strict=True)]
    told["replicates"] = drops.tolist()
    told["corrected"] = corrected(m, value, null)
    low, high = controls.jackknife(
        told["corrected"], [corrected(m, v, b) for v, b in zip(drops, null_drops, strict=True)]
    )
    return told | {"corrected_low": low, "corrected_high": high}


def corrected(m: Measure, value: float, null: float) -> float:
    """Excess over the null: value − null for distances and for measures of one cloud; (value − null)/(1 − null) for
    similarities, where 1 is the value on itself; null − value for a paired distance, whose null lies above it."""
    if m.itself == 1:
        return (value - null) / (1 - null) if null < 1 else math.nan
    return null - value if m.itself == 0 and m.paired else value - null


def _headline(m: Measure, told: Any) -> float:
    if isinstance(told, dict):
        return math.nan
    return float(told[m.fields.index(m.headline)] if m.fields else told)


def _provenance(stores: Sequence[Store], jobs: Sequence[Job]) -> dict[str, Any]:
    return {
        "transect": __version__,
        "runs": [
            {
                "name": s.name,
                "fingerprint": s.fingerprint,
                "model": s.manifest["model"],
                "texts": s.manifest["texts"],
                "origin": s.manifest["origin"],
            }
            for s in stores
        ],
        "measures": {
            name: {"version": version, "options": job.options[name], "source": find(name).source}
            for job in jobs
            for name, version in job.measures.items()
        },
        "seed": jobs[0].seed,
        "groups": jobs[0].groups,
    }
