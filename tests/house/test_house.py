"""The rooms of the house: a folder imports only from folders above it, files stay short, names stay
public."""

import ast
import subprocess
import sys
import time
from pathlib import Path

import pytest

import transect as ts

SOURCE = Path(ts.__file__).parent
#: Import order. A file imports only from its own folder and from earlier ones, inside functions too.
ROOMS = (
    "",
    "work",
    "texts",
    "numeric",
    "models",
    "store",
    "measures",
    "results",
    "inference",
    "studies",
    "train",
    "integrations",
)
ROOMS = (*ROOMS, "page", "cli")
FILES = sorted(SOURCE.rglob("*.py"))
IDS = [str(p.relative_to(SOURCE)) for p in FILES]


def room(path: Path) -> str:
    parts = path.relative_to(SOURCE).parts
    return parts[0] if len(parts) > 1 else ""


def imported(path: Path, *, when_run: bool = True) -> set[str]:
    """Dotted modules of ours that a file imports; what is only imported for types does not count."""
    tree = ast.parse(path.read_text())
    if when_run:
        tree.body = [
            n
            for n in tree.body
            if not (isinstance(n, ast.If) and getattr(n.test, "id", "") == "TYPE_CHECKING")
        ]
    modules = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "transect":
            base = str(node.module)
            for alias in node.names:
                inner = SOURCE.parent / Path(*base.split("."), alias.name)
                modules.add(
                    f"{base}.{alias.name}" if inner.with_suffix(".py").exists() or inner.is_dir() else base
                )
        if isinstance(node, ast.Import):
            modules |= {a.name for a in node.names if a.name.split(".")[0] == "transect"}
    return modules


def room_of_module(module: str) -> str:
    parts = module.split(".")[1:]
    return parts[0] if parts and (SOURCE / parts[0]).is_dir() else ""


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_a_folder_imports_only_from_folders_above(path: Path) -> None:
    if path == SOURCE / "__main__.py":
        return
    here = ROOMS.index(room(path))
    below = {m for m in imported(path) if ROOMS.index(room_of_module(m)) > here}
    assert not below, f"{path.relative_to(SOURCE)} imports from below: {sorted(below)}"


def test_the_root_holds_at_most_six_files_and_folders_are_listed() -> None:
    assert len(list(SOURCE.glob("*.py"))) <= 6
    folders = {p.name for p in SOURCE.iterdir() if p.is_dir() and any(p.rglob("*.py"))}
    assert folders == set(ROOMS) - {""}
    assert max(len(p.relative_to(SOURCE).parts) for p in FILES) <= 3, "folders are at most two deep"


def test_no_file_imports_itself_around_a_circle() -> None:
    names = {
        "transect." + ".".join(p.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): p
        for p in FILES
    }
    graph: dict[str, set[str]] = {}
    for name, path in names.items():
        tree = ast.parse(path.read_text())
        top = [n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
        probe = ast.Module(top, [])
        found = set()
        for node in probe.body:
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("transect"):
                for alias in node.names:
                    whole = f"{node.module}.{alias.name}"
                    found.add(whole if whole in names else str(node.module))
        graph[name] = {m for m in found if m in names and m != name}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, f"circle: {' → '.join((*path, name))}"
        if name in done:
            return
        for other in sorted(graph[name]):
            visit(other, (*path, name))
        done.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_files_open_with_what_they_are_for_and_stay_short(path: Path) -> None:
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text)), "say what this room is for and what may enter"
    assert len(text.splitlines()) <= 330
    long = [k for k, line in enumerate(text.splitlines(), 1) if len(line) > 110]
    assert not long, f"lines over 110 characters: {long}"


def test_tests_mirror_the_folders() -> None:
    here = Path(__file__).parents[1]
    folders = {p.name for p in here.iterdir() if p.is_dir() and list(p.glob("test_*.py"))}
    assert folders <= {*ROOMS, "files", "house"}
    assert not list(here.glob("test_*.py")), "tests stand in the folder of what they test"


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
    import transect.inference.sweep
    import transect.store.capture
    import transect.studies.drift  # noqa: F401  importing the folder must not take the function's place

    assert callable(ts.sweep)
    assert callable(ts.capture)
    assert callable(ts.studies.drift)
    with pytest.raises(AttributeError, match="there is: open_model"):
        ts.nonsense  # noqa: B018
    with pytest.raises(AttributeError, match="cosine"):
        ts.measures.nonsense  # noqa: B018


def test_help_is_quick_and_needs_no_torch() -> None:
    code = (
        "import sys, click.testing\nfrom transect.cli.main import cli\n"
        "r = click.testing.CliRunner().invoke(cli, ['--help'])\nassert r.exit_code == 0, r.output\n"
        "assert 'drift' in r.output\n"
        "assert not {'torch', 'transformers', 'matplotlib', 'scipy'} & set(sys.modules)"
    )
    begun = time.process_time()
    subprocess.run([sys.executable, "-c", code], check=True)
    assert time.process_time() - begun < 5


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_no_public_function_has_more_than_eight_parameters_of_its_own(path: Path) -> None:
    """Options that several functions take are declared as a group; constructors are exempt."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            own = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            own = [a for a in own if a.arg not in ("self", "cls")]
            assert len(own) <= 8, f"{path.name}: {node.name} has {len(own)}"
