"""Write the reference pages from the code: `python docs/generate.py`. A test compares what is there with the
code."""

from pathlib import Path

import click

from transect.cli.main import cli
from transect.measures.registry import registry

FOLDER = Path(__file__).parent / "reference"
HEAD = "<!-- Made by docs/generate.py; edit the docstrings instead. -->\n\n"


def measures() -> str:
    """Every measure with signature, declaration and docstring."""
    parts = [
        HEAD + "# Measures\n\nCall them on arrays (`ts.measures.NAME`), sweep them over a store, or run "
        "`transect measure NAME STORE`.\n"
    ]
    for name, m in registry().items():
        options = ", ".join(f"{o.name}={o.default!r}" for o in m.options.values())
        parts.append(f"## {name}\n\n`{name}({', '.join(m.data)}{', *, ' + options if options else ''})`\n")
        body = m.__doc__ or ""
        parts.append(body + "\n")
        told = [f"control: {m.control}", f"on itself: {m.itself if m.itself is not None else '–'}"]
        told.append(f"invariant to {', '.join(sorted(m.invariant_to)) or 'nothing declared'}")
        if m.fields:
            told.append(f"fields: {', '.join(m.fields)}; `value` is {m.headline}")
        parts.append(f"*{'; '.join(told)}.*  \nSource: {m.source}\n")
    return "\n".join(parts)


def commands() -> str:
    """Every command with the options that `--help` shows."""
    parts = [
        HEAD + "# Commands\n\nProgress goes to stderr, tables to stdout. "
        "Exit 0: done; 2: your input; 1: our bug.\n"
    ]
    top = click.Context(cli, info_name="transect", **cli.context_settings)
    for name in cli.list_commands(top):
        command = cli.get_command(top, name)
        assert command is not None
        context = click.Context(command, parent=top, info_name=name, max_content_width=100)
        if name == "measure":
            text = (command.help or "") + "\n\nMeasures: " + ", ".join(registry())
            parts.append(f"## transect measure\n\n{text}. Options of each: `transect measure NAME --help`.\n")
            continue
        parts.append(f"## transect {name}\n\n```text\n{command.get_help(context)}\n```\n")
    return "\n".join(parts)


PAGES = {"measures.md": measures, "commands.md": commands}

if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for page, write in PAGES.items():
        (FOLDER / page).write_text(write())
