"""For anybody, on anything: 390 pixels, 200 %, the keyboard alone, a slow disk, 300 requests at once beside a
damaged folder."""

import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect
from starlette.testclient import TestClient

from browser import at, serious, settled, show
from hostile import HOST, TOKEN
from transect.page.server import make_app

SCREENS = ("study", "depth", "compare", "map", "neurons", "text", "work", "report")


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (640, "light")], ids=["phone", "at 200 %"])
def test_every_screen_fits_a_phone_and_a_page_at_twice_the_size(
    page: Any, address: str, width: int, scheme: str
) -> None:
    """A window of 1280 pixels at 200 % has 640 CSS pixels."""
    page.set_viewport_size({"width": width, "height": 740})
    page.emulate_media(color_scheme=scheme)
    show(page, address, "study?a=plain&b=tuned&layer=2&neuron=3")
    for k, screen in enumerate(SCREENS):
        page.keyboard.press(str(k + 1))
        settled(page)
        wide = page.evaluate(
            "[document.scrollingElement, document.querySelector('.tx-main')]"
            ".map(e => e.scrollWidth - e.clientWidth)"
        )
        assert max(wide) <= 1, f"{screen} is {wide} pixels too wide"
        assert serious(page) == [], screen


@pytest.mark.browser
def test_a_token_a_term_and_a_start_are_reached_by_keys_alone(page: Any, address: str) -> None:
    show(page, address, "text?a=plain&layer=1&token=2&v.text=3")
    page.get_by_role("application").focus()
    page.keyboard.press("ArrowLeft")
    at(page, "token=2")
    page.keyboard.press("Tab")
    page.locator("h1").evaluate("e => { e.tabIndex = -1; e.focus(); }")
    page.keyboard.press("ArrowRight")
    at(page, "token=3")
    near = page.get_by_role("list", name="Closest to the selected token at resid.1").get_by_role("button")
    settled(page)
    named = near.nth(1).get_attribute("title")
    near.nth(1).focus()
    page.keyboard.press("Enter")
    at(page, f"v.text={named.split(',')[0].removeprefix('text ')}")
    page.keyboard.press("7")
    start = page.get_by_role("button", name="start", exact=True)
    expect(start).to_be_enabled(timeout=30_000)
    start.focus()
    assert page.evaluate("document.activeElement.textContent") == "start"


@pytest.mark.browser
def test_a_slow_disk_shows_that_something_is_read(page: Any, address: str) -> None:
    page.route("**/table/adjacent", lambda route: (time.sleep(1), route.continue_()))
    page.goto(f"{address}#depth?a=plain")
    expect(page.locator(".tx-pulse").first).to_be_visible()
    expect(page.locator("[data-panel=drift] svg")).to_be_visible()
    assert "token" not in page.url.split("#")[0]


@pytest.mark.fault(
    "bad luck",
    "300 requests at once while a study beside them is torn",
    "every one of the whole study is answered; the torn one is a card",
    "run that study again",
)
def test_300_requests_at_once_beside_a_damaged_folder(built: Path, tmp_path: Path) -> None:
    for part in ("drift", "stores/plain"):
        shutil.copytree(built / part, tmp_path / part)
    shutil.copytree(built / "drift", tmp_path / "torn")
    torn = tmp_path / "torn" / "adjacent.parquet"
    with TestClient(
        make_app([tmp_path], TOKEN, {HOST}), base_url=f"http://{HOST}", headers={"x-transect-token": TOKEN}
    ) as client:
        cards = client.get("/api/catalog").json()
        study = next(s["id"] for s in cards["studies"] if s["path"] == "drift")
        store = cards["stores"][0]["id"]
        paths = ["/api/catalog", f"/api/study/{study}/table/adjacent", f"/api/store/{store}/texts"] * 100
        tear = threading.Timer(0.05, lambda: torn.write_bytes(torn.read_bytes()[:200]))
        tear.start()
        with ThreadPoolExecutor(24) as several:
            codes = [a.status_code for a in several.map(client.get, paths)]
        tear.join()
        assert codes == [200] * 300
        told = client.get("/api/catalog").json()
        assert [s["path"] for s in told["studies"]] == ["drift"]
        assert [p["path"] for p in told["problems"]] == ["torn"]
