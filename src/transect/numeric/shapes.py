"""Shapes: where labels would lie if a feature were a circle, a line, a sphere …; labels → ideal coordinates
or distances.

A shape is a function of labels [n] or [n, columns] whose keyword-only parameters are its periods and radii.
Labels are never rescaled: a period is an argument, and labels outside a shape's domain are refused. A shape
that gives coordinates has their straight-line distances; one that gives distances may leave some undefined
(NaN).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from transect.errors import TransectError, nearest
from transect.numeric.shape import SHAPES, Shape, shape, straight

ALIASES = {
    "euclidean": "line",
    "circular": "circle",
    "log": "log_line",
    "cluster": "clusters",
    "spherical": "sphere",
}


def find_shape(name: str) -> Shape:
    """The shape called `name`; TransectError lists the ones there are."""
    shape = SHAPES.get(ALIASES.get(name, name))
    if shape is None:
        raise TransectError(f"no shape {name!r}.{nearest(name, SHAPES)}", f"There are: {', '.join(SHAPES)}.")
    return shape


def _turn(radius: float, angle: np.ndarray) -> np.ndarray:
    return radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)


@shape("coordinates")
def circle(y: np.ndarray, *, period: float = 1.0, radius: float = 1.0) -> np.ndarray:
    """A circle, straight-line (chord) distances; labels a period apart are one point."""
    return _turn(radius, 2 * np.pi * y / period)


@shape("coordinates")
def semicircle(y: np.ndarray, *, span: float = 1.0, start: float = 0.0, radius: float = 1.0) -> np.ndarray:
    """Half a circle, chord distances; labels run from `start` to `start + span` and do not come round."""
    _within(y, start, start + span, "semicircle", "Give start and span in the labels' own units.")
    return _turn(radius, np.pi * (y - start) / span)


@shape("coordinates", columns=0)
def line(y: np.ndarray) -> np.ndarray:
    """A straight line, or a flat space where labels have several columns (Euclidean distance of the
    labels)."""
    return y.reshape(len(y), -1)


@shape("coordinates")
def log_line(y: np.ndarray, *, offset: float = 0.0) -> np.ndarray:
    """A line of log(y + offset): equal ratios, equal steps."""
    _within(
        y + offset,
        np.nextafter(0, 1),
        np.inf,
        "log_line",
        "Give offset, so that labels + offset are positive.",
    )
    return np.log(y + offset)[:, None]


@shape("coordinates")
def spiral(y: np.ndarray, *, period: float = 1.0, inner: float = 0.5, growth: float = 1.0) -> np.ndarray:
    """An Archimedean spiral: one turn a period, radius `inner` at label 0, growing by `growth` a turn."""
    radius = inner + growth * y / period
    _within(radius, 0, np.inf, "spiral", "The radius inner + growth · label / period must not be negative.")
    return radius[:, None] * _turn(1.0, 2 * np.pi * y / period)


@shape("coordinates")
def helix(y: np.ndarray, *, period: float = 1.0, radius: float = 1.0, pitch: float = 1.0) -> np.ndarray:
    """A helix: one turn a period, rising by `pitch` a turn; three dimensions."""
    return np.column_stack([_turn(radius, 2 * np.pi * y / period), pitch * y / period])


@shape("coordinates", words=True, of_set=True)
def polytope(
    y: np.ndarray, *, dimension: int = 3, seed: int = 0, values: Sequence[Any] | None = None
) -> np.ndarray:
    """A vertex for each label, spread on the unit sphere by repulsion from a seeded start; order means
    nothing."""
    known = np.unique(y if values is None else np.asarray(values))
    place = np.searchsorted(known, y).clip(0, len(known) - 1)
    if (unseen := known[place] != y).any():
        raise TransectError(
            f"shape polytope: label {y[unseen][0]} has no vertex.",
            "Give all labels in values, or fit on them.",
        )
    V = np.random.default_rng([seed, len(known), dimension]).standard_normal((len(known), dimension))
    V /= np.linalg.norm(V, axis=1, keepdims=True)
    for _ in range(400):
        gap = V[:, None] - V[None]
        push = (gap / ((gap**2).sum(-1, keepdims=True) + 1e-9)).sum(1)
        push -= (push * V).sum(1, keepdims=True) * V
        V += 0.5 * push / max(float(np.abs(push).max()), len(known) / 2)
        V /= np.linalg.norm(V, axis=1, keepdims=True)
    return V[place]


@shape("distances")
def discrete_circle(y: np.ndarray, *, period: float = 12.0) -> np.ndarray:
    """Steps along a ring of `period` places, the shorter way round; labels are whole numbers."""
    part = y[y % 1 != 0]
    if len(part) or period % 1:
        what = f"label {part[0]:.6g}" if len(part) else f"period {period:g}"
        raise TransectError(f"shape discrete_circle: {what} is no whole number.", "Use circle.")
    gap = np.abs(y[:, None] - y) % period
    return np.minimum(gap, period - gap)


@shape("distances")
def chain(y: np.ndarray, *, reach: float = 1.0) -> np.ndarray:
    """An open chain: only labels within `reach` of each other have a distance, the rest are left
    undefined."""
    gap = np.abs(y[:, None] - y)
    return np.where(gap <= reach * (1 + 1e-9), gap, np.nan)


@shape("distances")
def closed_chain(y: np.ndarray, *, period: float = 1.0, reach: float = 1.0) -> np.ndarray:
    """A chain that closes after a period; only labels within `reach` have a distance."""
    gap = np.abs(y[:, None] - y) % period
    gap = np.minimum(gap, period - gap)
    return np.where(gap <= reach * (1 + 1e-9), gap, np.nan)


@shape("distances", words=True)
def clusters(y: np.ndarray) -> np.ndarray:
    """Clusters: distance 0 for the same label, 1 for another."""
    return (y[:, None] != y).astype(np.float64)


@shape("distances", columns=0, words=True)
def hierarchy(y: np.ndarray, *, levels: Sequence[float] = ()) -> np.ndarray:
    """A tree: columns run from coarse to fine, and the first that differs gives the distance from `levels`.

    Default levels count down to 1.
    """
    y = y.reshape(len(y), -1)
    steps = np.asarray(levels or np.arange(y.shape[1], 0, -1), np.float64)
    if len(steps) != y.shape[1] or (np.diff(steps) > 0).any() or (steps <= 0).any():
        raise TransectError(
            f"shape hierarchy: {len(steps)} levels {steps.tolist()} for {y.shape[1]} columns.",
            "Give one positive distance a column, none greater than the one before.",
        )
    differ = y[:, None] != y
    return np.where(differ.any(-1), steps[differ.argmax(-1)], 0.0)


@shape("distances", columns=0, of_set=True)
def graph(y: np.ndarray, *, neighbours: int = 5, values: Sequence[Any] | None = None) -> np.ndarray:
    """Shortest paths through the graph of each label's nearest `neighbours`; undefined between separate
    parts."""
    from scipy.sparse.csgraph import shortest_path
    from scipy.spatial import cKDTree

    y = y.reshape(len(y), -1)
    extra = y[:0] if values is None else np.asarray(values, np.float64).reshape(-1, y.shape[1])
    nodes, place = np.unique(np.concatenate([y, extra]), axis=0, return_inverse=True)
    near, which = cKDTree(nodes).query(nodes, min(neighbours + 1, len(nodes)))
    links = np.full((len(nodes), len(nodes)), np.inf)
    np.put_along_axis(links, which.reshape(len(nodes), -1), near.reshape(len(nodes), -1), axis=1)
    paths = shortest_path(np.minimum(links, links.T), directed=False)
    at = place.ravel()[: len(y)]
    return np.where(np.isfinite(paths), paths, np.nan)[np.ix_(at, at)]


@shape("coordinates", columns=2)
def cylinder(y: np.ndarray, *, period: float = 1.0, radius: float = 1.0) -> np.ndarray:
    """A cylinder: first label the height, second the angle with its period; chord distances, three
    dimensions."""
    return np.column_stack([_turn(radius, 2 * np.pi * y[:, 1] / period), y[:, 0]])


@shape("coordinates", columns=2)
def sphere(y: np.ndarray, *, radius: float = 1.0) -> np.ndarray:
    """A sphere of latitude and longitude in degrees, chord distances through the inside; three dimensions."""
    _within(y[:, 0], -90, 90, "sphere", "Labels are latitude, longitude in degrees, in this order.")
    lat, lon = np.radians(y).T
    return radius * np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)


@shape("distances", columns=2)
def geodesic(y: np.ndarray, *, radius: float = 1.0) -> np.ndarray:
    """A sphere of latitude and longitude in degrees, great-circle distances along the surface."""
    chord = straight(sphere(y))
    return radius * 2 * np.arcsin(np.clip(chord / 2, 0, 1))


@shape("coordinates", columns=2)
def torus(
    y: np.ndarray, *, periods: tuple[float, float] = (1.0, 1.0), radii: tuple[float, float] = (1.0, 1.0)
) -> np.ndarray:
    """A torus, the product of two circles, chord distances; four dimensions, no twist."""
    return np.column_stack(
        [_turn(r, 2 * np.pi * y[:, k] / p) for k, (p, r) in enumerate(zip(periods, radii, strict=True))]
    )


@shape("distances", columns=2)
def klein_bottle(y: np.ndarray, *, periods: tuple[float, float] = (1.0, 1.0)) -> np.ndarray:
    """A flat Klein bottle: once round the first label turns the second over; shortest way along the
    surface."""
    u, v = (y / np.asarray(periods)).T
    v = np.where(np.floor(u) % 2 == 0, v, -v)
    u = u - np.floor(u)
    best = np.full((len(y), len(y)), np.inf)
    for wrap in (-1, 0, 1):
        across = ((v[:, None] - (v if wrap == 0 else -v)) + 0.5) % 1 - 0.5
        along = u[:, None] - u + wrap
        best = np.minimum(best, (along * periods[0]) ** 2 + (across * periods[1]) ** 2)
    return np.sqrt(best)


def _within(y: np.ndarray, low: float | int, high: float | int, name: str, fix: str) -> None:
    """Refuse labels off a shape's domain, with how many and the first."""
    outside = ~((y >= low) & (y <= high))
    if outside.any():
        first = float(y[outside][0])
        raise TransectError(
            f"shape {name}: {int(outside.sum())} of {len(y)} labels are off its domain (first: {first:.6g}).",
            fix,
        )
