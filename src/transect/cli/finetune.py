"""`transect finetune MODEL --task FILE_OR_NAME --method lora|full --seed S --steps N --out DIR`."""

import json
from pathlib import Path
from typing import Any

import click

from transect.cli.shared import JSON, OUT, bars, options

LORA = options(
    click.option("--rank", type=int, default=None, help="Rank of the adapter.  [default: 8]"),
    click.option(
        "--alpha", type=int, default=None, help="Scale of the adapter: ΔW = alpha/rank · BA.  [default: 16]"
    ),
    click.option(
        "--targets", default=None, help="Modules to adapt, separated by commas.  [default: all-linear]"
    ),
    click.option("--dropout", type=float, default=None, help="On the adapter's input.  [default: 0]"),
    click.option(
        "--merge", is_flag=True, default=None, help="Also save base and adapter as one model in DIR/merged."
    ),
)
PACE = options(
    click.option("--batch", type=int, default=None, help="Examples in a batch."),
    click.option("--accumulate", type=int, default=None, help="Batches in a step.  [default: 1]"),
    click.option(
        "--learning-rate", type=float, default=None, help="Of the body.  [default: 5e-4 LoRA, 5e-5 full]"
    ),
    click.option(
        "--head-rate", type=float, default=None, help="Learning rate of the new head.  [default: 1e-3]"
    ),
    click.option("--warmup", type=float, default=None, help="Share of the steps.  [default: 0.1]"),
    click.option("--weight-decay", type=float, default=None, help="Of matrices.  [default: 0.01]"),
    click.option("--max-length", type=int, default=None, help="Cut examples at so many tokens."),
    click.option(
        "--stride", type=int, default=None, help="Tokens that windows of a long SQuAD context share."
    ),
    click.option("--train-limit", type=int, default=None, help="Use so many training examples."),
    click.option("--eval-limit", type=int, default=None, help="Judge by so many examples.  [default: 400]"),
    click.option("--evaluate-every", type=int, default=None, help="Steps.  [default: a quarter of the run]"),
    click.option(
        "--patience", type=int, default=None, help="Stop after so many evaluations without a lower loss."
    ),
    click.option("--checkpoints", default=None, help="Steps to keep, like 10,20,50; the last one always is."),
    click.option(
        "--precision", type=click.Choice(["float32", "bfloat16"]), default=None, help="Of the arithmetic."
    ),
    click.option(
        "--gradient-checkpointing", is_flag=True, default=None, help="Less memory, a second forward pass."
    ),
)


@click.command()
@click.argument("model")
@click.option(
    "--task", required=True, help="mrpc, rte, sst2, squad_v2 (or NAME@FILES), reviews, lm:TEXTS, a file."
)
@click.option(
    "--method",
    type=click.Choice(["lora", "full"]),
    default="lora",
    show_default=True,
    help="What is trained.",
)
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Seed of head, adapter, batches and dropout."
)
@click.option(
    "--steps", type=int, default=None, help="Optimiser steps.  [default: the task's preset, else 200]"
)
@OUT
@PACE
@LORA
@click.option("--device", default=None, help="cpu, cuda, …")
@JSON
def finetune(model: str, task: str, out: Path, device: str | None, as_json: bool, **kwargs: Any) -> None:
    """Train MODEL on a task and keep its checkpoints in DIR. A second call resumes.

    Capture the result afterwards: transect capture DIR TEXTS for a full run, transect capture MODEL+DIR TEXTS for LoRA.
    """
    from transect.train.finetune import finetune as run
    from transect.train.recipe import preset

    if text := kwargs.pop("checkpoints"):
        if not all(part.strip().isdigit() for part in text.split(",")):
            raise click.BadParameter(f"{text!r}; write steps like 10,20,50.", param_hint="--checkpoints")
        kwargs["checkpoints"] = tuple(int(part) for part in text.split(","))
    with bars() as told:
        run(
            preset(model, task, **kwargs),
            out,
            device=device,
            progress=lambda done, total: told("training", done, total),
        )
    result = json.loads((out / "result.json").read_text())
    if as_json:
        click.echo(json.dumps(result))
        return
    metrics = ", ".join(f"{k} {v:.4g}" for k, v in result["metrics"].items() if v is not None)
    click.echo(f"{out}: {metrics} on {result['n']} examples at step {result['step']}")
    if not result["learned"]:
        click.echo(
            f"! did not learn: {result['over_baseline']:.3g} ± {result['over_baseline_error']:.2g} over the baseline of "
            f"{result['baseline']:.3g}",
            err=True,
        )
