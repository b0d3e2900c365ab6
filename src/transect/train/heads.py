"""Heads: a model's last hidden states → classes, spans or next tokens; batches that fit them, and answers from them.

The model keeps its own language-model head untouched, so that what is saved opens like any other model.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from transect.errors import TransectError
from transect.models import Model
from transect.train.recipe import Recipe
from transect.train.scores import classification, exact, overlap
from transect.train.tasks import Example, Task

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
        given = {"input_ids": batch["ids"], "attention_mask": batch["mask"]}
        if self.head is None:
            logits = self.inner(**given).logits[:, :-1].float()
            targets = batch["ids"][:, 1:].masked_fill(batch["mask"][:, 1:] == 0, IGNORED)
            loss = nn.functional.cross_entropy(logits.mT, targets, ignore_index=IGNORED, reduction="none")
            return loss.sum(1) / (targets != IGNORED).sum(1).clamp(min=1), logits[:, :0]
        states = self.body(**given).last_hidden_state
        if self.kind == "classify":
            last = torch.zeros_like(batch["mask"][:, 0]) if self.first else batch["mask"].sum(1) - 1
            out = self.head(states[torch.arange(len(states)), last]).float()
            return nn.functional.cross_entropy(out, batch["label"], reduction="none"), out
        out = self.head(states).float().masked_fill(batch["mask"][..., None] == 0, -1e9)
        begin, end = out.unbind(-1)
        each = [nn.functional.cross_entropy(o, batch[k], reduction="none") for o, k in ((begin, "start"), (end, "end"))]
        return (each[0] + each[1]) / 2, out


def encode(
    task: Task, examples: Sequence[Example], tokenizer: Any, max_length: int, first: bool
) -> list[dict[str, Any]]:
    """Token ids of every example with its label or span. No answer, or one cut off by `max_length`, is a span at the
    first token of an encoder and at the last of a decoder, which alone has read the question."""
    texts = [_joined(task, e) for e in examples]
    made = tokenizer(texts, truncation=True, max_length=max_length, return_offsets_mapping=True)
    out = []
    for example, ids, offsets in zip(examples, made["input_ids"], made["offset_mapping"], strict=True):
        if len(ids) < 2:
            raise TransectError(f"task {task.name}: an example has {len(ids)} tokens: {_joined(task, example)[:60]!r}.")
        row: dict[str, Any] = {"ids": ids, "example": example}
        if task.kind == "classify":
            row["label"] = example["label"]
        if task.kind == "span":
            row["offsets"] = offsets
            row["none"] = 0 if first else len(ids) - 1
            row["start"], row["end"] = _tokens_of(example, offsets, row["none"])
        out.append(row)
    return out


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
def judge(model: Any, task: Task, rows: Sequence[dict[str, Any]], pad: int, device: Any, size: int) -> "Judged":
    """Losses, answers and the standard metrics over `rows`."""
    was = model.training
    model.eval()
    losses, answers = [], []
    for k in range(0, len(rows), size):
        part = rows[k : k + size]
        loss, out = model(collate(part, pad, device))
        losses.append(loss.float().cpu().numpy())
        if task.kind == "classify":
            answers += out.argmax(-1).tolist()
        if task.kind == "span":
            answers += [best_span(o, r) for o, r in zip(out.cpu().numpy(), part, strict=True)]
    model.train(was)
    return Judged(task, rows, np.concatenate(losses), answers)


class Judged:
    """What an evaluation found. `scores` and `baseline` hold one number for each example, for `scores.learned`."""

    def __init__(self, task: Task, rows: Sequence[dict[str, Any]], losses: np.ndarray, answers: list[Any]) -> None:
        self.loss, self.losses = float(losses.mean()), losses
        self.metrics: dict[str, float] = {}
        if task.kind == "classify":
            truth = np.array([r["label"] for r in rows])
            self.metrics = classification(np.array(answers), truth)
            most = np.bincount([e["label"] for e in task.train]).argmax()
            self.scores, self.baseline = np.array(answers) == truth, truth == most
        elif task.kind == "span":
            golds = [[text for _, text in r["example"]["answers"]] for r in rows]
            self.scores = np.array([overlap(a, g) for a, g in zip(answers, golds, strict=True)])
            self.metrics = {"f1": float(self.scores.mean())}
            self.metrics["em"] = float(np.mean([exact(a, g) for a, g in zip(answers, golds, strict=True)]))
            self.baseline = np.array([overlap("", g) for g in golds])
        else:
            self.metrics = {"perplexity": float(np.exp(min(self.loss, 50)))}
            self.scores, self.baseline = -losses, np.full(len(losses), np.nan)


def best_span(out: np.ndarray, row: dict[str, Any]) -> str:
    """The answer's text: the best span inside the context, or "" where the place of no answer scores higher."""
    offsets, shift = row["offsets"], len(row["example"]["question"]) + 1
    inside = np.array([k for k, (a, b) in enumerate(offsets) if a >= shift and b > a], int)
    if not len(inside):
        return ""
    begin, end = out[inside, 0], out[inside, 1]
    length = np.arange(len(inside)) - np.arange(len(inside))[:, None]
    table = np.where((length >= 0) & (length < LONGEST_ANSWER), begin[:, None] + end, -np.inf)
    i, j = np.unravel_index(table.argmax(), table.shape)
    if table[i, j] <= out[row["none"]].sum():
        return ""
    return row["example"]["context"][offsets[inside[i]][0] - shift : offsets[inside[j]][1] - shift]


def with_lora(model: Any, recipe: Recipe) -> Any:
    """The model with a fresh adapter on the recipe's targets; the base's weights are frozen."""
    from peft import LoraConfig, get_peft_model

    targets = "all-linear" if recipe.targets == "all-linear" else [t.strip() for t in recipe.targets.split(",")]
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
        made = get_peft_model(model, config)
    made.peft_config["default"].base_model_name_or_path = recipe.model
    return made
