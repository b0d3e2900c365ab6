"""Measures within each text: the tokens of one text as a cloud, averaged over texts. What a pooled sweep cannot ask.

Every text gives its first `window` tokens after position 0, so that all clouds have one size. The null keeps sizes and
positions and takes each token from another text: what remains above it is due to standing in one text. Means, intervals
and nulls of any number per text become table rows here.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from transect import __version__
from transect.errors import TransectError
from transect.inference import controls
from transect.measures.contract import Measure, find
from transect.models import sites
from transect.results.table import Table
from transect.store.store import Store

WINDOW, TEXTS, DRAWS = 32, 60, 5


@dataclass(frozen=True)
class Windows:
    """Rows of a store: `rows` [texts, window], the number of each text, and how many texts were too short."""

    rows: np.ndarray
    texts: np.ndarray
    short: int

    def points(self, store: Store, site: str) -> np.ndarray:
        """Points of one site, float32 [texts, window, width]."""
        flat = store.read(site, self.rows.ravel())
        return flat.reshape(*self.rows.shape, -1)


def windows(
    store: Store, window: int | None = None, position0: bool = False, most: int = TEXTS, seed: int = 0
) -> Windows:
    """The first `window` tokens of texts that have as many, position 0 left out unless kept; `most` texts, by the seed.

    Default: 32 tokens, or what four texts in five have. TransectError when fewer than 4 texts remain.
    """
    chosen = store.select("all", position0)
    starts = np.flatnonzero(np.diff(chosen.texts, prepend=-1))
    lengths = np.diff(np.append(starts, len(chosen)))
    if window is None:
        window = min(WINDOW, int(np.quantile(lengths, 0.2)))
    enough = lengths >= max(window, 3)
    if enough.sum() < 4:
        raise TransectError(
            f"{store.path}: {enough.sum()} texts have {max(window, 3)} tokens after the first; 4 are needed.",
            "Choose a smaller --window, or capture longer texts.",
        )
    own = np.sort(np.random.default_rng([seed, 10]).permutation(np.flatnonzero(enough))[:most])
    rows = chosen.rows[starts[own][:, None] + np.arange(max(window, 3))]
    return Windows(rows, chosen.texts[starts[own]], int((~enough).sum()))


def within(
    measures: Sequence[tuple[str, str, dict[str, Any]]],
    stores: Sequence[Store],
    *,
    family: str = "resid",
    window: int | None = None,
    position0: bool = False,
    draws: int = DRAWS,
    groups: int = 10,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Table:
    """Measures of one cloud on the window of every text at every site; a row for each site.

    measures: (name, about, options); about "zero" takes points as they are, "mean" takes out the mean of all texts first.
    value: mean over texts; low, high: 95 % by leaving out groups of texts; text_low, text_high: the middle 80 % of texts.
    null: the same on windows whose tokens come from other texts, `draws` times.
    """
    chosen = [(find(name), about, options) for name, about, options in measures]
    if odd := [m.name for m, _, _ in chosen if m.data != ("X",)]:
        raise TransectError(f"{odd[0]} is no measure of one cloud.", "Within a text there is one.")
    rows: list[dict[str, Any]] = []
    total, done = sum(len(sites.select(s.sites, [family])) for s in stores), 0
    for store in stores:
        cut = windows(store, window, position0, seed=seed)
        base = _base(store, cut, position0, seed)
        for site in sites.select(store.sites, [family]):
            points = cut.points(store, site)
            middle = points.mean(axis=(0, 1), dtype=np.float64)
            for m, about, options in chosen:
                told = base | {"measure": m.name, "about": about, "site": site, "control": "tokens of other texts"}
                cloud = points - middle if about == "mean" else points
                rows.append(told | options | _cell(m, options, cloud, draws, groups, seed))
            done += 1
            if progress:
                progress(done, total)
    return Table(rows, {"transect": __version__})


def _base(store: Store, cut: Windows, position0: bool, seed: int) -> dict[str, Any]:
    count, window = cut.rows.shape
    base = {"run": store.name, "token": f"first {window}", "position0": "kept" if position0 else "dropped"}
    return base | {"normalise": "raw", "design": "within", "n": window, "n_texts": count, "seed": seed}


def _cell(m: Measure, options: dict[str, Any], points: np.ndarray, draws: int, groups: int, seed: int) -> dict:
    values = _each(m, options, points)
    if isinstance(values, str):
        return {"status": values}
    nulls = []
    for b in range(draws):
        null = _each(m, options, mixed(points, np.random.default_rng([seed, 6, b])))
        nulls.append(math.nan if isinstance(null, str) else float(null.mean()))
    return summary(values, nulls, groups, seed)


def _each(m: Measure, options: dict[str, Any], points: np.ndarray) -> np.ndarray | str:
    """The measure of every text, [texts], or why one has none."""
    found = m.values(list(points), [(k,) for k in range(len(points))], **options)
    failed = [v for v in found if isinstance(v, TransectError)]
    return (
        f"{len(failed)} of {len(points)} texts: {failed[0]}" if failed else np.array([m.headline_of(v) for v in found])
    )


def mixed(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """[texts, window, …] with the tokens of each position dealt anew to the texts: none to its own, and all of one window
    from different texts while there are enough."""
    count, window = points.shape[:2]
    ring = rng.permutation(count)
    shifts = np.resize(rng.permutation(count - 1) + 1, window)
    dealt = np.empty_like(points)
    for k, shift in enumerate(shifts):
        dealt[ring, k] = points[np.roll(ring, shift), k]
    return dealt


def summary(values: np.ndarray, nulls: Sequence[float], groups: int, seed: int) -> dict[str, Any]:
    """Mean, interval, spread over texts, null, corrected value and p of a number per text, [texts]."""
    if not np.isfinite(values).all():
        return {"status": f"undefined: NaN in {int((~np.isfinite(values)).sum())} of {len(values)} texts"}
    order = np.random.default_rng([seed, 7]).permutation(len(values))
    parts = np.array_split(order, min(groups, len(values)))
    drops = np.array([np.delete(values, part).mean() for part in parts])
    value, null = float(values.mean()), float(np.nanmean(nulls)) if len(nulls) else math.nan
    low, high = controls.jackknife(value, drops)
    told: dict[str, Any] = {"value": value, "low": low, "high": high, "status": "ok", "draws": len(nulls)}
    told |= {"text_low": float(np.quantile(values, 0.1)), "text_high": float(np.quantile(values, 0.9))}
    told |= {"null": null, "corrected": value - null, "corrected_low": low - null, "corrected_high": high - null}
    if len(nulls):
        told |= {"null_low": float(np.nanquantile(nulls, 0.025)), "null_high": float(np.nanquantile(nulls, 0.975))}
    return told | {"p": controls.permutation_p(value, nulls, "two"), "replicates": drops.tolist()}


# paths through depth


def trajectories(
    stores: Sequence[Store],
    *,
    family: str = "resid",
    window: int | None = None,
    position0: bool = False,
    draws: int = DRAWS,
    groups: int = 10,
    seed: int = 0,
) -> Table:
    """The path of a token through the layers: how sharply it turns at each, and how much longer than straight it is.

    turning_angle at resid.l: degrees between the update into it and the update out of it (null: of different tokens).
    tortuosity at resid.l: length of the path from the first layer over the distance covered, ≥ 1 (null: steps of the same
    lengths at right angles, Σ s / √Σ s²). Curvature of representations: Hosseini & Fedorenko 2023, arXiv:2311.04930.
    """
    rows: list[dict[str, Any]] = []
    for store in stores:
        names = sites.select(store.sites, [family])
        cut = windows(store, window, position0, seed=seed)
        base = _base(store, cut, position0, seed)
        first = previous = cut.points(store, names[0]).astype(np.float64)
        before, length, squares = None, 0.0, 0.0
        for k, site in enumerate(names[1:], 1):
            here = cut.points(store, site).astype(np.float64)
            update = here - previous
            if before is not None:
                told = base | {"measure": "turning_angle", "site": names[k - 1], "control": "updates of other tokens"}
                nulls = [_angles(before, mixed(update, np.random.default_rng([seed, 8, b]))) for b in range(draws)]
                rows.append(
                    told | summary(_angles(before, update).mean(axis=1), [float(n.mean()) for n in nulls], groups, seed)
                )
            size = np.linalg.norm(update, axis=-1)
            length, squares = length + size, squares + size**2
            straight = np.linalg.norm(here - first, axis=-1).sum(axis=1)
            bent = _ratio(np.asarray(length).sum(axis=1), straight)
            null = float(_ratio(np.asarray(length).sum(axis=1), np.sqrt(squares).sum(axis=1)).mean())
            told = base | {"measure": "tortuosity", "site": site, "control": "steps at right angles"}
            rows.append(told | summary(bent, [null], groups, seed) | {"p": None})
            previous, before = here, update
    return Table(rows, {"transect": __version__})


def _angles(U: np.ndarray, V: np.ndarray) -> np.ndarray:
    """Degrees between the last axes of two arrays; NaN where one is 0."""
    size = np.linalg.norm(U, axis=-1) * np.linalg.norm(V, axis=-1)
    cosine = np.divide((U * V).sum(axis=-1), size, out=np.full(size.shape, np.nan), where=size > 0)
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def _ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    return np.divide(top, bottom, out=np.full(np.shape(top), np.nan), where=bottom > 0)
