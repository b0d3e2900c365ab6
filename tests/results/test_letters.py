"""Names on figures: drawn as they are, whatever letters and signs they hold."""

import re
import warnings
from typing import Any

import pytest

from transect.results import letters
from transect.results.drawing import draw, render
from transect.results.study import Figure, Study
from transect.results.table import Table

NAMES = ["a_$x^2$_b[%]", "_hidden", "中文", "שלום", "مرحبا", r"$\frac{1}{", "model 😀🧠", "%s %d {0}"]


def study(names: list[str]) -> tuple[Study, Figure]:
    rows: list[dict[str, Any]] = []
    for k, run in enumerate(names):
        for layer in range(4):
            value = 10.0 ** (layer + k / 10) * (1000 if layer == 3 else 1)
            bounds = dict.fromkeys(("value", "corrected", "low", "high", "null"), value)
            bounds |= {"corrected_low": value, "corrected_high": value, "n": 10, "n_texts": 5}
            told = {"measure": "sinkhorn", "run": run, "normalise": "raw", "design": "disjoint"}
            sites = {"site": f"resid.{layer}", "site2": f"resid.{layer + 1}", "status": "ok"}
            rows.append(told | sites | bounds)
    options = {"measures": ["sinkhorn"], "runs": names, "value": "corrected"}
    return Study("drift", "?", {"adjacent": Table(rows)}), Figure("f", "depth", "adjacent", "", "", options)


@pytest.mark.filterwarnings("ignore:Glyph")
def test_every_name_stands_in_the_legend_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a font held every letter: what is left is what the drawing itself changes."""
    monkeypatch.setattr(letters, "_letters", lambda: set(range(0x110000)))
    canvas = draw(*study(NAMES))
    assert [t.get_text() for t in canvas.legends[0].get_texts()] == NAMES
    assert not any(t.get_parse_math() for t in canvas.legends[0].get_texts())


def test_a_figure_of_any_names_draws_without_a_warning_in_every_format() -> None:
    """A formula that is none, a missing letter or a hidden name would each be a warning or an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        files = render(*study(NAMES), ("svg", "png", "pdf"))
    svg = files["svg"].decode()
    assert "a_$x^2$_b[%]" in svg
    assert "_hidden" in svg


def test_a_letter_without_a_font_is_its_code_point(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(letters, "_letters", lambda: {ord(c) for c in "ab "})
    assert letters.legible("ab\n中 a") == "ab\nU+4E2D a"


def test_powers_on_a_log_axis_need_no_formula() -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    canvas, ax = plt.subplots()
    with matplotlib.rc_context({"text.parse_math": False}):
        ax.set_yscale("log")
        ax.set_ylim(1e-3, 1e2)
        letters.plain(canvas).draw_without_rendering()
        seen = [t.get_text() for t in ax.get_yticklabels() if t.get_text()]
    plt.close(canvas)
    assert {"10⁻²", "10⁰", "10¹"} <= set(seen)
    assert not any(re.search(r"[$\\{}]", label) for label in seen)


def test_long_names_make_no_figure_wider_than_print() -> None:
    """The legend takes fewer columns, a title more lines."""
    from transect.results.drawing import WIDTH, panels, title_above

    names = [f"a run whose name has more than forty letters {k}" for k in range(6)]
    assert len(draw(*study(names)).legends[0].get_texts()) == 6
    png = render(*study(names), ("png",))["png"]
    assert int.from_bytes(png[16:20], "big") / 300 <= max(WIDTH.values()) + 0.01
    canvas, _ = panels(2)
    title_above(canvas, "words " * 60)
    assert len(canvas.get_suptitle().splitlines()) > 1
