"""The rooms of the house: a file imports only from rooms above it; files stay short; names stay public."""

import ast
import subprocess
import sys
import time
from pathlib import Path

import pytest

import transect as ts

SOURCE = Path(ts.__file__).parent
#: Import order. A file may import at module level only from earlier rows; inside functions it may also not go down.
ROOMS = (
    "lazy",
    "errors",
    "places",
    "files",
    "fetch",
    "fingerprint",
    "checkpoints",
    "sites",
    "models",
    "rows",
    "sources",
    "templates",
    "template_sets",
    "tokens",
    "texts",
    "selection",
    "shards",
    "store_checks",
    "store",
    "passes",
    "layout",
    "engine",
    "capture_shard",
    "capture",
    "sinkhorn",
    "measure",
    "measures",
    "controls",
    "stress",
    "shapes",
    "scaling",
    "smds",
    "cells",
    "table",
    "sweep",
    "changes",
    "moments",
    "streams",
    "mds",
    "live",
    "within",
    "gradients",
    "neurons",
    "neurons_gradient",
    "pruning",
    "pruning_curve",
    "train",
    "token_columns",
    "manifold_plan",
    "manifold_map",
    "study",
    "adapters",
    "intervene",
    "studies",
    "figures",
    "wire",
    "explore",
    "report",
    "app",
    "commands",
    "cli",
    "__main__",
)


def family(name: str) -> str:
    """Files named after a room, such as figures_pairs, belong to it."""
    return next((f for f in ("figures", "engine") if name.startswith(f"{f}_")), name)


def room(path: Path) -> str:
    return family(path.relative_to(SOURCE).parts[0].removesuffix(".py"))


def imports(path: Path) -> set[str]:
    """Rooms that a file imports when it runs; what is only imported for types does not count."""
    found = set()
    tree = ast.parse(path.read_text())
    tree.body = [n for n in tree.body if not (isinstance(n, ast.If) and getattr(n.test, "id", "") == "TYPE_CHECKING")]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("transect"):
            parts = str(node.module).split(".")
            found |= {parts[1]} if len(parts) > 1 else {a.name for a in node.names if a.name[0] != "_"}
        if isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("transect.")}
    return {family(name) for name in found}


FILES = sorted(p for p in SOURCE.rglob("*.py") if room(p) != "__init__")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_go_up_only(path: Path) -> None:
    here = ROOMS.index(room(path))
    below = {r for r in imports(path) if r in ROOMS and ROOMS.index(r) > here}
    assert not below, f"{path.name} imports from below: {below}"
    assert imports(path) <= {*ROOMS}, f"unknown room: {imports(path) - {*ROOMS}}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_files_open_with_what_they_are_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), "say what this room is for and what may enter"
    assert len(path.read_text().splitlines()) <= 330


def test_public_names() -> None:
    for name in [
        "open_model",
        "open_texts",
        "capture",
        "open_store",
        "sweep",
        "report",
        "measures",
        "studies",
        "TransectError",
    ]:
        assert getattr(ts, name) is not None
    import transect.capture
    import transect.sweep  # noqa: F401  importing the file must not take the function's place

    assert callable(ts.sweep)
    assert callable(ts.capture)
    assert callable(ts.studies.drift)
    with pytest.raises(AttributeError, match="there is: open_model"):
        ts.nonsense  # noqa: B018
    with pytest.raises(AttributeError, match="cosine"):
        ts.measures.nonsense  # noqa: B018


def test_help_is_quick_and_needs_no_torch() -> None:
    code = "import sys, click.testing\nfrom transect.cli import cli\nr = click.testing.CliRunner().invoke(cli, ['--help'])\nassert r.exit_code == 0\nassert 'drift' in r.output\nassert not {'torch', 'transformers', 'matplotlib', 'scipy'} & set(sys.modules)"
    begun = time.process_time()
    subprocess.run([sys.executable, "-c", code], check=True)
    assert time.process_time() - begun < 5
