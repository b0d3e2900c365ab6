"""The command line: `transect VERB …`. Commands are the files of this folder; measures become commands by their signature.

Progress goes to stderr, tables to stdout. Exit 0: done; 1: a bug, with its traceback; 2: the user's input, with what to
change.
"""

import importlib
import pkgutil
import sys
import textwrap
from pathlib import Path

import click

from transect import __version__
from transect.errors import TransectError
from transect.files import plain

#: Files of this folder that are no commands.
INNER = ("main", "shared")


class Commands(click.Group):
    """Finds commands by file name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the files beside this one that hold a command."""
        return sorted(
            m.name for m in pkgutil.iter_modules([str(Path(__file__).parent)]) if m.name not in INNER
        )

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command in the file of that name."""
        if cmd_name not in self.list_commands(ctx):
            return None
        return getattr(importlib.import_module(f"transect.cli.{cmd_name}"), cmd_name)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="transect")
def cli() -> None:
    """How the geometry of a transformer's representations changes, and where a feature lives in it."""


def main() -> None:
    """Entry point: a user's error becomes a message and exit 2."""
    try:
        cli(standalone_mode=False)
    except TransectError as error:
        click.echo(message(error), err=True)
        sys.exit(2)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        click.echo("transect: stopped; what was finished is kept, run the same command to go on.", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(0)


def message(error: TransectError) -> str:
    """The error as the user reads it: what was asked and the limit, then what to change."""
    indent = " " * 10
    lines = textwrap.wrap(_short(error.message), 110, initial_indent="transect: ", subsequent_indent=indent)
    lines += textwrap.wrap(_short(error.fix), 110, initial_indent=indent, subsequent_indent=indent)
    return "\n".join(plain(line) for line in lines)


def _short(text: str, most: int = 2000) -> str:
    """What others wrote may be quoted in a message, but does not fill the screen."""
    return text if len(text) <= most else f"{text[:most]} … ({len(text):,} characters)"
