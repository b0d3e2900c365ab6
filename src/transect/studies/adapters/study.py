"""What an adapter or a full fine-tune did to the weights: size, spectrum and direction of ΔW.

ΔW is what merging would add to the base's weight W, whatever the adapter's initialisation and whatever it
changes; or W − W_base of a full fine-tune. How it is found stands in `changes.py`. Only safetensors are read.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from transect.errors import TransectError
from transect.files import read_json
from transect.results.study import Figure, Study
from transect.results.table import Table
from transect.studies.adapters.changes import Change, adapter_changes, base_weights, full_changes

LAYER = re.compile(r"(?:^|\.)(?:layers?|h|block|blocks)\.(\d+)\.")
#: Draws of the random-direction control.
DRAWS = 20


def adapters(
    folder: str | Path,
    base: str,
    *,
    full: str | None = None,
    top: int = 16,
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> Study:
    """The study of a LoRA adapter's ΔW on `base`, beside a full fine-tune's where `full` names one.

    Tables: modules (a row per module, measure and run), layers (‖ΔW‖ / ‖W‖ over all adapted modules of a
    block), spectra. top: how many leading singular directions of W the energy share counts, beside random
    directions.
    """
    folder = Path(folder)
    config = read_json(folder / "adapter_config.json", "adapter", "Give the folder that peft wrote.")
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        kind = config.get("peft_type") if isinstance(config, dict) else None
        raise TransectError(f"{folder} is {kind}.", "Only LoRA and its kin have a ΔW here.")
    changes, warnings = adapter_changes(folder, config, base)
    if not changes:
        raise TransectError(
            f"{folder} changes no weight of {base}.", "Give the folder that transect finetune wrote."
        )
    runs = {folder.name: changes}
    if full:
        runs[Path(full).name] = list(full_changes(full, [c.name for c in changes], base_weights(base)))
    rows, spectra, total = [], [], sum(map(len, runs.values()))
    for run, changes in runs.items():
        for change in changes:
            rows += _rows(run, change, top, seed)
            spectra += _spectrum(run, change)
            if progress:
                progress("modules", len({(r["run"], r["site"]) for r in rows}), total)
    study = Study("adapters", "What did training do to the weights, and in which directions?", {})
    study.tables = {"modules": Table(rows), "layers": Table(_layers(rows)), "spectra": Table(spectra)}
    study.provenance = {"base": base, "adapter": config, "full": full, "top": top, "seed": seed}
    study.warnings += warnings
    _describe(study, list(runs), base, config, top)
    return study


def energy(change: Change, axes: np.ndarray) -> float:
    """Share of ‖ΔW‖² whose rows lie in the span of `axes` [k, n], 0 to 1."""
    total = float((change.values**2).sum())
    inside = ((change.values[:, None] * (change.right @ axes.T)) ** 2).sum()
    return float(inside / total) if total > 0 else float("nan")


def _rows(run: str, change: Change, top: int, seed: int) -> list[dict[str, Any]]:
    s, W = change.values, change.weight.astype(np.float64)
    size, of_base = float(np.linalg.norm(s)), float(np.linalg.norm(W))
    base = _named(run, change) | {
        "design": "weights",
        "rank": change.rank,
        "norm": size,
        "base_norm": of_base,
    }
    values = {"relative_norm": size / of_base if of_base else float("nan")}
    status = "undefined: W is zero" if size else "undefined: ΔW is zero"
    k = min(top, min(W.shape) - 1)
    if k > 0:  # a matrix
        axes = np.linalg.svd(W, full_matrices=False)[2][:k]
        values |= {
            "stable_rank": float((s**2).sum() / s[0] ** 2) if size else float("nan"),
            "participation_ratio": float((s**2).sum() ** 2 / (s**4).sum()) if size else float("nan"),
            "energy_in_top": energy(change, axes),
        }
    rows = [
        base | {"measure": m, "value": v, "status": "ok" if v == v else status} for m, v in values.items()
    ]
    if k > 0 and size:
        rows[-1] |= _beside_random(change, k, values["energy_in_top"], seed)
    return rows


def _named(run: str, change: Change) -> dict[str, Any]:
    found = re.search(LAYER, change.name)
    module = change.name.removesuffix(".bias").rsplit(".", 1)[-1]
    return {"run": run, "site": change.name, "layer": int(found[1]) if found else -1, "module": module}


def _beside_random(change: Change, k: int, share: float, seed: int) -> dict[str, Any]:
    """The share of ‖ΔW‖² in the span of k random directions, and how often it reaches `share`."""
    rng, n = np.random.default_rng([seed, 6]), change.weight.shape[1]
    draws = [energy(change, np.linalg.qr(rng.standard_normal((n, k)))[0].T) for _ in range(DRAWS)]
    low, high = np.quantile(draws, [0.025, 0.975])
    return {
        "null": float(np.mean(draws)),
        "null_low": float(low),
        "null_high": float(high),
        "p": (1 + sum(d >= share for d in draws)) / (1 + len(draws)),
        "top": k,
        "control": "random directions",
    }


def _spectrum(run: str, change: Change, most: int = 64) -> list[dict[str, Any]]:
    if change.weight.shape[1] == 1:  # a vector has one
        return []
    base = _named(run, change)
    first = change.values[0] if change.values[0] > 0 else float("nan")
    keep = change.values[: change.rank or most]
    return [
        base
        | {
            "measure": "singular_value",
            "index": k + 1,
            "value": float(v / first),
            "absolute": float(v),
            "status": "ok",
        }
        for k, v in enumerate(keep)
    ]


def _layers(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """‖ΔW‖ / ‖W‖ of every block, all adapted modules as one vector."""
    sums: dict[tuple[str, int], list[float]] = {}
    for row in rows:
        if row["measure"] == "relative_norm":
            both = sums.setdefault((row["run"], row["layer"]), [0.0, 0.0])
            both[0] += row["norm"] ** 2
            both[1] += row["base_norm"] ** 2
    return [
        {
            "run": run,
            "layer": layer,
            "measure": "relative_norm_of_layer",
            "value": float(np.sqrt(a / b)) if b else float("nan"),
            "design": "weights",
            "status": "ok" if b else "undefined: W is zero",
        }
        for (run, layer), (a, b) in sums.items()
        if layer >= 0
    ]


def _describe(study: Study, runs: list[str], base: str, config: dict[str, Any], top: int) -> None:
    modules, layers = study.tables["modules"], study.tables["layers"]
    origin = f"Base {base}; {', '.join(runs)}; rank {config['r']}, alpha {config['lora_alpha']}."
    for run in runs:
        part = sorted(layers.where(run=run), key=lambda r: -r["value"])
        if part:
            most, least = part[0], part[-1]
            spread = f"largest in block {most['layer']} ({most['value']:.3g}), smallest in block"
            spread += f" {least['layer']} ({least['value']:.3g})"
            study.findings.append(f"{run}: ‖ΔW‖ / ‖W‖ is {spread}.")
        ranks = modules.where(run=run, measure="stable_rank", status="ok").column("value")
        share = modules.where(run=run, measure="energy_in_top", status="ok")
        if len(ranks):
            beyond = share.where(lambda r: r["p"] is not None and r["value"] > r["null_high"])
            study.findings.append(
                f"{run}: stable rank of ΔW {np.median(ranks):.2f} (median of {len(ranks)} modules, "
                f"{ranks.min():.2f} to {ranks.max():.2f}); "
                f"{np.median(share.column('value')):.3f} of it lies in the top {top} input directions of "
                f"W (median), random directions hold {np.median(share.column('null')):.3f}; {len(beyond)} "
                f"of {len(share)} modules above the control's 97.5 %."
            )
    full = " and W − W_base for the full fine-tune" if len(runs) > 1 else ""
    study.methods = [
        (
            f"ΔW is what merging the adapter adds to the base ((alpha / r) · B A for a plain LoRA){full}, "
            "per module. Relative norm: Frobenius, over the base's weight. Stable rank: ‖ΔW‖_F² / ‖ΔW‖₂²; it "
            "is at most r for an adapter. Energy in top: share of ‖ΔW‖_F² whose rows lie in the span of the "
            f"{top} leading right singular vectors of W; control: {DRAWS} random subspaces of that dimension."
        ),
    ]
    drawn = {"runs": runs, "top": top}
    study.figures = [
        Figure(
            "layers",
            "adapter_layers",
            "layers",
            "Size of the weight change by layer",
            f"‖ΔW‖ / ‖W‖ over all adapted modules of a block. {origin}",
        ),
        Figure(
            "spectra",
            "adapter_spectra",
            "spectra",
            "Spectra of ΔW",
            (
                "Singular values over the largest; a line per block, dark to light with depth; dotted: the "
                f"second run. {origin}"
            ),
        ),
        Figure(
            "energy",
            "adapter_energy",
            "modules",
            "Direction of ΔW",
            f"Share in the top {top} input directions of W; grey: random directions, 95 %. {origin}",
            drawn,
        ),
    ]
