"""What blocks look like from outside: how alike the states of the same tokens are n layers apart, per text.

Token by token, so that any set of texts has its own number; position 0 and massive tokens are left out.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from transect.errors import TransectError
from transect.inference.evaluate import opened
from transect.measures.similarity import cka
from transect.models import sites
from transect.numeric.norms import ordinary_tokens
from transect.random import rng
from transect.work.keys import key_of

#: Measures that are means over tokens, and what each says.
BY_TOKEN = ("angular_distance", "block_influence", "relative_update", "update_norm")
MEASURES = (*BY_TOKEN, "cka_distance")


class Similarity(NamedTuple):
    """One task: states of some texts of a store at all its layers."""

    path: str
    content: str
    members: tuple[int, ...]
    longest: int
    massive: float
    halves: int
    spans: tuple[int, ...]
    seed: int
    beside: tuple[tuple[str, str], ...] = ()  # path and content of runs whose massive tokens are left out too

    def key(self) -> str:
        """Name of the task's answer."""
        return key_of([*self[1:-1], [content for _, content in self.beside]], __name__)


def half_samples(texts: int, halves: int, seed: int) -> list[np.ndarray]:
    """Halves of the texts, drawn by the seed: resamples without copies, which neighbours and Grams would
    see."""
    return [
        np.sort(rng(seed, "depth halves", k).permutation(texts)[: max(4, texts // 2)]) for k in range(halves)
    ]


def similar(task: Similarity) -> dict[str, Any]:
    """tokens [texts]; of the measures by token the sums over tokens, and the values at the last token, per
    pair of layers i ≤ j (upper triangle) and text; cka_distance of pairs that edits ask for, of all texts and
    of every half sample."""
    store = opened(task.path, task.content)
    names = sites.select(store.sites, ["resid"])
    texts, *others = (
        [_states(s, names, i, task.longest) for i in task.members]
        for s in (store, *(opened(*where) for where in task.beside))
    )
    texts = ordinary_tokens(texts, task.massive, *others)
    if empty := sum(not X.shape[1] for X in texts):
        raise TransectError(
            f"{store.path}: {empty} texts have no token but position 0 and massive ones.",
            "Raise --massive or leave it out with 0.",
        )
    upper = np.triu_indices(len(names), 1)
    sums: dict[str, list[Any]] = {name: [] for name in BY_TOKEN}
    last: list[Any] = []
    for X in texts:
        values = by_token(X)
        for name in BY_TOKEN:
            sums[name].append(values[name].sum(axis=0)[upper].tolist())
        last.append(values["angular_distance"][-1][upper].tolist())
    summary: dict[str, Any] = {"tokens": [X.shape[1] for X in texts], "sites": names, "last": last} | sums
    pairs = [(k, k + n) for n in sorted({1, 2, *task.spans}) for k in range(len(names) - n)]
    draws = [np.arange(len(texts)), *half_samples(len(texts), task.halves, task.seed)]
    return summary | {"pairs": pairs, "cka": _cka(texts, pairs, draws, task.seed)}


def by_token(X: np.ndarray) -> dict[str, np.ndarray]:
    """Measures of every token between all layers, each [tokens, layers, layers]: X [layers, tokens, d].

    angular_distance: arccos of the cosine ÷ π, 0 to 1; block_influence: 1 − cosine; update_norm: ‖y − x‖;
    relative_update: ‖y − x‖ ÷ ‖x‖, x the shallower. Source: Gromov et al. 2024, arXiv:2403.17887; Men et al.
    2024, arXiv:2403.03853 (ShortGPT).
    """
    X = X.astype(np.float64)
    inner = np.einsum("itd,jtd->tij", X, X, optimize=True)
    norms = np.maximum(np.sqrt(np.einsum("tii->ti", inner)), np.finfo(float).tiny)
    cosine = np.clip(inner / (norms[:, :, None] * norms[:, None, :]), -1, 1)
    squares = norms[:, :, None] ** 2 + norms[:, None, :] ** 2 - 2 * inner
    update = np.sqrt(np.maximum(squares, 0))
    values = {"angular_distance": np.arccos(cosine) / np.pi, "block_influence": 1 - cosine}
    return values | {"update_norm": update, "relative_update": update / norms[:, :, None]}


def _states(store: Any, names: Sequence[str], i: int, longest: int) -> np.ndarray:
    """States of one text, [layers, tokens, d], position 0 left out."""
    return np.stack([store.sample(i, site)[1:longest] for site in names])


def _cka(
    texts: Sequence[np.ndarray], pairs: Sequence[tuple[int, int]], draws: Sequence[np.ndarray], seed: int
) -> list[list[float]]:
    """1 − unbiased CKA of pairs of layers, per draw of texts; equally many tokens of each text."""
    k = min(8, min(X.shape[1] for X in texts))
    drawn = [
        X[:, np.sort(rng(seed, "depth tokens", t).permutation(X.shape[1])[:k])] for t, X in enumerate(texts)
    ]
    rows = []
    for members in draws:
        clouds = np.concatenate([drawn[t] for t in members], axis=1)
        values = cka.values(list(clouds), pairs, per_text=k)
        rows.append([float("nan") if isinstance(v, TransectError) else 1 - float(v) for v in values])
    return rows
