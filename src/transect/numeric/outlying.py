"""Which values of a sequence are out of line with their neighbours, tested on the largest of all.

Each value is compared with local fits that leave it out; the largest misfits are compared with those of the
other values. Critical values hold for noise as heavy as Student's t with 3 degrees of freedom, unless more
are asked for. `null` makes them by simulation, once for each length, with a seed.
"""

from functools import lru_cache
from itertools import combinations

import numpy as np

MAD_TO_SIGMA = 1.4826
WINDOW = 14  # neighbours of a local fit; all of them on one side at the ends
NARROW = 6  # neighbours of the narrow fit
OUTLYING = 4.0  # robust noise units beyond which a neighbour is replaced by its own fit
LONG = 18  # values from which more than three may be out of line at once
NULL_SHAPE, NULL_DRAWS = 1000, 3000
SHORTEST = 10  # values from which on a curve can be seen to be straight
STRAIGHT = 1.5  # a line does where its residual variance is at most so many times the least of the fits
AGREE = 1.0  # the misfit must also stand out of the difference of the nearest and third fit, times this
TAIL = 0.1  # share of the null draws through which the tail is fitted


def shares(n: int) -> tuple[float, ...]:
    """Shares of alpha for one, two, three … values out of line at once: three, or six of a long curve.

    Several large ones hide each other where fewer are looked for: all but the largest count as noise.
    """
    return (0.85, 0.05, 0.03, 0.03, 0.02, 0.02) if n >= LONG else (0.9, 0.07, 0.03)


def outlying(
    y: np.ndarray, noise: np.ndarray, alpha: float, floor: float, tails: float = 3.0, line: bool = False
) -> list[tuple[int, float, float, float]]:
    """(index, z, p, misfit) of each value out of line at alpha, by index; `tails`: freedom of the noise;
    `line`: one line through all others is the only fit."""
    shape, drawn = null(len(y), tails, line)
    spread = np.maximum(1, noise / (np.median(noise) or 1)) if noise.any() else np.ones(len(y))
    z, order, misfit = _gaps(
        y[None], shape, spread, np.maximum(floor, noise) / 2, line
    )  # spreads are in 95 % points, about 2 σ
    p = [min(1.0, _tail(z[0, j], drawn[j]) / share) for j, share in enumerate(shares(len(y)))]
    out = []
    for j in range(len(p)):
        best = min(p[j:])
        if best <= alpha:
            k = int(order[0, j])
            out.append((k, float(z[0, j + int(np.argmin(p[j:]))]), best, float(misfit[0, k])))
    return sorted(out)


def _gaps(
    Y: np.ndarray,
    shape: np.ndarray,
    widths: np.ndarray | float = 1.0,
    least: np.ndarray | float = 0.0,
    line: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each curve and j = 1, 2 …: j-th largest misfit over the mean of the two largest outside the top
    j."""
    misfit, spread, span = _misfits(Y, line)
    u, d = np.abs(misfit) / (shape[0] * widths), spread / (shape[1] * widths)
    order = np.argsort(-u, axis=1)
    least = np.maximum(least, AGREE * span / shape[0])
    z = []
    for j in range(1, len(shares(Y.shape[1])) + 1):
        rest = np.sort(np.take_along_axis(d, order[:, j:], axis=1), axis=1)[:, -2:].mean(axis=1)
        at = order[:, j - 1 : j]
        below = np.maximum(rest, np.take_along_axis(least, at, axis=1)[:, 0])
        z.append(np.take_along_axis(u, at, axis=1)[:, 0] / np.maximum(below, np.finfo(float).tiny))
    return np.stack(z, axis=1), order, misfit


def _misfits(Y: np.ndarray, line: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Misfit of each step to the nearest of the fits without it, its size, and how far the third fit is.

    The nearest fit counts, for a smooth curve follows one of them; where a line fits the neighbours as well
    as any other, it is the only one. The misfit is 0 where fits disagree in sign; its size is not. Outlying
    neighbours are first replaced by their robust fit, the median over lines through two others.
    """
    lines, fits, rests = _stencils(Y.shape[1], line)
    rough = np.stack(
        [
            _least(Y[:, k : k + 1] - np.stack([np.median(Y @ W, axis=1) for W in at], axis=1))
            for k, at in enumerate(lines)
        ],
        axis=1,
    )
    unit = MAD_TO_SIGMA * np.median(np.abs(rough), axis=1, keepdims=True)
    clean = np.where(np.abs(rough) > OUTLYING * unit, Y - rough, Y)
    apart = Y[..., None] - np.einsum("ifn,bn->bif", fits, clean)
    left = (np.einsum("ifwn,bn->bifw", rests, clean, optimize=True) ** 2).sum(axis=3)
    straight = left[..., 0] <= STRAIGHT * left.min(axis=2)
    apart = np.where(straight[..., None], apart[..., :1], apart)
    near = np.sort(np.abs(apart), axis=2)
    return _least(apart), near[..., 0], near[..., 2] - near[..., 0]


def straight(y: np.ndarray) -> bool:
    """Whether nothing speaks against a straight line: F-test at 5 % of the line within a cubic that may be
    steep at either end, and no more than a ninth of the values out of line (they are set aside)."""
    from scipy.stats import f, theilslopes

    n, x = len(y), np.linspace(-1, 1, len(y))
    if n < SHORTEST:
        return False
    slope, level = (float(v) for v in tuple(theilslopes(y, x))[:2])
    off = np.abs(y - level - slope * x)
    out = off > OUTLYING * MAD_TO_SIGMA * np.median(off)
    if out.sum() > n // 9:
        return False
    clean = np.where(out, level + slope * x, y)
    ends = [np.log(np.arange(1, n + 1)), np.log(np.arange(n, 0, -1))]
    full = np.column_stack([np.ones(n), x, x**2, x**3, *ends])
    fits = [M @ np.linalg.lstsq(M, clean, rcond=None)[0] for M in (full[:, :2], full)]
    line, curved = (float(((clean - fit) ** 2).sum()) for fit in fits)
    return line - curved <= float(f.isf(0.05, 4, n - 6)) * 4 * curved / (n - 6)


def _least(apart: np.ndarray) -> np.ndarray:
    """Value nearest 0 along the last axis; 0 where signs differ."""
    agree = (apart > 0).all(axis=-1) | (apart < 0).all(axis=-1)
    return np.where(agree, np.take_along_axis(apart, np.abs(apart).argmin(-1)[..., None], -1)[..., 0], 0.0)


@lru_cache(maxsize=32)
def _stencils(n: int, line: bool = False) -> tuple[list[list[np.ndarray]], np.ndarray, np.ndarray]:
    """Weights of the fits without a step: lines through two others [n, pairs], least squares [n, fits, n];
    and what leaves the residuals of its neighbours over the root of their freedom, [n, fits, neighbours, n].

    Fits: line and parabola in depth, and two lines in the log of the distance from the nearer end (a power
    law), the second through the nearest 6 only: an end may be steep where the rest lies in noise.
    """
    depth, width = np.arange(n, dtype=float), n - 1 if line else min(WINDOW, n - 1)
    lines, fits, rests = [], np.zeros((n, 4, n)), np.zeros((n, 4, width, n))
    for k in range(n):
        start = min(max(0, k - width // 2), n - 1 - width)
        near = np.array([i for i in range(start, start + width + 1) if i != k])
        power = np.log(depth + 1) if k < n / 2 else np.log(n - depth)
        pairs = np.array(list(combinations(near, 2)))
        close = near[np.argsort(np.abs(near - k), kind="stable")[:NARROW]]
        kinds = ((depth, 1, near), (depth, 2, near), (power, 1, near), (power, 1, close))
        for f, (x, degree, at) in enumerate([(depth, 1, near)] * 4 if line else kinds):
            powers = np.vander(x[at] - x[k], degree + 1, increasing=True)
            inverse = np.linalg.pinv(powers)
            fits[k, f, at] = inverse[0]
            free = np.sqrt(len(at) - degree - 1)
            rests[k, f, : len(at), at] = (np.eye(len(at)) - powers @ inverse).T / free
        here = []
        for x in (depth,) if line else (depth, power):
            share = (x[k] - x[pairs[:, 0]]) / (x[pairs[:, 1]] - x[pairs[:, 0]])
            W = np.zeros((n, len(pairs)))
            W[pairs[:, 0], np.arange(len(pairs))], W[pairs[:, 1], np.arange(len(pairs))] = 1 - share, share
            here.append(W)
        lines.append(here)
    return lines, fits, rests


@lru_cache(maxsize=32)
def null(n: int, tails: float = 3.0, line: bool = False) -> tuple[np.ndarray, list[np.ndarray]]:
    """Spread of misfits by position [2, n] on white noise, and the sorted z of noise for each j; seeded."""
    rng = np.random.default_rng([20, n])
    shape = np.quantile(np.abs(np.stack(_misfits(rng.normal(size=(NULL_SHAPE, n)), line)[:2])), 0.95, axis=1)
    shape = (shape + shape[:, ::-1]) / 2
    size = (NULL_DRAWS, n)
    noise = rng.standard_t(tails, size=size) if np.isfinite(tails) else rng.normal(size=size)
    z = _gaps(noise, shape, line=line)[0]
    return shape, list(np.sort(z.T, axis=1))


def _tail(z: float, null: np.ndarray) -> float:
    """Share of the null at or above z; beyond its largest tenth, of a fitted Pareto tail (Hill 1975)."""
    start = null[int(len(null) * (1 - TAIL))]
    if z <= start:
        return float((null >= z).mean())
    above = null[null > start]
    return float(TAIL * (z / start) ** (-1 / np.log(above / start).mean()))
