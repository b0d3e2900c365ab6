"""The manifold map beside what refitting costs: CPU seconds of one thread, and agreement, in one run.

    OMP_NUM_THREADS=1 python bench/smds.py [STORE --label date] [--cells 6] [--reference]

Without a store the cells are synthetic: 1000 texts × 576 dimensions with a power-law spectrum, dates as
labels. The row of PERFORMANCE.md is the first ratio: 13 shapes with 100 permutations each against one
shape without a null. `--reference` adds the `smds` library, where it can be imported.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from transect.numeric.smds import SupervisedMDS
from transect.store.store import open_store
from transect.studies.manifold.map import evaluate_cell, prepare
from transect.studies.manifold.plan import MapJob, Plan, read_labels

SHAPES: dict[str, dict[str, Any]] = {
    "circle": {"period": 1},
    "semicircle": {"span": 1},
    "line": {},
    "log_line": {"offset": 0.1},
    "spiral": {"period": 1},
    "helix": {"period": 1},
    "discrete_circle": {
        "period": 1
    },  # of dates: refused, and costs nothing; the last shape below takes its place
    "chain": {"reach": 0.02},
    "closed_chain": {"period": 1, "reach": 0.02},
    "clusters": {},
    "graph": {},
    "polytope": {"dimension": 2},
    "circle ": {"period": 0.5},
    "spiral ": {"period": 1, "growth": 3},
}


def synthetic(cells: int, n: int = 1000, d: int = 576, seed: int = 0) -> tuple[list[np.ndarray], np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 365, n) / 365
    made = []
    for _ in range(cells):
        X = rng.standard_normal((n, d)) * np.arange(1, d + 1) ** -0.6
        X[:, 200:202] += 0.2 * np.column_stack([np.cos(2 * np.pi * y), np.sin(2 * np.pi * y)])
        made.append((X @ np.linalg.qr(rng.standard_normal((d, d)))[0]).astype(np.float32))
    return made, y


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def the_map(clouds: list[np.ndarray], plan: Plan, shapes: list[str]) -> list[Any]:
    out = []
    for X in clouds:
        cell = [prepare(X, plan, k) for k in range(len(plan.folds))]
        out.append([evaluate_cell(cell, plan, name, "free")["scores"] for name in shapes])
    return out


def naive(clouds: list[np.ndarray], plan: Plan) -> list[Any]:
    """The estimator fitted and scored anew for every fold of one shape."""
    y, out = plan.values[plan.value], []
    for X in clouds:
        scores = []
        for fold in plan.folds:
            T = X[fold.train].astype(float)
            size = np.sqrt(((T - T.mean(0)) ** 2).mean())
            made = SupervisedMDS("circle").fit(T / size, y[fold.train])
            scores.append(made.score(X[fold.test] / size, y[fold.test]))
        out.append([scores])
    return out


def reference(clouds: list[np.ndarray], plan: Plan) -> list[Any]:
    here = str(Path(__file__).parent.resolve())
    sys.path = [
        p for p in sys.path if str(Path(p or ".").resolve()) != here
    ]  # this file has the library's name
    from smds import SupervisedMDS as Theirs  # pyright: ignore[reportMissingImports]

    y = plan.values[plan.value]
    return [
        Theirs(manifold="circular", alpha=0.1).fit(X[f.train], y[f.train]).score(X[f.test], y[f.test])
        for X in clouds
        for f in plan.folds
    ]


def row(name: str, seconds: float, base: float, note: str = "") -> None:
    print(f"  {name:<52}{seconds:9.2f} CPU-s {seconds / base:8.2f} x  {note}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("store", nargs="?")
    parser.add_argument("--label", default="date")
    parser.add_argument("--cells", type=int, default=6)
    parser.add_argument("--dimensions", type=int, nargs="+", default=[576])
    parser.add_argument("--reference", action="store_true")
    options = parser.parse_args()
    for d in options.dimensions:
        if options.store:
            store = open_store(options.store)
            y, names = read_labels(store, (options.label,)), [s for s in store.sites if s != "resid.0"]
            clouds = [store.points(names[k * len(names) // options.cells], -2) for k in range(options.cells)]
        else:
            clouds, y = synthetic(options.cells, d=d)
        chosen = [name for name in SHAPES if name != "discrete_circle"]
        shapes = tuple((name.strip(), json.dumps(SHAPES[name])) for name in chosen if name == name.strip())
        job = MapJob("", "", (), (options.label,), None, shapes, permutations=100)
        full, bare = Plan(job, y), Plan(replace(job, shapes=shapes[:1], permutations=0), y)
        again = [
            Plan(replace(job, shapes=((n.strip(), json.dumps(SHAPES[n])),)), y)
            for n in chosen
            if n[-1] == " "
        ]
        print(f"{options.cells} cells of {clouds[0].shape}, {len(full.values)} label values, 3 folds")
        the_map(clouds[:1], bare, ["circle"])
        base, truth = timed(lambda c=clouds, p=bare: the_map(c, p, ["circle"]))
        row("map, one shape, no null", base, base)
        names = [n for n, _ in shapes]
        targets, _ = timed(
            lambda f=full, n=names, a=again: [
                [p.targets(s, k) is p.wanted(s, k) for k in range(3)]
                for p, ss in [(f, n), *((q, list(q.shapes)) for q in a)]
                for s in ss
            ]
        )
        row("  targets of 13 shapes × 101 draws, once a process", targets, base)

        def everything(c: Any = clouds, p: Any = full, a: Any = again, n: Any = names) -> list[Any]:
            out = []
            for X in c:
                cell = [prepare(X, p, k) for k in range(3)]
                out.append([evaluate_cell(cell, p, s, "free")["scores"] for s in n])
                out[-1] += [evaluate_cell(cell, q, next(iter(q.shapes)), "free")["scores"] for q in a]
            return out

        seconds, found = timed(everything)
        same = max(abs(np.subtract(f[0], t[0])).max() for f, t in zip(found, truth, strict=True))
        row("map, 13 shapes × 100 permutations", seconds, base, f"circle differs by {same:.0e}")
        seconds, fits = timed(lambda c=clouds, p=bare: naive(c, p))
        gap = max(abs(np.subtract(f[0], t[0])).max() for f, t in zip(fits, truth, strict=True))
        row("refit with the estimator, one shape, no null", seconds, base, f"differs by {gap:.0e}")
        row("  the same for 13 shapes × 101 draws (scaled up)", seconds * 13 * 101, base)
        if options.reference:
            seconds, _ = timed(lambda c=clouds, p=bare: reference(c, p))
            row("smds library, one shape, no null", seconds, base, "rescales labels: other numbers")
            row("  the same for 13 shapes × 101 draws (scaled up)", seconds * 13 * 101, base)


if __name__ == "__main__":
    main()
