"""What one layer adds to the states of the same tokens: how much, and along or against what was there.

X and Y are the states before and after; the update is Y − X. A mean over tokens, each weighing the same.
"""

import numpy as np
from jaxtyping import Float

from transect.errors import TransectError
from transect.measures.additive import additive
from transect.measures.contract import measure


@measure(
    source="Xie et al. 2023, arXiv:2304.14802 (representation collapse); Liu et al. 2020, arXiv:2004.08249",
    invariant_to={"common rotation", "common scaling"},
    itself=0.0,
    paired=True,
    scale="log",
    label="update / state",
    more="larger update",
    estimand="population",
)
def relative_update(X: Float[np.ndarray, "n d"], Y: Float[np.ndarray, "n d"]) -> float:
    """Mean of ‖y − x‖ / ‖x‖ over paired points, ≥ 0: the size of an update beside the state it is added to.

    Falling towards 0 with depth it is the representation collapse of pre-norm stacks: deep layers change
    little. For post-norm the update includes the norm. Tokens of small norm weigh as much as others. Raises
    when a point of X is 0.
    """
    before = np.linalg.norm(X.astype(np.float64), axis=1)
    if not before.all():
        raise TransectError(f"relative_update: {(before == 0).sum()} points of X have norm 0.", "Drop them.")
    return float((np.linalg.norm(Y.astype(np.float64) - X, axis=1) / before).mean())


additive(relative_update, lambda x, _y, apart: np.sqrt(apart / x))


@measure(
    source="Sun et al. 2025, arXiv:2502.05795 (what deep layers write); cosine of update and state",
    invariant_to={"common rotation", "common scaling"},
    paired=True,
    scale="fisher",
    label="cosine of update and state",
    more="update amplifies the state",
    estimand="population",
)
def update_alignment(X: Float[np.ndarray, "n d"], Y: Float[np.ndarray, "n d"]) -> float:
    """Mean cosine between the update y − x and the state x over paired points, -1 to 1.

    Above 0 a layer amplifies what is there, below 0 it takes away, at 0 it writes at right angles. A norm of
    the sum (post-norm) pulls it below 0 by itself. Points without an update are left out; NaN where none has
    one. Raises when a point of X is 0.
    """
    A, U = X.astype(np.float64), Y.astype(np.float64) - X
    before, size = np.linalg.norm(A, axis=1), np.linalg.norm(U, axis=1)
    if not before.all():
        raise TransectError(f"update_alignment: {(before == 0).sum()} points of X have norm 0.", "Drop them.")
    moved = size > 0
    if not moved.any():
        return float("nan")
    return float(((A * U).sum(axis=1)[moved] / (before * size)[moved]).mean())


def _alignment(x: np.ndarray, y: np.ndarray, apart: np.ndarray) -> np.ndarray:
    """x · (y − x) over both norms; NaN where nothing moved."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(apart > 0, (y - apart - x) / 2 / np.sqrt(x * apart), np.nan)


additive(update_alignment, _alignment)
