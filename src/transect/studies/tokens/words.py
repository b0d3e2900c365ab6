"""The token study in words and figures: findings with their numbers, warnings, methods, captions."""

from collections.abc import Sequence
from typing import Any

from transect import __version__
from transect.models import sites
from transect.results.study import Figure, Study, describe_run
from transect.results.table import Table
from transect.results.words import flagged
from transect.store.store import Store
from transect.studies.tokens.names import CURVES, HEADLINES, PANELS
from transect.studies.tokens.runs import Arm

#: Placements whose states have been through a norm when they leave a block.
NORMED = ("post", "deepnorm", "mix")


def describe(
    study: Study, stores: Sequence[Store], arms: Sequence[Arm], given: dict[str, Any], notes: list[str]
) -> None:
    """Fill in findings, warnings, methods, provenance and figures."""
    origin = origin_of(study, stores, given)
    study.provenance = {"transect": __version__, "runs": [s.manifest | {"path": str(s.path)} for s in stores]}
    study.provenance |= {
        k: given[k] for k in ("sites", "tokens", "position0", "massive", "window", "groups", "seed")
    }
    study.findings = _findings(study, arms)
    study.warnings = [*notes, *_warnings(study, stores, arms)]
    study.methods = METHODS
    study.figures = _figures(study, stores, arms, origin)


def origin_of(study: Study, stores: Sequence[Store], given: dict[str, Any]) -> str:
    """The tail of every caption: runs, texts, counts, what was left out."""
    first, within = stores[0], study.tables["within"].where(status="ok")
    shown = (
        describe_run(first)
        if len(stores) == 1
        else f"{len(stores)} runs on {first.manifest['texts']['spec']}"
    )
    n = int(study.tables["layers"].column("n")[0])
    window = int(within.column("n")[0]) if len(within) else 0
    texts = int(within.column("n_texts")[0]) if len(within) else 0
    where = "kept" if given["position0"] else "dropped"
    told = f"{shown}; pooled: {n} tokens; within texts: {texts} texts × {window} tokens. Position 0 {where}"
    if given["massive"]:
        told += f", tokens above {given['massive']:g} median norms dropped from pooled measures"
    return f"{told}; the final norm is no layer."


METHODS = [
    "Pooled measures see tokens of all texts as one cloud; their null shuffles every column by itself (of "
    "two sites: the"
    " pairing). Measures within a text see the first tokens of each text, as many of every text, and "
    "average over texts;"
    " their null takes the token at each position from other texts. Intervals: 95 % by leaving out "
    "groups "
    "of texts.",
    "Rank collapse: the residual ‖X − 1x̄ᵀ‖/‖X‖ of the states of a text (Dong et al. 2021), Frobenius "
    "norm, going to 0, with"
    " the mean cosine going to 1 (Noci et al. 2022). Representation collapse: the update beside the state "
    "going to 0 with"
    " depth (Xie et al. 2023). Clusters: components of the graph that joins tokens with a cosine of at "
    "least 0.9"
    " (Geshkovski et al. 2023). These are statements about curves, not about whether a model is good.",
    "Gradient of a token's own loss −log p(next token) by its own state: in a causal model it does not "
    "depend on what"
    " follows, hence not on the length of a text. Null: the loss of a next token taken from another "
    "place. × state norm: the"
    " effect of a relative change of the state, comparable between layers of different norm.",
    "Turning angle: between the update into a layer and the one out of it (null: updates of other tokens; "
    "90° for steps at"
    " random in many dimensions). Path length / distance covered: from the first layer on (null: steps of "
    "the same lengths"
    " at right angles). Random weights: the same architecture with initial weights, the same texts.",
    "Differences: B − A of runs that differ in the named choice alone, at equal seeds, averaged over the "
    "matched pairs; 95 %"
    " intervals over pairs (t) where there are three or more, else by groups of texts. They are not "
    "corrected for the number"
    " of layers and measures.",
]


def _findings(study: Study, arms: Sequence[Arm]) -> list[str]:
    told = []
    table = study.tables["curves"]
    series = list(dict.fromkeys(a.series for a in arms if a.role == "run"))
    for name in series:
        own = table.where(series=name, role="run")
        for curve in ("cosine in text", "rank residual"):
            rows = _ordered(own.where(curve=curve))
            if len(rows) < 2:
                continue
            last, first = rows[-1], rows[0]
            line = f"{name}: {_plain(curve)} goes from {_at(first)} at {first['site']} to {_at(last)} at"
            line += f" {last['site']}"
            line += f" (tokens of other texts {last['null']:.3g}"
            random = _ordered(table.where(curve=curve, series=name, role="control"))
            line += f", random weights {random[-1]['value']:.3g})" if random else ")"
            told.append(line + (f", {last['runs']} seeds." if last["runs"] > 1 else "."))
    return told + _contrasted(study)


def _contrasted(study: Study) -> list[str]:
    """For each contrast and headline curve, the layer where its interval is farthest from 0."""
    told = []
    if "differences" not in study.tables:
        return told
    table = study.tables["differences"]
    for contrast in table.values("contrast"):
        for curve in HEADLINES:
            rows = [r for r in table.where(contrast=contrast, curve=curve) if r["low"] is not None]
            sure = [r for r in rows if r["low"] > 0 or r["high"] < 0]
            if not rows:
                continue
            top = max(sure or rows, key=lambda r: abs(r["value"]))
            words = (
                f"{len(sure)} of {len(rows)} layers apart from 0, most at"
                if sure
                else "no layer apart from 0; largest at"
            )
            told.append(
                f"{contrast}, {_plain(curve)}: {words} {top['site']}: {top['value']:+.3g} [{top['low']:.3g},"
                f" {top['high']:.3g}] ({top['pairs']} matched pair{'s' * (top['pairs'] > 1)}, interval "
                f"over {top['basis']})."
            )
    return told


def _plain(curve: str) -> str:
    return CURVES[curve].label.partition("\n(")[0].replace("\n", " ")


def _ordered(table: Table) -> list[dict[str, Any]]:
    return sorted(table, key=lambda r: sites.order(r["site"]))


def _at(row: dict[str, Any]) -> str:
    spread = f" [{row['low']:.3g}, {row['high']:.3g}]" if row["low"] is not None else ""
    return f"{row['value']:.3g}{spread}"


def _warnings(study: Study, stores: Sequence[Store], arms: Sequence[Arm]) -> list[str]:
    told = []
    runs = [a for a in arms if a.role == "run"]
    if not any(a.role == "control" for a in arms):
        told.append(
            "No run with random weights: what training added cannot be told from what the architecture does."
        )
    if len(runs) > 1 and len({a.series for a in runs}) == len(runs):
        told.append("One run for each series: differences between series may be differences between seeds.")
    if failed := [a.name for a in runs if a.learned is False]:
        told.append(
            f"Did not learn (no better than the unigram model on test): {', '.join(failed)}. What they "
            "show is the geometry"
            " of a run that failed with this recipe, not of the architecture trained."
        )
    losses = [a.loss for a in runs if a.loss is not None]
    if losses and max(losses) > 1.1 * min(losses):
        told.append(
            f"The arms differ in loss ({min(losses):.3g} to {max(losses):.3g} nats a token): a difference "
            "between them may be"
            " one of how far they have learned."
        )
    if any(a.choices.get("placement") in NORMED for a in runs):
        told.append(
            "Where a block ends in a norm (post, deepnorm, mix), resid is the normed state: its norm is "
            "set by the norm's "
            "weight, and an update includes the norming. Compare cosines and ranks between placements, "
            "not norms."
        )
    if len({s.manifest["tokens_hash"] for s in stores}) > 1:
        told.append(
            "The runs have different tokens (tokenizers, or lengths): they are compared as clouds, not by "
            "token."
        )
    told += flagged(study.tables, skip=("arms", "curves", "differences", "similarity"))
    return told


# figures


def _figures(study: Study, stores: Sequence[Store], arms: Sequence[Arm], origin: str) -> list[Figure]:
    series = list(dict.fromkeys(a.series for a in arms if a.role == "run"))
    base = {"series": series, "controls": [a.series for a in arms if a.role == "control"]}
    seeds = max((r["runs"] for r in study.tables["curves"]), default=1)
    thin = f"; thin lines: least and largest of {seeds} seeds" if seeds > 1 else ""
    tail = f"Bands: 95 % by texts{thin}. {origin}"
    many = len(series) > 5
    made: list[Figure] = []
    if many:
        made += _grid(arms, base, tail)
    for name, title, wanted in PANELS:
        there = [c for c in wanted if len(study.tables["curves"].where(curve=c))]
        if there:
            caption = f"Dashed: random weights; dotted: the null of each measure. {tail}"
            made.append(Figure(name, "token_curves", "curves", title, caption, base | {"curves": there}))
    if "differences" in study.tables:
        caption = (
            "B − A of runs that differ in one choice alone; bands: 95 % over matched pairs, or by texts "
            "where there are"
            f" fewer than three. {origin}"
        )
        shown = [
            c
            for c in (*HEADLINES, "alignment", "effective rank unit")
            if c in study.tables["differences"].values("curve")
        ]
        options = {"curves": shown, "contrasts": study.tables["differences"].values("contrast")}
        made.append(
            Figure("differences", "token_differences", "differences", "Differences", caption, options)
        )
    return made + _heatmaps(study, origin)


def _grid(arms: Sequence[Arm], base: dict[str, Any], tail: str) -> list[Figure]:
    """Small multiples: a column for each level of the choice with most to tell, colours for the rest."""
    runs = [a for a in arms if a.role == "run"]
    varied = [c for c in runs[0].choices if len({a.choices.get(c) for a in runs}) > 1]
    if not varied:
        return []
    by = varied[0]
    cells = [
        {"series": s, "column": arm.choices[by], "line": " ".join(arm.choices[c] for c in varied if c != by)}
        for s in base["series"]
        for arm in [next(a for a in runs if a.series == s)]
    ]
    options = base | {"curves": HEADLINES, "by": by, "cells": cells}
    caption = f"A column for each {by}; thin dashed: random weights; dotted grey: the null, averaged. {tail}"
    return [Figure("grid", "token_grid", "curves", "Comparison grid", caption, options)]


def _heatmaps(study: Study, origin: str) -> list[Figure]:
    table, made = study.tables["similarity"], []
    for prompt in table.values("prompt"):
        caption = (
            "Cosine between the states of the tokens of one text, raw (above) and with the mean of all "
            "texts taken out (below);"
            f" in the titles the mean cosine of tokens of different texts at equal positions. {origin}"
        )
        for k, run in enumerate(table.where(prompt=prompt).values("run")):
            title = f"Token similarity in one text, {run}"
            name = f"tokens-{prompt + 1}" + (f"-{k + 1}" if k else "")
            made.append(
                Figure(name, "token_heatmap", "similarity", title, caption, {"run": run, "prompt": prompt})
            )
    return made
