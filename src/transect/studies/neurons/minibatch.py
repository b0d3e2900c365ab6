"""The mini-batch way to lay neurons out: AdamW on positions, a batch of tokens at a time, as the replaced
program does it.

Kept for comparison with `neurons.project`, which uses the correlation over all tokens at once and is exact.
"""

from collections.abc import Iterable
from typing import Annotated, TypedDict, Unpack

import numpy as np

from transect.errors import TransectError
from transect.numeric.mds import stress
from transect.numeric.moments import Accumulator
from transect.random import rng
from transect.studies.neurons.maps import Projection
from transect.work.options import Option, Values

INITIALISATIONS = ("uniform", "normal", "point", "line")


class BatchOptions(TypedDict, total=False):
    """How positions are fitted batch by batch."""

    init: Annotated[str, Option("normal", "Where points start.", choices=INITIALISATIONS)]
    spread: Annotated[float, Option(0.5, "Side or deviation of the start.", least=0)]
    loss: Annotated[str, Option("mse", "What a step lowers.", choices=("mse", "order"))]
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

    mse: (distance − (1 − ρ))² with ρ of the batch alone. order: Σ D·(1 − ρ)/2 divided by Σ D, because the
    published sum is smallest when all points collapse. init: uniform in a cube of side `spread`, normal with
    that deviation, one point with a little noise (exactly one point has no gradient), or an even line of
    length √N. The replaced program spreads by √N, which many steps must first undo: targets lie between 0 and
    2. norm: order of the distance. The stress is against ρ over all batches; the control is the same way
    through batches whose columns are shuffled.
    """
    o = Batched(**options)
    held = [b for b in batches if len(b) > 1]
    if not held:
        raise TransectError("no batch has two tokens.", "Pass longer texts.")
    width = held[0].shape[1]
    if not 1 <= dim < width:
        raise TransectError(f"dim = {dim} for {width} neurons.", f"Choose 1 to {width - 1}.")
    shuffle = rng(o.seed, "batches")
    found, target = _descend(held, dim, o)
    flat, null = _descend([shuffle.permuted(b, axis=0) for b in held], dim, o)
    per = np.sqrt(((_euclidean(found) - target) ** 2).sum(1) / np.maximum((target**2).sum(1), 1e-30))
    return Projection(found, stress(found, target), stress(flat, null), per)


def _descend(batches: list[np.ndarray], dim: int, o: Batched) -> tuple[np.ndarray, np.ndarray]:
    """(positions, target distances over all batches)."""
    import torch

    width = batches[0].shape[1]
    positions = torch.nn.Parameter(torch.from_numpy(_start(o.init, o.spread, width, dim, o.seed)))
    optimiser = torch.optim.AdamW([positions], lr=o.lr, weight_decay=o.weight_decay)
    whole = Accumulator(width)
    for epoch in range(o.epochs):
        for batch in batches:
            rho = Accumulator(width).update(batch).freeze().correlation
            if epoch == 0:
                whole.update(batch)
            np.fill_diagonal(rho, 1.0)
            target = torch.from_numpy(1 - rho).float()
            D = torch.cdist(positions, positions, p=o.norm)
            value = ((D - target) ** 2).mean() if o.loss == "mse" else (D * target / 2).sum() / D.sum()
            optimiser.zero_grad()
            value.backward()
            optimiser.step()
    rho = whole.freeze().correlation
    np.fill_diagonal(rho, 1.0)
    return positions.detach().numpy(), (1 - rho).astype(np.float32)


def _start(init: str, spread: float, width: int, dim: int, seed: int) -> np.ndarray:
    draw = rng(seed, "start")
    if init == "line":
        line = np.linspace(0, np.sqrt(width), width)[:, None] * np.eye(dim)[0]
        return (line + 1e-3 * draw.normal(size=(width, dim))).astype(np.float32)
    if init == "uniform":
        return (spread * draw.random((width, dim))).astype(np.float32)
    return ((spread if init == "normal" else 1e-2) * draw.normal(size=(width, dim))).astype(np.float32)


def _euclidean(positions: np.ndarray) -> np.ndarray:
    return np.sqrt(((positions[:, None] - positions) ** 2).sum(-1))
