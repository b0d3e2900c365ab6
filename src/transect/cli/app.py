"""`transect app DIR`."""

import sys
import webbrowser
from pathlib import Path

import click


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--port", default=0, show_default=True, help="Port on 127.0.0.1; 0 takes a free one.")
@click.option("--model", "models", multiple=True, help="A model to prompt, beside those that the runs name.")
@click.option("--no-browser", is_flag=True, help="Only print the address.")
def app(folders: tuple[Path, ...], port: int, models: tuple[str, ...], no_browser: bool) -> None:
    """Look at studies and stores in a browser: a study, a store, or folders that hold many.

    Prints its address, alone, on the first line of stdout. Only this machine can ask, and only with the token
    in the address; nothing leaves the machine. Stop with Ctrl-C.
    """
    from transect.page.server import serve

    def ready(address: str) -> None:
        click.echo(address)
        sys.stdout.flush()
        click.echo("transect: serving this machine only; Ctrl-C stops", err=True)
        if not no_browser:
            webbrowser.open(address)

    serve(folders, port=port, models=models, ready=ready)
