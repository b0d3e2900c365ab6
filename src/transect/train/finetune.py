"""Fine-tuning: a Recipe → checkpoints that open like any model, with their scores. One loop, both methods, on
accelerate: one process, or as many as `accelerate launch` or torchrun start, which share every batch.

    DIR/recipe.json            the recipe, fingerprints, versions
    DIR/metrics.csv            a row for each evaluation: step, losses, metrics, learning rate
    DIR/checkpoint-00040/      weights (or adapter), head, scores at that step
    DIR/                       the same at the end, and result.json

Batches and dropout follow from seed and step alone, so that a resumed run ends where an unbroken one does.
"""

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from transect import __version__
from transect.errors import TransectError
from transect.files import make_folder, write_json, writing
from transect.models.checkpoints import peft_at_work
from transect.models.models import Model, open_model
from transect.random import rng
from transect.train.recipe import Recipe
from transect.train.scores import learned
from transect.train.state import (
    check_folder,
    kept,
    load_state,
    quiet,
    restore,
    save_state,
    whole,
    write_log,
    write_result,
)
from transect.train.tasks import Task, mixed, open_task

Progress = Callable[[int, int], None]


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
    world = _processes(device)
    if recipe.batch % world.num_processes:
        raise TransectError(
            f"batches of {recipe.batch} do not divide into {world.num_processes} processes.",
            "Choose a multiple.",
        )
    opened = open_model(recipe.model, device=str(world.device) if world.num_processes > 1 else device)
    with quiet(), peft_at_work():
        _Run(recipe, task, opened, out, world).train(progress)
    return out


def _processes(device: str | None) -> Any:
    """The processes of this run. Precision stays with the recipe: accelerate takes one for the life of a
    process."""
    import torch
    from accelerate import Accelerator
    from accelerate.utils import DistributedDataParallelKwargs

    unused = DistributedDataParallelKwargs(
        find_unused_parameters=True
    )  # a task's head leaves the model's own idle
    return Accelerator(cpu=device == "cpu" or not torch.cuda.is_available(), kwargs_handlers=[unused])


class _Run:
    """Model, data and optimiser of one run."""

    def __init__(self, recipe: Recipe, task: Task, opened: Model, out: Path, world: Any) -> None:
        import torch

        from transect.train.heads import Tuned, encode, with_lora

        self.recipe, self.task, self.out, self.opened, self.world = recipe, task, out, opened, world
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
        self.rows = encode(task, mixed(task.train, recipe.train_limit), words, *cut, first)
        self.held = encode(task, mixed(task.validation, recipe.eval_limit), words, *cut, first)
        self.trained = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        self.optimiser, self.schedule = self._optimiser()
        self.shared = world.prepare(self.model) if world.num_processes > 1 else self.model
        self.before: Any = None
        self.best: dict[str, Any] = {}  # trained weights at the lowest loss, kept while patience is asked for
        self.log: list[dict[str, Any]] = []

    def _optimiser(self) -> tuple[Any, Any]:
        import torch

        r = self.recipe
        body = [(n, p) for n, p in self.trained.items() if not n.startswith("head.")]
        groups = [
            {
                "params": [p for _, p in body if p.ndim > 1],
                "weight_decay": r.weight_decay,
                "lr": r.learning_rate,
            },
            {"params": [p for _, p in body if p.ndim <= 1], "weight_decay": 0.0, "lr": r.learning_rate},
            {
                "params": [p for n, p in self.trained.items() if n.startswith("head.")],
                "weight_decay": 0.0,
                "lr": r.head_rate,
            },
        ]
        optimiser = torch.optim.AdamW([g for g in groups if g["params"]])
        up = max(1, round(r.warmup * r.steps))

        def shape(step: int) -> float:
            return (step + 1) / up if step < up else max(0.0, (r.steps - step) / max(1, r.steps - up))

        return optimiser, torch.optim.lr_scheduler.LambdaLR(optimiser, shape)

    def train(self, progress: Progress | None) -> None:
        """Steps, evaluations, checkpoints, and the result."""
        with writing(self.out):
            make_folder(self.out)
        step = self._resume()
        if not step and self.world.is_main_process:
            self.recipe.save(self.out / "recipe.json", **self.provenance)
        begun, sums = time.time(), []
        judged = self._evaluate(0, sums) if not step else None
        self.model.train()
        while step < self.recipe.steps and not self._stale():
            sums.append(self._step(step))
            step += 1
            if progress and self.world.is_main_process:
                progress(step, self.recipe.steps)
            if step % int(self.recipe.evaluate_every or 1) == 0 or step in self.recipe.checkpoints:
                judged, sums = self._evaluate(step, sums), []
                if self.recipe.patience and judged.loss <= min(r["loss"] for r in self.log):
                    self.best = {n: p.detach().clone() for n, p in self.trained.items()}
                if step in self.recipe.checkpoints and step < self.recipe.steps:
                    self._checkpoint(step)
        self._finish(step, judged, time.time() - begun)

    def _stale(self) -> bool:
        """Whether the loss has not fallen for `patience` evaluations."""
        losses = [r["loss"] for r in self.log]
        return bool(self.recipe.patience) and len(losses) - 1 - int(np.argmin(losses)) >= self.recipe.patience

    def _step(self, step: int) -> float:
        """One optimiser step over `accumulate` batches; seed and step decide batches and dropout."""
        import torch

        from transect.train.heads import collate

        r, w, total = self.recipe, self.world, 0.0
        torch.manual_seed((r.seed * 1_000_003 + step) * w.num_processes + w.process_index)
        for part in range(r.accumulate):
            chosen = self._batch(step * r.accumulate + part)[w.process_index :: w.num_processes]
            with self._precision():
                loss = self.shared(collate(chosen, self.pad, self.opened.device))[0].mean() / r.accumulate
            told = float(w.reduce(loss.detach(), "mean"))
            if not np.isfinite(told):
                raise TransectError(
                    f"{self.out}: the loss is {told} at step {step + 1}.",
                    (
                        f"Kept: {kept(self.out)}. Lower the learning rate (now {r.learning_rate:g}), into "
                        "another --out."
                    ),
                )
            w.backward(loss)
            total += told
        torch.nn.utils.clip_grad_norm_(list(self.trained.values()), r.clip)
        self.optimiser.step()
        self.schedule.step()
        self.optimiser.zero_grad(set_to_none=True)
        return total

    def _precision(self) -> Any:
        """Arithmetic in bfloat16 where the recipe says so; weights and optimiser stay in float32."""
        import torch

        lean = self.recipe.precision == "bfloat16"
        return torch.autocast(self.opened.device.type, dtype=torch.bfloat16, enabled=lean)

    def _batch(self, k: int) -> list[dict[str, Any]]:
        """The k-th batch: every epoch is a permutation by seed and epoch."""
        n, size = len(self.rows), min(self.recipe.batch, len(self.rows))
        wanted = range(k * size, (k + 1) * size)
        orders = {e: rng(self.recipe.seed, "epoch", e).permutation(n) for e in {w // n for w in wanted}}
        return [self.rows[int(orders[w // n][w % n])] for w in wanted]

    def _evaluate(self, step: int, sums: list[float], keep: bool = False) -> Any:
        from transect.train.heads import judge

        with self._precision():
            judged = judge(self.model, self.task, self.held, self.pad, 2 * self.recipe.batch, self.world)
        if keep:
            return judged
        if self.before is None:
            self.before = judged.losses
        row = {"step": step, "train_loss": float(np.mean(sums)) if sums else None, "loss": judged.loss}
        row |= judged.metrics | {"learning_rate": self.schedule.get_last_lr()[0]}
        self.log = [r for r in self.log if r["step"] < step] + [row]
        if self.world.is_main_process:
            write_log(self.out, self.log)
        return judged

    # files

    def _save(self, folder: Path, step: int) -> None:
        """Weights or adapter with head and tokenizer, whole or not at all."""
        from safetensors.torch import save_file

        inner = self.opened.model
        with whole(folder, into=folder == self.out) as partial:
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

    def _checkpoint(self, step: int) -> None:
        """Weights to look at, and what the run needs to go on."""
        import torch

        if self.world.is_main_process:
            self._save(self.out / f"checkpoint-{step:05d}", step)
            save_state(
                self.out,
                step,
                self.log,
                best=self.best,
                trained={n: p.detach() for n, p in self.trained.items()},
                before=torch.tensor(self.before),
                optimiser=self.optimiser.state_dict(),
            )
        self.world.wait_for_everyone()

    def _resume(self) -> int:
        state = load_state(self.out, self.opened.device)
        if state is None:
            return 0
        restore(self.trained, self.optimiser, self.schedule, state)
        self.best = state.get("best", {})
        self.log, self.before = state["log"], state["before"].cpu().numpy()
        return state["step"]

    def _finish(self, step: int, judged: Any, seconds: float) -> None:
        import torch

        if self.best:
            with torch.no_grad():
                for name, parameter in self.trained.items():
                    parameter.copy_(self.best[name])
            step = min(self.log, key=lambda r: r["loss"])["step"]
        if self.best or judged is None:  # the weights are not those of the last evaluation
            judged = self._evaluate(step, [], keep=True)
        if self.world.is_main_process:
            self._write_result(step, judged, seconds)
        self.world.wait_for_everyone()

    def _write_result(self, step: int, judged: Any, seconds: float) -> None:
        """The end of the run, and whether it learned."""
        self._save(self.out, step)
        baseline = -self.before if self.task.kind == "lm" else judged.baseline
        good, gap, error = learned(judged.scores, baseline)
        if self.recipe.merge and self.recipe.method == "lora":
            with whole(self.out / "merged") as partial:
                self.opened.model.merge_and_unload().save_pretrained(str(partial))
                self.opened.tokenizer.save_pretrained(str(partial))
        final = next(r for r in self.log if r["step"] == step)
        told = {"task": self.task.name, "kind": self.task.kind, "headline": self.task.headline, "step": step}
        told |= {
            "metrics": {k: v for k, v in final.items() if k not in ("step", "train_loss")},
            "n": judged.n,
        }
        told |= {"learned": good, "over_baseline": gap, "over_baseline_error": error}
        told |= {"judged_by": judged.judged_by, "baseline": float(np.mean(baseline))}
        told |= {"judged": float(np.mean(judged.scores)), "processes": self.world.num_processes}
        told |= {
            "seconds": round(seconds, 1),
            "trained_parameters": sum(p.numel() for p in self.trained.values()),
        }
        write_result(self.out, told | {"recipe": asdict(self.recipe)} | self.provenance)
