"""`transect evolve RUN --out OUT`."""

from pathlib import Path
from typing import Any

import click

from transect.cli.shared import DRAW, JSON, OUT, WORK, bars, finish, show


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--texts", default=None, help="Texts to look at.  [default: held-out excerpts of the run's own corpus]"
)
@OUT
@click.option(
    "--massive", default=10.0, show_default=True, help="Drop tokens above so many median norms; 0 keeps."
)
@click.option("--window", type=int, default=None, help="Tokens of each text in the measures within texts.")
@click.option(
    "--gradients/--no-gradients", default=True, show_default=True, help="Gradients of the tokens' losses."
)
@click.option("--gradient-texts", default=12, show_default=True, help="Texts behind the gradients.")
@click.option("--gradient-positions", default=4, show_default=True, help="Tokens of each of them.")
@DRAW
@WORK
@JSON
def evolve(run: Path, texts: str | None, out: Path, as_json: bool, **kwargs: Any) -> None:
    """Token geometry along the checkpoints of RUN, a folder that transect train wrote: before, after, and between.

    With CKA and Sinkhorn divergence of every layer to the first and the last checkpoint.
    """
    from transect.studies.evolve.study import evolve as study_of

    kwargs["massive"] = kwargs["massive"] or None
    with bars() as told:
        study = study_of(run, texts, out=out, progress=told, **kwargs)
    finish(study, out, quiet=as_json)
    if as_json:
        show(study.tables["evolution"], as_json=True)
