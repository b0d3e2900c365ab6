"""`transect capture MODEL TEXTS --out DIR`."""

from typing import Any

import click

from transect.cli.shared import ENGINE, MODEL, SEED, TEXTS, bars, options, the_model

SELECTION = options(
    click.option("--sites", default="resid", show_default=True, help="Families or sites, separated by commas."),
    click.option("--layers", default=None, help="Only these layers, like 0,5,10-20."),
    click.option(
        "--positions", default="all", show_default=True, help="Tokens to keep: last, landmark:NAME+k, numbers."
    ),
    click.option("--pool", type=click.Choice(["mean"]), default=None, help="Keep one mean per text."),
    click.option("--drop-position0", is_flag=True, help="Leave the first token out of the pooled mean."),
    click.option(
        "--shuffle-tokens", type=int, default=None, help="Control: shuffle each text's tokens with this seed."
    ),
    click.option("--store-dtype", default=None, help="float32, bfloat16 or float16.  [default: the compute dtype]"),
)
COST = options(
    click.option("--batch-tokens", default=2048, show_default=True, help="Padded tokens per forward pass."),
    click.option("--shard-bytes", default=512 << 20, show_default=True, help="Size of a shard."),
    click.option("--shard", default="1/1", show_default=True, help="Capture part k of n, like 2/8."),
    click.option("--gpus-per-worker", type=int, default=0, show_default=True, help="GPUs that a Ray worker gets."),
    click.option("--threads", type=int, default=None, help="Threads of the forward pass.  [default: all cores]"),
)


@click.command()
@click.argument("model")
@click.argument("texts")
@click.option("--out", required=True, help="Folder of the store, or PROTOCOL://… that fsspec reaches, such as s3://.")
@SELECTION
@TEXTS
@MODEL
@COST
@ENGINE
@click.option("--name", default=None, help="Short name of this run in tables and figures.")
@SEED
def capture(
    model: str,
    texts: str,
    out: str,
    seed: int,
    threads: int | None,
    name: str | None,
    workers: int | None,
    **kwargs: Any,
) -> None:
    """Run MODEL over TEXTS once and keep the points of the chosen sites in DIR. A second call resumes.

    With --workers or --engine ray so many processes open the model and capture shards of their own (one by default: this one).

    MODEL: smollm2, minilm, a hub id, a folder, x.gguf, BASE+ADAPTER, random:SPEC. TEXTS: gsm-test:200, brown:300,
    sotu:50, reviews:1000, birthdays:1000, gsm8k:2000, wikitext2:test, file.jsonl, .csv, .parquet, .txt, or - for stdin.
    """
    from transect.files import plain
    from transect.store.capture import capture as run
    from transect.texts.texts import open_texts
    from transect.work.parts import part_of

    if threads:
        import torch

        torch.set_num_threads(threads)
    given = {k: kwargs.pop(k) for k in ("column", "label", "split", "config", "chat")}
    opened = open_texts(texts, seed=seed, **given)
    loaded = the_model(model, kwargs, seed)
    loaded.name = name or loaded.name
    kwargs |= {
        "layers": _layers(kwargs["layers"]),
        "shard": part_of(kwargs["shard"]),
        "sites": kwargs["sites"].split(","),
        "workers": workers or 1,
    }
    kwargs["position0"] = not kwargs.pop("drop_position0")
    with bars() as told:
        store = run(loaded, opened, out, progress=lambda done, total: told("capture", done, total), **kwargs)
    for note in store.manifest.get("notes", []):
        click.echo(f"note: {plain(note)}", err=True)
    click.echo(repr(store), err=True)


def _layers(text: str | None) -> list[int] | None:
    if text is None:
        return None
    out: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise click.BadParameter(f"{text!r}; write layers like 0,5,10-20.", param_hint="--layers")
        out += range(int(first), int(last if dash else first) + 1)
    return out
