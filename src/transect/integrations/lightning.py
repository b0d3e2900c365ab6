"""A callback of Lightning: the same looks as with transformers' Trainer, through Lightning's loggers."""

from pathlib import Path
from typing import Any

from transect.errors import TransectError
from transect.integrations.watch import Watch

try:
    from lightning.pytorch import Callback  # pyright: ignore[reportMissingImports]
except ImportError as error:
    raise TransectError("Lightning is not installed.", "pip install 'transect[lightning]'") from error


class LightningCallback(Callback):
    """Captures fixed texts at chosen steps and logs chosen measures with their intervals.

    >>> L.Trainer(callbacks=[LightningCallback("reviews:60", "runs/watch", tokenizer=tokenizer)])

    Args:
        texts: Texts, or a spec that `open_texts` takes.
        out: Folder for the stores; `transect evolve OUT` reads them.
        tokenizer: The model's own.
        attribute: Where the module keeps its transformers model.
        **options: `Watch`: steps, measures, layers, capture, design.

    Raises: TransectError as training begins, for a model without blocks, and one whose weights are sharded.
    """

    def __init__(
        self, texts: Any, out: str | Path, *, tokenizer: Any, attribute: str = "model", **options: Any
    ) -> None:
        self.watch, self.tokenizer, self.attribute = Watch(texts, out, **options), tokenizer, attribute

    def _model(self, module: Any) -> Any:
        model = getattr(module, self.attribute, None)
        if not hasattr(model, "config"):
            raise TransectError(
                f"{type(module).__name__} has no transformers model at .{self.attribute}.",
                "Give attribute=NAME.",
            )
        return model

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Refuse what cannot be looked at; look before the first step."""
        self.watch.begin(self._model(pl_module))
        self._look(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look where a look is due."""
        if self.watch.due(trainer.global_step):
            self._look(trainer, pl_module)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Look once more where the last step was not looked at."""
        self._look(trainer, pl_module)

    def _look(self, trainer: Any, pl_module: Any) -> None:
        if not trainer.is_global_zero:
            return
        values = self.watch.look(self._model(pl_module), self.tokenizer, trainer.global_step)
        for logger in trainer.loggers if values else []:
            logger.log_metrics(values, step=trainer.global_step)
