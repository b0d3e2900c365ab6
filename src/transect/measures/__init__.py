"""Measures by name: `ts.measures.cka`. A file dropped into this folder is found; nothing is listed here."""

from transect import publish


def _names() -> dict[str, str]:
    from transect.measures.registry import registry

    return {name: f"{m.__module__}:{name}" for name, m in registry().items()}


def _known() -> dict[str, str]:
    from transect.measures.contract import REGISTRY

    return {name: f"{m.__module__}:{name}" for name, m in REGISTRY.items()}


publish(__name__, _names, _known)
