"""What signatures say is checked in every test: types by beartype, shapes by jaxtyping where one is written.

Functions of a module and methods of its classes are checked, not what is defined anew at each call.
"""

import ast
import functools
import hashlib
import sys
import typing
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import cache_from_source, decode_source
from pathlib import Path
from typing import Any
from unittest.mock import patch

import jaxtyping
from beartype import BeartypeConf, beartype

#: Compiled modules of this hook, as it is, have a name of their own.
TAG = f"checked{hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]}"
#: What is refused is a TypeError, as it would be without the hook.
TYPES = beartype(conf=BeartypeConf(violation_type=TypeError))
BOTH = jaxtyping.jaxtyped(typechecker=TYPES)


def has_shape(hint: Any) -> bool:
    """Whether a hint, or one inside it, is an array of a shape."""
    if isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray):
        return True
    return any(has_shape(inner) for inner in typing.get_args(hint))


def is_named(hint: Any) -> bool:
    """Whether a hint is, or holds, the name of something that is imported for type checkers alone."""
    return isinstance(hint, str | typing.ForwardRef) or any(map(is_named, typing.get_args(hint)))


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, which refuses arguments and results that are not what its signature says."""
    hints = function.__annotations__
    check = BOTH if any(map(has_shape, hints.values())) else TYPES
    function.__annotations__ = {name: hint for name, hint in hints.items() if not is_named(hint)}
    wrapped = check(function)
    function.__annotations__ = wrapped.__annotations__ = hints
    return wrapped


def decorated(tree: ast.Module) -> ast.Module:
    """A module with `checked` as the innermost decorator of its functions and methods, and dataclasses
    checked when they are made."""
    todo: list[ast.stmt] = list(tree.body)
    for node in todo:
        if isinstance(node, ast.If | ast.Try):
            todo += node.body
        elif isinstance(node, ast.ClassDef):
            todo += node.body
            if any("dataclass" in ast.unparse(d) for d in node.decorator_list):
                node.decorator_list.insert(0, _name("BOTH", node))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.decorator_list.append(_name("checked", node))
    return ast.fix_missing_locations(tree)


def _name(name: str, node: ast.stmt) -> ast.expr:
    """An expression for one of the names here, in any module, on the line of what it decorates."""
    tree = ast.parse(f"__import__({__name__!r}).{name}", mode="eval")
    return ast.increment_lineno(tree, node.lineno - 1).body


class Loader(SourceFileLoader):
    """Reads a module with its signatures checked."""

    def source_to_code(self, data: Any, path: Any, *, _optimize: int = -1) -> Any:  # type: ignore[override]
        tree = decorated(ast.parse(decode_source(data), path))
        return compile(tree, path, "exec", dont_inherit=True, optimize=_optimize)

    def get_code(self, fullname: str) -> Any:
        with patch(
            "importlib._bootstrap_external.cache_from_source",
            functools.partial(cache_from_source, optimization=TAG),
        ):
            return super().get_code(fullname)


class Finder(MetaPathFinder):
    """Finds the modules that are named."""

    def __init__(self, modules: Sequence[str]) -> None:
        self.modules = frozenset(modules)

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if fullname not in self.modules:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = Loader(spec.loader.name, spec.loader.path)
        return spec


def install(modules: Sequence[str]) -> None:
    """From now on these modules are read with their signatures checked."""
    sys.meta_path.insert(0, Finder(modules))
