"""Entries that need the states of one model: each is short, and a number with its interval and control."""

import numpy as np

from transect.errors import TransectError
from transect.measures.similarity import cka
from transect.measures.tokens import rank_residual
from transect.numeric.permute import text_permutations
from transect.random import rng
from transect.results.words import share
from transect.store.store import Store
from transect.studies.depth.similar import by_token
from transect.studies.dimension.study import dimension
from transect.studies.probe.study import probe
from transect.studies.reproduce.asked import Asked, Found, beyond, equal, finding, layers, states

#: Layers of random attention that tokens go through.
LAYERS = 6
#: Permutations of texts behind a null.
DRAWS = 199


def gromov_angular(asked: Asked) -> Found:
    """Angles of neighbouring layers: shallow half minus deep half, without the last block."""
    trained, control = (_steps(asked, store) for store in _both(asked))
    note = "The angle is at the last token of each text, as published."
    return finding(trained[0], beyond(trained[0]), "random weights", control[0], trained[1], note)


def _steps(asked: Asked, store: Store) -> tuple[tuple[float, float, float], int]:
    names = layers(store)
    angles = np.array(
        [np.diagonal(by_token(X[:, -1:])["angular_distance"][0], 1) for X in states(store, names, keep=True)]
    )[:, :-1]
    half = angles.shape[1] // 2

    def difference(members: np.ndarray) -> float:
        mean = angles[members].mean(axis=0)
        return float(mean[:half].mean() - mean[half:].mean())

    return asked.by_text(difference, len(angles)), len(angles)


def _both(asked: Asked) -> tuple[Store, Store]:
    store = asked.store()
    return store, asked.random(store)


def sun_massive(asked: Asked) -> Found:
    """Largest over median |x| by layer, position 0 and massive tokens kept."""
    sides = []
    for store in _both(asked):
        names = layers(store)
        ratio = np.array(
            [
                [np.log(np.abs(Z).max() / max(float(np.median(np.abs(Z))), 1e-12)) for Z in X]
                for X in states(store, names, keep=True)
            ]
        )
        best = int(ratio.mean(axis=0).argmax())

        def largest(members: np.ndarray, ratio: np.ndarray = ratio, best: int = best) -> float:
            return float(np.exp(ratio[members, best].mean()))

        sides.append((asked.by_text(largest, len(ratio), "log"), names[best], len(ratio)))
    (trained, site, texts), (control, *_) = sides
    return finding(trained, beyond(trained, 1000.0), "random weights", control, texts, f"At {site}.")


def sun_curse(asked: Asked) -> Found:
    """Growth of the variance of states from the first to the last but one block."""
    (trained, texts), (control, _) = (growth(asked, store) for store in _both(asked))
    return finding(trained, beyond(trained), "random weights", control, texts)


def growth(asked: Asked, store: Store) -> tuple[tuple[float, float, float], int]:
    """log10 of the variance over dimensions of what leaves the last but one block over that of the first."""
    names = layers(store)
    spread = np.array([X.var(axis=-1).mean(axis=-1) for X in states(store, [names[1], names[-2]])])

    def ratio(members: np.ndarray) -> float:
        first, last = spread[members].mean(axis=0)
        return float(np.log10(last / first))

    return asked.by_text(ratio, len(spread)), len(spread)


def cheng_dimension(asked: Asked) -> Found:
    """TwoNN dimension inside over that of the last layer: chosen on half of the texts, read on the others."""
    sides = []
    for store in _both(asked):
        names, options = layers(store)[1:], {"groups": asked.how.groups, "seed": asked.how.seed, "workers": 1}
        study = dimension(store, sites=",".join(names), loss=False, **options)
        sides.append({r["measure"]: r for r in study.tables["phases"].where(of="twonn")})
    trained, control = ([t["peak_over_last"][k] for k in ("value", "low", "high")] for t in sides)
    top, rise = sides[0]["peak"], sides[0]["onset"]
    note = f"The peak is at {top['site']} ({share(top['support'])} of half samples agree), the onset at "
    note += f"{rise['site']}."
    return finding(trained, beyond(trained), "random weights", control, top["n_texts"], note)


def viswanathan_loss(asked: Asked) -> Found:
    """Loss of each text against the dimension of its tokens in the middle layer; texts permuted."""
    store = asked.store()
    names, options = layers(store), {"groups": asked.how.groups, "seed": asked.how.seed, "workers": 1}
    rows = {r["site"]: r for r in dimension(store, **options).tables["loss"].where(measure="twonn")}
    row = rows[names[len(names) // 2]]
    if row["status"] != "ok":
        raise TransectError(f"{row['site']}: {row['status']}.", "Give more texts.")
    trained, null = (
        [row[k] for k in ends] for ends in (("value", "low", "high"), ("null", "null_low", "null_high"))
    )
    beyond_null = sum((r["p_max"] or 1) <= 0.05 for r in rows.values())
    note = f"At {row['site']}, p {row['p']:.2g} by permuted texts, two-sided; {beyond_null} of {len(rows)} "
    note += "layers are beyond them (max-T)."
    return finding(trained, beyond(trained), "texts permuted", null, row["n_texts"], note)


def dong_collapse(asked: Asked) -> Found:
    """Rank residual after random attention layers, without and with skips."""
    store = asked.store()
    texts = [X[0] for X in states(store, layers(store)[:1], keep=True)]
    draw = rng(asked.how.seed, "attention")
    d = texts[0].shape[1]
    weights = draw.standard_normal((LAYERS, 3, d, d)) / np.sqrt(d)
    residual = np.log10([[rank_residual(attended(X, weights, skip=s)) for s in (False, True)] for X in texts])
    residuals, beside = (
        asked.by_text(lambda m, k=k: float(residual[m, k].mean()), len(texts)) for k in (0, 1)
    )
    falls = beyond((-residuals[0], -residuals[2], -residuals[1]), 1 - beside[1])
    note = "It holds where the residual without skips is below a tenth of that with them."
    return finding(residuals, falls, "with skips", beside, len(texts), note)


def attended(X: np.ndarray, weights: np.ndarray, *, skip: bool) -> np.ndarray:
    """Tokens [n, d] after layers of causal-free single-head attention with weights [layers, 3, d, d]: query,
    key, value; rows at norm √d before each, as a norm layer has them."""
    d = X.shape[1]
    X = X.astype(np.float64)
    for Q, K, V in weights:
        Z = X / np.maximum(np.linalg.norm(X, axis=1, keepdims=True), 1e-12) * np.sqrt(d)
        score = (Z @ Q) @ (Z @ K).T / d
        attention = np.exp(score - score.max(axis=1, keepdims=True))
        out = attention / attention.sum(axis=1, keepdims=True) @ (Z @ V)
        X = X + out if skip else out
    return X


def murphy_cka(asked: Asked) -> Found:
    """Biased and debiased CKA of a middle layer with random-weight states of other texts."""
    trained, control = _both(asked)
    site = layers(trained)[len(layers(trained)) // 2]
    X, Y = (equal([Z[0] for Z in states(s, [site])], asked.how.seed) for s in (trained, control))
    X, Y = X[: min(len(X), len(Y))], Y[: min(len(X), len(Y))]
    orders = text_permutations(len(X), DRAWS // 5, rng(asked.how.seed, "permuted texts"))
    draws = np.array(
        [
            [cka(X.reshape(-1, X.shape[-1]), Y[o].reshape(-1, Y.shape[-1]), unbiased=u) for o in orders]
            for u in (False, True)
        ]
    )
    (low, high), (below, above) = (np.quantile(d, [0.025, 0.975]).tolist() for d in draws)
    value, null = draws.mean(axis=1).tolist()
    note = f"{X.shape[0]} × {X.shape[1]} tokens of {X.shape[2]} dimensions; the interval is of permutations."
    numbers = value, low, high
    return finding(numbers, beyond(numbers, above), "debiased", [null, below, above], len(X), note)


def hewitt_selectivity(asked: Asked) -> Found:
    """Selectivity of a probe of position: middle layer minus embedding."""
    store = asked.store()
    names = layers(store)
    pair = [names[0], names[len(names) // 2]]
    options = {"permutations": 0, "folds": 4, "groups": asked.how.groups, "seed": asked.how.seed}
    table = probe(store, label="position", sites=",".join(pair), workers=1, **options).tables["probe"]
    first, middle = (next(iter(table.where(site=s))) for s in pair)
    value = middle["selectivity"] - first["selectivity"]
    half = float(np.hypot(*((r["high"] - r["low"]) / 2 for r in (first, middle))))
    numbers = value, value - half, value + half
    note = f"At {pair[1]} R² {middle['value']:.2f}, control task {middle['control_task']:.2f}; at {pair[0]} "
    note += f"{first['value']:.2f}, {first['control_task']:.2f}. Position stands in for parts of speech."
    return finding(numbers, beyond(numbers), "of the embedding", [first["selectivity"]], len(store), note)
