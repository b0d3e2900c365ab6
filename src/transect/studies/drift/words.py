"""The drift study in words and figures: findings with their numbers, warnings, methods, captions."""

import math
from typing import Any

import numpy as np

from transect.measures.contract import find
from transect.results.study import Figure, Study, describe_run
from transect.store.store import Store
from transect.studies.drift.names import STABLE, TRANSPORT


def describe(
    study: Study, stores: list[Store], control_stores: list[Store], measure: str, given: dict[str, Any]
) -> None:
    adjacent, first = study.tables["adjacent"], stores[0]
    n, texts = int(adjacent.column("n")[0]), int(adjacent.column("n_texts")[0])
    position = "kept" if given["position0"] else "dropped"
    if given["massive"]:
        position += f", tokens above {given['massive']:g} × the median norm dropped ({_massive(study)})"
    shown = "; ".join(describe_run(s) for s in [*stores, *control_stores])
    origin = f"{shown}. n = {n} tokens per cloud, position 0 {position}, 95 % intervals by leaving out groups of texts."
    study.provenance = adjacent.provenance | {
        "runs": [s.manifest | {"path": str(s.path)} for s in [*stores, *control_stores]]
    }
    study.findings = _findings(study, stores, measure)
    study.warnings = _warnings(study, [s.name for s in stores])
    study.methods = _methods(measure, n, texts, position, given)
    null = "dotted: two halves of the texts at one layer (split-half null) with its interval"
    runs = {"runs": [s.name for s in [*stores, *control_stores]], "controls": [s.name for s in control_stores]}
    study.figures = [
        Figure(
            "drift",
            "depth",
            "adjacent",
            f"Drift between adjacent layers ({measure})",
            f"{measure} between each layer and the next, tokens of different texts; {null}; vertical lines: candidate "
            f"change layers with the share of half-samples that agree. {origin}",
            {"measures": [measure], "where": {"design": "disjoint"}, "panels": "normalise", "changes": True, **runs},
        ),
        Figure(
            "excess",
            "depth",
            "adjacent",
            "Drift beyond the split-half null",
            f"Each transport measure less its own null, unit-norm points of different texts. {origin}",
            {
                "measures": list(TRANSPORT),
                "where": {"design": "disjoint", "normalise": "unit"},
                "value": "corrected",
                **runs,
            },
        ),
        Figure(
            "pairs",
            "matrix",
            "pairs",
            f"All layer pairs of {first.name} ({measure})",
            f"{measure} between every two layers, same tokens; diagonal: the split-half null of that layer. {origin}",
            {"run": first.name, "measure": measure},
        ),
        Figure(
            "spectra",
            "depth",
            "layers",
            "Spectrum of each layer",
            f"Unit-norm points; dotted: every column shuffled by itself (control). {origin}",
            {
                "measures": ["participation_ratio", "effective_rank", "stable_rank", "spectral_entropy"],
                "where": {"normalise": "unit"},
                **runs,
            },
        ),
        Figure(
            "statistics",
            "depth",
            "layers",
            "Norms, anisotropy, dimension",
            f"Raw points; dotted: every column shuffled by itself (control). {origin}",
            {
                "measures": [
                    "mean_norm",
                    "anisotropy",
                    "twonn",
                    "outlier_dimensions",
                    "condition_number",
                    "norm_entropy",
                ],
                "where": {"normalise": "raw"},
                **runs,
            },
        ),
        Figure(
            "scales",
            "depth",
            "scales",
            "Intrinsic dimension at four scales",
            f"Gride dimension from the ratio of the 2k-th to the k-th neighbour distance, k the scale, raw points. {origin}",
            {"measures": ["gride"], "panels": "scale", "runs": [s.name for s in stores], "controls": []},
        ),
        Figure(
            "companions",
            "scatter",
            "adjacent",
            f"{measure} beside simple distances",
            f"A point per pair of adjacent layers, unit-norm; abscissa: same tokens; ρ: Spearman over layers. {origin}",
            {
                "measure": measure,
                "normalise": "unit",
                "others": ["wasserstein", "paired_displacement", "euclidean", "cosine"],
                "run": first.name,
            },
        ),
        Figure(
            "plan",
            "depth",
            "adjacent",
            "How much of the plan is the identity",
            f"Share of transported mass that stays with its own token, raw points; dotted: pairing shuffled. {origin}",
            {"measures": ["plan"], "where": {"normalise": "raw", "design": "paired"}, **runs},
        ),
    ]
    if "across" in study.tables:
        study.figures.append(
            Figure(
                "across",
                "depth",
                "across",
                "The same layer across runs",
                f"Each layer of {first.name} against the same layer of the other runs. {origin}",
                {
                    "measures": [measure, "cosine", "euclidean"],
                    "panels": "measure",
                    "series": "run2",
                    "runs": [s.name for s in stores[1:]],
                    "controls": [],
                },
            )
        )


def _massive(study: Study) -> str:
    """How many tokens were left out as massive, by run."""
    adjacent = study.tables["adjacent"]
    counts = {run: adjacent.where(run=run).values("massive")[0] for run in adjacent.values("run")}
    return ", ".join(f"{run}: {text.partition('(')[2].rstrip(')')}" for run, text in counts.items())


def _findings(study: Study, stores: list[Store], measure: str) -> list[str]:
    told = []
    for store in stores:
        part = study.tables["adjacent"].where(
            run=store.name, measure=measure, design="paired", normalise="unit", status="ok"
        )
        if len(part):
            k = int(np.argmax(part.column("corrected")))
            row = list(part)[k]
            told.append(
                f"{store.name}: the largest step is {row['site']} → {row['site2']}: excess {row['corrected']:.4g} [{row['corrected_low']:.4g}, {row['corrected_high']:.4g}] over a split-half null of {row['null']:.4g} ({measure}, unit-norm points)."
            )
        for name in study.tables["tests"].values("measure"):
            tests = study.tables["tests"].where(run=store.name, measure=name, status="ok")
            told.append(
                f"{store.name}: {int((tests.column('p_max_t') <= 0.05).sum())} of {len(tests)} steps differ from one law "
                f"({name}, texts swapped, max-T p ≤ 0.05, B = 99)."
            )
        for row in study.tables["verdict"].where(run=store.name, normalise="unit"):
            told.append(
                f"{store.name}: {row['verdict']} — effective rank changes by a factor {math.exp(row['value']):.2f} [{math.exp(row['low']):.2f}, {math.exp(row['high']):.2f}] from the first to the last third of the depth."
            )
        for row in study.tables["changes"].where(run=store.name, status="ok"):
            also = {
                True: "; a control run has it too",
                False: "; no control run has it",
                None: "; no control run was given",
            }[row.get("also_in_control")]
            told.append(
                f"{store.name}: candidate change layer at {row['site']} → {row['site2']} ({row['normalise']}; MAD z {row['mad_z']:.1f}, {row['support']:.0%} of {row['resamples']} half-samples agree ±1 layer{also})."
            )
        if not len(study.tables["changes"].where(run=store.name, status="ok")):
            told.append(f"{store.name}: no candidate change layer.")
    return told


def _warnings(study: Study, names: list[str]) -> list[str]:
    told = []
    for name, table in study.tables.items():
        bad = table.where(lambda row: row["status"] not in ("ok", "no candidate"))
        if len(bad):
            first = next(iter(bad))
            told.append(
                f"{name}: {len(bad)} of {len(table)} rows are flagged; first: {first['measure']} {first['site']}: {first['status']}"
            )
    own = study.tables["diagnostics"].where(run=names)
    effect = own.where(measure="design_effect").column("value")
    if np.isfinite(effect).any():
        told.append(
            f"Tokens of one text are not independent: design effect up to {np.nanmax(effect):.1f}; all intervals resample texts."
        )
    sink = own.where(measure="sink_norm_ratio").column("value")
    if np.isfinite(sink).any() and np.nanmax(sink) > 10:
        told.append(f"Position 0 is a sink: its norm reaches {np.nanmax(sink):.0f} × the median of the others.")
    return told


def _methods(measure: str, n: int, texts: int, position: str, given: dict[str, Any]) -> list[str]:
    m = find(measure)
    return [
        f"Points are tokens; position 0 is {position}. {n} tokens were drawn from each of two disjoint halves of {texts} texts, the same number from each of {given['groups']} groups of texts (seed {given['seed']}), and the same tokens were used at every layer.",
        f"Drift is {measure} ({m.source}): {m.summary} The null of an unpaired measure is its value between the two halves at one layer, averaged over the two layers compared; the headline is the excess over it. In the paired design both layers show the same tokens; in the disjoint design they show tokens of different texts.",
        "Intervals are 95 %, from leaving out one group of texts at a time (delete-group jackknife, t with G − 1 degrees of freedom). Measures of one layer are shown beside the same points with every column shuffled independently.",
        "Whether two neighbouring layers follow one law is tested by swapping whole texts between them (99 draws, unit-norm "
        "points), with max-T (Westfall & Young 1993) and Holm over the layers.",
        "Candidate change layers passed a MAD-z screen on first differences (3.5), PELT on the detrended curve (penalty 3 log n, inflated for lag-1 autocorrelation) and a shift of medians of 3 noise units; support is the share of half-samples of texts with a candidate within one layer.",
        f"The verdict compares effective rank between the first and the last third of the depth; stable means that the whole interval lies within a factor {STABLE}.",
    ]
