"""Keys under which finished work is kept: what went in, the code that the work can reach, and the numeric
libraries.

An edited helper changes the key of all that depends on it, however far away it stands; nothing is listed by
hand.
"""

import ast
import functools
import hashlib
import importlib.metadata
import importlib.util
import json
from pathlib import Path
from typing import Any

#: Distributions whose version may move a number.
LIBRARIES = ("numpy", "scipy", "scikit-learn", "POT", "torch")


def key_of(value: Any, *modules: str) -> str:
    """Twenty-four hex digits of a JSON-like value, of the sources that `modules` reach, and of the libraries'
    versions."""
    parts = [value, *(code_of(m) for m in sorted(set(modules))), libraries()]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:24]


@functools.cache
def code_of(module: str) -> str:
    """sha256 over the files of a module and of every module of its package that it imports, directly or
    not."""
    sources = reached(module)
    digest = hashlib.sha256()
    for name in sorted(sources):
        digest.update(f"{name}\0".encode() + hashlib.sha256(sources[name].read_bytes()).digest())
    return digest.hexdigest()


@functools.cache
def libraries() -> tuple[str, ...]:
    """name==version of the numeric libraries that are installed."""
    entries = []
    for name in LIBRARIES:
        try:
            entries.append(f"{name}=={importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return tuple(entries)


def reached(module: str) -> dict[str, Path]:
    """Module → file of everything in the same top-level package, and in this one, that `module` imports,
    itself included.

    Imports inside functions count; those under TYPE_CHECKING do too, which only makes a key change more
    often.
    """
    ours = {module.partition(".")[0], __name__.partition(".")[0]}
    files: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in files or name.partition(".")[0] not in ours or (file := _file_of(name)) is None:
            continue
        files[name] = file
        waiting += [*sorted(_imports(file, name)), name.rpartition(".")[0] or name]
    return files


def _file_of(module: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError, AttributeError):
        return None
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


def _imports(file: Path, module: str) -> set[str]:
    """Dotted names that a file imports; `from package import name` may mean a module of that name or what is
    in it."""
    names: set[str] = set()
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.rsplit(".", node.level - 1)[0] if node.level > 1 else package
            base = ".".join(part for part in (above if node.level else "", node.module or "") if part)
            names |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return names
