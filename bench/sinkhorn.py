"""Transport beside its peers: CPU seconds and agreement, on the pairs of a stack of layers, in one run.

    OMP_NUM_THREADS=1 python bench/sinkhorn.py [clouds.npz] [--pairs 20] [--sizes 500 1000]

`clouds.npz` holds one [n, d] array for each layer, in order. Without it the clouds are synthetic: a
residual stream with a power-law spectrum, 12 % of new variance and one nonlinear update a layer, two
growing dimensions, and norms that vary from token to token. Ratios are to the float32 cost matrices of
the same pairs alone.
"""

import argparse
import importlib.util
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import ot
import torch
from scipy.optimize import linear_sum_assignment

from transect.measures.distances import bures
from transect.measures.transport import sinkhorn, wasserstein
from transect.numeric.sinkhorn import median, prepare_cloud, squared_distances

Clouds = list[np.ndarray]
Pairs = list[tuple[int, int]]


def synthetic(layers: int = 31, n: int = 1000, d: int = 576, seed: int = 0) -> Clouds:
    rng = np.random.default_rng(seed)
    scale = np.arange(1, d + 1) ** -0.6
    basis = np.linalg.qr(rng.standard_normal((d, d)))[0]
    X = (rng.standard_normal((n, d)) * scale) @ basis
    stack = [X.astype(np.float32)]
    for layer in range(1, layers):
        update = np.tanh(X @ rng.standard_normal((d, d)) / np.sqrt(d))
        X = X + 0.35 * update + 0.25 * (rng.standard_normal((n, d)) * scale) @ basis
        X[:, 3] += 0.06 * layer
        X[:, 7] *= 1.08
        X *= np.exp(0.05 * rng.standard_normal((n, 1)))
        stack.append(X.astype(np.float32))
    return stack


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def all_pairs(layers: int) -> Pairs:
    return [(i, j) for i in range(layers) for j in range(i + 1, layers)]


def some(pairs: Pairs, count: int) -> Pairs:
    """`count` pairs near and far alike, evenly through the list."""
    return [pairs[k] for k in np.linspace(0, len(pairs) - 1, min(count, len(pairs))).astype(int)]


def pot_cost(C: np.ndarray, eps: float) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(ot.sinkhorn2([], [], C, eps))


def torch_cost(C: np.ndarray, eps: float, tol: float = 1e-3) -> float:
    """The log-domain loop as one writes it in torch, float32, to the same L1 marginal error."""
    M = torch.from_numpy(C) / -eps
    n, m = M.shape
    h = torch.zeros(m)
    for _ in range(1000):
        f = np.log(m) - torch.logsumexp(M + h, dim=1)
        after = np.log(n) - torch.logsumexp(M + f[:, None], dim=0)
        if torch.expm1(h - after).abs().mean() < tol:
            break
        h = after
    return float((torch.exp(M + f[:, None] + h) / (n * m)).mul_(torch.from_numpy(C)).sum())


def pot_bures(X: np.ndarray, Y: np.ndarray) -> float:
    X, Y = X.astype(np.float64), Y.astype(np.float64)
    return float(ot.gaussian.empirical_bures_wasserstein_distance(X, Y, reg=1e-6) ** 2)


def row(name: str, seconds: float, base: float, note: str = "") -> None:
    print(f"  {name:<44}{seconds:8.2f} CPU-s {seconds / base:7.2f} x  {note}", flush=True)


def far(values: list[float], truth: list[float]) -> str:
    off = np.abs(np.array(values) - truth) / np.abs(truth)
    known = off[~np.isnan(off)]
    return f"differs by at most {known.max(initial=0):.1e}" + (
        f", {len(off) - len(known)} NaN" if len(known) < len(off) else ""
    )


def entropic(clouds: Clouds, few: Pairs) -> None:
    """Ours and the cost matrices on all pairs; the peers on `few` of them, beside the cost matrices of
    those.
    """
    prepared, every = [prepare_cloud(X) for X in clouds], all_pairs(len(clouds))

    def matrices_only() -> None:
        for i, j in every:
            squared_distances(prepared[i], prepared[j], np.float32)

    base, _ = timed(matrices_only)
    print(f"  all {len(every)} pairs")
    row("cost matrices alone, float32", base, base)
    seconds, ours = timed(lambda: sinkhorn.values(clouds, every))
    share = f"{sum(r.converged for r in ours)}/{len(ours)} converged"
    row("sinkhorn with costs and self-terms", seconds, base, share)
    print(
        f"    iterations: mean {np.mean([r.iterations for r in ours]):.1f}, most "
        f"{max(r.iterations for r in ours)}"
    )
    print(f"  {len(few)} of the pairs")
    base, matrices = timed(lambda: [squared_distances(prepared[i], prepared[j], np.float32) for i, j in few])
    all_eps = [0.05 * median(C) for C in matrices]
    row("cost matrices alone, float32", base, base)
    tight = [r.cost for r in sinkhorn.values(clouds, few, tol=1e-6, max_iter=5000)]
    print(
        "    <P, C> of sinkhorn above, beside tol = 1e-6: "
        f"{far([ours[every.index(p)].cost for p in few], tight)}"
    )
    for name, peer in (("POT ot.sinkhorn2, defaults", pot_cost), ("torch log-domain loop", torch_cost)):
        given = [C.astype(np.float64) if peer is pot_cost else C for C in matrices]
        seconds, values = timed(
            lambda peer=peer, M=given: [peer(C, e) for C, e in zip(M, all_eps, strict=True)]
        )
        row(f"{name} + costs, <P, C> alone", seconds + base, base, far(values, tight))
    if importlib.util.find_spec("geomloss") is None:
        print("  geomloss is not installed")
        return
    debiased = [ours[every.index(p)].divergence for p in few]
    clouds64 = [torch.from_numpy(X.astype(np.float64)) for X in clouds]
    seconds, values = timed(
        lambda: [
            geomloss_divergence(clouds64[i], clouds64[j], e) for (i, j), e in zip(few, all_eps, strict=True)
        ]
    )
    row("geomloss SamplesLoss, divergence", seconds, base, far(values, debiased))


def geomloss_divergence(X: torch.Tensor, Y: torch.Tensor, eps: float) -> float:
    """geomloss halves the squared distance: blur² = eps / 2, and twice its value. Its annealing is left at
    the default.
    """
    from geomloss import SamplesLoss

    loss = SamplesLoss("sinkhorn", p=2, blur=float(np.sqrt(eps / 2)), backend="tensorized")
    return 2 * float(loss(X, Y))


def exact(clouds: Clouds, pairs: Pairs) -> None:
    prepared = [prepare_cloud(X) for X in clouds]
    base, matrices = timed(lambda: [squared_distances(prepared[i], prepared[j]) for i, j in pairs])
    row("cost matrices alone, float64", base, base)
    seconds, ours = timed(lambda: wasserstein.values(clouds, pairs))
    row("wasserstein, cost matrices within", seconds, base)
    seconds, values = timed(lambda: [float(C[linear_sum_assignment(C)].mean()) for C in matrices])
    row("scipy linear_sum_assignment + costs", seconds + base, base, far(values, ours))
    seconds, values = timed(lambda: [float(ot.emd2([], [], C, numItermax=10**7)) for C in matrices])
    row("POT emd2 + costs", seconds + base, base, far(values, ours))
    seconds, ours = timed(lambda: bures.values(clouds, pairs))
    row("bures", seconds, base)
    few = pairs[: max(1, len(pairs) // 4)]
    seconds, values = timed(lambda: [pot_bures(clouds[i], clouds[j]) for i, j in few])
    row(
        "POT gaussian (scaled from a quarter)",
        seconds * len(pairs) / len(few),
        base,
        far(values, ours[: len(few)]),
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clouds", nargs="?", help="an .npz of one [n, d] array for each layer")
    parser.add_argument("--pairs", type=int, default=20, help="pairs on which the slow peers run")
    parser.add_argument("--sizes", type=int, nargs="+", default=[500, 1000])
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.clouds:
        with np.load(options.clouds) as file:
            clouds = [file[name].astype(np.float32) for name in file.files]
    else:
        clouds = synthetic(n=max(options.sizes))
    print(f"clouds: {options.clouds or 'synthetic'}, {len(clouds)} layers of {clouds[0].shape}")
    pairs = some(all_pairs(len(clouds)), options.pairs)
    for n in options.sizes:
        print(f"n = {n}, epsilon 0.05 x median, tol 1e-3")
        entropic([X[:n] for X in clouds], pairs)
        exact([X[:n] for X in clouds], pairs)
    if len(options.sizes) > 1:
        growth(clouds, pairs[:6], min(options.sizes), max(options.sizes))


def growth(clouds: Clouds, pairs: Pairs, small: int, large: int) -> None:
    """Exponent of CPU seconds in n between two sizes."""
    for name, m in (("sinkhorn", sinkhorn), ("wasserstein", wasserstein), ("bures", bures)):
        seconds = [
            timed(lambda n=n, m=m: m.values([X[:n] for X in clouds], pairs))[0] for n in (small, large)
        ]
        exponent = np.log(seconds[1] / seconds[0]) / np.log(large / small)
        print(f"growth of {name} from n = {small} to {large}: exponent {exponent:.2f}")


if __name__ == "__main__":
    main()
