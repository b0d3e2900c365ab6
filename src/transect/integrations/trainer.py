"""A callback of transformers' Trainer: looks at fixed texts while the model is trained, and logs through the
trainer itself, so that TensorBoard, trackio, W&B and MLflow show its numbers without knowing of it."""

import sys
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainerCallback

from transect.errors import TransectError
from transect.integrations.watch import Watch


class TransectCallback(TrainerCallback):
    """Captures fixed texts at chosen steps and logs chosen measures with their intervals.

    >>> Trainer(model, args, train_dataset=data, callbacks=[TransectCallback("reviews:60", out="runs/watch")])

    Args:
        texts: Texts, or a spec that `open_texts` takes.
        out: Folder for the stores; `transect evolve OUT` reads them.
        tokenizer: By default the trainer's processing_class.
        **options: `Watch`: steps, measures, layers, capture, design.

    Raises: TransectError as training begins, for a model without blocks, and one whose weights are sharded.
    """

    def __init__(self, texts: Any, out: str | Path, *, tokenizer: Any = None, **options: Any) -> None:
        self.watch, self.tokenizer = Watch(texts, out, **options), tokenizer
        self.trainer: Trainer | None = None

    def attach(self, trainer: Trainer) -> "TransectCallback":
        """Join a trainer that is there already; returns this callback."""
        self.trainer = trainer
        trainer.add_callback(self)
        return self

    def on_train_begin(self, args: Any, state: Any, control: Any, **context: Any) -> None:
        """Refuse what cannot be looked at; look before the first step."""
        self.trainer = self.trainer or _caller(self)
        self.watch.begin(context["model"])
        if state.global_step == 0:
            self._look(state, context, 0)

    def on_step_end(self, args: Any, state: Any, control: Any, **context: Any) -> None:
        """Look where a look is due."""
        if self.watch.due(state.global_step):
            self._look(state, context, state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **context: Any) -> None:
        """Look once more where the last step was not looked at."""
        self._look(state, context, state.global_step)

    def _look(self, state: Any, context: dict[str, Any], step: int) -> None:
        if not state.is_world_process_zero or self.trainer is None:
            return
        tokenizer = self.tokenizer or context.get("processing_class")
        if values := self.watch.look(context["model"], tokenizer, step):
            self.trainer.log(values)


def _caller(callback: TrainerCallback) -> Trainer:
    """The trainer that calls this callback: transformers hands it to none, and only it can log."""
    frame = sys._getframe(1)
    while frame is not None:
        one = frame.f_locals.get("self")
        if isinstance(one, Trainer) and callback in one.callback_handler.callbacks:
            return one
        frame = frame.f_back
    raise TransectError("TransectCallback was not called by a trainer.", "Use callback.attach(trainer).")
