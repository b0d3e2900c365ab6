"""False alarms and power of `jumps` and `blocks`: markdown lines, with draws and seed.

python bench/calibrate_changes.py [--draws 400] [--seed 0]
"""

import argparse
from collections.abc import Callable

import numpy as np

from transect.numeric.change_points import blocks, jumps

Law = Callable[[np.random.Generator, int], np.ndarray]


def white(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.normal(size=n)


def ar1(rng: np.random.Generator, n: int, rho: float = 0.6) -> np.ndarray:
    """Unit marginal variance from the first value on."""
    e = rng.normal(size=n)
    for k in range(1, n):
        e[k] = rho * e[k - 1] + np.sqrt(1 - rho**2) * e[k]
    return e


def t3(rng: np.random.Generator, n: int) -> np.ndarray:
    """Unit variance."""
    return rng.standard_t(3, size=n) / np.sqrt(3)


def depth(n: int) -> np.ndarray:
    return np.arange(n, dtype=float)


#: Curves without a jump. Rates and powers of the smooth ones are drawn; "factor": noise in proportion to the
#: level.
NULLS: dict[str, Law] = {
    "white": white,
    "white about 20 σ": lambda rng, n: 20 + white(rng, n),
    "AR(1), ρ = 0.6": ar1,
    "AR(1) about 20 σ": lambda rng, n: 20 + ar1(rng, n),
    "t₃": t3,
    "t₃ about 20 σ": lambda rng, n: 20 + t3(rng, n),
    "linear trend 0.3 σ a step": lambda rng, n: 0.3 * depth(n) + white(rng, n),
    "exponential down, smooth": lambda rng, n: np.exp(-rng.uniform(0.05, 0.5) * depth(n)),
    "exponential up, smooth": lambda rng, n: np.exp(rng.uniform(0.05, 0.5) * depth(n)),
    "power law, smooth": lambda rng, n: (depth(n) + rng.uniform(1, 4)) ** -rng.uniform(0.5, 2),
    "exponential down, σ = 1 % of the top": lambda rng, n: np.exp(-0.2 * depth(n)) + 0.01 * white(rng, n),
    "exponential up, σ = 1 % of the top": lambda rng, n: np.exp(0.2 * (depth(n) - n)) + 0.01 * white(rng, n),
    "exponential down, factor 10 %": lambda rng, n: np.exp(-0.3 * depth(n) + 0.1 * white(rng, n)),
    "exponential up, factor 10 %": lambda rng, n: np.exp(0.3 * depth(n) + 0.1 * white(rng, n)),
    "power law, factor 10 %": lambda rng, n: (depth(n) + 1) ** -1.2 * np.exp(0.1 * white(rng, n)),
    "power law, σ = 1 % of the top": lambda rng, n: (depth(n) + 1) ** -1.2 + 0.01 * white(rng, n),
}
#: Noise on which a spike of 10 σ (here: unit marginal variance, or 10 % of the level) is planted.
SPIKED: dict[str, Callable[[np.random.Generator, int, int], np.ndarray]] = {
    "white": lambda rng, n, at: white(rng, n) + 10 * (depth(n) == at),
    "white about 20 σ": lambda rng, n, at: 20 + white(rng, n) + 10 * (depth(n) == at),
    "AR(1), ρ = 0.6": lambda rng, n, at: ar1(rng, n) + 10 * (depth(n) == at),
    "t₃": lambda rng, n, at: t3(rng, n) + 10 * (depth(n) == at),
    "linear trend 0.3 σ a step": lambda rng, n, at: 0.3 * depth(n) + white(rng, n) + 10 * (depth(n) == at),
    "exponential down, factor 10 %": lambda rng, n, at: np.exp(
        -0.1 * depth(n) + 0.1 * white(rng, n) + (depth(n) == at)
    ),
    "power law, factor 10 %": lambda rng, n, at: (
        (depth(n) + 1) ** -1.2 * np.exp(0.1 * white(rng, n) + (depth(n) == at))
    ),
}


def matrix(rng: np.random.Generator, curve: np.ndarray, noise: float) -> np.ndarray:
    """`curve` with symmetric noise of standard deviation `noise`; diagonal 0."""
    e = np.triu(noise * rng.normal(size=curve.shape), 1)
    return (curve + e + e.T) * (1 - np.eye(len(curve)))


def lagged(n: int, power: float) -> np.ndarray:
    return np.abs(depth(n)[:, None] - depth(n)) ** power


def walk(rng: np.random.Generator, n: int, dims: int = 64) -> np.ndarray:
    """Squared distances along a random walk, about 1 a step."""
    x = np.cumsum(rng.normal(size=(n, dims)) / np.sqrt(dims), axis=0)
    return ((x[:, None] - x) ** 2).sum(axis=-1)


def arc(n: int, turn: float = 4.0) -> np.ndarray:
    """Distances on an arc of `turn` radians, 1 a step at short range."""
    angle = np.abs(depth(n)[:, None] - depth(n)) * turn / n
    return 2 * n / turn * np.sin(np.minimum(angle, np.pi * 2) / 2)


def slowing(n: int) -> np.ndarray:
    """A line whose steps shrink by 10 % each."""
    place = np.cumsum(0.9 ** depth(n))
    return np.abs(place[:, None] - place)


SMOOTH: dict[str, Law] = {
    "lag ^ 0.5": lambda rng, n: matrix(rng, lagged(n, 0.5), 0.1),
    "lag": lambda rng, n: matrix(rng, lagged(n, 1.0), 0.2),
    "lag ^ 1.5": lambda rng, n: matrix(rng, lagged(n, 1.5), 0.2),
    "lag, no noise": lambda rng, n: matrix(rng, lagged(n, 0.7), 0.0),
    "random walk, 64 dimensions": lambda rng, n: matrix(rng, walk(rng, n), 0.1),
    "random walk, 5 dimensions": lambda rng, n: matrix(rng, walk(rng, n, 5), 0.1),
    "arc": lambda rng, n: matrix(rng, arc(n), 0.2),
    "slowing line": lambda rng, n: matrix(rng, slowing(n), 0.1),
}


def parted(n: int, borders: list[int]) -> np.ndarray:
    """Number of borders between two layers."""
    block = np.searchsorted(borders, depth(n), side="right").astype(float)
    return np.abs(block[:, None] - block)


def alarm_rate(law: Law, n: int, draws: int, rng: np.random.Generator, rule: Callable = jumps) -> float:
    return float(np.mean([bool(rule(law(rng, n))) for _ in range(draws)]))


def power(law: Callable, n: int, at: int, draws: int, rng: np.random.Generator) -> float:
    return float(np.mean([at in [j.index for j in jumps(law(rng, n, at))] for _ in range(draws)]))


def block_power(n: int, borders: list[int], noise: float, size: float, draws: int, seed: int) -> float:
    """Share of borders found by index, planted as `size` noise units on a path that grows as lag ^ 0.7."""
    rng, hits = np.random.default_rng(seed), []
    for _ in range(draws):
        D = matrix(rng, 0.3 * lagged(n, 0.7) + size * noise * parted(n, borders), noise)
        found = [b.index for b in blocks(D)]
        hits += [b in found for b in borders]
    return float(np.mean(hits))


#: What one knows of a curve, as columns of a regression; a power law and an exponential on the log scale.
KNOWN: dict[str, Callable[[int], np.ndarray]] = {
    "a line, or an exponential": lambda n: np.column_stack([np.ones(n), depth(n)]),
    "a power law of depth + 1": lambda n: np.column_stack([np.ones(n), np.log1p(depth(n))]),
    "smooth: a parabola": lambda n: np.column_stack([np.ones(n), depth(n), depth(n) ** 2]),
}


def floors(lengths: tuple[int, ...], rng: np.random.Generator, draws: int = 4000) -> list[str]:
    """Power of Student's t of a step against the fit to the others: of one who knows the shape of the curve
    and that its noise is white, at the critical value of the largest |t| of t₃, and of normal noise."""
    heads = " | ".join(f"first, n = {n} | middle, n = {n} | last, n = {n}" for n in lengths)
    lines = [
        "What one reaches who knows the shape of the curve, and that its noise is white (10 % of the level",
        "is white noise of 0.1 on the log scale): the t of each step against the fit to the others, over 5 %",
        "of all curves of t₃ noise, or of normal noise alone.",
        "",
        f"| known to be | alarms hold for | {heads} |",
        f"|---|---|{'---|---|---|' * len(lengths)}",
    ]
    laws: dict[str, Callable] = {
        "t₃ noise": lambda size: rng.standard_t(3, size=size),
        "normal noise alone": lambda size: rng.normal(size=size),
    }
    for known, columns in KNOWN.items():
        for name, law in laws.items():
            cells = []
            for n in lengths:
                critical = np.quantile(fit_t(law((draws, n)), columns(n)).max(axis=1), 0.95)
                for at in (0, n // 2, n - 1):
                    spiked = fit_t(rng.normal(size=(draws, n)) + 10 * (depth(n) == at), columns(n))
                    cells.append(f"{(spiked[:, at] > critical).mean():.0%}")
            lines.append(f"| {known} | {name} | {' | '.join(cells)} |")
    return lines


def fit_t(Y: np.ndarray, M: np.ndarray) -> np.ndarray:
    """|t| of each step of curves [curves, n] against the regression on M [n, columns] through all others."""
    H = M @ np.linalg.pinv(M)
    free = 1 - np.diag(H)
    left = (Y - Y @ H) / free
    rest = (((Y - Y @ H) ** 2).sum(axis=1, keepdims=True) - left**2 * free) / (len(M) - M.shape[1] - 1)
    return np.abs(left) / np.sqrt(rest / free)


def table(draws: int = 400, seed: int = 0, lengths: tuple[int, ...] = (12, 30)) -> list[str]:
    """Markdown lines: alarms on every curve and matrix without a jump, and power at every step and border."""
    rng = np.random.default_rng(seed)
    head = " | ".join(f"n = {n}" for n in lengths)
    rule = "---|" * len(lengths)
    most = 0.05 + 2 * np.sqrt(0.05 * 0.95 / draws)
    lines = [
        f"Draws: {draws} a cell, seed {seed}. Nominal rate of alarms: 5 % a curve; with two standard errors "
        f"{most:.1%}.",
        "",
    ]
    lines += [f"| curve without a jump | {head} |", f"|---|{rule}"]
    for name, law in NULLS.items():
        rates = " | ".join(f"{alarm_rate(law, n, draws, rng):.1%}" for n in lengths)
        lines.append(f"| {name} | {rates} |")
    few = max(10, draws // 4)
    lines += ["", f"Power for a spike of 10 σ at each step ({few} draws a step).", ""]
    heads = [f"{what}, n = {n}" for n in lengths for what in ("first", "last", "lowest", "mean")]
    lines += [f"| noise | {' | '.join(heads)} |", f"|---|{'---|' * len(heads)}"]
    for name, spiked in SPIKED.items():
        cells = []
        for n in lengths:
            found = [power(spiked, n, at, few, rng) for at in range(n)]
            cells += [found[0], found[-1], min(found), float(np.mean(found))]
        lines.append(f"| {name} | {' | '.join(f'{c:.0%}' for c in cells)} |")
    lines += ["", *floors(lengths, np.random.default_rng([seed, 1]))]
    rng = np.random.default_rng([seed, 2])
    lines += ["", f"| smooth path, all pairs | {head} |", f"|---|{rule}"]
    for name, law in SMOOTH.items():
        rates = " | ".join(f"{alarm_rate(law, n, draws, rng, blocks):.1%}" for n in lengths)
        lines.append(f"| {name} | {rates} |")
    lines += ["", f"| border planted, size in noise units | {head} |", f"|---|{rule}"]
    for size in (3, 5, 8):
        for what, where in (("one at a third", [1 / 3]), ("two", [0.3, 0.7])):
            rates = [block_power(n, [int(w * n) for w in where], 0.1, size, draws, seed) for n in lengths]
            lines.append(f"| {what}, {size} | {' | '.join(f'{r:.0%}' for r in rates)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    print("\n".join(table(given.draws, given.seed)))


if __name__ == "__main__":
    main()
