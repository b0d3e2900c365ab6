"""A move along a fitted manifold, planned and made in a forward pass."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from transect.errors import TransectError
from transect.models import sites as site_names
from transect.random import rng
from transect.store.store import Store
from transect.studies.manifold.fit import fit_at
from transect.studies.manifold.plan import MapJob

if TYPE_CHECKING:
    from transect.models.models import Model


@dataclass(frozen=True)
class Move:
    """Texts of one site and what is added to each at its position: `along` [n, d], and controls of the same
    size. `units` [n]: the group of each text, or its label value."""

    site: str
    texts: np.ndarray
    units: np.ndarray
    position: np.ndarray
    along: np.ndarray
    random: np.ndarray  # [draws, n, d]
    covariance: np.ndarray  # [draws, n, d]


def plan_move(
    store: Store, job: MapJob, site: str, token: str, shift: float | int, *, texts: int = 32, draws: int = 3
) -> Move:
    """Fit on the training texts of the first fold; move held-out ones from their label to label + shift.

    A move is the change of the points that goes with the change of the fitted coordinates, by regression over
    the training texts (Haufe et al. 2014), not the decoder's own direction. Controls have each text's own
    size: `random`, a subspace of any directions; `covariance`, one drawn from the points' own covariance.
    """
    fit = fit_at(store, job, site, token)
    y, fold, T = fit.labels, fit.fold, fit.points[fit.fold.train]
    if y.dtype.kind not in "fiu" or y.ndim > 1:
        raise TransectError(
            f"label {'/'.join(job.label)}: cannot be shifted by {shift}.", "Choose one number."
        )
    pattern = np.linalg.lstsq(fit.model.transform(T), T, rcond=None)[0]
    held = fold.test[rng(job.seed, "moved texts").permutation(len(fold.test))[:texts]]
    held.sort()
    steps = fit.model.place(y[held] + shift) - fit.model.place(y[held])
    along = steps @ pattern * fit.size
    lengths = np.linalg.norm(along, axis=1, keepdims=True)
    directions = rng(job.seed, "random moves")
    controls: list[list[np.ndarray]] = [[], []]
    for _ in range(draws):
        for kind, basis in enumerate((np.eye(T.shape[1]), T * fit.size)):
            D = steps @ directions.standard_normal((steps.shape[1], len(basis))) @ basis
            controls[kind].append(D * lengths / np.linalg.norm(D, axis=1, keepdims=True))
    there = fit.selection.position[held]
    return Move(site, held, fit.units[held], there, along, *(np.array(c) for c in controls))


@contextlib.contextmanager
def moved(model: "Model", site: str, position: Any, delta: Any) -> Iterator[None]:
    """While open, every pass adds `delta` [texts, d] at `position` [texts] of a site."""
    import torch

    tap = site_names.discover(model.model)[site]

    def shifted(value: Any) -> Any:
        if isinstance(value, tuple):
            return (shifted(value[0]), *value[1:])
        value = value.clone()
        value[torch.arange(len(position)), position] += delta.to(value)
        return value

    if tap.reads == "input":

        def hook(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
            if args:
                return (shifted(args[0]), *args[1:]), kwargs
            return args, kwargs | {"hidden_states": shifted(kwargs["hidden_states"])}

        handle = tap.module.register_forward_pre_hook(hook, with_kwargs=True)
    else:
        handle = tap.module.register_forward_hook(lambda _m, _args, result: shifted(result))
    try:
        yield
    finally:
        handle.remove()


def next_token(
    model: "Model", ids: Sequence[Sequence[int]], move: tuple[str, Any, Any] | None = None
) -> np.ndarray:
    """Log-probabilities of the token after each text, float32 [texts, vocabulary]; `move`: site, position,
    delta."""
    import torch

    out, device = [], model.device
    for begin in range(0, len(ids), 16):
        part = [list(row) for row in ids[begin : begin + 16]]
        longest = max(map(len, part))
        tokens = torch.tensor([row + [0] * (longest - len(row)) for row in part], device=device)
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in part], device=device)
        context: Any = contextlib.nullcontext()
        if move is not None:
            at = torch.as_tensor(np.asarray(move[1])[begin : begin + 16], device=device)
            delta = torch.as_tensor(np.asarray(move[2], np.float32)[begin : begin + 16], device=device)
            context = moved(model, move[0], at, delta)
        with torch.inference_mode(), context:
            logits = model.model(input_ids=tokens, attention_mask=mask).logits
        last = torch.tensor([len(row) - 1 for row in part], device=device)
        out.append(logits[torch.arange(len(part), device=device), last].float().log_softmax(-1).cpu().numpy())
    return np.concatenate(out)
