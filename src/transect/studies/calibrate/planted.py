"""Power by planting: effects of known size put into the points of a store, and how often a test finds them.

Texts of the store are drawn without replacement, so that their lengths, spectra and likeness are its own. Two
views are related when the second holds a share of the first; two groups of texts differ when the second is
moved. At size 0 nothing is planted, and what is found is a false alarm.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from transect.inference.controls import design_effect
from transect.inference.evaluate import opened
from transect.inference.tests import LEVEL, permutation_p
from transect.measures.similarity import gram_pair
from transect.numeric.permute import inner_products, text_permutations
from transect.random import rng
from transect.work.keys import key_of

#: Test → what its size is a share of.
TESTS = {
    "related views": "variance that the second view has from the first",
    "different groups": "distance of the groups' means over the root mean square distance from the mean",
}
#: Fewest texts of a draw.
FEWEST = 8


@dataclass(frozen=True)
class Planting:
    """One task: a site of a store and what is planted there."""

    path: str
    content: str
    site: str
    tokens: str | int
    position0: bool
    sizes: tuple[float, ...]
    per_text: tuple[int, ...]
    draws: int
    permutations: int
    seed: int
    left_out: tuple[int, ...] = ()  # massive tokens: rows of the selection

    def key(self) -> str:
        """Name of the task's answer."""
        return key_of({k: v for k, v in vars(self).items() if k != "path"}, __name__)


def plant(task: Planting) -> dict[str, list[dict[str, Any]]]:
    """Rows of the tables `texts` (one) and `power`: test × size × tokens a text × number of texts."""
    store = opened(task.path, task.content)
    selection = store.select(task.tokens, task.position0)
    selection = selection.subset(np.setdiff1d(np.arange(len(selection)), task.left_out))
    X = store.take(task.site, selection).astype(np.float64)
    names, sizes = np.unique(selection.texts, return_counts=True)
    icc, effect = design_effect(X, selection.texts)
    base = {"run": store.name, "site": task.site}
    low, middle, high = (int(q) for q in np.quantile(sizes, [0.1, 0.5, 0.9], method="nearest"))
    row = {"value": icc, "design_effect": effect, "n": len(X), "n_texts": len(names), "status": "ok"}
    texts = base | row | {"tokens_low": low, "tokens_median": middle, "tokens_high": high}
    rows = []
    for k in task.per_text:
        mine = [
            np.flatnonzero(selection.texts == t)[:k]
            for t, size in zip(names, sizes, strict=True)
            if size >= k
        ]
        if len(mine) < FEWEST:
            continue
        points = X[np.array(mine)]
        for T in ladder(len(mine)):
            for test, trial in (("related views", _related), ("different groups", _different)):
                hits = trial(points, T, task)
                rows += [
                    base | {"test": test, "size": size, "tokens_a_text": k, "n_texts": T, "n": T * k}
                    | {"value": float(np.mean(hits[:, s])), "draws": len(hits), "status": "ok"}
                    for s, size in enumerate((0.0, *task.sizes))
                ]  # fmt: skip
    return {"texts": [texts], "power": rows}


def ladder(texts: int) -> list[int]:
    """Numbers of texts that are tried: from 8 on by steps of 1.5, and all."""
    steps = [FEWEST]
    while steps[-1] * 1.5 < 0.9 * texts:
        steps.append(int(steps[-1] * 1.5))
    return sorted({*steps, texts} if texts > FEWEST else {texts})


def _related(points: np.ndarray, T: int, task: Planting) -> np.ndarray:
    """Whether CKA and permuted texts find a second view related, [draws, sizes].

    The second view is √(1 − s) of another text's points and √s of the text's own; its Gram matrix follows
    from that of the points.
    """
    count, k = points.shape[:2]
    flat = points.reshape(count * k, -1) - points.mean(axis=(0, 1))
    G = (flat @ flat.T).reshape(count, k, count, k)
    out = []
    for b in range(task.draws):
        stream = rng(task.seed, "related", T, k, b)
        subset = stream.permutation(count)[:T]
        other = subset[
            stream.permutation(T)
        ]  # any order: with size 0 the value is one of its own null's draws
        cut = {(i, j): G[one][:, :, two].reshape(T * k, T * k) for i, one in enumerate((subset, other))
               for j, two in enumerate((subset, other))}  # fmt: skip
        order = text_permutations(T, task.permutations, stream)
        first = gram_pair(cut[0, 0].copy(), k)[0]
        hits = []
        for s in (0.0, *task.sizes):
            K = s * cut[0, 0] + (1 - s) * cut[1, 1] + np.sqrt(s * (1 - s)) * (cut[0, 1] + cut[1, 0])
            second = gram_pair(K, k)[1]
            value, *null = inner_products(first, second, np.vstack([np.arange(T)[None], order]), k)
            hits.append(permutation_p(value, null) <= LEVEL)
        out.append(hits)
    return np.array(out)


def _different(points: np.ndarray, T: int, task: Planting) -> np.ndarray:
    """Whether the distance of two groups' means and permuted groups find a shift, [draws, sizes].

    Half of the texts are moved, all of a draw in one direction.
    """
    means, out = points.mean(axis=1), []
    spread = np.sqrt(((points - points.mean(axis=(0, 1))) ** 2).sum(axis=2).mean())
    for b in range(task.draws):
        stream = rng(task.seed, "groups", T, points.shape[1], b)
        M, half = means[stream.permutation(len(means))[:T]], T // 2
        way = stream.normal(size=M.shape[1])
        signs = np.array([stream.permutation(np.arange(T) < half) for _ in range(task.permutations)])
        weights = np.vstack([np.arange(T) < half, signs])
        weights = weights / half - (~weights.astype(bool)) / (T - half)
        hits = []
        for s in (0.0, *task.sizes):
            moved = M + np.outer(np.arange(T) >= half, s * spread * way / np.linalg.norm(way))
            value, *null = np.linalg.norm(weights @ moved, axis=1)
            hits.append(permutation_p(value, null) <= LEVEL)
        out.append(hits)
    return np.array(out)
