"""What the five programs that Transect replaces compute, each formula as its own code has it: for
comparison only.

Their faults are kept on purpose and named in each docstring; `reproduce.py` prints them beside the
corrected numbers. The transport distance, the rolling z and the loss of an order stand in the package
already (`transect drift --as-published`, `transect.studies.neurons.maps.order_cost`) and are taken from
there.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from transect.models.models import Model


# transport through depth


def own_basis(X: np.ndarray, components: int = 50) -> np.ndarray:
    """Points at norm 1 on a PCA of their own, [n, components]. Two layers end in two bases that cannot be
    compared.
    """
    X = X / np.linalg.norm(X, axis=1, keepdims=True)
    X = X - X.mean(axis=0)
    _, _, axes = np.linalg.svd(X.astype(np.float64), full_matrices=False)
    return X @ axes[:components].T


def emd(A: np.ndarray, B: np.ndarray) -> float:
    """Exact transport cost of squared distances, equal weights."""
    import ot

    cost: Any = ot.emd2(np.full(len(A), 1 / len(A)), np.full(len(B), 1 / len(B)), ot.dist(A, B))
    return float(cost)


# fine-tuning drift


def overlap(A: np.ndarray, B: np.ndarray) -> float:
    """Its "CKA", ‖AᵀB‖² / (‖A‖² ‖B‖²) of centred views. The denominator is no self-term: a cloud with
    itself gives Σλ² / (Σλ)², one over the participation ratio."""
    A, B = (Z - Z.mean(axis=0, dtype=np.float64) for Z in (A, B))
    return float(((A.T @ B) ** 2).sum() / ((A**2).sum() * (B**2).sum()))


def padded_means(states: np.ndarray) -> np.ndarray:
    """[texts, longest, d] → [texts, d], the padding counted: the share of padding is in every mean."""
    return states.mean(axis=1, dtype=np.float64)


def masked_means(states: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The same over real tokens alone; mask [texts, longest] is 1 there."""
    return (states * mask[:, :, None]).sum(axis=1, dtype=np.float64) / mask.sum(axis=1)[:, None]


# token geometry


def raw_cosine(X: np.ndarray) -> float:
    """Mean cosine of two different tokens of one text, uncentred, position 0 among them: it sees the shared
    mean.
    """
    U = X / np.linalg.norm(X, axis=1, keepdims=True)
    return float(((U @ U.T).sum() - len(U)) / (len(U) * (len(U) - 1)))


def mean_loss_gradients(model: "Model", ids: np.ndarray, layer: int) -> np.ndarray:
    """Norm of the gradient of a text's mean loss by each token's state, [tokens]: it falls as the text gets
    longer.
    """
    import torch

    given = torch.from_numpy(np.asarray(ids, np.int64))[None]
    with torch.enable_grad():
        out = model.model(input_ids=given, labels=given, output_hidden_states=True, use_cache=False)
        (found,) = torch.autograd.grad(out.loss, out.hidden_states[layer])
    return found[0].norm(dim=-1).numpy().astype(float)


# neurons on a line


class Sorted(NamedTuple):
    """Positions on the line after the descent [N]; the loss Σ D·C of the first and the last step."""

    positions: np.ndarray
    first: float
    last: float


def sort_by_descent(batches: Sequence[np.ndarray], *, epochs: int = 40, lr: float = 0.1) -> Sorted:
    """Neurons on an even line [0, √N], moved by Adam down Σ D·(1 − ρ)/2, a batch [tokens, N] a step.

    The loss is a sum of distances: it is smallest where all neurons stand on one point.
    """
    import torch

    width = batches[0].shape[1]
    place = torch.nn.Parameter(torch.linspace(0, width**0.5, width))
    optimiser, losses = torch.optim.Adam([place], lr=lr), []
    costs = [torch.from_numpy((1 - np.corrcoef(b, rowvar=False)) / 2).float() for b in batches]
    for cost in costs * epochs:
        loss = ((place[:, None] - place).abs() * cost).sum() / 2
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    return Sorted(place.detach().numpy().astype(float), losses[0], losses[-1])


# a circle of labels


def min_max_circle(y: np.ndarray) -> np.ndarray:
    """Chord distances of labels on a circle after scaling them to [0, 1], as the library does at every
    call: the least and the greatest label become one point."""
    turn = (y - y.min()) / (y.max() - y.min())
    gap = np.abs(turn[:, None] - turn)
    return 2 * np.sin(np.pi * np.minimum(gap, 1 - gap))


def fit_circle(X: np.ndarray, y: np.ndarray, alpha: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """(mean, W [2, d]) of the library's supervised MDS: classical scaling of the distances, then a ridge
    map.
    """
    n = len(y)
    H = np.eye(n) - 1 / n
    values, vectors = np.linalg.eigh(-0.5 * H @ min_max_circle(y) ** 2 @ H)
    Y = vectors[:, -2:] * np.sqrt(np.maximum(values[-2:], 0))
    mean = X.mean(axis=0)
    Z = X - mean
    return mean, np.linalg.solve(Z.T @ Z + alpha * np.eye(Z.shape[1]), Z.T @ (Y - Y.mean(axis=0))).T


def score_circle(fitted: tuple[np.ndarray, np.ndarray], X: np.ndarray, y: np.ndarray) -> float:
    """1 − scale-normalised stress; the labels are scaled anew, by the least and greatest of these rows."""
    from scipy.spatial.distance import pdist

    found = pdist((X - fitted[0]) @ fitted[1].T)
    target = min_max_circle(y)[np.triu_indices(len(y), 1)]
    scale = (target @ found) / (found @ found)
    return float(1 - np.sqrt(((target - scale * found) ** 2).sum() / (target**2).sum()))


Split = Callable[[np.ndarray], Sequence[tuple[np.ndarray, np.ndarray]]]


def scattered_folds(y: np.ndarray) -> Sequence[tuple[np.ndarray, np.ndarray]]:
    """The notebook's three folds: rows at random, so that a date is on both sides."""
    from sklearn.model_selection import KFold

    return list(KFold(n_splits=3, shuffle=True, random_state=42).split(y))


def date_folds(y: np.ndarray) -> Sequence[tuple[np.ndarray, np.ndarray]]:
    """Three folds that hold out whole dates: the one change to the notebook's score that stops the leak."""
    from sklearn.model_selection import GroupKFold

    return list(
        GroupKFold(n_splits=3, shuffle=True, random_state=42).split(
            y, groups=np.unique(y, return_inverse=True)[1]
        )
    )


def circle_score(X: np.ndarray, y: np.ndarray, folds: Split = scattered_folds) -> float:
    """The notebook's score of one layer and token: the mean over three folds, no null taken off."""
    X = X.astype(np.float64)
    return float(np.mean([score_circle(fit_circle(X[a], y[a]), X[b], y[b]) for a, b in folds(y)]))


def leaked(y: np.ndarray) -> float:
    """Share of held-out rows whose date is among the training rows, over the notebook's folds."""
    return float(np.mean(np.concatenate([np.isin(y[b], y[a]) for a, b in scattered_folds(y)])))
