"""The loop of every training run: steps, evaluations, checkpoints, exact resume; one process or several.

    DIR/recipe.json            the recipe, versions, fingerprints
    DIR/metrics.csv            a row for each evaluation; DIR/steps.csv: a row for each step
    DIR/checkpoint-00040/      model or adapter and scores at that step; DIR/state.pt: what the run needs to
    go on
    DIR/                       the same at the end, and result.json

Batches and dropout follow from seed and step alone, so that a resumed run is the unbroken one, bit for bit.
Under torchrun every process takes its share of each batch. A run is a subclass that gives the loss of a
batch, judges the model and writes it.
"""

import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from transect.errors import TransectError
from transect.files import make_folder, writing
from transect.random import rng
from transect.train.state import kept, load_state, restore, save_state, write_log, write_rows
from transect.train.world import World

#: Called with the stage, how much of it is done, of how much, and what there is to say.
Progress = Callable[[str, int, int, str], None]
#: Columns of steps.csv.
STEP = ("step", "loss", "gradient_norm", "learning_rate")


def silent(stage: str, done: int, total: int, said: str) -> None:
    """Progress that nobody sees."""


def optimiser_of(
    groups: Sequence[dict[str, Any]], rate: float, shape: Callable[[int], float], betas: tuple[float, float]
) -> tuple[Any, Any]:
    """(AdamW, its schedule): groups of parameters at `rate`, or at their own `lr`, times shape(step)."""
    import torch

    optimiser = torch.optim.AdamW([g for g in groups if g["params"]], lr=rate, betas=betas, fused=True)
    return optimiser, torch.optim.lr_scheduler.LambdaLR(optimiser, shape)


class Loop(ABC):
    """Model, data and optimiser of one run, as one process sees it.

    A subclass sets model, forward (the model as the processes share it), trained (the parameters by name),
    optimiser, schedule, rows (how many there are to train on) and size (of a batch), and gives what stands
    under "what a kind of run gives".
    """

    model: Any
    forward: Any
    trained: dict[str, Any]
    optimiser: Any
    schedule: Any
    rows: int
    size: int
    #: Whether the last step is kept as a checkpoint too, beside the model in DIR.
    keeps_last = True

    def __init__(self, recipe: Any, out: Path, world: World, device: Any) -> None:
        self.recipe, self.out, self.world, self.device = recipe, out, world, str(device)
        self.log: list[dict[str, Any]] = []
        self.steps: list[dict[str, Any]] = []

    def train(self, progress: Progress) -> None:
        """Steps, evaluations, checkpoints, and the result."""
        r, begun = self.recipe, time.time()
        with writing(self.out):
            make_folder(self.out)
        self.world.meet()
        step = self._resume()
        if not step:
            self._begin()
        self.model.train()
        while step < r.steps and not self._ended():
            self.steps.append(self._step(step))
            step += 1
            last = self.steps[-1]
            progress("training", step, r.steps, f"loss {last['loss']:.3f}, rate {last['learning_rate']:.2g}")
            if step % r.evaluate_every == 0 or step in r.checkpoints:
                self._evaluate(step)
                if step in r.checkpoints and (self.keeps_last or step < r.steps):
                    self._checkpoint(step)
        self._finish(step, time.time() - begun, progress)

    # what a kind of run gives

    @abstractmethod
    def _begin(self) -> None:
        """Write the recipe and judge the model before the first step."""

    @abstractmethod
    def _loss(self, rows: list[int]) -> Any:
        """The mean loss of these training rows, a scalar tensor."""

    @abstractmethod
    def _judge(self, step: int) -> dict[str, Any]:
        """The scores of an evaluation, `loss` among them."""

    @abstractmethod
    def _save(self, folder: Path, step: int) -> None:
        """Write the model with the scores of that step, whole or not at all."""

    @abstractmethod
    def _finish(self, step: int, seconds: float, progress: Progress) -> None:
        """Judge the last model and write result.json."""

    def _where(self, rows: list[int]) -> str:
        """Where numbers stopped being finite, in words; "" where nobody looks."""
        return ""

    def _ended(self) -> bool:
        """Whether the run ends before its last step."""
        return False

    def _more_state(self) -> dict[str, Any]:
        """What state.pt holds beside weights, moments and logs."""
        return {}

    # steps

    def _step(self, step: int) -> dict[str, Any]:
        """One optimiser step over `accumulate` batches: loss, norm of the gradient before clipping, learning
        rate."""
        import torch

        r, total = self.recipe, torch.zeros((), device=self.device)
        rate, rows = self.schedule.get_last_lr()[0], list[int]()
        torch.manual_seed((r.seed * 1_000_003 + step) * self.world.size + self.world.rank)
        for part in range(r.accumulate):
            apart = self.world.size > 1 and part < r.accumulate - 1
            rows = self._batch(step * r.accumulate + part)
            with self.forward.no_sync() if apart else contextlib.nullcontext():
                with self._precision():
                    loss = self._loss(rows) / r.accumulate
                loss.backward()
            total += loss.detach()
        norm = torch.nn.utils.clip_grad_norm_(list(self.trained.values()), r.clip)
        loss_value, norm_value = float(self.world.mean(total)), float(norm)
        if not np.isfinite([loss_value, norm_value]).all():
            self._stop(step, loss_value, norm_value, rows)
        self.optimiser.step()
        self.schedule.step()
        self.optimiser.zero_grad(set_to_none=True)
        return dict(zip(STEP, (step + 1, loss_value, norm_value, rate), strict=True))

    def _stop(self, step: int, loss: float, norm: float, rows: list[int]) -> None:
        where = self._where(rows)
        raise TransectError(
            f"{self.out}: step {step + 1}: the loss is {loss:g}, the gradient's norm {norm:g}"
            f"{'; ' if where else ''}{where}.",
            f"Kept: {kept(self.out)}. Lower the learning rate (now {self.recipe.learning_rate:g}), into "
            "another --out.",
        )

    def _precision(self) -> Any:
        """Arithmetic in bfloat16 where the recipe says so; weights and optimiser stay in float32."""
        import torch

        lean = self.recipe.precision == "bfloat16"
        return torch.autocast(self.device.split(":")[0], dtype=torch.bfloat16, enabled=lean)

    def _batch(self, k: int) -> list[int]:
        """This process's rows of the k-th batch: every epoch is a permutation by seed and epoch."""
        n, size = self.rows, self.size
        wanted = range(k * size, (k + 1) * size)
        orders = {e: rng(self.recipe.seed, "epoch", e).permutation(n) for e in {w // n for w in wanted}}
        return [int(orders[w // n][w % n]) for w in wanted][self.world.rank :: self.world.size]

    def _evaluate(self, step: int) -> None:
        since = max((row["step"] for row in self.log), default=0)
        losses = [row["loss"] for row in self.steps if row["step"] > since]
        row = {"step": step, "train_loss": float(np.mean(losses)) if losses else None}
        row |= self._judge(step)
        self.log.append(row)
        if self.world.rank == 0:
            write_log(self.out, self.log)
            if self.steps:
                write_rows(self.out / "steps.csv", self.steps)

    # files

    def _checkpoint(self, step: int) -> None:
        """Weights to look at, and what the run needs to go on."""
        if self.world.rank == 0:
            self._save(self.out / f"checkpoint-{step:05d}", step)
            record: dict[str, Any] = {"rows": [[*row.values()] for row in self.steps]}
            record |= {"trained": {n: p.detach() for n, p in self.trained.items()}}
            record |= {"optimiser": self.optimiser.state_dict()} | self._more_state()
            save_state(self.out, step, self.log, **record)
        self.world.meet()

    def _resume(self) -> int:
        """The step to go on from; 0 for a run that has not begun."""
        state = load_state(self.out, self.device)
        if state is None:
            return 0
        self._restore(state)
        return state["step"]

    def _restore(self, state: dict[str, Any]) -> None:
        """Take back what state.pt holds."""
        restore(self.trained, self.optimiser, self.schedule, state)
        self.log = state["log"]
        self.steps = [dict(zip(STEP, row, strict=True)) for row in state["rows"]]
