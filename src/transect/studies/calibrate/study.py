"""Power before the work: how many texts, and tokens of each, a planted effect needs on the texts of a store.

The same tests as everywhere, on effects of known size in the store's own points; and how often they find
something where nothing was planted.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Any, Unpack

import numpy as np
from scipy.stats import beta

from transect.errors import TransectError
from transect.inference.asks import Ask, answer
from transect.inference.design import Design, PointOptions
from transect.inference.evaluate import massive_tokens
from transect.inference.sweep import sites_of_runs
from transect.inference.tests import require
from transect.results.study import Study
from transect.results.table import Table
from transect.store.store import Store
from transect.studies.calibrate.planted import FEWEST, TESTS, Planting, plant
from transect.studies.calibrate.words import describe
from transect.studies.runs import Runs, open_runs
from transect.work.options import Option, Work, WorkOptions, group, only

#: The table that --json prints.
HEADLINE = "needed"
#: Tokens of one text that are tried, as far as three texts in four have them.
PER_TEXT = (1, 4, 8)


class CalibrateOptions(PointOptions, WorkOptions, total=False):
    """What is planted, where, and how often."""

    depths: Annotated[int, Option(3, "So many sites of each run, evenly over depth.", least=1)]
    power: Annotated[float, Option(0.8, "Power that is asked for.", above=0.05, below=1)]
    draws: Annotated[int, Option(40, "Draws of texts for every size and number of texts.", least=10)]
    permutations: Annotated[int, Option(39, "Draws of the null of every test.", least=19)]
    seed: Annotated[int, Option(0, "Seed of every random choice.", least=0)]


def calibrate(
    stores: Runs, *, sizes: Sequence[float] = (0.1, 0.2, 0.4), **options: Unpack[CalibrateOptions]
) -> Study:
    """How many texts an effect of a given size needs, on the texts of a store; and false alarms there.

    Args:
        stores: Stores, or folders of them.
        sizes: Sizes that are planted: the share of variance two views have in common, and the distance of two
        groups of texts over the spread of their points.

    Returns: a study with the tables needed, power and texts.
    """
    only(options, CalibrateOptions)
    how, work, design = group(options, CalibrateOptions), Work.of(options), Design.of(options)
    if not sizes or not all(0 < s < 1 for s in sizes):
        raise TransectError(f"sizes={list(sizes)}.", "Give sizes between 0 and 1.")
    require(how.permutations, 1, "calibrate")
    opened = open_runs(stores)
    names = sites_of_runs(opened, how.sites)
    left_out = _massive(opened, names, design)
    tasks = tuple(
        Planting(str(s.path), s.content, site, how.tokens, how.position0, tuple(sorted(sizes)),
                 _per_text(s, design), how.draws, how.permutations, how.seed, gone)
        for s, of_run, gone in zip(opened, names, left_out, strict=True)
        for site in spaced(of_run, how.depths)
    )  # fmt: skip
    planted = answer({"power": Ask(plant, tasks, list, key=Planting.key)}, work, "planting")["power"]
    tables = {name: Table([r for one in planted for r in one[name]]) for name in ("texts", "power")}
    rows = [row | _interval(row) for row in tables["power"]]
    if not rows:
        raise TransectError(f"fewer than {FEWEST} texts hold a token.", "Capture more texts.")
    tables["power"] = Table(rows)
    needed = Table(_needed(rows, how.power))
    study = Study("calibrate", "How many texts does an effect need?", {"needed": needed, **tables})
    describe(study, how)
    return study.trace(opened, how, sizes=list(sizes)).marked().in_units_of(opened)


def _massive(stores: Sequence[Store], names: list[list[str]], design: Any) -> Sequence[tuple[int, ...]]:
    """Rows of each selection that a sweep would drop."""
    if not design.massive or design.tokens == "mean" or any(s.manifest["pool"] for s in stores):
        return [()] * len(stores)
    picks = [s.select(design.tokens, design.position0) for s in stores]
    return massive_tokens(stores, names, picks, design.massive)


def spaced(names: Sequence[str], count: int) -> list[str]:
    """So many of the names, evenly from the second (the first holds embeddings alone) to the last."""
    used = list(names[1:]) or list(names)
    at = np.unique(np.linspace(0, len(used) - 1, min(count, len(used))).round().astype(int))
    return [used[k] for k in at]


def _per_text(store: Store, design: Any) -> tuple[int, ...]:
    selection = store.select(design.tokens, design.position0)
    _, sizes = np.unique(selection.texts, return_counts=True)
    return tuple(k for k in PER_TEXT if k <= max(1, int(np.quantile(sizes, 0.25)))) if len(sizes) else (1,)


def _interval(row: dict[str, Any]) -> dict[str, float]:
    """95 % of a share. Source: Clopper & Pearson 1934, doi:10.1093/biomet/26.4.404."""
    n, hits = row["draws"], round(row["value"] * row["draws"])
    low = float(beta.ppf(0.025, hits, n - hits + 1)) if hits else 0.0
    return {"low": low, "high": float(beta.ppf(0.975, hits + 1, n - hits)) if hits < n else 1.0}


def _needed(rows: list[dict[str, Any]], power: float) -> list[dict[str, Any]]:
    """For every site, test, size and number of tokens a text the fewest texts from which on the power is
    reached; where all texts do not reach it, the row says so."""
    out = []
    keys = ("run", "site", "test", "size", "tokens_a_text")
    for key in dict.fromkeys(tuple(r[k] for k in keys) for r in rows if r["size"] > 0):
        steps = sorted((r for r in rows if tuple(r[k] for k in keys) == key), key=lambda r: r["n_texts"])
        short = [k for k, r in enumerate(steps) if r["value"] < power]
        first = short[-1] + 1 if short else 0
        best = steps[min(first, len(steps) - 1)]
        most, reached = steps[-1]["n_texts"], first < len(steps)
        row = {"power": power, "value": best["n_texts"] if reached else math.nan, "reached": best["value"]}
        row |= {"n": best["n"], "n_texts": most, "low": best["low"], "high": best["high"]}
        status = "ok" if reached else f"more than {most} texts: power {best['value']:.0%} with all of them"
        out.append(dict(zip(keys, key, strict=True)) | row | {"of": TESTS[key[2]], "status": status})
    return out
