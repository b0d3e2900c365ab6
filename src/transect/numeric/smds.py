"""Supervised multidimensional scaling: the linear map of points that best shows the shape their labels would
lie on.

Targets: distances D of the labels → B = −½HD²H → its top eigenvectors times √λ = Y. Fit: W = YᵀX(XᵀX + αI)⁻¹
on centred X, by the smaller of the two Grams; α = 0 takes the pseudo-inverse; orthonormal takes UVᵀ of the
SVD of YᵀX. Where the shape leaves distances undefined, W minimises the stress of the defined ones. Source:
Tiblias et al. 2025, "Shape happens" (supervised MDS); Torgerson 1952; de Leeuw & Heiser 1980 (restricted
SMACOF).
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from transect.errors import TransectError
from transect.numeric import stress
from transect.numeric.scaling import (
    classical,
    completed,
    orthonormal_map,
    principal,
    restricted_map,
    ridge_map,
    smacof,
)
from transect.numeric.shape import Shape, straight
from transect.numeric.shapes import find_shape

#: Arrays that a fit leaves, and that `save` writes.
FITTED = ("W_", "Y_", "mean_", "eigenvalues_", "label_targets_", "label_counts_")


class LabelError(TransectError, ValueError):
    """Labels that no shape can be made of; also the ValueError that scikit-learn expects."""


class SupervisedMDS(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Find the subspace in which points lie like their labels on a shape; scikit-learn conventions.

    shape: a name of `transect.numeric.shapes`; "coordinates": y are target coordinates [n, k]; "precomputed":
    y are target distances [n, n], NaN where undefined. period: the shape's period or span, where it has one.
    parameters: its others. metric: what `score` reports, a name of `transect.numeric.stress`. alpha: ridge,
    in squared units of X. max_iter, tol: of the optimisation for undefined distances only.

    >>> import numpy as np
    >>> y = np.arange(40) % 7
    >>> X = np.column_stack([3 * np.cos(2 * np.pi * y / 7), np.sin(2 * np.pi * y / 7), np.zeros(40)])
    >>> round(SupervisedMDS("circle", period=7, alpha=0).fit(X, y).score(X, y), 6)
    1.0
    """

    def __init__(
        self,
        shape: Any = "circle",
        period: Any = 1.0,
        n_components: Any = 2,
        alpha: Any = 0.1,
        orthonormal: Any = False,
        parameters: Any = None,
        metric: Any = "scale_normalised",
        max_iter: Any = 300,
        tol: Any = 1e-7,
    ) -> None:
        self.shape, self.period, self.n_components, self.alpha = shape, period, n_components, alpha
        self.orthonormal, self.parameters, self.metric = orthonormal, parameters, metric
        self.max_iter, self.tol = max_iter, tol

    def fit(self, X: Any, y: Any) -> "SupervisedMDS":
        """Fit W_ [k, d], Y_ [n, k], mean_ [d], eigenvalues_ [k] (λ of the targets; the rest of the shape is
        cut off)."""
        X = self._points(X, y, reset=True)
        if self.alpha < 0 or self.n_components < 1:
            raise LabelError(
                f"alpha {self.alpha}, n_components {self.n_components}.", "α ≥ 0 and at least 1 dimension."
            )
        y = self._checked(y, len(X))
        D = self._targets(y)
        self.mean_, self.n_iter_ = X.mean(axis=0), 1
        Xc = X - self.mean_
        self.W_ = orthonormal_map(Xc, self.Y_) if self.orthonormal else ridge_map(Xc, self.Y_, self.alpha)
        if D is not None and not self.orthonormal:
            self.W_, self.n_iter_ = restricted_map(Xc, D, self.W_, self.alpha, self.max_iter, self.tol)
        self._n_features_out = self.n_components
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Points in the fitted subspace, [n, k]."""
        check_is_fitted(self)
        return (self._points(X, None, reset=False) - self.mean_) @ self.W_.T

    def inverse_transform(self, Z: Any) -> np.ndarray:
        """The points nearest the mean that `transform` sends to Z."""
        check_is_fitted(self)
        return np.asarray(check_array(Z, dtype="float64")) @ np.linalg.pinv(self.W_).T + self.mean_

    def score(self, X: Any, y: Any) -> float:
        """1 − scale-normalised stress between the labels' distances and those of the transformed points (see
        metric)."""
        Z = self.transform(X)
        return stress.score(self.metric, self.distances(self._checked(y, len(Z))), straight(Z))

    def distances(self, y: Any) -> np.ndarray:
        """Target distances of labels; for a shape made of the set of labels, of that set as it was fitted."""
        if self.shape == "precomputed":
            return np.asarray(y, np.float64)
        if self.shape == "coordinates":
            return straight(y)
        kind = find_shape(self.shape)
        parameters = shape_parameters(kind, self.period, self.parameters)
        if kind.of_set and "values" not in parameters and hasattr(self, "labels_"):
            parameters["values"] = self.labels_.tolist()
        return kind.distances(y, **parameters)

    def place(self, y: Any) -> np.ndarray:
        """Where labels lie among the fitted targets Y_, [n, k]; new labels by Gower's formula (1968)."""
        check_is_fitted(self)
        if self.shape in ("coordinates", "precomputed"):
            raise TransectError(f"shape {self.shape!r} places no labels.", "Use a named shape.")
        seen, c, y = self.labels_, self.label_counts_, np.asarray(y)
        D2 = completed(self.distances(np.concatenate([seen, y]))) ** 2
        inner, new = D2[: len(seen), : len(seen)], D2[len(seen) :, : len(seen)]
        pull = (inner @ c / c.sum() - new) * c @ self.label_targets_
        coordinates = pull / np.where(self.eigenvalues_ > 0, 2 * self.eigenvalues_, np.inf)
        same = (new == 0) & (c > 0)
        return np.where(same.any(axis=1)[:, None], self.label_targets_[same.argmax(axis=1)], coordinates)

    def _targets(self, y: np.ndarray) -> np.ndarray | None:
        """Set Y_ and eigenvalues_; returns the target distances where some are undefined."""
        named = self.shape not in ("coordinates", "precomputed")
        if named:
            self.labels_, place, counts = np.unique(y, axis=0, return_inverse=True, return_counts=True)
            place = place.ravel()
        else:
            self.labels_, place, counts = y, np.arange(len(y)), np.ones(len(y))
        D = self.distances(self.labels_)
        if not np.nanmax(D) > 1e-12:
            raise LabelError(
                f"all {len(y)} labels fall on one point of the {self.shape}.",
                "Labels are constant, or a whole number of periods apart: give their period.",
            )
        if self.shape == "coordinates":
            targets, self.eigenvalues_ = principal(np.asarray(y, float), self.n_components)
        else:
            targets, self.eigenvalues_ = classical(completed(D), self.n_components, counts)
        self.Y_ = targets[place]
        if undefined := not np.isfinite(D).all():
            D = D[np.ix_(place, place)]
            self.Y_ = smacof(D, self.Y_, self.max_iter, self.tol)
            targets = self.Y_[np.unique(place, return_index=True)[1]]
        self.label_targets_, self.label_counts_ = targets, np.asarray(counts, float)
        return D if undefined else None

    @staticmethod
    def metrics() -> list[str]:
        """Names that `metric` takes."""
        return list(stress.STRESS)

    def save(self, path: str | Path) -> Path:
        """Write parameters and fitted arrays as safetensors."""
        from safetensors.numpy import save

        from transect.files import write_bytes

        check_is_fitted(self)
        arrays = {name: np.ascontiguousarray(getattr(self, name)) for name in FITTED}
        record = {"parameters": self.get_params(), "labels": self.labels_.tolist()}
        write_bytes(Path(path), save(arrays, {"transect.smds": json.dumps(record)}))
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> "SupervisedMDS":
        """The estimator that `save` wrote."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "numpy") as file:
                record = json.loads((file.metadata() or {})["transect.smds"])
                model = cls(**record["parameters"])
                for name in FITTED:
                    setattr(model, name, file.get_tensor(name))
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise TransectError(f"{path}: not a saved SupervisedMDS ({error}).") from error
        model.labels_ = np.asarray(record["labels"])
        model.n_features_in_, model._n_features_out = model.W_.shape[1], model.W_.shape[0]
        return model

    def _points(self, X: Any, y: Any, reset: bool) -> np.ndarray:
        if reset and y is None:
            raise ValueError("requires y to be passed, but the target y is None")
        return np.asarray(
            validate_data(self, X, reset=reset, dtype=np.float64, ensure_min_samples=2 if reset else 1)
        )

    def _checked(self, y: Any, n: int) -> np.ndarray:
        y = np.asarray(y)
        y = np.asarray(y.tolist()) if y.dtype.kind == "O" else y
        if y.ndim not in (1, 2) or len(y) != n:
            raise LabelError(
                f"{n} points and labels of shape {y.shape}.", "Give one label a point, [n] or [n, columns]."
            )
        if y.dtype.kind == "c" or (
            y.dtype.kind == "f" and self.shape != "precomputed" and not np.isfinite(y).all()
        ):
            raise LabelError("labels contain NaN, infinity or complex numbers.", "Leave those samples out.")
        if y.dtype.kind == "O":
            raise LabelError(
                "Unknown label type: labels are neither numbers nor words.", "Leave those samples out."
            )
        y = y[:, None] if self.shape == "coordinates" and y.ndim == 1 else y
        if self.shape == "precomputed" and (y.shape != (n, n) or not np.allclose(y, y.T, equal_nan=True)):
            raise LabelError(f"target distances must be symmetric, [{n}, {n}]; got shape {y.shape}.")
        if np.ndim(y) == 2 and self.shape == "coordinates" and y.shape[1] < self.n_components:
            raise LabelError(
                f"{y.shape[1]} target coordinates, {self.n_components} components asked.",
                "Lower n_components.",
            )
        return y

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.target_tags.multi_output = True
        return tags


def shape_parameters(
    kind: Shape, period: float | int, parameters: dict[str, Any] | None = None
) -> dict[str, Any]:
    """What a shape is called with: the period under the name it has there, and the parameters given for
    it."""
    settings: dict[str, Any] = {key: period for key in ("period", "span") if key in kind.parameters}
    return settings | dict(parameters or {})
