"""Tables of the token study: every measure of every run, then curves of series, differences, and similarity
of tokens."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from transect.errors import TransectError
from transect.inference.asks import Ask, answer
from transect.inference.design import Design
from transect.inference.draws import common_n
from transect.inference.per_text import trajectories_ask, windows, within_ask
from transect.inference.seeds import seeds_interval
from transect.inference.sweep import ask
from transect.models import sites
from transect.results.table import Table, merge
from transect.store.store import Store
from transect.studies.tokens.contrasts import deepest_layers
from transect.studies.tokens.gradients import gradients_ask, skips_ask
from transect.studies.tokens.names import CURVES, NORMED, POOLED, UPDATES, WITHIN, scale_of
from transect.studies.tokens.runs import Arm
from transect.work.options import Work

#: Points of the pooled measures where nobody says.
POINTS = 300


def measured(stores: Sequence[Store], design: Design, work: Work, how: Any) -> dict[str, Table]:
    """Table name → rows of all runs; `how` is a value of TokenOptions. TransectError for one layer."""
    stores = list(stores)
    for store in stores:
        if len(there := sites.select(store.sites, [design.sites])) < 2:
            raise TransectError(
                f"sites={design.sites!r}: one layer of {store.name}, {there[0]}; what layers add needs two.",
                "Give a family, such as resid, or capture more layers.",
            )
    pooled: dict[str, Any] = design.replace(n=design.n or common_n(stores, design, POINTS)).items()
    settings: dict[str, Any] = {"window": how.window, "family": design.sites}
    settings |= {k: getattr(design, k) for k in ("position0", "groups", "seed")}
    shaped = [m for m in POOLED if m not in ("anisotropy", "mean_norm")]
    asks: dict[str, list[Ask]] = {
        "layers": [ask(POOLED, stores, **pooled), ask(shaped, stores, normalise="unit", **pooled)],
        "centred": [ask("anisotropy", stores, centred=True, **pooled)],
        "updates": [ask(UPDATES, stores, design="paired", permutations=19, **pooled)],
        "within": [within_ask(WITHIN, stores, **settings)],
        "paths": [trajectories_ask(stores, **settings)],
    }
    if how.gradients:
        options = {"texts": how.gradient_texts, "positions": how.gradient_positions}
        asks["gradients"] = [gradients_ask(stores, groups=design.groups, seed=design.seed, **options)]
        asks["skips"] = [skips_ask(stores, texts=how.gradient_texts, groups=design.groups, seed=design.seed)]
    return {name: merge(several) for name, several in answer(asks, work, "token geometry").items()}


def curves(tables: dict[str, Table], arms: Sequence[Arm]) -> Table:
    """Long rows: curve, series, site; mean over seeds, its interval, the least and largest seed, the null.

    low, high: by texts for one run; over seeds and texts for three runs or more; none for two. comparable:
    False for the update into the first norm of a placement that norms the embedding. An encoder–decoder is
    two series, one for each stack.
    """
    members: dict[tuple[str, str], list[str]] = {}
    for arm in arms:
        members.setdefault((arm.role, arm.series), []).append(arm.name)
    normed = {a.series for a in arms if a.choices.get("placement") in NORMED}
    deepest = deepest_layers(tables)
    rows: list[dict[str, Any]] = []
    for name, curve in CURVES.items():
        if curve.table not in tables:
            continue
        part = list(tables[curve.table].where(status="ok", **curve.where))
        for role, series, runs, stack in _stacked(members, deepest):
            mine = [r for r in part if r["run"] in runs and sites.stack(r["site"]) == stack]
            name_of = f"{series}, {stack}" if stack else series
            for site in dict.fromkeys(r["site"] for r in mine):
                here = [r for r in mine if r["site"] == site]
                record = _mean(here)
                record |= {"depth": (record["layer"] or 0) / deepest.get((here[0]["run"], stack), 1)}
                first = curve.table == "updates" and series in normed and record["layer"] == 0
                record |= {"comparable": not first}
                rows.append({"curve": name, "series": name_of, "role": role, "site": site} | record)
    return Table(rows, next(iter(tables.values())).provenance)


def _stacked(
    members: dict[tuple[str, str], list[str]], deepest: dict[tuple[str, str], int]
) -> list[tuple[str, str, list[str], str]]:
    """(role, series, runs, stack) for every stack of the runs of a series; "" where there is one."""
    return [
        (role, series, runs, stack)
        for (role, series), runs in members.items()
        for stack in dict.fromkeys(stack for run, stack in deepest if run in runs)
    ]


def _mean(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One point of a curve from the rows of its seeds."""
    values = np.array([r["value"] for r in rows], float)
    every: dict[str, Any] = {
        k: rows[0].get(k) for k in ("measure", "site2", "control", "n", "n_texts", "design")
    }
    every |= {
        "value": float(values.mean()),
        "seed_low": float(values.min()),
        "seed_high": float(values.max()),
    }
    every |= {"runs": len(rows), "layer": sites.layer(rows[0]["site"]), "status": "ok"}
    every |= {"replicates": replicated(rows).tolist()}
    every |= {"calibration": rows[0].get("calibration") if len(rows) == 1 else None}
    nulls = [r["null"] for r in rows if r["null"] is not None]
    every |= {"null": float(np.mean(nulls)) if nulls else None}
    low, high = seeds_interval(values, replicated(rows), scale=scale_of(rows[0]["measure"]))
    if len(rows) == 1:
        low, high = rows[0]["low"], rows[0]["high"]
    spread = [[r[k] for r in rows if r.get(k) is not None] for k in ("text_low", "text_high")]
    every |= {k: float(np.mean(v)) for k, v in zip(("text_low", "text_high"), spread, strict=True) if v}
    return every | {"low": low, "high": high}


def replicated(rows: Sequence[dict[str, Any]]) -> np.ndarray:
    """The leave-one-group-out values of several runs of the same texts, averaged, [groups]; empty where they
    differ."""
    kept = [r["replicates"] for r in rows if r.get("replicates")]
    if len(kept) < len(rows) or len({len(k) for k in kept}) != 1:
        return np.empty(0)
    return np.array([[math.nan if v is None else v for v in k] for k in kept], float).mean(axis=0)


def similarities(
    stores: Sequence[Store], family: str, prompts: int, position0: bool, most: int = 18, depths: int = 4
) -> Table:
    """Cosines between the tokens of single texts, raw and about the mean of all texts, at a few depths; and,
    as a control, the mean cosine of tokens of different texts."""
    rows: list[dict[str, Any]] = []
    for store in stores:
        every = sites.select(store.sites, [family])
        names = list(
            dict.fromkeys(every[round(k * (len(every) - 1) / max(1, depths - 1))] for k in range(depths))
        )
        cut = windows(store, None, position0)
        long = [int(i) for i in np.argsort(-store.lengths, kind="stable") if store.lengths[i] > most] or [
            int(store.lengths.argmax())
        ]
        for site in names:
            points = cut.points(store, site).astype(np.float64)
            middle = points.mean(axis=(0, 1))
            across = [_across(p) for p in (points, points - middle)]
            for prompt, text in enumerate(sorted(long)[:prompts]):
                first = 0 if position0 else 1
                X = store.sample(text, site)[first : first + most].astype(np.float64)
                raw, centred = (_unit(Z) @ _unit(Z).T for Z in (X, X - middle))
                pieces = store.tokens(text)[first : first + most]
                base = {"measure": "cosine", "run": store.name, "site": site, "prompt": prompt, "text": text}
                base |= {"null": across[0], "null_centred": across[1], "status": "ok", "n": len(X)}
                base |= {"mean": _off_diagonal(raw), "mean_centred": _off_diagonal(centred)}
                rows += [
                    base
                    | {
                        "i": i,
                        "j": j,
                        "piece": pieces[i],
                        "value": float(raw[i, j]),
                        "centred": float(centred[i, j]),
                    }
                    for i in range(len(X))
                    for j in range(len(X))
                ]
    return Table(rows)


def _unit(X: np.ndarray) -> np.ndarray:
    return X / np.maximum(np.linalg.norm(X, axis=-1, keepdims=True), np.finfo(float).tiny)


def _off_diagonal(M: np.ndarray) -> float:
    """Mean of a square matrix without its diagonal."""
    n = len(M)
    return float((M.sum() - np.trace(M)) / max(1, n * (n - 1)))


def _across(points: np.ndarray) -> float:
    """Mean cosine between tokens of different texts at different positions, of points [texts, window, width].

    The mean of one text is over different positions too: tokens at one position are alike by their place.
    """
    U = _unit(points)
    texts, window = U.shape[:2]
    every, at_one, of_one = ((U.sum(axis=axes) ** 2).sum() for axes in ((0, 1), 0, 1))
    pairs = texts * (texts - 1) * window * (window - 1)
    return float((every - at_one - of_one + texts * window) / pairs)
