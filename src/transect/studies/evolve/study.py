"""Evolution: token geometry along the checkpoints of one training run, and how far each state is from the
first and last.

Everything the token study measures, with the step as abscissa, beside CKA and Sinkhorn divergence of every
layer to the same layer at the first and the last checkpoint. The first checkpoint, at step 0, is the control:
initial weights.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Unpack

import numpy as np

from transect.errors import TransectError
from transect.files import local
from transect.inference.asks import answer
from transect.inference.design import Design
from transect.inference.draws import common_n
from transect.inference.sweep import ask
from transect.models import sites
from transect.results.study import Figure, Study
from transect.results.table import Table
from transect.results.words import flagged, interval
from transect.store.store import Store
from transect.studies.evolve.steps import chosen_steps
from transect.studies.runs import open_runs
from transect.studies.tokens.names import PANELS, TokenOptions
from transect.studies.tokens.pictures import MOST, heatmaps
from transect.studies.tokens.runs import arms_of
from transect.studies.tokens.tables import curves, measured, similarities
from transect.studies.tokens.words import METHODS, origin_of
from transect.texts.texts import Texts
from transect.work.options import Work, checked, group, only, within

#: The table that --json prints.
HEADLINE = "evolution"

CHANGES = {
    "cka to first": "CKA to the first checkpoint",
    "cka to last": "CKA to the last checkpoint",
    "sinkhorn to first": "Sinkhorn divergence\nto the first checkpoint",
    "sinkhorn to last": "Sinkhorn divergence\nto the last checkpoint",
}


def evolve(
    run: str | Path | Sequence[Store],
    texts: str | Path | Texts | None = None,
    *,
    steps: str | None = None,
    prompts: Annotated[int, within(1)] = 2,
    **options: Unpack[TokenOptions],
) -> Study:
    """Token geometry along the checkpoints of a run: before, after, and between.

    With CKA and Sinkhorn divergence of every layer to the first and the last checkpoint.

    Args:
        run: Folder that transect train or a callback wrote, with checkpoint-NNNNN in it; or stores in the
        order of their steps.
        texts: Texts to look at; by default the held-out excerpts of the run's own corpus.
        steps: Checkpoints to look at: steps like 0,64,200, log, or how many; by default all.
        prompts: Heatmaps of so many texts, at the first and the last checkpoint.

    Returns: a study with the tables of the token study, evolution (its curves with steps) and change. Stores
    that were captured beside the run, in RUN/stores, are taken where no texts are given.
    """
    only(options, TokenOptions)
    prompts = checked("prompts", prompts, within(1), int)
    design, work, how = Design.of(options), Work.of(options), group(options, TokenOptions)
    stores = _stores(run, texts, work, design.seed, steps)
    arms = arms_of(stores, [])
    at = {a.name: k if a.step is None else a.step for k, a in enumerate(arms)}
    wanted = chosen_steps(None if isinstance(run, str | Path) else steps, list(at.values()))
    stores = sorted((s for s in stores if at[s.name] in wanted), key=lambda s: at[s.name])
    arms = [a for a in arms if at[a.name] in wanted]
    if len({sites.stack(s) for s in sites.select(stores[0].sites, [design.sites])}) > 1:
        raise TransectError(
            f"{stores[0].name} has two stacks.", "Give --sites encoder.resid or decoder.resid."
        )
    if len(stores) < 2:
        raise TransectError(f"{run}: one checkpoint has no evolution.", "Train with --checkpoints log.")
    tables = measured(stores, design, work, how)
    long = curves(tables, arms)
    of = {a.series: at[a.name] for a in arms}
    tables["evolution"] = Table([row | {"step": of[row["series"]]} for row in long], long.provenance)
    tables["change"] = _change(stores, at, design, work)
    tables["similarity"] = similarities([stores[0], stores[-1]], design.sites, prompts, design.position0)
    study = Study("evolve", "How does token geometry form during training?", tables)
    _describe(study, stores, at, design.items() | {"window": how.window})
    return study.marked().in_units_of(stores)


def _stores(run: Any, texts: Any, work: Work, seed: int, steps: str | None) -> list[Store]:
    if not isinstance(run, str | Path):
        return open_runs(list(run))
    folder = local(run)
    folders = sorted(folder.glob("checkpoint-*"))
    if not folders and texts is None and (kept := sorted(folder.glob("stores/checkpoint-*"))):
        return open_runs(list(kept))  # a callback left them
    if not folders:
        raise TransectError(f"{folder} holds no checkpoints.", "Give a folder that transect train wrote.")
    number = {f: int(f.name.rpartition("-")[2]) for f in folders if f.name.rpartition("-")[2].isdecimal()}
    wanted = chosen_steps(steps, list(number.values()))
    folders = [f for f in folders if number.get(f) in wanted]
    beside = [folder / "stores" / f.name for f in folders]
    if texts is None and all((s / "manifest.json").is_file() for s in beside):
        return open_runs(list(beside))
    return open_runs(list(folders), texts or _prompts(folder), work.out, seed=seed, progress=work.progress)


def _prompts(folder: Path) -> Path:
    """The excerpts of held-out documents that the run's data came with."""
    for place in (folder / "data", folder.parent / "data"):
        if (place / "prompts.jsonl").is_file():
            return place / "prompts.jsonl"
    raise TransectError(f"{folder} has no data folder with held-out excerpts beside it.", "Give --texts.")


def _change(stores: Sequence[Store], steps: dict[str, int], design: Design, work: Work) -> Table:
    """Each layer against the same layer of the first and of the last checkpoint, where the tokens are the
    same."""
    n = design.n or common_n(stores, design, 10 * design.groups)
    options: dict[str, Any] = {**design.replace(n=n).items(), "pairs": "same", "design": "paired"}
    ends = {"first": stores[0], "last": stores[-1]}
    asks = {
        word: [ask(m, [end, *(s for s in stores if s is not end)], **options) for m in ("cka", "sinkhorn")]
        for word, end in ends.items()
    }
    rows = [
        row | {"curve": f"{row['measure']} to {word}", "step": steps[row["run2"]]}
        for word, tables in answer(asks, work, "change").items()
        for table in tables
        for row in table
    ]
    return Table([r | {"layer": sites.layer(r["site"])} for r in rows])


def _describe(study: Study, stores: Sequence[Store], steps: dict[str, int], options: dict[str, Any]) -> None:
    origin = (
        f"{len(stores)} checkpoints, steps {', '.join(str(steps[s.name]) for s in stores)}. "
        + origin_of(study, stores, options)
    )
    study.trace(stores, options)
    study.methods = [
        *METHODS,
        "Change: unbiased linear CKA (null: whole texts permuted) and Sinkhorn divergence of the"
        " same tokens at the same layer of two checkpoints. The first checkpoint has the initial weights.",
    ]
    study.warnings = ["One run: what another seed would do is not known from it."]
    study.warnings += flagged(study.tables)
    study.findings = _findings(study, steps)
    most = max(study.tables["evolution"].values("layer")) + 1
    lines = "A line per layer" if most <= MOST else f"Lines: {MOST} of {most} layers, evenly over depth"
    caption = f"{lines}; bands: 95 % by texts; dotted: the null of each measure. {origin}"
    there = study.tables["evolution"].values("curve")
    for name, title, wanted in PANELS:
        shown = [c for c in wanted if c in there]
        if shown:
            figure = Figure(
                name, "token_evolution", "evolution", f"{title}, along training", caption, {"curves": shown}
            )
            study.figures.append(figure)
    change = {"curves": list(CHANGES), "labels": CHANGES}
    study.figures.insert(
        0,
        Figure(
            "change",
            "token_evolution",
            "change",
            "Distance to the first and the last checkpoint",
            caption,
            change,
        ),
    )
    study.figures += _before_after(study, stores, steps, there, origin) + heatmaps(study, origin)


def _before_after(
    study: Study, stores: Sequence[Store], steps: dict[str, int], there: list[str], origin: str
) -> list[Figure]:
    """Depth curves at the first checkpoint and at the last."""
    ends = {stores[0].name: "before", stores[-1].name: "after"}
    of = {steps[name]: word for name, word in ends.items()}
    rows = [
        r | {"series": f"{of[r['step']]} (step {r['step']})"}
        for r in study.tables["evolution"]
        if r["step"] in of
    ]
    study.tables["ends"] = Table(rows, study.provenance)
    shown = [
        c
        for c in (
            "cosine in text",
            "rank residual",
            "norm",
            "relative update",
            "effective rank unit",
            "relative gradient",
        )
        if c in there
    ]
    options = {"curves": shown, "series": study.tables["ends"].values("series"), "controls": []}
    caption = f"The first checkpoint has the initial weights; dotted: nulls; bands: 95 % by texts. {origin}"
    return [Figure("ends", "token_curves", "ends", "Before and after training", caption, options)]


def shown(row: dict[str, Any]) -> str:
    """A value with its interval and its null, where it has them."""
    null = "" if row["null"] is None else f" ({row['control']}: {row['null']:.3g})"
    return f"{interval(row, digits=3)}{null}"


def _findings(study: Study, steps: dict[str, int]) -> list[str]:
    sentences, table = [], study.tables["evolution"]
    first, last = min(steps.values()), max(steps.values())
    deepest = max(study.tables["change"].values("layer"))
    for curve in ("cosine in text", "rank residual", "effective rank unit"):
        at = {r["step"]: r for r in table.where(curve=curve, layer=deepest)}
        if first in at and last in at:
            words = " ".join(f"{shown(at[s])} at step {s}{',' * (s == first)}" for s in (first, last))
            sentences.append(f"Layer {deepest}, {curve}: {words}.")
    for layer in (0, deepest):
        at = {r["step"]: r for r in study.tables["change"].where(curve="cka to last", layer=layer)}
        reached = _reached({s: r["value"] for s, r in at.items()})
        words = "stays below 0.9 before the last"
        if reached is not None:
            words = f"reaches 0.9 at step {reached}, {shown(at[reached])}"
        kept = [r.get("replicates") for r in at.values()]
        if all(kept):
            picks = [_reached(dict(zip(at, drop, strict=True))) for drop in zip(*kept, strict=True)]
            words += f"; {np.mean([p == reached for p in picks]):.0%} of resamples say the same"
        sentences.append(
            f"Layer {layer}: CKA to the last checkpoint {words} (at step {min(at)}: {shown(at[min(at)])})."
        )
    return sentences


def _reached(values: dict[int, float | None], level: float = 0.9) -> int | None:
    """The first step whose value is at least `level`; None where there is none."""
    return next((s for s in sorted(values) if (v := values[s]) is not None and v >= level), None)
