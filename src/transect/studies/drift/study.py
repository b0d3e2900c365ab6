"""Drift through depth: how far representations move from layer to layer, beyond what two draws of one layer
differ by.

Clouds of different texts carry every claim: adjacent layers, all pairs, change layers. The same tokens at
both layers are another view, with displacement beside transport. Spectra and a verdict stand by themselves;
control runs beside it all.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Unpack

from transect.errors import TransectError
from transect.inference.asks import Ask, answer
from transect.inference.design import Design, RunOptions
from transect.inference.ruling import MODERATE, ruling_tokens
from transect.inference.sweep import ask, sites_of_runs
from transect.results.study import Study
from transect.results.table import Table, merge
from transect.store.store import Store
from transect.studies.drift.changes import changes
from transect.studies.drift.names import LAYERS, OUTLIERS, PRESETS, SCALES, SIMPLE, TESTED, TRANSPORT
from transect.studies.drift.published import published
from transect.studies.drift.tables import companions, diagnostics, ratios, verdict
from transect.studies.drift.words import describe
from transect.studies.runs import Run, Runs, captured_controls, distinct, open_runs
from transect.work.options import MOST_DRAWS, Option, Work, group, only

#: The table that --json prints.
HEADLINE = "adjacent"


class DriftOptions(RunOptions, total=False):
    """How drift is measured beyond its design."""

    pca: Annotated[int | None, Option(None, "Project each pair on one basis fitted on both clouds.", least=1)]
    resamples: Annotated[
        int, Option(20, "Half-samples of texts behind the support of a change layer.", 0, MOST_DRAWS)
    ]
    as_published: Annotated[bool, Option(False, "Also what the replaced program's formulas give.")]
    threshold: Annotated[float, Option(2.0, "Threshold of those formulas' transition rule.", least=0)]
    preset: Annotated[
        str | None,
        Option(
            None,
            "Production settings of that program: its model, 2000 GSM8K problems, PCA 50.",
            choices=("otexplorer",),
        ),
    ]


def drift(
    stores: Runs = (),
    *,
    controls: Sequence[Run] = (),
    random_weights: bool = False,
    shuffled_tokens: bool = False,
    measure: str = "sinkhorn",
    **options: Unpack[DriftOptions],
) -> Study:
    """How far representations move from layer to layer, beyond what two halves of the texts differ by at one
    layer.

    Args:
        stores: Stores, or models that are captured on `texts`.
        controls: Store of a control run, as often as there are some: random weights, or shuffled tokens.
        random_weights: Capture a control: the same architecture with random weights.
        shuffled_tokens: Capture a control: the same words in random order.
        measure: Measure behind the matrix and the change layers.

    Returns: a study with the tables adjacent, pairs, layers, changes, verdict, companions, diagnostics,
    tests, and across when there are several runs of the same tokens.
    """
    only(options, DriftOptions)
    design, work, how = Design.of(options), Work.of(options), group(options, DriftOptions)
    if how.preset is not None:
        stores, texts, pca, sizes = _preset(how.preset, stores, how.texts, how.pca)
        opened, how = _captured(stores, texts, work, design.seed, sizes), how.replace(pca=pca)
    else:
        given: dict[str, Any] = {"seed": design.seed, "sites": design.sites, "progress": work.progress}
        opened = open_runs(stores, how.texts, work.out, **given)
    others = open_runs(list(controls)) if controls else []
    asked = {"random_weights": random_weights, "shuffled_tokens": shuffled_tokens}
    measured = sites_of_runs(opened[:1], design.sites)[0]  # a control has the steps of the run, no others
    others += captured_controls(opened[0], work, design.seed, **asked, sites=measured)
    every = [*opened, *others]
    distinct(every)
    study = Study("drift", "How far do representations move from layer to layer, and where?", {})
    ruling = ruling_tokens(every, design)
    asks = _asks(opened, others, design, measure, how.pca, how.resamples, ruling)
    tables = {name: merge(several) for name, several in answer(asks, work, "drift").items()}
    study.tables = tables
    tables["changes"] = changes(tables["adjacent"], tables["pairs"], measure, [c.name for c in others])
    tables["verdict"] = verdict(tables["layers"])
    tables["companions"] = companions(tables["adjacent"], measure)
    tables["ratios"] = ratios(tables["layers"])
    tables["diagnostics"] = diagnostics(every, design)
    if how.as_published:
        rows = [published(s, tables["adjacent"], design, how.threshold) for s in opened]
        tables["as_published"] = merge(rows)
    if ruling:
        tables["ruling"] = Table(ruling)
    describe(study, opened, others, measure, design)
    if how.preset:
        study.warnings.append(
            f"Preset {how.preset}, corrected: one PCA basis per pair instead of one per layer, the "
            "debiased divergence with "
            "epsilon relative to the median cost, split-half nulls, position 0 dropped, spectral instead "
            "of norm entropy, "
            "jumps and blocks instead of a rolling z. --as-published shows the difference."
        )
    return study.marked().in_units_of([*opened, *others])


def _asks(
    stores: Sequence[Store],
    others: Sequence[Store],
    design: Design,
    measure: str,
    pca: int | None,
    resamples: int,
    ruling: Sequence[dict[str, Any]],
) -> dict[str, list[Ask]]:
    """Everything the study measures. One design a table, but for `adjacent`, which has both with a column
    that says so."""
    hows, every = ("raw", "unit"), [*stores, *others]
    options: dict[str, Any] = {**design.items(), "beside": every}
    apart: dict[str, Any] = {**options, "design": "disjoint", "pca": pca}
    same: dict[str, Any] = {**options, "design": "paired", "pca": None}
    more = [m for m in TRANSPORT if m != measure]
    plans = list(dict.fromkeys([measure, "wasserstein"]))
    once: dict[str, Any] = {**options, "permutations": 0}
    asks: dict[str, list[Ask]] = {
        "adjacent": [ask(measure, s, halves=resamples, normalise=h, **apart) for s in every for h in hows]
        + [ask(more, s, normalise=h, **apart) for s in stores for h in hows]
        + [ask(plans, s, normalise=h, **{**same, "pca": pca}) for s in stores for h in hows]
        + [ask(SIMPLE, s, normalise=h, permutations=19, **same) for s in stores for h in hows]
        + [a for s in others for a in _beside(s, more, apart, {**same, "pca": pca})],
        "pairs": [
            ask(measure, s, pairs="all", normalise=h, halves=resamples if h == "unit" else 0, **apart)
            for s in stores
            for h in hows
        ],
        "layers": [ask(LAYERS, s, normalise=h, **options) for s in every for h in hows],
        "scales": [ask("gride", s, scale=k, **once) for s in every for k in SCALES],
        "centred": [ask("anisotropy", s, centred=True, **once) for s in every],
        "outliers": [ask(OUTLIERS, s, **{**once, "massive": 0}) for s in every],
        "tests": [ask(TESTED, s, normalise="unit", swaps=99, **{**same, "groups": 4}) for s in stores],
    }
    if design.massive:
        asks["massive_kept"] = [ask(measure, s, **{**apart, "massive": 0}) for s in stores]
    if ruling:
        affected = [s for s in every if s.name in {r["run"] for r in ruling}]
        asks["ruled"] = [ask(measure, s, **{**apart, "massive": MODERATE}) for s in affected]
    kin = [s for s in stores[1:] if s.same_tokens(stores[0]) and set(s.sites) & set(stores[0].sites)]
    if kin:
        asks["across"] = [
            ask([measure, "cosine", "euclidean"], [stores[0], s], pairs="same", **options) for s in kin
        ]
    return asks


def _beside(control: Store, transport: list[str], apart: dict[str, Any], same: dict[str, Any]) -> list[Ask]:
    """What a control is drawn with in figures of other measures than the study's own, and no more."""
    smaller = {**same, "permutations": 19}
    return [
        ask(transport, control, normalise="unit", **apart),
        ask([*(m for m in SIMPLE if m != "plan"), "wasserstein"], control, normalise="unit", **smaller),
        ask("plan", control, normalise="raw", **smaller),
    ]


def _preset(
    preset: str, runs: Runs, texts: Any, pca: int | None
) -> tuple[Runs, Any, int | None, dict[str, Any]]:
    """(runs, texts, pca, sizes of the capture) of a preset where nothing else was asked."""
    if preset not in PRESETS:
        raise TransectError(f"no preset {preset!r}.", f"There are: {', '.join(PRESETS)}.")
    values = PRESETS[preset]
    sizes = {k: values[k] for k in ("max_length", "batch_tokens")}
    named = runs if not isinstance(runs, list | tuple) or runs else values["model"]
    return named, texts or values["texts"], pca or values["pca"], sizes


def _captured(runs: Runs, texts: Any, work: Work, seed: int, sizes: dict[str, Any]) -> list[Store]:
    from transect.models.models import open_model
    from transect.store.capture import capture
    from transect.studies.runs import bar_of, listed
    from transect.texts.texts import open_texts

    if work.out is None:
        raise TransectError("a preset captures its model into the study's folder.", "Give out=DIR.")
    one = listed(runs)[0]
    if isinstance(one, Store) or (isinstance(one, str | Path) and (Path(one) / "manifest.json").is_file()):
        return open_runs(runs)
    bar = bar_of(work.progress, "capture")
    where = Path(work.out) / "stores" / "model"
    return [capture(open_model(one), open_texts(texts, seed=seed), where, progress=bar, **sizes)]
