"""What nulls and intervals cost beside the bare value, per measure; and CKA's null beside PyPI
`calibrated-similarity` at K = 200 on the same clouds.

    OMP_NUM_THREADS=1 python bench/nulls.py [clouds.npz] [--texts 60]

Clouds of n = 960 points at 31 layers, adjacent pairs. The peer is given block permutations of whole texts and
a plain torch CKA (biased, as its own example is), so that both test the same.
"""

import argparse
import importlib.metadata
import time
from pathlib import Path
from typing import Any

import numpy as np

from transect.inference.tests import permutation_p
from transect.measures.registry import find
from transect.numeric.permute import text_permutations

PAIRED = ("cka", "rsa", "knn_overlap", "cosine")
SLOW = ("procrustes",)
DRAWS, GROUPS = 199, 10
#: Groups whose leaving out is timed: the others cost the same.
TIMED = 3


def seconds(call: Any) -> tuple[float, Any]:
    begun = time.process_time()
    return (lambda result: (time.process_time() - begun, result))(call())


def ratios(clouds: list[np.ndarray], k: int, order: np.ndarray) -> None:
    """A line a measure: CPU seconds of the values, and what null and interval cost in units of them."""
    every = [(j, j + 1) for j in range(len(clouds) - 1)]
    group = np.repeat(np.arange(order.shape[1]) % GROUPS, k)
    print(f"{len(every)} adjacent pairs, n = {len(clouds[0])}, {order.shape[1]} texts of {k}")
    print(f"{'measure':<14}{'value':>9}   {'null':>22}   interval of {GROUPS} groups ({TIMED} timed)")
    for name in (*PAIRED, *SLOW):
        m, shared = find(name), {}
        draws, which = (order, every) if name in PAIRED else (order[:19], every[:2])
        value, _ = seconds(lambda m=m, s=shared, w=which: m.values(clouds, w, s, k))
        null, _ = seconds(lambda m=m, s=shared, d=draws, w=which: m.null_values(clouds, w, d, k, s))
        drops, _ = seconds(
            lambda m=m, w=which: [m.values([X[group != g] for X in clouds], w, {}, k) for g in range(TIMED)]
        )
        said = f"{null / value:6.2f} x ({len(draws):3} draws)"
        print(f"  {name:<12}{value:7.2f} s   {said:>22}   {drops / value * GROUPS / TIMED:6.2f} x")


def beside(clouds: list[np.ndarray], k: int, order: np.ndarray) -> None:
    """Verdicts at 5 % and CPU seconds of related and unrelated pairs, ours and the peer's."""
    if not any(importlib.metadata.distributions(name="calibrated-similarity")):
        print("calibrated-similarity: not installed")
        return
    import torch
    from calibrated_similarity import calibrate  # pyright: ignore[reportMissingImports]

    rng = np.random.default_rng(1)
    apart = [(p[:, None] * k + np.arange(k)).ravel() for p in text_permutations(order.shape[1], 2, rng)]
    pairs = [(clouds[j], clouds[j + 1]) for j in range(0, 4, 2)]
    pairs += [(clouds[j], clouds[j + 1][rows]) for j, rows in zip(range(0, 4, 2), apart, strict=True)]

    def cka(X: Any, Y: Any) -> Any:
        X, Y = X - X.mean(0), Y - Y.mean(0)
        K, L = X @ X.T, Y @ Y.T
        return (K * L).sum() / K.norm() / L.norm()

    def blocks(_n: int, _device: Any) -> Any:
        return torch.from_numpy((rng.permutation(order.shape[1])[:, None] * k + np.arange(k)).ravel())

    def ours() -> list[float]:
        flat = [X for pair in pairs for X in pair]
        which = [(2 * j, 2 * j + 1) for j in range(len(pairs))]
        values, shared = [], {}
        for value, null in zip(
            find("cka").values(flat, which, shared, k),
            find("cka").null_values(flat, which, order, k, shared),
            strict=True,
        ):
            values.append(permutation_p(value, null))
        return values

    def theirs() -> list[float]:
        return [
            float(calibrate(torch.from_numpy(X), torch.from_numpy(Y), cka, K=200, perm_fn=blocks)[1])
            for X, Y in pairs
        ]

    own, mine = seconds(ours)
    other, peers = seconds(theirs)
    same = sum((a <= 0.05) == (b <= 0.05) for a, b in zip(mine, peers, strict=True))
    print(f"K = 200, {len(pairs)} pairs, half of them shuffled by text: {same} of {len(pairs)} verdicts")
    print(
        f"  alike at 5 %; ours {own:.2f} CPU-s, calibrated-similarity {other:.2f} CPU-s, {other / own:.0f} x"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clouds", nargs="?", default="", help="an .npz of one [n, d] array for each layer")
    parser.add_argument("--texts", type=int, default=60)
    options = parser.parse_args()
    from sinkhorn import synthetic

    stack = list(np.load(options.clouds).values()) if options.clouds else synthetic(n=960)
    k = len(stack[0]) // options.texts
    clouds = [np.ascontiguousarray(X[: k * options.texts], np.float32) for X in stack]
    print(
        f"clouds: {Path(options.clouds).name or 'synthetic'}, {len(clouds)} layers, d = {clouds[0].shape[1]}"
    )
    order = text_permutations(options.texts, DRAWS, np.random.default_rng(0))
    ratios(clouds, k, order)
    beside(clouds, k, np.vstack([order, order[::-1][:1]]))


if __name__ == "__main__":
    main()
