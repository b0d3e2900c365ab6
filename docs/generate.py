"""Write the pages that are made from the code and from its tests: `python docs/generate.py`. A test compares
what is there with them."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from transect.cli.main import cli
from transect.measures.registry import registry
from transect.results import terms
from transect.studies.reproduce.claims import claims

HERE = Path(__file__).parent
TESTS = HERE.parent / "tests"
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


FAULTS = """<!-- Made by docs/generate.py; edit the marks of the tests instead. -->

# When things go wrong

What happens to a run when the machine, the disk or the input lets it down, what you see, and what to do. Each
line is made from the mark of the test that holds it, and each number below is compared by a test with what
it tried. Two things hold throughout: what was finished stays as it is, and a number is never computed from a
file that is not what was written without `transect info DIR --verify` being able to say so. Messages end
with exit status 2.
"""
#: Table → its columns.
TABLES = {
    "bad luck": ("what happens", "what you see", "what to do"),
    "bad input": ("what comes", "what happens"),
}


def faults() -> str:
    """The lines that tests hold, by their marks, and how many stops and damages they try."""
    lines: dict[str, dict[str, tuple[str, ...]]] = {name: {} for name in TABLES}
    held: dict[str, list[str]] = {}
    for test, (table, first, *rest) in marks():
        if rest and (first in lines[table] or len(rest) + 1 != len(TABLES[table])):
            raise ValueError(f"{test}: {first!r} is told twice, or has another number of cells")
        if rest:
            lines[table][first] = (first, *rest)
        held.setdefault(first, []).append(f"`{test}`")
    if lost := set(held) - {first for told in lines.values() for first in told}:
        raise ValueError(f"lines without their other cells: {', '.join(sorted(lost))}")
    parts = [FAULTS]
    for name, told in lines.items():
        rows = [(*cells, "<br>".join(held[first])) for first, cells in told.items()]
        parts.append(f"## {name.capitalize()}\n\n{_table((*TABLES[name], 'held by'), rows)}")
    stops, damages = (_constant(name) for name in ("STOPS", "DAMAGES"))
    parts.append(
        "## How much is tried\n\nEvery writer is stopped before every one of its calls to the disk (open, "
        "write, sync, rename, remove …), and run again. In every file that lies on a disk bits are flipped "
        f"and ends are cut off: {sum(stops.values()):,} stops, {sum(damages.values()):,} damages.\n\n"
        + _table(("writer", "stops"), [(k, f"{n:,}") for k, n in stops.items()])
    )
    parts.append(_table(("what is damaged", "damages"), [(k, f"{n:,}") for k, n in damages.items()]))
    return "\n".join(parts)


def marks() -> Iterator[tuple[str, list[str]]]:
    """(file::test, cells) of every `pytest.mark.fault`, in the order of files and lines; nothing is
    imported."""
    for file in sorted(TESTS.rglob("test_*.py")):
        text = file.read_text(encoding="utf-8")
        if "mark.fault(" not in text:
            continue
        tests = (n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef))
        for test in sorted(tests, key=lambda n: n.lineno):
            for mark in test.decorator_list:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.fault":
                    name = f"{file.relative_to(TESTS).as_posix()}::{test.name}"
                    yield name, [ast.literal_eval(cell) for cell in mark.args]


def _constant(name: str) -> dict[str, Any]:
    """A dictionary of tests/crashing.py, read and not run."""
    tree = ast.parse((TESTS / "crashing.py").read_text(encoding="utf-8"))
    return next(
        ast.literal_eval(n.value)
        for n in tree.body
        if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == name
    )


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |\n" for row in lines)


def published() -> str:
    """Every published claim as claims.toml has it: source, statement, number, models, what is measured."""
    rows = [
        (f"`{c.name}`", c.source, c.claim, c.number, ", ".join(c.models), c.measures)
        for c in claims().values()
    ]
    head = HEAD.replace("the docstrings", "studies/reproduce/claims.toml")
    about = "# The published claims\n\nWhat `transect reproduce --list` shows; see [here](../claims.md).\n\n"
    return head + about + _table(("name", "source", "claim", "published", "models", "measured"), rows)


def llms() -> str:
    """The documentation for readers that are language models: pages in the order of the site, a line each."""
    root = HERE.parent
    about = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [f"# Transect\n\n> {about['description']}\n\nVersion {about['version']}, {about['license']}.\n"]
    lines.append("## Pages\n")
    for title, page in re.findall(r"- ([^:\n]+): (\S+\.md)$", (root / "mkdocs.yml").read_text(), re.M):
        lines.append(f"- [{title}]({page}): {_first_sentence((HERE / page).read_text(encoding='utf-8'))}")
    lines.append("\n## Public names\n")
    import transect

    lines += [f"- `ts.{name}`: `{where}`" for name, where in transect._PUBLIC.items()]
    return "\n".join(lines) + "\n"


def _first_sentence(text: str) -> str:
    """The first sentence of a page that is no heading, comment, picture or table."""
    parts = [p.strip() for p in text.split("\n\n")]
    prose = next((p for p in parts if p and p[0] not in "#<!|`-*["), parts[0].lstrip("# "))
    return " ".join(prose.split()).partition(". ")[0].rstrip(".") + "."


def recipe() -> str:
    """A conda recipe with the dependencies and the version of pyproject.toml."""
    about = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {"torch": "pytorch", "polars": "polars", "POT": "pot", "matplotlib": "matplotlib-base"}

    def needs(several: list[str]) -> str:
        parts = [re.fullmatch(r"([\w.-]+)(?:\[\w+\])?(.*)", line) for line in several]
        return "".join(f"    - {names.get(m[1], m[1])} {m[2]}".rstrip() + "\n" for m in parts if m)

    return (
        "# Made by docs/generate.py from pyproject.toml.\n"
        f"package:\n  name: {about['name']}\n  version: {about['version']}\n\nsource:\n  path: ..\n\n"
        "build:\n  noarch: python\n  number: 0\n"
        "  script: python -m pip install . --no-deps --no-build-isolation\n"
        "  entry_points:\n    - transect = transect.cli.main:main\n\n"
        f"requirements:\n  host:\n    - python {about['requires-python']}\n    - pip\n    - hatchling\n"
        f"  run:\n    - python {about['requires-python']}\n{needs(about['dependencies'])}\n"
        "test:\n  imports:\n    - transect\n  commands:\n    - transect --help\n\n"
        f"about:\n  license: {about['license']}\n  license_file: LICENSE\n  summary: {about['description']}\n"
    )


PAGES = {
    "reference/measures.md": measures,
    "reference/commands.md": commands,
    "reference/claims.md": published,
    "faults.md": faults,
    "terms.md": lambda: HEAD.replace("docstrings", "table in results/terms.py") + terms.page(),
    "llms.txt": llms,
    "../conda/meta.yaml": recipe,
}

if __name__ == "__main__":
    for page, write in PAGES.items():
        (HERE / page).parent.mkdir(exist_ok=True)
        (HERE / page).write_text(write(), encoding="utf-8")
