"""Pretraining: a Pretraining recipe → checkpoints that open like any model, with the perplexity of each.

    DIR/recipe.json            the recipe, versions, the data's fingerprint
    DIR/data/                  tokenizer and token streams (or wherever --data says)
    DIR/metrics.csv            a row for each evaluation; DIR/steps.csv: the loss of every step
    DIR/checkpoint-00040/      model, tokenizer and scores at that step; DIR/state.pt: what the run needs to
    go on
    DIR/                       the model at the end, and result.json with the perplexity of validation and
    test

Batches follow from seed and step alone, so that a resumed run is the unbroken one, bit for bit. Under
torchrun every process takes its share of each batch. Nothing is captured by the training process.
"""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from transect import __version__
from transect.errors import TransectError
from transect.files import make_folder, write_json, writing
from transect.random import rng
from transect.train.data import Data, prepare
from transect.train.perplexity import OVER, Perplexity, Protocol, perplexity, unigram
from transect.train.pretraining import Pretraining, config_of
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
    write_rows,
)
from transect.train.world import World, joined

#: Called with the stage, how much of it is done, of how much, and what there is to say.
Progress = Callable[[str, int, int, str], None]


def pretrain(
    recipe: Pretraining,
    out: str | Path,
    *,
    data: str | Path | None = None,
    device: str | None = None,
    capture: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Train as the recipe says and write everything to `out`; a finished run is left alone, an unfinished one
    resumes.

    data: folder of the token streams, shared between runs of one corpus. capture: texts that another process
    captures every checkpoint on, into OUT/stores. progress: called with stage, done, total and words (loss,
    rate). Returns the folder. TransectError when the folder holds
    something else, the texts are too short, or loss or gradient stop being finite: the checkpoints written
    before stay.
    """
    recipe, out = recipe.settled(), Path(out)
    with quiet(), joined(device) as world:
        if check_folder(recipe, out):
            return out
        if recipe.batch % world.size:
            raise TransectError(
                f"batches of {recipe.batch} do not divide into {world.size} processes.", "Choose a multiple."
            )
        config = config_of(recipe, 1)  # a shape that makes no decoder is refused before the texts are read
        where = Path(data) if data else out / "data"
        said = progress if progress and world.rank == 0 else _silent
        said("preparing texts", 0, 1, recipe.texts)
        if world.rank == 0:
            prepare(recipe, where)
        world.meet()
        opened = prepare(recipe, where)
        config.vocab_size = len(opened.tokenizer)
        said("preparing texts", 1, 1, f"{len(opened.parts['train'].ids):,} tokens")
        config.eos_token_id = config.pad_token_id = opened.tokenizer.eos_token_id
        _Run(recipe, opened, config, out, world, capture).train(said)
    return out


def _silent(stage: str, done: int, total: int, said: str) -> None:
    """Progress that nobody sees."""


class _Run:
    """Model, data and optimiser of one run, as one process sees it."""

    def __init__(
        self, recipe: Pretraining, data: Data, config: Any, out: Path, world: World, capture: str | None
    ) -> None:
        import torch

        from transect.models.checkpoints import random_model

        self.recipe, self.data, self.out, self.world, self.capture = recipe, data, out, world, capture
        self.model = random_model(config, recipe.seed, torch.float32).to(world.device).train()
        self.model.generation_config.pad_token_id = config.pad_token_id
        self.trained = dict(self.model.named_parameters())
        self.forward: Any = self.model
        if world.size > 1:
            self.forward = torch.nn.parallel.DistributedDataParallel(self.model)
        if recipe.compile:
            self.forward = torch.compile(self.forward)
        self.optimiser, self.schedule = self._optimiser()
        self.unigram = unigram(data.parts["train"], config.vocab_size)
        self.log: list[dict[str, Any]] = []
        self.steps: list[dict[str, Any]] = []
        self.beside: list[subprocess.Popen[bytes]] = []

    def _optimiser(self) -> tuple[Any, Any]:
        import torch

        r = self.recipe
        matrices = [p for p in self.trained.values() if p.ndim > 1]
        others = [p for p in self.trained.values() if p.ndim <= 1]
        groups = [
            {"params": matrices, "weight_decay": r.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        groups = [g for g in groups if g["params"]]
        optimiser = torch.optim.AdamW(groups, lr=r.learning_rate, betas=r.betas, fused=True)
        return optimiser, torch.optim.lr_scheduler.LambdaLR(optimiser, r.shape)

    def train(self, progress: Progress) -> None:
        """Steps, evaluations, checkpoints, and the result."""
        r, begun = self.recipe, time.time()
        with writing(self.out):
            make_folder(self.out)
        self.world.meet()
        step = self._resume()
        if not step:
            self._begin()
        while step < r.steps:
            self.steps.append({"step": step + 1} | self._step(step))
            step += 1
            last = self.steps[-1]
            progress("training", step, r.steps, f"loss {last['loss']:.3f}, rate {last['learning_rate']:.2g}")
            if step % r.evaluate_every == 0 or step in r.checkpoints:
                self._evaluate(step)
                if step in r.checkpoints:
                    self._checkpoint(step)
        self._finish(time.time() - begun, progress)

    def _begin(self) -> None:
        import torch

        if self.world.rank == 0:
            told = {"method": "pretrain", "task": f"lm:{self.recipe.texts}", "transect": __version__}
            told |= {"torch": torch.__version__, "data_fingerprint": self.data.fingerprint}
            self.recipe.save(self.out / "recipe.json", **told, processes=self.world.size)
        self._evaluate(0)
        self._checkpoint(0)

    def _step(self, step: int) -> dict[str, float]:
        """One optimiser step over `accumulate` batches: loss, norm of the gradient before clipping, learning
        rate."""
        import torch

        r, total, rate = (
            self.recipe,
            torch.zeros((), device=self.world.device),
            self.schedule.get_last_lr()[0],
        )
        ids = torch.empty(0)
        for part in range(r.accumulate):
            apart = self.world.size > 1 and part < r.accumulate - 1
            ids = self._batch(step * r.accumulate + part)
            with self.forward.no_sync() if apart else contextlib.nullcontext():
                with self._precision():
                    logits = self.forward(input_ids=ids[:, :-1], use_cache=False).logits
                loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten())
                (loss / r.accumulate).backward()
            total += loss.detach() / r.accumulate
        norm = torch.nn.utils.clip_grad_norm_(list(self.trained.values()), r.clip)
        loss_value, norm_value = float(self.world.mean(total)), float(norm)
        if not np.isfinite([loss_value, norm_value]).all():
            self._stop(step, loss_value, norm_value, ids)
        self.optimiser.step()
        self.schedule.step()
        self.optimiser.zero_grad(set_to_none=True)
        return {"loss": loss_value, "gradient_norm": norm_value, "learning_rate": rate}

    def _stop(self, step: int, loss: float, norm: float, ids: Any) -> None:
        from transect.train.divergence import told

        raise TransectError(
            f"{self.out}: step {step + 1}: the loss is {loss:g}, the gradient's norm {norm:g}; "
            f"{told(self.model, ids[:, :-1])}.",
            (
                f"Kept: {kept(self.out)}. Lower the learning rate (now {self.recipe.learning_rate:g}), into "
                "another --out."
            ),
        )

    def _precision(self) -> Any:
        """Arithmetic in bfloat16 where the recipe says so; weights and optimiser stay in float32."""
        import torch

        kind = self.world.device.split(":")[0]
        return torch.autocast(kind, dtype=torch.bfloat16, enabled=self.recipe.precision == "bfloat16")

    def _batch(self, k: int) -> Any:
        """This process's share of the k-th batch, [sequences, block + 1]: every epoch is a permutation of the
        blocks."""
        import torch

        stream, size = self.data.parts["train"], self.recipe.batch
        n = stream.blocks(self.recipe.block)
        wanted = range(k * size, (k + 1) * size)
        orders = {e: rng(self.recipe.seed, "epoch", e).permutation(n) for e in {w // n for w in wanted}}
        chosen = [int(orders[w // n][w % n]) for w in wanted][self.world.rank :: self.world.size]
        return torch.from_numpy(stream.sequences(chosen, self.recipe.block)).to(self.world.device)

    def _score(
        self, part: str, blocks: int | None = None, told: Callable[[int, int], None] | None = None
    ) -> Perplexity:
        r, w = self.recipe, self.world
        with self._precision() or contextlib.nullcontext():
            return perplexity(
                self.model,
                self.data.parts[part],
                Protocol(r.block, None if blocks else r.stride, blocks),
                baseline=self.unigram,
                batch=r.batch,
                share=(w.rank, w.size),
                progress=told,
            )

    def _evaluate(self, step: int) -> None:
        judged = self._score("validation", self.recipe.evaluate_blocks)
        since = max((row["step"] for row in self.log), default=0)
        losses = [row["loss"] for row in self.steps if row["step"] > since]
        row = {"step": step, "train_loss": float(np.mean(losses)) if losses else None, "loss": judged.loss}
        row |= {"perplexity": judged.per_token, "unigram_perplexity": judged.unigram_per_token}
        row |= dict(zip(OVER, judged.over_baseline, strict=True))
        row |= {"accuracy": judged.accuracy, "learning_rate": self.schedule.get_last_lr()[0]}
        row |= {"tokens": step * self.recipe.batch * self.recipe.accumulate * self.recipe.block}
        self.log.append(row)
        if self.world.rank == 0:
            write_log(self.out, self.log)
            if self.steps:
                write_rows(self.out / "steps.csv", self.steps)

    # files

    def _save(self, folder: Path, step: int) -> None:
        with whole(folder, into=folder == self.out) as partial:
            self.model.save_pretrained(str(partial))
            self.data.tokenizer.save_pretrained(str(partial))
            write_json(partial / "scores.json", next(r for r in self.log if r["step"] == step))

    def _checkpoint(self, step: int) -> None:
        """Weights to look at, and what the run needs to go on."""
        if self.world.rank == 0:
            folder = self.out / f"checkpoint-{step:05d}"
            self._save(folder, step)
            rows = {"rows": [[*row.values()] for row in self.steps], "trained": dict(self.trained)}
            rows["trained"] = {n: p.detach() for n, p in self.trained.items()}
            save_state(self.out, step, self.log, optimiser=self.optimiser.state_dict(), **rows)
            if self.capture:
                self._capture(folder)
        self.world.meet()

    def _capture(self, folder: Path) -> None:
        """Capture a checkpoint in a process of its own; training does not wait for it."""
        order = ["capture", str(folder), str(self.capture), "--out", str(self.out / "stores" / folder.name)]
        order += ["--name", folder.name, "--max-length", str(self.recipe.block)]
        environment = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
        with (self.out / "capture.log").open("ab") as log:
            made = subprocess.Popen(
                [sys.executable, "-m", "transect", *order], stdout=log, stderr=log, env=environment
            )
        self.beside.append(made)

    def _resume(self) -> int:
        state = load_state(self.out, self.world.device)
        if state is None:
            return 0
        restore(self.trained, self.optimiser, self.schedule, state)
        self.log = state["log"]
        names = ("step", "loss", "gradient_norm", "learning_rate")
        self.steps = [dict(zip(names, row, strict=True)) for row in state["rows"]]
        return state["step"]

    def _finish(self, seconds: float, progress: Progress) -> None:
        r, scores, stage = self.recipe, {}, "final evaluation"
        for part in (p for p in ("validation", "test") if p in self.data.parts):
            scores[part] = self._score(
                part, told=lambda done, total, p=part: progress(f"{stage}, {p}", done, total, "")
            )
        for process in self.beside:
            if process.wait():
                raise TransectError(
                    f"{self.out}: a capture beside the run failed.", f"See {self.out / 'capture.log'}."
                )
        if self.world.rank == 0:
            self._save(self.out, r.steps)
            judge = scores[self.data.judged]
            over = judge.over_baseline
            told: dict[str, Any] = {
                "task": f"lm:{r.texts}",
                "kind": "lm",
                "headline": "loss",
                "step": r.steps,
            }
            told |= {"metrics": {"loss": judge.loss, "perplexity": judge.per_token}, "n": judge.tokens}
            told |= {part: score.told() for part, score in scores.items()} | {"judged": self.data.judged}
            told |= {"baseline": judge.unigram_loss, "learned": over.learned}
            told |= dict(zip(OVER, over, strict=True)) | {"seconds": round(seconds, 1)}
            told |= {"parameters": sum(p.numel() for p in self.trained.values()), "recipe": asdict(r)}
            told |= {"tokens": r.steps * r.batch * r.accumulate * r.block}
            told |= {"data_fingerprint": self.data.fingerprint}
            write_result(self.out, told)
        self.world.meet()
