"""Damage: what the model says with blocks removed, repeated or swapped, beside what it says whole, per text.

Both say it on the same tokens, a batch at a time: no logits outlive their batch.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from transect.inference.evaluate import opened
from transect.models.edit import Routes
from transect.models.forward import make_batch, make_plan
from transect.studies.judging import blocks_of
from transect.work.keys import key_of

if TYPE_CHECKING:
    import torch

KINDS = ("remove", "repeat", "swap")
#: Padded tokens of a batch: two float32 logits of each are held at once.
BATCH = 512
#: Texts of one task.
TEXTS = 4


class Edit(NamedTuple):
    """Blocks `first` … `first + count − 1` removed, repeated, or swapped, and what runs where instead."""

    kind: str
    first: int
    count: int
    routes: Routes


class Judged(NamedTuple):
    """One task: some texts of a store under its own model, whole and edited."""

    path: str
    content: str
    members: tuple[int, ...]
    longest: int
    kinds: tuple[str, ...]
    spans: tuple[int, ...]

    def key(self) -> str:
        """Name of the task's answer."""
        return key_of(list(self)[1:], __name__)


def edits(depth: int, kinds: Sequence[str], spans: Sequence[int]) -> list[Edit]:
    """Every edit of a stack of `depth` blocks: each block removed or repeated, neighbours swapped, and every
    run of so many blocks as `spans` say removed."""
    result: list[Edit] = []
    for kind in kinds:
        if kind == "remove":
            result += [Edit(kind, k, 1, {k: ()}) for k in range(depth)]
        elif kind == "repeat":
            result += [Edit(kind, k, 1, {k: (k, k)}) for k in range(depth)]
        else:
            result += [Edit(kind, k, 2, {k: (k + 1,), k + 1: (k,)}) for k in range(depth - 1)]
    for n in spans:
        result += [
            Edit("remove", k, n, dict.fromkeys(range(k, k + n), ())) for k in range(depth - n + 1) if n > 1
        ]
    return result


def judged(task: Judged) -> dict[str, Any]:
    """Sums per text: tokens and loss of the whole model [texts], loss, KL and agreement of every edit [edits,
    texts]."""
    store = opened(task.path, task.content)
    blocks = blocks_of(store)
    ids = [np.asarray(store.token_ids(i))[: task.longest].tolist() for i in task.members]
    lengths = [len(text) for text in ids]
    asked = edits(len(blocks), task.kinds, task.spans)
    sums = {name: np.zeros((len(asked), len(ids))) for name in ("loss", "kl", "agreement")}
    base_losses = np.zeros(len(ids))
    for members in make_plan(lengths, lengths, BATCH, sum(lengths))[0]:
        batch = make_batch(ids, members, [np.arange(n) for n in lengths])
        logits, gave = blocks.remembered(batch.ids, batch.mask)
        base = _said(logits)
        base_losses[members] = _losses(base, batch).cpu().numpy()
        for k, edit in enumerate(asked):
            with blocks.routed(edit.routes, gave):
                other = _said(blocks.logits(batch.ids, batch.mask))
            sums["loss"][k, members] = _losses(other, batch).cpu().numpy()
            kl, same = compared(base, other, batch.mask[:, 1:])
            sums["kl"][k, members], sums["agreement"][k, members] = kl.cpu().numpy(), same.cpu().numpy()
    counts = [n - 1 for n in lengths]
    return {"tokens": counts, "whole": base_losses.tolist()} | {k: v.tolist() for k, v in sums.items()}


def _said(logits: "torch.Tensor") -> "torch.Tensor":
    """Log-probabilities [texts, tokens − 1, vocabulary] of the next token at every position that has one."""
    return logits[:, :-1].log_softmax(-1)


def _losses(said: "torch.Tensor", batch: Any) -> "torch.Tensor":
    """Summed −log p(next token) of every text, in nats."""
    following = batch.ids[:, 1:, None].to(said.device)
    return -(said.gather(-1, following)[..., 0].double() * batch.mask[:, 1:].to(said.device)).sum(1)


def compared(
    base: "torch.Tensor", other: "torch.Tensor", mask: "torch.Tensor"
) -> "tuple[torch.Tensor, torch.Tensor]":
    """Per text ΣKL(base ‖ other) in nats and how often both have the same top token, over the tokens of the
    mask; both are log-probabilities."""
    kept = mask.to(base.device).double()
    kl = (base.exp() * (base - other)).sum(-1).double()
    same = (base.argmax(-1) == other.argmax(-1)).double()
    return (kl * kept).sum(1), (same * kept).sum(1)
