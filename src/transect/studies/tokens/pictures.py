"""Which figures the token study has: curves by panels of at most eight series, a grid of arms, differences,
heatmaps."""

import itertools
from collections.abc import Sequence
from typing import Any

from transect.results.study import Figure, Study
from transect.studies.tokens.names import HEADLINES, PANELS
from transect.studies.tokens.runs import Arm, leader, varied_choices

#: Lines in one panel; more series are shown in further figures, each with its own colours.
MOST = 8


def pictures(study: Study, arms: Sequence[Arm], origin: str) -> list[Figure]:
    """The figures of a study whose tables are there."""
    series, controls = (study.tables["curves"].where(role=r).values("series") for r in ("run", "control"))
    seeds = max((r["runs"] for r in study.tables["curves"]), default=1)
    bands = {1: "by texts", 2: "none for two seeds"}.get(seeds, f"over {seeds} seeds and texts")
    thin = f"; thin lines: least and largest of {seeds} seeds" if seeds > 1 else ""
    tail = f"Bands: 95 %, {bands}{thin}. {origin}"
    base = {"series": series, "controls": controls}
    figures = _grid(arms, base, tail) if len(series) > 5 else []
    first = ""
    if any(not r["comparable"] for r in study.tables["curves"]):
        first = " The update from the embedding into a first norm is left out: it is the norming."
    for name, title, wanted in PANELS:
        there = [c for c in wanted if len(study.tables["curves"].where(curve=c))]
        for k, shown in enumerate(chunks(series)):
            if there:
                caption = f"Dashed: random weights; dotted: the null of each measure.{first} {tail}"
                options = {"series": shown, "controls": [c for c in controls if c in shown], "curves": there}
                figures.append(Figure(_numbered(name, k), "token_curves", "curves", title, caption, options))
    figures += _differences(study, origin) if "differences" in study.tables else []
    return figures + heatmaps(study, origin)


def chunks(names: Sequence[str], most: int = MOST) -> list[list[str]]:
    """Names in groups of at most `most`, as equal as can be, in their order."""
    count = -(-len(names) // most) or 1
    cuts = [k * len(names) // count for k in range(count + 1)]
    return [list(names[a:b]) for a, b in itertools.pairwise(cuts)]


def _numbered(name: str, k: int) -> str:
    return f"{name}-{k + 1}" if k else name


def _differences(study: Study, origin: str) -> list[Figure]:
    table = study.tables["differences"]
    caption = (
        "B − A of runs that differ in the named choice alone; bands: 95 % over seeds and texts, by texts for "
        f"one seed, none for two; where depths differ, by share of depth. {origin}"
    )
    shown = [c for c in (*HEADLINES, "alignment", "effective rank unit") if c in table.values("curve")]
    return [
        Figure(
            _numbered("differences", k), "token_differences", "differences", "Differences", caption,
            {"curves": shown, "contrasts": chunk},
        )
        for k, chunk in enumerate(chunks(table.values("contrast")))
    ]  # fmt: skip


def _grid(arms: Sequence[Arm], base: dict[str, Any], tail: str) -> list[Figure]:
    """Small multiples: a column for each level of the choice with most to tell, colours for the rest."""
    runs = [a for a in arms if a.role == "run"]
    varied = [c for c in varied_choices(runs) if not leader(runs, c)]
    if not varied:
        return []
    by = varied[0]
    cells = [
        {
            "series": s,
            "column": arm.choices.get(by, "none"),
            "line": " ".join(arm.choices[c] for c in varied if c != by and c in arm.choices),
        }
        for s in base["series"]
        for arm in [next(a for a in runs if a.series == s)]
    ]
    caption = f"A column for each {by}; thin dashed: random weights; dotted grey: the null, averaged. {tail}"
    figures = []
    for k, lines in enumerate(chunks(list(dict.fromkeys(c["line"] for c in cells)))):
        members = [c for c in cells if c["line"] in lines]
        options = base | {"curves": HEADLINES, "by": by, "cells": members}
        figures.append(
            Figure(_numbered("grid", k), "token_grid", "curves", "Comparison grid", caption, options)
        )
    return figures


def heatmaps(study: Study, origin: str) -> list[Figure]:
    """Similarity of the tokens of single texts, one figure for each text and run."""
    table, figures = study.tables["similarity"], []
    for prompt in table.values("prompt"):
        caption = (
            "Cosine between the states of the tokens of one text, raw (above) and with the mean of all "
            "texts taken out (below);"
            f" in the titles their mean without the diagonal, and that of tokens of different texts. {origin}"
        )
        for k, run in enumerate(table.where(prompt=prompt).values("run")):
            title = f"Token similarity in one text, {run}"
            name = _numbered(f"tokens-{prompt + 1}", k)
            figures.append(
                Figure(name, "token_heatmap", "similarity", title, caption, {"run": run, "prompt": prompt})
            )
    return figures
