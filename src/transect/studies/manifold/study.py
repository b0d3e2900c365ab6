"""Where a feature manifold lives: supervised MDS at every site and token, with what each score is worth
beside it.

Four experiments on one map: independent fits, similarity of subspaces, reuse of one token's subspace at the
others, rigid fits; and discovery, which shape fits best at equal dimension. Beside each cell: permutation
null, random weights, the token embedding, the share of variance. The headline is what training added.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Unpack

import numpy as np

from transect.errors import TransectError
from transect.models import sites as site_names
from transect.numeric.shapes import SHAPES, find_shape
from transect.numeric.smds import shape_parameters
from transect.results.study import Study
from transect.results.table import Table
from transect.store.store import Store
from transect.studies.manifold.intervene import add_intervention
from transect.studies.manifold.plan import KINDS, MapJob, plan_for, read_labels
from transect.studies.manifold.positions import columns as token_columns
from transect.studies.manifold.rows import friedman, map_rows, ranking, run_maps, with_source
from transect.studies.manifold.steering_words import add_steering
from transect.studies.manifold.subspaces import scatter, similarity
from transect.studies.manifold.words import describe
from transect.studies.runs import Run, Runs, captured_controls, distinct, open_runs
from transect.work.options import MOST_DRAWS, Option, Work, WorkOptions, group, only


class ManifoldOptions(WorkOptions, total=False):
    """How a manifold is fitted, judged and moved along, and where in the model."""

    texts: Annotated[Any, Option(None, "Texts to capture models on: birthdays:400, …")]
    sites: Annotated[str, Option("resid", "Family or single site; several separated by commas.")]
    position0: Annotated[
        bool, Option(False, "Keep the first token of every text (left out by default: the sink).")
    ]
    period: Annotated[
        float | None, Option(None, "Of the shape, in the label's units; by default 12 for month, …", above=0)
    ]
    parameters: Annotated[dict[str, Any] | None, Option(None, 'Others, by shape: {"spiral": {"growth": 2}}.')]
    source: Annotated[
        str | None, Option(None, "Token whose subspace is reused; by default where the label comes in.")
    ]
    destination: Annotated[str | None, Option(None, "Token marked in figures; by default the last landmark.")]
    components: Annotated[int, Option(2, "Dimensions of the subspace.", least=1)]
    alpha: Annotated[float, Option(0.1, "Ridge, in units of scaled points.", least=0)]
    scale: Annotated[
        str,
        Option(
            "unit", "Points divided by one number, by feature, or not.", choices=("unit", "standard", "none")
        ),
    ]
    group: Annotated[
        str | None, Option(None, "Label whose values folds hold out; by default the label itself.")
    ]
    folds: Annotated[int, Option(3, "Parts of the texts, each held out once.", 2, MOST_DRAWS)]
    repeats: Annotated[int, Option(3, "Times the folds are drawn anew.", 1, MOST_DRAWS)]
    permutations: Annotated[int, Option(100, "Draws of the null.", 1, MOST_DRAWS)]
    seed: Annotated[int, Option(0, "Seed of every random choice.", least=0)]
    intervene: Annotated[
        bool, Option(False, "Also move points along the manifold and measure the next token.")
    ]
    steer: Annotated[
        bool, Option(False, "Also move points along the curve of class means, beside the straight line.")
    ]
    shift: Annotated[
        float | None, Option(None, "How far, in the label's units; by default a quarter period.")
    ]
    at: Annotated[str | None, Option(None, "Token to move at; by default the source.")]
    prompt: Annotated[str | None, Option(None, "Words appended to each text, where the next token is read.")]


#: The table that --json prints.
HEADLINE = "map"
#: Periods of the labels of the built-in template sets (see `template_sets.py`).
PERIODS = {"date": 1.0, "hue": 1.0, "month": 12.0, "weekday": 7.0, "hour": 24.0}


def manifold(
    stores: Runs,
    *,
    label: str | None = None,
    shape: str = "circle",
    discover: bool = False,
    controls: Sequence[Run] = (),
    random_weights: bool = False,
    tokens: Sequence[str] | None = None,
    **options: Unpack[ManifoldOptions],
) -> Study:
    """Where a feature lies on a shape: supervised MDS at every site and token, with null, controls and
    intervals.

    A high score says that the label can be read there, not that the model keeps or uses it there.

    Args:
        stores: Stores, or models that are captured on `texts`.
        label: Label of the texts; several separated by commas (latitude,longitude).
        shape: Where labels would lie: circle, line, sphere, …
        discover: Try every shape that these labels allow.
        controls: Store of the same texts through random weights.
        random_weights: Capture a control: the same architecture with random weights.
        tokens: landmark:NAME+k, as often as there are some; by default every position that is comparable in
        all texts.

    Returns: a study with the tables map, similarity, scatter; discovery and friedman with `discover`;
    intervention with `intervene`, steering with `steer`.
    """
    only(options, ManifoldOptions)
    how, work = group(options, ManifoldOptions), Work.of(options)
    runs = open_runs(stores, how.texts, work.out, seed=how.seed, sites=how.sites, progress=work.progress)
    others = open_runs(list(controls)) if controls else []
    others += captured_controls(runs[0], work, how.seed, random_weights=random_weights)
    check_runs(runs, others)
    names = label_names(runs[0], label)
    study = Study(
        "manifold", f"Where does {'/'.join(names)} lie on a {shape}, and what did training add?", {}
    )
    rows: list[dict[str, Any]] = []
    alike, points, ranks, notes = [], [], [], []
    for store in runs:
        job = MapJob(str(store.path), store.content, (), names, how.group, ((find_shape(shape).name, "{}"),))
        job = replace(
            job, n_components=how.components, alpha=float(how.alpha), scale=how.scale, folds=how.folds
        )
        job = replace(job, permutations=how.permutations, seed=how.seed, repeats=how.repeats)
        job = replace(
            job, shapes=chosen_shapes(store, job, shape, discover, how.period, how.parameters or {})
        )
        selected = site_names.select(store.sites, site_names.asked(how.sites))
        cols, masked = token_columns(store, tokens or None, position0=how.position0)
        notes += [f"{store.name}: {note}" for note in masked if note not in notes]
        job = replace(job, tokens=tuple(c.token for c in cols if c.status == "ok"))
        job = _with_source(job, how.source, cols, selected, work)
        maps = {store.name: job} | {c.name: _of(job, c) for c in others if same_texts(c, store)}
        answers = run_maps(maps, selected, work)
        good = [c for c in cols if c.status == "ok"]
        map_table = map_rows(
            store, job, good, answers.pop(store.name), list(answers.values()), dict(job.shapes)
        )
        map_table += _masked(store, job, cols, selected)
        rows += map_table
        at = best_cell(map_table)
        alike += similarity(store, job, good, depths(selected))
        points += [
            r for spot in dict.fromkeys([*source_cell(map_table, job), at]) for r in scatter(store, job, spot)
        ]
        if discover:
            ranks.append(ranking(map_table, job, best_cell(map_table, every=True)))
    study.tables = {"map": Table(rows), "similarity": Table(alike), "scatter": Table(points)}
    if discover:
        study.tables["discovery"] = Table([r for ranked in ranks for r in ranked])
        study.tables["friedman"] = Table([friedman(ranks)])
    describe(study, runs, others, job, notes, how.destination)
    moves = {"shift": how.shift, "at": how.at, "prompt": how.prompt}
    if how.intervene:
        add_intervention(study, runs[0], moves, work)
    if how.steer:
        add_steering(study, runs[0], moves, work)
    return study.marked().in_units_of([*runs, *others])


def _with_source(
    job: MapJob, source: str | None, cols: Sequence[Any], selected: Sequence[str], work: Work
) -> MapJob:
    """The job with the source that was asked for, or with the one that a small map of the first site points
    to."""
    if source is not None:
        job = replace(job, source=_known(source, job))
    elif job.tokens:
        small = replace(job, shapes=job.shapes[:1], repeats=1, permutations=20)
        answers = run_maps({"source": small}, selected[:1], work)["source"]
        job = replace(job, source=with_source(small, cols, answers).source)
    return replace(job, kinds=KINDS if job.source else KINDS[:2])


def check_runs(runs: list[Store], controls: list[Store]) -> None:
    """Refuse runs of one name, and controls of other texts."""
    distinct([*runs, *controls])
    for control in controls:
        if not any(same_texts(control, store) for store in runs):
            raise TransectError(
                f"{control.path}: other texts than {runs[0].path}.",
                "Capture the control with the same texts and seed.",
            )


def same_texts(one: Store, other: Store) -> bool:
    """Whether two stores hold the same texts as the same tokens."""
    return one.manifest["texts"]["fingerprint"] == other.manifest["texts"]["fingerprint"] and one.same_tokens(
        other
    )


def label_names(store: Store, label: str | None) -> tuple[str, ...]:
    """The labels asked for; TransectError lists the ones there are."""
    parts = [label] if label in store.labels else (label or "").split(",")  # a name may hold a comma
    names = tuple(part.strip() for part in parts if part and part.strip())
    if not names:
        raise TransectError(
            f"{store.path}: no label named.",
            f"Give --label: {', '.join(store.labels) or 'there is none here'}.",
        )
    for name in names:
        store.label(name)
    return names


def chosen_shapes(
    store: Store,
    job: MapJob,
    shape: str,
    discover: bool,
    period: float | int | None,
    parameters: dict[str, dict[str, Any]],
) -> tuple[tuple[str, str], ...]:
    """(name, parameters as JSON), the asked one first. Its labels must be on its domain; others may say why
    they are not."""
    wanted = [find_shape(shape)]
    y = read_labels(store, job.label)
    for name in parameters:
        find_shape(name)
    if discover:
        width = 1 if y.ndim == 1 else y.shape[1]
        wanted += [kind for kind in SHAPES.values() if kind is not wanted[0] and kind.columns in (0, width)]
        wanted = [kind for kind in wanted if kind.name != "hierarchy" or width > 1 or kind is wanted[0]]
    turn = float(period if period is not None else PERIODS.get(job.label[0], 1.0))
    pairs = []
    for kind in wanted:
        keywords = shape_parameters(kind, turn)
        if "reach" in kind.parameters and y.dtype.kind in "fiu":
            keywords["reach"] = 2 * float(
                np.diff(np.unique(y)).max(initial=1e-12)
            )  # so that the chain hangs together
        if kind.name == "polytope":
            keywords |= {"dimension": max(2, job.n_components), "seed": job.seed}
        pairs.append((kind.name, json.dumps(keywords | parameters.get(kind.name, {}))))
    plan = plan_for(store, replace(job, shapes=tuple(pairs), permutations=0))
    if isinstance(first := plan.shapes[pairs[0][0]], TransectError):
        raise first
    return tuple(pairs)


def _of(job: MapJob, control: Store) -> MapJob:
    return replace(job, store=str(control.path), fingerprint=control.content, kinds=("free",))


def _known(source: str, job: MapJob) -> str:
    named = source if source in job.tokens else f"landmark:{source}"
    if named not in job.tokens:
        raise TransectError(
            f"source {source!r} is no column of this map.", f"Columns: {', '.join(job.tokens)}."
        )
    return named


def _masked(store: Store, job: MapJob, cols: Sequence[Any], selected: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of columns that were asked for and cannot be compared, with the reason."""
    base = {
        "measure": "smds",
        "run": store.name,
        "kind": "free",
        "shape": job.shapes[0][0],
        "n_texts": len(store),
    }
    return [
        base | {"site": site, "token": c.token, "piece": c.piece, "column": k, "status": c.status}
        for k, c in enumerate(cols)
        for site in selected
        if c.status != "ok"
    ]


def depths(selected: Sequence[str]) -> list[str]:
    """Sites at 25, 50 and 75 % of the depth."""
    return list(dict.fromkeys(selected[round(f * (len(selected) - 1))] for f in (0.25, 0.5, 0.75)))


def best_cell(rows: Sequence[dict[str, Any]], *, every: bool = False) -> tuple[str, str]:
    """(site, token) where training added most (corrected score where there is no control); `every`: in the
    mean of shapes, so that the choice of cell favours no shape."""
    done = [r for r in rows if r["kind"] == "free" and r["status"] == "ok"]
    if not done:
        raise TransectError("no cell of this map could be computed.", f"First reason: {rows[0]['status']}.")
    if not every:
        top = max(
            (r for r in done if r["shape"] == done[0]["shape"]), key=lambda r: r.get("added", r["corrected"])
        )
        return top["site"], top["token"]
    cells: dict[tuple[str, str], list[float]] = {}
    for r in done:
        cells.setdefault((r["site"], r["token"]), []).append(r["corrected"])
    return max(cells, key=lambda c: float(np.mean(cells[c])))


def source_cell(rows: Sequence[dict[str, Any]], job: MapJob) -> list[tuple[str, str]]:
    """The site at which the source token's map is best."""
    mine = [r for r in rows if r["token"] == job.source and r["kind"] == "free" and r["status"] == "ok"]
    mine = [r for r in mine if r["shape"] == job.shapes[0][0]]
    return (
        [(top["site"], top["token"])]
        if (top := max(mine, key=lambda r: r["corrected"], default=None))
        else []
    )
