"""Look at studies and stores in a browser: `transect app DIR`."""

import sys
import webbrowser
from typing import Any

import click

from transect.cli.options import command, explicit
from transect.page.server import serve


def _ready(address: str) -> None:
    """The address alone on the first line of stdout, what else there is to say on stderr."""
    click.echo(address)
    sys.stdout.flush()
    click.echo("transect: serving this machine only; Ctrl-C stops", err=True)


def _run(values: dict[str, Any]) -> None:
    browser = None if values.pop("no_browser") else webbrowser.open
    serve(**explicit(values, serve), ready=_ready, browser=browser)


app = command(
    serve,
    _run,
    name="app",
    arguments=("folders",),
    extra=[click.Option(["--no-browser"], is_flag=True, help="Only print the address.")],
    leave=("ready", "browser"),
)
