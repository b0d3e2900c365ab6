"""Transect: how the geometry of a transformer's representations changes, and where a feature lives in it."""

__version__ = "0.1.0"
