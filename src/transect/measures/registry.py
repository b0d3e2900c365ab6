"""Every measure by name: those of this folder and of entry points."""

import functools
import importlib
import importlib.metadata
import pkgutil

from transect.errors import TransectError, nearest
from transect.measures.contract import REGISTRY, Measure


def registry() -> dict[str, Measure]:
    """Every measure by name: each file in `measures/` and each entry point `transect.measures` (a module, or
    a measure)."""
    _load()
    return dict(sorted(REGISTRY.items()))


@functools.cache
def _load() -> None:
    """Import them all; once, because looking through the installed packages takes tens of milliseconds."""
    package = importlib.import_module("transect.measures")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"transect.measures.{module.name}")
    for entry in importlib.metadata.entry_points(group="transect.measures"):
        entry.load()


def find(name: "str | Measure") -> Measure:
    """The measure called `name`; TransectError lists the ones there are."""
    if isinstance(name, Measure):
        return name
    if not isinstance(name, str):
        raise TransectError(f"{name!r:.80} is no measure.", "Give a name, or what @measure made.")
    if name in REGISTRY:
        return REGISTRY[name]
    if name not in (known := registry()):
        raise TransectError(f"no measure {name!r}.{nearest(name, known)}", f"There are: {', '.join(known)}.")
    return known[name]
