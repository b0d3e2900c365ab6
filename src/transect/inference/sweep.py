"""Sweep: Measure × Store → Table. Which cells there are, which blocks they make, and the row that each
becomes."""

import functools
import itertools
import math
from collections.abc import Iterable, Sequence
from pathlib import PurePath
from typing import Annotated, Any

from transect import __version__
from transect.errors import TransectError
from transect.inference.asks import Ask, answer
from transect.inference.design import Design, DesignOptions
from transect.inference.evaluate import Cell, Job, evaluate, is_split, massive_tokens, rig_of
from transect.inference.rows import family_p, row_of
from transect.measures.contract import Measure
from transect.measures.registry import find
from transect.models import sites as names_of
from transect.results.table import Table
from transect.store.store import Store
from transect.work.options import MOST_DRAWS, Option, Work, WorkOptions, checked, within

#: Into how many blocks the cells of a job are cut, of at most 64 cells each: whoever does them, so that work
#: that one
#: number of workers began is found by another.
BLOCKS = 8
#: Draws of the null where nobody says: of measures whose draws re-use what the value needed, and of all
#: others.
DRAWS, FEW_DRAWS = 199, 19
Measures = str | Measure | Sequence[str | Measure]


def sweep(
    measure: Measures,
    stores: Store | Sequence[Store],
    *,
    pairs: str | Sequence[tuple[str, str]] = "adjacent",
    normalise: str = "raw",
    pca: int | None = None,
    label: str | None = None,
    design: str | None = None,
    permutations: Annotated[int | None, within(0, MOST_DRAWS)] = None,
    **options: Any,
) -> Table:
    """Measure every cell, with interval and null; one row per cell.

    Args:
        measure: A measure, or several of them.
        stores: One store or several.
        pairs: "adjacent" or "all" within each run, "same" (a site of the first run with the same site of
        every other),
            "cross" (every site of the first run with every site of the others), or a list of (site, site2).
        normalise: "raw" or "unit" (each point to norm 1).
        pca: Project each pair on one basis of so many dimensions fitted on both.
        label: Label of the texts, for measures of points and labels.
        design: "paired" (same tokens at both sites) or "disjoint" (tokens of different texts); by default
        disjoint for
            measures of two clouds, whose null is the value between two halves of the texts at one site, and
            paired for
            measures of the same points, whose null permutes whole texts.
        permutations: Draws of the null; by default 199 where they are cheap, else 19. No p is given below 19.
        options: Those of DesignOptions and WorkOptions; swaps, halves, null; and the measure's own.

    Returns: rows with value, its 95 % interval, null, corrected value, and p over the family of cells
    (max-T). A cell that fails is a row that says why.
    """
    work = Work.of(options)
    measure_options = {k: v for k, v in options.items() if k not in WorkOptions.__annotations__}
    asked = ask(measure, stores, pairs=pairs, normalise=normalise, pca=pca, label=label, design=design,
                permutations=permutations, **measure_options)  # fmt: skip
    return answer({"sweep": asked}, work, "sweep")["sweep"]


def ask(
    measure: Measures,
    stores: Store | Sequence[Store],
    *,
    pairs: str | Sequence[tuple[str, str]] = "adjacent",
    design: str | None = None,
    permutations: int | None = None,
    swaps: int = 0,
    halves: int = 0,
    beside: Sequence[Store] = (),
    **options: Any,
) -> Ask:
    """What `sweep` does, as an ask: to be answered together with others. Options as there.

    beside: Runs that others' rows are compared with: what is massive in one is dropped in all that hold the
    same tokens.
    """
    stores, measures = _stores(stores), _measures(measure)
    points = Design.of(options)
    rest = {k: v for k, v in options.items() if k not in DesignOptions.__annotations__}
    shape = {
        k: rest.pop(k, v)
        for k, v in (("normalise", "raw"), ("pca", None), ("label", None), ("null", "texts"))
    }
    for m in measures:
        m.check_options(rest)
    counts = {"permutations": permutations, "swaps": swaps, "halves": halves}
    shape, counts = _shape(shape), _counts(counts)
    names = sites_of_runs(stores, points.sites)
    setting = shape | {"tokens": points.tokens, "position0": points.position0, "n": points.n}
    setting |= {"groups": points.groups, "seed": points.seed, "left_out": _left_out(stores, beside, points)}
    together: dict[Any, list[Measure]] = {}
    for m in measures:
        together.setdefault((m.data, m.paired, m.cheap_null), []).append(m)
    jobs = [_job(several, stores, rest, setting, design, counts) for several in together.values()]
    cells = [_cells(find(job.measures[0]), job, stores, names, pairs) for job in jobs]
    tasks = [(job, block) for job, mine in zip(jobs, cells, strict=True) for block in _cut(mine)]
    return Ask(
        evaluate,
        tuple(tasks),
        functools.partial(_table, measures, jobs, cells, stores, tasks),
        key=lambda task: task[0].key(task[1]),
        weight=lambda task: len(task[1]),
    )


def _stores(stores: Any) -> list[Store]:
    listed: list[Any] = [stores] if isinstance(stores, Store | str | PurePath) else _list("stores", stores)
    if odd := [s for s in listed if not isinstance(s, Store)]:
        raise TransectError(f"{odd[0]!r:.80} is no store.", "Open one: ts.open_store(DIR).")
    if not listed:
        raise TransectError("no stores.", "Give at least one.")
    return listed


def _measures(measures: Any) -> list[Measure]:
    listed = [measures] if isinstance(measures, str | Measure) else _list("measures", measures)
    if not listed:
        raise TransectError("no measures.", "Name at least one.")
    return [find(m) for m in listed]


def _list(what: str, values: Any) -> list[Any]:
    if not isinstance(values, Iterable):
        raise TransectError(f"{what}: {values!r:.80}.", "Give one, or a list of them.")
    return list(values)


def _pairs(pairs: Any) -> list[tuple[str, str]]:
    listed = _list("pairs", pairs)
    if odd := [p for p in listed if not isinstance(p, list | tuple) or len(p) != 2]:
        raise TransectError(f"pairs: {odd[0]!r:.80} is no pair.", "Give (site, site2) each.")
    return [(s, t) for s, t in listed]


def _shape(shape: dict[str, Any]) -> dict[str, Any]:
    options = {
        "normalise": (Option("raw", "", choices=("raw", "unit")), str),
        "pca": (within(1), int),
        "label": (within(), str | None),
        "null": (Option("texts", "", choices=("texts", "within")), str),
    }
    return {name: checked(name, value, *options[name]) for name, value in shape.items()}


def _counts(counts: dict[str, Any]) -> dict[str, int | None]:
    return {name: checked(name, count, within(0, MOST_DRAWS), int) for name, count in counts.items()}


def _left_out(stores: Sequence[Store], beside: Sequence[Store], points: Design) -> Any:
    """Massive tokens of every store: its own, and those of the same tokens in all runs."""
    if not points.massive or any(s.manifest["pool"] for s in stores) or points.tokens == "mean":
        return ()
    every = [*stores, *(s for s in beside if not s.manifest["pool"])]
    names = sites_of_runs(every, points.sites)
    picks = [s.select(points.tokens, points.position0) for s in every]
    return massive_tokens(every, names, picks, points.massive)[: len(stores)]


def _job(
    several: list[Measure],
    stores: Sequence[Store],
    options: dict[str, Any],
    setting: dict[str, Any],
    design: str | None,
    counts: dict[str, int | None],
) -> Job:
    m = several[0]
    single = "Y" not in m.data
    usual = "labels" if "y" in m.data else "single" if single else "paired" if m.paired else "disjoint"
    design = usual if design is None or single else design
    if design not in ("paired", "disjoint") and not single:
        raise TransectError(f"design {design!r}: 'paired' or 'disjoint'.")
    if m.paired and design == "disjoint":
        raise TransectError(f"{m.name} compares the same tokens at two sites.", "Use design='paired'.")
    if "y" in m.data and setting["label"] is None:
        raise TransectError(f"{m.name} needs labels.", "Pass label=NAME.")
    draws = counts["permutations"]
    if draws is None:
        draws = DRAWS if m.paired and m.cheap_null else 5 if design == "single" else FEW_DRAWS
    # a null that is not defined for these measures is not drawn, and does not change the key
    permuted = {"permutations": draws if single or m.paired else 0, "halves": counts["halves"] or 0}
    permuted["swaps"] = (counts["swaps"] or 0) if not single and not m.paired and design == "paired" else 0
    return Job(
        stores=tuple(str(s.path) for s in stores),
        contents=tuple(s.content for s in stores),
        measures=tuple(m.name for m in several),
        options={m.name: m.defaults({k: v for k, v in options.items() if k in m.options}) for m in several},
        design=design,
        **{**setting, **permuted},
    )


def sites_of_runs(stores: Sequence[Store], wanted: str | Sequence[str]) -> list[list[str]]:
    """Sites of every run, in order; the residual stream where it is asked for and there, else everything."""
    asked = names_of.asked(wanted)
    if asked == ["resid"] and not any(names_of.family(s).endswith("resid") for s in stores[0].sites):
        asked = stores[0].sites
    return [names_of.select(store.sites, asked) for store in stores]


def _cut(cells: list[Cell]) -> list[tuple[Cell, ...]]:
    size = max(1, min(64, math.ceil(len(cells) / BLOCKS)))
    return [tuple(cells[k : k + size]) for k in range(0, len(cells), size)]


def _cells(
    m: Measure,
    job: Job,
    stores: Sequence[Store],
    names: list[list[str]],
    pairs: str | Sequence[tuple[str, str]],
) -> list[Cell]:
    """The cells asked for, and the same-site cells between halves that a disjoint pair's null needs."""
    if "Y" not in m.data:
        return [((run, site, "all"),) for run, of_run in enumerate(names) for site in of_run]
    left, right = ("a", "b") if job.halved else ("all", "all")
    joined: list[tuple[int, str, int, str]] = []
    for run, of_run in enumerate(names):
        if pairs == "adjacent":
            joined += [(run, s, run, t) for s, t in _adjacent(of_run)]
        elif pairs == "all":
            joined += [(run, s, run, t) for i, s in enumerate(of_run) for t in of_run[i + 1 :]]
        elif pairs in ("same", "cross"):
            joined += [
                (0, s, run, t) for s in names[0] for t in of_run if run and (pairs == "cross" or s == t)
            ]
        elif isinstance(pairs, str):
            raise TransectError(
                f"pairs={pairs!r}: 'adjacent', 'all', 'same', 'cross' or a list of site pairs."
            )
        else:
            joined += [
                (run, stores[run].check_site(s), run, stores[run].check_site(t)) for s, t in _pairs(pairs)
            ]
    if not joined:
        raise TransectError(
            f"pairs={pairs!r}: no pairs among {sum(map(len, names))} sites of {len(stores)} runs."
        )
    if job.design == "paired":
        for a, b in {(a, b) for a, _, b, _ in joined if a != b}:
            if not stores[a].same_tokens(stores[b]):
                raise TransectError(
                    f"{stores[a].path} and {stores[b].path} hold different tokens.",
                    "Capture both from the same texts with one tokenizer.",
                )
    cells: list[Cell] = [((a, s, left), (b, t, right)) for a, s, b, t in joined]
    if job.halved:
        needed = dict.fromkeys((run, site) for cell in cells for run, site, _ in cell)
        cells += [((run, site, "a"), (run, site, "b")) for run, site in needed]
    return cells


def _adjacent(sites_of: list[str]) -> list[tuple[str, str]]:
    """Neighbouring layers of each family."""
    return [(s, t) for s, t in itertools.pairwise(sites_of) if names_of.family(s) == names_of.family(t)]


def _table(
    measures: list[Measure],
    jobs: list[Job],
    cells: list[list[Cell]],
    stores: list[Store],
    tasks: list[tuple[Job, tuple[Cell, ...]]],
    answers: list[list[Any]],
) -> Table:
    """Rows of all measures, each with the p of its family: the cells of one measure."""
    by_job: dict[int, dict[Cell, Any]] = {id(job): {} for job in jobs}
    for (job, block), block_cells in zip(tasks, answers, strict=True):
        by_job[id(job)] |= dict(zip(block, block_cells, strict=True))
    rows: list[dict[str, Any]] = []
    for m in measures:
        k = next(k for k, job in enumerate(jobs) if m.name in job.measures)
        shown, results = [c for c in cells[k] if not is_split(c)], by_job[id(jobs[k])]
        judged = [row_of(m, jobs[k], stores, rig_of(jobs[k]), cell, results) for cell in shown]
        family_p(m, jobs[k], judged)
        rows += judged
    return Table(rows, _provenance(stores, jobs))


def _provenance(stores: Sequence[Store], jobs: Sequence[Job]) -> dict[str, Any]:
    runs = [
        {"name": s.name, "fingerprint": s.fingerprint, "content": s.content}
        | {k: s.manifest[k] for k in ("model", "texts", "origin")}
        for s in stores
    ]
    measures = {
        name: {"options": job.options[name], "source": find(name).source, "estimand": find(name).estimates}
        for job in jobs
        for name in job.measures
    }
    seeds = {"seed": jobs[0].seed, "groups": jobs[0].groups}
    return {"transect": __version__, "runs": runs, "measures": measures, **seeds}
