"""Pretraining: a Pretraining recipe → checkpoints that open like any model, with the perplexity of each.

The loop and its files stand in loop.py; beside them DIR/data/ holds tokenizer and token streams (or wherever
--data says). Nothing is captured by the training process.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from transect import __version__
from transect.errors import TransectError
from transect.files import write_json
from transect.train.data import Data, prepare
from transect.train.loop import Loop, Progress, optimiser_of, silent
from transect.train.perplexity import OVER, Perplexity, Protocol, perplexity, unigram
from transect.train.pretraining import Pretraining, config_of
from transect.train.state import check_folder, checkpoint_at, quiet, write_result
from transect.train.world import World, joined


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
        said = progress if progress and world.rank == 0 else silent
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


class _Run(Loop):
    """A decoder, its streams and its unigram baseline."""

    def __init__(
        self, recipe: Pretraining, data: Data, config: Any, out: Path, world: World, capture: str | None
    ) -> None:
        import torch

        from transect.models.checkpoints import random_model

        super().__init__(recipe, out, world, world.device)
        self.data, self.capture = data, capture
        self.rows, self.size = data.parts["train"].blocks(recipe.block), recipe.batch
        self.model = random_model(config, recipe.seed, torch.float32).to(world.device).train()
        self.model.generation_config.pad_token_id = config.pad_token_id
        self.trained = dict(self.model.named_parameters())
        self.forward = world.shared(self.model)
        if recipe.compile:
            self.forward = torch.compile(self.forward)
        matrices = [p for p in self.trained.values() if p.ndim > 1]
        others = [p for p in self.trained.values() if p.ndim <= 1]
        groups = [
            {"params": matrices, "weight_decay": recipe.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        self.optimiser, self.schedule = optimiser_of(groups, recipe.learning_rate, recipe.shape, recipe.betas)
        self.unigram = unigram(data.parts["train"], config.vocab_size)
        self.beside: list[subprocess.Popen[bytes]] = []

    def _begin(self) -> None:
        import torch

        if self.world.rank == 0:
            record = {"method": "pretrain", "task": f"lm:{self.recipe.texts}", "transect": __version__}
            record |= {"torch": torch.__version__, "data_fingerprint": self.data.fingerprint}
            self.recipe.save(self.out / "recipe.json", **record, processes=self.world.size)
        self._evaluate(0)
        self._checkpoint(0)

    def _ids(self, rows: list[int]) -> Any:
        """Blocks of token ids, [sequences, block + 1]."""
        import torch

        ids = self.data.parts["train"].sequences(rows, self.recipe.block)
        return torch.from_numpy(ids).to(self.device)

    def _loss(self, rows: list[int]) -> Any:
        import torch

        ids = self._ids(rows)
        logits = self.forward(input_ids=ids[:, :-1], use_cache=False).logits
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten())

    def _where(self, rows: list[int]) -> str:
        from transect.train.divergence import reason

        return reason(self.model, self._ids(rows)[:, :-1])

    def _score(
        self, part: str, blocks: int | None = None, progress: Callable[[int, int], None] | None = None
    ) -> Perplexity:
        r, w = self.recipe, self.world
        with self._precision():
            return perplexity(
                self.model,
                self.data.parts[part],
                Protocol(r.block, None if blocks else r.stride, blocks),
                baseline=self.unigram,
                batch=r.batch,
                share=(w.rank, w.size),
                progress=progress,
            )

    def _judge(self, step: int) -> dict[str, Any]:
        judged = self._score("validation", self.recipe.evaluate_blocks)
        row: dict[str, Any] = {"loss": judged.loss}
        row |= {"perplexity": judged.per_token, "unigram_perplexity": judged.unigram_per_token}
        row |= dict(zip(OVER, judged.over_baseline, strict=True))
        row |= {"accuracy": judged.accuracy, "learning_rate": self.schedule.get_last_lr()[0]}
        return row | {"tokens": step * self.recipe.batch * self.recipe.accumulate * self.recipe.block}

    # files

    def _save(self, folder: Path, step: int) -> None:
        with checkpoint_at(folder, into=folder == self.out) as partial:
            self.model.save_pretrained(str(partial))
            self.data.tokenizer.save_pretrained(str(partial))
            write_json(partial / "scores.json", next(r for r in self.log if r["step"] == step))

    def _checkpoint(self, step: int) -> None:
        super()._checkpoint(step)
        if self.capture and self.world.rank == 0:
            self._capture(self.out / f"checkpoint-{step:05d}")

    def _capture(self, folder: Path) -> None:
        """Capture a checkpoint in a process of its own; training does not wait for it."""
        order = ["capture", str(folder), str(self.capture), "--out", str(self.out / "stores" / folder.name)]
        order += ["--name", folder.name, "--max-length", str(self.recipe.block)]
        environment = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
        with (self.out / "capture.log").open("ab") as log:
            child = subprocess.Popen(
                [sys.executable, "-m", "transect", *order], stdout=log, stderr=log, env=environment
            )
        self.beside.append(child)

    def _finish(self, step: int, seconds: float, progress: Progress) -> None:
        r, scores, stage = self.recipe, {}, "final evaluation"
        for part in (p for p in ("validation", "test") if p in self.data.parts):
            scores[part] = self._score(
                part, progress=lambda done, total, p=part: progress(f"{stage}, {p}", done, total, "")
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
            record: dict[str, Any] = {
                "task": f"lm:{r.texts}",
                "kind": "lm",
                "headline": "loss",
                "step": r.steps,
            }
            record |= {"metrics": {"loss": judge.loss, "perplexity": judge.per_token}, "n": judge.tokens}
            record |= {part: score.as_json() for part, score in scores.items()} | {"judged": self.data.judged}
            record |= {"baseline": judge.unigram_loss, "learned": over.learned}
            record |= dict(zip(OVER, over, strict=True)) | {"seconds": round(seconds, 1)}
            record |= {"parameters": sum(p.numel() for p in self.trained.values()), "recipe": asdict(r)}
            record |= {"tokens": r.steps * r.batch * r.accumulate * r.block}
            record |= {"data_fingerprint": self.data.fingerprint}
            write_result(self.out, record)
        self.world.meet()
