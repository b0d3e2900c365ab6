"""Tokens that rule a statistic: too few to matter, too large to ignore, and below the limit at which massive
tokens are dropped.

A statistic of second moments (CKA, effective rank, transport) is theirs alone. Studies show their numbers
with these tokens and without them.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from transect.inference.design import Design
from transect.inference.evaluate import massive_tokens
from transect.inference.sweep import sites_of_runs
from transect.numeric.norms import ordinary
from transect.store.store import Store

#: Norms from here on, in medians, are dropped where a statistic is shown without such tokens.
MODERATE = 3.0
#: They rule when they hold more than this share of the variance …
HELD = 0.5
#: … and are fewer than this share of the tokens.
FEW = 0.1


def ruling_tokens(stores: Sequence[Store], design: Design) -> list[dict[str, Any]]:
    """A row for every run and site where a few tokens hold most of the variance of the raw points.

    value: their share of the variance about the mean, 0 to 1; count of n tokens; the commonest of them.
    Tokens that the design drops as massive are not among them.
    """
    if design.tokens == "mean":
        return []
    rows, unpooled = [], [s for s in stores if not s.manifest["pool"]]
    if not unpooled:
        return []
    every = sites_of_runs(unpooled, design.sites)
    selections = [s.select(design.tokens, design.position0) for s in unpooled]
    if design.massive:
        gone = massive_tokens(unpooled, every, selections, design.massive)
        left = (np.setdiff1d(np.arange(len(s)), g) for s, g in zip(selections, gone, strict=True))
        selections = [s.subset(kept) for s, kept in zip(selections, left, strict=True)]
    for store, names, selection in zip(unpooled, every, selections, strict=True):
        for site in names:
            X = store.take(site, selection).astype(np.float64)
            norms = np.linalg.norm(X, axis=1)
            energy = ((X - X.mean(axis=0)) ** 2).sum(axis=1)
            rare = ~ordinary(norms[None], MODERATE)
            held = float(energy[rare].sum() / energy.sum()) if energy.sum() > 0 else 0.0
            if held > HELD and rare.mean() < FEW:
                at = np.flatnonzero(rare)
                pieces = Counter(
                    store.tokens(int(selection.texts[k]))[int(selection.position[k])] for k in at
                )
                row = {"run": store.name, "site": site, "measure": "variance_share", "value": held}
                row |= {"count": len(at), "n": len(norms), "token": pieces.most_common(1)[0][0]}
                rows.append(row | {"normalise": "raw", "design": "single", "status": "ok"})
    return rows


def ruled(
    ruling: Sequence[dict[str, Any]], kept: Sequence[dict[str, Any]], dropped: Sequence[dict[str, Any]]
) -> list[str]:
    """Sentences on cells whose value without the ruling tokens lies outside of its interval with them.

    Args:
        ruling: Rows of `ruling_tokens`.
        kept: Rows of cells as they are measured.
        dropped: The same cells without tokens above `MODERATE` × the median norm.
    """
    keys = ("measure", "run", "run2", "site", "site2", "design", "normalise")
    without = {tuple(r.get(k) for k in keys): r for r in dropped if r["status"] == "ok"}
    rows = []
    for row in ruling:
        sites = [
            (r, without[key])
            for r in kept
            if r["status"] == "ok" and row["site"] in (r["site"], r.get("site2"))
            if row["run"] in (r["run"], r.get("run2")) and (key := tuple(r.get(k) for k in keys)) in without
        ]
        moved = [(r, w) for r, w in sites if _outside(w["value"], r)]
        if not moved:
            continue
        first, other = max(
            moved, key=lambda p: abs(p[0]["value"] - p[1]["value"]) / (abs(p[0]["value"]) + 1e-12)
        )
        pair = f"{first['site']} → {first['site2']}" if first.get("site2") else first["site"]
        rows.append(
            f"{row['run']}: at {row['site']} {row['count']} of {row['n']} tokens above {MODERATE:g} × the "
            f"median norm (most often {row['token']!r}) hold {row['value']:.0%} of the variance: "
            f"{first['measure']} of {pair} is {first['value']:.4g} with them and {other['value']:.4g} "
            "without (raw points)."
        )
    return rows


def _outside(value: float, row: dict[str, Any]) -> bool:
    low, high = (np.nan if row.get(k) is None else float(row[k]) for k in ("low", "high"))
    return bool(value < low or value > high)
