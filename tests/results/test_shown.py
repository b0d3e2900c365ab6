"""What notebooks show, and tables as frames of other libraries."""

import sys
from pathlib import Path

import numpy as np
import pytest

import transect as ts
from transect.errors import TransectError
from transect.results.study import Study
from transect.results.table import Table

ROWS = [
    {
        "measure": "cka",
        "site": f"resid.{k}",
        "site2": f"resid.{j}",
        "value": k + j / 10,
        "low": 0.0,
        "status": "ok",
    }
    for k in range(4)
    for j in range(3)
]


def test_a_table_as_other_frames() -> None:
    table = Table([*ROWS[:-1], ROWS[-1] | {"value": None}])
    assert table.to_polars()["value"].to_list() == table.to_pandas()["value"].astype(object).where(
        lambda v: v.notna(), None
    ).tolist()  # fmt: skip
    data = table.to_xarray(values=("value", "low"))
    assert data["value"].dims == ("site", "site2")
    assert float(data["value"].sel(site="resid.2", site2="resid.1")) == pytest.approx(2.1)
    assert np.isnan(float(data["value"].sel(site="resid.3", site2="resid.2")))
    with pytest.raises(TransectError, match="the same site"):
        table.to_xarray("site")


@pytest.mark.fault("bad input", "a frame of a library that is not there", "the extra to install is named")
def test_a_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, make in (("pandas", Table.to_pandas), ("xarray", Table.to_xarray)):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(
            TransectError, match=rf"{name} is not installed. pip install 'transect\[frames\]'"
        ):
            make(Table(ROWS))


def test_notebooks_show_tables_studies_and_stores_escaped(tmp_path: Path) -> None:
    shown = Table([r | {"site2": "<b>"} for r in ROWS])._repr_html_()
    assert "&lt;b&gt;" in shown
    assert "<b>" not in shown
    assert "… 2 more rows" in shown
    assert shown.count("<tr>") == 1 + 10 + 1
    study = Study("drift", "How far?", {"t": Table(ROWS)}, findings=["<i>far</i>"])
    assert "&lt;i&gt;far" in study._repr_html_()
    assert "How far?" in study._repr_html_()
    texts = ["<script>", "two", "three"]
    store = ts.store_from_arrays({"resid.0": [np.ones((2, 3))] * 3}, tmp_path / "s", texts=texts)
    assert "&lt;script&gt;" in store._repr_html_()
    assert "3 texts, 6 points, 1 sites" in store._repr_html_()
