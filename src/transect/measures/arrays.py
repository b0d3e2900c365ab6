"""Arrays fit for a measure, and results that leave one."""

from collections.abc import Callable
from typing import Any

import numpy as np

from transect.errors import TransectError


def as_points(value: Any, what: str = "X") -> np.ndarray:
    """`value` as a finite NumPy array [n, d], float32 or float64; half precision is widened, integers become
    float64."""
    if type(value).__module__.startswith("torch"):
        value = value.detach().cpu()
        value = (value.float() if value.element_size() < 4 else value).numpy()
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise TransectError(f"{what} must hold real numbers, got {array.dtype}.")
    if array.ndim != 2 or 0 in array.shape:
        raise TransectError(f"{what} must be [points, dimensions], got shape {array.shape}.")
    if array.dtype not in (np.float32, np.float64):
        array = array.astype(np.float32 if array.dtype == np.float16 else np.float64)
    if not np.isfinite(array).all():
        bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
        raise TransectError(
            f"{what} is not finite in {len(bad)} of {len(array)} points (first: row {bad[0]})."
        )
    return array


def as_labels(value: Any, what: str = "y") -> np.ndarray:
    """Labels as an array [n] or [n, k]; numbers must be finite."""
    array = np.asarray(value)
    if array.ndim not in (1, 2) or 0 in array.shape:
        raise TransectError(f"{what}: labels must be [points] or [points, k], got shape {array.shape}.")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise TransectError(f"{what}: labels must be finite.")
    return array


def plain(result: Any) -> Any:
    """Results leave as Python floats, or as the measure's own named tuple."""
    return float(result) if isinstance(result, np.generic | int) else result


def attempt(call: Callable[[], Any]) -> Any:
    """The call's result, or the TransectError it raised: a cell that fails is a row with its reason."""
    try:
        return call()
    except TransectError as error:
        return error
