"""Train a small decoder on texts: `transect train --texts FILE --out DIR`, also under torchrun."""

import json
from pathlib import Path
from typing import Any

import click

from transect.cli.finetune import DEVICE, recipe_options
from transect.cli.options import as_option
from transect.cli.shared import JSON, OUT, OVERWRITE, bars, room_for
from transect.cli.studies import shared_parameters
from transect.train.pretraining import PRESETS, Pretraining
from transect.work.options import Option


def _run(preset: str, out: Path, untied: bool, overwrite: bool, as_json: bool, **values: Any) -> None:
    from transect.train.perplexity import OVER
    from transect.train.pretrain import pretrain
    from transect.train.pretraining import preset as preset_of

    how = {name: values.pop(name) for name in ("data", "capture", "device")}
    values |= {"tied": False} if untied else {}
    with room_for(out, overwrite, values | how), bars() as bar:
        pretrain(
            preset_of(preset, **values),
            out,
            progress=bar,
            **how,
        )
    result = json.loads((out / "result.json").read_text())
    if as_json:
        click.echo(json.dumps(result))
        return
    click.echo(
        f"{out}: {result['parameters']:,} parameters, {result['tokens']:,} tokens, "
        f"{result['seconds']:.0f} s, started equal in {result['recipe'].get('init', 'weights')}"
    )
    for part in (p for p in ("validation", "test") if p in result):
        score = result[part]
        click.echo(
            f"  {part}: perplexity {score['per_token']:.4g} a token (unigram "
            f"{score['unigram_per_token']:.4g}), "
            f"{score['per_word']:.4g} a word, {score['bits_per_byte']:.4g} bits a byte, {score['tokens']} "
            "tokens, "
            f"windows of {score['block']}, stride {score['stride']}"
        )
    if "test" not in result:
        click.echo("  no test part: judged by validation, which also drew the curve")
    over, low, high = (result.get(name) for name in OVER)
    ends = f" [{low:.3g}, {high:.3g}]" if isinstance(low, float) and isinstance(high, float) else ""
    words = f"{over:+.3g}{ends} nats a token over the unigram model on {result.get('judged', 'test')}"
    if result["learned"]:
        click.echo(f"  learned: {words}")
    else:
        why = "the interval (95 %, by documents) is not above 0"
        click.echo(f"! not shown to have learned: {words}; {why}", err=True)


HELP = "seed: hours on a CPU; demo: about two minutes; tiny: seconds."
train = click.Command(
    "train",
    params=[
        *recipe_options(Pretraining, ("betas",), ("texts",)),
        click.Option(["--untied"], is_flag=True, help="A head of its own instead of the embedding."),
        as_option("preset", str, Option("demo", HELP, choices=tuple(PRESETS))),
        as_option("data", str, Option(None, "Folder of token streams, for many runs.")),
        as_option("capture", str, Option(None, "Texts to capture every checkpoint on, beside the training.")),
        DEVICE,
        *shared_parameters(OUT, OVERWRITE, JSON),
    ],
    callback=_run,
    help="""Train a small decoder on texts and keep its checkpoints in DIR. A second call resumes.

    Several processes: torchrun --nproc-per-node 2 -m transect train …""",
)
