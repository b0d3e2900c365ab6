"""The mini-batch way to lay neurons out: AdamW on positions, a batch of tokens at a time, as the replaced
program does it.

Kept for comparison with `neurons.project`, which uses the correlation over all tokens at once and is exact.
"""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, TypedDict, Unpack

import numpy as np

from transect.errors import TransectError
from transect.numeric.moments import Accumulator
from transect.numeric.permute import columns_by_text
from transect.random import rng
from transect.studies.neurons.maps import Projection
from transect.work.options import Option, Values

INITIALISATIONS = ("uniform", "normal", "point", "line")
LOSSES = ("mse", "order", "published")


class BatchOptions(TypedDict, total=False):
    """How positions are fitted batch by batch."""

    init: Annotated[str, Option("normal", "Where points start.", choices=INITIALISATIONS)]
    spread: Annotated[float, Option(0.5, "Side or deviation of the start.", least=0)]
    loss: Annotated[str, Option("mse", "What a step lowers.", choices=LOSSES)]
    norm: Annotated[float, Option(2.0, "Order of the distance.", least=1)]
    lr: Annotated[float, Option(0.05, "Learning rate.", least=0)]
    weight_decay: Annotated[float, Option(0.0, "Weight decay.", least=0)]
    epochs: Annotated[int, Option(1, "Passes over the batches.", least=1)]
    seed: Annotated[int, Option(0, "Seed of the start and of the control.", least=0)]


class Batched(Values):
    """Frozen value of BatchOptions."""

    group = BatchOptions


def project_batches(
    batches: Iterable[np.ndarray], dim: int = 3, **options: Unpack[BatchOptions]
) -> Projection:
    """Positions [N, dim] from batches of activations [tokens, N], one AdamW step a batch.

    mse: (distance − (1 − ρ))² with ρ of the batch alone. order: Σ D²·(1 + ρ)/2 divided by Σ D², which is
    smallest where neighbours correlate, on whatever scale: at the Fiedler vector. published: Σ D·(1 − ρ)/2
    divided by Σ D, because the sum itself is smallest when all points collapse; it still sorts the wrong way,
    and warns. init: uniform in a cube of side `spread`, normal with that deviation, one point with a little
    noise (exactly one point has no gradient), or an even line of length √N. The replaced program spreads by
    √N, which many steps must first undo: targets lie between 0 and 2. norm: order of the distance, in the fit
    as in the stress. The stress is against ρ over all batches; the control is the same way through batches
    whose columns are each turned by an offset of their own.
    """
    o = Batched(**options)
    held = [b for b in batches if len(b) > 1]
    if not held:
        raise TransectError("no batch has two tokens.", "Pass longer texts.")
    width = held[0].shape[1]
    if not 1 <= dim < width:
        raise TransectError(f"dim = {dim} for {width} neurons.", f"Choose 1 to {width - 1}.")
    if o.loss == "published":
        warnings.warn(
            "loss='published' draws neurons apart that are alike: its weights (1 − ρ)/2 are largest for "
            "uncorrelated pairs, which it brings together. loss='order' sorts by correlation.",
            stacklevel=2,
        )
    positions, target = descend(correlations(held, o.epochs), dim, o), _target(held)
    control = turned(held, o.seed)
    flat, null = descend(correlations(control, o.epochs), dim, o), _target(control)
    (stress, per), (control_stress, _) = (_fit(p, t, o.norm) for p, t in ((positions, target), (flat, null)))
    return Projection(positions, stress, control_stress, per)


def descend(rhos: Iterable[np.ndarray], dim: int, o: Any) -> np.ndarray:
    """Positions float32 [N, dim] after one step of AdamW for each correlation matrix [N, N].

    o: the frozen value of BatchOptions.
    """
    import torch

    positions = optimiser = None
    for rho in rhos:
        if positions is None or optimiser is None:
            start = _start(o.init, o.spread, len(rho), dim, o.seed)
            positions = torch.nn.Parameter(torch.from_numpy(start))
            optimiser = torch.optim.AdamW([positions], lr=o.lr, weight_decay=o.weight_decay)
        target = torch.from_numpy(1 - rho).float()
        D = torch.cdist(positions, positions, p=o.norm)
        if o.loss == "mse":
            value = ((D - target) ** 2).mean()
        elif o.loss == "order":
            value = (D**2 * (1 - target / 2)).sum() / (D**2).sum()
        else:
            value = (D * target / 2).sum() / D.sum()
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
    if positions is None:
        raise TransectError("no batch has two tokens.", "Pass longer texts.")
    return positions.detach().numpy()


def correlations(batches: Sequence[np.ndarray], epochs: int) -> Iterator[np.ndarray]:
    """The correlation matrix [N, N] of each batch, so many times over."""
    for _ in range(epochs):
        for batch in batches:
            rho = Accumulator(batch.shape[1]).update(batch).freeze().correlation
            np.fill_diagonal(rho, 1.0)
            yield rho


def turned(batches: Sequence[np.ndarray], seed: int) -> list[np.ndarray]:
    """Batches whose columns are each turned by an offset of their own: what belongs together does no longer,
    and neighbouring tokens stay as alike."""
    generator = rng(seed, "batches")
    return [columns_by_text(b, np.array([len(b)]), generator) for b in batches]


def _target(batches: Sequence[np.ndarray]) -> np.ndarray:
    """Target distances over all batches."""
    moments = Accumulator(batches[0].shape[1])
    for batch in batches:
        moments.update(batch)
    rho = moments.freeze().correlation
    np.fill_diagonal(rho, 1.0)
    return (1 - rho).astype(np.float32)


def _fit(positions: np.ndarray, target: np.ndarray, norm: float) -> tuple[float, np.ndarray]:
    """(stress, the same by neuron), of distances in the norm of the fit."""
    import torch

    X = torch.from_numpy(positions)
    wrong = (torch.cdist(X, X, p=norm).numpy().astype(np.float64) - target) ** 2
    right = target.astype(np.float64) ** 2
    per = np.sqrt(wrong.sum(axis=1) / np.maximum(right.sum(axis=1), 1e-30))
    return float(np.sqrt(wrong.sum() / max(right.sum(), 1e-30))), per


def _start(init: str, spread: float, width: int, dim: int, seed: int) -> np.ndarray:
    draw = rng(seed, "start")
    if init == "line":
        line = np.linspace(0, np.sqrt(width), width)[:, None] * np.eye(dim)[0]
        return (line + 1e-3 * draw.normal(size=(width, dim))).astype(np.float32)
    if init == "uniform":
        return (spread * draw.random((width, dim))).astype(np.float32)
    return ((spread if init == "normal" else 1e-2) * draw.normal(size=(width, dim))).astype(np.float32)
