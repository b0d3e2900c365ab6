"""Values of the wrong kind in a call from Python: a message that names what to give."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import transect as ts
from transect.errors import TransectError
from transect.work.options import Work, checked, within


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ts.Store:
    random = np.random.default_rng(0)
    points = {f"resid.{k}": [random.normal(size=(4, 5)) for _ in range(12)] for k in range(2)}
    return ts.store_from_arrays(points, tmp_path_factory.mktemp("misuse") / "s")


#: Options, and parameters with a type of their own, which a process without the tests' type checks is given.
WRONG: list[tuple[str, Any]] = [
    ("n", "abc"), ("n", [3]), ("n", np.int64(-5)), ("n", 1 << 70), ("groups", 2.5), ("groups", None),
    ("groups", np.int64(-5)), ("groups", True), ("seed", None), ("seed", 1.5), ("seed", 1 << 70),
    ("massive", "x"), ("position0", "no"), ("position0", 2), ("tokens", None), ("tokens", 1.5),
    ("tokens", [1]), ("tokens", True), ("tokens", 100), ("tokens", -1 << 70), ("tokens", "-90"),
    ("sites", None), ("sites", 5), ("sites", [5]), ("out", 5), ("out", ""), ("out", "a\0b"),
    ("workers", 1.5), ("engine", None), ("progress", "x"), ("unbiased", "yes"), ("permutations", "x"),
    ("permutations", True), ("pairs", None), ("pairs", [5]), ("pairs", [("resid.0",)]), ("pca", "x"),
    ("pca", 2.5), ("pca", True), ("normalise", None), ("label", 5), ("swaps", "x"), ("measure", None),
    ("measure", []), ("measure", [5]), ("stores", None), ("stores", []), ("stores", "x"), ("stores", [None]),
]  # fmt: skip


def refused(at: str) -> None:
    """Every wrong value ends in a message. For a process of its own."""
    store = ts.open_store(at)
    calls = [lambda given={name: value}: _swept(store, given) for name, value in WRONG]
    calls += [lambda: store.points(None), lambda: store.points("resid.0", tokens=None)]
    calls += [lambda: store.sample("t0", "resid.0"), lambda: ts.report(5, "x.html"), lambda: ts.open_store(5)]
    for k, call in enumerate(calls):
        try:
            call()
        except TransectError:
            continue
        raise AssertionError(f"taken: {WRONG[k] if k < len(WRONG) else k}")
    print("refused", len(calls), "of", len(WRONG) + 5, *Path.cwd().iterdir())


def _swept(store: ts.Store, given: dict[str, Any]) -> None:
    given = {"measure": "cka", "stores": store, "workers": 1, "groups": 4, "permutations": 0} | given
    ts.sweep(given.pop("measure"), given.pop("stores"), **given)


@pytest.mark.fault(
    "bad input",
    "a value of the wrong kind, or a number of NumPy out of range, in a call from Python",
    "refused, with what to give",
)
def test_no_value_of_another_kind_is_taken(store: ts.Store, tmp_path: Path) -> None:
    here = Path(__file__)
    code = f"import sys; sys.path.insert(0, {str(here.parent)!r}); import {here.stem} as t"
    code += "; t.refused(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", code, str(store.path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(ts.__file__).parents[1])},
        check=False,
    )
    assert done.stdout.split("refused")[-1].split() == [str(len(WRONG) + 5), "of", str(len(WRONG) + 5)], done


def test_equal_values_of_another_type_are_taken(store: ts.Store) -> None:
    plain = {"n": 24, "groups": 4, "seed": 3, "tokens": 2, "sites": "resid.0,resid.1", "permutations": 0}
    typed = {"n": np.int64(24), "groups": 4.0, "seed": np.uint8(3), "tokens": np.int32(2)}
    typed |= {"sites": ["resid.0", "resid.1"], "permutations": 0, "position0": np.bool_(False)}
    tables = [ts.sweep("cosine", store, workers=1, **options) for options in (plain, typed)]
    assert tables[0].frame.equals(tables[1].frame)


def test_a_home_is_resolved_and_ranges_hold_for_numbers_of_numpy() -> None:
    assert Work(out="~/x").out == Path.home() / "x"
    assert type(checked("n", np.float32(2), within(1, 3), int)) is int
    with pytest.raises(TransectError, match="Give 3 or less"):
        checked("n", np.int8(4), within(1, 3), int)


def test_a_report_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TransectError, match="no studies"):
        ts.report([], tmp_path / "x.html")


@pytest.mark.parametrize("name", ["x.csv", "x.json", "", "a\0b"])
def test_a_table_is_no_file_of_another_kind(store: ts.Store, name: str, tmp_path: Path) -> None:
    table = ts.sweep("cosine", store, permutations=0, groups=4, workers=1)
    with pytest.raises(TransectError):
        table.save(tmp_path / name if "." in name else name)
    assert list(tmp_path.iterdir()) == []
