"""Measures by name: `ts.measures.cka`. A file dropped into this folder is found; nothing is listed here."""

from typing import Any

from transect.measure import registry


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    found = registry().get(name)
    if found is None:
        raise AttributeError(f"transect.measures has no measure {name!r}; there are: {', '.join(registry())}")
    return found


def __dir__() -> list[str]:
    return list(registry())
