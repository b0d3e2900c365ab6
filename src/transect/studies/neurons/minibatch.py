"""The mini-batch way to lay neurons out: AdamW on positions, a batch of tokens at a time, as the replaced
program does it.

Kept for comparison with `neurons.project`, which uses the correlation over all tokens at once and is exact.
"""

from collections.abc import Iterable
from typing import Literal

import numpy as np

from transect.errors import TransectError
from transect.numeric.mds import stress
from transect.numeric.moments import Accumulator
from transect.random import rng
from transect.studies.neurons.maps import Projection

INITIALISATIONS = ("uniform", "normal", "point", "line")


def project_batches(
    batches: Iterable[np.ndarray],
    dim: int = 3,
    *,
    init: str = "normal",
    spread: float = 0.5,
    loss: Literal["mse", "order"] = "mse",
    norm: float = 2.0,
    lr: float = 0.05,
    weight_decay: float = 0.0,
    epochs: int = 1,
    seed: int = 0,
) -> Projection:
    """Positions [N, dim] from batches of activations [tokens, N], one AdamW step a batch.

    mse: (distance − (1 − ρ))² with ρ of the batch alone. order: Σ D·(1 − ρ)/2 divided by Σ D, because the
    published sum is smallest when all points collapse. init: uniform in a cube of side `spread`, normal with
    that deviation, one point with a little noise (exactly one point has no gradient), or an even line of
    length √N. The replaced program spreads by √N, which many steps must first undo: targets lie between 0 and
    2. norm: order of the distance. The stress is against ρ over all batches; the control is the same way
    through batches whose columns are shuffled.
    """
    if init not in INITIALISATIONS:
        raise TransectError(f"init {init!r}: one of {', '.join(INITIALISATIONS)}.")
    held = [b for b in batches if len(b) > 1]
    if not held:
        raise TransectError("no batch has two tokens.", "Pass longer texts.")
    width = held[0].shape[1]
    if not 1 <= dim < width:
        raise TransectError(f"dim = {dim} for {width} neurons.", f"Choose 1 to {width - 1}.")
    shuffle = rng(seed, "batches")
    options = (dim, init, spread, loss, norm, lr, weight_decay, epochs, seed)
    found, target = _descend(held, *options)
    flat, null = _descend([shuffle.permuted(b, axis=0) for b in held], *options)
    per = np.sqrt(((_euclidean(found) - target) ** 2).sum(1) / np.maximum((target**2).sum(1), 1e-30))
    return Projection(found, stress(found, target), stress(flat, null), per)


def _descend(
    batches: list[np.ndarray],
    dim: int,
    init: str,
    spread: float,
    loss: str,
    norm: float,
    lr: float,
    weight_decay: float,
    epochs: int,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """(positions, target distances over all batches)."""
    import torch

    width = batches[0].shape[1]
    positions = torch.nn.Parameter(torch.from_numpy(_start(init, spread, width, dim, seed)))
    optimiser = torch.optim.AdamW([positions], lr=lr, weight_decay=weight_decay)
    whole = Accumulator(width)
    for epoch in range(epochs):
        for batch in batches:
            rho = Accumulator(width).update(batch).freeze().correlation
            if epoch == 0:
                whole.update(batch)
            np.fill_diagonal(rho, 1.0)
            target = torch.from_numpy(1 - rho).float()
            D = torch.cdist(positions, positions, p=norm)
            value = ((D - target) ** 2).mean() if loss == "mse" else (D * target / 2).sum() / D.sum()
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
