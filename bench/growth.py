"""How cost grows: CPU seconds of each kind of work at several sizes, and the exponent fitted to them.

    OMP_NUM_THREADS=1 python bench/growth.py [CLOUDS.npz]

The exponent is the slope of log seconds on log size over all sizes; what the definition says stands
beside it. Fixed costs make it smaller at small sizes. Clouds come from bench/clouds.py, or are drawn;
one thread.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


def seconds_of(work: Callable[[], Any], repeats: int = 2) -> float:
    """The least CPU seconds of a few calls."""
    taken = []
    for _ in range(repeats):
        begun = time.process_time()
        work()
        taken.append(time.process_time() - begun)
    return min(taken)


def grow(
    name: str, of: str, says: str, sizes: Sequence[int], make: Callable[[int], Callable[[], Any]]
) -> float:
    """Print a row of seconds for each size, and return the fitted exponent."""
    taken = [seconds_of(make(size)) for size in sizes]
    exponent = float(np.polyfit(np.log(sizes), np.log(taken), 1)[0])
    cells = "".join(f"{f'{s:g}: {t:.2f} s':>16}" for s, t in zip(sizes, taken, strict=True))
    print(f"  {name:<26}{of:<12}{cells}   exponent {exponent:5.2f}   definition {says}", flush=True)
    return exponent


def measures(clouds: list[np.ndarray]) -> None:
    from transect.measures.distances import bures
    from transect.measures.similarity import cka
    from transect.measures.transport import sinkhorn, wasserstein

    n = len(clouds[0])
    halves = (n // 4, n // 2, n)
    five = [(1, 2), (5, 6), (3, 20), (10, 28), (29, 30)]
    for measure in (sinkhorn, wasserstein):
        exponent = "2" if measure is sinkhorn else "2 to 3"
        grow(
            measure.name,
            "points",
            exponent,
            halves,
            lambda k, m=measure: lambda: m.values([X[:k] for X in clouds], five),
        )
    widths = (144, 288, 576)
    grow("bures", "width", "3", widths, lambda d: lambda: bures.values([X[:, :d] for X in clouds], five))
    grow(
        "sinkhorn",
        "width",
        "1, at most",
        widths,
        lambda d: lambda: sinkhorn.values([X[:, :d] for X in clouds], five),
    )

    def matrix(layers: int) -> Callable[[], Any]:
        chosen = clouds[:layers]
        return lambda: cka.values(chosen, [(i, j) for i in range(layers) for j in range(i, layers)])

    grow("cka, all pairs", "layers", "1 to 2", (8, 16, 31), matrix)
    grow(
        "cka, all pairs",
        "points",
        "2",
        halves,
        lambda k: lambda: cka.values([X[:k] for X in clouds[:8]], upper(8)),
    )


def upper(layers: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(layers) for j in range(i, layers)]


def maps() -> None:
    from transect.studies.manifold.map import evaluate_cell, prepare
    from transect.studies.manifold.plan import MapJob, Plan

    rng = np.random.default_rng(0)

    def cell(n: int) -> Callable[[], Any]:
        y = rng.integers(0, 365, n) / 365
        X = (rng.standard_normal((n, 576)) * np.arange(1, 577) ** -0.6).astype(np.float32)
        plan = Plan(MapJob("", "", (), ("date",), None, (("circle", '{"period": 1}'),), permutations=100), y)
        return lambda: evaluate_cell([prepare(X, plan, k) for k in range(3)], plan, "circle", "free")

    grow("supervised MDS, one cell", "texts", "1 to 3", (300, 600, 1200), cell)


def neurons() -> None:
    from transect.numeric.moments import Accumulator
    from transect.studies.neurons.maps import project

    rng = np.random.default_rng(0)
    X = rng.standard_normal((8192, 2048)).astype(np.float32)

    def correlation(rows: int, width: int) -> Callable[[], Any]:
        def work() -> None:
            sums = Accumulator(width)
            for k in range(0, rows, 2048):
                sums.update(X[k : k + 2048, :width])
            sums.freeze()

        return work

    grow("neuron correlation", "tokens", "1", (2048, 4096, 8192), lambda n: correlation(n, 1024))
    grow("neuron correlation", "neurons", "2", (512, 1024, 2048), lambda w: correlation(8192, w))
    rho = np.corrcoef(X[:2048, :1024].T + np.outer(rng.standard_normal(1024), X[:2048, 0]))
    grow("layout (SMACOF, 3-D)", "neurons", "2", (256, 512, 1024), lambda w: lambda: project(rho[:w, :w], 3))


def capturing() -> None:
    import transect as ts

    model, texts = ts.open_model("smollm2"), ts.open_texts("gsm-test:32")
    model.id  # noqa: B018  the fingerprint is made once a model
    memory = []
    with tempfile.TemporaryDirectory() as folder:

        def work(count: int) -> Callable[[], Any]:
            def once() -> None:
                ts.capture(model, texts.subset(range(count)), f"{folder}/{count}-{len(memory)}")
                memory.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)

            return once

        ts.capture(model, texts.subset([0, 1]), f"{folder}/warm")
        grow("capture, resid", "texts", "1", (8, 16, 32), work)
    print(f"  capture: most memory after 8 texts {memory[1]:.0f} MB, after 32 texts {memory[-1]:.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clouds", nargs="?")
    options = parser.parse_args()
    import torch

    from sinkhorn import synthetic

    torch.set_num_threads(1)
    clouds = (
        synthetic()
        if not options.clouds
        else [X.astype(np.float32) for X in np.load(options.clouds).values()]
    )
    print("CPU seconds at each size, and the exponent fitted to them")
    measures(clouds)
    maps()
    neurons()
    capturing()


if __name__ == "__main__":
    main()
