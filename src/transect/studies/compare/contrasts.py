"""Contrasts of a comparison: drift beyond numeric noise, beyond a second seed, and of full beyond LoRA.

Texts are the units of how far a given pair of models differ; training seeds are the units of what a method
does. A claim about methods needs three seeds an arm and resamples seeds; with fewer, differences are shown
and nothing is tested.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from transect.inference.intervals import jackknife
from transect.inference.tests import holm
from transect.studies.compare.arms import Arm

Row = dict[str, Any]
#: Seeds of an arm below which nothing is said about its method.
SEEDS = 3


def contrasts(
    arms: Sequence[Arm], rows: Sequence[Row], between: Sequence[Row], pairs: Sequence[Row]
) -> list[Row]:
    """Rows of every contrast; those of methods have p and Holm's p over their family, where there are seeds
    enough."""
    raw = [r for r in rows if r["normalise"] == "raw"]
    of: dict[str, list[Row]] = {}
    for row in raw:
        of.setdefault(row["run2"], []).append(row)
    noise = next((a.name for a in arms if a.role == "noise"), None)
    out: list[Row] = []
    for arm in (a for a in arms if a.role == "run"):
        if noise:
            out += contrast("beyond noise", arm.name, noise, of[arm.name], of[noise])
        seeds = [r for r in between if r["run"] == arm.name and r["normalise"] == "raw"]
        if seeds:
            out += contrast("beyond second seed", arm.name, seeds[0]["run2"], of[arm.name], seeds)
    for pair in pairs:
        name = "full − LoRA, matched on loss" if pair["matched"] else "full − LoRA, not matched on loss"
        out += contrast(name, pair["run2"], pair["run"], of[pair["run2"]], of[pair["run"]])
    return out + methods(arms, raw)


def key(row: Row) -> tuple[Any, ...]:
    """What must agree for two rows to be compared."""
    return tuple(row[k] for k in ("measure", "site", "token", "normalise", "design"))


def contrast(name: str, run: str, other: str, left: Sequence[Row], right: Sequence[Row]) -> list[Row]:
    """left − right, key by key, with its interval over texts. Two given runs differ in this much; no p is
    attached."""
    at, out = {key(r): r for r in right}, []
    for row in left:
        rival = at.get(key(row))
        if rival is None:
            continue
        full_pairs = len(row["again"]) == len(rival["again"])
        replicates = (
            np.array(row["again"], float) - np.array(rival["again"], float) if full_pairs else np.array([])
        )
        gap = row["drift"] - rival["drift"]
        low, high = jackknife(gap, replicates)
        record = {k: row[k] for k in ("measure", "site", "token", "normalise", "design", "n", "n_texts")}
        record |= {"contrast": name, "run": run, "run2": other, "value": gap, "low": low, "high": high}
        record |= {"left": row["drift"], "right": rival["drift"], "basis": "texts", "status": "ok"}
        if not math.isfinite(gap):
            record["status"] = f"not computed: {row['status']}; {rival['status']}"
        out.append(record)
    return out


def methods(arms: Sequence[Arm], rows: Sequence[Row]) -> list[Row]:
    """Full less LoRA over training seeds, a family for each task: Welch's t of the seeds' drifts, Holm over
    the cells."""
    ends = [a for a in arms if a.role == "run" and a.final and a.seed is not None]
    out: list[Row] = []
    for task in dict.fromkeys(a.task for a in ends):
        sides = {m: {a.name for a in ends if a.task == task and a.method == m} for m in ("full", "lora")}
        if all(len({a.seed for a in ends if a.name in names}) >= SEEDS for names in sides.values()):
            out += _over_seeds(task, sides, rows)
    return out


def _over_seeds(task: str, sides: dict[str, set[str]], rows: Sequence[Row]) -> list[Row]:
    from scipy.stats import ttest_ind

    cells: dict[tuple[Any, ...], dict[str, list[Row]]] = {}
    for row in rows:
        for method, names in sides.items():
            if row["run2"] in names and math.isfinite(row["drift"]):
                cells.setdefault(key(row), {}).setdefault(method, []).append(row)
    out = []
    for several in cells.values():
        if len(several) < 2 or min(map(len, several.values())) < SEEDS:
            continue
        full, lora = ([r["drift"] for r in several[m]] for m in ("full", "lora"))
        if np.ptp(full) == 0 and np.ptp(lora) == 0:
            continue  # identical points in every run: nothing moved
        welch: Any = ttest_ind(full, lora, equal_var=False)
        low, high = welch.confidence_interval(0.95)
        first = several["full"][0]
        record = {k: first[k] for k in ("measure", "site", "token", "normalise", "design", "n", "n_texts")}
        record |= {
            "contrast": f"full − LoRA over seeds ({task})",
            "run": "full",
            "run2": "lora",
            "basis": "seeds",
        }
        record |= {"value": float(np.mean(full) - np.mean(lora)), "low": float(low), "high": float(high)}
        record |= {
            "left": float(np.mean(full)),
            "right": float(np.mean(lora)),
            "p": float(welch.pvalue),
            "status": "ok",
        }
        out.append(record | {"seeds": min(len(full), len(lora))})
    adjusted = holm([r["p"] for r in out])
    return [r | {"p_holm": float(q), "family": len(out)} for r, q in zip(out, adjusted, strict=True)]
