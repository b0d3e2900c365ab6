"""False alarms and coverage of studies that do not go through a sweep: probe, manifold, dimension beside the
loss, and numbers a token from sums by text (lens, depth, forgetting).

    python bench/calibrate.py --only studies [--draws 100]
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import transect as ts
from transect.inference.intervals import jackknife, ratios
from transect.numeric.permute import text_permutations
from transect.studies.dimension.cells import draws as resamples
from transect.studies.dimension.tables import related

SITES, WIDTH, NULL, GROUPS = 5, 24, 39, 10
Cell = tuple[int, str]
Rates = dict[str, float]
#: Texts, and laws of what is measured a text.
CELLS: list[Cell] = [(texts, law) for texts in (60, 20, 12) for law in ("equal", "lopsided", "heavy-tailed")]
GIVEN: dict[str, Any] = {"workers": 1, "sites": "resid", "permutations": NULL}


def points(rng: np.random.Generator, texts: int, law: str) -> np.ndarray:
    """One point a text, [texts, WIDTH]."""
    if law == "heavy-tailed":
        return rng.standard_t(4, (texts, WIDTH))
    X = rng.normal(size=(texts, WIDTH))
    return X if law == "equal" else X * np.geomspace(2, 0.2, WIDTH) + np.linspace(-1, 2, WIDTH)


def label(rng: np.random.Generator, texts: int, law: str, kind: str) -> list[Any]:
    """Labels of texts: numbers, or two classes; lopsided: skewed numbers, one class in four."""
    if kind == "classes":
        share = 0.5 if law == "equal" else 0.25
        return rng.permutation(
            ["a" if k < max(2, round(share * texts)) else "b" for k in range(texts)]
        ).tolist()
    return (rng.normal(size=texts) if law == "equal" else rng.exponential(size=texts) ** 1.5).tolist()


def store_of(folder: str, layers: list[np.ndarray], labels: dict[str, Any]) -> ts.Store:
    """A store of one point a text."""
    sites = {f"resid.{k}": X for k, X in enumerate(layers)}
    return ts.store_from_arrays(sites, Path(folder) / "s", labels=labels)


def alarms(cell: Cell, draws: int, rng: np.random.Generator) -> Rates:
    """Share of maps of SITES cells in which any p over the map is at most 5 %, with labels that have nothing
    to do with points, and of curves over layers that have nothing to do with the loss."""
    texts, law = cell
    hits: dict[str, list[bool]] = {}
    kinds = {"probe of numbers": "numbers", "probe of classes": "classes", "map of a line": "numbers"}
    with tempfile.TemporaryDirectory() as folder:
        labels = {
            f"{name}:{k}": label(rng, texts, law, kind) for name, kind in kinds.items() for k in range(draws)
        }
        store = store_of(folder, [points(rng, texts, law) for _ in range(SITES)], labels)
        for name in labels:
            of = _map if name.startswith("map") else _probe
            hits.setdefault(name.split(":")[0], []).append(of(store, name))
    for _ in range(draws):
        values, loss = rng.normal(size=(SITES, texts)), np.array(label(rng, texts, law, "numbers"))
        rows = related(
            values, loss, text_permutations(texts, 199, rng), resamples(texts, GROUPS, 0, 0)["drops"]
        )
        hits.setdefault("dimension and loss", []).append(min(r["p_max"] for r in rows) <= 0.05)
    return {name: float(np.mean(found)) for name, found in hits.items()}


def _probe(store: ts.Store, name: str) -> bool:
    table = ts.studies.probe(store, label=name, folds=3, groups=4, **GIVEN).tables["probe"]
    return bool(min(table.column("p_max")) <= 0.05)


def _map(store: ts.Store, name: str) -> bool:
    study = ts.studies.manifold(store, label=name, shape="line", repeats=1, **GIVEN)
    cells = study.tables["map"].where(kind="free")  # each kind is a map, a family of its own
    return bool(min(cells.column("p_max")) <= 0.05)


def coverage(cell: Cell, draws: int, rng: np.random.Generator) -> Rates:
    """Share of 95 % intervals that hold the population's value; of the probe, the mean over all draws."""
    texts, law = cell
    hits: dict[str, list[bool]] = {}
    for _ in range(draws):
        for name, (scale, sums, weights, truth) in _by_text(rng, texts, law).items():
            values, drops = ratios(sums[None], weights, GROUPS, 0)
            low, high = jackknife(float(values[0]), drops[0], scale=scale)
            hits.setdefault(name, []).append(low <= truth <= high)
        for r in (0.0, 0.6):
            normal = rng.multivariate_normal([0, 0], [[1, r], [r, 1]], texts)
            parts = resamples(texts, GROUPS, 0, 0)["drops"]
            row = related(normal[:, :1].T, np.exp(normal[:, 1]), np.zeros((0, texts), int), parts)[0]
            truth = 6 / np.pi * np.arcsin(r / 2)
            hits.setdefault(f"ρ with the loss, {truth:.2f}", []).append(row["low"] <= truth <= row["high"])
    return {name: float(np.mean(found)) for name, found in hits.items()} | _scores(cell, draws, rng)


def _by_text(
    rng: np.random.Generator, texts: int, law: str
) -> dict[str, tuple[str, np.ndarray, np.ndarray, float]]:
    """(scale, sums by text, tokens by text, population's value): KL and rank are skewed within and between
    texts, a rise of the loss has both signs, agreement counts tokens."""
    tokens = np.full(texts, 20.0) if law == "equal" else rng.integers(8, 64, texts).astype(float)
    spread = 0.3 if law == "equal" else 0.8
    of_text = rng.standard_t(4, texts) / np.sqrt(2) if law == "heavy-tailed" else rng.normal(size=texts)
    if law == "heavy-tailed":  # a log-normal of t has no mean: the logarithm is cut
        of_text = np.clip(of_text, -3, 3)
    level = {"equal": np.exp(0.045), "lopsided": np.exp(0.32), "heavy-tailed": _mean_of_cut(spread)}[law]
    kl = rng.gamma(tokens, 1 / tokens) * np.exp(spread * of_text)
    share = rng.beta(8, 4, texts)
    return {
        "KL (log)": ("log", kl * tokens, tokens, float(level)),
        "rise of the loss": ("identity", (0.1 + spread * of_text) * tokens, tokens, 0.1),
        "agreement (logit)": ("logit", rng.binomial(tokens.astype(int), share).astype(float), tokens, 8 / 12),
    }


def _mean_of_cut(spread: float) -> float:
    """Mean of exp(spread · x) for x of t with 4 degrees / √2, cut at ± 3."""
    from scipy.stats import t

    at = t.ppf((np.arange(200_000) + 0.5) / 200_000, 4) / np.sqrt(2)
    return float(np.exp(spread * np.clip(at, -3, 3)).mean())


def _scores(cell: Cell, draws: int, rng: np.random.Generator) -> Rates:
    """Coverage of the probe's score, of its mean over draws of points and labels."""
    texts, law = cell
    found = []
    with tempfile.TemporaryDirectory() as folder:
        layers = [points(rng, texts, law) for _ in range(draws)]
        labels = {
            f"y{k}": (X[:, 0] - X[:, 0].mean() + X[:, 0].std() * rng.normal(size=texts)).tolist()
            for k, X in enumerate(layers)
        }
        store = store_of(folder, layers, labels)
        for k in range(draws):
            asked = {"workers": 1, "permutations": 0, "sites": f"resid.{k}"}
            row = ts.studies.probe(store, label=f"y{k}", folds=5, groups=GROUPS, **asked).tables["probe"]
            found.append([row.column(name)[0] for name in ("value", "low", "high")])
    value, low, high = np.array(found).T
    return {"probe's score": float(((low <= value.mean()) & (value.mean() <= high)).mean())}


def lines(draws: int, seed: int) -> list[str]:
    """The section on studies."""

    def table(
        of: Callable[[Cell, int, np.random.Generator], Rates], name: int, low: float, high: float
    ) -> list[str]:
        found = {c: of(c, draws, np.random.default_rng([seed, name, k])) for k, c in enumerate(CELLS)}
        names = list(found[CELLS[0]])
        rows = [f"| texts | law | {' | '.join(names)} |", f"|---|---|{'---|' * len(names)}"]
        means = {n: float(np.mean([r[n] for r in found.values()])) for n in names}
        for cell, rates, count in [
            *((c, r, draws) for c, r in found.items()),
            (("all", ""), means, draws * len(CELLS)),
        ]:
            noise = 2 * np.sqrt(0.05 * 0.95 / count)
            words = [
                f"{v:.0%}" if low - noise <= v <= high + noise else f"**{v:.0%}**"
                for v in (rates[n] for n in names)
            ]
            rows.append(f"| {cell[0]} | {cell[1]} | {' | '.join(words)} |")
        return rows

    return [
        f"One point a text, {SITES} sites, labels that have nothing to do with them (lopsided, heavy-tailed:",
        f"skewed numbers, one class in four): share of maps with any p over the map ≤ 5 % ({NULL} draws of",
        "the null; of the loss 199). Band: at most 5 %.",
        "",
        *table(alarms, 1, 0.0, 0.05),
        "",
        f"Intervals by {GROUPS} groups of texts: numbers a token from sums by text (texts of 20 tokens, or",
        "of 8 to 63), Spearman's ρ between a text's states and its loss; the probe's score, of its mean over",
        "draws. Band: 92 % to 98 %.",
        "",
        *table(coverage, 2, 0.92, 0.98),
        "",
        "The mean of a heavy-tailed KL is ruled by texts that few draws hold: with 20 or fewer its",
        "interval is too narrow.",
    ]
