"""Change layers of a run: steps out of line with their neighbours (jumps), and boundaries of the all-pairs
matrix (blocks).

Both come from the excess of clouds of different texts. With control runs, a jump is also tested in the
difference of the two curves, so that what the architecture does by itself is no finding.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from transect.errors import TransectError
from transect.inference.intervals import spread
from transect.models import sites
from transect.numeric.change_points import blocks, jumps
from transect.results.table import Table


def changes(adjacent: Table, pairs: Table, measure: str, control_names: Sequence[str]) -> Table:
    """Jumps and blocks of every run, raw and unit-norm; a run and kind without any is a row that says so."""
    rows: list[dict[str, Any]] = []
    for run in adjacent.values("run"):
        for how in adjacent.values("normalise"):
            curve = adjacent.where(run=run, measure=measure, design="disjoint", normalise=how)
            if not len(curve):
                continue
            base = {"measure": measure, "run": run, "normalise": how, "design": "disjoint"}
            base |= {"n": int(curve.column("n")[0]), "n_texts": int(curve.column("n_texts")[0])}
            rivals = [] if run in control_names else list(control_names)
            controls = [
                adjacent.where(run=c, measure=measure, design="disjoint", normalise=how) for c in rivals
            ]
            rows += _jumps(base, curve, [c for c in controls if len(c) == len(curve)])
            matrix = pairs.where(run=run, measure=measure, normalise=how)
            rows += _blocks(base, matrix) if len(matrix) else []
    return Table(rows, adjacent.provenance)


def _errors(part: Table) -> np.ndarray:
    """Standard error of the excess of every row, from the groups left out."""
    return np.array([spread(r["corrected_replicates"] or []) for r in part])


def _halves(part: Table) -> list[np.ndarray]:
    """The curve of every half-sample of texts."""
    kept = [h for h in part.column("halves") if h is not None] if "halves" in part.columns else []
    curves = [np.array(h, float) for h in zip(*kept, strict=True)] if len(kept) == len(part) else []
    return [h for h in curves if np.isfinite(h).all()]


def _jumps(base: dict[str, Any], curve: Table, controls: Sequence[Table]) -> list[dict[str, Any]]:
    base = base | {"kind": "jump"}
    values, errors, halves = curve.column("corrected"), _errors(curve), _halves(curve)
    try:
        steps = jumps(values, errors, halves)
        beyond = [
            jumps(values, errors, reference=c.column("corrected"), reference_errors=_errors(c))
            for c in controls
        ]
    except TransectError as error:
        return [base | {"status": str(error)}]
    rows = [
        base
        | {"site": str(curve.column("site")[j.index]), "site2": str(curve.column("site2")[j.index])}
        | {"value": j.size, "z": j.z, "support": j.support, "resamples": len(halves), "status": "ok"}
        | {
            "beyond_control": all(any(j.index == other.index for other in b) for b in beyond)
            if beyond
            else None
        }
        for j in steps
        if j.size > 0  # a step smaller than its neighbours is no sudden change
    ]
    return rows or [base | {"status": "none found", "resamples": len(halves)}]


def _blocks(base: dict[str, Any], matrix: Table) -> list[dict[str, Any]]:
    base = base | {"kind": "block"}
    names = sorted({*matrix.column("site"), *matrix.column("site2")}, key=sites.order)
    at = {s: k for k, s in enumerate(names)}

    def square(column: list[Any]) -> np.ndarray:
        out = np.zeros((len(names), len(names)))
        for row, value in zip(matrix, column, strict=True):
            i, j = at[row["site"]], at[row["site2"]]
            out[i, j] = out[j, i] = np.nan if value is None else value
        return out

    kept = [r.get("halves") for r in matrix]
    draws = list(zip(*kept, strict=True)) if all(kept) else []
    resampled = [square(list(d)) for d in draws if all(v is not None for v in d)]
    try:
        steps = blocks(square([r["corrected"] for r in matrix]), resampled)
    except TransectError as error:
        return [base | {"status": str(error)}]
    rows = [
        base
        | {
            "site": names[b.index - 1],
            "site2": names[b.index],
            "value": b.size,
            "z": b.z,
            "support": b.support,
        }
        | {"resamples": len(resampled), "status": "ok"}
        for b in steps
    ]
    return rows or [base | {"status": "none found", "resamples": len(resampled)}]
