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

from transect.errors import TransectError
from transect.inference import controls
from transect.inference.sweep import sweep
from transect.models import sites
from transect.numeric.change_points import candidates
from transect.results.study import Study
from transect.results.table import Table, merge
from transect.store.store import Store
from transect.studies.drift.names import LAYERS, OUTLIERS, SCALES, SIMPLE, STABLE, TESTED, TRANSPORT
from transect.studies.drift.published import published
from transect.studies.drift.words import describe


def drift(
    stores: Store | Sequence[Store],
    *,
    controls: Sequence[Store] = (),
    sites: str = "resid",
    measure: str = "sinkhorn",
    tokens: str = "all",
    position0: bool = False,
    massive: float | None = 10.0,
    n: int | None = None,
    groups: int = 10,
    resamples: int = 20,
    pca: int | None = None,
    as_published: bool = False,
    threshold: float = 2.0,
    seed: int = 0,
    out: str | Path | None = None,
    engine: str = "local",
    workers: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Study:
    """The drift study of one run or several; `controls` are runs of the same texts through random weights or of
    shuffled tokens through the same weights.

    massive: leave out further sinks, tokens whose norm exceeds so many median norms at any layer (the headline measure
    with them is in massive_kept); None keeps them. measure: what the layer × layer matrix and the change layers are
    computed from. n: points per cloud (default 1000 or what half the texts hold). resamples: half-samples of texts behind the support of a change layer. as_published: also what the
    formulas of the program that this study replaces give (see `_published`), with its threshold. Tables: adjacent,
    pairs, layers, changes, verdict, companions, diagnostics, and across when there are several runs of the same tokens.
    """
    stores = [stores] if isinstance(stores, Store) else list(stores)
    every = [*stores, *controls]
    _names_differ(every)
    given: dict[str, Any] = {"tokens": tokens, "position0": position0, "n": n, "groups": groups, "seed": seed}
    given |= {"sites": sites, "massive": massive}
    given |= {"out": out, "engine": engine, "workers": workers}
    study = Study("drift", "How far do representations move from layer to layer, and where?", {})
    told = (lambda step: lambda done, total: progress(step, done, total)) if progress else (lambda step: None)
    study.tables["adjacent"] = merge(
        [
            *(_adjacent(store, given, pca, resamples, measure, told("adjacent layers")) for store in stores),
            *(_control(store, given, pca, measure, told("control runs")) for store in controls),
        ]
    )
    if massive:
        kept: dict[str, Any] = {**given, "massive": None, "pairs": "adjacent", "pca": pca, "design": "disjoint"}
        study.tables["massive_kept"] = merge([sweep(measure, store, **kept) for store in stores])
    whole = {**given, "pairs": "all", "pca": pca, "progress": told("all pairs")}
    hows = ("raw", "unit")
    study.tables["pairs"] = merge([sweep(measure, store, normalise=h, **whole) for store in stores for h in hows])
    study.tables["layers"] = merge([_layers(store, given, told("layers")) for store in every])
    once: dict[str, Any] = {**given, "permutations": 0}
    every_token: dict[str, Any] = {**once, "massive": None}
    study.tables["scales"] = merge([sweep("gride", s, scale=k, **once) for s in stores for k in SCALES])
    study.tables["centred"] = merge([sweep("anisotropy", s, centred=True, **once) for s in every])
    study.tables["outliers"] = merge([sweep(OUTLIERS, s, **every_token) for s in every])
    study.tables["tests"] = merge([_tests(s, given) for s in stores])
    study.tables["changes"] = _changes(study.tables["adjacent"], measure, [c.name for c in controls])
    study.tables["verdict"] = _verdict(study.tables["layers"], stores)
    study.tables["companions"] = _companions(study.tables["adjacent"], measure)
    study.tables["diagnostics"] = _diagnostics(every, given)
    if across := _across(stores, measure, given, told("across runs")):
        study.tables["across"] = across
    if as_published:
        study.tables["as_published"] = merge([published(s, study.tables["adjacent"], given, threshold) for s in stores])
    describe(study, stores, list(controls), measure, given)
    return study


def _names_differ(stores: Sequence[Store]) -> None:
    names = [s.name for s in stores]
    if len(set(names)) < len(names):
        raise TransectError(f"runs share a name: {', '.join(names)}.", "Capture with --name to tell them apart.")


def _adjacent(store: Store, given: dict[str, Any], pca: int | None, resamples: int, measure: str, told: Any) -> Table:
    """Adjacent layers: transport measures in both designs, raw and unit-norm; simple measures on the same tokens."""
    tables = []
    for normalise in ("raw", "unit"):
        common: dict[str, Any] = {"pairs": "adjacent", "progress": told, "normalise": normalise, **given}
        tables.append(sweep(measure, store, pca=pca, design="disjoint", halves=resamples, **common))
        tables.append(sweep([m for m in TRANSPORT if m != measure], store, pca=pca, design="disjoint", **common))
        tables.append(sweep(list(dict.fromkeys([measure, "wasserstein"])), store, pca=pca, design="paired", **common))
        tables.append(sweep(SIMPLE, store, design="paired", **common))
    return merge(tables)


def _control(store: Store, given: dict[str, Any], pca: int | None, measure: str, told: Any) -> Table:
    """A control run's curve: what the change layers are held against."""
    common: dict[str, Any] = {"pairs": "adjacent", "progress": told, "pca": pca, "design": "disjoint", **given}
    return merge([sweep(measure, store, normalise=how, **common) for how in ("raw", "unit")])


def _layers(store: Store, given: dict[str, Any], told: Any) -> Table:
    common: dict[str, Any] = {"permutations": 9, "progress": told, **given}
    return merge([sweep(LAYERS, store, normalise=how, **common) for how in ("raw", "unit")])


def _tests(store: Store, given: dict[str, Any]) -> Table:
    """Do two neighbouring layers follow one law? Texts swapped between them at random (99 draws), then max-T and Holm
    over the layers."""
    common: dict[str, Any] = {"pairs": "adjacent", "design": "paired", "normalise": "unit", "swaps": 99, **given}
    common["groups"] = 3
    table = sweep(TESTED, store, **common)
    rows = list(table)
    for name in TESTED:
        own = [r for r in rows if r["measure"] == name and r["status"] == "ok"]
        if not own:
            continue
        null = np.array([r["null_draws"] for r in own], float).T
        centre, spread = null.mean(axis=0), np.maximum(null.std(axis=0), 1e-30)
        joint = controls.max_t((np.array([r["value"] for r in own]) - centre) / spread, (null - centre) / spread)
        for r, p, q in zip(own, joint, controls.holm([r["p"] for r in own]), strict=True):
            r |= {"p_max_t": float(p), "p_holm": float(q), "control": "texts swapped between the two layers"}
    return Table(rows, table.provenance)


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
            kept = [h for h in part.column("halves") if h is not None]
            halves = [np.array(h, float) for h in zip(*kept, strict=True)] if len(kept) == len(part) else []
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
                found: Any = spearmanr(np.array(pairs))
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
