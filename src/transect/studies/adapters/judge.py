"""Intruders of all runs of an adapters study, and what they do to texts: tables, findings, figures."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from transect.errors import TransectError
from transect.inference.asks import Ask, answer
from transect.results.study import Figure, Study
from transect.results.table import Table
from transect.results.words import interval
from transect.studies.adapters.changes import Change
from transect.studies.adapters.forgetting import STEPS, Tuned, fisher, judged
from transect.studies.adapters.intruders import Sought, is_sought, sought
from transect.texts.texts import open_texts
from transect.work.options import Work


def add_intruders(
    study: Study, runs: Mapping[str, Sequence[Change]], base: str, how: Any, work: Work
) -> None:
    """Add the tables intruders, and with texts losses and fisher, with their findings, methods and
    figures."""
    tasks = tuple(
        Sought(run, change, how.top, how.threshold, how.draws, how.seed)
        for run, changes in runs.items()
        for change in changes
        if is_sought(change)
    )
    if not tasks:
        raise TransectError("no matrix of a block is changed.", "Leave --intruders out.")
    asked = {"intruders": Ask(sought, tasks, list, Sought.key)}
    rows = [row for one in answer(asked, work, "intruders")["intruders"] for row in one]
    sums = [*_summed(rows, "run"), *_summed(rows, "block")]
    study.tables["intruders"] = Table([*sums, *({k: v for k, v in r.items() if k != "counts"} for r in rows)])
    texts = {
        name: open_texts(spec, seed=how.seed)
        for name, spec in (("task", how.texts), ("other", how.other_texts))
        if spec is not None
    }
    if texts:
        losses: list[dict[str, Any]] = []
        foretold: list[dict[str, Any]] = []
        for run, changes in runs.items():
            tuned = Tuned(base, changes)
            losses += [{"run": run} | r for r in judged(tuned, texts, _picks(rows, run), how, work.progress)]
            judged_texts = texts.get("other") or texts["task"]
            foretold += [{"run": run} | r for r in fisher(tuned, judged_texts, how)]
        study.tables |= {"losses": Table(losses), "fisher": Table(foretold)}
    study.findings += [line for run in runs for line in _findings(study, run, list(texts))]
    study.methods += _methods(how, bool(texts))
    scaled = bool(texts) and len(study.tables["losses"].where(run=next(iter(runs)), path="intruders")) > 0
    study.figures += _figures(list(runs), base, how, list(texts), scaled=scaled)


def _picks(rows: Sequence[dict[str, Any]], run: str) -> dict[str, list[int]]:
    """Module → numbers of its intruders, from 0."""
    picks: dict[str, list[int]] = {}
    for row in rows:
        if row["run"] == run and row.get("intruder"):
            picks.setdefault(row["site"], []).append(row["index"] - 1)
    return picks


def _summed(rows: Sequence[dict[str, Any]], part: str) -> list[dict[str, Any]]:
    """Intruders of all matrices of a block or of a run, beside the same sum in each draw of random ΔW."""
    blocks: dict[tuple[str, int | None], dict[str, Any]] = {}
    counts: dict[tuple[str, int | None], np.ndarray] = {}
    for row in rows:
        if row["measure"] != "intruders":
            continue
        at = row["run"], row["layer"] if part == "block" else None
        one = blocks.setdefault(
            at, {"measure": f"intruders_of_{part}", "value": 0.0, "of": 0, "layer": at[1]}
        )
        one |= {k: row[k] for k in ("run", "design", "control", "draws", "status")}
        one["value"] += row["value"]
        one["of"] += row["top"]
        counts[at] = counts.get(at, np.zeros(len(row["counts"]))) + np.asarray(row["counts"])
    for at, one in blocks.items():
        low, high = np.quantile(counts[at], [0.025, 0.975])
        one |= {"null": float(counts[at].mean()), "null_low": float(low), "null_high": float(high)}
    return list(blocks.values())


def _findings(study: Study, run: str, texts: Sequence[str]) -> list[str]:
    total = next(iter(study.tables["intruders"].where(run=run, measure="intruders_of_run")))
    null = {"value": total["null"], "low": total["null_low"], "high": total["null_high"]}
    sentences = [
        f"{run}: {total['value']:.0f} of the {total['of']} leading singular vectors of W + ΔW are intruders; "
        f"of random ΔW of the same spectrum {interval(null, digits=3)}."
    ]
    for name in texts:
        part = study.tables["losses"].where(run=run, texts=name)
        at = {(r["path"], r["scale"]): r for r in part.where(measure="loss")}
        line = f"{run}, {name} texts: loss {interval(at['line', 0.0], digits=3)} of the base, "
        line += f"{interval(at['line', 1.0], digits=3)} tuned"
        if ("intruders", 0.0) in at:
            line += f", {interval(at['intruders', 0.0], digits=3)} without intruders, "
            line += f"{interval(at['others', 0.0], digits=3)} without as many other leading vectors"
        else:
            line += "; no intruder to scale down"
        barrier = next(iter(part.where(measure="barrier")))
        sentences.append(line + f"; barrier on the straight line {interval(barrier, digits=2)} nats a token.")
    if texts:
        fisher = study.tables["fisher"].where(run=run)
        name = "other" if "other" in texts else "task"
        sentences.append(
            f"{run}: the Fisher information of the base foretells a rise of "
            f"{fisher.column('value').sum():.3g} nats a token "
            f"on {name} texts ({fisher.column('null').sum():.3g} with the entries of ΔW in random places)."
        )
    return sentences


def _methods(how: Any, judged: bool) -> list[str]:
    sentences = [
        f"Intruders (Shuttleworth et al. 2024, arXiv:2410.21228): of the {how.top} leading left singular "
        f"vectors of W + ΔW those whose largest |cosine| with a left singular vector of W is below "
        f"{how.threshold:g}, in the matrices of the blocks; beside {how.draws} random ΔW with the same "
        "singular "
        "values.",
    ]
    if judged:
        sentences.append(
            f"Losses of the first {how.longest} tokens of texts, in nats a token, 95 % by groups of texts: "
            "at W "
            "+ tΔW; with the parts σuvᵀ of all intruders multiplied by a scale, and those of as many other "
            "leading "
            "vectors of the same matrices with the nearest singular values. The barrier is the largest loss "
            "beyond the straight line between the ends. Fisher: diagonal, empirical, of whole texts under "
            "the "
            "base; ½ Σ F ΔW² is the rise it foretells near the base (Kirkpatrick et al. 2017, "
            "arXiv:1612.00796)."
        )
    return sentences


def _figures(runs: list[str], base: str, how: Any, texts: list[str], *, scaled: bool) -> list[Figure]:
    figures = [
        Figure(
            "intruders",
            "adapter_intruders",
            "intruders",
            "Intruders by block",
            f"Base {base}. Leading singular vectors of W + ΔW (top {how.top} of each matrix) that no "
            "singular "
            f"vector of W resembles (|cosine| < {how.threshold:g}), all matrices of a block; band: random "
            "ΔW of "
            f"the same spectrum, {how.draws} draws.",
            {"runs": runs},
        )
    ]
    if texts:
        figures.append(
            Figure(
                "forgetting",
                "adapter_forgetting",
                "losses",
                "Intruders scaled down" if scaled else "Loss from base to tuned",
                f"Base {base}, {runs[0]}. Loss beyond the base, paired by text, 95 % by groups of texts; "
                "grey: the straight line from base (0) to tuned (1)"
                f"{'; dashed: as many other leading vectors scaled' if scaled else ', without an intruder'}. "
                f"Task: {how.texts}; other: {how.other_texts}; seed {how.seed}.",
                {"run": runs[0], "texts": texts, "steps": list(STEPS)},
            )
        )
    return figures
