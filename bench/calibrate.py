"""Type-I error of the tests, coverage of the intervals, power of the change-layer rules.

    python bench/calibrate.py [--draws 200] [--seed 0] [--only alarms coverage changes] [--jobs 2]

Writes docs/calibration.md, and src/transect/inference/calibration.json, by which rows of a sweep are marked.
Stores are planted without a model: texts share a part of their tokens (ICC),
lengths and spectra are lopsided, laws may have heavy tails. A rate outside its band is marked. Every draw of
a cell is a pair of sites of one store: its texts keep their lengths.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import transect as ts
from calibrate_changes import table as change_layers
from calibrate_studies import lines as studies
from planted import planted_store
from transect.inference.calibration import BAND, KEPT, outside
from transect.inference.intervals import simultaneous
from transect.inference.tests import max_t, studentised
from transect.measures.registry import find, registry

PAGE = Path(__file__).parents[1] / "docs/calibration.md"
WIDTH, LENGTH = 24, 10
TEXTS = (60, 20, 12)
ICC = (0.0, 0.2, 0.5)
SHAPES = ("equal", "lopsided", "heavy-tailed")
#: Measures whose pairing of views is tested, and their draws of the null.
TESTED = {"cka": 39, "knn_overlap": 39, "rsa": 39, "cosine": 39, "procrustes": 19}
#: Measures of two clouds, whose law is compared by swapping texts.
SWAPPED = ("centroid", "bures")
SINGLE = ("mean_norm", "anisotropy", "participation_ratio")
PAIRED = ("euclidean", "paired_displacement", "cosine", "relative_update", "update_alignment", "cka")
#: Measures whose interval is to cover the population's value; those of all others, the mean over draws.
POPULATION = (*SINGLE, *PAIRED)
#: Of the others, those that the page shows under every law.
AT_N = ("effective_rank", "stable_rank", "top_variance", "twonn", "knn_overlap", "procrustes", "bures")
FAMILY = 5
JOBS = 1
GIVEN: dict[str, Any] = {"workers": 1, "massive": 0}
SHIFT = np.linspace(0.5, 1.5, WIDTH)
Cell = tuple[int, str, float]
Rates = dict[str, float]


def cloud(rng: np.random.Generator, lengths: list[int], icc: float, shape: str) -> np.ndarray:
    """Tokens of unit mean variance, of which `icc` is their text's."""
    return laid_out(tokens(rng, lengths, icc, shape), shape)


def tokens(rng: np.random.Generator, lengths: list[int], icc: float, shape: str, copies: int = 1) -> Any:
    """White tokens; with `copies` a list of draws that share what is the texts'."""

    def draw(n: int) -> np.ndarray:
        return (
            rng.standard_t(4, (n, WIDTH)) / np.sqrt(2)
            if shape == "heavy-tailed"
            else rng.normal(size=(n, WIDTH))
        )

    of_text = np.repeat(np.sqrt(icc) * draw(len(lengths)), lengths, axis=0)
    found = [of_text + np.sqrt(1 - icc) * draw(sum(lengths)) for _ in range(copies)]
    return found if copies > 1 else found[0]


def laid_out(X: np.ndarray, shape: str) -> np.ndarray:
    """White tokens with the spectrum and the mean of a shape."""
    return X * spectrum(shape) + (0 if shape == "equal" else np.linspace(-1, 2, WIDTH))


def spectrum(shape: str) -> np.ndarray:
    """Standard deviations of the dimensions."""
    return np.ones(WIDTH) if shape == "equal" else np.geomspace(2, 0.2, WIDTH)


def grid() -> Iterator[Cell]:
    """Every number of texts, shape and ICC."""
    return ((T, shape, icc) for T in TEXTS for shape in SHAPES for icc in ICC)


def lengths_of(rng: np.random.Generator, texts: int, shape: str) -> list[int]:
    """Tokens of every text: equal, or from half as many to four times as many."""
    if shape != "lopsided":
        return [LENGTH] * texts
    return [int(n) for n in rng.integers(LENGTH // 2 + 1, 4 * LENGTH, texts)]


def planted(folder: str, views: list[np.ndarray], lengths: list[int]) -> tuple[ts.Store, list]:
    """A store, and its sites two by two."""
    pairs = [(f"resid.{k}", f"resid.{k + 1}") for k in range(0, len(views), 2)]
    return planted_store(Path(folder) / "s", views, lengths), pairs


def alarms(cell: Cell, draws: int, rng: np.random.Generator) -> Rates:
    """Share of pairs on which a test rejects at 5 % although its null holds.

    Pairing: two unrelated views. Swaps: two draws of one law whose texts have the same means. max-T: any
    rejection in families of unrelated pairs.
    """
    texts, shape, icc = cell
    lengths, hits = lengths_of(rng, texts, shape), {}
    with tempfile.TemporaryDirectory() as folder:
        views = [cloud(rng, lengths, icc, shape) for _ in range(2 * draws)]
        store, pairs = planted(folder, views, lengths)
        for name, count in TESTED.items():
            given = GIVEN | {"permutations": count, "groups": 4, "n": min(200, 6 * texts)}
            rows = ts.sweep(name, store, pairs=pairs, **given)
            hits[name] = share(p <= 0.05 for p in rows.column("p_cell"))
            if name == "cka":
                hits["max-T of cka"] = share(families(list(rows)))
    with tempfile.TemporaryDirectory() as folder:
        views = [laid_out(X, shape) for _ in range(draws) for X in tokens(rng, lengths, icc, shape, copies=2)]
        store, pairs = planted(folder, views, lengths)
        given = GIVEN | {
            "permutations": 0,
            "groups": 4,
            "n": min(200, 6 * texts),
            "swaps": 39,
            "design": "paired",
        }
        for name in SWAPPED:
            rows = ts.sweep(name, store, pairs=pairs, **given)
            hits[f"swaps, {name}"] = share(p <= 0.05 for p in rows.column("p_cell"))
    return hits


def families(rows: list[dict[str, Any]]) -> Iterator[bool]:
    """Whether any pair of a family is rejected, family by family."""
    for k in range(0, len(rows) - FAMILY + 1, FAMILY):
        own = rows[k : k + FAMILY]
        values, null = np.array([r["value"] for r in own]), np.array([r["null_draws"] for r in own]).T
        yield bool((max_t(*studentised(values, null)) <= 0.05).any())


def coverage(cell: Cell, draws: int, rng: np.random.Generator) -> dict[str, Rates]:
    """Share of intervals that hold the population's value or, of readings at n and of every excess over the
    null, the mean over draws; by measure. "band": of the simultaneous band."""
    texts, shape, icc = cell
    lengths = lengths_of(rng, texts, shape)
    views: list[np.ndarray] = []
    for _ in range(draws):
        X = cloud(rng, lengths, icc, shape)
        views += [X, X + SHIFT + 0.3 * cloud(rng, lengths, icc, "equal")]
    found: dict[str, Rates] = {"value": {}, "excess": {}, "band": {}}
    with tempfile.TemporaryDirectory() as folder:
        store, pairs = planted(folder, views, lengths)
        for name, m in registry().items():
            if "y" in m.data:
                continue
            where = {"pairs": pairs} if "Y" in m.data else {"sites": [s for s, _ in pairs]}
            given = {"n": min(200, 4 * texts), "permutations": 19 if m.paired else 5}
            rows = list(ts.sweep(name, store, **given, **GIVEN, **where))
            known = name in POPULATION
            truth = truths(shape, icc)[name] if known else mean(rows, "value")
            found["value"][name] = covered(rows, truth)
            if "corrected_low" in rows[0]:
                found["excess"][name] = covered(rows, mean(rows, "corrected"), "corrected_")
            if name == "mean_norm":
                found["band"][name] = share(held(rows, truth))
    return found


def mean(rows: list[dict[str, Any]], name: str) -> float:
    return float(np.mean([r[name] for r in rows if r[name] is not None] or [np.nan]))


def covered(rows: list[dict[str, Any]], truth: float, which: str = "") -> float:
    """Share of intervals that hold a truth, but for rounding; a row without an interval holds nothing."""
    near = 1e-12 * abs(truth)
    ends = [(r[f"{which}low"], r[f"{which}high"]) for r in rows]
    return share(low is not None and low - near <= truth <= high + near for low, high in ends)


def held(rows: list[dict[str, Any]], truth: float) -> Iterator[bool]:
    """Whether the simultaneous band of some curves holds all of the truth."""
    for k in range(0, len(rows) - FAMILY + 1, FAMILY):
        own = rows[k : k + FAMILY]
        values, drops = np.array([r["value"] for r in own]), np.array([r["replicates"] for r in own])
        low, high = simultaneous(values, drops, scale=find(own[0]["measure"]).scale)
        yield bool(((low <= truth) & (truth <= high)).all())


def share(hits: Any) -> float:
    hits = list(hits)
    return float(np.mean(hits)) if hits else float("nan")


_TRUTHS: dict[tuple[str, float], Rates] = {}


def truths(shape: str, icc: float) -> Rates:
    """Population values: spectra and CKA from covariances, means from 200,000 texts of one token.

    The law of a token depends on the ICC where tails are heavy: a sum of two has lighter ones.
    """
    if (shape, icc) in _TRUTHS:
        return _TRUTHS[shape, icc]
    rng, variances = np.random.default_rng(99), spectrum(shape) ** 2
    found = {
        "participation_ratio": float(variances.sum() ** 2 / (variances**2).sum()),
    }
    X = cloud(rng, [1] * 200_000, icc, shape)
    Y = X + SHIFT + 0.3 * cloud(rng, [1] * 200_000, icc, "equal")
    found |= {"mean_norm": float(np.linalg.norm(X, axis=1).mean())}
    total, n = (X / np.linalg.norm(X, axis=1, keepdims=True)).sum(axis=0), len(X)
    found["anisotropy"] = 0.0 if shape == "equal" else float((total @ total - n) / (n * (n - 1)))
    found |= {name: float(find(name)(X, Y)) for name in PAIRED if name != "cka"}
    C = np.diag(variances)  # of X and of X with Y; Y has 0.09 more in every dimension
    yy = C + 0.09 * np.eye(WIDTH)
    found["cka"] = float((C**2).sum() / np.sqrt((C**2).sum() * (yy**2).sum()))
    return _TRUTHS.setdefault((shape, icc), found)


def shown(rate: float, low: float, high: float) -> str:
    """A rate, marked where it lies outside of its band."""
    return f"{rate:.0%}" if low <= rate <= high else f"**{rate:.0%}**"


def table(found: dict[Cell, Rates], draws: int, band: tuple[float, float], nominal: float) -> list[str]:
    """A markdown table: a row a cell of the grid, a column a measure, and the mean of each column."""
    names = list(next(iter(found.values())))
    counts = {n: draws // FAMILY if n.startswith(("max-T", "band")) else draws for n in names}
    lines = [f"| texts | law | ICC | {' | '.join(names)} |", f"|---|---|---|{'---|' * len(names)}"]

    def cells(rates: Rates, times: int) -> str:
        parts = []
        for name in names:
            error = 1.96 * np.sqrt(nominal * (1 - nominal) / max(1, counts[name] * times))
            parts.append(shown(rates[name], band[0] - error, band[1] + error))
        return " | ".join(parts)

    for (texts, shape, icc), rates in found.items():
        lines.append(f"| {texts} | {shape} | {icc:g} | {cells(rates, 1)} |")
    means = {name: float(np.nanmean([r[name] for r in found.values()])) for name in names}
    return [*lines, f"| all |  |  | {cells(means, len(found))} |"]


def keep(covers: dict[Cell, dict[str, Rates]], draws: int, seed: int) -> dict[str, Any]:
    """What rows are marked by: hits by value and excess, measure, number of texts and law."""
    laws = [f"{shape}, ICC {icc:g}" for shape in SHAPES for icc in ICC]
    told: dict[str, Any] = {"made by": "bench/calibrate.py", "draws": draws, "seed": seed}
    told |= {"texts": list(TEXTS), "laws": laws}
    for what in ("value", "excess"):
        told[what] = {
            name: [
                [round(draws * covers[t, shape, icc][what][name]) for shape in SHAPES for icc in ICC]
                for t in TEXTS
            ]
            for name in next(iter(covers.values()))[what]
        }
    lines = [f" {json.dumps(k)}: {json.dumps(v)}" for k, v in told.items() if not isinstance(v, dict)]
    for what in ("value", "excess"):
        rows = ",\n".join(f"  {json.dumps(name)}: {json.dumps(v)}" for name, v in told[what].items())
        lines.append(f" {json.dumps(what)}: {{\n{rows}\n }}")
    KEPT.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    return told


def summary(told: dict[str, Any]) -> list[str]:
    """A markdown table: a row a measure; coverage over all laws, the lowest and the highest of one law."""
    heads = [f"{what}, {t} texts" for what in ("value", "excess") for t in TEXTS]
    lines = [f"| measure | {' | '.join(heads)} |", f"|---|{'---|' * len(heads)}"]
    for name in told["value"]:
        cells = []
        for what in ("value", "excess"):
            for hits in told[what].get(name, [None] * len(TEXTS)):
                if hits is None:
                    cells.append("–")
                    continue
                rates = np.array(hits) / told["draws"]
                words = f"{rates.mean():.0%} ({rates.min():.0%} to {rates.max():.0%})"
                cells.append(f"**{words}**" if outside(hits, told["draws"]) else words)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def over_grid(what: str, of: Callable, draws: int, seed: int) -> dict[Cell, Any]:
    """Every cell's rates, each from a stream of its own, JOBS cells at a time; says how far it is."""
    cells = list(grid())
    asked = [(what, of, draws, seed, k, cell) for k, cell in enumerate(cells)]
    with ProcessPoolExecutor(JOBS) as pool:
        return dict(zip(cells, pool.map(one_cell, asked), strict=True))


def one_cell(asked: tuple[str, Callable, int, int, int, Cell]) -> Any:
    """The rates of one cell."""
    (what, of, draws, seed, k, cell), begun = asked, time.process_time()
    rates = of(cell, draws, np.random.default_rng([seed, k, len(what)]))
    print(f"{what}, {cell}: {time.process_time() - begun:.1f} CPU-s", file=sys.stderr, flush=True)
    return rates


def cpu() -> float:
    """CPU seconds of this process and of those that it has waited for."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def picked(found: dict[str, Rates], names: tuple[str, ...]) -> Rates:
    """Rates of some measures' values, and of the band of those that have one."""
    rates = {name: found["value"][name] for name in names}
    return rates | {f"band of {name}": rate for name, rate in found["band"].items() if name in names}


def alarm_lines(draws: int, seed: int) -> list[str]:
    """The section on false alarms."""
    nulls = ", ".join(f"{name} {count}" for name, count in TESTED.items())
    return [
        f"Unrelated views, whole texts permuted (draws of the null: {nulls});",
        "two draws of one law with the same means of texts, whole texts swapped (39). Band: at most 5 %.",
        f"max-T: families of {FAMILY}, {draws // FAMILY} a cell.",
        "",
        *table(over_grid("alarms", alarms, draws, seed), draws, (0.0, 0.05), 0.05),
    ]


def coverage_lines(draws: int, seed: int) -> list[str]:
    """The section on intervals; keeps what rows are marked by."""
    covers = over_grid("coverage", coverage, draws, seed)
    told, (low, high) = keep(covers, draws, seed), BAND
    return [
        f"Band: {low:.0%} to {high:.0%}. By number of texts: of the population's value where a measure",
        "estimates it, else, as for every excess over the null, of the mean over all draws of a cell. Over",
        f"all {len(SHAPES) * len(ICC)} laws, and the lowest and highest of one; **bold** where the band is",
        "left over all laws or under one of them by more than chance (exact binomial tests, 2.5 % each,",
        "Bonferroni over laws). Rows of every table carry these marks in the column `calibration`; captions",
        "and warnings of studies name them.",
        "",
        *summary(told),
        "",
        "Of the population's value, under every law. CKA of heavy tails: its terms are fourth moments,",
        "which a t of 4 degrees does not have. The band is of families of "
        f"{FAMILY}, {draws // FAMILY} a cell.",
        "",
        *table({c: picked(f, POPULATION) for c, f in covers.items()}, draws, BAND, 0.95),
        "",
        "Of readings at n, of their mean over all draws of the cell. Stable rank and top variance:",
        "directions from one half of the texts, variance in the other.",
        "",
        *table({c: picked(f, AT_N) for c, f in covers.items()}, draws, BAND, 0.95),
    ]


#: Sections of the page: what makes their lines, and the draws where nobody says.
PARTS: dict[str, tuple[str, Callable[[int, int], list[str]], int]] = {
    "alarms": ("False alarms, nominal 5 %", alarm_lines, 200),
    "coverage": ("Coverage of 95 % intervals", coverage_lines, 200),
    "changes": ("Change layers", change_layers, 400),
    "studies": ("Studies", studies, 100),
}
HEAD = f"""<!-- Made by bench/calibrate.py. -->

# Calibration

Clouds: {WIDTH} dimensions, at most 200 points, 6 a text; of intervals 4 a text.
Texts share a part of their tokens (ICC). Lopsided: unequal lengths, a falling spectrum and an
offset; heavy-tailed: Student's t with 4 degrees of freedom, the same spectrum and offset.
In tables by law a rate is in **bold** where it lies outside of its band by more than two standard errors of
its draws. Of rates that are right about one in forty is marked by chance: read the last row of a table first.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--draws", type=int, help="a cell; by default 200, of change layers 400")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", choices=PARTS, help="these sections; the others stay")
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--jobs", type=int, default=1, help="cells at a time, each on one core")
    asked = parser.parse_args()
    global JOBS
    JOBS = asked.jobs
    before = asked.page.read_text().split("\n## ")[1:] if asked.page.exists() else []
    sections = {text.partition("\n")[0]: text.rstrip() for text in before}
    for name in asked.only or PARTS:
        (heading, of, usual), begun = PARTS[name], cpu()
        draws = asked.draws or usual
        lines = of(draws, asked.seed)
        made = f"`python bench/calibrate.py --only {name} --draws {draws} --seed {asked.seed}`"
        made += f": {draws} draws a cell, {(cpu() - begun) / 60:.0f} CPU minutes."
        sections[heading] = "\n".join([heading, "", made, "", *lines])
    kept = [sections[heading] for heading, _, _ in PARTS.values() if heading in sections]
    asked.page.write_text("\n## ".join([HEAD, *kept]) + "\n")


if __name__ == "__main__":
    main()
