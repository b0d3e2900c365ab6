"""What a reader takes along: a session, a PDF, a page, a notebook cell, and a report that prints."""

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

import transect as ts
from app_home import shortened
from browser import settled, show

pytestmark = pytest.mark.browser


def saved(page: Any, button: Any) -> bytes:
    with page.expect_download() as waiting:
        button.click()
    return Path(waiting.value.path()).read_bytes()


def pinned(page: Any, address: str) -> None:
    show(page, address, "depth?a=tuned&layer=2&v.norm=raw")
    page.locator("[data-panel=drift]").get_by_role("button", name="pin").click()
    page.keyboard.press("8")
    page.get_by_label("note").fill("more – at layer 2 — ÷ ≥")
    page.get_by_label("note").blur()


@pytest.mark.fault(
    "bad input", "a session file of another program", "a message; view and pins stay as they are"
)
def test_a_session_saves_to_a_file_and_loads_elsewhere(
    page: Any, browser: Any, address: str, tmp_path: Path
) -> None:
    pinned(page, address)
    session = saved(page, page.get_by_role("button", name="save session"))
    told = json.loads(session)
    assert told["kind"] == "session"
    assert [p["note"] for p in told["pins"]] == ["more – at layer 2 — ÷ ≥"]
    told["link"] = "#map?a=plain&layer=3&token=2"
    context = browser.new_context()
    other = context.new_page()
    other.goto(address)
    settled(other)
    other.keyboard.press("8")
    for content in (b"%PDF", b'{"kind": "session"}', b'{"kind": "session", "link": "#", "pins": [3]}'):
        other.get_by_label("session file").set_input_files(
            {"name": "s.json", "mimeType": "application/json", "buffer": content}
        )
        expect(other.locator(".tx-said")).to_have_text("This file is no session of Transect.")
    (tmp_path / "s.json").write_text(json.dumps(told))
    other.get_by_label("session file").set_input_files(tmp_path / "s.json")
    expect(other.locator(".tx-top nav [aria-current=page]")).to_contain_text("Map")
    expect(other.locator(".tx-rail [aria-checked=true]")).to_contain_text("3")
    other.keyboard.press("8")
    expect(other.get_by_label("note")).to_have_value("more – at layer 2 — ÷ ≥")
    context.close()


def test_a_pin_becomes_a_pdf_a_page_and_a_notebook(page: Any, address: str, built: Path) -> None:
    pinned(page, address)
    actions = page.get_by_role("group", name=re.compile("Export"))
    raw = saved(page, actions.get_by_role("button", name="pdf"))
    assert raw.startswith(b"%PDF-1.4")
    assert raw.count(b"/Type /Page ") == 1
    table = int(raw.rsplit(b"startxref", 1)[1].split()[0])
    places = [int(line[:10]) for line in raw[table:].splitlines()[3:9]]
    assert [raw[at : at + 7] for at in places] == [f"{k} 0 obj".encode() for k in range(1, 7)]
    picture = raw[raw.index(b"\xff\xd8") : raw.rindex(b"\xff\xd9") + 2]
    from PIL import Image

    assert Image.open(io.BytesIO(picture)).size[0] > 1500
    whole = saved(page, actions.get_by_role("button", name="html")).decode()
    assert "<script" not in whole
    assert "more – at layer 2" in whole
    cell = json.loads(saved(page, actions.get_by_role("button", name="notebook")))["cells"][0]
    code = "".join(cell["source"])
    assert code.splitlines()[-1].startswith('widget("drift", at="#depth?a=tuned')
    compile(code, "cell", "exec")
    from transect.page import widget

    shown = widget(built / "drift", at="#depth?a=tuned")
    assert shown.at == "#depth?a=tuned"


def test_a_report_opens_on_its_figure_and_prints_without_the_interactive_part(
    page: Any, built: Path, tmp_path: Path
) -> None:
    file = ts.report(shortened(built / "drift"), tmp_path / "r.html")
    page.goto(f"file://{file}")
    settled(page)
    figure = page.locator("[data-panel=drift] svg")
    expect(figure).to_be_visible()
    assert figure.bounding_box()["y"] < page.locator("figure img").first.bounding_box()["y"]
    assert page.locator(".tx-top nav button").all_inner_texts() == [
        "1Study",
        "2Depth",
        "3Compare",
        "4Map",
        "5Neurons",
        "8Report",
    ]
    page.emulate_media(media="print")
    assert not page.locator("#explore").is_visible()
    assert page.locator("figure img").first.is_visible()
    printed = page.pdf(prefer_css_page_size=True)
    assert b"/MediaBox [0 0 594.95996 841.91998]" in printed or b"/MediaBox [0 0 595 842]" in printed
    assert "@page { size: A4" in file.read_text()
