"""Differences between arms: pairs of runs that differ in one choice, seeds as units, depth as a share where
stacks differ in depth."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from transect.inference.intervals import jackknife
from transect.inference.seeds import FEWEST, seeds_band, seeds_interval
from transect.models import sites
from transect.results.table import Table
from transect.studies.tokens.names import CURVES, NORMED
from transect.studies.tokens.runs import Arm, leader, varied_choices

Rows = dict[str, dict[str, Any]]  # site → row of one run and one curve


def contrasts(arms: Sequence[Arm]) -> list[tuple[str, list[tuple[str, str]]]]:
    """(name "B − A", pairs of runs (A, B) that differ in that choice alone); runs without choices against the
    first one.

    Choices of the recipe that follow the choice (a learning rate for each placement) are part of it, and are
    named.
    """
    runs = [a for a in arms if a.role == "run"]
    lists: list[tuple[str, list[tuple[str, str]]]] = []
    varied = varied_choices(runs) if all(a.choices for a in runs) else []
    follows = {c: leader(runs, c) for c in varied}
    for choice in (c for c in varied if not follows[c]):
        levels = list(dict.fromkeys(a.choices.get(choice, "") for a in runs))
        alternatives = [choice, *(c for c in varied if follows[c] == choice)]
        rest = {
            a.name: (*sorted((k, v) for k, v in a.choices.items() if k not in alternatives), a.seed, a.step)
            for a in runs
        }
        for level in levels[1:]:
            pairs = [
                (a, b)
                for a, b in itertools.product(runs, runs)
                if a.choices.get(choice, "") == levels[0]
                and b.choices.get(choice, "") == level
                and rest[a.name] == rest[b.name]
            ]
            if pairs:
                a, b = pairs[0]
                also = [
                    f"{b.choices[c]} − {a.choices[c]}"
                    for c in alternatives[1:]
                    if a.choices[c] != b.choices[c]
                ]
                name = f"{level} − {levels[0]}" + (f" (with {', '.join(also)})" if also else "")
                lists.append((name, [(a.name, b.name) for a, b in pairs]))
    first = runs[0]
    plain = [a for a in runs[1:] if not (a.choices and first.choices) and a.series != first.series]
    return lists + [(f"{a.series} − {first.series}", [(first.name, a.name)]) for a in plain]


def differences(tables: dict[str, Table], arms: Sequence[Arm]) -> Table:
    """B − A at every depth: the mean over seeds of the matched pairs.

    low, high: over seeds and texts with three seeds or more, by groups of texts with one, none with two.
    band_low, band_high: the same for the whole curve at once; agreement: the share of resamples whose largest
    difference is at the same site. depth: the layer's number over that of the last one; stacks of different
    depth are compared at the shallower one's depths, the other's curve interpolated between its layers.
    """
    rows: list[dict[str, Any]] = []
    deepest = deepest_layers(tables)
    seeds = {a.name: a.seed for a in arms}
    normed = {a.name for a in arms if a.choices.get("placement") in NORMED}
    for name, curve in CURVES.items():
        if curve.table not in tables:
            continue
        at: dict[str, Rows] = {}
        for r in tables[curve.table].where(status="ok", **curve.where):
            if not (curve.table == "updates" and r["run"] in normed and sites.layer(r["site"]) == 0):
                at.setdefault(r["run"], {})[r["site"]] = r
        for contrast, pairs in contrasts(arms):
            matched = [(a, b) for a, b in pairs if a in at and b in at]
            for stack in dict.fromkeys(sites.stack(s) for a, _ in matched for s in at[a]):
                by_seed: dict[Any, list[list[dict[str, Any]]]] = {}
                for a, b in matched:
                    one, two = ({s: r for s, r in at[x].items() if sites.stack(s) == stack} for x in (a, b))
                    gaps = _gaps(one, two, deepest.get((a, stack), 1), deepest.get((b, stack), 1))
                    by_seed.setdefault(seeds.get(a), []).append(gaps)
                of = {"curve": name, "contrast": f"{contrast}, {stack}" if stack else contrast}
                rows += [of | row for row in combined(by_seed)]
    return Table(rows, next(iter(tables.values())).provenance)


def deepest_layers(tables: dict[str, Table]) -> dict[tuple[str, str], int]:
    """(run, stack) → the number of its last layer."""
    depths: dict[tuple[str, str], int] = {}
    for row in tables["layers"]:
        of = row["run"], sites.stack(row["site"])
        depths[of] = max(depths.get(of, 1), sites.layer(row["site"]) or 0)
    return depths


def _gaps(a: Rows, b: Rows, last_a: int, last_b: int) -> list[dict[str, Any]]:
    """B − A at the sites that both have, or at the depths of the shallower one."""
    shorter, many, last = (a, b, last_a) if last_a <= last_b else (b, a, last_b)
    shared = [s for s in shorter if (last_a == last_b and s in many) or last_a != last_b]
    sentences = []
    for site in shared:
        layer = sites.layer(site) or 0
        row = (
            many[site]
            if last_a == last_b
            else between(many, sites.family(site), layer / last, max(last_a, last_b))
        )
        if row is None:
            continue
        ends = (shorter[site], row) if shorter is a else (row, shorter[site])
        left, right = (_replicates(r) for r in ends)
        sentences.append(
            {
                "site": site,
                "layer": layer,
                "depth": layer / last,
                "measure": shorter[site]["measure"],
                "value": ends[1]["value"] - ends[0]["value"],
                "replicates": right - left if len(left) == len(right) else np.empty(0),
            }
        )
    return sentences


def between(rows: Rows, family: str, depth: float, last: int) -> dict[str, Any] | None:
    """Value and leave-one-out values of a curve at a share of its depth, by a straight line between its two
    layers next to it; None outside of them."""
    ordered = sorted(((sites.layer(s) or 0) / last, s) for s in rows if sites.family(s) == family)
    x = np.array([d for d, _ in ordered])
    if not len(x) or not x[0] - 1e-9 <= depth <= x[-1] + 1e-9:
        return None
    k = min(max(int(np.searchsorted(x, depth, "right")) - 1, 0), max(len(x) - 2, 0))
    left, right = rows[ordered[k][1]], rows[ordered[min(k + 1, len(x) - 1)][1]]
    share = 0.0 if len(x) < 2 else float(np.clip((depth - x[k]) / (x[k + 1] - x[k]), 0, 1))
    kept = [_replicates(r) for r in (left, right)]
    mixed = (1 - share) * kept[0] + share * kept[1] if len(kept[0]) == len(kept[1]) else np.empty(0)
    return {"value": (1 - share) * left["value"] + share * right["value"], "replicates": mixed}


def combined(by_seed: dict[Any, list[list[dict[str, Any]]]]) -> list[dict[str, Any]]:
    """One row for each site from the gaps of every seed: pairs of one seed are averaged first, for they are
    one unit."""
    flat = [gaps for several in by_seed.values() for gaps in several]
    names = [r["site"] for r in flat[0] if all(r["site"] in {x["site"] for x in g} for g in flat)]
    if not names:
        return []
    pairs, count = len(flat), len(by_seed)
    values, kept = np.empty((len(names), count)), []
    heads = {r["site"]: r for r in flat[0]}
    for k, site in enumerate(names):
        here = [[r for g in several for r in g if r["site"] == site] for several in by_seed.values()]
        values[k] = [np.mean([r["value"] for r in group]) for group in here]
        drops = [[r["replicates"] for r in group] for group in here]
        same = len({len(d) for group in drops for d in group}) == 1
        kept.append(np.mean([np.mean(group, axis=0) for group in drops], axis=0) if same else np.empty(0))
    equal = len({len(k) for k in kept}) == 1
    band = seeds_band(values, np.array(kept) if equal else np.empty((len(names), 0)))
    basis = "texts" if count == 1 else "two seeds: none" if count < FEWEST else "seeds and texts"
    rows = []
    for k, site in enumerate(names):
        value = float(values[k].mean())
        low, high = jackknife(value, kept[k]) if count == 1 else seeds_interval(values[k], kept[k])
        row = {c: heads[site][c] for c in ("site", "layer", "depth", "measure")}
        row |= {"value": value, "low": low, "high": high, "seed_low": float(values[k].min())}
        row |= {"seed_high": float(values[k].max()), "seeds": count, "pairs": pairs, "basis": basis}
        row |= {"band_low": float(band.low[k]), "band_high": float(band.high[k]), "status": "ok"}
        rows.append(row | {"agreement": band.agreement})
    return rows


def _replicates(row: dict[str, Any]) -> np.ndarray:
    kept = row.get("replicates")
    if kept is None or not len(kept):
        return np.empty(0)
    return np.array([math.nan if v is None else v for v in kept], float)
