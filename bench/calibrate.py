"""Type-I error of the tests, coverage of the intervals, power of the change-layer rules: writes docs/calibration.md.

python bench/calibrate.py [--draws 200] [--seed 0]

Stores are planted without a model: texts share a part of their tokens (ICC), lengths and spectra are lopsided, laws may have
heavy tails. A rate outside its band is marked.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import transect as ts
from calibrate_changes import table as change_layers
from planted import planted_store

WIDTH, LENGTH = 24, 10
TEXTS = (60, 20, 12)
ICC = (0.0, 0.2, 0.5)
SHAPES = ("equal", "lopsided", "heavy-tailed")
TESTED = ("cka", "knn_overlap", "rsa", "cosine", "procrustes")


def cloud(rng: np.random.Generator, lengths: list[int], icc: float, shape: str) -> np.ndarray:
    """Tokens of unit mean variance, of which `icc` is their text's; lopsided: a falling spectrum and an offset."""
    owner = np.repeat(np.arange(len(lengths)), lengths)

    def draw(n: int) -> np.ndarray:
        return (
            rng.standard_t(4, (n, WIDTH)) / np.sqrt(2)
            if shape == "heavy-tailed"
            else rng.normal(size=(n, WIDTH))
        )

    X = np.sqrt(icc) * draw(len(lengths))[owner] + np.sqrt(1 - icc) * draw(len(owner))
    return X * spectrum(shape) + (0 if shape == "equal" else np.linspace(-1, 2, WIDTH))


def spectrum(shape: str) -> np.ndarray:
    """Standard deviations of the dimensions."""
    return np.ones(WIDTH) if shape == "equal" else np.geomspace(2, 0.2, WIDTH)


def grid() -> Iterator[tuple[int, str, float]]:
    """Every number of texts, shape and ICC."""
    return ((T, shape, icc) for T in TEXTS for shape in SHAPES for icc in ICC)


def lengths_of(rng: np.random.Generator, texts: int, shape: str) -> list[int]:
    """Tokens of every text: equal, or from half as many to four times as many."""
    if shape != "lopsided":
        return [LENGTH] * texts
    return [int(n) for n in rng.integers(LENGTH // 2 + 1, 4 * LENGTH, texts)]


def alarms(texts: int, shape: str, icc: float, draws: int, rng: np.random.Generator) -> dict[str, float]:
    """Share of unrelated pairs of views that each test calls related at 5 %, whole texts permuted."""
    hits = dict.fromkeys(TESTED, 0)
    lengths = lengths_of(rng, texts, shape)
    with tempfile.TemporaryDirectory() as folder:
        views = [cloud(rng, lengths, icc, shape) for _ in range(2 * draws)]
        store = planted_store(Path(folder) / "s", views, lengths)
        pairs = [(f"resid.{2 * k}", f"resid.{2 * k + 1}") for k in range(draws)]
        for name in TESTED:
            given = {
                "permutations": 39 if name != "procrustes" else 19,
                "groups": 4,
                "workers": 1,
                "massive": 0,
            }
            found = ts.sweep(name, store, pairs=pairs, n=200, **given).column("p_cell")
            hits[name] = float((found <= 0.05).mean())
    return hits


def coverage(texts: int, shape: str, icc: float, draws: int, rng: np.random.Generator) -> dict[str, float]:
    """Share of intervals that cover the population's value, for measures whose truth is known in closed form."""
    variances = spectrum(shape) ** 2
    mean = 0 if shape == "equal" else np.linspace(-1, 2, WIDTH)
    truth = {"participation_ratio": variances.sum() ** 2 / (variances**2).sum()}
    big = cloud(rng, [1] * 100_000, 0.0, shape)
    truth["mean_norm"] = float(np.linalg.norm(big, axis=1).mean())
    hits = dict.fromkeys((*truth, "euclidean", "cka"), 0)
    shift = np.linspace(0.5, 1.5, WIDTH)
    for _ in range(draws):
        lengths = lengths_of(rng, texts, shape)
        X = cloud(rng, lengths, icc, shape)
        Y = X + shift + 0.3 * cloud(rng, lengths, icc, "equal")
        with tempfile.TemporaryDirectory() as folder:
            store = planted_store(Path(folder) / "s", [X, Y], lengths)
            given = {"n": 400, "permutations": 0, "workers": 1, "massive": 0}
            single = ts.sweep(list(truth), store, **given).where(site="resid.0")
            for row in single:
                hits[row["measure"]] += bool(row["low"] <= truth[row["measure"]] <= row["high"])
            for row in ts.sweep(["euclidean", "cka"], store, **given):
                wanted = PAIRED_TRUTH.setdefault(
                    (shape, row["measure"]), paired_truth(shape, row["measure"], mean, shift)
                )
                hits[row["measure"]] += bool(row["low"] <= wanted <= row["high"])
    return {name: count / draws for name, count in hits.items()}


PAIRED_TRUTH: dict[tuple[str, str], float] = {}


def paired_truth(shape: str, measure: str, mean: np.ndarray | int, shift: np.ndarray) -> float:
    """The population's value from 200,000 independent tokens; CKA from the covariances."""
    rng = np.random.default_rng(99)
    X = cloud(rng, [1] * 200_000, 0.0, shape)
    Y = X + shift + 0.3 * cloud(rng, [1] * 200_000, 0.0, "equal")
    if measure == "euclidean":
        return float(np.linalg.norm(Y - X, axis=1).mean())
    C = np.cov(X.T, Y.T)
    xx, xy, yy = C[:WIDTH, :WIDTH], C[:WIDTH, WIDTH:], C[WIDTH:, WIDTH:]
    return float((xy**2).sum() / np.sqrt((xx**2).sum() * (yy**2).sum()))


def shown(rate: float, low: float, high: float) -> str:
    """A rate, marked where it lies outside of its band."""
    return f"{rate:.0%}" if low <= rate <= high else f"**{rate:.0%}**"


def rows(found: dict[tuple[int, str, float], dict[str, float]], low: float, high: float) -> list[str]:
    """A markdown table: a row a cell of the grid, a column a measure."""
    names = list(next(iter(found.values())))
    lines = [f"| texts | law | ICC | {' | '.join(names)} |", f"|---|---|---|{'---|' * len(names)}"]
    for (texts, shape, icc), rates in found.items():
        cells = " | ".join(shown(rates[name], low, high) for name in names)
        lines.append(f"| {texts} | {shape} | {icc:g} | {cells} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    rng, draws = np.random.default_rng(asked.seed), asked.draws
    error = 1.96 * np.sqrt(0.05 * 0.95 / draws)
    lines = ["<!-- Made by bench/calibrate.py. -->", "", "# Calibration", ""]
    lines += [
        f"Made by `make calibrate` with {draws} draws a cell (seed {asked.seed}): a rate of 5 % is known to ± {error:.1%}.",
        "Texts share a part of their tokens (ICC); lopsided: unequal lengths, a falling spectrum and an offset; heavy-tailed:",
        "Student's t with 4 degrees of freedom. Rates outside of their band are in bold.",
        "",
        "## False alarms: unrelated views, whole texts permuted, nominal 5 %",
        "",
        *rows({cell: alarms(*cell, draws, rng) for cell in grid()}, 0, 0.05 + error),
        "",
        "## Coverage of 95 % intervals of the population's value",
        "",
        *rows({cell: coverage(*cell, draws, rng) for cell in grid()}, 0.92 - error / 2, 0.98 + error / 2),
        "",
        "## Change layers",
        "",
        *change_layers(draws, asked.seed),
    ]
    Path(__file__).parents[1].joinpath("docs/calibration.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
