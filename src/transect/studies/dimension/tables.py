"""Tables of dimension: curves through depth, where they rise and peak, and how they go with the loss."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from transect.inference.intervals import agreement, jackknife, simultaneous
from transect.inference.tests import max_t, permutation_p, studentised
from transect.models import sites
from transect.numeric.permute import text_permutations
from transect.numeric.ranks import spearman
from transect.random import rng
from transect.results.table import Table
from transect.studies.dimension.cells import MEASURES, Window, draws

#: Where the interval of each measure is symmetric.
SCALES = {"twonn": "log", "participation_ratio": "log", "curvature": "identity"}
#: Dimensions whose course through depth has a peak.
PEAKED = ("twonn", "participation_ratio")


class Measured(NamedTuple):
    """One run: its sites in order, what was measured at each, its window, and the loss of every text (of the
    run itself, or of the one it is a control of); None without."""

    run: str
    sites: list[str]
    layers: list[dict[str, Any]]
    window: Window
    each: int
    loss: np.ndarray | None
    judge: str

    def base(self, seed: int) -> dict[str, Any]:
        """Columns that all rows share."""
        count = len(self.window.texts)
        return {"run": self.run, "n_texts": count, "seed": seed, "position0": "dropped", "status": "ok"}

    def curve(self, measure: str, resample: str) -> np.ndarray:
        """[resamples, layers]."""
        return np.array([layer["curve"][measure][resample] for layer in self.layers], float).T

    def by_text(self, measure: str) -> np.ndarray:
        """[layers, texts]."""
        return np.array([layer["by_text"][measure] for layer in self.layers], float)


def curves(run: Measured, seed: int) -> Table:
    """Every layer and measure of all texts together, with 95 % by groups of texts left out."""
    rows = []
    for measure in MEASURES:
        values, drops = run.curve(measure, "all")[0], run.curve(measure, "drops")
        for k, site in enumerate(run.sites):
            low, high = jackknife(float(values[k]), drops[:, k], scale=SCALES[measure])
            row = run.base(seed) | {"measure": measure, "site": site, "value": float(values[k])}
            size = len(run.window.tokens[0]) if measure == "curvature" else run.each
            rows.append(row | {"low": low, "high": high, "n": size * len(run.window.texts)})
    return Table(rows)


def phases(run: Measured, seed: int) -> Table:
    """`peak`: the layer of the largest dimension; `onset`: the first that is halfway from the first layer's
    to it. What enters block 0 is left out: there copies of a token are one point. low, high: layers of the
    central 95 % of half samples of texts; support: share that agrees.
    `peak_over_last`: log ratio, the layer chosen on one half of the texts and read on the other."""
    rows = []
    every = [sites.layer(s) or 0 for s in run.sites]
    inside = [k for k, layer in enumerate(every) if layer > 0] or list(range(len(every)))
    numbers = [every[k] for k in inside]
    for measure in PEAKED:
        curve = run.curve(measure, "all")[0][inside]
        halves, others = (run.curve(measure, name)[:, inside] for name in ("halves", "others"))
        for name, place in (("peak", peak), ("onset", onset)):
            picks = [place(c) for c in halves]
            at = place(curve)
            row = run.base(seed) | {"measure": name, "of": measure, "site": run.sites[inside[at]]}
            ends = np.quantile([numbers[k] for k in picks], [0.025, 0.975]).tolist()
            row |= {"value": numbers[at], "low": ends[0], "high": ends[1], "support": agreement(picks, at)}
            rows.append(row | {"depth": numbers[at] / max(numbers), "dimension": float(curve[at])})
        several = len(curve) > 1
        logs = [np.log(b[peak(a[:-1])] / b[-1]) for a, b in zip(halves, others, strict=True) if several]
        logs = [x for x in logs if np.isfinite(x)]
        if len(logs) > 1:
            low, high = np.quantile(logs, [0.025, 0.975]).tolist()
            row = run.base(seed) | {
                "measure": "peak_over_last",
                "of": measure,
                "value": float(np.mean(logs)),
            }
            rows.append(row | {"low": low, "high": high, "draws": len(logs)})
    return Table(rows)


def peak(curve: np.ndarray) -> int:
    """Place of the largest value; NaN counts for nothing."""
    return int(np.argmax(np.nan_to_num(curve, nan=-np.inf)))


def onset(curve: np.ndarray) -> int:
    """The first place, up to the peak, at or above the middle between the first value and the peak's."""
    top = peak(curve)
    return int(np.argmax(curve[: top + 1] >= (curve[0] + curve[top]) / 2))


def beside_loss(run: Measured, how: Any) -> Table:
    """Spearman over texts between what a text's states are at each layer and its loss.

    low, high: 95 % by groups of texts left out; band_low, band_high: for the whole curve; null: losses
    permuted between texts; p two-sided, p_max over all layers.
    """
    assert run.loss is not None
    count = len(run.loss)
    orders = text_permutations(count, how.permutations, rng(how.seed, "permuted losses"))
    parts = draws(count, how.groups, 0, how.seed)["drops"]
    rows: list[dict[str, Any]] = []
    for measure in MEASURES:
        correlations = related(run.by_text(measure), run.loss, orders, parts)
        for site, row in zip(run.sites, correlations, strict=True):
            rows.append(run.base(how.seed) | {"measure": measure, "site": site, "judge": run.judge} | row)
    for row in rows:
        row |= {"n": len(run.window.tokens[0]), "control": "permuted texts", "draws": len(orders)}
    return Table(rows)


def related(
    values: np.ndarray, loss: np.ndarray, orders: np.ndarray, parts: Sequence[np.ndarray]
) -> list[dict[str, Any]]:
    """A row a layer for numbers [layers, texts] and the loss [texts]; `parts`: texts of every jackknife
    replicate. Texts whose number is not known count in no layer."""
    known = np.isfinite(values).all(axis=0) & np.isfinite(loss)
    if known.sum() < 8:
        why = f"{int(known.sum())} texts have a number at every layer; 8 are needed"
        return [{"status": why}] * len(values)
    kept = np.flatnonzero(known)
    rho = np.array([spearman(layer[kept], loss[kept]) for layer in values])
    drops = np.array(
        [[spearman(v[p], loss[p]) for p in (np.intersect1d(q, kept) for q in parts)] for v in values]
    )
    null = _permuted(values[:, kept], loss[kept], orders)
    band = simultaneous(rho, drops, scale="fisher")
    z, other = studentised(rho, null, "two")
    largest = max_t(z, other)
    rows = []
    for k, value in enumerate(rho.tolist()):
        low, high = jackknife(value, drops[k], scale="fisher")
        ends = np.quantile(null[:, k], [0.025, 0.975]).tolist() if len(null) else [float("nan")] * 2
        row = {"value": value, "low": low, "high": high, "band_low": band[0][k], "band_high": band[1][k]}
        row |= {"null": float(null[:, k].mean()) if len(null) else None, "null_low": ends[0]}
        row |= {
            "null_high": ends[1],
            "p": permutation_p(value, null[:, k], "two"),
            "p_max": float(largest[k]),
        }
        rows.append(row)
    return rows


def _permuted(values: np.ndarray, loss: np.ndarray, orders: np.ndarray) -> np.ndarray:
    """Spearman's ρ of every layer with the losses permuted, [draws, layers], in one product of ranks."""
    from scipy.stats import rankdata

    ranks = rankdata(values, axis=1)
    ranks -= ranks.mean(axis=1, keepdims=True)
    size = np.linalg.norm(ranks, axis=1, keepdims=True)
    ranks = np.divide(ranks, size, out=np.zeros_like(ranks), where=size > 0)
    losses = rankdata(loss)
    losses -= losses.mean()
    losses /= max(float(np.linalg.norm(losses)), 1e-300)
    # those that lack a text keep the order of the rest
    cut = np.array([np.argsort(np.argsort(o[: len(losses)], kind="stable"), kind="stable") for o in orders])
    return losses[cut.reshape(len(orders), len(losses)).astype(int)] @ ranks.T
