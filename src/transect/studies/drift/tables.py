"""Tables that follow from the cells of a drift study: verdict, companions, diagnostics."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from transect.inference.controls import design_effect
from transect.inference.design import Design
from transect.inference.intervals import jackknife
from transect.inference.sweep import sites_of_runs
from transect.random import rng
from transect.results.table import Table
from transect.store.store import Store
from transect.studies.drift.names import STABLE


def verdict(layers: Table) -> Table:
    """Compression, spreading or stable: log ratio of effective rank, last third of the depth over the first.

    Both thirds are read at one n, so that what sampling takes from a rank is nearly the same in both.
    """
    rows = []
    for run in layers.values("run"):
        for how in layers.values("normalise"):
            part = layers.where(run=run, measure="effective_rank", normalise=how, status="ok")
            if len(part) < 6:
                continue
            values, drops = (
                np.log(part.column("value")),
                np.log(np.array(part.column("replicates").tolist(), float)),
            )
            third = len(values) // 3
            ratio = float(values[-third:].mean() - values[:third].mean())
            replicates = drops[-third:].mean(axis=0) - drops[:third].mean(axis=0)
            low, high = jackknife(ratio, replicates)
            base = {"measure": "log_rank_ratio", "run": run, "normalise": how, "design": "single"}
            base |= {"n": int(part.column("n")[0]), "n_texts": int(part.column("n_texts")[0])}
            rows.append(
                base | {"value": ratio, "low": low, "high": high, "verdict": _word(low, high), "status": "ok"}
            )
    return Table(rows, layers.provenance)


def _word(low: float, high: float) -> str:
    margin = math.log(STABLE)
    if low > margin:
        return "spreading"
    if high < -margin:
        return "compression"
    return "stable" if -margin < low and high < margin else "undecided"


#: Spectra that are read against the same points with their columns permuted.
SPECTRA = ("participation_ratio", "effective_rank", "stable_rank", "spectral_entropy")


def ratios(layers: Table) -> Table:
    """Each spectrum over that of its reference (columns permuted by texts): 1 where dimensions are as if
    independent. Intervals are on the log scale, with the reference's variation."""
    rows = []
    for r in layers.where(measure=list(SPECTRA), status="ok"):
        replicates, beyond = (np.array(r[k] or [], float) for k in ("replicates", "corrected_replicates"))
        null = r["null"]
        if null is None or not null > 0 or not len(replicates) or len(replicates) != len(beyond):
            continue
        ratio, drops = r["value"] / null, replicates / (replicates - beyond)  # corrected is value − null
        low, high = jackknife(ratio, drops, scale="log")
        record = {
            k: r[k] for k in ("measure", "run", "site", "normalise", "design", "n", "n_texts", "control")
        }
        rows.append(record | {"value": ratio, "low": low, "high": high, "null": 1.0, "status": "ok"})
    return Table(rows, layers.provenance)


def companions(adjacent: Table, measure: str) -> Table:
    """Rank correlation, over layers, of the transport excess with each distance of the same tokens.

    A description of these layers, without a p: curves through depth are autocorrelated, and a test that takes
    layers for independent finds a relation between unrelated curves in a third of cases and more.
    """
    from scipy.stats import spearmanr

    rows = []
    for run in adjacent.values("run"):
        for how in ("raw", "unit"):
            base = adjacent.where(run=run, measure=measure, design="disjoint", normalise=how, status="ok")
            at = dict(zip(base.column("site"), base.column("corrected"), strict=True))
            for other in adjacent.values("measure"):
                part = adjacent.where(run=run, measure=other, design="paired", normalise=how, status="ok")
                pairs = [
                    (at[s], v)
                    for s, v in zip(part.column("site"), part.column("value"), strict=True)
                    if s in at
                ]
                if len(pairs) < 4:
                    continue
                correlation: Any = spearmanr(np.array(pairs))
                record = {
                    "measure": "rank_correlation",
                    "of": measure,
                    "with": other,
                    "run": run,
                    "normalise": how,
                }
                record |= {
                    "value": float(correlation.statistic),
                    "n": len(pairs),
                    "design": "over layers",
                    "status": "ok",
                }
                rows.append(record)
    return Table(rows, adjacent.provenance)


def diagnostics(every: Sequence[Store], design: Design) -> Table:
    """Per layer: intraclass correlation and design effect by text, and the norm of position 0 over the median
    norm."""
    rows = []
    for store, names in zip(every, sites_of_runs(every, design.sites), strict=True):
        selection = store.select(design.tokens, design.position0)
        drawn = rng(design.seed, "diagnostics").choice(
            len(selection), min(4000, len(selection)), replace=False
        )
        some = np.sort(drawn)
        first = None if store.manifest["pool"] else store.select(0)
        for site in names:
            X = store.take(site, selection.subset(some))
            icc, effect = design_effect(X, selection.texts[some])
            sink = math.nan
            if first is not None and len(first):
                sink = float(np.median(np.linalg.norm(store.take(site, first), axis=1)))
                sink /= float(np.median(np.linalg.norm(X, axis=1)))
            base = {
                "run": store.name,
                "site": site,
                "n": len(some),
                "n_texts": len(np.unique(selection.texts)),
            }
            for name, value in (("icc", icc), ("design_effect", effect), ("sink_norm_ratio", sink)):
                rows.append(base | {"measure": name, "value": value, "design": "single", "status": "ok"})
    return Table(rows)
