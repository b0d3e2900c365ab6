"""What the replaced program's formulas compute, labelled as published, beside what is computed here. For
comparison only.

Each layer is brought to unit norm and projected on a PCA of its own; the distance is POT's <P, C> with the
absolute regularisation 0.1, not debiased; a transition is a rolling z over 5 layers above the threshold;
"entropy" is that of the token norms. Its known faults: two bases are compared as if they were one, two
samples of one law score about as much as two layers do, |z| over a window of 5 cannot exceed 2.0, and the
entropy of n norms is about log n whatever the model.
"""

import itertools
import warnings
from typing import Any

import numpy as np

from transect.inference.design import Design
from transect.inference.draws import draw
from transect.models import sites
from transect.results.table import Table
from transect.store.store import Store

COMPONENTS, REGULARISATION, WINDOW = 50, 0.1, 5


def published(store: Store, ours: Table, design: Design, threshold: float) -> Table:
    """One row per pair of adjacent layers: the published distance, the same formula on two halves of one
    layer (`null`), rolling z and whether it fires, norm entropy, and our excess with its interval."""
    selection = store.select(design.tokens, design.position0)
    drawn = draw(
        selection, units=store.units, n=design.n, groups=design.groups, seed=design.seed, halves=True
    )
    names = sites.select(store.sites, [design.sites])
    first, second = (drawn.rows[drawn.members(h)].ravel() for h in "ab")
    halves = [[projected(store.take(s, selection.subset(rows))) for rows in (first, second)] for s in names]
    values = [distance(a[0], b[0]) for a, b in itertools.pairwise(halves)]
    floors = [distance(*pair) for pair in halves]
    z = rolling_z(np.array(values))
    corrected = {
        r["site"]: r
        for r in ours.where(run=store.name, measure="sinkhorn", design="disjoint", normalise="unit")
    }
    rows = []
    for k, (site, site2) in enumerate(itertools.pairwise(names)):
        norms = np.linalg.norm(store.take(site, selection.subset(first)), axis=1)
        share = norms / norms.sum()
        here = corrected.get(site, {})
        rows.append(
            {
                "measure": "published_distance",
                "run": store.name,
                "site": site,
                "site2": site2,
                "design": "as published",
                "value": values[k],
                "null": (floors[k] + floors[k + 1]) / 2,
                "n": drawn.n,
                "n_texts": len(drawn.texts),
                "rolling_z": float(z[k]),
                "transition": bool(abs(z[k]) > threshold),
                "largest_possible_z": float(np.sqrt(WINDOW - 1)),
                "norm_entropy": float(-(share * np.log(share)).sum()),
                "log_n": float(np.log(len(share))),
                "our_excess": here.get("corrected"),
                "our_low": here.get("corrected_low"),
                "our_high": here.get("corrected_high"),
                "status": "ok",
            }
        )
    return Table(rows)


def rolling_z(values: np.ndarray) -> np.ndarray:
    """Each value against mean and population deviation of the window of 5 centred on it, itself included: |z|
    ≤ 2.0."""
    z = np.zeros(len(values))
    for k in range(len(values)):
        window = values[max(0, k - WINDOW // 2) : k + WINDOW // 2 + 1]
        spread = window.std()
        z[k] = (values[k] - window.mean()) / spread if spread > 0 else 0.0
    return z


def projected(X: np.ndarray) -> np.ndarray:
    X = X / np.linalg.norm(X, axis=1, keepdims=True)
    X = X - X.mean(axis=0)
    _, _, axes = np.linalg.svd(X.astype(np.float64), full_matrices=False)
    return X @ axes[:COMPONENTS].T


def distance(A: np.ndarray, B: np.ndarray) -> float:
    import ot

    weights = np.full(len(A), 1 / len(A))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # as published: unconverged plans passed for results
        cost: Any = ot.sinkhorn2(weights, weights, ot.dist(A, B), REGULARISATION)
    return float(cost)
