"""Public names that are imported when asked for, also where a function and its file share a name (`ts.sweep`)."""

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any


def publish(package: str, names: Callable[[], dict[str, str]]) -> None:
    """Give `package` the attributes of `names()`: public name → "module:attribute", or "module" for a whole module."""

    class Package(ModuleType):
        def __getattr__(self, name: str) -> Any:
            target = {} if name.startswith("__") else names()
            if name not in target:
                there = ", ".join(target) or "nothing"
                raise AttributeError(f"{package} has no {name!r}; there is: {there}")
            module, _, attribute = target[name].partition(":")
            found = importlib.import_module(module)
            value = getattr(found, attribute) if attribute else found
            super().__setattr__(name, value)
            return value

        def __setattr__(self, name: str, value: Any) -> None:
            # importing a file binds it on its package; the public name of the same spelling stays what it is
            if isinstance(value, ModuleType) and ":" in names().get(name, ""):
                return
            super().__setattr__(name, value)

        def __dir__(self) -> list[str]:
            return sorted({*super().__dir__(), *names()})

    sys.modules[package].__class__ = Package
