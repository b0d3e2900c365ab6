"""Entries of the five programs that came before: what their own formulas give where the answer is known."""

import numpy as np

from transect.numeric.moments import Accumulator
from transect.numeric.permute import columns_by_text
from transect.numeric.smds import SupervisedMDS
from transect.random import rng
from transect.studies.drift.published import distance, projected
from transect.studies.neurons.maps import project
from transect.studies.reproduce.asked import Asked, Found, beyond, equal, finding, layers, states

#: Layers and neurons that a seed's formula is tried on.
PICKS, NEURONS = 6, 200


def seed_otexplorer(asked: Asked) -> Found:
    """Its distance of neighbouring layers minus that of halves of one layer."""
    store = asked.store()
    names = layers(store)
    at = np.linspace(0, len(names) - 2, PICKS).astype(int)
    picked = [k for i in at for k in (i, i + 1)]
    every = states(store, [names[k] for k in picked])
    C = np.stack([equal([X[k] for X in every], asked.how.seed) for k in range(len(picked))])

    def excess(m: np.ndarray) -> float:
        values = []
        for k in range(0, len(picked), 2):
            X, Y = (C[j][m] for j in (k, k + 1))
            full = distance(*(projected(Z.reshape(-1, Z.shape[-1])) for Z in (X, Y)))
            half = len(m) // 2
            parts = [Z.reshape(-1, Z.shape[-1]) for Z in (X[:half], X[half : 2 * half])]
            values.append(full - distance(*(projected(Z) for Z in parts)))
        return float(np.mean(values))

    numbers = asked.by_text(excess, C.shape[1])
    note = f"{len(at)} steps of the depth, {C.shape[1]} × {C.shape[2]} tokens; halves have half as many "
    note += "points."
    return finding(numbers, beyond(numbers), "halves of one layer", [0.0], C.shape[1], note)


def seed_phase3(asked: Asked) -> Found:
    """Its CKA of a layer with itself, ‖XᵀX‖² ÷ ‖X‖⁴: 1 over the participation ratio."""
    store = asked.store()
    site = layers(store)[len(layers(store)) // 2]
    X = equal([Z[0] for Z in states(store, [site])], asked.how.seed).astype(np.float64)

    def itself(m: np.ndarray) -> float:
        Z = X[m].reshape(-1, X.shape[-1])
        Z = Z - Z.mean(axis=0)
        return float(((Z.T @ Z) ** 2).sum() / (Z**2).sum() ** 2)

    numbers = asked.by_text(itself, len(X), "logit")
    holds = bool(numbers[1] <= 1.01 and numbers[2] >= 0.99)
    return finding(numbers, holds, "CKA of a layer with itself", [1.0], len(X), f"At {site}.")


def seed_tokens(asked: Asked) -> Found:
    """How much of the mean cosine of a text's tokens is left without the mean of all texts."""
    store = asked.store()
    X = equal([Z[0] for Z in states(store, layers(store)[-1:])], asked.how.seed).astype(np.float64)

    def left(m: np.ndarray) -> float:
        plain, centred = _cosine(X[m]), _cosine(X[m] - X[m].mean(axis=(0, 1)))
        return centred / plain

    numbers = asked.by_text(left, len(X))
    note = f"Mean cosine {_cosine(X):.3f}, with the mean taken out {_cosine(X - X.mean(axis=(0, 1))):.3f}."
    holds = bool(numbers[1] <= 1.2 and numbers[2] >= 0.8)
    return finding(numbers, holds, "all of it is of the text", [1.0], len(X), note)


def _cosine(X: np.ndarray) -> float:
    """Mean cosine of two tokens of one text: X [texts, k, d]."""
    Z = X / np.maximum(np.linalg.norm(X, axis=-1, keepdims=True), 1e-12)
    k = X.shape[1]
    sums = np.einsum("tkd,tjd->t", Z, Z, optimize=True)
    return float((sums - k).mean() / (k * (k - 1)))


def seed_projector(asked: Asked) -> Found:
    """Stress of a map of neurons, and of neurons whose texts are permuted one by one."""
    store = asked.store("mlp.act")
    site = [s for s in store.sites if s.endswith(".act")][len(store.sites) // 2]
    C = equal(
        [store.sample(i, site)[1:] for i in range(len(store)) if store.lengths[i] > 2], asked.how.seed, 32
    )
    C = C[..., np.sort(rng(asked.how.seed, "neurons").permutation(C.shape[-1])[:NEURONS])]
    stress = [_stress(C, np.arange(len(C)), asked.how.seed, mixed=mixed) for mixed in (False, True)]

    def gain(m: np.ndarray) -> float:
        if len(m) == len(C):
            return stress[1] - stress[0]
        return _stress(C, m, asked.how.seed, mixed=True) - _stress(C, m, asked.how.seed, mixed=False)

    numbers = asked.by_text(gain, len(C))
    note = f"{site}: stress {stress[0]:.3f}, texts permuted by neuron {stress[1]:.3f}."
    return finding(numbers, beyond(numbers), "texts permuted by neuron", [0.0], len(C), note)


def _stress(C: np.ndarray, members: np.ndarray, seed: int, *, mixed: bool) -> float:
    X = C[members].reshape(-1, C.shape[-1])
    if mixed:
        X = columns_by_text(X, np.full(len(members), C.shape[1]), rng(seed, "mixed"))
    rho = Accumulator(X.shape[1]).update(X).freeze().correlation
    return float(project(rho, 2, seed=seed, control=rho).stress)


def seed_smds(asked: Asked) -> Found:
    """Its score of labels that have nothing to do with the points."""
    store = asked.store()
    site = layers(store)[len(layers(store)) // 2]
    X = equal([Z[0] for Z in states(store, [site])], asked.how.seed)[:, -1].astype(np.float64)
    draws = []
    for k in range(asked.how.groups * 2):
        draw = rng(asked.how.seed, "random labels", k)
        y, order = draw.permutation(len(X)) % 12, draw.permutation(len(X))
        train, test = order[: len(X) * 2 // 3], order[len(X) * 2 // 3 :]
        model = SupervisedMDS("circle", period=12).fit(X[train], y[train])
        draws.append(float(model.score(X[test], y[test])))
    low, high = np.quantile(draws, [0.025, 0.975]).tolist()
    value = float(np.mean(draws))
    note = f"{len(draws)} draws of labels at {site}, a third of the texts held out; the interval is of the "
    note += "draws."
    holds = bool(low <= 0.05 and high >= -0.05)
    return finding((value, low, high), holds, "no score", [0.0], len(X), note)
