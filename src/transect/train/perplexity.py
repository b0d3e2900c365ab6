"""Perplexity by a stated protocol: every token of a part is predicted once, from windows that may overlap.

Windows of `block` tokens start every `stride` tokens; of each only what the one before did not predict
counts. With stride = block they do not overlap, and a token has between 0 and block − 1 tokens before it; a
smaller stride gives every token at least block − stride. Sums run over all processes before they are divided.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from transect.train.data import Stream


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

    def told(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(self).items()}


def unigram(train: Stream, vocabulary: int) -> np.ndarray:
    """Log probabilities of a unigram model with one added to every count, [vocabulary]."""
    counts = np.bincount(train.ids, minlength=vocabulary) + 1.0
    return np.log(counts / counts.sum())


def windows(tokens: int, block: int, stride: int) -> list[tuple[int, int, int]]:
    """(first token, first prediction that counts, end) of every window; predictions 1 … tokens − 1 count once
    each."""
    found, done = [], 1
    for start in range(0, max(1, tokens - 1), stride):
        end = min(start + block + 1, tokens)
        if end > done:
            found.append((start, done, end))
            done = end
        if end == tokens:
            break
    return found


def perplexity(
    model: Any,
    stream: Stream,
    *,
    block: int,
    stride: int | None = None,
    blocks: int | None = None,
    baseline: np.ndarray | None = None,
    batch: int = 16,
    share: tuple[int, int] = (0, 1),
) -> Perplexity:
    """Perplexity of `model` on a part; `blocks` scores only that many windows, spread evenly over it.

    baseline: log probabilities of the unigram model, [vocabulary]. share: (k, n), this process scores every
    n-th window from the k-th on.
    """
    import torch

    stride = stride or block
    every = windows(len(stream.ids), block, stride)
    partly = blocks is not None and blocks < len(every)
    if blocks is not None and partly:
        every = [every[round(k * (len(every) - 1) / max(1, blocks - 1))] for k in range(blocks)]
    mine, sums = every[share[0] :: share[1]], torch.zeros(4, dtype=torch.float64)
    was = model.training
    model.eval()
    with torch.inference_mode():
        for k in range(0, len(mine), batch):
            sums += _scored(model, stream, mine[k : k + batch], baseline)
    model.train(was)
    if share[1] > 1:
        torch.distributed.all_reduce(sums)
    return _told(sums.tolist(), stream, block, stride, whole=not partly)


def _scored(model: Any, stream: Stream, part: Any, baseline: np.ndarray | None) -> Any:
    """Sums over a batch of windows: negative log likelihood, tokens, unigram's, right guesses. [4]
    float64."""
    import torch

    longest = max(end - start for start, _, end in part)
    ids, counted = np.zeros((len(part), longest), np.int64), np.zeros((len(part), longest), bool)
    for row, (start, first, end) in enumerate(part):
        ids[row, : end - start] = stream.ids[start:end]
        counted[row, first - start : end - start] = True
    given = torch.from_numpy(ids).to(next(model.parameters()).device)
    logits = model(input_ids=given[:, :-1], use_cache=False).logits
    chosen = torch.from_numpy(counted[:, 1:]).to(given.device)
    targets = given[:, 1:][chosen]
    scores = logits[chosen].float()
    nll = torch.nn.functional.cross_entropy(scores, targets, reduction="none").double().sum()
    right = (scores.argmax(-1) == targets).sum().double()
    plain = -baseline[targets.cpu().numpy()].sum() if baseline is not None else math.nan
    return torch.tensor([float(nll), float(len(targets)), float(plain), float(right)], dtype=torch.float64)


def _told(sums: list[float], stream: Stream, block: int, stride: int, whole: bool) -> Perplexity:
    nll, count, plain, right = sums
    return Perplexity(
        loss=nll / count,
        tokens=int(count),
        per_token=_exp(nll / count),
        per_word=_exp(nll / stream.words) if whole and stream.words else math.nan,
        bits_per_byte=nll / math.log(2) / stream.bytes if whole and stream.bytes else math.nan,
        unigram_loss=plain / count,
        unigram_per_token=_exp(plain / count),
        block=block,
        stride=stride,
        accuracy=right / count,
    )


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf
