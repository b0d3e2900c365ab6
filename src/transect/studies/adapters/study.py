"""What an adapter or a full fine-tune did to the weights: size, spectrum and direction of ΔW.

ΔW is what merging would add to the base's weight W, whatever the adapter's initialisation and whatever it
changes; or W − W_base of a full fine-tune. How it is found stands in `changes.py`. Only safetensors are read.
"""

import hashlib
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Unpack

import numpy as np

from transect import __version__
from transect.errors import TransectError, near_path
from transect.files import local, read_json
from transect.inference.asks import Ask, answer
from transect.random import rng
from transect.results.study import Study
from transect.results.table import Table
from transect.studies.adapters.changes import (
    LAYER,
    Change,
    adapter_changes,
    all_changes,
    base_weights,
    full_changes,
)
from transect.studies.adapters.judge import add_intruders
from transect.studies.adapters.words import DRAWS, describe
from transect.work.keys import key_of
from transect.work.options import MOST_DRAWS, Option, Work, WorkOptions, group, only

#: The table that --json prints.
HEADLINE = "modules"


class AdapterOptions(WorkOptions, total=False):
    """How ΔW is compared with W."""

    top: Annotated[
        int,
        Option(16, "Leading singular directions of W whose share of ΔW is counted, beside random ones.", 1),
    ]
    threshold: Annotated[
        float, Option(0.5, "A vector below this cosine with all of W is an intruder.", above=0, most=1)
    ]
    draws: Annotated[int, Option(5, "Random ΔW of the same spectrum beside the intruders.", 1, MOST_DRAWS)]
    texts: Annotated[Any, Option(None, "With intruders: texts of the task, whose loss is judged.")]
    other_texts: Annotated[Any, Option(None, "With intruders: other texts, on which is forgotten.")]
    longest: Annotated[int, Option(96, "Tokens of a text that are judged.", least=3)]
    groups: Annotated[int, Option(10, "Groups of texts behind the intervals.", least=2)]
    seed: Annotated[int, Option(0, "Seed of every random choice.", least=0)]


def adapters(
    adapter: str | Path,
    base: str,
    *,
    full: str | None = None,
    intruders: bool = False,
    **options: Unpack[AdapterOptions],
) -> Study:
    """What an adapter did to the weights: size, spectrum and direction of ΔW in every module.

    A full fine-tune can stand beside it, or take its place.

    Args:
        adapter: An adapter that peft wrote (LoRA or any that merges), or a model fine-tuned in full.
        base: The model that it was trained on.
        full: A full fine-tune of the same base, to stand beside an adapter in the same modules.
        intruders: Also count singular vectors of W + ΔW that none of W resembles, and with texts scale
            them down.

    Returns: a study with the tables modules (a row per module, measure and run), layers (‖ΔW‖ / ‖W‖ over all
    changed modules of a block; embeddings and head on their own), spectra; with `intruders` also
    intruders, losses and fisher.
    """
    only(options, AdapterOptions)
    how, work = group(options, AdapterOptions), Work.of(options)
    if (how.texts or how.other_texts) and not intruders:
        raise TransectError("texts are judged with intruders scaled down.", "Add --intruders.")
    folder, config = local(adapter), {}
    if work.progress:
        work.progress("opening the models", 0, 1)
    if (folder / "config.json").is_file() and not (folder / "adapter_config.json").is_file():
        if full:
            raise TransectError(f"{folder} is a full fine-tune, and so is {full}.", "Leave --full out.")
        changes, warnings = all_changes(str(folder), base)
    else:
        if not folder.is_dir():
            raise TransectError(
                f"{folder}: no such adapter.{near_path(folder)}", "Give the folder that peft wrote."
            )
        config = read_json(folder / "adapter_config.json", "adapter", "Give the folder that peft wrote.")
        if config.get("layer_replication"):
            raise TransectError(
                f"{folder} repeats blocks of its base (layer_replication).", "No W stands beside theirs."
            )
        changes, warnings = adapter_changes(folder, config, base)
    if not changes:
        raise TransectError(
            f"{folder} changes no weight of {base}.", "Give the folder that transect finetune wrote."
        )
    runs = {folder.name: changes}
    if full:
        runs[_other_name(folder, Path(full))] = list(
            full_changes(full, [c.name for c in changes], base_weights(base))
        )
    if work.progress:
        work.progress("opening the models", 1, 1)
    tasks = tuple((run, change, how.top, how.seed) for run, changes in runs.items() for change in changes)
    answers = answer({"modules": Ask(_measured, tasks, list, _key)}, work, "modules")["modules"]
    rows, spectra = ([row for one in answers for row in one[k]] for k in ("rows", "spectra"))
    study = Study("adapters", "What did training do to the weights, and in which directions?", {})
    study.tables = {"modules": Table(rows), "layers": Table(_layers(rows)), "spectra": Table(spectra)}
    scalings = Counter(c.scaling for c in runs[folder.name])
    study.provenance = {
        "transect": __version__,
        "base": base,
        "adapter": config,
        "full": full,
        "top": how.top,
        "seed": how.seed,
    }
    study.provenance |= {k: getattr(how, k) for k in ("threshold", "draws", "longest")} if intruders else {}
    study.warnings += warnings
    describe(study, list(runs), base, _scaling(config, scalings), how.top)
    if intruders:
        add_intruders(study, runs, base, how, work)
    return study.marked()


def _other_name(folder: Path, full: Path) -> str:
    """Name of a full fine-tune, with its parent's in front where the adapter's folder is called the same."""
    return full.name if full.name != folder.name else f"{full.resolve().parent.name}/{full.name}"


def energy(change: Change, axes: np.ndarray) -> float:
    """Share of ‖ΔW‖² whose rows lie in the span of `axes` [k, n], 0 to 1."""
    total = float((change.values**2).sum())
    inside = ((change.values[:, None] * (change.right @ axes.T)) ** 2).sum()
    return float(inside / total) if total > 0 else float("nan")


Task = tuple[str, Change, int, int]  # run, its change, leading directions, seed


def _measured(task: Task) -> dict[str, list[dict[str, Any]]]:
    """All rows of one tensor."""
    run, change, top, seed = task
    return {"rows": _rows(run, change, top, seed), "spectra": _spectrum(run, change)}


def _key(task: Task) -> str:
    run, change, top, seed = task
    digest = hashlib.sha256()
    for array in (change.left, change.values, change.right, change.weight):
        digest.update(np.ascontiguousarray(array).data)
    identity = [run, change.name, change.rank, change.scaling, top, seed, digest.hexdigest()]
    return key_of(identity, __name__)


def _rows(run: str, change: Change, top: int, seed: int) -> list[dict[str, Any]]:
    s, W = change.values, change.weight.astype(np.float64)
    size, of_base = float(np.linalg.norm(s)), float(np.linalg.norm(W))
    base = _named(run, change) | {
        "design": "weights",
        "rank": change.rank,
        "norm": size,
        "base_norm": of_base,
        "smaller": min(W.shape),
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
    match = LAYER.search(change.name)
    module = change.name.removesuffix(".bias").rsplit(".", 1)[-1]
    return {"run": run, "site": change.name, "layer": int(match[1]) if match else -1, "module": module}


def _beside_random(change: Change, k: int, share: float, seed: int) -> dict[str, Any]:
    """The share of ‖ΔW‖² in the span of k random directions, and how often it reaches `share`."""
    draw, n = rng(seed, "directions"), change.weight.shape[1]
    draws = [energy(change, np.linalg.qr(draw.standard_normal((n, k)))[0].T) for _ in range(DRAWS)]
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
    """‖ΔW‖ / ‖W‖ of every block, all changed modules as one vector; embeddings and head as they are."""
    sums: dict[tuple[str, int, str], list[float]] = {}
    for row in rows:
        if row["measure"] == "relative_norm":
            outside = row["module"] if row["layer"] < 0 else ""
            both = sums.setdefault((row["run"], row["layer"], outside), [0.0, 0.0])
            both[0] += row["norm"] ** 2
            both[1] += row["base_norm"] ** 2
    return [
        {
            "run": run,
            "layer": layer,
            "module": outside or None,
            "measure": "relative_norm_of_module" if outside else "relative_norm_of_layer",
            "value": float(np.sqrt(a / b)) if b else float("nan"),
            "design": "weights",
            "status": "ok" if b else "undefined: W is zero",
        }
        for (run, layer, outside), (a, b) in sums.items()
    ]


def _scaling(config: dict[str, Any], scalings: "Counter[float | None]") -> str:
    """Rank, alpha and what B A is multiplied by, as they are in force; "" for a full fine-tune."""
    if not config:
        return ""
    if config.get("peft_type") != "LORA":
        return f"{config.get('peft_type')}: {sum(scalings.values())} tensors merged and subtracted"
    how = "alpha / √r" if config.get("use_rslora") else "alpha / r"
    several = [
        f"{s:.4g} in {n} modules" for s, n in sorted((s, n) for s, n in scalings.items() if s is not None)
    ]
    merged = f"{scalings[None]} tensors merged and subtracted" if scalings.get(None) else ""
    patterns = [k for k in ("rank_pattern", "alpha_pattern") if config.get(k)]
    text = f"rank {config['r']}, alpha {config['lora_alpha']}" + "".join(f", {k}" for k in patterns)
    return f"{text}; B A is scaled by {how} = {', '.join([*several, merged] if merged else several)}"
