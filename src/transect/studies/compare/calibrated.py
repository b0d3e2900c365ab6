"""How alike two models are at their best pair of layers, judged by the best of as many pairs by chance.

The largest of many similarities is large whatever the models are. Every permutation of whole texts permutes
all pairs of layers at once, and gives one largest value: value and chance choose in the same way.
Source: Gröger et al. 2026, arXiv:2602.14486, with texts as units.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from transect.errors import TransectError
from transect.inference.intervals import jackknife
from transect.inference.tests import LEVEL, permutation_p
from transect.models import sites as names_of
from transect.results.table import Table
from transect.store.align import align
from transect.store.store import Store

Row = dict[str, Any]
#: Permutations of whole texts behind a calibrated score.
DRAWS = 200


def aligned_runs(
    roles: Sequence[tuple[str, Store]], how: str, out: str | Path | None, sites: str, least: float
) -> list[tuple[str, Store]]:
    """The runs of a comparison, cut to the points that all of them have; stores in OUT/aligned."""
    if out is None:
        raise TransectError("align writes stores of its own.", "Give out=FOLDER.")
    alignment = align([s for _, s in roles], Path(out) / "aligned", how, names_of.asked(sites), least)
    return [(role, store) for (role, _), store in zip(roles, alignment, strict=True)]


def calibrated(values: np.ndarray, null: np.ndarray) -> tuple[float, float, float]:
    """(score, threshold, p) of the largest of some similarities.

    The score is 0 at or below the threshold, the 95 % point of the largest similarity by chance, and 1 at 1.

    Args:
        values: Similarities of pairs of layers, float [m]; NaN where there is none.
        null: The same under permutations, each of which permutes all pairs alike, float [B, m].
    """
    top = np.nanmax(np.where(np.isfinite(null), null, -math.inf), axis=1)
    largest = float(np.nanmax(values))
    both = np.sort(np.append(top, largest))  # under the null the observed value is one of the draws
    threshold = float(both[math.ceil((1 - LEVEL) * len(both)) - 1])
    score = max(0.0, (largest - threshold) / (1 - threshold)) if threshold < 1 else 0.0
    return score, threshold, permutation_p(largest, top)


def calibrated_row(cross: Table) -> Row:
    """One row from the layer × layer table of two runs: the best pair, its value with the interval of the
    largest, what is largest by chance, and the calibrated score."""
    known = [r for r in cross if r["value"] is not None and r.get("null_draws")]
    if not known:
        first = next(iter(cross))
        kept = {k: first.get(k) for k in ("measure", "run", "run2", "token", "n", "n_texts")}
        return kept | {"status": f"not computed: {first['status']}"}
    values = np.array([r["value"] for r in known])
    null = np.array([[math.nan if v is None else v for v in r["null_draws"]] for r in known], float).T
    score, threshold, p = calibrated(values, null)
    best = known[int(values.argmax())]
    low, high = jackknife(float(values.max()), np.array([r["replicates"] for r in known], float).max(axis=0))
    names = ("measure", "run", "run2", "site", "site2", "token", "position0", "normalise", "design", "n")
    row = {k: best.get(k) for k in (*names, "n_texts", "seed", "aligned", "aligned_share")}
    top = null.max(axis=1)
    row |= {"value": float(values.max()), "low": low, "high": high, "null": float(np.nanmean(top))}
    row |= {"null_high": threshold, "calibrated": score, "p": p, "draws": len(null), "pairs": len(known)}
    return row | {"control": "largest over all pairs, permuted texts", "status": "ok"}


def sentence(row: Row) -> str:
    """What a calibrated score says."""
    if row["status"] != "ok":
        return f"{row['run2']}: no calibrated score, {row['status']}."
    verdict = "more than" if row["p"] <= LEVEL else "no more than"
    return (
        f"{row['run']} and {row['run2']} are most alike at {row['site']} and {row['site2']}: "
        f"{row['measure']} {row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}], {verdict} the largest "
        f"of {row['pairs']} pairs by chance (95 % point {row['null_high']:.3f}, p = {row['p']:.3g}, "
        f"{row['draws']} permutations of whole texts); calibrated score "
        f"{row['calibrated']:.3f}. Aligned by {row['aligned']}: "
        f"{row['aligned_share']:.0%} of the points of the run with fewest."
    )
