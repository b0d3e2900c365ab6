"""What the tests of attacks share: a store to spoil, and a call whose refusal must fit a screen."""

import functools
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings

import transect as ts
from planted import planted_store
from transect.cli.main import message
from transect.errors import TransectError

HOST, TOKEN = "127.0.0.1:4000", "sesame"
modest = functools.partial(
    settings, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def small_store(out: Path) -> ts.Store:
    """Four texts, two sites of unequal width, a landmark."""
    rng = np.random.default_rng(0)
    layers = [rng.normal(size=(27, 6)) + 3, rng.normal(size=(27, 4))]
    return planted_store(out, layers, [7, 5, 9, 6], landmarks={"verb": [1, 2, 0, 3]})


def changed(store: ts.Store, tmp_path: Path) -> Path:
    """A copy of a store, to be spoilt."""
    copy = Path(tempfile.mkdtemp(dir=tmp_path)) / "store"
    shutil.copytree(store.path, copy)
    return copy


def told_briefly(call: Any, *given: Any) -> Any:
    """The result, or None where a TransectError came that fits a screen."""
    try:
        return call(*given)
    except TransectError as error:
        shown = message(error)
    assert len(shown) < 10_000
    return None
