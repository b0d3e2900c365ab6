"""Studies by name: `ts.studies.drift(store)`. A folder here answers one question; the function of its own
name is in study.py.

Studies of other packages are found by the entry points `transect.studies` (name → "module:function").
"""

import importlib.metadata
import importlib.util
import pkgutil

from transect import publish


def builtin() -> dict[str, str]:
    """Study → "module:function" of the folders here."""
    folders = [m.name for m in pkgutil.iter_modules(__path__) if m.ispkg]
    return {n: f"transect.studies.{n}.study:{n}" for n in folders}


def names() -> dict[str, str]:
    """Study → "module:function": the folders here that define one, and what other packages bring."""
    return builtin() | {e.name: e.value for e in importlib.metadata.entry_points(group="transect.studies")}


publish(__name__, names, builtin)
