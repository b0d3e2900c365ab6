"""The row that a cell becomes: value, interval, null, corrected value, p of its family, and a status that
says why not."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from transect.inference.calibration import marks
from transect.inference.evaluate import Cell, Job, Rig
from transect.inference.intervals import jackknife
from transect.inference.tests import max_t, permutation_p, studentised, untested
from transect.measures.contract import Measure
from transect.store.store import Store


def row_of(
    m: Measure, job: Job, stores: Sequence[Store], rig: Rig, cell: Cell, results: dict[Cell, Any]
) -> dict[str, Any]:
    """One row from a cell's answer."""
    outcome = results[cell][m.name]
    full = outcome["full"][0]
    left, right = cell[0], cell[-1] if len(cell) == 2 else None
    d = rig.draws[left[0]]
    row: dict[str, Any] = {
        "measure": m.name,
        "run": stores[left[0]].name,
        "run2": stores[right[0]].name if right else None,
        "site": left[1],
        "site2": right[1] if right else None,
        "token": str(job.tokens),
        "position0": "kept" if job.position0 else "dropped",
        "normalise": job.normalise,
        "pca": job.pca,
        "massive": "dropped" if job.left_out else "kept",
        "massive_dropped": len(job.left_out[left[0]]) if job.left_out else 0,
        "design": job.design,
        "estimand": m.estimates,
        "n": d.n,
        "n_texts": len(d.texts),
        "tokens_a_text": d.k,
        "control": _control(m, job),
        "draws": job.permutations or job.swaps,
        "seed": job.seed,
        "status": "ok",
        **aligned_of([stores[left[0]], *([stores[right[0]]] if right else [])]),
        **job.options[m.name],
    }
    if isinstance(full, dict):
        return row | {"status": full["error"]}
    if m.fields:
        row |= {f"{m.name}_{name}": value for name, value in zip(m.fields, full, strict=True)}
    if why := _unsolved(m, full):
        return row | {"status": why}
    value = _headline(m, full)
    row["value"] = value
    splits = [results[s][m.name] for s in _splits(job, cell)]
    row |= _judged(m, job, value, outcome, splits)
    row["calibration"] = marks(row, m.name)
    if not math.isfinite(value):
        row["status"] = "undefined: the measure is NaN on these points"
    elif lost := _lost(m, outcome, splits):
        row |= dict.fromkeys(("corrected", "corrected_low", "corrected_high"), math.nan) | {"status": lost}
    return row


def aligned_of(stores: Sequence[Store]) -> dict[str, Any]:
    """How runs of other tokenizers were aligned, and the least share of their points that was; {} where they
    were not."""
    alignments = [s.manifest["aligned"] for s in stores if isinstance(s.manifest.get("aligned"), dict)]
    return (
        {"aligned": alignments[0]["how"], "aligned_share": min(t["share"] for t in alignments)}
        if alignments
        else {}
    )


def _unsolved(m: Measure, outcome: Any) -> str:
    """Why an answer is no number: the error, or the solver that did not end; "" for a number."""
    if isinstance(outcome, dict):
        return outcome["error"]
    if "converged" not in m.fields or outcome[m.fields.index("converged")]:
        return ""
    error = next(v for k, v in zip(m.fields, outcome, strict=True) if k in ("error", "marginal_error"))
    return f"not converged: marginal error {error:.1e}"


def _lost(m: Measure, outcomes: dict[str, list], splits: list[dict[str, list]]) -> str:
    """What of a value's null and interval could not be had; "" where all is there."""
    nulls = [r for s in splits for r in s["full"]] + outcomes.get("null", []) + outcomes.get("swap", [])
    drops = [r for s in splits for r in s["drop"]] + outcomes.get("drop", [])
    for what, several in (("null", nulls), ("interval", drops)):
        if failed := [why for r in several if (why := _unsolved(m, r))]:
            return f"no {what}: {len(failed)} of {len(several)} replicates failed ({failed[0]})"
    return ""


def _control(m: Measure, job: Job) -> str:
    """What the null is, in words."""
    if m.paired:
        return "permuted texts" if job.null == "texts" else "tokens permuted within texts"
    return "texts swapped" if job.swaps else "none" if job.design == "paired" else m.control


def _splits(job: Job, cell: Cell) -> list[Cell]:
    """The same-site cells whose mean is a disjoint pair's null."""
    if not job.halved:
        return []
    return [((run, site, "a"), (run, site, "b")) for run, site, _ in cell]


def _judged(
    m: Measure, job: Job, value: float, outcomes: dict[str, list], splits: list[dict[str, list]]
) -> dict[str, Any]:
    """Interval, null and corrected value of one cell. What belongs to a family, p, is added by `family_p`."""
    drops = np.array([_headline(m, r) for r in outcomes.get("drop", [])])
    result: dict[str, Any] = dict(zip(("low", "high"), jackknife(value, drops, scale=m.scale), strict=True))
    result["replicates"] = drops.tolist()
    null, null_drops, extra = math.nan, np.full((len(drops), 1), math.nan), 0.0
    if splits:
        null, floor = _floor(m, splits, "full")[0], _floor(m, splits, "drop")
        null_drops = floor[:, None]
        result |= {
            f"null_{k}": _headline(m, s["full"][0]) for k, s in zip(("site", "site2"), splits, strict=True)
        }
        result |= dict(zip(("null_low", "null_high"), jackknife(null, floor, scale=m.scale), strict=True))
    elif outcomes.get("null"):
        draws = np.array([_headline(m, r) for r in outcomes["null"]])
        known = draws[np.isfinite(draws)]
        null = float(known.mean()) if len(known) else math.nan
        null_drops = null + _moves(m, draws, outcomes.get("null drop", []), len(drops))
        extra = float(known.var(ddof=1) / len(known)) if len(known) > 1 else 0.0
        low, high = np.quantile(known, [0.025, 0.975]) if len(known) else (math.nan, math.nan)
        result |= {"null_low": float(low), "null_high": float(high), "null_draws": draws.tolist()}
    if outcomes.get("swap"):
        result["null_draws"] = [_headline(m, r) for r in outcomes["swap"]]
    result |= {"null": float(null), "corrected": corrected(m, value, null)}
    replicates = [[corrected(m, v, b) for b in row] for v, row in zip(drops, null_drops, strict=True)]
    result["corrected_replicates"] = replicates = quieted(np.array(replicates)).tolist()
    bounds = jackknife(result["corrected"], replicates, more=extra, scale=_corrected_scale(m))
    result |= dict(zip(("corrected_low", "corrected_high"), bounds, strict=True))
    if outcomes.get("half"):
        halves = np.array([_headline(m, r) for r in outcomes["half"]])
        floor = _floor(m, splits, "half") if splits else np.full(len(halves), null)
        bare = not np.isfinite(null)  # a number without a null is resampled as it stands
        result["halves"] = [
            v if bare else corrected(m, v, b) for v, b in zip(halves.tolist(), floor, strict=True)
        ]
    return result


def _moves(m: Measure, draws: np.ndarray, redrawn: list[Any], groups: int) -> np.ndarray:
    """How far the null moves when each group of texts is left out, by each of the first draws, [groups,
    draws]."""
    if not redrawn:
        return np.zeros((groups, 1))
    moved = np.array([_headline(m, r) for r in redrawn]).reshape(groups, -1)
    return moved - draws[: moved.shape[1]]


def quieted(replicates: np.ndarray) -> np.ndarray:
    """Leave-one-group-out values [groups] from those by each draw of the null [groups, draws].

    Few draws scatter, and a jackknife multiplies that by the number of groups: the means over draws are drawn
    together until their variance is what it is beyond the scatter (groups × draws, no interaction), and at
    most to half of their distances.
    """
    means, (G, K) = replicates.mean(axis=1), replicates.shape
    if K < 2 or G < 3 or not np.isfinite(replicates).all():
        return means
    rest = replicates - means[:, None] - replicates.mean(axis=0) + replicates.mean()
    scatter, all_of_it = (rest**2).sum() / ((G - 1) * (K - 1) * K), means.var(ddof=1)
    kept = np.sqrt(max(0.25, 1 - scatter / all_of_it)) if all_of_it > 0 else 1.0
    return means.mean() + kept * (means - means.mean())


def _floor(m: Measure, splits: list[dict[str, list]], kind: str) -> np.ndarray:
    """The split-half null of a pair: the mean over its two sites, for the value and for every replicate."""
    return np.mean([[_headline(m, r) for r in s[kind]] for s in splits], axis=0)


def _corrected_scale(m: Measure) -> str:
    """A similarity beyond its null still ends at 1; an excess of distances may have either sign."""
    return "fisher" if m.itself == 1 else "identity"


def corrected(m: Measure, value: float, null: float) -> float:
    """Excess over the null: value − null for distances and for measures of one cloud; (value − null)/(1 −
    null) for similarities, where 1 is the value on itself; null − value for a paired distance, whose null
    lies above it."""
    if m.itself == 1:
        return (value - null) / (1 - null) if null < 1 else math.nan
    return null - value if m.itself == 0 and m.paired else value - null


def family_p(m: Measure, job: Job, rows: list[dict[str, Any]]) -> None:
    """p of every row over the family of rows (max-T of studentised values), p_cell of the row alone.

    Measures of one cloud have references beside them and no tests. Below 19 draws no p can reach 0.05, so
    there is none; the column `untested` says how many draws would give one.
    """
    if not (m.paired or job.swaps or "y" in m.data):
        return
    side = "two" if m.itself is None else "greater"
    if m.paired and m.itself == 0:
        side = "less"
    known = [r for r in rows if r["status"] == "ok" and np.isfinite(r.get("null_draws") or [math.nan]).all()]
    if not known:
        return
    # a swap of all texts but these is the same, as distances are symmetric
    ways = 2.0 ** (known[0]["n_texts"] - 1) if job.swaps else math.inf
    if why := untested(len(known[0]["null_draws"]), ways=ways):
        for r in known:
            r["untested"] = why
        return
    for r in known:
        r["p_cell"] = permutation_p(r["value"], r["null_draws"], side)
    values = np.array([r["value"] for r in known])
    z, null = studentised(values, np.array([r["null_draws"] for r in known]).T, side)
    for r, p in zip(known, max_t(z, null), strict=True):
        r |= {"p": float(p), "family": len(known)}


def _headline(m: Measure, outcome: Any) -> float:
    if isinstance(outcome, dict):
        return math.nan
    return float(outcome[m.fields.index(m.headline)] if m.fields else outcome)
