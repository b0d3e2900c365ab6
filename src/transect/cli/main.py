"""The command line: `transect VERB …`. Studies and measures become commands by their signature; others are
files here.

Progress goes to stderr, tables to stdout. Exit 0: done; 1: a bug, with its traceback; 2: the user's input,
with what to change.
"""

import ast
import importlib
import importlib.util
import keyword
import pkgutil
import sys
import textwrap
from pathlib import Path

import click

from transect import __version__
from transect.errors import TransectError, nearest, plain

#: Files of this folder that are no commands.
INNER = ("main", "shared", "options", "studies", "forms")


class Commands(click.Group):
    """Finds commands by file name, and those of studies by the names of studies. Nothing is imported to list
    them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the files beside this one that hold a command, and of the studies."""
        from transect.studies import names

        files = [m.name for m in pkgutil.iter_modules([str(Path(__file__).parent)]) if m.name not in INNER]
        return sorted({*(file.rstrip("_") for file in files), *names()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command in the file of that name, else the one of the study."""
        if cmd_name not in (known := self.list_commands(ctx)):
            raise click.UsageError(f"No such command {cmd_name!r}.{nearest(cmd_name, known)}", ctx)
        if (file := _file(cmd_name)).is_file() and cmd_name not in INNER:
            return getattr(importlib.import_module(f"transect.cli.{file.stem}"), file.stem)
        from transect.cli.studies import study_command

        return study_command(cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Every command with the first line of its docstring, read from its file and not imported."""
        from transect.studies import names

        known = names()
        rows = [(name, _summary(name, known)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _file(name: str) -> Path:
    """The file of a command; a word of Python has `_` behind it."""
    return Path(__file__).parent / f"{name}{'_' * keyword.iskeyword(name)}.py"


def _summary(name: str, studies: dict[str, str]) -> str:
    """First sentence of the docstring of a command, or of one of the studies."""
    file, function = _file(name), name
    if not file.is_file():
        module, _, function = studies[name].partition(":")
        spec = importlib.util.find_spec(module)
        file = Path(str(spec.origin)) if spec else file
    tree = ast.parse(file.read_text(encoding="utf-8"))
    definition = next((n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == function), None)
    text = ast.get_docstring(definition) if definition else ast.get_docstring(tree)
    return (text or "").split("\n\n")[0].replace("\n", " ").split(". ")[0].split(": `")[0].rstrip(".")


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
    except MemoryError as error:
        refusal = TransectError(
            f"not enough memory ({error})." if str(error) else "not enough memory.",
            "Ask for less at once: fewer points (--n), sites or layers, draws or workers.",
        )
        click.echo(message(refusal), err=True)
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
