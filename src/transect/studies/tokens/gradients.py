"""Gradients of the next-token loss at the state of each token: how much the loss at a token still depends on
each layer.

The gradient is of the token's own loss, −log p(next token), by its own state at each layer. In a causal model
neither depends on what comes later, so the number is the same whatever the length of the text. (The gradient
of a mean over a text falls as 1 / length, that of a sum grows with the tokens that follow.)
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from transect import __version__
from transect.errors import TransectError
from transect.inference.asks import Ask
from transect.inference.evaluate import opened
from transect.inference.per_text import summary
from transect.models.edit import Blocks, check_head
from transect.models.gradients import skipped_losses, token_gradients
from transect.random import rng
from transect.results.table import Table
from transect.store.store import Store
from transect.studies.runs import model_of
from transect.work.keys import key_of

if TYPE_CHECKING:
    from transect.models.models import Model


class Gradients(NamedTuple):
    """One task: the gradients of a store's own model on texts and positions drawn by the seed."""

    path: str
    content: str
    texts: int
    positions: int
    longest: int
    groups: int
    seed: int

    def key(self) -> str:
        """Name of the task's answer."""
        return key_of(list(self)[1:], __name__)


def gradients_ask(
    stores: Sequence[Store],
    *,
    texts: int = 12,
    positions: int = 4,
    longest: int = 96,
    groups: int = 10,
    seed: int = 0,
) -> Ask:
    """gradient_norm ‖∂ℓ/∂h‖ and relative_gradient ‖∂ℓ/∂h‖·‖h‖ at every resid site, on texts and positions
    drawn by seed.

    The relative one is what a relative change of the state does: it can be compared between layers of
    different norm. null: the same for the loss of a next token that comes from another place, drawn once.
    Position 0 is left out; texts are cut at `longest` tokens. A model that has no next token, or cannot be
    opened, is a row that says so.
    """
    tasks = tuple(Gradients(str(s.path), s.content, texts, positions, longest, groups, seed) for s in stores)
    return Ask(_rows, tasks, _joined, key=Gradients.key)


def _joined(answers: list[list[dict[str, Any]]]) -> Table:
    return Table([row for rows in answers for row in rows], {"transect": __version__})


def _rows(task: Gradients) -> list[dict[str, Any]]:
    store = opened(task.path, task.content)
    try:
        return gradient_rows(store, model_of(store), task)
    except TransectError as error:
        return [{"measure": "gradient_norm", "run": store.name, "status": str(error)}]


def skips_ask(
    stores: Sequence[Store], *, texts: int = 12, longest: int = 96, groups: int = 10, seed: int = 0
) -> Ask:
    """skipped_block: the loss with a block left out minus the loss, nats a token, at the site that the block
    makes; state_variance: mean square of the state, at every resid site.

    Curse of depth (Sun et al. 2025, arXiv:2502.05795): the variance grows, and deep blocks come to nothing.
    On the texts that the gradients are taken on; a model without a next token is a row that says so.
    """
    tasks = tuple(Gradients(str(s.path), s.content, texts, 4, longest, groups, seed) for s in stores)
    return Ask(_skips, tasks, _joined, key=lambda task: f"skips-{task.key()}")


def _skips(task: Gradients) -> list[dict[str, Any]]:
    store = opened(task.path, task.content)
    try:
        blocks = Blocks(model_of(store))
        drawn = _draw(store, task)
        by_text = [skipped_losses(blocks, ids) for ids, _, _ in drawn]
    except TransectError as error:
        return [{"measure": "skipped_block", "run": store.name, "status": str(error)}]
    base = {"run": store.name, "normalise": "raw", "design": "within", "n_texts": len(drawn)}
    base |= {"position0": "dropped", "seed": task.seed, "n": sum(len(ids) - 1 for ids, _, _ in drawn)}
    rows = []
    for k, site in enumerate(by_text[0]):
        gains, sizes = np.array([record[site] for record in by_text]).T  # each [texts]
        size = summary(sizes, [], task.groups, task.seed, scale="log")
        rows.append(base | {"measure": "state_variance", "site": site} | _alone(size))
        if k:
            record = summary(gains, [], task.groups, task.seed)
            rows.append(base | {"measure": "skipped_block", "site": site} | _alone(record))
    return rows


def _alone(record: dict[str, Any]) -> dict[str, Any]:
    """A number that has no null."""
    empty = ("p", "null", "corrected", "corrected_low", "corrected_high")
    return record | dict.fromkeys(empty)


def gradient_rows(store: Store, model: "Model", task: Gradients) -> list[dict[str, Any]]:
    """Rows of one store with its model; TransectError for a model that predicts no next token."""
    check_head(model)
    drawn = _draw(store, task)
    results = [token_gradients(model, ids, at, other) for ids, at, other in drawn]
    base = {
        "run": store.name,
        "token": f"{task.positions} a text",
        "position0": "dropped",
        "normalise": "raw",
    }
    base |= {"design": "within", "n": len(drawn) * task.positions, "n_texts": len(drawn), "seed": task.seed}
    base |= {"control": "another next token"}
    rows = []
    for site in results[0]:
        true, null, size = (np.array([t[site][k] for t in results]) for k in range(3))  # [texts, positions]
        for name, scale in (("gradient_norm", np.ones_like(size)), ("relative_gradient", size)):
            other = [float((null * scale).mean())]
            estimate = summary((true * scale).mean(axis=1), other, task.groups, task.seed, scale="log")
            rows.append(base | {"measure": name, "site": site} | estimate | {"p": None})
    return rows


def _draw(store: Store, task: Gradients) -> list[tuple[np.ndarray, ...]]:
    """(token ids, positions, next tokens of other places) of texts drawn from those that are long enough."""
    draw, positions = rng(task.seed, "gradients"), task.positions
    enough = [i for i in range(len(store)) if store.lengths[i] >= positions + 2]
    if len(enough) < 4:
        raise TransectError(
            f"{store.path}: {len(enough)} texts have {positions + 2} tokens.", "Give longer texts."
        )
    chosen_texts = []
    for i in sorted(draw.permutation(enough)[: task.texts].tolist()):
        ids = np.asarray(store.token_ids(i))[: task.longest + 1]
        chosen_texts.append((ids, np.sort(draw.choice(np.arange(1, len(ids) - 1), positions, replace=False))))
    following = draw.permutation(np.concatenate([ids[at + 1] for ids, at in chosen_texts])).reshape(
        len(chosen_texts), positions
    )
    return [(ids, at, other) for (ids, at), other in zip(chosen_texts, following, strict=True)]
