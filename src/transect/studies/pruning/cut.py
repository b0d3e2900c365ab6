"""Pruning by redundancy, measured: neurons that others predict are dropped and the down-projection makes up
for them.

Beside it clusters of the neurons' map, magnitude, activation-norm and random pruning, with and without the
same compensation, so that perplexity against the fraction removed (`pruning_curve`) says what redundancy is
worth.
"""

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from transect.errors import TransectError, nearest
from transect.models import sites
from transect.numeric.mds import scaled
from transect.numeric.moments import Moments
from transect.random import rng as stream

if TYPE_CHECKING:
    from transect.models.models import Model

METHODS = ("redundancy", "clusters", "activation", "magnitude", "random")
#: Methods that look at activations, and so need moments.
BY_ACTIVATION = ("redundancy", "clusters", "activation")
#: Where configurations keep the width of their MLPs.
SIZES = ("intermediate_size", "n_inner", "ffn_dim", "d_ff", "ffn_hidden_size")
#: Dimensions of the map whose clusters are merged.
MAP = 3


def prune(
    model: "Model",
    moments: dict[str, Moments],
    fraction: float,
    *,
    method: str = "redundancy",
    scope: str = "layer",
    threshold: float | None = None,
    compensate: bool = True,
    seed: int = 0,
) -> "Model":
    """A copy of the model without `fraction` of its MLP neurons, or without those correlated beyond
    `threshold`.

    moments: of `mlp.act` over calibration texts. redundancy: again and again the less active one of the most
    correlated pair; clusters: neurons close together in their 3-D map are merged (average linkage) and the
    most active one of a cluster stays; activation: smallest root mean square activation × norm of its output;
    magnitude: smallest norm of its weights; random. scope: "layer" removes the same share of every block and
    saves as a smaller model; "global" removes the first neurons of all blocks together, by setting their
    weights to zero. threshold: instead of a fraction, prune until no pair is correlated beyond it.
    compensate: least squares of the removed neurons on the kept ones, folded into the down-projection.
    """
    check_way(method, scope, fraction, threshold)
    if compensate and (missing := [s for s in _taps(model.model) if s not in moments]):
        raise TransectError(f"no moments of {missing[0]}.", "Compute them for the family mlp.act.")
    ranking = ranked(model, moments, method, seed)
    options = moments if compensate else {}
    name = f"{model.name}, {fraction:.0%} pruned by {method}"
    return take_out(model, options, ranking, fraction, scope=scope, threshold=threshold, name=name)


def ranked(
    model: "Model", moments: dict[str, Moments], method: str, seed: int
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Per block (order of removal [N], score [N]): all that a method needs for any fraction.

    moments: of every `mlp.act` for the methods that look at activations; the others take none.
    """
    columns = {site: _columns(tap.module) for site, tap in _taps(model.model).items()}
    if missing := [s for s in columns if s not in moments and method in BY_ACTIVATION]:
        raise TransectError(f"no moments of {missing[0]}.", "Compute them for the family mlp.act.")
    return {
        site: removal(moments.get(site), columns[site], method, stream(seed, "pruning", k))
        for k, site in enumerate(columns)
    }


def take_out(
    model: "Model",
    moments: dict[str, Moments],
    ranking: dict[str, tuple[np.ndarray, np.ndarray]],
    fraction: float,
    *,
    scope: str = "layer",
    threshold: float | None = None,
    name: str = "pruned",
) -> "Model":
    """A copy of the model without the first neurons of a ranking; compensated where moments are given."""
    from transect.models.models import wrap_model

    small = copy.deepcopy(model.model)
    kept = _kept(ranking, fraction, scope, threshold)
    for site, tap in _taps(small).items():
        _cut(small, tap.module, kept[site], moments.get(site), site, shrink=scope == "layer")
    if scope == "layer":
        _resize(small.config.get_text_config(), {len(k) for k in kept.values()})
    return wrap_model(small, model.tokenizer, name)


def save_pruned(model: "Model", out: Path, scope: str) -> None:
    """Write a pruned model and its tokenizer as a folder that opens again."""
    check_sizes(model, scope)
    model.model.save_pretrained(out)
    model.tokenizer.save_pretrained(out)


def check_sizes(model: "Model", scope: str) -> None:
    """TransectError for a model whose configuration cannot say how wide its MLPs are once smaller."""
    widths = set(block_widths(model))
    config = model.model.config.get_text_config()
    known = any(hasattr(config, n) and not isinstance(getattr(config, n), list) for n in SIZES)
    if scope == "layer" and not (known and len(widths) == 1):
        raise TransectError(
            f"{model.name}: its configuration has no entry for MLPs of {sorted(widths)} neurons.",
            "Save with scope='global', which sets weights to zero and keeps the size.",
        )


def block_widths(model: "Model") -> list[int]:
    """Neurons of every MLP."""
    return [len(_columns(tap.module)) for tap in _taps(model.model).values()]


def check_way(method: str, scope: str, fraction: float, threshold: float | None = None) -> None:
    """TransectError for a way of pruning that there is not."""
    if method not in METHODS:
        raise TransectError(
            f"no method {method!r}.{nearest(method, METHODS)}", f"There are: {', '.join(METHODS)}."
        )
    if scope not in ("layer", "global"):
        raise TransectError(f"scope {scope!r}: 'layer' or 'global'.")
    if not 0 <= fraction < 1:
        raise TransectError(f"fraction {fraction:g}.", "Remove a share from 0 to below 1, like 0.25.")
    if threshold is not None and (method != "redundancy" or scope != "global" or not 0 < threshold <= 1):
        raise TransectError(
            f"threshold {threshold}: a |ρ| above 0 for method 'redundancy' and scope 'global'."
        )


def _taps(model: Any) -> dict[str, Any]:
    """The down-projections of a model by the site that they read."""
    return {s: tap for s, tap in sites.discover(model).items() if sites.family(s) == "mlp.act"}


def _resize(config: Any, widths: set[int]) -> None:
    """The width of the MLPs where a configuration keeps it; GPT-2's is None while it is 4 × the model's."""
    for name in SIZES:
        if hasattr(config, name) and not isinstance(getattr(config, name), list) and len(widths) == 1:
            setattr(config, name, next(iter(widths)))


def _kept(
    ranking: dict[str, tuple[np.ndarray, np.ndarray]], fraction: float, scope: str, threshold: float | None
) -> dict[str, np.ndarray]:
    """Per block the neurons that stay, ascending; at least one in each."""
    if scope == "layer":
        counts = {s: min(round(fraction * len(o)), len(o) - 1) for s, (o, _) in ranking.items()}
    else:
        every = np.concatenate([score[:-1] for _, score in ranking.values()])
        limit = np.sort(every)[max(0, round(fraction * len(every)) - 1)] if fraction else -np.inf
        limit = limit if threshold is None else -threshold
        counts = {site: int((score[:-1] <= limit).sum()) for site, (_, score) in ranking.items()}
    return {site: np.sort(order[counts[site] :]) for site, (order, _) in ranking.items()}


def removal(
    m: Moments | None, columns: np.ndarray, method: str, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """(order of removal [N], ascending score [N] that compares between blocks). columns: down-projection [N,
    d]."""
    size = np.linalg.norm(columns, axis=1)
    if m is None or method in ("random", "magnitude"):
        score = rng.permutation(len(size)) / len(size) if method == "random" else size
        order = np.argsort(score, kind="stable")
        return order, np.asarray(score, float)[order]
    rms = np.sqrt(np.maximum(m.var_x, 0) + m.mean_x**2)
    if method == "redundancy":
        return _redundancy(m, size * rms)
    if method == "clusters":
        return _clusters(m, size * rms)
    order = np.argsort(size * rms, kind="stable")
    return order, (size * rms)[order]


def _redundancy(m: Moments, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Greedy: the most correlated pair loses its less active neuron; score −|ρ| at that moment, made
    ascending."""
    rho = np.abs(m.correlation)
    rho[m.constant_x] = 2.0  # a constant neuron is told by any other
    np.fill_diagonal(rho, -1)
    closest, alive = rho.max(axis=1), np.ones(len(rho), bool)
    order, score = [], []
    for _ in range(len(rho) - 1):
        i = int(np.argmax(np.where(alive, closest, -2)))
        j = int(np.argmax(rho[i]))
        out = i if m.constant_x[i] or weight[i] <= weight[j] else j
        order.append(out)
        score.append(-float(closest[i]))
        alive[out] = False
        stale = np.flatnonzero(alive & (rho[:, out] >= closest))
        rho[:, out] = -1
        closest[stale] = rho[stale].max(axis=1)
    order.append(int(np.flatnonzero(alive)[0]))
    return np.array(order), np.maximum.accumulate([*score, 1.0])


def _clusters(m: Moments, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Constant neurons, then at each merge of two clusters the less active of the two that stand for them;
    score: the distance in the map at which they merged, below 0 for constant ones."""
    from scipy.cluster.hierarchy import linkage

    live = np.flatnonzero(~m.constant_x)
    order, score = np.flatnonzero(m.constant_x).tolist(), [-1.0] * int(m.constant_x.sum())
    if len(live) > MAP + 1:
        target = (1 - m.correlation[np.ix_(live, live)]).astype(np.float32)
        np.fill_diagonal(target, 0)
        stands = dict(enumerate(live.tolist()))
        for step, (i, j, height, _) in enumerate(
            linkage(scaled(target, MAP, 0, "smacof", 300, 1e-4), "average")
        ):
            pair = sorted((stands.pop(int(i)), stands.pop(int(j))), key=lambda k: (weight[k], k))
            order.append(pair[0])
            score.append(float(height))
            stands[len(live) + step] = pair[1]
        live = np.array(list(stands.values()))
    order += live[np.argsort(weight[live], kind="stable")].tolist()
    score += [score[-1] if score else 0.0] * (len(order) - len(score) - 1) + [np.inf]
    return np.array(order), np.array(score)


def compensation(m: Moments, kept: np.ndarray) -> np.ndarray:
    """Ridge regression [removed, kept] of the removed activations on the kept ones, without intercept.

    Activations are brought to root mean square 1 first. Below 4 tokens a kept neuron the ridge is neurons /
    tokens, because plain least squares then fits the calibration tokens and is wrong everywhere else; above,
    1e-6.
    """
    second = m.cross + np.outer(m.mean_x, m.mean_x)
    size = np.sqrt(np.maximum(np.diagonal(second), 0))
    size = np.where(size > 0, size, 1.0)
    second = second / size[:, None] / size
    gone = np.setdiff1d(np.arange(len(second)), kept)
    ridge = 1e-6 if m.n >= 4 * len(kept) else len(kept) / m.n
    inner = second[np.ix_(kept, kept)] + ridge * np.eye(len(kept))
    return np.linalg.solve(inner, second[np.ix_(kept, gone)]).T * size[gone][:, None] / size[kept]


def _columns(down: Any) -> np.ndarray:
    weight = down.weight.detach().float().cpu().numpy()
    return weight if type(down).__name__ == "Conv1D" else weight.T


def _cut(model: Any, down: Any, kept: np.ndarray, m: Moments | None, site: str, *, shrink: bool) -> None:
    """Fold the removed neurons into the kept ones and take them out: made smaller, or set to zero in their
    place."""
    import torch

    conv, index = type(down).__name__ == "Conv1D", torch.from_numpy(kept)
    with torch.no_grad():
        columns = down.weight if conv else down.weight.T
        new = columns[index].clone()
        if m is not None and len(kept) < len(columns):
            gone = torch.from_numpy(np.setdiff1d(np.arange(len(columns)), kept))
            new += torch.from_numpy(compensation(m, kept)).to(columns.dtype).T @ columns[gone]
        if not shrink:
            new = torch.zeros_like(columns).index_copy_(0, index, new)
        feeders = _feeders(model, down, len(columns))
        if not feeders:
            raise TransectError(
                f"{site}: found no projection into its neurons.", "Fused projections cannot be pruned."
            )
        down.weight = torch.nn.Parameter((new if conv else new.T).contiguous())
        if shrink:
            _set_size(down, "in", len(kept))
            for linear in feeders:
                _narrow(linear, index)


def _narrow(linear: Any, index: Any) -> None:
    """Keep the outputs `index` of a linear layer."""
    import torch

    weight = linear.weight[:, index] if type(linear).__name__ == "Conv1D" else linear.weight[index]
    linear.weight = torch.nn.Parameter(weight.contiguous())
    if linear.bias is not None:
        linear.bias = torch.nn.Parameter(linear.bias[index].contiguous())
    _set_size(linear, "out", len(index))


def _feeders(model: Any, down: Any, width: int) -> list[Any]:
    """Linear layers of the same MLP that write into its neurons."""
    parent = next(p for p in model.modules() if any(c is down for c in p.children()))
    return [c for c in parent.children() if c is not down and sites._out_features(c) == width]


def _set_size(linear: Any, side: str, size: int) -> None:
    if type(linear).__name__ == "Conv1D":
        setattr(linear, "nf" if side == "out" else "nx", size)
    else:
        setattr(linear, f"{side}_features", size)
