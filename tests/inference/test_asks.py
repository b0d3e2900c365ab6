"""Asks: tables are on disk as soon as they are whole."""

from pathlib import Path
from typing import Any

import pytest

from transect.inference.asks import Ask, answer
from transect.results.table import Table
from transect.work.options import Work


def _row(task: int) -> dict[str, Any]:
    if task < 0:
        raise ZeroDivisionError("planted")
    return {"value": float(task)}


@pytest.mark.fault(
    "bad luck",
    "a study that breaks off",
    "the tables that were whole are in OUT/cells",
    "mend the cause and run the same command: it goes on",
)
def test_tables_are_kept_when_a_later_ask_fails(tmp_path: Path) -> None:
    good, bad = (Ask(_row, tasks, Table, str) for tasks in ((1, 2, 3), (-1,)))
    with pytest.raises(ZeroDivisionError):
        answer({"first": good, "second": bad}, Work(out=tmp_path, workers=1))
    assert Table.load(tmp_path / "cells" / "first.parquet").column("value").tolist() == [1.0, 2.0, 3.0]
    told = answer({"none": Ask(_row, (), Table), "both": [good, good]}, Work(out=tmp_path, workers=1))
    assert list(told) == ["none", "both"]
    assert len(told["none"]) == 0
    assert [len(t) for t in told["both"]] == [3, 3]
    assert len(Table.load(tmp_path / "cells" / "both.parquet")) == 6
