"""What a state says about the next token, judged per text: read out as it is, through a map fitted on other
texts, and beside a constant state.

Logits of one text at a time: never those of all tokens.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from transect.errors import TransectError
from transect.inference.evaluate import opened
from transect.models import sites
from transect.numeric.norms import ordinary
from transect.random import rng
from transect.store.store import Store
from transect.studies.judging import blocks_of
from transect.studies.lens.tuned import Affine, affine
from transect.work.keys import key_of

if TYPE_CHECKING:
    import torch

#: What is summed over tokens.
MEASURES = ("kl_divergence", "top1_agreement", "log_rank", "entropy", "next_loss")
LENSES = ("logit", "tuned", "constant")


class Read(NamedTuple):
    """One task: a site of a store, judged on some texts, its map fitted on others."""

    path: str
    content: str
    site: str
    judged: tuple[int, ...]
    others: tuple[int, ...]
    longest: int
    massive: float
    seed: int

    def key(self) -> str:
        """Name of the task's answer."""
        return key_of(list(self)[1:], __name__)


def last_site(store: Store) -> str:
    """What leaves the last block. Raises: TransectError where the store does not hold it."""
    depth = len(blocks_of(store))
    if f"resid.{depth}" not in store.sites:
        raise TransectError(
            f"{store.path} lacks resid.{depth}, what leaves the last block.", "Capture with --sites resid."
        )
    return f"resid.{depth}"


def read(task: Read) -> dict[str, Any]:
    """tokens [texts]; per lens and measure the sums [texts]; ridge of the map, tokens that it was fitted on.

    The model's own word is its pass over the text at the last site, and its readout of that site elsewhere.
    """
    import torch

    store = opened(task.path, task.content)
    blocks, last = blocks_of(store), last_site(store)
    fitted, mean, count = _fitted(store, task, last)
    constant = blocks.readout(torch.from_numpy(mean[None].astype(np.float32))).float().log_softmax(-1)
    sums: dict[str, Any] = {lens: {m: [] for m in MEASURES} for lens in LENSES}
    for i in task.judged:
        ids = np.asarray(store.token_ids(i))[: task.longest].astype(np.int64)
        states = store.sample(i, task.site)[1 : len(ids) - 1]
        if task.site == last:
            base = blocks.logits(ids[None])[0, 1:-1]
        else:
            base = blocks.readout(torch.from_numpy(store.sample(i, last)[1 : len(ids) - 1]))
        base = base.float().log_softmax(-1)
        following = torch.from_numpy(ids[2:]).to(base.device)
        for lens in LENSES:
            if lens == "constant":
                said = constant.expand_as(base)
            else:
                carried = states if lens == "logit" else fitted(states).astype(np.float32)
                said = blocks.readout(torch.from_numpy(carried)).float().log_softmax(-1)
            for name, value in scores(base, said, following).items():
                sums[lens][name].append(value)
    tokens = [int(min(store.lengths[i], task.longest)) - 2 for i in task.judged]
    return sums | {"tokens": tokens, "ridge": fitted.ridge, "fitted_on": count}


def scores(base: "torch.Tensor", said: "torch.Tensor", following: "torch.Tensor") -> dict[str, float]:
    """Sums over tokens of log-probabilities [n, vocabulary] beside the model's own.

    KL(model ‖ lens) and entropy in nats, same top token, log of the true token's rank (1: top), its loss.
    """
    targets = said.gather(-1, following[:, None])
    return {
        "kl_divergence": float((base.exp() * (base - said)).sum(-1).double().sum()),
        "top1_agreement": float((base.argmax(-1) == said.argmax(-1)).double().sum()),
        "log_rank": float(((said > targets).sum(-1) + 1).double().log().sum()),
        "entropy": float(-(said.exp() * said).sum(-1).double().sum()),
        "next_loss": float(-targets.double().sum()),
    }


def _fitted(store: Store, task: Read, last: str) -> tuple[Affine, np.ndarray, int]:
    """The map from a site to the last one, the mean last state, and how many tokens they are of.

    Position 0 and tokens above `massive` × the median norm at either site are left out.
    """
    ends = [(i, min(int(store.lengths[i]), task.longest)) for i in task.others]
    rows = np.concatenate([store.start[i] + np.arange(1, n) for i, n in ends])
    text = np.repeat(np.arange(len(ends)), [n - 1 for _, n in ends])
    X, Y = store.read(task.site, rows), store.read(last, rows)
    kept = ordinary(np.stack([np.linalg.norm(Z, axis=1) for Z in (X, Y)]), task.massive)
    X, Y, text = X[kept], Y[kept], text[kept]
    half = rng(task.seed, "lens halves").permutation(len(ends)) % 2
    return affine(X, Y, half[text].astype(np.float64)), Y.mean(axis=0, dtype=np.float64), len(X)


def readable(store: Store, wanted: str) -> list[str]:
    """The sites that can be read out. Raises: TransectError for one of another width than the head reads."""
    names = sites.select(store.sites, sites.asked(wanted))
    width = store.width(last_site(store))
    if wrong := [name for name in names if store.width(name) != width]:
        raise TransectError(
            f"{wrong[0]} has {store.width(wrong[0])} dimensions, the head reads {width}.",
            "Read out resid, attn.out or mlp.out.",
        )
    return names
