"""One fit of a map, held in the hand: the first fold's training texts at one cell, as the map fits them."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from transect.errors import TransectError
from transect.numeric.shapes import find_shape
from transect.numeric.smds import SupervisedMDS
from transect.store.store import Selection, Store
from transect.store.units import full_label
from transect.studies.manifold.map import size_of
from transect.studies.manifold.plan import Fold, MapJob, plan_for


@dataclass(frozen=True)
class Fit:
    """`points` [texts, d] centred and divided by `size` as the training texts say; `units` [texts]: what
    counts once."""

    model: SupervisedMDS
    fold: Fold
    labels: np.ndarray
    units: np.ndarray
    points: np.ndarray
    size: Any
    selection: Selection


def fit_at(store: Store, job: MapJob, site: str, token: str, *, orthonormal: bool = False) -> Fit:
    """The first shape of a job, fitted with its groups, folds, scale and ridge.

    Raises: TransectError where the points are the same in all texts.
    """
    plan = plan_for(store, job)
    fold, (name, parameters) = plan.folds[0], job.shapes[0]
    selection = store.select(token)
    X = store.take(site, selection).astype(np.float64)
    X -= X[fold.train].mean(axis=0)
    size = size_of(X[fold.train], job.scale)
    if not (np.all(size > 0) and np.ptp(X[fold.train], axis=0).max() > 0):
        raise TransectError(
            f"{site}, {token}: the points are the same in all texts.", "Choose a later site or token."
        )
    X /= size
    y = plan.values[plan.value]
    # a shape made of the set of labels gets all of them
    everything = {"values": plan.values.tolist()} if find_shape(name).of_set else {}
    model = SupervisedMDS(
        name, 1.0, job.n_components, job.alpha, orthonormal, json.loads(parameters) | everything
    )
    units = (
        plan.unit if job.group is None else np.unique(full_label(store, job.group), return_inverse=True)[1]
    )
    return Fit(model.fit(X[fold.train], y[fold.train]), fold, y, units, X, size, selection)
