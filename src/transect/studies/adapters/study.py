"""What an adapter or a full fine-tune did to the weights: ΔW of every module, its size, spectrum and direction.

ΔW = (alpha / r) · B A of a LoRA adapter, or W − W_base of a full fine-tune; W is the base's weight. Singular values of BA
come from the r × r core of the two factors, without the product. Only safetensors are read.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from transect.errors import TransectError
from transect.files import read_json
from transect.models.models import open_model
from transect.results.study import Figure, Study
from transect.results.table import Table

LAYER = re.compile(r"(?:^|\.)(?:layers?|h|block|blocks)\.(\d+)\.")
#: Draws of the random-direction control.
DRAWS = 20


class Change(NamedTuple):
    """ΔW of one module by its singular value decomposition, left [m, k], values [k], right [k, n], and W [m, n]."""

    name: str
    left: np.ndarray
    values: np.ndarray
    right: np.ndarray
    weight: np.ndarray
    rank: int | None


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

    Tables: modules (a row per module, measure and run), layers (‖ΔW‖ / ‖W‖ over all adapted modules of a block),
    spectra. top: how many leading singular directions of W the energy share counts, beside random directions.
    """
    folder = Path(folder)
    config = read_json(folder / "adapter_config.json", "adapter")
    if config.get("peft_type") != "LORA" or config.get("use_dora"):
        raise TransectError(
            f"{folder} is {config.get('peft_type')}{' with DoRA' if config.get('use_dora') else ''}.",
            "Only LoRA has ΔW = (alpha/r)·BA.",
        )
    weights = base_weights(base)
    runs = {folder.name: list(lora_changes(folder, config, weights))}
    if full:
        names = [c.name for c in runs[folder.name]]
        runs[Path(full).name] = list(full_changes(full, names, weights))
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
    _describe(study, list(runs), base, config, top)
    return study


def base_weights(spec: str) -> dict[str, np.ndarray]:
    """Matrices of a model by module name, [out, in] float32."""
    opened = open_model(spec, dtype="float32", device="cpu")
    return _matrices(opened.model)


def _matrices(model: Any) -> dict[str, np.ndarray]:
    out = {}
    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if weight is not None and weight.ndim == 2 and type(module).__name__ != "Embedding":
            array = weight.detach().float().numpy()
            out[name] = array.T if type(module).__name__ == "Conv1D" else array
    return out


def lora_changes(folder: Path, config: dict[str, Any], weights: dict[str, np.ndarray]) -> Iterator[Change]:
    """ΔW of every adapted module, as singular values and directions."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(folder / "adapter_model.safetensors"), "pt") as file:
            tensors = {name: file.get_tensor(name).float().numpy() for name in file.keys()}  # noqa: SIM118  not a mapping
    except (OSError, SafetensorError) as error:
        raise TransectError(
            f"{folder}/adapter_model.safetensors: cut short or missing ({error}).", "Train it again."
        ) from error
    found = sorted(name for name in tensors if name.endswith("lora_A.weight"))
    if not found:
        raise TransectError(f"{folder} holds no LoRA matrices.", "Give the folder that transect finetune wrote.")
    for name in found:
        module = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
        A, B = tensors[name], tensors.get(name.replace("lora_A", "lora_B"))
        if B is None or module not in weights:
            raise TransectError(
                f"{folder}: no {'B matrix' if B is None else 'weight in the base'} for {module}.",
                "Is this the base it was trained on?",
            )
        W = weights[module]
        if (B.shape[0], A.shape[1]) != W.shape:
            raise TransectError(
                f"{folder}: ΔW of {module} is {B.shape[0]} × {A.shape[1]}, W {W.shape[0]} × {W.shape[1]}.",
                "Give the base it was trained on.",
            )
        rank, alpha = _scaling(config, module)
        scale = alpha / (np.sqrt(rank) if config.get("use_rslora") else rank)
        U, s, V = product_svd(scale * B.astype(np.float64), A.astype(np.float64))
        yield Change(module, U, s, V, W, rank)


def _scaling(config: dict[str, Any], module: str) -> tuple[int, float]:
    """(rank, alpha) of a module, by peft's patterns where there are any."""

    def of(patterns: dict[str, Any] | None, usual: Any) -> Any:
        return next((v for k, v in (patterns or {}).items() if re.match(rf"(.*\.)?({k})$", module)), usual)

    return int(of(config.get("rank_pattern"), config["r"])), float(
        of(config.get("alpha_pattern"), config["lora_alpha"])
    )


def product_svd(B: np.ndarray, A: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Thin SVD of BA from the QR factors of both: r × r instead of m × n."""
    Q, R = np.linalg.qr(B)
    P, S = np.linalg.qr(A.T)
    U, s, V = np.linalg.svd(R @ S.T)
    return Q @ U, s, V @ P.T


def full_changes(spec: str, names: list[str], weights: dict[str, np.ndarray]) -> Iterator[Change]:
    """W − W_base of the same modules in a full fine-tune."""
    tuned = base_weights(spec)
    for name in names:
        if name not in tuned or tuned[name].shape != weights[name].shape:
            raise TransectError(f"{spec} has no {name} of the base's shape.", "Give a fine-tune of this base.")
        U, s, V = np.linalg.svd(tuned[name].astype(np.float64) - weights[name], full_matrices=False)
        yield Change(name, U, s, V, weights[name], None)


def energy(change: Change, axes: np.ndarray) -> float:
    """Share of ‖ΔW‖² whose rows lie in the span of `axes` [k, n], 0 to 1."""
    total = float((change.values**2).sum())
    inside = ((change.values[:, None] * (change.right @ axes.T)) ** 2).sum()
    return float(inside / total) if total > 0 else float("nan")


def _rows(run: str, change: Change, top: int, seed: int) -> list[dict[str, Any]]:
    s, W = change.values, change.weight.astype(np.float64)
    size, of_base = float(np.linalg.norm(s)), float(np.linalg.norm(W))
    k = min(top, min(W.shape) - 1)
    axes = np.linalg.svd(W, full_matrices=False)[2][:k]
    rng, n = np.random.default_rng([seed, 6]), W.shape[1]
    draws = [energy(change, np.linalg.qr(rng.standard_normal((n, k)))[0].T) for _ in range(DRAWS)] if size else []
    found = re.search(LAYER, change.name)
    base = {
        "run": run,
        "site": change.name,
        "layer": int(found[1]) if found else -1,
        "module": change.name.rsplit(".", 1)[-1],
    }
    base |= {"design": "weights", "rank": change.rank, "norm": size, "base_norm": of_base}
    status = "ok" if size > 0 else "undefined: ΔW is zero"
    values = {
        "relative_norm": size / of_base,
        "stable_rank": float((s**2).sum() / s[0] ** 2) if size else float("nan"),
        "participation_ratio": float((s**2).sum() ** 2 / (s**4).sum()) if size else float("nan"),
        "energy_in_top": energy(change, axes),
    }
    rows = [base | {"measure": m, "value": v, "status": "ok" if v == v else status} for m, v in values.items()]
    if draws:
        low, high = np.quantile(draws, [0.025, 0.975])
        beyond = (1 + sum(d >= values["energy_in_top"] for d in draws)) / (1 + len(draws))
        rows[-1] |= {
            "null": float(np.mean(draws)),
            "null_low": float(low),
            "null_high": float(high),
            "p": beyond,
            "top": k,
            "control": "random directions",
        }
    return rows


def _spectrum(run: str, change: Change, most: int = 64) -> list[dict[str, Any]]:
    found = re.search(LAYER, change.name)
    base = {
        "run": run,
        "site": change.name,
        "layer": int(found[1]) if found else -1,
        "module": change.name.rsplit(".", 1)[-1],
    }
    first = change.values[0] if change.values[0] > 0 else float("nan")
    keep = change.values[: change.rank or most]
    return [
        base
        | {"measure": "singular_value", "index": k + 1, "value": float(v / first), "absolute": float(v), "status": "ok"}
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
            "value": float(np.sqrt(a / b)),
            "design": "weights",
            "status": "ok",
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
            spread = f"largest in block {part[0]['layer']} ({part[0]['value']:.3g}), smallest in block {part[-1]['layer']} ({part[-1]['value']:.3g})"
            study.findings.append(f"{run}: ‖ΔW‖ / ‖W‖ is {spread}.")
        ranks = modules.where(run=run, measure="stable_rank", status="ok").column("value")
        share = modules.where(run=run, measure="energy_in_top", status="ok")
        if len(ranks):
            beyond = share.where(lambda r: r["p"] is not None and r["value"] > r["null_high"])
            study.findings.append(
                f"{run}: stable rank of ΔW {np.median(ranks):.2f} (median of {len(ranks)} modules, {ranks.min():.2f} to {ranks.max():.2f}); "
                f"{np.median(share.column('value')):.3f} of it lies in the top {top} input directions of W (median), random directions hold {np.median(share.column('null')):.3f}; {len(beyond)} of {len(share)} modules above the control's 97.5 %."
            )
    study.methods = [
        f"ΔW = (alpha / r) · B A for the adapter{' and W − W_base for the full fine-tune' if len(runs) > 1 else ''}, per module. Relative norm: Frobenius, over the base's weight. Stable rank: ‖ΔW‖_F² / ‖ΔW‖₂²; it is at most r for an adapter. Energy in top: share of ‖ΔW‖_F² whose rows lie in the span of the {top} leading right singular vectors of W; control: {DRAWS} random subspaces of that dimension.",
    ]
    drawn = {"runs": runs, "top": top}
    study.figures = [
        Figure("layers", "adapter_layers", "layers", "Size of the weight change by layer", f"‖ΔW‖ / ‖W‖ over all adapted modules of a block. {origin}"),
        Figure("spectra", "adapter_spectra", "spectra", "Spectra of ΔW", f"Singular values over the largest; a line per block, dark to light with depth; dotted: the second run. {origin}"),
        Figure("energy", "adapter_energy", "modules", "Direction of ΔW", f"Share in the top {top} input directions of W; grey: random directions, 95 %. {origin}", drawn),
    ]  # fmt: skip
