"""What a shape is: labels to ideal coordinates or distances, with its parameters."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from transect.errors import TransectError


@dataclass(frozen=True)
class Shape:
    """A named shape: `gives` "coordinates" or "distances", of labels with so many columns (0: any number).

    `of_set`: distances depend on which labels there are at all, given by the parameter `values`.
    """

    name: str
    func: Callable[..., np.ndarray]
    gives: str
    columns: int
    words: bool
    of_set: bool

    @property
    def parameters(self) -> dict[str, Any]:
        """Parameters with their defaults."""
        return {
            p.name: p.default
            for p in inspect.signature(self.func).parameters.values()
            if p.kind is p.KEYWORD_ONLY
        }

    @property
    def summary(self) -> str:
        """First line of the docstring."""
        return inspect.cleandoc(self.func.__doc__ or "").split("\n")[0]

    def __call__(self, y: Any, **parameters: Any) -> np.ndarray:
        """What the function gives for labels `y`, in float64."""
        if unknown := set(parameters) - set(self.parameters):
            known = ", ".join(self.parameters) or "none"
            raise TransectError(
                f"shape {self.name}: no parameter {', '.join(sorted(unknown))}.", f"Parameters: {known}."
            )
        parameters = {key: _like(self.parameters[key], value) for key, value in parameters.items()}
        for key in ("period", "radius", "span", "reach", "periods", "radii"):
            if key in parameters and not all(0 < value < np.inf for value in np.atleast_1d(parameters[key])):
                raise TransectError(f"shape {self.name}: {key} is {parameters[key]}.", "It must be positive.")
        return self.func(self._labels(y), **parameters)

    def _labels(self, y: Any) -> np.ndarray:
        y = np.asarray(y)
        y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
        have = 1 if y.ndim == 1 else y.shape[1] if y.ndim == 2 else -1
        if not len(y) or have < 0 or (self.columns and have != self.columns):
            raise TransectError(
                (
                    f"shape {self.name}: needs labels with {self.columns or 'one or more'} columns,"
                    " got shape "
                    f"{y.shape}."
                ),
                "Name as many labels, separated by commas.",
            )
        if y.dtype.kind not in "fiub":
            if self.words:
                return y
            raise TransectError(
                f"shape {self.name}: needs numbers as labels, got {y.flat[0]!r}.", "Choose a number."
            )
        y = y.astype(np.float64)
        if not np.isfinite(y).all():
            raise TransectError(
                f"shape {self.name}: {int((~np.isfinite(y)).sum())} labels are not finite numbers."
            )
        return y

    def distances(self, y: Any, **parameters: Any) -> np.ndarray:
        """Target distances [n, n]; NaN where the shape leaves one undefined."""
        result = self(y, **parameters)
        return straight(result) if self.gives == "coordinates" else result


SHAPES: dict[str, Shape] = {}


def straight(X: np.ndarray) -> np.ndarray:
    """Euclidean distances between all rows, [n, n], float64, from direct differences."""
    from scipy.spatial.distance import pdist, squareform

    return squareform(pdist(np.asarray(X, np.float64)))


def shape(
    gives: str, columns: int = 1, *, words: bool = False, of_set: bool = False
) -> Callable[[Any], Shape]:
    """Register a function as a shape."""

    def wrap(func: Callable[..., np.ndarray]) -> Shape:
        name = func.__name__
        SHAPES[name] = Shape(name, func, gives, columns, words, of_set)
        return SHAPES[name]

    return wrap


def _like(default: Any, value: Any) -> Any:
    """`value` in the type of a parameter's default: 12 for 12.0, a list for a tuple."""
    if isinstance(default, float):
        return float(value)
    if isinstance(default, tuple):
        return tuple(float(v) for v in value)
    return value.tolist() if isinstance(value, np.ndarray) else value
