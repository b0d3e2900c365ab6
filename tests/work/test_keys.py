"""Keys of finished work: an edited helper, another option or another library version is another key."""

import sys
from pathlib import Path

import pytest

from transect.work import keys


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package in which main imports near inside a function, and near imports far."""
    home = tmp_path / "somebody"
    home.mkdir()
    (home / "__init__.py").write_text("")
    (home / "main.py").write_text("def work():\n    from somebody.near import value\n    return value\n")
    (home / "near.py").write_text("from .far import value\n")
    (home / "far.py").write_text("value = 1\n")
    (home / "other.py").write_text("value = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    keys.code_of.cache_clear()
    yield home
    keys.code_of.cache_clear()
    for name in [m for m in sys.modules if m.split(".")[0] == "somebody"]:
        sys.modules.pop(name)


def test_a_helper_of_a_helper_changes_the_key_and_a_stranger_does_not(package: Path) -> None:
    assert set(keys.reached("somebody.main")) == {f"somebody{m}" for m in ("", ".main", ".near", ".far")}
    before = keys.key_of({"n": 1}, "somebody.main")
    (package / "other.py").write_text("value = 2\n")
    keys.code_of.cache_clear()
    assert keys.key_of({"n": 1}, "somebody.main") == before
    (package / "far.py").write_text("value = 2\n")
    keys.code_of.cache_clear()
    assert keys.key_of({"n": 1}, "somebody.main") != before


def test_options_and_libraries_are_in_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = keys.key_of({"n": 1}, "transect.errors")
    assert keys.key_of({"n": 1}, "transect.errors") == before
    assert keys.key_of({"n": 2}, "transect.errors") != before
    monkeypatch.setattr(keys, "libraries", lambda: ("numpy==0",))
    assert keys.key_of({"n": 1}, "transect.errors") != before


def test_the_key_of_a_cell_sees_the_solver_behind_a_measure() -> None:
    reached = keys.reached("transect.measures.transport")
    assert {"transect.numeric.sinkhorn", "transect.measures.contract"} <= set(reached)
    assert "transect.random" in keys.reached("transect.inference.evaluate")
