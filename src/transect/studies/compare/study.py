"""Comparison: what training changed, layer by layer, from one base run to any number of others on the same
tokens.

Similarity and transport of every layer with the same layer of the base, beside numeric noise, a second seed
and random weights; which layers moved most, LoRA against full where their losses match, layer × layer
matrices, drift and score.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Unpack

from transect.errors import TransectError
from transect.inference.asks import Ask, answer
from transect.inference.design import Design, RunOptions
from transect.inference.draws import common_n
from transect.inference.rows import aligned_of
from transect.inference.ruling import MODERATE, ruling_tokens
from transect.inference.sweep import ask
from transect.measures.contract import Measure
from transect.measures.registry import find
from transect.results.study import Study
from transect.results.table import Table, merge
from transect.store.align import ALIGNMENTS, LEAST, WHAT
from transect.store.store import Store
from transect.studies.compare.arms import Arm, arm_of, check_runs, doubts, ends, matches, rows_of, siblings
from transect.studies.compare.calibrated import DRAWS, aligned_runs, calibrated_row, sentence
from transect.studies.compare.contrasts import contrasts
from transect.studies.compare.tables import curves, difference, entering, means, ranking, relation, with_drift
from transect.studies.compare.words import describe
from transect.studies.runs import Run, Runs, open_runs
from transect.work.options import Option, Work, only

PAIRED = ("cka", "procrustes", "rsa", "knn_overlap", "cosine", "euclidean")
CLOUDS = ("sinkhorn", "bures")
#: The table that --json prints.
HEADLINE = "layers"
#: Points of a cloud where nobody says, and of a cell of the matrices.
POINTS, MATRIX_POINTS = 500, 300


class CompareOptions(RunOptions, total=False):
    """How runs are compared."""

    n: Annotated[
        int | None,
        Option(None, "Points per cloud; by default 500 (300 in matrices), or what the texts hold.", least=2),
    ]
    align: Annotated[
        str | None,
        Option(
            None,
            "Compare runs of other tokenizers at tokens that end alike (prefix), ends of words (word), means "
            "of texts (text) or their last tokens (last).",
            choices=ALIGNMENTS,
        ),
    ]
    least_aligned: Annotated[
        float, Option(LEAST, "Share of every run's points that must be aligned.", above=0, most=1)
    ]


def compare(
    stores: Runs,
    *,
    noise: Run | None = None,
    seed_controls: Sequence[Run] = (),
    random: Run | None = None,
    weights: Table | str | Path | None = None,
    measures: str = ",".join((*PAIRED, *CLOUDS)),
    matrix: str = "cka",
    matrices: bool = True,
    **options: Unpack[CompareOptions],
) -> Study:
    """What training changed: each run against the first one, the base, on the same tokens, layer by layer.

    Args:
        stores: Stores, the base first; or models that are captured on `texts`.
        noise: Store of the base captured again with another batch plan or dtype.
        seed_controls: Stores of the same recipes with other seeds.
        random: Store of the architecture with random weights.
        weights: Folder that `transect adapters` wrote, or its table of layers.
        measures: Measures of two clouds, separated by commas; the first is drawn as the heatmap.
        matrix: Measure of the layer × layer matrices.
        matrices: Compute layer × layer matrices.

    Returns: a study with the tables arms, layers, between, contrasts, ranking, curves, summary, matched,
    matrices, score, and relation where weights are given. tokens: classes of tokens, separated by commas.
    Runs whose token ids differ are refused unless `align` says where they are compared; the table calibrated
    then holds the score of the best pair of layers.
    """
    only(options, CompareOptions)
    design, work = Design.of(options), Work.of(options)
    given: dict[str, Any] = {"seed": design.seed, "sites": design.sites, "progress": work.progress}
    opened = open_runs(stores, options.get("texts"), work.out, **given)
    if len(opened) < 2:
        raise TransectError("compare needs a base run and at least one other.", "Give two stores or more.")
    base, runs = opened[0], opened[1:]
    named = {
        "noise": [noise] if noise else [],
        "seed": list(seed_controls),
        "random": [random] if random else [],
    }
    extra = {role: open_runs(specs) if specs else [] for role, specs in named.items()}
    roles = [
        ("base", base),
        *(("run", s) for s in runs),
        *((r, s) for r in ("seed", "noise", "random") for s in extra[r]),
    ]
    if how := options.get("align"):
        least = options.get("least_aligned", LEAST)
        roles = aligned_runs(roles, how, work.out, design.sites, least)
        base, runs = roles[0][1], [s for role, s in roles if role == "run"]
        design = design.replace(tokens="all")
    every = [s for _, s in roles]
    check_runs(base, every[1:])
    classes = [t.strip() for t in str(design.tokens).split(",")]
    design = design.replace(
        tokens=classes[0], n=design.n or common_n(every, design.replace(tokens=classes[0]), POINTS)
    )
    metrics, apart = _of_widths(_measures(measures), every)
    arms = [arm_of(s, role) for role, s in roles]
    asks = _asks(every, arms, classes, metrics, design)
    ruling = ruling_tokens(every, design)
    if ruling:
        asks["ruled"] = _without(every, metrics, design)
    if matrices:
        asks |= _matrix_asks(every, arms, matrix, design, DRAWS if how else 3)
    answers = answer(asks, work, "compare")
    by_name = {a.name: a for a in arms}
    rows, between = (with_drift([r for t in answers[k] for r in t], by_name) for k in ("layers", "between"))
    study = Study("compare", "What did training change, at which layers, beyond noise and another seed?", {})
    study.tables = _tables(arms, rows, between)
    if ruling:
        study.tables |= {"ruling": Table(ruling), "ruled": merge(answers["ruled"])}
    if matrices:
        study.tables["matrices"] = _matrices(answers)
    if matrices and how:
        study.tables["calibrated"] = Table([calibrated_row(t) for t in answers["cross"]])
    if weights is not None:
        study.tables |= _weights(weights, rows, arms)
    study.warnings = doubts(arms, matches(arms), every)
    settings = design.items() | {"tokens": classes, "measures": [m.name for m in metrics]}
    study.warnings += apart
    describe(study, every, arms, matrix, settings)
    if how:
        _told_aligned(study, every)
    return study.marked().in_units_of(every)


def _measures(measures: str) -> list[Measure]:
    metrics = [find(m.strip()) for m in measures.split(",")]
    if odd := [m.name for m in metrics if m.data != ("X", "Y") or m.itself is None]:
        raise TransectError(f"{odd[0]} compares no two clouds.", f"Take of {', '.join((*PAIRED, *CLOUDS))}.")
    return metrics


def _of_widths(measures: list[Measure], every: Sequence[Store]) -> tuple[list[Measure], list[str]]:
    """The measures that fit these runs, and what is to be said where widths or depths differ."""
    widths = {tuple(s.width(site) for site in s.sites) for s in every}
    if len(widths) == 1:
        return measures, []
    note = (
        "Models of other depths have no layers that correspond: read the matrices; the table of layers pairs "
        "their numbers."
    )
    said = [note] if len({len(w) for w in widths}) > 1 else []
    if len({w for several in widths for w in several}) == 1:
        return measures, said
    kept = [m for m in measures if not m.one_space]
    if not kept:
        raise TransectError(
            "these measures need points of one width, and the runs have several.",
            f"Take of {', '.join(PAIRED)}.",
        )
    left = ", ".join(m.name for m in measures if m.one_space)
    return kept, [*said, *([f"Left out, as they need points of one width: {left}."] if left else [])]


def _told_aligned(study: Study, every: Sequence[Store]) -> None:
    """The share that was aligned in every row, and the calibrated score among the findings."""
    alignments = aligned_of(every)
    for name, table in study.tables.items():
        study.tables[name] = Table([{**r, **alignments} for r in table], table.provenance)
    shares = "; ".join(f"{s.name} {s.manifest['aligned']['share']:.0%}" for s in every)
    what = WHAT[alignments["aligned"]]
    study.methods.insert(
        0, f"Runs were aligned by {alignments['aligned']}. Share of each run's own whose {what}: {shares}."
    )
    if len({len(s.sites) for s in every}) > 1:  # no layer of one is the same layer of the other
        study.findings, study.figures = [], [f for f in study.figures if f.name == "matrices"]
    study.findings = [sentence(r) for r in study.tables.get("calibrated", ())] + study.findings


def _asks(
    every: Sequence[Store],
    arms: Sequence[Arm],
    classes: Sequence[str],
    measures: Sequence[Measure],
    design: Design,
) -> dict[str, list[Ask]]:
    """Every run against the base, and runs against their second seed: raw points, and unit-norm ones beside
    them."""
    of = {s.name: s for s in every}
    asks: dict[str, list[Ask]] = {"layers": [], "between": []}
    for tokens in classes:
        options: dict[str, Any] = {**design.items(), "tokens": tokens, "beside": every}
        options |= {"n": None} if tokens != classes[0] else {}
        for store in every[1:]:
            asks["layers"] += _same(every[0], store, measures, options)
        for name, other in siblings(arms).items():
            asks["between"] += _same(of[name], of[other], measures, options)
    return asks


def _same(left: Store, right: Store, measures: Sequence[Measure], options: Mapping[str, Any]) -> list[Ask]:
    """Each layer with the same layer, the same tokens. Measures whose null is dear get a few draws of it, and
    no p."""
    options = {**options, "pairs": "same", "design": "paired"}
    beside = [m for m in measures if m.name in ("cka", "cosine", "sinkhorn")]
    asks = []
    for several, how in ((measures, "raw"), (beside, "unit")):
        quick = [m for m in several if m.cheap_null]
        dear = [m for m in several if not m.cheap_null]
        asks += [ask(quick, [left, right], normalise=how, **options)] if quick else []
        asks += [ask(dear, [left, right], normalise=how, permutations=3, **options)] if dear else []
    return asks


def _without(every: Sequence[Store], measures: Sequence[Measure], design: Design) -> list[Ask]:
    """Every run against the base once more, without the tokens that rule: raw points, no null."""
    options: dict[str, Any] = {**design.items(), "pairs": "same", "design": "paired", "massive": MODERATE}
    options["beside"] = every
    quick = [m for m in measures if m.cheap_null] or measures[:1]
    return [ask(quick, [every[0], s], permutations=0, **options) for s in every[1:]]


def _matrix_asks(
    every: Sequence[Store], arms: Sequence[Arm], matrix: str, design: Design, draws: int
) -> dict[str, list[Ask]]:
    """Layer × layer: each model with itself, and the base with each other."""
    base, final = every[0], {a.name for a in ends(arms)}
    small = design.replace(n=min(design.n, MATRIX_POINTS), groups=min(5, design.groups)).items()
    options: dict[str, Any] = {**small, "permutations": 3, "beside": every}
    some = [s for s in every[1:] if s.name in final]
    return {
        "itself": [ask(matrix, s, pairs="all", **options) for s in [base, *some]],
        "cross": [ask(matrix, [base, s], pairs="cross", **{**options, "permutations": draws}) for s in some],
    }


def _matrices(answers: dict[str, Any]) -> Table:
    """Panels: each model with itself, each with the base, and the latter less the base with itself."""
    within = answers["itself"]
    rows = [r | {"panel": f"{r['run']} × itself", "kind": "itself"} for table in within for r in table]
    for cross in answers["cross"]:
        run = cross.values("run2")[0]
        rows += [r | {"panel": f"{run} × base", "kind": "cross"} for r in cross]
        if {*cross.values("site")} == {*cross.values("site2")}:
            rows += difference(cross, within[0], run)
    return Table(rows, within[0].provenance)


def _tables(
    arms: Sequence[Arm], rows: list[dict[str, Any]], between: list[dict[str, Any]]
) -> dict[str, Table]:
    """Everything that follows from the cells."""
    bare = lambda several: [{k: v for k, v in r.items() if k != "again"} for r in several]  # noqa: E731
    tables = {"arms": Table(rows_of(arms)), "layers": Table(bare(rows))}
    if between:
        tables["between"] = Table(bare(between))
    pairs = matches(arms)
    tables["contrasts"] = Table(contrasts(arms, rows, between, pairs))
    trained = [r for r in rows if r["role"] == "run"]
    tables["ranking"] = Table(ranking(trained))
    tables["entering"] = Table(ranking(entering(trained)))
    of = {a.name: a for a in arms}
    second = [r | {"series": of[r["run"]].series, "role": "second seed"} for r in between]
    tables["curves"] = Table(curves(rows) + curves(second))
    tables["summary"] = Table(means(rows, by="series"))
    known = ("seed", "step", "loss", "headline", "score", "baseline", "learned", "final")
    tables["score"] = Table([r | {k: getattr(of[r["run2"]], k) for k in known} for r in means(rows)])
    if pairs:
        tables["matched"] = Table(pairs)
    return tables


def _weights(
    weights: Table | str | Path, rows: list[dict[str, Any]], arms: Sequence[Arm]
) -> dict[str, Table]:
    table = weights if isinstance(weights, Table) else Table.load(Path(weights) / "layers.parquet")
    drifted = [r for r in rows if r["role"] == "run"]
    return {"weights": table, "relation": Table(relation(table, drifted, {a.name: a for a in arms}))}
