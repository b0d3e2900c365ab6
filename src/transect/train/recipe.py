"""Recipes: frozen descriptions of training runs, saved beside their results, and the presets named after
tasks.

A recipe decides everything that a run depends on but the machine; two runs of one recipe on one machine are
equal.
"""

import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any

from transect.errors import TransectError
from transect.files import read_json, write_json
from transect.work.options import Option, within

METHODS = ("lora", "full")
PRECISIONS = ("float32", "bfloat16")


def _fields(recipe: Any) -> dict[str, Any]:
    return asdict(recipe)


class Saved:
    """What every recipe can: be written, read, and told from another."""

    def save(self, path: Path, **more: Any) -> None:
        """Write as JSON, with versions and fingerprints in `more`."""
        write_json(path, _fields(self) | more)

    @classmethod
    def load(cls, path: Path) -> Any:
        """The recipe in a file; what else stands there is left out."""
        record = read_json(path, "run")
        known = {f.name for f in fields(cls)}  # type: ignore[arg-type]
        try:
            mine = {k: tuple(v) if isinstance(v, list) else v for k, v in record.items() if k in known}
            return cls(**mine)
        except TypeError as error:
            raise TransectError(f"{path}: not a recipe ({error}).") from error

    def differences(self, other: "Saved") -> list[str]:
        """Fields in which two recipes differ, as words."""
        mine, theirs = json.loads(json.dumps([_fields(self), _fields(other)]))
        return [f"{k} {mine[k]} / {theirs[k]}" for k in mine if mine[k] != theirs[k]]


@dataclass(frozen=True)
class Recipe(Saved):
    """One fine-tuning run. Fields with None are filled by `settled` from the method, the task and the steps.

    Args:
        model: Model spec.
        task: mrpc, rte, sst2, squad_v2 (or NAME@FILES), reviews, lm:TEXTS, or a file.
        method: What is trained: an adapter, or every weight.
        seed: Seed of head, adapter, batches and dropout.
        steps: Optimiser steps; by default the task's preset, else 200.
        batch: Examples in a batch.
        accumulate: Batches in a step.
        learning_rate: Of the body; by default 5e-4 for LoRA, 5e-5 for full.
        head_rate: Learning rate of the new head.
        warmup: Share of the steps, linear; then linear decay to 0.
        weight_decay: Of matrices.
        clip: Largest norm of the gradient.
        max_length: Cut examples at so many tokens.
        stride: Tokens that windows of a long context share, in span tasks.
        train_limit: Use so many training examples.
        eval_limit: Judge by so many examples.
        evaluate_every: Steps between evaluations; by default a quarter of the run.
        checkpoints: Steps to keep, like 10,20,50; the last one always is.
        patience: Stop after so many evaluations without a lower loss; 0 never does.
        rank: Rank of the adapter.
        alpha: Scale of the adapter: ΔW = alpha/rank · BA.
        dropout: On the adapter's input.
        targets: Modules to adapt, separated by commas, or all-linear.
        merge: Also save base and adapter as one model in DIR/merged.
        precision: Of the arithmetic.
        gradient_checkpointing: Less memory, a second forward pass.
    """

    model: str
    task: str
    method: Annotated[
        str, Option("lora", "What is trained: an adapter, or every weight.", choices=METHODS)
    ] = "lora"
    seed: int = 0
    steps: Annotated[int, within(1)] = 200
    batch: Annotated[int, within(1)] = 8
    accumulate: Annotated[int, within(1)] = 1
    learning_rate: Annotated[float | None, within(above=0, below=1)] = None
    head_rate: Annotated[float, within(above=0, below=1)] = 1e-3
    warmup: Annotated[float, within(0, below=1)] = 0.1
    weight_decay: Annotated[float, within(0)] = 0.01
    clip: Annotated[float, within(above=0)] = 1.0
    max_length: Annotated[int, within(1)] = 128
    stride: int = 64
    train_limit: int | None = None
    eval_limit: int | None = 400
    evaluate_every: int | None = None
    checkpoints: tuple[int, ...] = ()
    patience: int = 0
    rank: Annotated[int, within(1, 65_536)] = 8
    alpha: Annotated[int, within(1)] = 16
    dropout: Annotated[float, within(0, below=1)] = 0.0
    targets: str = "all-linear"
    merge: bool = False
    precision: Annotated[str, Option("float32", "Of the arithmetic.", choices=PRECISIONS)] = "float32"
    gradient_checkpointing: bool = False

    def settled(self) -> "Recipe":
        """Every field filled and checked; TransectError for one that cannot be."""
        if self.method not in METHODS:
            raise TransectError(f"method {self.method!r}.", f"There are {' and '.join(METHODS)}.")
        if self.precision not in PRECISIONS:
            raise TransectError(f"precision {self.precision!r}.", f"There are {' and '.join(PRECISIONS)}.")
        for name in ("steps", "batch", "accumulate", "rank", "alpha", "max_length"):
            if getattr(self, name) < 1:
                raise TransectError(f"{name} = {getattr(self, name)}.", "Take 1 or more.")
        rate = (
            self.learning_rate
            if self.learning_rate is not None
            else {"lora": 5e-4, "full": 5e-5}[self.method]
        )
        if not (0 < rate < 1 and 0 < self.head_rate < 1 and 0 <= self.warmup < 1 and 0 <= self.dropout < 1):
            raise TransectError(
                (
                    f"learning rates {rate:g} and {self.head_rate:g}, warmup {self.warmup:g}, dropout "
                    f"{self.dropout:g}."
                ),
                "Rates lie between 0 and 1, shares from 0 up to 1.",
            )
        if beyond := [k for k in self.checkpoints if not 1 <= k <= self.steps]:
            raise TransectError(
                f"checkpoint at step {beyond[0]} of {self.steps}.", "Choose steps of the run."
            )
        every = self.evaluate_every or max(1, self.steps // 4)
        return replace(
            self,
            learning_rate=rate,
            evaluate_every=every,
            checkpoints=tuple(sorted({*self.checkpoints, self.steps})),
        )


#: What a task asks for where the user says nothing. GLUE tasks follow Devlin et al. 2019 in length, SQuAD in
#: windows of 384
#: tokens that share 128.
PRESETS: dict[str, dict[str, Any]] = {
    "mrpc": {"steps": 690, "batch": 16, "max_length": 128},
    "rte": {"steps": 470, "batch": 16, "max_length": 256},
    "sst2": {"steps": 2000, "batch": 32, "max_length": 64},
    "squad_v2": {"steps": 4000, "batch": 16, "max_length": 384, "stride": 128},
    "reviews": {"steps": 160, "batch": 8, "max_length": 40},
}


def preset(model: str, task: str, **options: Any) -> Recipe:
    """The recipe of a task's preset with `given` in place of its own values; None means not given."""
    name = task.partition("@")[0]
    return Recipe(
        model, task, **(PRESETS.get(name, {}) | {k: v for k, v in options.items() if v is not None})
    )
