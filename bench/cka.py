"""CKA beside its peers: CPU seconds, peak memory and agreement, on all pairs of a stack of layers, in one
run.

    OMP_NUM_THREADS=1 python bench/cka.py [clouds.npz] [--points 2000]

`clouds.npz` holds one [n, d] array for each layer, in order; without it the clouds are those of
bench/sinkhorn.py. The plain version is ten lines of torch: centre, Gram matrices in float32, Song's
estimator, all pairs in one product. PyPI `pytorch-cka` runs where it is installed. Every way runs in a
process of its own, so that its memory is its own.
"""

import argparse
import importlib.metadata
import multiprocessing
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

Clouds = list[np.ndarray]


def ours(clouds: Clouds) -> np.ndarray:
    from transect.measures.similarity import cka

    which = [(i, j) for i in range(len(clouds)) for j in range(i, len(clouds))]
    return square(len(clouds), which, cka.values(clouds, which))


def plain_torch(clouds: Clouds) -> np.ndarray:
    import torch

    n = len(clouds[0])
    grams = []
    for X in clouds:
        Z = torch.from_numpy(X)
        Z = Z - Z.mean(dim=0)
        K = (Z @ Z.T).fill_diagonal_(0)
        rows = K.sum(dim=1, keepdim=True)
        K = K - (rows + rows.T) / (n - 2) + rows.sum() / ((n - 1) * (n - 2))
        grams.append(K.fill_diagonal_(0).flatten())
    G = torch.stack(grams)
    H = (G @ G.T).double()
    return (H / torch.sqrt(torch.outer(H.diag(), H.diag()))).numpy()


def by_pair(clouds: Clouds) -> np.ndarray:
    """Song's estimator pair by pair in float64: the truth, a few pairs of it are enough."""
    few = [(0, 1), (0, len(clouds) - 1), (len(clouds) // 2, len(clouds) - 2)]
    out = np.full((len(clouds), len(clouds)), np.nan)
    for i, j in few:
        K, L = (Z @ Z.T for Z in (clouds[k] - clouds[k].mean(axis=0, dtype=np.float64) for k in (i, j)))
        out[i, j] = hsic(K, L) / np.sqrt(hsic(K, K) * hsic(L, L))
    return out


def hsic(K: np.ndarray, L: np.ndarray) -> float:
    n, K, L = len(K), K - np.diag(np.diag(K)), L - np.diag(np.diag(L))
    a, b = K.sum(axis=1), L.sum(axis=1)
    return float((K * L).sum() + a.sum() * b.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (a @ b))


def pytorch_cka(clouds: Clouds) -> np.ndarray:
    import torch

    here = str(Path(__file__).parent.resolve())
    sys.path = [
        p for p in sys.path if str(Path(p or ".").resolve()) != here
    ]  # this file has the library's name
    import cka as peer  # pyright: ignore[reportMissingImports]

    layers = torch.from_numpy(np.stack(clouds))
    return peer.cka_from_features(layers, layers).numpy()


def square(layers: int, which: list[tuple[int, int]], values: list[float]) -> np.ndarray:
    out = np.zeros((layers, layers))
    for (i, j), value in zip(which, values, strict=True):
        out[i, j] = out[j, i] = value
    return out


def alone(name: str, path: str, points: int, pipe: Any) -> None:
    from sinkhorn import synthetic

    clouds = synthetic(n=points) if not path else [Z[:points] for Z in np.load(path).values()]
    globals()[name]([X[:64] for X in clouds[:2]])  # imports and thread pools are not the work
    before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    result = globals()[name](clouds)
    seconds = time.process_time() - begun
    pipe.send((seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**10, result))


def measured(name: str, path: str, points: int) -> tuple[float, float, np.ndarray]:
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=alone, args=(name, path, points, send))
    process.start()
    send.close()
    try:
        return receive.recv()
    finally:
        process.join()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clouds", nargs="?", default="", help="an .npz of one [n, d] array for each layer")
    parser.add_argument("--points", type=int, default=2000)
    options = parser.parse_args()
    _, _, truth = measured("by_pair", options.clouds, options.points)
    ways = ["ours", "plain_torch"] + (
        ["pytorch_cka"] if any(importlib.metadata.distributions(name="pytorch-cka")) else []
    )
    base = None
    print(f"clouds: {Path(options.clouds).name or 'synthetic'}, {len(truth)} layers, {options.points} points")
    for name in ways:
        seconds, memory, found = measured(name, options.clouds, options.points)
        base = base or seconds
        off = np.nanmax(np.abs(found - truth))
        print(
            f"  {name:<14}{seconds:8.2f} CPU-s {seconds / base:6.2f} x  {memory:7.0f} MB added  off by "
            f"{off:.1e}"
        )
    if len(ways) == 2:
        print("  pytorch-cka    not installed")


if __name__ == "__main__":
    main()
