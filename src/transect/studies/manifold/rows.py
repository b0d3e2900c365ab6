"""Rows of the manifold study: a cell's answer with its null, interval, p-values, and what its controls had
there."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from transect.inference.asks import Ask, answer
from transect.inference.tests import holm, max_t, permutation_p, untested
from transect.store.store import Store
from transect.studies.manifold.map import evaluate_site
from transect.studies.manifold.plan import MapJob
from transect.studies.manifold.positions import Column
from transect.work.options import Work

Answers = dict[str, dict[str, Any]]  # site → token → "kind shape" → results


def run_maps(jobs: Mapping[str, MapJob], sites: Sequence[str], work: Work) -> dict[str, Answers]:
    """The maps of several stores, a task a site, by name."""
    asks = {
        name: Ask(
            evaluate_site,
            tuple((job, site) for site in sites),
            lambda answers: dict(zip(sites, answers, strict=True)),
            key=lambda task: task[0].key(task[1]),
        )
        for name, job in jobs.items()
    }
    return answer(asks, work, "map")


def interval(values: Sequence[float] | np.ndarray, ratio: float, level: float = 0.95) -> tuple[float, float]:
    """Interval of a mean over J (repeated) folds that share training rows: mean ± t·√((1/J +
    n_test/n_train)·s²).

    Source: Nadeau & Bengio 2003; Bouckaert & Frank 2004.
    """
    from scipy.stats import t

    x = np.asarray(values, float)
    if len(x) < 2 or not np.isfinite(x).all():
        return math.nan, math.nan
    half = float(t.ppf(0.5 + level / 2, len(x) - 1) * np.sqrt((1 / len(x) + ratio) * x.var(ddof=1)))
    return float(x.mean()) - half, float(x.mean()) + half


def correct(x: Any, null: float) -> Any:
    """(s − s₀) / (1 − s₀): 0 at the null, 1 at a perfect fit."""
    return (np.asarray(x, float) - null) / (1 - null)


def map_rows(
    store: Store,
    job: MapJob,
    columns: Sequence[Column],
    answers: Answers,
    random: Sequence[Answers],
    shapes: dict[str, str],
) -> list[dict[str, Any]]:
    """A row for each kind, shape, site and token. `random`: the same map of control stores."""
    rows = []
    first = next(iter(answers))
    for key in next(iter(answers[first].values())):
        kind, name = key.split()
        base: dict[str, Any] = {
            "measure": "smds",
            "run": store.name,
            "kind": kind,
            "shape": name,
            "dimension": job.n_components,
        }
        base |= {
            "label": "/".join(job.label),
            "control": "permuted labels",
            "n_texts": len(store),
            "n": len(store),
        }
        base |= {
            "design": f"{job.folds} folds by {job.group or 'label'} × {job.repeats}",
            "normalise": job.scale,
            "group": job.group,
            "folds": job.folds,
            "repeats": job.repeats,
        }
        family: list[dict[str, Any]] = [
            base
            | {"site": site, "token": c.token, "piece": c.piece, "landmark": c.landmark, "column": k}
            | {"parameters": shapes[name]}
            | _cell(answers[site][c.token][key], [r[site][c.token].get(key) for r in random], job)
            | {"embedding": _level(answers[first][c.token][key]) if first.endswith("resid.0") else None}
            for site in answers
            for k, c in enumerate(columns)
        ]
        _max_t(family, [answers[row["site"]][row["token"]][key] for row in family])
        for row, p in zip(family, holm([row.get("added_p", math.nan) for row in family]), strict=True):
            row |= {"added_p_max": float(p)} if np.isfinite(p) else {}
        rows += family
    return rows


def _level(answer: dict[str, Any]) -> float | None:
    """The corrected score of a cell, None where there is none."""
    return float(correct(np.mean(answer["scores"]), _null(answer))) if answer["status"] == "ok" else None


def _null(answer: dict[str, Any]) -> float:
    return float(np.mean(answer["null"])) if answer["null"] else math.nan


def _cell(answer: dict[str, Any], random: Sequence[dict[str, Any] | None], job: MapJob) -> dict[str, Any]:
    if answer["status"] != "ok":
        return {"status": answer["status"]}
    ratio, null = 1 / (job.folds - 1), _null(answer)
    scores, level = np.array(answer["scores"]), correct(answer["scores"], null)
    (low, high), (corrected_low, corrected_high) = interval(scores, ratio), interval(level, ratio)
    bounds = np.quantile(answer["null"], [0.05, 0.95]) if answer["null"] else [math.nan] * 2
    row = {
        "value": scores.mean(),
        "low": low,
        "high": high,
        "null": null,
        "null_low": bounds[0],
        "null_high": bounds[1],
    }
    row |= {"corrected": level.mean(), "corrected_low": corrected_low, "corrected_high": corrected_high}
    row |= {"p": permutation_p(answer["statistic"], answer["null"]), "replicates": level.tolist()}
    row |= {"untested": untested(len(answer["null"]))}
    row |= {"share": answer["share"], "null_share": answer["null_share"]}
    row |= {"target_rank": answer["rank"], "status": "ok"}
    known = [r for r in random if r and r["status"] == "ok"]
    if known:
        theirs = np.mean([correct(r["scores"], _null(r)) for r in known], axis=0)
        row |= {"random": theirs.mean(), "random_share": float(np.mean([r["share"] for r in known]))}
        row |= {"added": (level - theirs).mean(), "added_replicates": (level - theirs).tolist()}
        row["added_low"], row["added_high"] = interval(level - theirs, ratio)
        row["added_p"] = paired_p(level - theirs, ratio)
    return row


def paired_p(gaps: np.ndarray, ratio: float) -> float:
    """p of "no more than random weights", one-sided, by the test behind `interval`; NaN where that is."""
    from scipy.stats import t

    if len(gaps) < 2 or not np.isfinite(gaps).all() or not gaps.var() > 0:
        return math.nan
    return float(t.sf(gaps.mean() / np.sqrt((1 / len(gaps) + ratio) * gaps.var(ddof=1)), len(gaps) - 1))


def _max_t(rows: list[dict[str, Any]], answers: Sequence[dict[str, Any]]) -> None:
    """Max-T p-values over all cells of one map, from corrected statistics; one permutation moves every cell
    at once."""
    known = [k for k, row in enumerate(rows) if row["status"] == "ok" and answers[k]["null"]]
    if not known:
        return
    nulls = [_null(answers[k]) for k in known]
    values = np.array([correct(answers[k]["statistic"], s) for k, s in zip(known, nulls, strict=True)])
    draws = np.stack([correct(answers[k]["null"], s) for k, s in zip(known, nulls, strict=True)], axis=1)
    for k, p in zip(known, max_t(values, draws), strict=True):
        rows[k]["p_max"] = float(p)


# which shape


def ranking(rows: Sequence[dict[str, Any]], job: MapJob, at: tuple[str, str]) -> list[dict[str, Any]]:
    """Shapes at one cell by corrected score among those whose labels fill as many dimensions (the most
    first), each with the margin by which the best of them leads, and its interval."""
    here = [r for r in rows if r["kind"] == "free" and (r["site"], r["token"]) == at]
    done = sorted(
        (r for r in here if r["status"] == "ok"), key=lambda r: (-r["target_rank"], -r["corrected"])
    )
    ranked_rows = []
    for row in done:
        equal = [r for r in done if r["target_rank"] == row["target_rank"]]
        rank = 1 + next(k for k, r in enumerate(equal) if r is row)
        lead = np.array(equal[0]["replicates"]) - np.array(row["replicates"])
        low, high = interval(lead, 1 / (job.folds - 1)) if rank > 1 else (0.0, 0.0)
        ranked_rows.append(
            {**row, "measure": "discovery", "rank": rank, "behind": lead.mean(), "behind_low": low}
        )
        ranked_rows[-1]["behind_high"] = high
    return ranked_rows + [{**r, "measure": "discovery"} for r in here if r["status"] != "ok"]


def friedman(tables: Sequence[Sequence[dict[str, Any]]], least: int = 5) -> dict[str, Any]:
    """Friedman's test of equal shapes over runs as blocks, with Nemenyi's critical difference of mean ranks
    (Demšar 2006).

    Cells and folds of one run share texts and are no blocks: below `least` runs there is no test, and the row
    says so.
    """
    from scipy.stats import friedmanchisquare, rankdata, studentized_range

    base: dict[str, Any] = {"measure": "friedman", "n": len(tables), "design": "runs as blocks"}
    levels = [_most_dimensions(t) for t in tables]
    names = [s for s in levels[0] if all(s in one for one in levels)]
    if len(tables) < least or len(names) < 3:
        had = f"{len(tables)} independent runs and {len(names)} shapes"
        why = f"not valid: {had}; needs {least} runs and 3 shapes"
        return base | {"status": why}
    values = np.array([[one[s] for s in names] for one in levels])
    test: Any = friedmanchisquare(*values.T)
    ranks = rankdata(-values, axis=1).mean(axis=0)
    k = len(names)
    critical = (
        float(studentized_range.ppf(0.95, k, np.inf))
        / math.sqrt(2)
        * math.sqrt(k * (k + 1) / (6 * len(tables)))
    )
    order = {names[i]: float(ranks[i]) for i in np.argsort(ranks)}
    listed = ", ".join(f"{name} {rank:.2f}" for name, rank in order.items())
    return base | {
        "value": float(test.statistic),
        "p": float(test.pvalue),
        "critical": critical,
        "ranks": listed,
        "status": "ok",
    }


def _most_dimensions(ranked: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Shape → corrected score, of the shapes whose labels fill the most dimensions."""
    done = [r for r in ranked if r["status"] == "ok"]
    most = max((r.get("target_rank", 0) for r in done), default=0)
    return {r["shape"]: r["corrected"] for r in done if r.get("target_rank", 0) == most}


def with_source(job: MapJob, columns: Sequence[Column], answers: Answers) -> MapJob:
    """The job with the source where the label is read best at the first site, among landmarks: where it comes
    in."""
    first = next(iter(answers.values()))
    key = f"free {job.shapes[0][0]}"
    levels = {c.token: _level(first[c.token][key]) for c in columns if c.landmark}
    known = {token: level for token, level in levels.items() if level is not None}
    return replace(job, source=max(known, key=lambda t: known[t])) if known else job
