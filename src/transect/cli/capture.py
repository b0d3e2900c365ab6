"""Run a model over texts once and keep the points of its sites: `transect capture MODEL TEXTS --out DIR`.

Options are those of `open_model`, `open_texts` and `capture`.
"""

from typing import Any

import click

from transect.cli.options import as_option, explicit, parameters
from transect.cli.shared import ENGINE, OVERWRITE, bars, room_for, spinner
from transect.cli.studies import shared_parameters
from transect.errors import plain
from transect.work.options import Option

#: Options that a command line writes in its own way.
OWN = (
    "spec",
    "model",
    "texts",
    "out",
    "shard",
    "layers",
    "sites",
    "position0",
    "progress",
    "engine",
    "tokenizer",
    "n",
)


class Capture(click.Command):
    """The command; its options are those of the functions it calls, read when it is asked for."""


def _params() -> list[click.Parameter]:
    from transect.models.models import open_model
    from transect.store.capture import capture as run
    from transect.texts.texts import open_texts

    options: dict[str, tuple[Any, Option]] = {}
    for func in (run, open_texts, open_model):
        options = {**parameters(func), **options}
    params: list[click.Parameter] = [click.Argument(["model"]), click.Argument(["texts"])]
    params += [as_option("out", str, Option(None, HELP["out"]), required=True)]
    params += [as_option(name, str, Option(default, HELP[name])) for name, default in STRINGS.items()]
    params += [click.Option(["--drop-position0"], is_flag=True, help=HELP["drop_position0"])]
    params += [as_option("threads", int, Option(None, HELP["threads"], least=1))]
    params += [as_option(name, *entry) for name, entry in options.items() if name not in OWN]
    return params + shared_parameters(ENGINE, OVERWRITE)


STRINGS = {"sites": "resid", "layers": None, "shard": "1/1"}
HELP = {
    "out": "Folder of the store, or PROTOCOL://… that fsspec reaches, such as s3://.",
    "sites": "Families or sites, with commas; module:GLOB:in or module:GLOB:out; attention.",
    "layers": "Only these layers, like 0,5,10-20.",
    "shard": "Capture part k of n, like 2/8.",
    "drop_position0": "Leave the first token out of the pooled mean.",
    "threads": "Threads of the forward pass; by default all cores.",
}


def _run(model: str, texts: str, out: str, seed: int, threads: int | None, **values: Any) -> None:
    with room_for(out, values.pop("overwrite"), values | {"model": model, "texts": texts}):
        _capture(model, texts, out, seed, threads, **values)


def _capture(model: str, texts: str, out: str, seed: int, threads: int | None, **values: Any) -> None:
    from transect.models.models import open_model
    from transect.store.capture import capture as run
    from transect.texts.texts import open_texts
    from transect.work.parts import part_of

    if threads:
        import torch

        torch.set_num_threads(threads)
    part, layers = part_of(values.pop("shard")), _layers(values.pop("layers"))
    if texts.startswith("images:"):
        from transect.store.images import capture_images

        kept, folder = values["sites"].split(","), texts.removeprefix("images:")
        store = capture_images(model, folder, out, sites=kept, layers=layers, name=values["name"])
        click.echo(repr(store), err=True)
        return
    opened = open_texts(texts, seed=seed, **explicit(values, open_texts))
    with spinner(f"opening {model}"):
        loaded = open_model(model, seed=seed, **explicit(values, open_model))
    asked = explicit(values, run) | {"layers": layers, "shard": part, "sites": values["sites"].split(",")}
    asked["position0"] = not values["drop_position0"]
    with bars() as bar:
        store = run(loaded, opened, out, progress=lambda done, total: bar("capture", done, total), **asked)
    for note in store.manifest.get("notes", []):
        click.echo(f"note: {plain(note)}", err=True)
    click.echo(repr(store), err=True)


def _layers(text: str | None) -> list[int] | None:
    if text is None:
        return None
    out: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or len(first) > 6 or len(last) > 6:
            raise click.BadParameter(f"{text!r}; write layers like 0,5,10-20.", param_hint="--layers")
        out += range(int(first), int(last if dash else first) + 1)
    return out


capture = Capture(
    "capture",
    params=_params(),
    callback=_run,
    help="""Run MODEL over TEXTS once and keep the points of the chosen sites in DIR. A second call resumes.

    With --workers or --engine ray so many processes open the model and capture shards of their own.

    MODEL: smollm2, minilm, a hub id, a folder, x.gguf, BASE+ADAPTER, random:SPEC. TEXTS: gsm-test:200,
    brown:300, sotu:50, reviews:1000, birthdays:1000, gsm8k:2000, wikitext2:test, file.jsonl, .csv, .parquet,
    .txt, or - for stdin; images:FOLDER goes through the model's vision tower.""",
)
