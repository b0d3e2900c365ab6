"""How far arms are apart in loss: pairs of runs on the same held-out documents, with an interval by
documents, and over seeds where there are three or more."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from transect.results.table import Table
from transect.studies.tokens.contrasts import combined, contrasts
from transect.studies.tokens.runs import Arm


def losses(arms: Sequence[Arm]) -> Table:
    """B − A of every contrast: loss in nats a token; in bits a byte where the tokenizers differ.

    Pairs are matched by groups of whole documents. Columns: contrast, value, low, high, unit, part (of the
    data that judged), pairs, seeds, basis, status; a pair that cannot be compared is a row that says why.
    """
    of = {a.name: a for a in arms}
    rows: list[dict[str, Any]] = []
    for contrast, pairs in contrasts(arms):
        by_seed: dict[Any, list[list[dict[str, Any]]]] = {}
        units, reasons = set(), []
        for a, b in pairs:
            gap = gap_of(of[a].judged, of[b].judged)
            if isinstance(gap, str):
                reasons.append(gap)
                continue
            units.add(gap.pop("unit"))
            by_seed.setdefault(of[a].seed, []).append([gap])
        base = {"measure": "loss", "contrast": contrast}
        if reasons or len(units) != 1:
            rows.append(base | {"status": reasons[0] if reasons else "pairs in different units"})
            continue
        row = combined(by_seed)[0]
        record = {
            k: row[k] for k in ("value", "low", "high", "seed_low", "seed_high", "seeds", "pairs", "basis")
        }
        part = (of[pairs[0][0]].judged or {}).get("judged") or "test"
        rows.append(base | record | {"unit": units.pop(), "part": part, "status": "ok"})
    return Table(rows)


def gap_of(a: dict[str, Any] | None, b: dict[str, Any] | None) -> dict[str, Any] | str:
    """B − A with its leave-one-group-out values, or why there is none."""
    if a is None or b is None:
        return "a run without a final evaluation"
    if a.get("task") != b.get("task") or (a.get("judged") or "test") != (b.get("judged") or "test"):
        return "judged on different texts"
    left, right = (side.get("groups") or {} for side in (a, b))
    if not left or not right or len(left["nats"]) != len(right["nats"]):
        return "sums by document were not kept: train again"
    counts, unit = [np.array(left["tokens"]), np.array(right["tokens"])], "nats a token"
    scale = 1.0
    if a.get("data_fingerprint") != b.get("data_fingerprint"):
        if not left.get("bytes") or left["bytes"] != right.get("bytes"):
            return "different tokenizers, and bytes by document were not kept"
        counts, unit, scale = [np.array(left["bytes"], float)] * 2, "bits a byte", math.log(2)
    nats = [np.array(side["nats"]) / scale for side in (left, right)]
    rates = [n.sum() / c.sum() for n, c in zip(nats, counts, strict=True)]
    without = [(n.sum() - n) / (c.sum() - c) for n, c in zip(nats, counts, strict=True)]
    return {
        "site": "loss",
        "layer": None,
        "depth": None,
        "measure": "loss",
        "value": float(rates[1] - rates[0]),
        "replicates": without[1] - without[0],
        "unit": unit,
    }
