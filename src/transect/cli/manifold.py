"""`transect manifold STORE… --label NAME`."""

import json
from pathlib import Path
from typing import Any

import click

from transect.cli.shared import JSON, SEED, WORK, bars, finish, options, show, the_stores

SHAPE = options(
    click.option(
        "--label", required=True, help="Label of the texts; several separated by commas (latitude,longitude)."
    ),
    click.option(
        "--shape", default="circle", show_default=True, help="Where labels would lie: circle, line, sphere, …"
    ),
    click.option(
        "--period",
        type=float,
        default=None,
        help="Of the shape, in the label's units.  [default: 12 for month, …]",
    ),
    click.option("--parameters", default="{}", help='Others, as JSON: {"spiral": {"growth": 2}}.'),
    click.option("--components", default=2, show_default=True, help="Dimensions of the subspace."),
    click.option("--discover", is_flag=True, help="Try every shape that these labels allow."),
)
PLACE = options(
    click.option("--sites", default="resid", show_default=True, help="Family or single site."),
    click.option(
        "--token", "tokens", multiple=True, help="landmark:NAME+k.  [default: every comparable position]"
    ),
    click.option(
        "--source", default=None, help="Token whose subspace is reused.  [default: where the label comes in]"
    ),
    click.option(
        "--destination", default=None, help="Token marked in figures.  [default: the last landmark]"
    ),
    click.option(
        "--position0",
        is_flag=True,
        help="Keep the first token of every text (left out by default: the sink).",
    ),
)
FOLDS = options(
    click.option("--group", default=None, help="Label whose values folds hold out.  [default: the label]"),
    click.option("--folds", default=3, show_default=True, help="Parts of the texts, each held out once."),
    click.option("--repeats", default=3, show_default=True, help="Times the folds are drawn anew."),
    click.option("--permutations", default=100, show_default=True, help="Draws of the null."),
    click.option("--alpha", default=0.1, show_default=True, help="Ridge."),
    click.option(
        "--scale",
        type=click.Choice(["unit", "standard", "none"]),
        default="unit",
        show_default=True,
        help="Points.",
    ),
)
MOVE = options(
    click.option(
        "--intervene", is_flag=True, help="Also move points along the manifold and measure the next token."
    ),
    click.option(
        "--shift",
        type=float,
        default=None,
        help="How far, in the label's units.  [default: a quarter period]",
    ),
    click.option("--at", default=None, help="Token to move at.  [default: the source]"),
    click.option("--prompt", default=None, help="Words appended to each text, where the next token is read."),
)


@click.command()
@click.argument("stores", nargs=-1, required=True)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=None,
    help="Folder.  [default: the first store's, -manifold]",
)
@click.option("--control", "controls", multiple=True, help="Store of the same texts through random weights.")
@SHAPE
@PLACE
@FOLDS
@MOVE
@WORK
@SEED
@JSON
def manifold(
    stores: tuple[str, ...],
    out: Path | None,
    controls: tuple[str, ...],
    as_json: bool,
    intervene: bool,
    **kwargs: Any,
) -> None:
    """Where a feature lies on a shape: supervised MDS at every site and token, with null, controls and intervals.

    A high score says that the label can be read there, not that the model keeps or uses it there.
    """
    from transect.errors import TransectError
    from transect.studies.manifold.study import manifold as run

    move = {key: kwargs.pop(key) for key in ("shift", "at", "prompt")}
    try:
        kwargs["parameters"] = json.loads(kwargs["parameters"])
    except ValueError as error:
        raise TransectError(
            f"--parameters is not JSON ({error}).", 'Write {"spiral": {"growth": 2}}.'
        ) from error
    kwargs["tokens"] = kwargs["tokens"] or None
    opened = the_stores(stores)
    out = out or Path(str(opened[0].path).rstrip("/") + "-manifold")
    with bars() as told:
        study = run(opened, controls=the_stores(controls), out=out, progress=told, **kwargs)
        if intervene:
            from transect.studies.manifold.intervene import add_intervention

            add_intervention(study, opened[0], progress=told, **move)
    finish(study, out, quiet=as_json)
    if as_json:
        show(study.tables["map"], as_json=True)
