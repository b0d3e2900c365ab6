"""Transport between two clouds: the exact Wasserstein distance, the entropic one, and the plan itself.

Points have equal weights. Squared distances are between centred points in float64, or in float32 where its
rounding is far below what is resolved. A distance called squared is in squared units of the activations.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from transect.errors import TransectError
from transect.measures.contract import measure
from transect.numeric.sinkhorn import (
    Cloud,
    costs,
    couple,
    in_threads,
    linear_cost,
    own_values,
    prepare_cloud,
    squared_distances,
)
from transect.work.options import within

SAME_FRAME = {"common rotation", "common translation", "row order"}
Pairs = Sequence[tuple[int, int]]


class Entropic(NamedTuple):
    """cost <P, C>; divergence, debiased; absolute epsilon; iterations; L1 marginal error; whether it is below
    tol."""

    cost: float
    divergence: float
    epsilon: float
    iterations: int
    error: float
    converged: bool


class Plan(NamedTuple):
    """Share of mass on the diagonal, normalised entropy, mean largest share of a row, L1 marginal error;
    whether that is below tol."""

    identity: float
    entropy: float
    concentration: float
    marginal_error: float
    converged: bool


@measure(
    source="Kantorovich 1942; Peyré & Cuturi 2019, arXiv:1803.00567",
    invariant_to=SAME_FRAME,
    itself=0.0,
    scale="log",
    label="W2²",
    unit="squared activation units",
    more="farther apart",
)
def wasserstein(X: Float[np.ndarray, "n d"], Y: Float[np.ndarray, "m d"]) -> float:
    """Exact squared 2-Wasserstein distance of two equally weighted clouds, in squared activation units, ≥ 0.

    Bias: two samples of one law lie apart by a floor that falls slowly with n and rises with d; compare with
    split halves and never across different n. An assignment for n = m, a linear programme otherwise: time up
    to n³, memory n × m. Raises when the linear programme does not end.
    """
    return _exact(prepare_cloud(X), prepare_cloud(Y))


wasserstein.prepare(prepare_cloud)


@wasserstein.pairs
def _wasserstein_pairs(clouds: Mapping[int, Cloud], which: Pairs) -> list[float | TransectError]:
    return in_threads(lambda pair: _or_error(_exact, clouds[pair[0]], clouds[pair[1]]), which)


@measure(
    source=(
        "Cuturi 2013, arXiv:1306.0895; Feydy et al. 2019, arXiv:1810.08278; Walker & Ni 2011, "
        "doi:10.1137/10078356X"
    ),
    invariant_to=SAME_FRAME,
    itself=0.0,
    headline="divergence",
    scale="log",
    label="Sinkhorn divergence",
    unit="squared activation units",
    more="farther apart",
)
def sinkhorn(
    X: Float[np.ndarray, "n d"],
    Y: Float[np.ndarray, "m d"],
    *,
    epsilon: Annotated[float, within(above=0)] = 0.05,
    tol: Annotated[float, within(above=0, below=1)] = 1e-3,
    max_iter: Annotated[int, within(1)] = 1000,
    device: Literal["cpu", "cuda", "auto"] = "cpu",
) -> Entropic:
    """Entropic transport: debiased Sinkhorn divergence and plan cost <P, C>, in squared activation units, ≥
    0.

    OT_eps = min <P, C> + eps KL(P | a ⊗ b) includes the entropy and is read from the dual. divergence =
    OT_eps(X, Y) - ½ OT_eps(X, X) - ½ OT_eps(Y, Y), all three at one absolute eps = epsilon × median squared
    distance of X to Y; it errs by about eps × error², and may be that much below 0. `cost` is not debiased:
    it is positive on (X, X). `error` is the largest L1 marginal error of the three solves and `converged`
    says that it is below tol; cost and divergence are NaN otherwise. `iterations` are those of (X, Y).
    On CUDA pairs of one shape are solved together, by the same steps. Raises when more than half of the
    distances are 0, or an option is out of range.
    """
    clouds = {0: prepare_cloud(X), 1: prepare_cloud(Y)}
    result = _sinkhorn_pairs(clouds, [(0, 1)], epsilon=epsilon, tol=tol, max_iter=max_iter, device=device)[0]
    if isinstance(result, TransectError):
        raise result
    return result


sinkhorn.prepare(prepare_cloud)


@sinkhorn.pairs
def _sinkhorn_pairs(
    clouds: Mapping[int, Cloud],
    which: Pairs,
    *,
    epsilon: float,
    tol: float,
    max_iter: int,
    device: str = "cpu",
) -> list[Entropic | TransectError]:
    _check_solver("sinkhorn", epsilon, tol, max_iter)
    on = "cuda" if device == "cuda" or (device == "auto" and _has_cuda()) else None
    return _solved(clouds, which, epsilon, tol, max_iter, on)


def _solved(
    clouds: Mapping[int, Cloud], which: Pairs, epsilon: float, tol: float, max_iter: int, on: str | None
) -> list[Entropic | TransectError]:
    """The pairs, then every cloud's self-terms together: its own cost matrix is made once and not kept. `on`:
    the torch device of batches, or None for threads."""

    def solve(pair: tuple[int, int]) -> tuple[Any, ...]:
        C, eps = _costs("sinkhorn", clouds[pair[0]], clouds[pair[1]], epsilon, tol)
        solved = couple(C, eps, tol, max_iter)
        return linear_cost(solved, C), solved.value, eps, solved.iterations, solved.error

    ready = {} if on is None else _between_on(on, clouds, which, epsilon, tol, max_iter)
    left = [pair for pair in which if pair not in ready]
    between = ready | dict(zip(left, in_threads(lambda pair: _or_error(solve, pair), left), strict=True))
    wanted: dict[int, set[float]] = {}
    for pair in which:
        if not isinstance(between[pair], TransectError):
            for k in pair:
                wanted.setdefault(k, set()).add(between[pair][2])
    if on is None:
        within = in_threads(lambda k: own_values(clouds[k], sorted(wanted[k]), tol, max_iter), list(wanted))
        selves = dict(zip(wanted, within, strict=True))
    else:
        selves = _within_on(on, clouds, wanted, tol, max_iter)
    return [
        result
        if isinstance(result, TransectError)
        else _debiased(result, selves[i][result[2]], selves[j][result[2]], tol)
        for (i, j), result in ((pair, between[pair]) for pair in which)
    ]


@measure(
    source="Cuturi 2013, arXiv:1306.0895; Peyré & Cuturi 2019, arXiv:1803.00567",
    invariant_to={"common rotation", "common translation"},
    paired=True,
    headline="identity",
    scale="logit",
    label="mass on the identity",
    unit="share",
    more="nearer to following each token",
)
def plan(
    X: Float[np.ndarray, "n d"],
    Y: Float[np.ndarray, "n d"],
    *,
    epsilon: Annotated[float, within(above=0)] = 0.05,
    tol: Annotated[float, within(above=0, below=1)] = 1e-3,
    max_iter: Annotated[int, within(1)] = 1000,
) -> Plan:
    """How far the entropic plan of paired clouds is the identity: share of mass on the diagonal, 0 to 1.

    entropy: of the plan, 0 for a permutation, 1 for the independent plan (H / log n - 1). concentration: mean
    over rows of the largest entry's share, 1/n to 1. Assumes the same points in both clouds; a large identity
    says that transport only follows each point. All three move with epsilon. marginal_error is L1; where it
    is not below tol the solve has not converged, and the three are NaN. Raises as `sinkhorn` does.
    """
    _check_solver("plan", epsilon, tol, max_iter)
    C, eps = _costs("plan", prepare_cloud(X), prepare_cloud(Y), epsilon, tol)
    solved = couple(C, eps, tol, max_iter)
    if not solved.error < tol:
        return Plan(np.nan, np.nan, np.nan, solved.error, False)
    P = solved.left[:, None].astype(np.float64) * solved.kernel * solved.right
    entropy = -float((P * np.log(np.maximum(P, np.finfo(float).tiny))).sum())
    concentration = float((P.max(axis=1) / P.sum(axis=1)).mean())
    return Plan(float(np.trace(P)), float(entropy / np.log(len(P)) - 1), concentration, solved.error, True)


def _exact(X: Cloud, Y: Cloud) -> float:
    """Assignment on costs reduced by their column and row minima: the same optimum, found 4 to 20 times
    sooner."""
    C = squared_distances(X, Y)
    n, m = C.shape
    if n == m:
        from scipy.optimize import linear_sum_assignment

        reduced = C - C.min(axis=0)
        reduced -= reduced.min(axis=1, keepdims=True)
        return float(C[linear_sum_assignment(reduced)].mean())
    import ot

    solved: Any = ot.emd2(np.full(n, 1 / n), np.full(m, 1 / m), C, numItermax=100 * (n + m) ** 2, log=True)
    value, log = solved
    if log["warning"]:
        raise TransectError(
            f"wasserstein: no optimum for {n} × {m} points: {log['warning']}", "Use fewer points."
        )
    return float(value)


def _costs(name: str, X: Cloud, Y: Cloud, epsilon: float, tol: float) -> tuple[np.ndarray, float]:
    C, eps = costs(X, Y, epsilon, tol)
    if not eps > 0:
        raise _flat(name, (X, Y))
    return C, eps


def _flat(name: str, pair: tuple[Cloud, Cloud]) -> TransectError:
    n, m = (len(c.points) for c in pair)
    return TransectError(
        f"{name}: the median squared distance of {n} × {m} points is 0, and epsilon is relative to it.",
        "Drop repeated points.",
    )


def _debiased(
    between: tuple[Any, ...], self_costs: tuple[float, float], own2: tuple[float, float], tol: float
) -> Entropic:
    cost, value, eps, iterations, error = between
    worst = max(error, self_costs[1], own2[1])
    if not worst < tol:
        return Entropic(np.nan, np.nan, eps, iterations, worst, False)
    return Entropic(cost, value - self_costs[0] / 2 - own2[0] / 2, eps, iterations, worst, True)


def _between_on(
    device: str, clouds: Mapping[int, Cloud], which: Pairs, epsilon: float, tol: float, max_iter: int
) -> dict[tuple[int, int], tuple[Any, ...]]:
    """What an accelerator solves, pairs of one shape together. A pair that does not converge there, or has no
    median distance, is left to the processor, which anneals or says why."""
    from transect.numeric import sinkhorn_batched as batched

    shapes: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for i, j in which:
        shapes.setdefault((len(clouds[i].points), len(clouds[j].points)), []).append((i, j))
    ready: dict[tuple[int, int], tuple[Any, ...]] = {}
    for same in shapes.values():
        pairs = [(clouds[i], clouds[j]) for i, j in same]
        solved = batched.between(pairs, epsilon, tol, max_iter - max_iter // 2, device)
        ready |= {
            pair: solution
            for pair, solution in zip(same, solved, strict=True)
            if solution and solution[-1] < tol
        }
    return ready


def _within_on(
    device: str, clouds: Mapping[int, Cloud], wanted: Mapping[int, set[float]], tol: float, max_iter: int
) -> dict[int, dict[float, tuple[float, float]]]:
    """Self-terms of every cloud at every eps that a pair of it has, clouds of one size together."""
    from transect.numeric import sinkhorn_batched as batched

    sizes: dict[int, list[tuple[int, float]]] = {}
    for k, all_eps in wanted.items():
        sizes.setdefault(len(clouds[k].points), []).extend((k, eps) for eps in sorted(all_eps))
    selves: dict[int, dict[float, tuple[float, float]]] = {}
    for same in sizes.values():
        solved = batched.within([(clouds[k], eps) for k, eps in same], tol, max_iter, device)
        for (k, eps), solution in zip(same, solved, strict=True):
            selves.setdefault(k, {})[eps] = solution
    return selves


def _or_error(func: Callable[..., Any], *args: Any) -> Any:
    """A pair that cannot be solved stands as its TransectError beside the others."""
    try:
        return func(*args)
    except TransectError as error:
        return error


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def _check_solver(name: str, epsilon: float, tol: float, max_iter: int) -> None:
    if not (epsilon > 0 and np.isfinite(epsilon) and 0 < tol < 1 and max_iter >= 1):
        raise TransectError(
            f"{name}: epsilon = {epsilon:g}, tol = {tol:g}, max_iter = {max_iter}.",
            "Take epsilon above 0, tol between 0 and 1, max_iter of 1 or more.",
        )
