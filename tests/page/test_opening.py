"""What the page opens on: a printed figure of each study with its sentence, runs in the colours of print."""

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from browser import show
from transect.page.vocabulary import vocabulary
from transect.results.drawing import COLOURS, GREY, palette
from transect.results.study import Figure, Study


def figure(**options: Any) -> Figure:
    return Figure("f", "depth", "t", "t", "c", options)


def test_a_name_has_the_colour_of_the_first_figure_that_lists_it() -> None:
    figures = [figure(measure="m"), figure(series=["b", "a"], controls=["noise", "a"]), figure(runs=["a"])]
    found = palette(figures, ["a", "twin"])
    assert found == {"a": COLOURS[1], "b": COLOURS[0], "noise": GREY, "twin": COLOURS[2]}


def test_terms_and_measures_come_with_their_source() -> None:
    told = vocabulary()
    assert {"null", "excess", "design", "jump", "block", "stress", "support", "calibration"} <= {
        t["name"] for t in told["terms"]
    }
    assert all(t["meaning"] and t["formula"] and t["source"] for t in told["terms"])
    assert told["measures"]["cka"]["source"].startswith("Kornblith")


@pytest.mark.browser
def test_a_study_shows_its_first_figure_with_its_first_finding(page: Any, address: str, built: Path) -> None:
    show(page, address, "study")
    for name in ("drift", "compare", "map"):
        study = Study.load(built / name)
        card = page.get_by_role("region", name=f"{study.name} study {name}")
        expect(card.locator(".tx-finding")).to_have_text(study.findings[0])
        image = card.locator(".tx-headline img")
        image.scroll_into_view_if_needed()
        expect(image).to_have_js_property("complete", True)
        assert image.evaluate("e => e.naturalWidth") > 100
        assert image.get_attribute("alt").startswith(study.figures[0].title)


@pytest.mark.browser
def test_runs_have_the_colours_of_print(page: Any, address: str, built: Path) -> None:
    study = Study.load(built / "drift")
    colours = palette(study.figures, [])
    show(page, address, "depth?a=plain")
    drawn = page.locator("[data-panel=drift] svg").inner_html()
    for run in ("plain", "tuned"):
        assert f'stroke="{colours[run]}"' in drawn
    tints = page.locator(".tx-runs .tx-swatch").first.evaluate("e => getComputedStyle(e).backgroundColor")
    red, green, blue = (int(colours["plain"][k : k + 2], 16) for k in (1, 3, 5))
    assert tints == f"rgb({red}, {green}, {blue})"
