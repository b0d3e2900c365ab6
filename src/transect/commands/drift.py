"""`transect drift STORE… --out DIR`."""

from pathlib import Path
from typing import Any

import click

from transect.commands.shared import DRAW, JSON, OUT, WORK, bars, finish, show, the_stores


@click.command()
@click.argument("stores", nargs=-1, required=True)
@OUT
@click.option("--control", "controls", multiple=True, help="Store of a control run: random weights, shuffled tokens.")
@click.option("--measure", default="sinkhorn", show_default=True, help="Behind the matrix and the change layers.")
@click.option(
    "--pca", type=int, default=None, help="Project each pair on one basis of so many dimensions, fitted on both."
)
@click.option("--resamples", default=20, show_default=True, help="Half-samples behind the support of a change layer.")
@DRAW
@WORK
@JSON
def drift(stores: tuple[str, ...], out: Path, controls: tuple[str, ...], as_json: bool, **kwargs: Any) -> None:
    """How far representations move from layer to layer, beyond what two halves of the texts differ by at one layer."""
    from transect.studies.drift import drift as run

    with bars() as told:
        study = run(the_stores(stores), controls=the_stores(controls), out=out, progress=told, **kwargs)
    finish(study, out, quiet=as_json)
    if as_json:
        show(study.tables["adjacent"], as_json=True)
