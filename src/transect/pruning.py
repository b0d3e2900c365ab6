"""Pruning by redundancy, measured: neurons that others predict are dropped and the down-projection makes up for them.

Beside it magnitude, activation-norm and random pruning, with and without the same compensation, so that perplexity
against the fraction removed says what redundancy is worth.
"""

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from transect import sites
from transect.errors import TransectError
from transect.moments import Moments, model_moments

if TYPE_CHECKING:
    from transect.models import Model
    from transect.texts import Texts

METHODS = ("redundancy", "activation", "magnitude", "random")


def perplexity(model: "Model", texts: "Texts", *, max_length: int | None = None) -> float:
    """exp of the mean next-token negative log-likelihood over all tokens but the first of each text, ≥ 1."""
    import torch

    from transect.passes import make_batch, make_plan
    from transect.texts import tokenize

    if model.kind != "decoder":
        raise TransectError(f"perplexity needs a decoder, {model.name} is an {model.kind}.")
    tokenized = tokenize(texts, model.tokenizer, max_length)
    lengths = [len(t) for t in tokenized.ids]
    total = count = 0.0
    for members in make_plan(lengths, lengths, 2048, sum(lengths))[0]:
        batch = make_batch(tokenized, members, [np.arange(n) for n in lengths])
        with torch.inference_mode():
            logits = model.model(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False).logits.float()
        losses = torch.nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), batch.ids[:, 1:], reduction="none")
        real = batch.mask[:, 1:].bool()
        total += float(losses[real].double().sum())
        count += float(real.sum())
    return float(np.exp(total / count))


def prune(
    model: "Model",
    moments: dict[str, Moments],
    fraction: float,
    *,
    method: str = "redundancy",
    compensate: bool = True,
    seed: int = 0,
) -> "Model":
    """A copy of the model without `fraction` of the neurons of every MLP block; it saves and loads as a smaller model.

    moments: of `mlp.act` over calibration texts. redundancy: again and again the less active one of the most correlated
    pair; activation: smallest root mean square activation × norm of its output; magnitude: smallest norm of its
    weights; random. compensate: least squares of the removed neurons on the kept ones, folded into the down-projection.
    """
    if method not in METHODS:
        raise TransectError(f"method {method!r}: one of {', '.join(METHODS)}.")
    if not 0 <= fraction < 1:
        raise TransectError(f"fraction {fraction}: from 0 to below 1.")
    small = copy.deepcopy(model.model)
    taps = sites.discover(small)
    for k, site in enumerate(s for s in taps if sites.family(s) == "mlp.act"):
        if site not in moments:
            raise TransectError(f"no moments of {site}.", "Compute them for the family mlp.act.")
        down = taps[site].module
        width = len(moments[site].mean_x)
        count = width - round(fraction * width)
        kept = keep(moments[site], _columns(down), count, method, np.random.default_rng([seed, k]))
        _shrink(small, down, kept, moments[site] if compensate else None, site)
    small.config.intermediate_size = count
    from transect.models import wrap_model

    return wrap_model(small, model.tokenizer, f"{model.name}, {fraction:.0%} pruned by {method}")


def keep(m: Moments, columns: np.ndarray, count: int, method: str, rng: np.random.Generator) -> np.ndarray:
    """Indices of the `count` neurons that stay, ascending. columns: down-projection [N, d], a row per neuron."""
    size = np.linalg.norm(columns, axis=1)
    rms = np.sqrt(np.maximum(m.var_x, 0) + m.mean_x**2)
    if method == "random":
        return np.sort(rng.permutation(len(size))[:count])
    if method in ("magnitude", "activation"):
        score = size if method == "magnitude" else size * rms
        return np.sort(np.argsort(-score, kind="stable")[:count])
    rho = np.abs(m.correlation)
    np.fill_diagonal(rho, -1)
    rho[m.constant_x] = 2.0  # a constant neuron is told by any other
    rho[np.arange(len(rho)), np.arange(len(rho))] = -1
    closest = rho.max(axis=1)
    weight, alive = size * rms, np.ones(len(size), bool)
    for _ in range(len(size) - count):
        i = int(np.argmax(np.where(alive, closest, -2)))
        j = int(np.argmax(rho[i]))
        out = i if m.constant_x[i] or weight[i] <= weight[j] else j
        alive[out] = False
        stale = np.flatnonzero(alive & (rho[:, out] >= closest))
        rho[:, out] = -1
        closest[stale] = rho[stale].max(axis=1)
    return np.flatnonzero(alive)


def compensation(m: Moments, kept: np.ndarray, ridge: float = 1e-6) -> np.ndarray:
    """Least squares [removed, kept] of the removed activations on the kept ones, without intercept."""
    second = m.cross + np.outer(m.mean_x, m.mean_x)
    gone = np.setdiff1d(np.arange(len(second)), kept)
    inner = second[np.ix_(kept, kept)]
    inner = inner + ridge * np.trace(inner) / len(kept) * np.eye(len(kept))
    return np.linalg.solve(inner, second[np.ix_(kept, gone)]).T


def curve(
    model: "Model",
    calibration: "Texts",
    evaluation: "Texts",
    fractions: Sequence[float],
    *,
    methods: Sequence[str] = METHODS,
    compensate: bool = True,
    seed: int = 0,
    max_length: int | None = None,
    progress: Any = None,
) -> list[dict[str, Any]]:
    """Rows of perplexity against fraction removed for every method; the calibration texts are not evaluated."""
    if set(calibration.hashes) & set(evaluation.hashes):
        raise TransectError("calibration and evaluation share texts.", "Split them.")
    moments = model_moments(model, calibration, ["mlp.act"], max_length=max_length)
    base = perplexity(model, evaluation, max_length=max_length)
    rows = []
    jobs = [(method, f) for method in methods for f in fractions]
    for done, (method, fraction) in enumerate(jobs):
        small = prune(model, moments, fraction, method=method, compensate=compensate, seed=seed)
        value = perplexity(small, evaluation, max_length=max_length)
        row = {"measure": "perplexity", "run": model.name, "method": method, "fraction": fraction, "value": value}
        rows.append(
            row | {"null": base, "n_texts": len(evaluation), "compensated": compensate, "seed": seed, "status": "ok"}
        )
        if progress:
            progress(done + 1, len(jobs))
    return rows


def _columns(down: Any) -> np.ndarray:
    weight = down.weight.detach().float().cpu().numpy()
    return weight if type(down).__name__ == "Conv1D" else weight.T


def _shrink(model: Any, down: Any, kept: np.ndarray, m: Moments | None, site: str) -> None:
    """Cut the MLP around a down-projection to the kept neurons, in place."""
    import torch

    index = torch.from_numpy(kept)
    conv = type(down).__name__ == "Conv1D"
    with torch.no_grad():
        columns = down.weight if conv else down.weight.T
        new = columns[index].clone()
        if m is not None and len(kept) < len(columns):
            gone = torch.from_numpy(np.setdiff1d(np.arange(len(columns)), kept))
            fold = torch.from_numpy(compensation(m, kept)).to(columns.dtype)
            new += fold.T @ columns[gone]
        down.weight = torch.nn.Parameter((new if conv else new.T).contiguous())
        _set_size(down, "in", len(kept))
        feeders = _feeders(model, down, len(columns))
        if not feeders:
            raise TransectError(
                f"{site}: found no projection into its neurons.", "Fused gate and up projections cannot be pruned."
            )
        for linear in feeders:
            if type(linear).__name__ == "Conv1D":
                linear.weight = torch.nn.Parameter(linear.weight[:, index].contiguous())
            else:
                linear.weight = torch.nn.Parameter(linear.weight[index].contiguous())
            if linear.bias is not None:
                linear.bias = torch.nn.Parameter(linear.bias[index].contiguous())
            _set_size(linear, "out", len(kept))


def _feeders(model: Any, down: Any, width: int) -> list[Any]:
    """Linear layers of the same MLP that write into its neurons."""
    parent = next(p for p in model.modules() if any(c is down for c in p.children()))
    return [c for c in parent.children() if c is not down and sites._out_features(c) == width]


def _set_size(linear: Any, side: str, size: int) -> None:
    if type(linear).__name__ == "Conv1D":
        setattr(linear, "nf" if side == "out" else "nx", size)
    else:
        setattr(linear, f"{side}_features", size)
