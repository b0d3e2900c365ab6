"""Write activations that somebody else captured into a store: `transect import FILE --out DIR`."""

from typing import Any

import click

from transect.cli.options import as_option, explicit, parameters
from transect.cli.shared import OVERWRITE, room_for
from transect.cli.studies import shared_parameters
from transect.errors import plain
from transect.work.options import Option


def _params() -> list[click.Parameter]:
    from transect.store.imports import import_arrays

    declared = parameters(import_arrays)
    params: list[click.Parameter] = [click.Argument(["file"])]
    params += [as_option("out", str, Option(None, declared["out"][1].help), required=True)]
    params += [as_option(name, *entry) for name, entry in declared.items() if name not in ("file", "out")]
    return params + shared_parameters(OVERWRITE)


def _run(file: str, out: str, overwrite: bool, **values: Any) -> None:
    from transect.store.imports import import_arrays

    with room_for(out, overwrite, values | {"file": file}):
        store = import_arrays(file, out, **explicit(values, import_arrays))
    for note in store.manifest.get("notes", []):
        click.echo(f"note: {plain(note)}", err=True)
    click.echo(repr(store), err=True)


import_ = click.Command(
    "import",
    params=_params(),
    callback=_run,
    help="""Write the activations in FILE into a store in DIR, without a model.

    FILE: .npz, .npy, .safetensors, .pt (tensors only), a data set (.parquet, or a folder that Hugging Face's
    datasets wrote), or a folder of .safetensors with one sample each.
    Arrays are named as sites (resid.0, mlp.3.act), as in TransformerLens (blocks.0.hook_resid_pre) or as
    modules of Hugging Face (model.layers.0.output). An array is [samples, tokens, width] beside a mask,
    [rows, width] beside lengths, or [samples, width]: one point a sample.""",
)
