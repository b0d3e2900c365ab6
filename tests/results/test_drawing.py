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
