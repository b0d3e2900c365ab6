"""Heads: a model's last hidden states → classes, spans or next tokens; batches that fit them, and answers
from them.

The model keeps its own language-model head untouched, so that what is saved opens like any other model.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from transect.errors import TransectError
from transect.models.models import Model
from transect.train.recipe import Recipe
from transect.train.scores import classification, exact, overlap, plain
from transect.train.tasks import Example, Task
from transect.train.world import World

Batch = dict[str, torch.Tensor]
IGNORED = -100
LONGEST_ANSWER = 30  # tokens


class Tuned(nn.Module):
    """The transformers model (with adapters or not) and a linear head over what its body returns."""

    def __init__(self, opened: Model, task: Task, seed: int) -> None:
        super().__init__()
        self.inner, self.kind, self.first = opened.model, task.kind, opened.kind == "encoder"
        if opened.kind == "encoder-decoder" or (task.kind == "lm" and opened.kind != "decoder"):
            raise TransectError(
                f"{opened.name} is an {opened.kind}; {task.name} needs a decoder.", "Use another model."
            )
        outputs = {"classify": len(task.labels), "span": 2, "lm": 0}[task.kind]
        width = opened.config.get_text_config().hidden_size
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.head = nn.Linear(width, outputs) if outputs else None
            if self.head:
                nn.init.normal_(self.head.weight, std=0.02)
                nn.init.zeros_(self.head.bias)

    @property
    def body(self) -> Any:
        """The model without its language-model head, adapters in place."""
        inner = self.inner.get_base_model() if hasattr(self.inner, "peft_config") else self.inner
        return getattr(inner, "base_model", inner)

    def forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """(loss of each example, outputs)."""
        inputs = {"input_ids": batch["ids"], "attention_mask": batch["mask"]}
        if self.head is None:
            logits = self.inner(**inputs).logits[:, :-1].float()
            targets = batch["ids"][:, 1:].masked_fill(batch["mask"][:, 1:] == 0, IGNORED)
            loss = nn.functional.cross_entropy(logits.mT, targets, ignore_index=IGNORED, reduction="none")
            return loss.sum(1) / (targets != IGNORED).sum(1).clamp(min=1), logits[:, :0]
        states = self.body(**inputs).last_hidden_state
        if self.kind == "classify":
            last = torch.zeros_like(batch["mask"][:, 0]) if self.first else batch["mask"].sum(1) - 1
            out = self.head(states[torch.arange(len(states)), last]).float()
            return nn.functional.cross_entropy(out, batch["label"], reduction="none"), out
        out = self.head(states).float().masked_fill(batch["mask"][..., None] == 0, -1e9)
        begin, end = out.unbind(-1)
        each = [
            nn.functional.cross_entropy(o, batch[k], reduction="none")
            for o, k in ((begin, "start"), (end, "end"))
        ]
        return (each[0] + each[1]) / 2, out


def encode(
    task: Task, examples: Sequence[Example], tokenizer: Any, max_length: int, stride: int, first: bool
) -> list[dict[str, Any]]:
    """Token ids of every example with its label or span; texts are cut at `max_length`.

    A context longer than that becomes several rows, windows that share `stride` tokens, each with the
    question in front. No answer in a window is a span at the first token of an encoder and at an end token
    added to a decoder's, which alone has read all.
    """
    texts = [_joined(task, e) for e in examples]
    cut = {"truncation": True, "max_length": max_length} if task.kind != "span" else {"verbose": False}
    encoded = tokenizer(texts, return_offsets_mapping=True, **cut)
    end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.pad_token_id or 0
    out = []
    for k, (example, ids, offsets) in enumerate(
        zip(examples, encoded["input_ids"], encoded["offset_mapping"], strict=True)
    ):
        if len(ids) < 2:
            raise TransectError(
                f"task {task.name}: an example has {len(ids)} tokens: {_joined(task, example)[:60]!r}."
            )
        row: dict[str, Any] = {"ids": ids, "example": example, "number": k}
        if task.kind == "classify":
            row["label"] = example["label"]
        if task.kind != "span":
            out.append(row)
            continue
        if not first:
            ids, offsets = [*ids, end], [*offsets, (0, 0)]
        for window in _windows(task, example, offsets, max_length, stride):
            part: dict[str, Any] = {"ids": [ids[i] for i in window], "offsets": [offsets[i] for i in window]}
            part["none"] = 0 if first else len(window) - 1
            part["start"], part["end"] = _tokens_of(example, part["offsets"], part["none"])
            out.append(row | part)
    return out


def _windows(
    task: Task, example: Example, offsets: list[tuple[int, int]], longest: int, stride: int
) -> list[list[int]]:
    """Token numbers of every window: question and special tokens always, the context a piece at a time."""
    shift = len(example["question"]) + 1
    context = [k for k, (a, b) in enumerate(offsets) if b > max(a, shift)]
    before = list(range(context[0] if context else len(offsets)))
    after = list(range(context[-1] + 1, len(offsets))) if context else []
    room = longest - len(before) - len(after)
    if len(context) <= room or not context:
        return [before + context + after]
    if room <= stride:
        raise TransectError(
            f"task {task.name}: a question of {len(before)} tokens leaves {room} of {longest} for its "
            "context, which must "
            f"exceed the stride of {stride}.",
            "Raise --max-length or lower --stride.",
        )
    starts = range(0, len(context) - stride, room - stride)
    return [before + context[s : s + room] + after for s in starts]


def _joined(task: Task, example: Example) -> str:
    """One string: the question before its context, for a decoder reads forwards only."""
    if task.kind == "span":
        return f"{example['question']}\n{example['context']}"
    return f"{example['text']}\n{example['pair']}" if example.get("pair") else example["text"]


def _tokens_of(example: Example, offsets: list[tuple[int, int]], none: int) -> tuple[int, int]:
    if not example["answers"]:
        return none, none
    start, text = example["answers"][0]
    start += len(example["question"]) + 1
    inside = [k for k, (a, b) in enumerate(offsets) if b > a and a < start + len(text) and b > start]
    complete = inside and offsets[inside[-1]][1] >= start + len(text)
    return (inside[0], inside[-1]) if complete else (none, none)


def collate(rows: Sequence[dict[str, Any]], pad: int, device: Any) -> Batch:
    """Right-padded tensors of some rows."""
    longest = max(len(r["ids"]) for r in rows)
    ids = torch.full((len(rows), longest), pad)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for k, row in enumerate(rows):
        ids[k, : len(row["ids"])] = torch.tensor(row["ids"])
        mask[k, : len(row["ids"])] = 1
    batch = {"ids": ids, "mask": mask}
    batch |= {k: torch.tensor([r[k] for r in rows]) for k in ("label", "start", "end") if k in rows[0]}
    return {k: v.to(device) for k, v in batch.items()}


@torch.no_grad()
def judge(
    model: Any, task: Task, rows: Sequence[dict[str, Any]], pad: int, size: int, world: World
) -> "Judged":
    """Losses, answers and the standard metrics over `rows`, which the processes of `world` share."""
    was, device = model.training, next(model.parameters()).device
    model.eval()
    spans: list[tuple[int, float, Any]] = []
    mine = range(world.rank, len(rows), world.size)
    for k in range(0, len(mine), size):
        members = list(mine[k : k + size])
        part = [rows[c] for c in members]
        loss, out = model(collate(part, pad, device))
        answers: list[Any] = [None] * len(part)
        if task.kind == "classify":
            answers = out.argmax(-1).tolist()
        if task.kind == "span":
            answers = [best_span(o, r) for o, r in zip(out.float().cpu().numpy(), part, strict=True)]
        spans += zip(members, loss.float().tolist(), answers, strict=True)
    model.train(was)
    every = sorted(world.gather(spans), key=lambda t: t[0])
    return Judged(task, rows, np.array([t[1] for t in every]), [t[2] for t in every])


class Judged:
    """What an evaluation found, of `n` examples. `scores` and `baseline` hold one number for each, of the
    metric `judged_by`, for `scores.learned`. The baseline is the constant answer that does best on these very
    examples."""

    def __init__(
        self, task: Task, rows: Sequence[dict[str, Any]], losses: np.ndarray, answers: list[Any]
    ) -> None:
        self.loss, self.losses = float(losses.mean()), losses
        self.metrics: dict[str, float] = {}
        if task.kind == "classify":
            truth = np.array([r["label"] for r in rows])
            self.metrics = classification(np.array(answers), truth)
            self.scores, self.judged_by = np.array(answers) == truth, "accuracy"
            self.baseline = best_constant([truth == label for label in np.unique(truth)])
        elif task.kind == "span":
            examples = {r["number"]: r["example"] for r in rows}
            best = best_answers([r["number"] for r in rows], answers)
            golds = [[text for _, text in e["answers"]] for e in examples.values()]
            said = [best[k] for k in examples]
            self.scores = np.array([overlap(a, g) for a, g in zip(said, golds, strict=True)])
            self.metrics = {"f1": float(self.scores.mean())}
            self.metrics["em"] = float(np.mean([exact(a, g) for a, g in zip(said, golds, strict=True)]))
            self.judged_by = "f1"
            usual = Counter(plain(g) for several in golds for g in several).most_common(20)
            always = [[overlap(a, g) for g in golds] for a in ("", *(answer for answer, _ in usual))]
            self.baseline = best_constant(always)
        else:
            self.metrics = {"perplexity": float(np.exp(min(self.loss, 50)))}
            self.scores, self.judged_by = -losses, "loss"
            self.baseline = np.full(len(losses), np.nan)
        self.n = len(self.scores)


def best_constant(scores: Sequence[Any]) -> np.ndarray:
    """Scores of that constant answer whose mean is highest; the first of equals."""
    each = np.array(scores, float)
    return each[each.mean(axis=1).argmax()]


def best_answers(numbers: Sequence[int], answers: Sequence["Span"]) -> dict[int, str]:
    """Example → its answer over all windows: the best span, or "" where the least score of no answer is
    higher (the rule of SQuAD v2's baselines)."""
    windows: dict[int, list[Span]] = {}
    for number, answer in zip(numbers, answers, strict=True):
        windows.setdefault(number, []).append(answer)
    out = {}
    for number, several in windows.items():
        best = max(several, key=lambda s: s.score)
        out[number] = best.text if best.score > min(s.none for s in several) else ""
    return out


class Span(NamedTuple):
    """The best span of a window: its text, its score (the sum of two logits), and the score of no answer."""

    text: str
    score: float
    none: float


def best_span(out: np.ndarray, row: dict[str, Any]) -> Span:
    """The best span inside the context of one window; out: logits [tokens, 2] of starts and ends."""
    offsets, shift = row["offsets"], len(row["example"]["question"]) + 1
    none = float(out[row["none"]].sum())
    inside = np.array([k for k, (a, b) in enumerate(offsets) if a >= shift and b > a], int)
    if not len(inside):
        return Span("", -np.inf, none)
    begin, end = out[inside, 0], out[inside, 1]
    length = np.arange(len(inside)) - np.arange(len(inside))[:, None]
    table = np.where((length >= 0) & (length < LONGEST_ANSWER), begin[:, None] + end, -np.inf)
    i, j = np.unravel_index(table.argmax(), table.shape)
    text = row["example"]["context"][offsets[inside[i]][0] - shift : offsets[inside[j]][1] - shift]
    return Span(text, float(table[i, j]), none)


def with_lora(model: Any, recipe: Recipe) -> Any:
    """The model with a fresh adapter on the recipe's targets; the base's weights are frozen."""
    from peft import LoraConfig, get_peft_model

    targets = (
        "all-linear" if recipe.targets == "all-linear" else [t.strip() for t in recipe.targets.split(",")]
    )
    names = [n.rsplit(".", 1)[-1] for n, _ in model.named_modules()]
    if targets != "all-linear" and (lost := [t for t in targets if t not in names]):
        raise TransectError(
            f"no module {lost[0]!r} to adapt.", f"There are: {', '.join(sorted({n for n in names if n}))}."
        )
    config = LoraConfig(
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        lora_dropout=recipe.dropout,
        target_modules=targets,
        fan_in_fan_out=any(type(m).__name__ == "Conv1D" for m in model.modules()),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed + 7)
        at = get_peft_model(model, config)
    at.peft_config["default"].base_model_name_or_path = recipe.model
    return at
