"""Similarity of two views of the same points: row i of X and row i of Y are one token at two sites."""

import numpy as np
from jaxtyping import Float

from transect.errors import TransectError
from transect.measure import measure


@measure(
    source="the seeds' simple distance; Ethayarajh 2019, arXiv:1909.00512",
    invariant_to={"common rotation", "common scaling"},
    itself=1.0,
    paired=True,
)
def cosine(X: Float[np.ndarray, "n d"], Y: Float[np.ndarray, "n d"]) -> float:
    """Mean cosine between each point of X and the same point of Y, without centring, −1 to 1.

    A mean shared by all points makes it high for any pairing: read it against its shuffled pairing. Raises when a
    point is zero.
    """
    if X.shape[1] != Y.shape[1]:
        raise TransectError(f"cosine: X has {X.shape[1]} dimensions, Y {Y.shape[1]}.", "Compare sites of one width.")
    norms = [np.linalg.norm(A.astype(np.float64), axis=1) for A in (X, Y)]
    if zero := sum(int((n == 0).sum()) for n in norms):
        raise TransectError(f"cosine: {zero} points are zero, their direction is undefined.", "Leave them out.")
    dots = np.einsum("ij,ij->i", X, Y, dtype=np.float64)
    return float((dots / (norms[0] * norms[1])).mean())
