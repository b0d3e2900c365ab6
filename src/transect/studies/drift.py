"""Drift through depth: how far representations move from layer to layer, beyond what two draws of one layer differ by.

Adjacent layers by every transport measure and their simple companions, all pairs by one of them, spectra of each layer,
candidate change layers and a verdict, for one run or several, with control runs (random weights, shuffled tokens) drawn
beside them.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from transect import controls, sites
from transect.changes import candidates
from transect.errors import TransectError
from transect.measure import find
from transect.store import Store
from transect.study import Figure, Study, describe_run
from transect.sweep import sweep
from transect.table import Table, merge

TRANSPORT = ("sinkhorn", "wasserstein", "sliced", "max_sliced", "bures", "centroid")
SIMPLE = ("cosine", "euclidean", "paired_displacement", "plan")
LAYERS = (
    *("participation_ratio", "effective_rank", "stable_rank", "spectral_entropy", "condition_number", "top_variance"),
    *("anisotropy", "mean_norm", "norm_entropy", "outlier_dimensions", "outlier_tokens", "massive_tokens", "twonn"),
)
#: A change of effective rank by less than this factor, with its whole interval, counts as stable.
STABLE = 1.10


def drift(
    stores: Store | Sequence[Store],
    *,
    controls: Sequence[Store] = (),
    sites: str = "resid",
    measure: str = "sinkhorn",
    tokens: str = "all",
    position0: bool = False,
    n: int | None = None,
    groups: int = 10,
    resamples: int = 20,
    pca: int | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    engine: str = "local",
    workers: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Study:
    """The drift study of one run or several; `controls` are runs of the same texts through random weights or of
    shuffled tokens through the same weights.

    measure: what the layer × layer matrix and the change layers are computed from. n: points per cloud (default 1000 or
    what half the texts hold). resamples: half-samples of texts behind the support of a change layer. Tables: adjacent,
    pairs, layers, changes, verdict, companions, diagnostics, and across when there are several runs of the same tokens.
    """
    stores = [stores] if isinstance(stores, Store) else list(stores)
    every = [*stores, *controls]
    _names_differ(every)
    given: dict[str, Any] = {
        "tokens": tokens,
        "position0": position0,
        "n": n,
        "groups": groups,
        "seed": seed,
        "sites": sites,
    }
    given |= {"out": out, "engine": engine, "workers": workers}
    study = Study("drift", "How far do representations move from layer to layer, and where?", {})
    told = (lambda step: lambda done, total: progress(step, done, total)) if progress else (lambda step: None)
    study.tables["adjacent"] = _adjacent(every, given, pca, resamples, measure, told("adjacent layers"))
    study.tables["pairs"] = merge(
        [sweep(measure, s, pairs="all", pca=pca, progress=told("all pairs"), **given) for s in every]
    )
    study.tables["layers"] = _layers(every, given, told("layers"))
    study.tables["changes"] = _changes(study.tables["adjacent"], measure, [c.name for c in controls])
    study.tables["verdict"] = _verdict(study.tables["layers"], stores)
    study.tables["companions"] = _companions(study.tables["adjacent"], measure)
    study.tables["diagnostics"] = _diagnostics(every, given)
    if across := _across(stores, measure, given, told("across runs")):
        study.tables["across"] = across
    _describe(study, stores, list(controls), measure, given)
    return study


def _names_differ(stores: Sequence[Store]) -> None:
    names = [s.name for s in stores]
    if len(set(names)) < len(names):
        raise TransectError(f"runs share a name: {', '.join(names)}.", "Capture with --name to tell them apart.")


def _adjacent(
    every: Sequence[Store], given: dict[str, Any], pca: int | None, resamples: int, measure: str, told: Any
) -> Table:
    """Adjacent layers: transport measures in both designs, raw and unit-norm; simple measures on the same tokens."""
    tables = []
    rest = [m for m in TRANSPORT if m != measure]
    for store in every:
        common = {"pairs": "adjacent", "progress": told, **given}
        for normalise in ("raw", "unit"):
            common["normalise"] = normalise
            tables.append(sweep(measure, store, pca=pca, design="disjoint", halves=resamples, **common))
            tables.append(sweep(rest, store, pca=pca, design="disjoint", **common))
            tables.append(sweep([measure, *rest], store, pca=pca, design="paired", **common))
            tables.append(sweep(SIMPLE, store, design="paired", **common))
    return merge(tables)


def _layers(every: Sequence[Store], given: dict[str, Any], told: Any) -> Table:
    tables = []
    for store in every:
        common = {"permutations": 9, "progress": told, **given}
        tables += [sweep(LAYERS, store, normalise=how, **common) for how in ("raw", "unit")]
        tables.append(sweep("anisotropy", store, centred=True, **common))
        tables += [sweep("gride", store, scale=k, **common | {"permutations": 0}) for k in (1, 4, 16, 64)]
    return merge(tables)


def _changes(adjacent: Table, measure: str, control_names: list[str]) -> Table:
    """Candidate change layers of every run's adjacent curve; a candidate that a control has too is marked."""
    found: list[dict[str, Any]] = []
    for run in adjacent.values("run"):
        for how in adjacent.values("normalise"):
            part = adjacent.where(run=run, measure=measure, design="disjoint", normalise=how)
            curve = part.column("corrected")
            base = {
                "measure": measure,
                "run": run,
                "normalise": how,
                "design": "disjoint",
                "n": int(part.column("n")[0]),
                "n_texts": int(part.column("n_texts")[0]),
            }
            halves = [np.array(h, float) for h in zip(*part.column("halves"), strict=True)] if len(part) else []
            try:
                hits = candidates(curve, [h for h in halves if np.isfinite(h).all()])
            except TransectError as error:
                found.append(base | {"status": str(error)})
                continue
            for c in hits:
                site = part.column("site")[c.index]
                found.append(
                    base
                    | {
                        "site": site,
                        "site2": part.column("site2")[c.index],
                        "value": c.level,
                        "mad_z": c.z,
                        "support": c.support,
                        "resamples": len(halves),
                        "status": "ok",
                    }
                )
            if not hits:
                found.append(base | {"status": "no candidate", "resamples": len(halves)})
    for row in found:
        near = [r for r in found if r["run"] in control_names and r.get("site") and r["normalise"] == row["normalise"]]
        if row.get("site") and row["run"] not in control_names and control_names:
            row["also_in_control"] = any(abs(sites.layer(r["site"]) - sites.layer(row["site"])) <= 1 for r in near)  # type: ignore[operator]
    return Table(found, adjacent.provenance)


def _verdict(layers: Table, stores: Sequence[Store]) -> Table:
    """Compression, spreading or stable: log ratio of effective rank, last third of the depth over the first."""
    rows = []
    for store in stores:
        for how in ("raw", "unit"):
            part = layers.where(run=store.name, measure="effective_rank", normalise=how, status="ok")
            if len(part) < 6:
                continue
            values, drops = np.log(part.column("value")), np.log(np.array(part.column("replicates").tolist(), float))
            third = len(values) // 3
            ratio = float(values[-third:].mean() - values[:third].mean())
            again = drops[-third:].mean(axis=0) - drops[:third].mean(axis=0)
            low, high = controls.jackknife(ratio, again)
            margin = math.log(STABLE)
            word = (
                "spreading"
                if low > margin
                else "compression"
                if high < -margin
                else "stable"
                if -margin < low and high < margin
                else "undecided"
            )
            rows.append(
                {
                    "measure": "log_rank_ratio",
                    "run": store.name,
                    "normalise": how,
                    "design": "single",
                    "value": ratio,
                    "low": low,
                    "high": high,
                    "n": int(part.column("n")[0]),
                    "n_texts": int(part.column("n_texts")[0]),
                    "verdict": word,
                    "status": "ok",
                }
            )
    return Table(rows, layers.provenance)


def _companions(adjacent: Table, measure: str) -> Table:
    """Spearman rank correlation, over layers, of the transport excess with each distance of the same tokens."""
    from scipy.stats import spearmanr

    rows = []
    for run in adjacent.values("run"):
        for how in ("raw", "unit"):
            base = adjacent.where(run=run, measure=measure, design="disjoint", normalise=how, status="ok")
            at = dict(zip(base.column("site"), base.column("corrected"), strict=True))
            for other in adjacent.values("measure"):
                part = adjacent.where(run=run, measure=other, design="paired", normalise=how, status="ok")
                pairs = [(at[s], v) for s, v in zip(part.column("site"), part.column("value"), strict=True) if s in at]
                if len(pairs) < 4:
                    continue
                found = spearmanr(*zip(*pairs, strict=True))
                rows.append(
                    {
                        "measure": f"spearman({measure}, {other})",
                        "run": run,
                        "normalise": how,
                        "value": float(found.statistic),
                        "p": float(found.pvalue),
                        "n": len(pairs),
                        "design": "over layers",
                        "status": "ok",
                    }
                )
    p = controls.holm([r["p"] for r in rows])
    return Table([r | {"p_holm": float(q)} for r, q in zip(rows, p, strict=True)], adjacent.provenance)


def _diagnostics(every: Sequence[Store], given: dict[str, Any]) -> Table:
    """Per layer: intraclass correlation and design effect by text, and the norm of position 0 over the median norm."""
    rows = []
    for store in every:
        chosen = store.select(given["tokens"], given["position0"])
        rng = np.random.default_rng([given["seed"], 5])
        some = np.sort(rng.choice(len(chosen), min(4000, len(chosen)), replace=False))
        for site in sites.select(store.sites, [given["sites"]]):
            X = store.take(site, chosen.subset(some))
            icc, effect = controls.design_effect(X, chosen.texts[some])
            norms = np.linalg.norm(X, axis=1)
            first = store.select(0) if not store.manifest["pool"] else None
            sink = (
                float(np.median(np.linalg.norm(store.take(site, first), axis=1)) / np.median(norms))
                if first and len(first)
                else math.nan
            )
            base = {
                "run": store.name,
                "site": site,
                "n": len(some),
                "n_texts": len(np.unique(chosen.texts)),
                "design": "single",
                "status": "ok",
            }
            for name, value in (("icc", icc), ("design_effect", effect), ("sink_norm_ratio", sink)):
                rows.append(base | {"measure": name, "value": value})
    return Table(rows)


def _across(stores: Sequence[Store], measure: str, given: dict[str, Any], told: Any) -> Table | None:
    """The same layer across runs (checkpoint against checkpoint), where the tokens are the same."""
    same = [s for s in stores[1:] if s.same_tokens(stores[0]) and set(s.sites) & set(stores[0].sites)]
    if not same:
        return None
    return merge(
        [sweep([measure, "cosine", "euclidean"], [stores[0], s], pairs="same", progress=told, **given) for s in same]
    )


# words and figures


def _describe(
    study: Study, stores: list[Store], control_stores: list[Store], measure: str, given: dict[str, Any]
) -> None:
    adjacent, first = study.tables["adjacent"], stores[0]
    n, texts = int(adjacent.column("n")[0]), int(adjacent.column("n_texts")[0])
    position = "kept" if given["position0"] else "dropped"
    shown = "; ".join(describe_run(s) for s in [*stores, *control_stores])
    origin = f"{shown}. n = {n} tokens per cloud, position 0 {position}, 95 % intervals by leaving out groups of texts."
    study.provenance = adjacent.provenance | {
        "runs": [s.manifest | {"path": str(s.path)} for s in [*stores, *control_stores]]
    }
    study.findings = _findings(study, stores, measure)
    study.warnings = _warnings(study)
    study.methods = _methods(measure, n, texts, position, given)
    null = "dotted: two halves of the texts at one layer (split-half null) with its interval"
    runs = {"runs": [s.name for s in [*stores, *control_stores]], "controls": [s.name for s in control_stores]}
    study.figures = [
        Figure(
            "drift",
            "depth",
            "adjacent",
            f"Drift between adjacent layers ({measure})",
            f"{measure} between each layer and the next, tokens of different texts; {null}; dotted lines: candidate change layers. {origin}",
            {"measures": [measure], "design": "disjoint", "panels": "normalise", "changes": True, **runs},
        ),
        Figure(
            "excess",
            "depth",
            "adjacent",
            "Drift beyond the split-half null",
            f"Each transport measure less its own null, raw points. {origin}",
            {
                "measures": list(TRANSPORT),
                "design": "disjoint",
                "normalise": "raw",
                "value": "corrected",
                "panels": "measure",
                **runs,
            },
        ),
        Figure(
            "pairs",
            "matrix",
            "pairs",
            f"All layer pairs of {first.name} ({measure})",
            f"{measure} between every two layers; the diagonal shows the split-half null. {origin}",
            {"run": first.name, "measure": measure},
        ),
        Figure(
            "spectra",
            "depth",
            "layers",
            "Spectrum of each layer",
            f"Unit-norm points; dashed: columns shuffled independently (control). {origin}",
            {
                "measures": ["participation_ratio", "effective_rank", "stable_rank", "spectral_entropy"],
                "normalise": "unit",
                "panels": "measure",
                **runs,
            },
        ),
        Figure(
            "statistics",
            "depth",
            "layers",
            "Norms, anisotropy, dimension",
            f"Raw points; dashed: columns shuffled independently (control). {origin}",
            {
                "measures": [
                    "mean_norm",
                    "anisotropy",
                    "twonn",
                    "outlier_dimensions",
                    "condition_number",
                    "norm_entropy",
                ],
                "normalise": "raw",
                "panels": "measure",
                **runs,
            },
        ),
        Figure(
            "companions",
            "scatter",
            "adjacent",
            f"{measure} beside simple distances",
            f"One point per pair of adjacent layers, raw, same tokens; ρ: Spearman over layers. {origin}",
            {
                "measure": measure,
                "others": ["wasserstein", "paired_displacement", "euclidean", "cosine", "centroid", "bures"],
                "run": first.name,
            },
        ),
        Figure(
            "plan",
            "depth",
            "adjacent",
            "How much of the plan is the identity",
            f"Share of transported mass that stays with its own token, raw points. {origin}",
            {"measures": ["plan"], "design": "paired", "normalise": "raw", "panels": "measure", **runs},
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


def _warnings(study: Study) -> list[str]:
    told = []
    for name, table in study.tables.items():
        bad = table.where(lambda row: row["status"] not in ("ok", "no candidate"))
        if len(bad):
            first = next(iter(bad))
            told.append(
                f"{name}: {len(bad)} of {len(table)} rows are flagged; first: {first['measure']} {first['site']}: {first['status']}"
            )
    effect = study.tables["diagnostics"].where(measure="design_effect").column("value")
    if np.isfinite(effect).any():
        told.append(
            f"Tokens of one text are not independent: design effect up to {np.nanmax(effect):.1f}; all intervals resample texts."
        )
    sink = study.tables["diagnostics"].where(measure="sink_norm_ratio").column("value")
    if np.isfinite(sink).any() and np.nanmax(sink) > 10:
        told.append(f"Position 0 is a sink: its norm reaches {np.nanmax(sink):.0f} × the median of the others.")
    return told


def _methods(measure: str, n: int, texts: int, position: str, given: dict[str, Any]) -> list[str]:
    m = find(measure)
    return [
        f"Points are tokens; position 0 is {position}. {n} tokens were drawn from each of two disjoint halves of {texts} texts, the same number from each of {given['groups']} groups of texts (seed {given['seed']}), and the same tokens were used at every layer.",
        f"Drift is {measure} ({m.source}): {m.summary} The null of an unpaired measure is its value between the two halves at one layer, averaged over the two layers compared; the headline is the excess over it. In the paired design both layers show the same tokens; in the disjoint design they show tokens of different texts.",
        "Intervals are 95 %, from leaving out one group of texts at a time (delete-group jackknife, t with G − 1 degrees of freedom). Measures of one layer are shown beside the same points with every column shuffled independently.",
        "Candidate change layers passed a MAD-z screen on first differences (3.5), PELT on the detrended curve (penalty 3 log n, inflated for lag-1 autocorrelation) and a shift of medians of 3 noise units; support is the share of half-samples of texts with a candidate within one layer.",
        f"The verdict compares effective rank between the first and the last third of the depth; stable means that the whole interval lies within a factor {STABLE}.",
    ]
