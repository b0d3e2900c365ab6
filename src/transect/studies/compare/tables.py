"""Tables that follow from the cells of a comparison: drift with its intervals, contrasts, ranks, curves,
summaries.

Every interval comes from the same groups of texts left out in every run, so that a difference of two drifts
has the interval of the difference.
"""

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from transect.inference.intervals import jackknife
from transect.measures.registry import find
from transect.models import sites
from transect.results.table import Table
from transect.studies.compare.arms import Arm

Row = dict[str, Any]


def with_drift(rows: Iterable[Row], arms: dict[str, Arm]) -> list[Row]:
    """Rows with `drift`, its interval and replicates: 1 − value of a similarity, value of a distance; and the
    arm."""
    out = []
    for row in rows:
        similar = find(row["measure"]).itself == 1
        value = math.nan if row.get("value") is None else row["value"]
        replicates = np.array([math.nan if v is None else v for v in row.get("replicates") or []], float)
        drift, replicates = (1 - value, 1 - replicates) if similar else (value, replicates)
        ends = [math.nan if row.get(k) is None else row[k] for k in ("low", "high")]
        low, high = (1 - ends[1], 1 - ends[0]) if similar else ends
        if similar and not low > 0 and drift > 0 and len(replicates) > 1 and (replicates > 0).all():
            low, high = jackknife(drift, replicates, scale="log")  # a drift lives above 0
        arm = arms[row["run2"]]
        record = {"drift": drift, "drift_low": low, "drift_high": high, "again": replicates.tolist()}
        out.append(
            row | record | {"series": arm.series, "role": arm.role, "method": arm.method, "task": arm.task}
        )
    return out


def ranking(rows: Sequence[Row], top: int = 3) -> list[Row]:
    """Layers of each run and measure by drift, and the share of leave-one-out replicates that put them in the
    top."""
    out = []
    for group in _grouped(rows, ("run2", "measure", "token", "normalise")).values():
        known = [r for r in group if math.isfinite(r["drift"])]
        if not known:
            continue
        replicates = np.array([r["again"] for r in known], float)
        places = (-replicates).argsort(axis=0).argsort(axis=0)
        order = np.argsort([-r["drift"] for r in known])
        for place, k in enumerate(order):
            row = known[k]
            columns = ("measure", "site", "site2", "token", "normalise", "design", "n", "n_texts", "series")
            record = {c: row.get(c) for c in columns}
            record |= {
                "run": row["run2"],
                "value": row["drift"],
                "low": row["drift_low"],
                "high": row["drift_high"],
            }
            record |= {
                "rank": place + 1,
                f"top{top}": float((places[k] < top).mean()),
                "status": row["status"],
            }
            out.append(record)
    return out


def entering(rows: Sequence[Row]) -> list[Row]:
    """How much the drift of each run grows across each block (`site` to `site2`), as rows of drift: where
    change enters, not where it has piled up. Intervals are of the difference of neighbouring layers."""
    out = []
    keys = ("run2", "measure", "token", "normalise")
    for group in _grouped([r for r in rows if sites.family(r["site"]) == "resid"], keys).values():
        known = sorted((r for r in group if math.isfinite(r["drift"])), key=lambda r: sites.order(r["site"]))
        for before, after in itertools.pairwise(known):
            step = after["drift"] - before["drift"]
            replicates = np.array(after["again"]) - np.array(before["again"])
            low, high = jackknife(step, replicates)
            record = {"drift": step, "drift_low": low, "drift_high": high, "again": replicates.tolist()}
            out.append({**after, **record, "site": before["site"], "site2": after["site"]})
    return out


def curves(rows: Sequence[Row]) -> list[Row]:
    """Mean drift of the runs of one series (seeds) at each layer, its interval by text, and the range over
    seeds."""
    out = []
    for group in _grouped(rows, ("series", "role", "measure", "site", "token", "normalise")).values():
        out.append(_mean(group, site=group[0]["site"]) | {"status": _status(group)})
    return out


def means(rows: Sequence[Row], by: str = "run2") -> list[Row]:
    """Drift averaged over layers, for each run (or series) and measure."""
    out = []
    for group in _grouped(rows, (by, "measure", "token", "normalise")).values():
        blocks = [r for r in group if sites.layer(r["site"]) != 0]
        if blocks:
            top = max(blocks, key=lambda r: r["drift"] if math.isfinite(r["drift"]) else -math.inf)
            record = {
                "layers": len({r["site"] for r in blocks}),
                "largest_at": top["site"],
                "largest": top["drift"],
            }
            out.append(_mean(blocks) | record | {"status": _status(blocks)})
    return out


def _mean(group: Sequence[Row], **more: Any) -> Row:
    known = [r for r in group if math.isfinite(r["drift"])]
    replicates = np.array([r["again"] for r in known], float).mean(axis=0) if known else []
    value = float(np.mean([r["drift"] for r in known])) if known else math.nan
    low, high = jackknife(value, replicates, scale="log")
    first = group[0]
    record = {
        k: first[k]
        for k in (
            "measure",
            "token",
            "normalise",
            "design",
            "n",
            "n_texts",
            "series",
            "role",
            "method",
            "task",
        )
    }
    runs = list(dict.fromkeys(r["run2"] for r in group))
    per_run = [float(np.mean([r["drift"] for r in known if r["run2"] == run] or [math.nan])) for run in runs]
    null = [r["null"] for r in group if r.get("null") is not None and math.isfinite(r["null"])]
    if null and find(first["measure"]).itself == 1:
        null = [1 - v for v in null]
    record |= {
        "run": first["run"],
        "run2": runs[0] if len(runs) == 1 else f"{len(runs)} runs",
        "value": value,
    }
    record |= {
        "low": low,
        "high": high,
        "null": float(np.mean(null)) if null else math.nan,
        "runs": len(runs),
    }
    return record | {"seed_low": min(per_run), "seed_high": max(per_run)} | more


def _status(group: Sequence[Row]) -> str:
    return next((r["status"] for r in group if r["status"] != "ok"), "ok")


def difference(cross: Table, within: Table, run: str) -> list[Row]:
    """Cross-model value less the base's own value for every pair of layers, with the interval of the
    difference."""
    baseline: dict[tuple[str, str], Row] = {}
    for row in within:
        baseline[row["site"], row["site2"]] = baseline[row["site2"], row["site"]] = row
    out = []
    for row in cross:
        base = baseline.get((row["site"], row["site2"]))
        if row["site"] == row["site2"]:
            value, replicates = 1.0, np.ones(len(row["replicates"] or []))
        elif base is None or base["value"] is None or not base["replicates"]:
            continue
        else:
            value, replicates = base["value"], np.array(base["replicates"], float)
        if row["value"] is None:
            continue
        gap = row["value"] - value
        low, high = jackknife(gap, np.array(row["replicates"], float) - replicates)
        record = {
            k: row[k] for k in ("measure", "site", "site2", "token", "normalise", "design", "n", "n_texts")
        }
        out.append(
            record
            | {
                "run": run,
                "panel": f"{run} × base − base",
                "kind": "difference",
                "value": gap,
                "low": low,
                "high": high,
                "status": "ok",
            }
        )
    return out


def relation(weights: Table, rows: Sequence[Row], arms: dict[str, Arm]) -> list[Row]:
    """Rank correlation over layers of the size of a run's own ΔW in a block with how much its drift grows
    across it.

    A description, without a p: layers are not independent.
    """
    from scipy.stats import spearmanr

    known = weights.where(measure="relative_norm_of_layer", status="ok")
    out = []
    for (run, measure), group in _grouped(
        [r for r in rows if r["normalise"] == "raw"], ("run2", "measure")
    ).items():
        mine = known.where(run=arms[run].folder)
        sizes: dict[int, float] = dict(
            zip(mine.column("layer").tolist(), mine.column("value").tolist(), strict=True)
        )
        at = {sites.layer(r["site"]) or 0: r["drift"] for r in group}
        pairs = [(size, at[k + 1] - at[k]) for k, size in sizes.items() if k in at and k + 1 in at]
        pairs = [p for p in pairs if all(map(math.isfinite, p))]
        if len(pairs) < 4 or len({p[1] for p in pairs}) < 2:
            continue
        correlation: Any = spearmanr(np.array(pairs))
        record = {
            "measure": "rank_correlation",
            "of": "ΔW",
            "with": measure,
            "run": run,
            "value": float(correlation.statistic),
        }
        out.append(record | {"n": len(pairs), "design": "over layers", "status": "ok"})
    return out


def _grouped(rows: Iterable[Row], names: Sequence[str]) -> dict[tuple[Any, ...], list[Row]]:
    out: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        out.setdefault(tuple(row[n] for n in names), []).append(row)
    return out
