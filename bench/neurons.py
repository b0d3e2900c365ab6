"""Neuron correlation against the machine's matmul rate, and layouts beside scikit-learn's MDS at N = 1536.

python bench/neurons.py [--width 1536] [--tokens 16384]
"""

import argparse
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from transect.numeric.moments import Accumulator
from transect.studies.neurons.maps import project, stress


def cpu(work: Callable[[], Any]) -> tuple[float, Any]:
    """(CPU seconds, result)."""
    begun = time.process_time()
    result = work()
    return time.process_time() - begun, result


def streamed(blocks: list[np.ndarray]) -> np.ndarray:
    """Correlation by the accumulator."""
    sums = Accumulator(blocks[0].shape[1])
    for block in blocks:
        sums.update(block)
    return sums.freeze().correlation


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=1536)
    parser.add_argument("--tokens", type=int, default=16384)
    given = parser.parse_args()
    from sklearn.manifold import MDS

    rng = np.random.default_rng(0)
    latent = rng.normal(size=(12, given.width))
    X = (
        rng.normal(size=(given.tokens, 12)) @ latent + 3 * rng.normal(size=(given.tokens, given.width)) + 5
    ).astype(np.float32)
    blocks = np.array_split(X, 8)
    floor = min(cpu(lambda: [b.T @ b for b in blocks])[0] for _ in range(3))
    ours, rho = min((cpu(lambda: streamed(blocks)) for _ in range(3)), key=lambda r: r[0])
    naive, exact = cpu(lambda: np.corrcoef(X.T.astype(np.float64)))
    print(f"correlation, {given.tokens} tokens × {given.width} neurons, one thread")
    print(f"  float32 products alone          {floor:7.2f} CPU-s   1.00 x")
    print(
        f"  streamed correlation            {ours:7.2f} CPU-s  {ours / floor:5.2f} x  {floor / ours:.0%} "
        "of the matmul rate"
    )
    print(
        f"  np.corrcoef in float64          {naive:7.2f} CPU-s  {naive / floor:5.2f} x  differs by at most "
        f"{np.abs(rho - exact).max():.0e}"
    )
    np.fill_diagonal(rho, 1)
    target = (1 - rho).astype(np.float32)
    seconds, made = cpu(lambda: project(rho, 3, control=rho))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        peer_s, peer = cpu(
            lambda: MDS(3, dissimilarity="precomputed", n_init=1, random_state=0).fit_transform(target)
        )
    print(f"layout of {given.width} neurons in 3-D")
    print(f"  project (one map)               {seconds / 2:7.2f} CPU-s  stress {made.stress:.4f}")
    print(
        f"  sklearn MDS, one start          {peer_s:7.2f} CPU-s  stress "
        f"{stress(peer.astype(np.float32), target):.4f}"
    )
    half = min(cpu(lambda: streamed([b[:, : given.width // 2] for b in blocks]))[0] for _ in range(3))
    print(f"growth of correlation with width: exponent {np.log2(ours / half):.2f} (2 is the product alone)")


if __name__ == "__main__":
    main()
