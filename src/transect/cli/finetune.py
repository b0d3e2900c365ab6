"""Train a model on a task, with LoRA or in full: `transect finetune MODEL --task FILE_OR_NAME --out DIR`."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from transect.cli.options import as_option, of_dataclass
from transect.cli.shared import JSON, OUT, OVERWRITE, bars, room_for
from transect.cli.studies import shared_parameters
from transect.studies.runs import over
from transect.train.recipe import Recipe
from transect.work.options import Option


def recipe_options(
    declaration: Any, left: tuple[str, ...], required: tuple[str, ...]
) -> list[click.Parameter]:
    """An option for every field of a recipe. What is not given keeps the preset's value, so no default is
    shown."""
    params: list[click.Parameter] = []
    for name, (hint, option) in of_dataclass(declaration).items():
        if name not in left:
            kind = str if name == "checkpoints" else hint
            params.append(as_option(name, kind, replace(option, default=None), required=name in required))
    return params


def _run(
    model: str, task: str, out: Path, device: str | None, overwrite: bool, as_json: bool, **values: Any
) -> None:
    from transect.train.finetune import finetune as run
    from transect.train.recipe import preset

    if text := values.pop("checkpoints"):
        if not all(part.strip().isdecimal() for part in text.split(",")):
            raise click.BadParameter(f"{text!r}; write steps like 10,20,50.", param_hint="--checkpoints")
        values["checkpoints"] = tuple(int(part) for part in text.split(","))
    with room_for(out, overwrite, values | {"model": model, "task": task}), bars() as bar:
        run(
            preset(model, task, **values),
            out,
            device=device,
            progress=bar,
        )
    result = json.loads((out / "result.json").read_text())
    if as_json:
        click.echo(json.dumps(result))
        return
    metrics = ", ".join(f"{k} {v:.4g}" for k, v in result["metrics"].items() if v is not None)
    click.echo(f"{out}: {metrics} on {result['n']} examples at step {result['step']}")
    if not result["learned"]:
        click.echo(
            f"! not shown to have learned: {over(result)} over the baseline of {result['baseline']:.3g} "
            f"({result['judged_by']} of the best constant answer, or of the start for a language model)",
            err=True,
        )


DEVICE = as_option("device", str, Option(None, "cpu, cuda, mps, …"))
finetune = click.Command(
    "finetune",
    params=[
        click.Argument(["model"]),
        *recipe_options(Recipe, ("model",), ("task",)),
        DEVICE,
        *shared_parameters(OUT, OVERWRITE, JSON),
    ],
    callback=_run,
    help="""Train MODEL on a task and keep its checkpoints in DIR. A second call resumes.

    Capture the result afterwards: transect capture DIR TEXTS for a full run, and for LoRA
    transect capture MODEL+DIR TEXTS.""",
)
