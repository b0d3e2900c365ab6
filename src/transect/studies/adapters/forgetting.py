"""What the change of the weights does to texts: loss along the straight line from base to tuned, with
intruders scaled down, and how much of it the Fisher information of the base foretells.

The base is opened once and its weights are set; texts of the task stand beside other texts.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from transect.errors import TransectError
from transect.inference.intervals import jackknife, ratios
from transect.models.edit import check_head
from transect.models.losses import losses
from transect.models.models import Model, open_model
from transect.studies.adapters.changes import Change
from transect.studies.adapters.intruders import delta, leading
from transect.texts.texts import Texts, tokenize

#: Places on the line, and scales of the intruders.
STEPS = (0.0, 0.25, 0.5, 0.75, 1.0)
Texted = Mapping[str, Texts]


class Tuned:
    """The base with changes put on its weights: `at(t)` of all of ΔW, `scaled(parts, s)` with some singular
    parts of W + ΔW scaled."""

    def __init__(self, base: str, changes: Sequence[Change]) -> None:
        """Raises: TransectError for a model without a next token, and changes of weights that it lacks."""
        self.model: Model = open_model(base, dtype="float32", device="cpu")
        check_head(self.model)
        module = self.model.model
        turned = {n for n, m in module.named_modules() if type(m).__name__ == "Conv1D"}
        parameters = {
            n.removesuffix(".weight"): p for n, p in module.named_parameters(remove_duplicate=False)
        }
        if lost := [c.name for c in changes if c.name not in parameters]:
            raise TransectError(f"{base} has no {lost[0]}.", "Judge by texts what has a next token.")
        self.changes = changes
        self.slots = {c.name: (parameters[c.name], c.name in turned) for c in changes}

    def put(self, name: str, weight: np.ndarray) -> None:
        """Set one weight, [out, in]."""
        import torch

        parameter, turned = self.slots[name]
        array = np.ascontiguousarray(weight.T if turned else weight, np.float32)
        parameter.data.copy_(torch.from_numpy(array).reshape(parameter.shape))

    def at(self, t: float) -> None:
        """Set every changed weight to W + t ΔW."""
        for c in self.changes:
            self.put(c.name, c.weight + t * delta(c) if t else c.weight)

    def scaled(self, parts: Mapping[str, np.ndarray], s: float) -> None:
        """Set W + ΔW with the parts [m, n] of some of its singular vectors multiplied by s."""
        for c in self.changes:
            if c.name in parts:
                self.put(c.name, c.weight + delta(c) - (1 - s) * parts[c.name])


def parts_of(
    changes: Sequence[Change], picks: Mapping[str, Sequence[int]], top: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """(Σ σ u vᵀ of the picked leading vectors of each W + ΔW, the same of as many others whose singular
    values are nearest), by module; `picks` are numbers from 0."""
    changed, others = {}, {}
    for c in changes:
        if not picks.get(c.name):
            continue
        U, s, V = leading(c.weight.astype(np.float64) + delta(c), min(top, *c.weight.shape))
        mine, rest = list(picks[c.name]), [k for k in range(len(s)) if k not in picks[c.name]]
        near: list[int] = []
        for k in mine[: len(rest)]:
            near.append(min((j for j in rest if j not in near), key=lambda j: abs(s[j] - s[k])))
        changed[c.name] = (U[:, mine] * s[mine]) @ V[mine]
        others[c.name] = (U[:, near] * s[near]) @ V[near]
    return changed, others


def judged(
    tuned: Tuned,
    texts: Texted,
    picks: Mapping[str, Sequence[int]],
    how: Any,
    bar: Callable[[str, int, int], None] | None,
) -> list[dict[str, Any]]:
    """Rows of loss (nats a token) on every set of texts: on the line (`path` line, `scale` t), with intruders
    and with as many other vectors scaled down; then the barrier of the line."""
    by_part = parts_of(tuned.changes, picks, how.top)
    plan = [("line", t, lambda t=t: tuned.at(t)) for t in STEPS]
    if by_part[0]:
        for path, parts in zip(("intruders", "others"), by_part, strict=True):
            plan += [(path, s, lambda s=s, parts=parts: tuned.scaled(parts, s)) for s in STEPS[:-1]]
    sums: dict[tuple[str, str, float], np.ndarray] = {}
    tokens: dict[str, np.ndarray] = {}
    for k, (path, scale, setting) in enumerate(plan):
        if path != "line" and plan[k - 1][0] != path:
            tuned.at(1.0)
        setting()
        for name, part in texts.items():
            sums[name, path, scale], tokens[name] = losses(tuned.model, part, max_length=how.longest)
        if bar:
            bar("loss of texts", k + 1, len(plan))
    rows: list[dict[str, Any]] = []
    for name in texts:
        ends = sums[name, "line", 0.0], sums[name, "line", 1.0]
        for (part, path, scale), counts in sums.items():
            if part == name:
                rows.append(_row("loss", counts, tokens[name], how, texts=name, path=path, scale=scale))
                rows[-1] |= _difference(counts - ends[0], tokens[name], how)
        rows += [_barrier(sums, tokens[name], name, how)]
    return rows


def _row(measure: str, sums: np.ndarray, tokens: np.ndarray, how: Any, **extra: Any) -> dict[str, Any]:
    values, drops = ratios(sums[None], tokens, how.groups, how.seed)
    low, high = jackknife(float(values[0]), drops[0], scale="log" if measure == "loss" else "identity")
    row = {"measure": measure, "value": float(values[0]), "low": low, "high": high, "n": int(tokens.sum())}
    return row | {"n_texts": len(tokens), "seed": how.seed, "status": "ok"} | extra


def _difference(sums: np.ndarray, tokens: np.ndarray, how: Any) -> dict[str, float]:
    """How far a loss is from the base's, paired by text."""
    row = _row("rise", sums, tokens, how)
    return {"corrected": row["value"], "corrected_low": row["low"], "corrected_high": row["high"]}


def _barrier(sums: Mapping[Any, np.ndarray], tokens: np.ndarray, name: str, how: Any) -> dict[str, Any]:
    """Largest loss on the line beyond the straight line between the losses of its ends, at its place."""
    line = {t: sums[name, "line", t] for t in STEPS}
    above = {t: line[t] - (1 - t) * line[0.0] - t * line[1.0] for t in STEPS[1:-1]}
    best = max(above, key=lambda t: above[t].sum())
    return _row("barrier", above[best], tokens, how, texts=name, path="line", scale=best)


def fisher(tuned: Tuned, texts: Texts, how: Any) -> list[dict[str, Any]]:
    """Diagonal empirical Fisher information of the base on some texts, by module, and the rise of their loss
    that it foretells for ΔW: ½ Σ F ΔW², in nats a token; null: the same ΔW with its entries in random places.

    F is the mean over texts of the squared gradient of log p(text), over the tokens of a text. Kirkpatrick et
    al. 2017, arXiv:1612.00796.
    """
    tuned.at(0.0)
    sums: dict[str, np.ndarray] = {}
    tokens = 0
    for gradients, count in _gradients(tuned, texts, how.longest):
        tokens += count
        for name, g in gradients.items():
            sums[name] = sums.get(name, np.zeros(g.shape)) + g.astype(np.float64) ** 2
    rows = []
    for c in tuned.changes:
        F, D = sums[c.name] / max(1, tokens), delta(c) ** 2
        row = {"measure": "fisher", "site": c.name, "value": float((F * D).sum() / 2), "n": tokens}
        row |= {"null": float(F.mean() * D.sum() / 2), "mean_fisher": float(F.mean()), "n_texts": len(texts)}
        rows.append(row | {"control": "entries of ΔW in random places", "status": "ok", "seed": how.seed})
    return rows


def _gradients(tuned: Tuned, texts: Texts, longest: int) -> Iterator[tuple[dict[str, np.ndarray], int]]:
    """Per text the gradient of its log-probability in every changed weight, [out, in], and its tokens."""
    import torch

    module = tuned.model.model
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    for parameter, _ in tuned.slots.values():
        parameter.requires_grad_(True)
    for ids in tokenize(texts, tuned.model.tokenizer, longest, strict=True).ids:
        if len(ids) < 2:
            continue
        tokens = torch.as_tensor(np.asarray(ids), dtype=torch.long)[None]
        logits = module(input_ids=tokens, use_cache=False).logits.float()
        torch.nn.functional.cross_entropy(logits[0, :-1], tokens[0, 1:], reduction="sum").backward()
        gradients = {}
        for name, (parameter, turned) in tuned.slots.items():
            assert parameter.grad is not None
            array = parameter.grad.numpy()
            array = array.T if turned else array.reshape(-1, array.shape[-1] if array.ndim > 1 else 1)
            gradients[name] = array.copy()
        module.zero_grad(set_to_none=True)
        yield gradients, len(ids) - 1
