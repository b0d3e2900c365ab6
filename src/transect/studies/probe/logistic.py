"""Logistic probes of classes: scikit-learn's penalised regression on training states in their own axes.

The penalty is blind to rotations and to directions without training states, so that the singular axes of the
training states lose nothing. Each labelling picks its own penalty on half of the training groups, fitted on
the other half.
"""

import warnings

import numpy as np
from jaxtyping import Float

from transect.studies.probe.fit import Held

#: Inverse penalties at states of mean square 1.
STRENGTHS = (1e-3, 1e-1, 1e1)


def logistic(
    X: Float[np.ndarray, "n d"], Y: Float[np.ndarray, "n m c"], folds: list[np.ndarray], groups: np.ndarray
) -> Held:
    """Probabilities of every row's classes by a probe fitted without its fold, for every labelling; `groups`
    [n] stay whole where a penalty is chosen too."""
    code, predicted, shares = Y.argmax(axis=2), np.zeros(Y.shape), []
    for test in folds:
        train = np.setdiff1d(np.arange(len(X)), test)
        at = X[train].mean(axis=0)
        Vt, s = np.linalg.svd(X[train] - at, full_matrices=False)[2::-1][:2]
        axes = Vt.T / max(float(np.sqrt((s**2).sum() / len(train))), 1e-300)
        Z, W = (X - at) @ axes, None
        for m in range(code.shape[1]):
            model = _fitted(Z[train], code[train, m], groups[train])
            predicted[test, m] = _probabilities(model, Z[test], Y.shape[2])
            if W is None:
                W = np.linalg.qr(axes @ np.atleast_2d(getattr(model, "coef_", np.zeros((1, Z.shape[1])))).T)[
                    0
                ]
        centred = X[test] - X[test].mean(axis=0)
        shares.append(float(((centred @ W) ** 2).sum() / max(float((centred**2).sum()), 1e-300)))
    return Held(predicted, float(np.mean(shares)))


def _fitted(Z: np.ndarray, code: np.ndarray, groups: np.ndarray) -> object:
    """A regression at the penalty that does best on every second group; the one class where there is one."""
    second = np.unique(groups, return_inverse=True)[1] % 2 == 1
    if len(np.unique(code)) < 2:
        return int(code[0])
    strength = STRENGTHS[0]
    if len(np.unique(code[~second])) > 1 and second.any():
        missed, classes = [], int(code.max()) + 1
        for C in STRENGTHS:
            model = _regression(Z[~second], code[~second], C)
            missed.append((_probabilities(model, Z[second], classes).argmax(1) != code[second]).mean())
        strength = STRENGTHS[int(np.argmin(missed))]
    return _regression(Z, code, strength)


def _regression(Z: np.ndarray, code: np.ndarray, C: float) -> object:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a probe stopped early is a more penalised one
        return LogisticRegression(C=C, class_weight="balanced", max_iter=200).fit(Z, code)


def _probabilities(model: object, Z: np.ndarray, classes: int) -> np.ndarray:
    """[n, classes]; 0 for a class that the training rows lack."""
    out = np.zeros((len(Z), classes))
    if isinstance(model, int):
        out[:, model] = 1
    else:
        out[:, model.classes_] = model.predict_proba(Z)  # type: ignore[attr-defined]
    return out
