"""`transect compare BASE_STORE STORE… --out OUT`."""

from pathlib import Path
from typing import Any

import click

from transect.cli.shared import DRAW, JSON, OUT, WORK, bars, finish, show, the_stores


@click.command()
@click.argument("base")
@click.argument("stores", nargs=-1, required=True)
@OUT
@click.option("--noise", default=None, help="The base captured again with another --batch-tokens or --dtype.")
@click.option(
    "--seed-control", "seed_controls", multiple=True, help="Store of the same recipe with another seed."
)
@click.option("--random", "random", default=None, help="Store of the architecture with random weights.")
@click.option(
    "--weights", type=click.Path(path_type=Path), default=None, help="Folder that transect adapters wrote."
)
@click.option(
    "--measures",
    default="cka,procrustes,rsa,knn_overlap,cosine,euclidean,sinkhorn,bures",
    show_default=True,
    help="Measures of two clouds; the first is drawn as the heatmap.",
)
@click.option("--matrix", default="cka", show_default=True, help="Measure of the layer × layer matrices.")
@click.option(
    "--matrices/--no-matrices", default=True, show_default=True, help="Compute layer × layer matrices."
)
@DRAW
@WORK
@JSON
def compare(
    base: str,
    stores: tuple[str, ...],
    out: Path,
    noise: str | None,
    seed_controls: tuple[str, ...],
    random: str | None,
    weights: Path | None,
    as_json: bool,
    **kwargs: Any,
) -> None:
    """What training changed: each run against BASE on the same tokens, layer by layer, beside its controls."""
    from transect.results.table import Table
    from transect.studies.compare.study import compare as run

    opened = the_stores([base, *stores])
    kwargs |= {"noise": the_stores([noise])[0] if noise else None, "seed_controls": the_stores(seed_controls)}
    kwargs |= {"random": the_stores([random])[0] if random else None}
    kwargs |= {"weights": Table.load(weights / "layers.parquet") if weights else None}
    with bars() as told:
        study = run(opened, out=out, progress=told, **kwargs)
    finish(study, out, quiet=as_json)
    if as_json:
        show(study.tables["layers"], as_json=True)
