"""Twins of neurons between two runs: the best correlation of each, beside rotations and permuted texts.

Correlations of two sites are streamed; what is kept of them is the best of each row and column. Activations
of all neurons and tokens are never held.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from transect.inference.evaluate import opened
from transect.numeric.moments import Accumulator
from transect.numeric.permute import text_permutations
from transect.random import rng
from transect.store.store import Store
from transect.studies.neurons.blocks import equal_rows
from transect.work.keys import key_of

#: Permutations whose one-to-one matching is found too: it costs as much as all the rest.
MATCHINGS = 3
#: Bytes of activations that are read at a time.
BLOCK = 64 << 20


class Pairing(NamedTuple):
    """One task: sites of two stores of the same tokens, whose neurons are sought among each other's."""

    paths: tuple[str, str]
    contents: tuple[str, str]
    sites: tuple[str, ...]
    sites2: tuple[str, ...]
    excess: float
    rotations: int
    permutations: int
    groups: int
    position0: bool
    seed: int

    def key(self) -> str:
        """Name of the task's answer."""
        return key_of(list(self)[1:], __name__)


class Best(NamedTuple):
    """For every neuron of one run its best match in the other: signed ρ [N] and that neuron's number [N]."""

    rho: np.ndarray
    at: np.ndarray

    @property
    def size(self) -> np.ndarray:
        """|ρ| [N]."""
        return np.abs(self.rho)


def matched(task: Pairing) -> dict[str, Any]:
    """Both directions of a pairing, and the one-to-one matching where one site stands on each side."""
    rows = equal_rows(opened(task.paths[0], task.contents[0]), task.position0, task.seed)
    T = len(rows)
    best = both(task, rows, rows)
    orders = text_permutations(T, task.permutations, rng(task.seed, "match"))
    permuted = [both(task, rows, rows[order]) for order in orders]
    turned = [both(task, rows, rows, turn=k) for k in range(task.rotations)]
    groups = rng(task.seed, "groups").permutation(T) % min(task.groups, T)
    drops = [both(task, rows[groups != g], rows[groups != g]) for g in np.unique(groups)]
    record: dict[str, Any] = {"n": int(rows.size), "n_texts": T, "tokens_a_text": rows.shape[1]}
    for side, names in enumerate((task.sites, task.sites2)):
        null, bounds, others = ([b[side] for b in several] for several in (turned, permuted, drops))
        store = opened(task.paths[side], task.contents[side])
        widths = [store.width(s) for s in names]
        record[("left", "right")[side]] = _side(task, best[side], bounds, null, others, widths)
    one = len(task.sites) == len(task.sites2) == 1
    record["one_to_one"] = _one_to_one(task, rows, orders, groups) if one else None
    return record


def both(task: Pairing, rows: np.ndarray, rows2: np.ndarray, turn: int | None = None) -> tuple[Best, Best]:
    """Best matches of the first run's neurons in the second, and of the second's in the first.

    rows, rows2: [T, k], tokens of the texts in each run, in the same order. turn: the run that is searched is
    turned by a random Gaussian matrix of this number first (Gurnee et al. 2024, arXiv:2401.12181), its
    neurons in units of their spread.
    """
    if turn is None:
        return _swept(task, rows, rows2)
    return _swept(task, rows, rows2, (None, turn))[0], _swept(task, rows, rows2, (turn, None))[1]


def _swept(
    task: Pairing, rows: np.ndarray, rows2: np.ndarray, turns: tuple[int | None, int | None] = (None, None)
) -> tuple[Best, Best]:
    stores = [opened(p, c) for p, c in zip(task.paths, task.contents, strict=True)]
    begin = [
        np.cumsum([0, *(store.width(s) for s in names)]).tolist()
        for store, names in zip(stores, (task.sites, task.sites2), strict=True)
    ]
    swept = tuple(Best(np.zeros(b[-1]), np.full(b[-1], -1)) for b in begin)
    for i, j, rho in _correlations(task, rows, rows2, turns):
        _improve(swept[0], rho, begin[0][i], begin[1][j])
        _improve(swept[1], rho.T, begin[1][j], begin[0][i])
    return swept[0], swept[1]


def _improve(best: Best, rho: np.ndarray, first: int, other: int) -> None:
    """Keep what is better in correlations of the neurons from `first` on with those from `other` on."""
    k = np.abs(rho).argmax(axis=1)
    value = rho[np.arange(len(rho)), k]
    where = np.flatnonzero(np.abs(value) > best.size[first : first + len(rho)])
    best.rho[first + where], best.at[first + where] = value[where], other + k[where]


def _correlations(
    task: Pairing, rows: np.ndarray, rows2: np.ndarray, turns: tuple[int | None, int | None]
) -> Iterator[tuple[int, int, np.ndarray]]:
    """(site, other site, ρ [N, M]) of every two sites, streamed by texts."""
    one, two = (opened(p, c) for p, c in zip(task.paths, task.contents, strict=True))
    for i, site in enumerate(task.sites):
        for j, site2 in enumerate(task.sites2):
            widths = one.width(site), two.width(site2)
            ways = zip((one, two), (site, site2), turns, strict=True)
            R = [
                None if turn is None else _turn(task, turn, _spread(s, name, rows)) for s, name, turn in ways
            ]
            sums, size = Accumulator(*widths), max(1, BLOCK // (4 * max(widths) * rows.shape[1]))
            for k in range(0, len(rows), size):
                X = one.read(site, rows[k : k + size].ravel())
                Y = two.read(site2, rows2[k : k + size].ravel())
                sums.update(*(Z if r is None else Z @ r for Z, r in zip((X, Y), R, strict=True)))
            yield i, j, sums.freeze().correlation


def _turn(task: Pairing, k: int, spread: np.ndarray) -> np.ndarray:
    """A random Gaussian matrix [N, N] that takes neurons in units of their own spread: loud ones rule no
    direction."""
    drawn = rng(task.seed, "rotation", k, len(spread)).standard_normal((len(spread),) * 2, np.float32)
    return drawn * np.divide(1, spread, out=np.zeros_like(spread), where=spread > 0)[:, None]


def _spread(store: Store, site: str, rows: np.ndarray) -> np.ndarray:
    """Standard deviation of every neuron over some tokens, float32 [N]."""
    sums, squares = np.zeros(store.width(site)), np.zeros(store.width(site))
    first = store.read(site, rows[0]).mean(axis=0)
    for part in np.array_split(rows.ravel(), max(1, rows.size * len(first) * 4 // BLOCK)):
        X = store.read(site, np.sort(part)) - first
        sums += X.sum(axis=0, dtype=np.float64)
        squares += np.einsum("ij,ij->j", X, X, dtype=np.float64)
    variance = np.maximum(squares / rows.size - (sums / rows.size) ** 2, 0)
    return np.sqrt(variance).astype(np.float32)


def _side(
    task: Pairing, full: Best, permuted: list[Best], turned: list[Best], drops: list[Best], widths: list[int]
) -> dict[str, Any]:
    """One run's neurons: best match, null, support, which have a twin; counts by site with replicates."""
    null = np.mean([b.size for b in turned], axis=0)
    draws = np.stack([b.size for b in permuted])
    bound, alive = draws.max(axis=0), full.at >= 0

    def twins(best: Best) -> np.ndarray:
        return (best.size - null > task.excess) & (best.size > bound)

    by_chance = [
        (d - null > task.excess) & (d > np.delete(draws, k, 0).max(axis=0)) for k, d in enumerate(draws)
    ]
    support = np.mean([b.at == full.at for b in drops], axis=0)
    record: dict[str, Any] = {"rho": full.rho.tolist(), "at": full.at.tolist(), "null": null.tolist()}
    record |= {
        "bound": bound.tolist(),
        "support": support.tolist(),
        "twin": twins(full).tolist(),
        "sites": [],
    }
    record["alive"] = alive.tolist()
    for first, width in zip(np.cumsum([0, *widths[:-1]]), widths, strict=True):
        live = np.flatnonzero(alive[first : first + width]) + first

        def share(mask: np.ndarray, live: np.ndarray = live) -> float:
            return float(mask[live].mean()) if len(live) else float("nan")

        record["sites"].append(
            {
                "neurons": len(live),
                "twins": share(twins(full)),
                "twins_drops": [share(twins(b)) for b in drops],
                "twins_permuted": [share(mask) for mask in by_chance],
                "best": share(full.size),
                "best_drops": [share(b.size) for b in drops],
                "best_permuted": [share(b.size) for b in permuted],
                "best_turned": share(null),
            }
        )
    return record


def _one_to_one(task: Pairing, rows: np.ndarray, orders: np.ndarray, groups: np.ndarray) -> dict[str, Any]:
    """The matching of largest mean |ρ|: each neuron's partner, and the mean, the same matching without each
    group of texts, and the best matchings of permuted texts."""
    none = (None, None)
    rho = np.abs(next(_correlations(task, rows, rows, none))[2])
    plan = soft_matching(rho)
    drops = [np.abs(next(_correlations(task, rows[k], rows[k], none))[2])
             for k in (groups != g for g in np.unique(groups))]  # fmt: skip
    record: dict[str, Any] = {"value": float((plan * rho).sum()), "partner": one_to_one(rho).tolist()}
    record["drops"] = [float((plan * other).sum()) for other in drops]
    permuted = [np.abs(next(_correlations(task, rows, rows[o], none))[2]) for o in orders[:MATCHINGS]]
    return record | {"permuted": [float((soft_matching(other) * other).sum()) for other in permuted]}


def one_to_one(rho: np.ndarray) -> np.ndarray:
    """Partner of each row [N] in the matching of largest Σ|ρ|, each column at most once; −1 without one."""
    from scipy.optimize import linear_sum_assignment

    row, column = linear_sum_assignment(np.abs(rho), maximize=True)
    partner = np.full(len(rho), -1)
    partner[row] = column
    return partner


def soft_matching(rho: np.ndarray) -> np.ndarray:
    """Plan [N, M] of largest Σ P·|ρ| whose rows sum to 1/N and columns to 1/M; a one-to-one matching where
    N = M.

    Source: Khosla & Williams 2024, arXiv:2311.09466 (soft matching).
    """
    N, M = rho.shape
    if N == M:
        plan = np.zeros((N, M))
        plan[np.arange(N), one_to_one(rho)] = 1 / N
        return plan
    import ot

    cost = 1 - np.abs(rho).astype(np.float64)
    return np.asarray(ot.emd(np.full(N, 1 / N), np.full(M, 1 / M), cost, numItermax=100 * (N + M) ** 2))
