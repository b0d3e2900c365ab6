"""Comparison: what training changed, layer by layer, from one base run to any number of others on the same tokens.

Similarity and transport of every layer with the same layer of the base, beside numeric noise, a second seed and random
weights; which layers moved most, LoRA against full where their losses match, layer × layer matrices, drift and score.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from transect.errors import TransectError
from transect.inference import controls
from transect.inference.sweep import sweep
from transect.measures.contract import find
from transect.results.study import Study
from transect.results.table import Table, merge
from transect.store.store import Store
from transect.studies.compare.arms import Arm, arm_of, check_runs, doubts, ends, matches, rows_of, siblings
from transect.studies.compare.tables import contrast, curves, difference, means, ranking, relation, with_drift
from transect.studies.compare.words import describe

PAIRED = ("cka", "procrustes", "rsa", "knn_overlap", "cosine", "euclidean")
CLOUDS = ("sinkhorn", "bures")


def compare(
    stores: Sequence[Store],
    *,
    noise: Store | None = None,
    seed_controls: Sequence[Store] = (),
    random: Store | None = None,
    weights: Table | None = None,
    sites: str = "resid",
    tokens: str = "all",
    position0: bool = False,
    measures: str = ",".join((*PAIRED, *CLOUDS)),
    n: int | None = None,
    groups: int = 8,
    matrix: str = "cka",
    matrices: bool = True,
    seed: int = 0,
    out: str | Path | None = None,
    engine: str = "local",
    workers: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Study:
    """The comparison of `stores[0]`, the base, with the others: models, adapters, checkpoints.

    noise: the base again with another batch plan or dtype. seed_controls: runs of the same recipes with other seeds.
    random: the architecture with random weights. weights: the layers table of `transect adapters`. tokens: classes of
    tokens, separated by commas. measures: likewise. n: points per cloud (default 500 or what half of the texts hold). Runs whose token ids
    differ are refused. Tables: arms, layers, between, contrasts, ranking, curves, summary, matched, matrices, score, and
    relation where weights are given.
    """
    if len(stores) < 2:
        raise TransectError("compare needs a base run and at least one other.", "Give two stores or more.")
    base, runs = stores[0], list(stores[1:])
    roles = [("base", base), *(("run", s) for s in runs), *(("seed", s) for s in seed_controls)]
    roles += [(role, s) for role, s in (("noise", noise), ("random", random)) if s is not None]
    every = [s for _, s in roles]
    check_runs(base, every[1:])
    n = n or _points(every, tokens, position0, groups, seed)
    arms = [arm_of(s, role) for role, s in roles]
    given: dict[str, Any] = {"sites": sites, "position0": position0, "n": n, "groups": groups, "seed": seed}
    given |= {"measures": [find(m.strip()) for m in measures.split(",")]}
    if odd := [m.name for m in given["measures"] if m.data != ("X", "Y") or m.itself is None]:
        raise TransectError(f"{odd[0]} compares no two clouds.", f"Take of {', '.join((*PAIRED, *CLOUDS))}.")
    given |= {"out": out, "engine": engine, "workers": workers}
    told = (lambda step: lambda done, total: progress(step, done, total)) if progress else (lambda step: None)
    study = Study("compare", "What did training change, at which layers, beyond noise and another seed?", {})
    classes = [t.strip() for t in tokens.split(",")]
    rows, between = _cells(every, arms, classes, given, told)
    pairs = matches(arms)
    tables = study.tables
    tables["arms"] = Table(rows_of(arms))
    tables["layers"] = Table([{k: v for k, v in r.items() if k != "again"} for r in rows])
    if between:
        tables["between"] = Table([{k: v for k, v in r.items() if k != "again"} for r in between])
    tables["contrasts"] = Table(_contrasts(arms, rows, between, pairs))
    tables["ranking"] = Table(ranking([r for r in rows if r["role"] == "run"]))
    tables["curves"] = Table(curves(rows) + _between_curves(between, arms))
    tables["summary"] = Table(means(rows, by="series"))
    tables["score"] = Table(_scores(means(rows), arms))
    if pairs:
        tables["matched"] = Table(pairs)
    if matrices:
        tables["matrices"] = _matrices(base, runs, arms, matrix, classes[0], given, told)
    if weights is not None:
        drifted = [r for r in rows if r["role"] == "run"]
        tables["weights"], tables["relation"] = weights, Table(relation(weights, drifted, {a.name: a for a in arms}))
    study.warnings = doubts(arms, pairs, every)
    told_of = given | {"tokens": classes, "measures": [m.name for m in given["measures"]]}
    describe(study, every, arms, matrix, told_of)
    return study


def _points(every: Sequence[Store], tokens: str, position0: bool, groups: int, seed: int) -> int:
    first = every[0].select(tokens.split(",")[0].strip(), position0)
    return min(500, controls.draw(first, groups=groups, seed=seed).n)


def _cells(
    every: Sequence[Store], arms: Sequence[Arm], classes: Sequence[str], given: dict[str, Any], told: Any
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of every run against the base, and of runs against their second seed."""
    by_name, of = {a.name: a for a in arms}, {s.name: s for s in every}
    rows, between = [], []
    for tokens in classes:
        for store in every[1:]:
            rows += _same(every[0], store, tokens, given, told(f"{store.name}"))
        for name, other in siblings(arms).items():
            between += _same(of[name], of[other], tokens, given, told("second seed"))
    return with_drift(rows, by_name), with_drift(between, by_name)


def _same(left: Store, right: Store, tokens: str, given: dict[str, Any], told: Any) -> list[dict[str, Any]]:
    """Each layer with the same layer, raw points; CKA and transport of unit-norm points beside them."""
    few = {k: v for k, v in given.items() if k != "measures"}
    few |= {"n": given["n"] if tokens == "all" else None, "pairs": "same", "tokens": tokens, "design": "paired"}
    chosen = given["measures"]
    tables = [sweep(chosen, [left, right], progress=told, permutations=3, **few)]
    if beside := [m for m in chosen if m.name in ("cka", "cosine", "sinkhorn")]:
        tables.append(sweep(beside, [left, right], progress=told, permutations=3, normalise="unit", **few))
    return list(merge(tables))


def _contrasts(
    arms: Sequence[Arm], rows: list[dict[str, Any]], between: list[dict[str, Any]], pairs: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Drift beyond noise, beyond a second seed, and of full beyond LoRA; a family is one contrast of one run."""
    raw = [r for r in rows if r["normalise"] == "raw"]
    of: dict[str, list[dict[str, Any]]] = {}
    for row in raw:
        of.setdefault(row["run2"], []).append(row)
    noise = next((a.name for a in arms if a.role == "noise"), None)
    out: list[dict[str, Any]] = []
    for arm in (a for a in arms if a.role == "run"):
        if noise:
            out += contrast("beyond noise", arm.name, noise, of[arm.name], of[noise], two_sided=False)
        seeds = [r for r in between if r["run"] == arm.name and r["normalise"] == "raw"]
        if seeds:
            out += contrast("beyond second seed", arm.name, seeds[0]["run2"], of[arm.name], seeds, two_sided=False)
    for pair in pairs:
        name = "full − LoRA, matched on loss" if pair["matched"] else "full − LoRA, not matched on loss"
        out += contrast(name, pair["run2"], pair["run"], of[pair["run2"]], of[pair["run"]], two_sided=True)
    return out


def _between_curves(between: list[dict[str, Any]], arms: Sequence[Arm]) -> list[dict[str, Any]]:
    of = {a.name: a for a in arms}
    return curves([r | {"series": f"second seed ({of[r['run']].series})", "role": "seed distance"} for r in between])


def _scores(rows: list[dict[str, Any]], arms: Sequence[Arm]) -> list[dict[str, Any]]:
    """Mean drift of every run beside its score, loss and step."""
    of = {a.name: a for a in arms}
    known = ("seed", "step", "loss", "headline", "score", "baseline", "learned", "final")
    return [row | {k: getattr(of[row["run2"]], k) for k in known} for row in rows]


def _matrices(
    base: Store, runs: Sequence[Store], arms: Sequence[Arm], matrix: str, tokens: str, given: dict[str, Any], told: Any
) -> Table:
    """Layer × layer: each model with itself, the base with each other, and the latter less the base with itself."""
    final = {base.name, *(a.name for a in ends(arms))}
    common = {
        **{k: v for k, v in given.items() if k != "measures"},
        "n": min(given["n"], 300),
        "groups": min(5, given["groups"]),
        "tokens": tokens,
        "permutations": 3,
    }
    common |= {"progress": told("matrices")}
    within = {s.name: sweep(matrix, s, pairs="all", **common) for s in [base, *runs] if s.name in final}
    rows = [r | {"panel": f"{name} × itself"} for name, table in within.items() for r in table]
    for store in (s for s in runs if s.name in final):
        cross = sweep(matrix, [base, store], pairs="cross", **common)
        rows += [r | {"panel": f"{store.name} × base"} for r in cross]
        rows += difference(cross, within[base.name], store.name)
    return Table(rows, within[base.name].provenance)
