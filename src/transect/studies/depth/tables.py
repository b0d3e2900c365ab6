"""Tables of depth: damage, distances, what foretells damage, effective depth. Sums per text become numbers
with intervals by text."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from transect.inference.intervals import agreement, jackknife, ratios
from transect.numeric.ranks import spearman
from transect.results.table import Table
from transect.studies.depth.edits import Edit
from transect.studies.depth.similar import BY_TOKEN, MEASURES, half_samples

#: Damage, and the scale where its interval is symmetric.
DAMAGE = {"kl_divergence": "log", "loss_increase": "identity", "top1_agreement": "logit"}


class Sums(NamedTuple):
    """One run: per text its tokens and losses, of the whole model [texts] and of every edit [edits, texts];
    what `similar` found; and the half samples of texts that both share."""

    run: str
    edits: list[Edit]
    tokens: np.ndarray
    whole: np.ndarray
    sums: dict[str, np.ndarray]
    similar: dict[str, Any]
    halves: list[np.ndarray]
    seed: int
    groups: int

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return len(self.similar["sites"]) - 1

    def base(self) -> dict[str, Any]:
        """Columns that all rows share."""
        return {"run": self.run, "n_texts": len(self.tokens), "seed": self.seed, "status": "ok"}

    def damage(self, measure: str, members: np.ndarray) -> np.ndarray:
        """Damage a token of every edit on some texts, [edits]: nats, and the share that agrees."""
        count = self.tokens[members].sum()
        return self.sums[measure][:, members].sum(axis=1) / count


def collected(
    run: str, asked: list[Edit], answers: Sequence[Mapping[str, Any]], similar: dict[str, Any], **how: Any
) -> Sums:
    """The sums of a run from the answers of its tasks, in the order of its texts."""
    tokens = np.concatenate([np.asarray(a["tokens"], float) for a in answers])
    base = np.concatenate([np.asarray(a["whole"], float) for a in answers])
    joined = {
        k: np.concatenate([np.asarray(a[k], float).reshape(len(asked), -1) for a in answers], axis=1)
        for k in ("loss", "kl", "agreement")
    }
    sums = {"kl_divergence": joined["kl"], "top1_agreement": joined["agreement"]}
    sums["loss_increase"] = joined["loss"] - base
    halves = half_samples(len(tokens), how.pop("halves"), how["seed"])
    return Sums(run, asked, tokens, base, sums, similar, halves, **how)


def damages(measured: Sums) -> Table:
    """Every edit: KL to the whole model, rise of the loss, share of tokens with the same top token. `share`:
    the rise beside the whole model's loss."""
    base = float(measured.whole.sum() / measured.tokens.sum())
    rows = []
    for measure, scale in DAMAGE.items():
        values, drops = ratios(measured.sums[measure], measured.tokens, measured.groups, measured.seed)
        for edit, value, replicates in zip(measured.edits, values.tolist(), drops, strict=True):
            low, high = jackknife(value, replicates, scale=scale)
            row = measured.base() | {"measure": measure, "edit": edit.kind, "blocks": edit.count}
            row |= {"site": f"resid.{edit.first}", "site2": f"resid.{edit.first + edit.count}"}
            row |= {
                "value": value,
                "low": low,
                "high": high,
                "n": int(measured.tokens.sum()),
                "whole_loss": base,
            }
            rows.append(row | {"share": value / base if measure == "loss_increase" else None})
    return Table(rows)


def distances(measured: Sums) -> Table:
    """How far apart states of the same tokens are, for all pairs of layers: means over tokens, the angle also
    at the last token of each text (as published), and 1 − CKA of pairs that edits ask for."""
    names = measured.similar["sites"]
    upper = list(zip(*np.triu_indices(len(names), 1), strict=True))
    count = np.asarray(measured.similar["tokens"], float)
    rows = []
    kinds = [(m, "all", np.asarray(measured.similar[m]), count) for m in BY_TOKEN]
    kinds.append(("angular_distance", "last", np.asarray(measured.similar["last"]), np.ones(len(count))))
    for measure, token, sums, weight in kinds:
        values, drops = ratios(sums.T, weight, measured.groups, measured.seed)
        for (i, j), value, replicates in zip(upper, values.tolist(), drops, strict=True):
            low, high = jackknife(value, replicates, scale="log")
            row = measured.base() | {"measure": measure, "token": token, "site": names[i], "site2": names[j]}
            row |= {"value": value, "low": low, "high": high, "n": int(weight.sum()), "apart": int(j - i)}
            rows.append(row | {"basis": "groups of texts left out"})
    cka = np.asarray(measured.similar["cka"], float)
    for (i, j), draws in zip(measured.similar["pairs"], cka.T, strict=True):
        half = 1.96 * float(draws[1:].std(ddof=1)) if len(draws) > 2 else float("nan")
        row = measured.base() | {
            "measure": "cka_distance",
            "token": "all",
            "site": names[i],
            "site2": names[j],
        }
        row |= {"value": float(draws[0]), "low": float(draws[0]) - half, "high": float(draws[0]) + half}
        rows.append(row | {"apart": j - i, "basis": "half samples of texts"})
    return Table(rows)


def foretold(measured: Sums) -> Table:
    """Rank correlation over edits of one kind between how alike the states around the blocks are and the
    damage, per measure: value on all texts, 95 % of half samples, and `support`: the share of half samples in
    which this measure foretells best. A description: blocks are no sample, so there is no p."""
    rows = []
    for kind, count in dict.fromkeys((e.kind, e.count) for e in measured.edits):
        which = [k for k, e in enumerate(measured.edits) if (e.kind, e.count) == (kind, count)]
        if len(which) < 4:
            continue
        pairs = [(measured.edits[k].first, measured.edits[k].first + count) for k in which]
        for damage in ("kl_divergence", "loss_increase"):
            every = [np.arange(len(measured.tokens)), *measured.halves]
            correlation = np.array(
                [
                    [
                        spearman(measured.damage(damage, m)[which], _looks(measured, name, pairs, m, d))
                        for name in MEASURES
                    ]
                    for d, m in enumerate(every)
                ]
            )
            picks = np.nan_to_num(correlation, nan=-2).argmax(axis=1)
            ends = _percentiles(correlation[1:])
            for k, name in enumerate(MEASURES):
                row = measured.base() | {"measure": name, "damage": damage, "edit": kind, "blocks": count}
                row |= {
                    "value": float(correlation[0, k]),
                    "low": ends[0][k],
                    "high": ends[1][k],
                    "n": len(which),
                }
                row |= {"support": agreement(picks[1:].tolist(), k), "best": bool(picks[0] == k)}
                rows.append(row | {"draws": len(measured.halves)})
    return Table(rows)


def worth(measured: Sums, share: float) -> Table:
    """effective_depth: blocks whose removal raises the loss by more than `share` of the whole model's; and
    the edit that damages most, with the share of half samples that pick the same one."""
    every = [np.arange(len(measured.tokens)), *measured.halves]
    single = [k for k, e in enumerate(measured.edits) if (e.kind, e.count) == ("remove", 1)]
    rows = []
    if single:

        def counted(members: np.ndarray) -> int:
            base = measured.whole[members].sum() / measured.tokens[members].sum()
            return int((measured.damage("loss_increase", members)[single] > share * base).sum())

        counts = np.array([[counted(m)] for m in every], float)
        low, high = _percentiles(counts[1:])
        row = measured.base() | {"measure": "effective_depth", "value": float(counts[0, 0]), "low": low[0]}
        rows.append(row | {"high": high[0], "n": len(single), "share": share, "edit": "remove", "blocks": 1})
    for kind, count in dict.fromkeys((e.kind, e.count) for e in measured.edits):
        which = [k for k, e in enumerate(measured.edits) if (e.kind, e.count) == (kind, count)]
        rows += [
            measured.base() | {"measure": name, "edit": kind, "blocks": count, "n": len(which)} | effect
            for name, pick in (("most_damage", np.argmax), ("least_damage", np.argmin))
            if (effect := _extreme(measured, which, every, pick))
        ]
    return Table(rows)


def _extreme(
    measured: Sums, which: list[int], every: Sequence[np.ndarray], pick: Callable[[np.ndarray], Any]
) -> dict[str, Any]:
    """The edit whose KL is most or least: its place, its KL, how many half samples agree."""
    damage = np.array([measured.damage("kl_divergence", m)[which] for m in every])
    picks = [int(pick(row)) for row in damage]
    first = measured.edits[which[picks[0]]]
    place = {"site": f"resid.{first.first}", "site2": f"resid.{first.first + first.count}"}
    return place | {"value": float(damage[0, picks[0]]), "support": agreement(picks[1:], picks[0])}


def _looks(
    measured: Sums, name: str, pairs: Sequence[tuple[int, int]], members: np.ndarray, draw: int
) -> np.ndarray:
    """How far apart the layers of each pair are by a measure, on some texts; CKA by its draw's number."""
    if name == "cka_distance":
        at = {tuple(pair): k for k, pair in enumerate(measured.similar["pairs"])}
        return np.array([measured.similar["cka"][draw][at[pair]] for pair in pairs], float)
    places = np.stack(np.triu_indices(measured.depth + 1, 1), axis=1).tolist()
    upper = {(i, j): k for k, (i, j) in enumerate(places)}
    sums = np.asarray(measured.similar[name], float)[members]
    count = np.asarray(measured.similar["tokens"], float)[members].sum()
    return sums[:, [upper[pair] for pair in pairs]].sum(axis=0) / count


def _percentiles(draws: np.ndarray) -> tuple[list[float], list[float]]:
    """2.5 and 97.5 % of every column; NaN without draws or where one is missing."""
    if len(draws) < 2:
        return [float("nan")] * draws.shape[1], [float("nan")] * draws.shape[1]
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    return low.tolist(), high.tolist()
