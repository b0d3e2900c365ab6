"""Gradients of the next-token loss at the state of each token: how much the loss at a token still depends on each layer.

The gradient is of the token's own loss, −log p(next token), by its own state at each layer. In a causal model neither
depends on what comes later, so the number is the same whatever the length of the text. (The gradient of a mean over a
text falls as 1 / length, that of a sum grows with the tokens that follow.)
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from transect import __version__
from transect.errors import TransectError
from transect.inference.per_text import summary
from transect.models.gradients import token_gradients
from transect.results.table import Table
from transect.store.store import Store

if TYPE_CHECKING:
    from transect.models.models import Model


def gradients(
    stores: Sequence[Store],
    open_model: "Callable[[Store], Model]",
    *,
    texts: int = 12,
    positions: int = 4,
    longest: int = 96,
    groups: int = 10,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Table:
    """gradient_norm ‖∂ℓ/∂h‖ and relative_gradient ‖∂ℓ/∂h‖·‖h‖ at every resid site, on texts and positions drawn by seed.

    The relative one is what a relative change of the state does: it can be compared between layers of different norm.
    null: the same for the loss of a next token that comes from another place, drawn once. Position 0 is left out; texts
    are cut at `longest` tokens. open_model: the model that a store was captured from, opened one after the other; where it
    raises a TransectError, that is the row.
    """
    rows: list[dict[str, Any]] = []
    for done, store in enumerate(stores):
        if progress:
            progress(done, len(stores))
        try:
            model, chosen = open_model(store), _draw(store, texts, positions, longest, seed)
        except TransectError as error:
            rows.append({"measure": "gradient_norm", "run": store.name, "status": str(error)})
            continue
        told = [token_gradients(model, ids, at, other) for ids, at, other in chosen]
        base = {"run": store.name, "token": f"{positions} a text", "position0": "dropped", "normalise": "raw"}
        base |= {"design": "within", "n": len(chosen) * positions, "n_texts": len(chosen), "seed": seed}
        base |= {"control": "another next token"}
        for site in told[0]:
            true, null, size = (np.array([t[site][k] for t in told]) for k in range(3))  # [texts, positions]
            for name, scale in (("gradient_norm", np.ones_like(size)), ("relative_gradient", size)):
                found = summary((true * scale).mean(axis=1), [float((null * scale).mean())], groups, seed)
                rows.append(base | {"measure": name, "site": site} | found | {"p": None})
    if progress:
        progress(len(stores), len(stores))
    return Table(rows, {"transect": __version__})


def _draw(store: Store, texts: int, positions: int, longest: int, seed: int) -> list[tuple[np.ndarray, ...]]:
    """(token ids, positions, next tokens of other places) of texts drawn from those that are long enough."""
    rng = np.random.default_rng([seed, 9])
    enough = [i for i in range(len(store)) if store.lengths[i] >= positions + 2]
    if len(enough) < 4:
        raise TransectError(f"{store.path}: {len(enough)} texts have {positions + 2} tokens.", "Give longer texts.")
    chosen = []
    for i in sorted(rng.permutation(enough)[:texts].tolist()):
        ids = np.asarray(store.token_ids(i))[: longest + 1]
        chosen.append((ids, np.sort(rng.choice(np.arange(1, len(ids) - 1), positions, replace=False))))
    following = rng.permutation(np.concatenate([ids[at + 1] for ids, at in chosen])).reshape(len(chosen), positions)
    return [(ids, at, other) for (ids, at), other in zip(chosen, following, strict=True)]
