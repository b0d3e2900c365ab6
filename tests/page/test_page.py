"""The page in a real Chromium: every screen, keyboard, links between views, points."""

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

import transect as ts
from browser import FLAGS, Watch, at, chromium, serious, settled, show

pytestmark = pytest.mark.browser
expect.set_options(timeout=20_000)
SCREENS = ("study", "depth", "compare", "map", "neurons", "text", "work", "report")
SCREENS_SEEN = ("Depth", "Compare", "Map", "Neurons", "Text", "Work", "Report", "Study")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("screen", SCREENS)
def test_every_screen_is_whole_and_accessible(page: Any, address: str, screen: str, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    show(page, address, f"{screen}?a=plain&b=tuned&site=resid&layer=2&neuron=3")
    assert page.locator("[role=alert]").count() == 0
    assert page.locator(".tx-top nav [aria-current=page]").inner_text().lower().endswith(screen)
    if screen in ("depth", "compare", "map"):
        assert page.locator(".tx-chart svg").count() >= {"map": 1}.get(screen, 2)
    assert serious(page) == []


@pytest.mark.parametrize("screen", SCREENS)
def test_every_screen_fits_1024_pixels(page: Any, address: str, screen: str) -> None:
    page.set_viewport_size({"width": 1024, "height": 768})
    show(page, address, f"{screen}?a=plain&b=tuned&layer=2")
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 1024
    assert (
        page.evaluate(
            "document.querySelector('.tx-main').scrollWidth - document.querySelector('.tx-main').clientWidth"
        )
        <= 1
    )
    assert page.evaluate("document.querySelector('.tx-top').scrollWidth") <= 1024


def test_a_permalink_brings_everything_back(page: Any, address: str, browser: Any) -> None:
    show(page, address, "depth?a=tuned")
    page.get_by_role("radio", name="layer 3").click()
    page.get_by_label("measure").first.select_option("bures")
    page.get_by_label("points").select_option("raw")
    page.get_by_label("Run B").select_option("plain")
    settled(page)
    at(page, "v.norm=raw")
    at(page, "b=plain")
    link = page.url
    page.screenshot()
    title = page.locator("[data-panel=drift] h3").inner_text()
    stranger = browser.new_context().new_page()
    assert stranger.goto(link).status == 403, "the address holds no token: it opens where the cookie is"
    stranger.context.close()
    other = page.context.new_page()
    other.goto(link)
    settled(other)
    assert other.locator("[data-panel=drift] h3").inner_text() == title
    assert title.startswith("Bures")
    assert other.get_by_label("Run A").input_value() == "tuned"
    assert other.get_by_label("Run B").input_value() == "plain"
    assert other.locator(".tx-rail [aria-checked=true]").inner_text().startswith("3")
    assert other.get_by_label("points").input_value() == "raw"
    other.close()
    page.reload()
    settled(page)
    assert page.locator("[data-panel=drift] h3").inner_text() == title


def test_an_address_that_names_what_is_not_here(page: Any, address: str) -> None:
    show(page, address, "nonsense?a=nobody&layer=-4&token=x&site=../../etc&v.drift=drift-123")
    assert page.locator(".tx-top nav [aria-current=page]").inner_text().endswith("Study")
    assert page.get_by_label("Run A").input_value() == "plain"
    assert "nobody is not here" in page.locator(".tx-said").inner_text()


def test_the_keyboard_reaches_everything(page: Any, address: str) -> None:
    show(page, address, "study?a=plain")
    for key, screen in zip("23456781", SCREENS_SEEN, strict=True):
        page.keyboard.press(key)
        assert page.locator(".tx-top nav [aria-current=page]").inner_text().endswith(screen)
    page.keyboard.press("2")
    settled(page)
    for key, layer in (
        ("ArrowDown", 1),
        ("ArrowDown", 2),
        ("End", 4),
        ("ArrowDown", 4),
        ("Home", 0),
        ("ArrowUp", 0),
    ):
        page.keyboard.press(key)
        at(page, f"layer={layer}&")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    at(page, "token=2")
    assert page.locator(".tx-tokens [aria-checked=true]").count() == 1
    page.keyboard.press("b")
    assert page.get_by_label("Run B").input_value() == "tuned"
    page.keyboard.press("x")
    assert (page.get_by_label("Run A").input_value(), page.get_by_label("Run B").input_value()) == (
        "tuned",
        "plain",
    )
    page.keyboard.press("t")
    assert page.locator("#transect").get_attribute("data-theme") == "dark"
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard")).to_be_visible()
    assert serious(page) == []
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_one_selection_is_drawn_in_every_view(page: Any, address: str) -> None:
    """A click in a matrix moves the rail, every curve's line and the numbers."""
    show(page, address, "depth?a=plain&layer=0")
    lines = ".tx-panel:not([data-panel=pairs-row]) .tx-chart svg .tx-selected line"
    places = "map(l => Math.round(l.getBoundingClientRect().x))"
    place = f"[...document.querySelectorAll('{lines}')].{places}"
    before = page.evaluate(place)
    assert len(before) >= 8
    matrix = page.locator("[data-panel='pairs-plain'] svg")
    box = matrix.bounding_box()
    matrix.scroll_into_view_if_needed()
    cells = page.locator("[data-panel='pairs-plain'] svg g[data-mark=cell] rect")
    assert cells.count() >= 25
    cells.nth(3 * 5 + 1).hover()
    cells.nth(3 * 5 + 1).click()
    assert box is not None
    page.wait_for_timeout(500)
    layer = int(re.search(r"layer=(\d+)", page.url)[1])  # type: ignore[index]
    assert layer == 3
    assert page.locator(".tx-rail [aria-checked=true]").inner_text().startswith(str(layer))
    after = page.evaluate(place)
    assert len(after) == len(before)
    assert all(p != q for p, q in zip(before, after, strict=True))
    for panel in ("drift", "effective_rank"):
        assert f"resid.{layer}" in page.locator(f"[data-panel={panel}] .tx-readings").inner_text()
    page.keyboard.press("4")
    settled(page)
    assert page.locator(".tx-rail [aria-checked=true]").inner_text().startswith(str(layer))
    assert f"resid.{layer}" in page.locator("[aria-label='Selected cell'] h3").inner_text()


def test_every_number_has_its_null_interval_and_n(page: Any, address: str, built: Path) -> None:
    show(page, address, "depth?a=plain&layer=2")
    text = page.locator("[data-panel=drift] .tx-readings").inner_text()
    study = ts.Table.load(built / "drift" / "adjacent.parquet")
    row = next(
        iter(
            study.where(run="plain", site="resid.2", measure="sinkhorn", normalise="unit", design="disjoint")
        )
    )
    counts = f"n = {row['n']} · {row['n_texts']} texts"
    given = r"plain resid\.2 → resid\.3: \S+ · \[\S+ \S+\] · null \S+ · .*"
    assert re.search(given + re.escape(counts), text), text
    shown = float(re.search(r": (\S+)", text)[1].replace("−", "-"))  # type: ignore[index]
    assert shown == pytest.approx(row["value"], rel=0.01)


def test_not_computed_does_not_look_like_zero(page: Any, address: str) -> None:
    """The planted study has one pair that was not computed and one that is exactly zero."""
    show(page, address, "depth?a=plain&layer=0")
    cells = "[data-panel='pairs-plain'] g[data-mark=cell] rect"
    fills = page.evaluate(f"[...document.querySelectorAll(\"{cells}\")].map(r => r.getAttribute('fill'))")
    rows = [fills[k : k + 5] for k in range(0, 25, 5)]
    assert rows[0][4] == rows[4][0] == "url(#tx-hatch)"
    assert rows[0][3] == rows[3][0] != "url(#tx-hatch)"
    page.locator(cells).nth(4).hover()
    assert "not converged: planted" in page.locator("[data-panel='pairs-plain'] svg").inner_html()
    page.keyboard.press("1")
    settled(page)
    assert page.locator(".tx-hatch-cell").count() >= 3
    assert "about" in " ".join(page.locator(".tx-hatch-cell").all_inner_texts())


def test_a_cell_opens_its_points_from_the_store(page: Any, address: str) -> None:
    """Not one of the cells that the study kept: the worker draws it."""
    show(page, address, "map?a=plain&layer=1&token=1")
    page.wait_for_selector("[data-panel=scatter] svg", timeout=60_000)
    assert page.locator("[data-panel=scatter] svg g[data-mark=dot] circle").count() >= 8
    assert "score" in page.locator("[data-panel=scatter] .tx-caption").inner_text()


def test_tokens_of_a_text_and_their_similarity(page: Any, address: str) -> None:
    show(page, address, "depth?a=plain&layer=2&v.text=3")
    page.wait_for_selector("[data-panel=token-similarity] svg", timeout=60_000)
    assert "text 3" in page.locator("[data-panel=token-similarity] h3").inner_text()
    page.locator(".tx-tokens button").nth(4).click()
    at(page, "token=4")
    assert "Closest to" in page.locator("[data-panel=token-similarity] .tx-caption").inner_text()


def test_neurons_hover_select_turn_and_details(page: Any, address: str) -> None:
    show(page, address, "neurons?a=plain&site=mlp.act&layer=1")
    page.wait_for_selector(".tx-stage[data-painted]")
    assert page.locator(".tx-small").count() == 4
    page.get_by_label("neuron", exact=True).fill("7")
    page.get_by_label("neuron", exact=True).press("Enter")
    page.wait_for_selector(".tx-contexts li", timeout=60_000)
    at(page, "neuron=7")
    ring = page.locator(".tx-ring").bounding_box()
    page.mouse.move(ring["x"] + ring["width"] / 2, ring["y"] + ring["height"] / 2)
    assert "mlp.1.act" in page.locator(".tx-hover").inner_text()
    assert "stress" in page.locator(".tx-hover").inner_text()
    page.locator(".tx-large").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(200)
    moved = page.locator(".tx-ring").bounding_box()
    assert abs(moved["x"] - ring["x"]) + abs(moved["y"] - ring["y"]) > 0.5
    page.locator(".tx-small").nth(2).click()
    page.wait_for_timeout(100)
    at(page, "layer=2")
    page.keyboard.press("m")
    settled(page)
    assert "Not computed" in page.locator(".tx-missing").inner_text()


def test_points_without_webgl(address: str, browser: Any) -> None:
    plain = browser.browser_type.launch(executable_path=chromium(), args=[*FLAGS, "--disable-3d-apis"])
    page = plain.new_page()
    watch = Watch(page)
    show(page, address, "neurons?a=plain&site=mlp.act&layer=1")
    page.wait_for_selector(".tx-stage[data-painter=canvas][data-painted]")
    assert drawn(page) > 300
    watch.check("WebGL")
    plain.close()


def test_a_lost_context_is_drawn_on(page: Any, address: str) -> None:
    show(page, address, "neurons?a=plain&site=mlp.act&layer=1&v.gl=on")
    page.wait_for_selector(".tx-stage[data-painter=webgl][data-painted]")
    page.evaluate(
        "document.querySelector('.tx-canvas').getContext('webgl2').getExtension('WEBGL_lose_context').loseContext()"
    )
    page.wait_for_selector(".tx-stage[data-painter=canvas]")
    page.wait_for_timeout(300)
    assert drawn(page) > 300
    assert "no graphics card" in page.locator(".tx-badge").inner_text()


def drawn(page: Any) -> int:
    """Pixels that hold a colour, on the 2-D canvas."""
    return page.evaluate(
        "(() => { const c = document.querySelector('.tx-canvas');"
        " const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        " let n = 0; for (let i = 3; i < d.length; i += 4) n += d[i] > 0; return n; })()"
    )
