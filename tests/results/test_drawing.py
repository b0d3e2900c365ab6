"""Figures: what one of them raises does not take the others along."""

from pathlib import Path
from typing import Any

import pytest

from transect.results import drawing
from transect.results.drawing import panels, save_all
from transect.results.study import Figure, Study
from transect.results.table import Table


@pytest.mark.fault(
    "bad luck",
    "a figure cannot be drawn",
    "a traceback that names it, exit 1; every other figure is written",
    "report it; tables and figures are there",
)
def test_a_figure_that_fails_leaves_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def draw_broken(study: Study, figure: Figure) -> Any:
        raise ZeroDivisionError("planted")

    def draw_whole(study: Study, figure: Figure) -> Any:
        return panels(1)[0]

    kinds = drawing._kinds() | {"broken": draw_broken, "whole": draw_whole}
    monkeypatch.setattr(drawing, "_kinds", lambda: kinds)
    study = Study("drift", "?", {"t": Table([{"value": 1.0}])})
    study.figures = [Figure(n, n, "t", n, n) for n in ("broken", "whole")]
    with pytest.raises(ZeroDivisionError, match="planted") as caught:
        save_all(study, tmp_path, ("png",))
    assert "figure broken" in caught.value.__notes__[0]
    assert [f.name for f in (tmp_path / "figures").iterdir()] == ["whole.png"]


def curves(last: dict[str, int], *, none: bool = False, high: float = 1.0) -> Study:
    """A study of two runs whose last layers differ, one panel a scale; the second scale has no number."""
    rows = [
        {"measure": "gride", "run": run, "site": f"resid.{k}", "scale": scale, "value": 1.0 + k, "low": 0.5}
        | {"high": high, "null": None, "control": None, "status": "ok", "token": "all"}
        for run, end in last.items()
        for k in range(0, end + 1, 3)
        for scale in (1, 2)
    ]
    short = {"value": None, "status": "needs 9 points"}
    rows = [r | short if r["scale"] == 2 or none else r for r in rows]
    study = Study("drift", "?", {"t": Table(rows)})
    options = {"measures": ["gride"], "panels": "scale", "runs": list(last), "log": True}
    study.figures = [Figure("f", "depth", "t", "f", "f", options)]
    return study


def test_runs_of_two_depths_stand_on_shares_of_their_own_depth() -> None:
    """The last of 12 layers and the last of 30 both stand at 1, and the axis says so; runs of one depth by
    layer."""
    canvas = drawing.draw(study := curves({"deep": 30, "flat": 12}), study.figures[0])
    (ax,) = canvas.axes
    assert ax.get_xlabel() == "depth (fraction of blocks)"
    assert [max(line.get_xdata()) for line in ax.lines] == [1.0, 1.0]
    canvas = drawing.draw(study := curves({"one": 12, "two": 12}), study.figures[0])
    assert canvas.axes[0].get_xlabel() == "layer"
    assert max(canvas.axes[0].lines[0].get_xdata()) == 12


def test_a_panel_without_a_number_is_left_out_and_a_figure_without_one_says_why() -> None:
    canvas = drawing.draw(study := curves({"one": 12}), study.figures[0])
    assert [ax.get_title() for ax in canvas.axes] == ["scale 1"]
    canvas = drawing.draw(study := curves({"one": 12}, none=True), study.figures[0])
    assert "needs 9 points" in canvas.axes[0].texts[0].get_text()


def test_a_logarithmic_axis_holds_the_upper_ends_of_bands() -> None:
    """Largest value 13, band to 60: cut at twice the largest value it would be an open shape."""
    canvas = drawing.draw(study := curves({"one": 12}, high=60.0), study.figures[0])
    assert canvas.axes[0].get_ylim()[1] >= 60
