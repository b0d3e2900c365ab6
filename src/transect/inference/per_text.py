"""Measures within each text: the tokens of one text as a cloud, averaged over texts. What a pooled sweep
cannot ask.

Every text gives its first `window` tokens after position 0, so that all clouds have one size. The null keeps
sizes and positions and takes each token from another text: what remains above it is due to standing in one
text.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from transect import __version__
from transect.errors import TransectError
from transect.inference.asks import Ask, answer
from transect.inference.evaluate import opened
from transect.inference.intervals import jackknife
from transect.inference.tests import permutation_p
from transect.measures.contract import Measure
from transect.measures.registry import find
from transect.models import sites
from transect.random import rng
from transect.results.table import Table
from transect.store.store import Store
from transect.store.units import apart
from transect.work.keys import key_of
from transect.work.options import Work

WINDOW, TEXTS, DRAWS = 32, 60, 5
Asked = tuple[str, str, dict[str, Any]]  # measure, about ("zero" or "mean"), its options


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


@dataclass(frozen=True)
class Within:
    """One task: a site of a store, or a store's whole path through depth (site "")."""

    path: str
    content: str
    site: str
    family: str
    measures: tuple[Asked, ...]
    window: int | None
    position0: bool
    draws: int
    groups: int
    seed: int

    @property
    def base(self) -> tuple[Store, Windows, dict[str, Any]]:
        """The store, its windows, and the columns that every row of the task has."""
        store = opened(self.path, self.content)
        cut = windows(store, self.window, self.position0, seed=self.seed)
        count, window = cut.rows.shape
        base = {
            "run": store.name,
            "token": f"first {window}",
            "position0": "kept" if self.position0 else "dropped",
        }
        base |= {"normalise": "raw", "design": "within", "n": window, "n_texts": count, "seed": self.seed}
        return store, cut, base

    def key(self) -> str:
        """Name of the task's answer."""
        settings = {k: v for k, v in vars(self).items() if k != "path"}
        return key_of(settings, __name__, *(find(name).__module__ for name, _, _ in self.measures))


def windows(
    store: Store, window: int | None = None, position0: bool = False, most: int = TEXTS, seed: int = 0
) -> Windows:
    """The first `window` tokens of texts that have as many, position 0 left out unless kept; `most` texts, by
    the seed.

    Default: 32 tokens, or what four texts in five have. TransectError when fewer than 4 texts remain.
    """
    if store.manifest["pool"]:
        raise TransectError(
            f"{store.path} holds one point a text: there is nothing inside a text to measure.",
            "Capture without --pool, or give arrays of all tokens.",
        )
    selection = store.select("all", position0)
    starts = np.flatnonzero(np.diff(selection.texts, prepend=-1))
    lengths = np.diff(np.append(starts, len(selection)))
    if window is None:
        window = min(WINDOW, int(np.quantile(lengths, 0.2)))
    enough = lengths >= max(window, 3)
    at = np.full(len(store), -1)
    at[selection.texts[starts]] = np.arange(len(starts))
    generator = rng(seed, "windows")
    usable = at[apart(store, selection.texts[starts[enough]], rng(seed, "units"))]
    if len(usable) < 4:
        raise TransectError(
            f"{store.path}: {len(usable)} texts have {max(window, 3)} tokens after the first; 4 are needed.",
            "Choose a smaller --window, or capture longer texts.",
        )
    picked = np.sort(generator.permutation(usable)[:most])
    rows = selection.rows[starts[picked][:, None] + np.arange(max(window, 3))]
    return Windows(rows, selection.texts[starts[picked]], int((~enough).sum()))


def within_ask(
    measures: Sequence[Asked],
    stores: Sequence[Store],
    *,
    family: str = "resid",
    window: int | None = None,
    position0: bool = False,
    draws: int = DRAWS,
    groups: int = 10,
    seed: int = 0,
) -> Ask:
    """Measures of one cloud on the window of every text at every site; a row for each site.

    measures: (name, about, options); about "zero" takes points as they are, "mean" takes out the mean of all
    texts first. value: mean over texts; low, high: 95 % by leaving out groups of texts; text_low, text_high:
    the middle 80 % of texts. null: the same on windows whose tokens come from other texts, `draws` times.
    """
    if odd := [name for name, _, _ in measures if find(name).data != ("X",)]:
        raise TransectError(f"{odd[0]} is no measure of one cloud.", "Within a text there is one.")
    shared = (tuple(measures), window, position0, draws, groups, seed)
    tasks = [
        Within(str(s.path), s.content, site, family, *shared)
        for s in stores
        for site in sites.select(s.sites, [family])
    ]
    return Ask(_site_rows, tuple(tasks), _joined, key=Within.key)


def trajectories_ask(
    stores: Sequence[Store],
    *,
    family: str = "resid",
    window: int | None = None,
    position0: bool = False,
    draws: int = DRAWS,
    groups: int = 10,
    seed: int = 0,
) -> Ask:
    """The path of a token through the layers: how sharply it turns at each, and how much longer than straight
    it is.

    turning_angle at resid.l: degrees between the update into it and the update out of it (null: of different
    tokens). tortuosity at resid.l: length of the path from the first layer over the distance covered, ≥ 1
    (null: steps of the same lengths at right angles, Σ s / √Σ s²). Curvature of representations: Hosseini &
    Fedorenko 2023, arXiv:2311.04930.
    """
    shared = ((), window, position0, draws, groups, seed)
    tasks = tuple(Within(str(s.path), s.content, "", family, *shared) for s in stores)
    return Ask(_path_rows, tasks, _joined, key=Within.key)


def within(
    measures: Sequence[Asked],
    stores: Sequence[Store],
    *,
    progress: Callable[[str, int, int], None] | None = None,
    **options: Any,
) -> Table:
    """`within_ask`, answered in this process."""
    asked = within_ask(measures, stores, **options)
    return answer({"within": asked}, Work(progress=progress, workers=1), "within texts")["within"]


def trajectories(stores: Sequence[Store], **options: Any) -> Table:
    """`trajectories_ask`, answered in this process."""
    return answer({"paths": trajectories_ask(stores, **options)}, Work(workers=1))["paths"]


def _joined(answers: list[list[dict[str, Any]]]) -> Table:
    return Table([row for rows in answers for row in rows], {"transect": __version__})


def _site_rows(task: Within) -> list[dict[str, Any]]:
    store, cut, base = task.base
    points = cut.points(store, task.site)
    middle = points.mean(axis=(0, 1), dtype=np.float64)
    rows = []
    for name, about, options in task.measures:
        row = base | {"measure": name, "about": about, "site": task.site, "control": "tokens of other texts"}
        cloud = points - middle if about == "mean" else points
        rows.append(row | options | _cell(find(name), options, cloud, task))
    return rows


def _cell(m: Measure, options: dict[str, Any], points: np.ndarray, task: Within) -> dict[str, Any]:
    values = _each(m, options, points)
    if isinstance(values, str):
        return {"status": values}
    nulls = []
    for b in range(task.draws):
        null = _each(m, options, mixed(points, rng(task.seed, "mixed", b)))
        nulls.append(math.nan if isinstance(null, str) else float(null.mean()))
    return summary(values, nulls, task.groups, task.seed, scale=m.scale)


def _each(m: Measure, options: dict[str, Any], points: np.ndarray) -> np.ndarray | str:
    """The measure of every text, [texts], or why one has none."""
    per_cloud = m.values(list(points), [(k,) for k in range(len(points))], **options)
    failed = [v for v in per_cloud if isinstance(v, TransectError)]
    if failed:
        return f"{len(failed)} of {len(points)} texts: {failed[0]}"
    return np.array([m.headline_of(v) for v in per_cloud])


def mixed(points: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """[texts, window, …] with the tokens of each position dealt anew to the texts: none to its own, and all
    of one window from different texts while there are enough."""
    count, window = points.shape[:2]
    ring = generator.permutation(count)
    shifts = np.resize(generator.permutation(count - 1) + 1, window)
    dealt = np.empty_like(points)
    for k, shift in enumerate(shifts):
        dealt[ring, k] = points[np.roll(ring, shift), k]
    return dealt


def summary(
    values: np.ndarray, nulls: Sequence[float], groups: int, seed: int, scale: str = "identity"
) -> dict[str, Any]:
    """Mean, interval, spread over texts, null, corrected value and p of a number per text, [texts].

    No p is given where so few draws of the null cannot reach 0.05.
    """
    if not np.isfinite(values).all():
        return {"status": f"undefined: NaN in {int((~np.isfinite(values)).sum())} of {len(values)} texts"}
    order = rng(seed, "groups").permutation(len(values))
    parts = np.array_split(order, min(groups, len(values)))
    drops = np.array([np.delete(values, part).mean() for part in parts])
    value, null = float(values.mean()), float(np.nanmean(nulls)) if len(nulls) else math.nan
    low, high = jackknife(value, drops, scale=scale)
    row: dict[str, Any] = {"value": value, "low": low, "high": high, "status": "ok", "draws": len(nulls)}
    row |= {"text_low": float(np.quantile(values, 0.1)), "text_high": float(np.quantile(values, 0.9))}
    extra = float(np.nanvar(nulls, ddof=1) / len(nulls)) if len(nulls) > 1 else 0.0
    bounds = jackknife(value - null, drops - null, more=extra)
    row |= {"null": null, "corrected": value - null, "corrected_low": bounds[0], "corrected_high": bounds[1]}
    if len(nulls):
        row |= {
            "null_low": float(np.nanquantile(nulls, 0.025)),
            "null_high": float(np.nanquantile(nulls, 0.975)),
        }
    return row | {"p": permutation_p(value, nulls, "two"), "replicates": drops.tolist()}


# paths through depth


def _path_rows(task: Within) -> list[dict[str, Any]]:
    """Rows of the path through every stack: an encoder's tokens do not go on in the decoder."""
    store, cut, base = task.base
    names = sites.select(store.sites, [task.family])
    stacks = dict.fromkeys(sites.stack(s) for s in names)
    parts = ([s for s in names if sites.stack(s) == stack] for stack in stacks)
    return [row for part in parts for row in _path(task, store, cut, base, part)]


def _path(
    task: Within, store: Store, cut: Windows, base: dict[str, Any], names: Sequence[str]
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    first = previous = cut.points(store, names[0]).astype(np.float64)
    before, length, squares = None, 0.0, 0.0
    for k, site in enumerate(names[1:], 1):
        here = cut.points(store, site).astype(np.float64)
        update = here - previous
        if before is not None:
            row = base | {
                "measure": "turning_angle",
                "site": names[k - 1],
                "control": "updates of other tokens",
            }
            nulls = [
                float(_angles(before, mixed(update, rng(task.seed, "mixed updates", b))).mean())
                for b in range(task.draws)
            ]
            rows.append(row | summary(_angles(before, update).mean(axis=1), nulls, task.groups, task.seed))
        size = np.linalg.norm(update, axis=-1)
        length, squares = length + size, squares + size**2
        straight = np.linalg.norm(here - first, axis=-1).sum(axis=1)
        bent = _ratio(np.asarray(length).sum(axis=1), straight)
        null = float(_ratio(np.asarray(length).sum(axis=1), np.sqrt(squares).sum(axis=1)).mean())
        row = base | {"measure": "tortuosity", "site": site, "control": "steps at right angles"}
        rows.append(row | summary(bent, [null], task.groups, task.seed) | {"p": None})
        previous, before = here, update
    return rows


def _angles(U: np.ndarray, V: np.ndarray) -> np.ndarray:
    """Degrees between the last axes of two arrays; NaN where one is 0."""
    size = np.linalg.norm(U, axis=-1) * np.linalg.norm(V, axis=-1)
    cosine = np.divide((U * V).sum(axis=-1), size, out=np.full(size.shape, np.nan), where=size > 0)
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def _ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    return np.divide(top, bottom, out=np.full(np.shape(top), np.nan), where=bottom > 0)
