"""Numeric room of entropic transport between uniform clouds: squared distances and the stabilised solver.

A pair is solved on one kernel that stays in cache, exp(h - C / eps - top) about an absorbed potential h, so
an iteration is two matrix-vector products. The potential is accelerated (Anderson, depth 5) under a
safeguard, and the kernel is rebuilt by a log-domain half step when the potential drifts. Potentials are
float64, in units of eps. Arrays in, arrays out: `measures/transport.py` gives them their meaning.
"""

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

DEPTH = 5  # Anderson history
DRIFT = 15.0  # natural-log units a potential may leave the absorbed one before the kernel is rebuilt
FLOOR = (
    -60.0
)  # exponents are clipped here: e^(FLOOR + 2 DRIFT) is below float32's rounding, and nothing is denormal
ROUNDING = (
    2.0**-22
)  # float32 squared distances are off by at most about this times the two largest squared norms
LEEWAY = 1e-3  # rounding allowed in float32, in units of eps: an error of 0.1 % in a plan entry
STAGE = 40  # iterations at one eps while annealing
BLOCK = 256  # rows of a symmetric kernel filled at once
TINY = float(np.finfo(np.float64).tiny)
NARROW_TOL = 1e-5  # marginal errors below this are lost in float32 sums
Step = Callable[[np.ndarray], tuple[np.ndarray, float]]


class Cloud(NamedTuple):
    """A cloud prepared once: the points as given, their float64 mean, centred float32 points, largest squared
    norms."""

    points: np.ndarray
    mean: np.ndarray
    centred: np.ndarray
    spread: float
    size: float


class Coupling(NamedTuple):
    """A solved pair: the plan is left[:, None] * kernel * right; `value` is the dual value, entropy
    included."""

    value: float
    left: np.ndarray
    kernel: np.ndarray
    right: np.ndarray
    iterations: int
    error: float


def prepare_cloud(X: np.ndarray) -> Cloud:
    """Centre X in float64, once for all its pairs; float32 is kept only where it can hold the squares."""
    mean = X.mean(axis=0, dtype=np.float64)
    centred = X - mean
    spread = float(np.einsum("ij,ij->i", centred, centred).max())
    size = spread + float(mean @ mean)
    holds = 1e-30 < spread < 1e30
    return Cloud(X, mean, centred.astype(np.float32) if holds else np.zeros((0, 0), np.float32), spread, size)


def squared_distances(X: Cloud, Y: Cloud, dtype: Any = np.float64) -> np.ndarray:
    """Squared distances [n, m]. Both clouds are moved to Y's mean first, so that a common offset cannot
    cancel."""
    if dtype == np.float32:
        A, B = X.centred + (X.mean - Y.mean).astype(np.float32), Y.centred
    else:
        A, B = X.points - Y.mean, Y.points - Y.mean
    a, b = np.einsum("ij,ij->i", A, A), np.einsum("ij,ij->i", B, B)
    C = np.matmul(np.multiply(A, -2, out=A), B.T)
    C += a[:, None]
    C += b
    return np.clip(C, 0, np.inf, out=C)  # three times as fast as `maximum` with a scalar


def rounding(X: Cloud, Y: Cloud) -> float:
    """Bound on the error of a float32 squared distance; infinite where float32 cannot hold the squares."""
    if not X.centred.size or not Y.centred.size:
        return np.inf
    apart = np.linalg.norm(X.mean - Y.mean)
    return float(ROUNDING * ((np.sqrt(X.spread) + apart) ** 2 + Y.spread))


def median(C: np.ndarray) -> float:
    """Exact median of all entries by one selection; `np.median` takes nine times as long."""
    half = C.size // 2
    ordered = np.partition(C, half, axis=None)
    return float(ordered[half]) if C.size % 2 else (float(ordered[:half].max()) + float(ordered[half])) / 2


def costs(X: Cloud, Y: Cloud, epsilon: float, tol: float) -> tuple[np.ndarray, float]:
    """Cost matrix and absolute eps = epsilon × median cost, in float32 where its rounding is far below
    eps."""
    bound = rounding(X, Y)
    if np.isfinite(bound) and tol >= NARROW_TOL:
        C = squared_distances(X, Y, np.float32)
        middle = median(C)
        if bound < LEEWAY * epsilon * middle and middle > nothing(X, Y):
            return C, epsilon * middle
    C = squared_distances(X, Y)
    middle = median(C)
    return C, epsilon * middle if middle > nothing(X, Y) else 0.0


def nothing(X: Cloud, Y: Cloud) -> float:
    """What float64 may leave of a squared distance of zero."""
    return 1e-28 * (X.size + Y.size)


def couple(C: np.ndarray, eps: float, tol: float, max_iter: int) -> Coupling:
    """Minimise <P, C> + eps KL(P | a ⊗ b) over couplings of uniform a, b: row sums exact, column sums within
    `error`.

    Half of `max_iter` is kept for a second try, in float64 and annealed, where the first one has not ended.
    """
    start = C.min(axis=0).astype(np.float64) / eps  # every row and every column of the first kernel holds a 1
    problem = _Pair(C, eps, start)
    fast = max_iter - max_iter // 2
    h, iterations, error = accelerate(problem.step, start, tol, fast)
    if not error < tol and fast < max_iter:
        problem, h, more, error = _anneal(C.astype(np.float64, copy=False), eps, tol, max_iter - fast)
        iterations += more
    f = np.log(C.size * problem.left.astype(np.float64)) - problem.top
    value = eps * (f.mean() + h.mean())
    return Coupling(float(value), problem.left, problem.kernel, problem.right, iterations, error)


def _anneal(C: np.ndarray, eps: float, tol: float, turns: int) -> tuple["_Pair", np.ndarray, int, float]:
    """Solve at the largest cost first, then at half of it, and so on down to eps, each from the one before.

    Mass that must travel thousands of eps (a few tokens of huge norm) moves one eps a step otherwise.
    Source: Kosowsky & Yuille 1994, doi:10.1016/0893-6080(94)90081-7.
    """
    potential, at, spent = C.min(axis=0), float(C.max()), 0
    while at > eps and spent < turns - STAGE:
        problem = _Pair(C, at, potential / at)
        h, more, _ = accelerate(problem.step, potential / at, tol, STAGE)
        potential, at, spent = h * at, at / 2, spent + more
    problem = _Pair(C, eps, potential / eps)
    h, more, error = accelerate(problem.step, potential / eps, tol, turns - spent)
    return problem, h, spent + more, error


def own_values(
    X: Cloud, all_eps: Sequence[float], tol: float, max_iter: int
) -> dict[float, tuple[float, float]]:
    """`self_value` of one cloud at several eps. Its cost matrix is made once per precision; no eps helps
    another, so that a pair's result does not depend on the other pairs."""
    solved: dict[Any, np.ndarray] = {}
    values = {}
    for eps in all_eps:
        dtype = np.float32 if rounding(X, X) < LEEWAY * eps and tol >= NARROW_TOL else np.float64
        if dtype not in solved:
            solved[dtype] = squared_distances(X, X, dtype)
        values[eps] = self_value(solved[dtype], eps, tol, max_iter)
    return values


def self_value(C: np.ndarray, eps: float, tol: float, max_iter: int) -> tuple[float, float]:
    """OT_eps of a cloud with itself (dual value) and its marginal error; C is symmetric with a zero diagonal.

    One potential, averaged steps from 0; it lies within ± log(n) / 2, so the kernel needs no absorption, and
    only its upper triangle is filled and read.
    """
    from scipy.linalg.blas import dsymv, ssymv

    n, kernel = len(C), np.empty_like(C)
    for i in range(0, n, BLOCK):
        block = np.multiply(C[i : i + BLOCK, i:], C.dtype.type(-1 / eps), out=kernel[i : i + BLOCK, i:])
        np.exp(np.clip(block, FLOOR, 0, out=block), out=block)
    product = ssymv if C.dtype == np.float32 else dsymv

    def rows(f: np.ndarray) -> np.ndarray:
        """Row sums of the plan times n."""
        scale = np.exp(f)
        return scale * product(1.0, kernel.T, scale.astype(C.dtype), lower=1).astype(np.float64) / n

    def step(f: np.ndarray) -> tuple[np.ndarray, float]:
        mass = rows(f)
        return f - np.log(mass) / 2, float(np.abs(mass - 1).mean())

    f, _, error = accelerate(step, np.zeros(n), tol, max_iter)
    return float(eps * (2 * f.mean() - rows(f).mean() + 1)), error


def linear_cost(coupling: Coupling, C: np.ndarray) -> float:
    """<P, C> of the solved plan; overwrites C."""
    rows = np.multiply(coupling.kernel, C, out=C) @ coupling.right
    return float(coupling.left.astype(np.float64) @ rows.astype(np.float64))


def in_threads(func: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    """[func(item) for item in items] on as many threads as BLAS may use (OMP_NUM_THREADS), each with BLAS
    held to one."""
    blas = _blas()
    allowed = max((pool["num_threads"] for pool in blas.info()), default=1)
    if (workers := min(allowed, len(items))) < 2:
        return [func(item) for item in items]
    with blas.limit(limits=1), ThreadPoolExecutor(workers) as threads:
        return list(threads.map(func, items))


@functools.lru_cache(maxsize=1)
def _blas() -> Any:
    """The BLAS libraries of NumPy and SciPy, found once: looking takes longer than a small solve."""
    import scipy.linalg  # noqa: F401  loaded, so that it is found
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")


def accelerate(
    step: Step, x: np.ndarray, tol: float, max_iter: int, depth: int = DEPTH
) -> tuple[np.ndarray, int, float]:
    """Fixed point of `step` by Anderson mixing; returns the point whose error was measured last.

    `step(x)` gives (next x, error at x). When the error doubles or is not finite the history is dropped and
    the plain step from the last good point is taken instead; `depth=0` takes plain steps only.
    """
    dX, dR = np.empty(
        (2, max(depth, 1), x.size)
    )  # differences of points and of residuals, the oldest overwritten
    held, last = 0, None
    best, plain, iteration, error = np.inf, x, 0, np.inf
    while iteration < max_iter:
        after, error = step(x)
        iteration += 1
        if error < tol or iteration == max_iter:
            break
        if last is not None and not error < 2 * best:
            held, last, x, best = 0, None, plain, np.inf
            continue
        best, plain, residual = min(best, error), after, after - x
        if last is not None and depth:
            dX[held % depth], dR[held % depth] = x - last[0], residual - last[1]
            held += 1
        last = x, residual
        x = _mix(after, residual, dX[:held], dR[:held]) if held else after
    return x, iteration, error


def _mix(plain: np.ndarray, residual: np.ndarray, dX: np.ndarray, dR: np.ndarray) -> np.ndarray:
    """Anderson's type-II step: the combination of past points whose residual is least, moved along that
    residual."""
    G = dR @ dR.T
    diagonal = np.einsum("ii->i", G)
    diagonal += 1e-10 * diagonal.sum() + TINY
    gamma = np.linalg.solve(G, dR @ residual)
    mixed = plain - gamma @ dX - gamma @ dR
    return mixed if np.isfinite(mixed).all() else plain


class _Pair:
    """The fixed-point map of one pair: the second potential h in, one full Sinkhorn iteration, h out."""

    def __init__(self, C: np.ndarray, eps: float, h: np.ndarray) -> None:
        self.C, self.eps, self.kernel = C, eps, np.empty_like(C)
        self._absorb(h)

    def _absorb(self, h: np.ndarray) -> None:
        """kernel = exp(h_j - C_ij / eps - top_i): a log-domain half step; the largest entry of each row is
        1."""
        M = np.multiply(self.C, self.C.dtype.type(-1 / self.eps), out=self.kernel)
        M += h.astype(M.dtype)
        top = M.max(axis=1)
        M -= top[:, None]
        np.exp(np.clip(M, FLOOR, 0, out=M), out=M)
        self.anchor, self.top = h, top

    def step(self, h: np.ndarray) -> tuple[np.ndarray, float]:
        if np.abs(h - self.anchor).max() > DRIFT:
            self._absorb(h)
        n, m = self.C.shape
        K = self.kernel
        self.right = np.exp(h - self.anchor).astype(K.dtype)
        self.left = (1 / n / (K @ self.right)).astype(K.dtype)
        mass = np.maximum((self.left @ K) * self.right, np.finfo(np.float32).tiny).astype(np.float64)
        return h - np.log(m * mass), float(np.abs(mass - 1 / m).sum())
