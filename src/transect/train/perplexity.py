"""Perplexity by a stated protocol: every token of a part is predicted once, from windows that may overlap.

Windows of `block` tokens start every `stride` tokens; of each only what the one before did not predict
counts. With stride = block they do not overlap, and a token has between 0 and block − 1 tokens before it; a
smaller stride gives every token at least block − stride. Sums run over all processes before they are divided.

Sums are kept by groups of whole documents: the unit of an interval is the document, not the token.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from transect.inference.intervals import jackknife
from transect.train.data import GROUPS, Stream, group_sizes

#: Names of what a model gains on the unigram model, nats a token, and of the ends of its 95 % interval.
OVER = ("over_baseline", "over_baseline_low", "over_baseline_high")


class Protocol(NamedTuple):
    """Windows of `block` tokens every `stride` (default: the block); only `blocks` of them, evenly."""

    block: int
    stride: int | None = None
    blocks: int | None = None


class Gap(NamedTuple):
    """The unigram model's loss minus the model's, in nats a token, and its 95 % interval by documents."""

    value: float
    low: float
    high: float

    @property
    def learned(self) -> bool:
        """Whether the whole interval lies above 0."""
        return self.low > 0


@dataclass(frozen=True)
class Perplexity:
    """Loss in nats a token over `tokens` predictions, its perplexity, per word and in bits per byte where the
    whole part was scored, and what the unigram model of the train part reaches on the same tokens."""

    loss: float
    tokens: int
    per_token: float
    per_word: float
    bits_per_byte: float
    unigram_loss: float
    unigram_per_token: float
    block: int
    stride: int
    accuracy: float
    groups: np.ndarray
    group_bytes: tuple[int, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """As plain values for JSON; groups: nats, tokens, the unigram model's nats and bytes of each."""
        flat = asdict(self) | dict.fromkeys(("groups", "group_bytes"))
        values = {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in flat.items()}
        del values["group_bytes"]
        kept = {k: self.groups[:, c].tolist() for c, k in enumerate(("nats", "tokens", "unigram_nats"))}
        return values | {"groups": kept | {"bytes": list(self.group_bytes)}}

    @property
    def over_baseline(self) -> Gap:
        """How much the model is better than the unigram model, with an interval over groups of documents.

        Delete-a-group jackknife of a ratio of sums. NaN ends where there is one group.
        """
        nats, tokens, plain = self.groups[self.groups[:, 1] > 0, :3].T
        gap, total, count = plain - nats, (plain - nats).sum(), tokens.sum()
        value = float(total / count)
        if len(gap) < 2:
            return Gap(value, math.nan, math.nan)
        return Gap(value, *jackknife(value, (total - gap) / (count - tokens)))


def unigram(train: Stream, vocabulary: int) -> np.ndarray:
    """Log probabilities of a unigram model with one added to every count, [vocabulary]."""
    counts = np.bincount(train.ids, minlength=vocabulary) + 1.0
    return np.log(counts / counts.sum())


def windows(tokens: int, block: int, stride: int) -> list[tuple[int, int, int]]:
    """(first token, first prediction that counts, end) of every window; predictions 1 … tokens − 1 count once
    each."""
    spans, done = [], 1
    for start in range(0, max(1, tokens - 1), stride):
        end = min(start + block + 1, tokens)
        if end > done:
            spans.append((start, done, end))
            done = end
        if end == tokens:
            break
    return spans


def perplexity(
    model: Any,
    stream: Stream,
    protocol: Protocol,
    *,
    baseline: np.ndarray | None = None,
    batch: int = 16,
    share: tuple[int, int] = (0, 1),
    progress: Callable[[int, int], None] | None = None,
) -> Perplexity:
    """Perplexity of `model` on a part, by windows as the protocol says.

    baseline: log probabilities of the unigram model, [vocabulary]. share: (k, n), this process scores every
    n-th window from the k-th on. progress: called with windows done and windows in all.
    """
    import torch

    block, stride, blocks = protocol.block, protocol.stride or protocol.block, protocol.blocks
    every = windows(len(stream.ids), block, stride)
    partly = blocks is not None and blocks < len(every)
    if blocks is not None and partly:
        every = [every[round(k * (len(every) - 1) / max(1, blocks - 1))] for k in range(blocks)]
    mine, of = every[share[0] :: share[1]], groups_of(stream)
    sums = torch.zeros((int(of.max()) + 1, 4), dtype=torch.float64)
    was = model.training
    model.eval()
    with torch.inference_mode():
        for k in range(0, len(mine), batch):
            sums += _scored(model, stream, mine[k : k + batch], baseline, of)
            if progress:
                progress(min(k + batch, len(mine)), len(mine))
    model.train(was)
    if share[1] > 1:
        torch.distributed.all_reduce(sums)
    return _perplexity(sums.numpy(), stream, block, stride, everything=not partly)


def groups_of(stream: Stream) -> np.ndarray:
    """The group of each token, int64 [tokens]: whole documents, as many in each group, in their order.

    The groups are those of any tokenizer. Where documents are too few, groups are stretches of equal length.
    """
    ends = np.flatnonzero(stream.ids == stream.end) if stream.end is not None else np.empty(0, int)
    if len(ends) != stream.documents or stream.documents < FEWEST:
        return np.arange(len(stream.ids)) * min(GROUPS, len(stream.ids)) // len(stream.ids)
    last = ends[np.cumsum(group_sizes(stream.documents)) - 1]
    return np.searchsorted(last, np.arange(len(stream.ids)))


#: Documents below which groups are stretches of the stream.
FEWEST = 6


def _scored(model: Any, stream: Stream, part: Any, baseline: np.ndarray | None, of: np.ndarray) -> Any:
    """Sums over a batch of windows by group: negative log likelihood, tokens, unigram's, right guesses.
    [groups, 4] float64."""
    import torch

    longest = max(end - start for start, _, end in part)
    ids, counted = np.zeros((len(part), longest), np.int64), np.zeros((len(part), longest), bool)
    for row, (start, first, end) in enumerate(part):
        ids[row, : end - start] = stream.ids[start:end]
        counted[row, first - start : end - start] = True
    tokens = torch.from_numpy(ids).to(next(model.parameters()).device)
    logits = model(input_ids=tokens[:, :-1], use_cache=False).logits
    kept = torch.from_numpy(counted[:, 1:]).to(tokens.device)
    targets = tokens[:, 1:][kept]
    scores = logits[kept].float()
    nll = torch.nn.functional.cross_entropy(scores, targets, reduction="none").double()
    right = (scores.argmax(-1) == targets).double()
    plain = -baseline[targets.cpu().numpy()] if baseline is not None else np.full(len(targets), math.nan)
    sums = torch.stack([nll.cpu(), torch.ones(len(nll)).double(), torch.from_numpy(plain), right.cpu()], 1)
    group = np.concatenate([of[first:end] for _, first, end in part])
    return torch.zeros((int(of.max()) + 1, 4)).double().index_add(0, torch.from_numpy(group), sums)


def _perplexity(sums: np.ndarray, stream: Stream, block: int, stride: int, everything: bool) -> Perplexity:
    nll, count, plain, right = (float(v) for v in sums.sum(axis=0))
    return Perplexity(
        loss=nll / count,
        tokens=int(count),
        per_token=_exp(nll / count),
        per_word=_exp(nll / stream.words) if everything and stream.words else math.nan,
        bits_per_byte=nll / math.log(2) / stream.bytes if everything and stream.bytes else math.nan,
        unigram_loss=plain / count,
        unigram_per_token=_exp(plain / count),
        block=block,
        stride=stride,
        accuracy=right / count,
        groups=sums,
        group_bytes=stream.group_bytes if everything and len(stream.group_bytes) == len(sums) else (),
    )


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf
