"""A measure of two clouds: how far their means are apart."""

import numpy as np
from jaxtyping import Float

from transect.measures.contract import measure


@measure(
    source="Mahalanobis 1936",
    invariant_to={"common rotation", "common translation", "row order"},
    itself=0.0,
    scale="log",
    label="gap of means",
    unit="activation units",
    more="farther apart",
)
def mean_gap(X: Float[np.ndarray, "n d"], Y: Float[np.ndarray, "m d"], *, squared: bool = False) -> float:
    """Distance between the means of two clouds, in activation units, 0 or more.

    Biased up by sampling: two samples of one law are apart by about the root of trace(cov) (1/n + 1/m).
    """
    gap = float(np.linalg.norm(X.mean(0, dtype=float) - Y.mean(0, dtype=float)))
    return gap**2 if squared else gap
