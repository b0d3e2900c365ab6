"""`transect adapters ADAPTER_DIR --base MODEL --out OUT`."""

from pathlib import Path

import click

from transect.cli.options import PathName, WholeRange
from transect.cli.shared import JSON, OUT, OVERWRITE, SEED, bars, finish, room_for, show
from transect.results.study import check_study


@click.command()
@click.argument("adapter", type=PathName())
@click.option("--base", required=True, help="The model that the adapter was trained on.")
@click.option("--full", default=None, help="A full fine-tune of the same base, to stand beside it.")
@click.option(
    "--top", type=WholeRange(1), default=16, show_default=True, help="Leading singular directions of W."
)
@OUT
@OVERWRITE
@SEED
@JSON
def adapters(
    adapter: Path, base: str, full: str | None, top: int, out: Path, overwrite: bool, seed: int, as_json: bool
) -> None:
    """What a LoRA adapter did to the weights: size, spectrum and direction of ΔW in every module."""
    from transect.studies.adapters.study import adapters as run

    with room_for(out, overwrite, {"adapter": adapter, "base": base, "full": full}):
        check_study(out, "adapters")
        with bars() as told:
            study = run(adapter, base, full=full, top=top, seed=seed, progress=told)
        finish(study, out, quiet=as_json)
    if as_json:
        show(study.tables["modules"], as_json=True)
