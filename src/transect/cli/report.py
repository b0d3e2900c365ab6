"""`transect report DIR --out FILE`."""

from pathlib import Path

import click

from transect.cli.options import PathName


@click.command()
@click.argument("studies", nargs=-1, required=True, type=PathName())
@click.option("--out", type=PathName(), required=True, help="The HTML file to write.")
@click.option("--static", is_flag=True, help="Leave out the interactive part: no script at all.")
def report(studies: tuple[Path, ...], out: Path, static: bool) -> None:
    """One self-contained HTML file from study folders: figures, data, methods, provenance, and the app's own
    views of the same results. Opens offline."""
    from transect.page.report import report as write

    click.echo(write(list(studies), out, static=static))
