"""What a study that was not computed would cost: from the sizes of a store and the rates of
docs/benchmarks.md.

Orders of magnitude on one core, rounded to one digit, never a promise; the command stands beside each.
"""

import math
from typing import Any

#: CPU seconds per unit of work on one core of an ordinary server, from the benches and one run of each study.
RATE = {
    "sinkhorn": 4.3e-10,  # × n² × d, for each divergence
    "correlation": 4.0e-11,  # × tokens × width², twice (control)
    "layout": 2.5e-6,  # × width²
    "smds": 4.0e-9,  # × cells × folds × min(n, d)² × max(n, d) ÷ 100
}

#: (CPU seconds or None, what they are of or what is lacking, what to do about it).
Cost = tuple[float | None, str, str]
RESID = ("needs the residual stream", "capture with --sites resid")


def estimates(stores: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for every store and study: CPU seconds, the command to type, or why it cannot be."""
    return [_row(store, name) for store in stores for name in ("drift", "manifold", "neurons", "compare")]


def _row(store: dict[str, Any], study: str) -> dict[str, Any]:
    seconds, why, fix = COST[study](store, stores_families(store))
    words = {
        "drift": f"transect drift {store['path']} --out {store['path']}-drift",
        "manifold": f"transect manifold {store['path']} --label {next(iter(store['labels']), 'LABEL')}",
        "neurons": f"transect neurons map {store['path']} --out {store['path']}-neurons",
        "compare": f"transect compare {store['path']} OTHER --out {store['path']}-compare",
    }
    return {
        "store": store["id"],
        "study": study,
        "seconds": _rounded(seconds),
        "why": why,
        "fix": fix,
        "command": words[study],
    }


def stores_families(store: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """family → (sites, width)."""
    return {name: (told["sites"], told["width"]) for name, told in store["families"].items()}


def _drift(store: dict[str, Any], families: dict[str, tuple[int, int]]) -> Cost:
    if "resid" not in families:
        return None, *RESID
    layers, width = families["resid"]
    n = min(1000, store["rows"] // 2)
    every = layers * (layers - 1) * 11  # pairs, raw and unit-norm, each with ten groups left out
    adjacent = layers * 2 * 45  # with groups, half-samples and their nulls
    return 1.5 * RATE["sinkhorn"] * (every + adjacent) * n**2 * width, f"{layers} layers, n = {n}", ""


def _manifold(store: dict[str, Any], families: dict[str, tuple[int, int]]) -> Cost:
    if not store["labels"]:
        return None, "needs texts with labels", "use texts with a column of labels"
    if "resid" not in families:
        return None, *RESID
    layers, width = families["resid"]
    n, cells = store["texts_held"], layers * min(40, store["rows"] // max(1, store["texts_held"]))
    small, large = sorted((n, width))
    return RATE["smds"] * cells * 9 * small**2 * large / 100 + cells * 0.05, f"{cells} cells, {n} texts", ""


def _neurons(store: dict[str, Any], families: dict[str, tuple[int, int]]) -> Cost:
    family = next((f for f in ("mlp.act", "attn.head") if f in families), None)
    if family is None:
        return None, "needs neurons", "capture with --sites mlp.act"
    blocks, width = families[family]
    once = RATE["correlation"] * store["rows"] * width**2 * 2 + RATE["layout"] * width**2 * 4
    return blocks * once, f"{blocks} blocks of {width} neurons ({family})", ""


def _compare(store: dict[str, Any], families: dict[str, tuple[int, int]]) -> Cost:
    if "resid" not in families:
        return None, *RESID
    layers, width = families["resid"]
    n = min(500, store["rows"] // 2)
    divergences = layers * 2 * 2 * 11  # Sinkhorn and Bures, raw and unit-norm, each with groups left out
    seconds = RATE["sinkhorn"] * divergences * n**2 * width + layers**2 * n**2 * 4e-9 * 12
    return seconds, "for each further run", ""


COST = {"drift": _drift, "manifold": _manifold, "neurons": _neurons, "compare": _compare}


def _rounded(seconds: float | None) -> float | None:
    if seconds is None:
        return None
    step = 10 ** math.floor(math.log10(max(seconds, 1)))
    return float(max(1, round(seconds / step) * step))
