"""Fine-tuning: a Recipe → checkpoints that open like any model, with their scores; LoRA and full in one loop.

The loop and its files stand in loop.py: one process, or as many as torchrun or `accelerate launch` start. A
checkpoint holds weights or adapter, the head and its scores.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from transect import __version__
from transect.errors import TransectError
from transect.files import write_json
from transect.models.checkpoints import peft_at_work
from transect.models.models import Model, open_model
from transect.train.loop import Loop, Progress, optimiser_of, silent
from transect.train.recipe import Recipe
from transect.train.scores import learned
from transect.train.state import check_folder, checkpoint_at, quiet, write_result
from transect.train.tasks import Task, mixed, open_task
from transect.train.world import World, joined


def finetune(
    recipe: Recipe, out: str | Path, *, device: str | None = None, progress: Progress | None = None
) -> Path:
    """Train as the recipe says and write everything to `out`; a finished run is left alone, an unfinished one
    resumes.

    Returns the folder. TransectError when the folder holds something else, when labels or model do not fit
    the task, or when the loss stops being finite: the checkpoints written before stay.
    """
    recipe, out = recipe.settled(), Path(out)
    if check_folder(recipe, out):
        return out
    task = open_task(recipe.task)
    with quiet(), peft_at_work(), joined(device) as world:
        if recipe.batch % world.size:
            raise TransectError(
                f"batches of {recipe.batch} do not divide into {world.size} processes.", "Choose a multiple."
            )
        opened = open_model(recipe.model, device=world.device if world.size > 1 else device)
        said = progress if progress and world.rank == 0 else silent
        _Run(recipe, task, opened, out, world).train(said)
    return out


class _Run(Loop):
    """A model with its task's head, and the examples."""

    keeps_last = False  # the model in DIR is it

    def __init__(self, recipe: Recipe, task: Task, opened: Model, out: Path, world: World) -> None:
        import torch

        from transect.train.heads import Tuned, encode, with_lora

        super().__init__(recipe, out, world, opened.device)
        self.task, self.opened = task, opened
        self.provenance = {
            "transect": __version__,
            "torch": torch.__version__,
            "task_fingerprint": task.fingerprint,
        }
        self.provenance["model_fingerprint"] = {k: v for k, v in opened.fingerprint.items() if k != "source"}
        if recipe.method == "lora":
            opened.model = with_lora(opened.model, recipe)
        if recipe.gradient_checkpointing:
            lean = (
                getattr(opened.model, "activation_checkpointing_enable", None)
                or opened.model.gradient_checkpointing_enable
            )
            lean({"use_reentrant": False})
        self.model = Tuned(opened, task, recipe.seed)
        self.model.to(opened.device)
        words, first = opened.tokenizer, opened.kind == "encoder"
        self.pad = int(words.pad_token_id or 0)
        cut = (recipe.max_length, recipe.stride)
        self.examples = encode(task, mixed(task.train, recipe.train_limit), words, *cut, first)
        self.held = encode(task, mixed(task.validation, recipe.eval_limit), words, *cut, first)
        self.rows, self.size = len(self.examples), min(recipe.batch, len(self.examples))
        self.trained = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        self.optimiser, self.schedule = self._optimiser()
        self.forward = world.shared(self.model, unused=True)  # a task's head leaves the model's own idle
        self.judged: Any = None
        self.before: Any = None
        self.best: dict[str, Any] = {}  # trained weights at the lowest loss, kept while patience is asked for

    def _optimiser(self) -> tuple[Any, Any]:
        r = self.recipe
        body = [(n, p) for n, p in self.trained.items() if not n.startswith("head.")]
        groups = [
            {
                "params": [p for _, p in body if p.ndim > 1],
                "weight_decay": r.weight_decay,
            },
            {"params": [p for _, p in body if p.ndim <= 1], "weight_decay": 0.0},
            {
                "params": [p for n, p in self.trained.items() if n.startswith("head.")],
                "weight_decay": 0.0,
                "lr": r.head_rate,
            },
        ]
        up = max(1, round(r.warmup * r.steps))

        def shape(step: int) -> float:
            return (step + 1) / up if step < up else max(0.0, (r.steps - step) / max(1, r.steps - up))

        return optimiser_of(groups, r.learning_rate, shape, (0.9, 0.999))

    def _begin(self) -> None:
        if self.world.rank == 0:
            self.recipe.save(self.out / "recipe.json", **self.provenance)
        self._evaluate(0)

    def _ended(self) -> bool:
        """Whether the loss has not fallen for `patience` evaluations."""
        losses = [r["loss"] for r in self.log]
        return bool(self.recipe.patience) and len(losses) - 1 - int(np.argmin(losses)) >= self.recipe.patience

    def _loss(self, rows: list[int]) -> Any:
        from transect.train.heads import collate

        return self.forward(collate([self.examples[k] for k in rows], self.pad, self.device))[0].mean()

    def _judged(self) -> Any:
        from transect.train.heads import judge

        with self._precision():
            return judge(self.model, self.task, self.held, self.pad, 2 * self.recipe.batch, self.world)

    def _judge(self, step: int) -> dict[str, Any]:
        self.judged = self._judged()
        if self.before is None:
            self.before = self.judged.losses
        best = min((r["loss"] for r in self.log), default=np.inf)
        if step and self.recipe.patience and self.judged.loss <= best:
            self.best = {n: p.detach().clone() for n, p in self.trained.items()}
        row = {"loss": self.judged.loss} | self.judged.metrics
        return row | {"learning_rate": self.schedule.get_last_lr()[0]}

    # files

    def _save(self, folder: Path, step: int) -> None:
        """Weights or adapter with head and tokenizer, whole or not at all."""
        from safetensors.torch import save_file

        inner = self.opened.model
        with checkpoint_at(folder, into=folder == self.out) as partial:
            if self.recipe.method == "lora":
                inner.save_pretrained(str(partial), save_embedding_layers=False)
            else:
                inner.save_pretrained(str(partial))
                self.opened.tokenizer.save_pretrained(str(partial))
            if self.model.head is not None:
                state = {k: v.detach().cpu().contiguous() for k, v in self.model.head.state_dict().items()}
                save_file(state, str(partial / "head.safetensors"))
            write_json(
                partial / "scores.json", {"step": step} | next((r for r in self.log if r["step"] == step), {})
            )

    def _more_state(self) -> dict[str, Any]:
        import torch

        return {"best": self.best, "before": torch.tensor(self.before)}

    def _restore(self, state: dict[str, Any]) -> None:
        super()._restore(state)
        self.best, self.before = state.get("best", {}), state["before"].cpu().numpy()

    def _finish(self, step: int, seconds: float, progress: Progress) -> None:
        import torch

        judged = self.judged
        if self.best:
            with torch.no_grad():
                for name, parameter in self.trained.items():
                    parameter.copy_(self.best[name])
            step = min(self.log, key=lambda r: r["loss"])["step"]
        if self.best or judged is None:  # the weights are not those of the last evaluation
            judged = self._judged()
        if self.world.rank == 0:
            self._write_result(step, judged, seconds)
        self.world.meet()

    def _write_result(self, step: int, judged: Any, seconds: float) -> None:
        """The end of the run, and whether it learned."""
        self._save(self.out, step)
        baseline = -self.before if self.task.kind == "lm" else judged.baseline
        good, gap, error = learned(judged.scores, baseline)
        if self.recipe.merge and self.recipe.method == "lora":
            with checkpoint_at(self.out / "merged") as partial:
                self.opened.model.merge_and_unload().save_pretrained(str(partial))
                self.opened.tokenizer.save_pretrained(str(partial))
        final = next(r for r in self.log if r["step"] == step)
        result = {
            "task": self.task.name,
            "kind": self.task.kind,
            "headline": self.task.headline,
            "step": step,
        }
        result |= {
            "metrics": {k: v for k, v in final.items() if k not in ("step", "train_loss")},
            "n": judged.n,
        }
        result |= {"learned": good, "over_baseline": gap, "over_baseline_error": error}
        result |= {"judged_by": judged.judged_by, "baseline": float(np.mean(baseline))}
        result |= {"judged": float(np.mean(judged.scores)), "processes": self.world.size}
        result |= {
            "seconds": round(seconds, 1),
            "trained_parameters": sum(p.numel() for p in self.trained.values()),
        }
        write_result(self.out, result | {"recipe": asdict(self.recipe)} | self.provenance)
