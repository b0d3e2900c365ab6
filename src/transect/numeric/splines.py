"""A curve through points in the order of their values: where it is, how long it is, how far other points are
from it."""

import itertools

import numpy as np
from scipy.interpolate import CubicSpline

from transect.errors import TransectError

#: Pieces that a segment between two knots is cut into for lengths and distances.
PIECES = 64


class Curve:
    """A cubic spline through points [k, d] at values [k] in rising order, closed where there is a period.

    Source: de Boor 1978, A Practical Guide to Splines (not-a-knot ends; periodic).
    """

    def __init__(self, values: np.ndarray, points: np.ndarray, period: float | int | None = None) -> None:
        """Raises: TransectError for fewer than 2 knots (3 of a closed curve), and for values that do not
        rise, or not within a period."""
        v, P = np.asarray(values, np.float64), np.asarray(points, np.float64)
        fewest = 2 if period is None else 3
        if len(v) < fewest or not (np.diff(v) > 0).all():
            raise TransectError(f"a curve through {len(v)} values.", f"Pass {fewest} or more that rise.")
        if period is not None:
            if v[-1] - v[0] >= period:
                raise TransectError(f"values from {v[0]:g} to {v[-1]:g}.", f"Pass less than {period:g}.")
            v, P = np.append(v, v[0] + period), np.concatenate([P, P[:1]])
        self.values, self.period = v, period
        ends = "not-a-knot" if period is None else "periodic"
        self._spline = CubicSpline(v, P, bc_type=ends)
        self._at = np.concatenate(
            [np.linspace(a, b, PIECES, endpoint=False) for a, b in itertools.pairwise(v)]
        )
        self._at = np.append(self._at, v[-1])
        self._path = self._spline(self._at)
        steps = np.linalg.norm(np.diff(self._path, axis=0), axis=1)
        self._length = np.concatenate([[0.0], np.cumsum(steps)])

    def at(self, values: np.ndarray) -> np.ndarray:
        """Points [n, d] of the curve at values [n]."""
        return np.asarray(self._spline(self._turned(values)))

    def lengths(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Length of the curve between values a and b [n], in units of the points; the shorter way round."""
        ends = [np.interp(self._turned(v), self._at, self._length) for v in (a, b)]
        way = np.abs(ends[0] - ends[1])
        return way if self.period is None else np.minimum(way, self._length[-1] - way)

    def distances(self, points: np.ndarray) -> np.ndarray:
        """Distance of points [n, d] from the nearest place of the curve, [n], in their units."""
        return np.array([self._distance(p) for p in np.asarray(points, np.float64)])

    def _distance(self, p: np.ndarray) -> float:
        start, step = self._path[:-1], np.diff(self._path, axis=0)
        size = np.maximum((step**2).sum(axis=1), np.finfo(float).tiny)
        along = np.clip(((p - start) * step).sum(axis=1) / size, 0, 1)
        return float(np.linalg.norm(p - start - along[:, None] * step, axis=1).min())

    def _turned(self, values: np.ndarray) -> np.ndarray:
        v = np.asarray(values, np.float64)
        return v if self.period is None else self.values[0] + (v - self.values[0]) % self.period
