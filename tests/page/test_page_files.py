"""What leaves the page, and where else it stands: exports, a report offline, a widget, a live model."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

import transect as ts
from app_home import NASTY, shortened
from browser import Watch, at, serious, served, settled, show

pytestmark = pytest.mark.browser
expect.set_options(timeout=20_000)


def test_pins_and_exports_carry_their_origin(page: Any, address: str, tmp_path: Path) -> None:
    show(page, address, "depth?a=plain&layer=2")
    panel = page.locator("[data-panel=drift]")
    files = {}
    for kind in ("svg", "png", "csv"):
        with page.expect_download() as waiting:
            panel.get_by_role("button", name=kind, exact=True).click()
        files[kind] = tmp_path / f"x.{kind}"
        waiting.value.save_as(files[kind])
        assert waiting.value.suggested_filename == f"drift-drift.{kind}"
    svg, csv = files["svg"].read_text(), files["csv"].read_text()
    assert "<metadata>Transect" in svg
    assert "var(--" not in svg
    assert "weights 00000000" in csv.split("\n")[2] + csv.split("\n")[3]
    assert sum(not line.startswith("#") for line in csv.splitlines()) == 1 + 2 * 4
    png = files["png"].read_bytes()
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert b"iTXtDescription" in png
    panel.get_by_role("button", name="pin").click()
    page.keyboard.press("8")
    settled(page)
    assert page.locator(".tx-pin img").evaluate("(i) => i.decode().then(() => i.naturalWidth)") > 400
    assert serious(page) == []
    page.get_by_label("note").fill("a note")
    page.get_by_label("note").blur()
    with page.expect_download() as waiting:
        page.get_by_role("button", name="export page").click()
    waiting.value.save_as(tmp_path / "pins.html")
    whole = (tmp_path / "pins.html").read_text()
    assert "a note" in whole
    assert "<script" not in whole
    page.reload()
    settled(page)
    assert page.locator(".tx-pin").count() == 1
    page.locator(".tx-pin").get_by_role("button", name="open").click()
    settled(page)
    at(page, "layer=2")


@pytest.mark.fault("bad input", "texts, labels and names with HTML or scripts")
def test_markup_in_texts_stays_text(page: Any, address: str) -> None:
    show(page, address, "study?a=plain")
    assert NASTY in page.locator(".tx-main").inner_text()
    assert page.locator(".tx-main img:not(.tx-headline > img), .tx-main [onerror]").count() == 0
    assert "damaged" in page.get_by_role("region", name="Problems").inner_text()


def test_a_folder_with_nothing_or_only_damage_in_it(page: Any, tmp_path: Path) -> None:
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "study.json").write_text("{")
    with served(tmp_path) as at_:
        show(page, at_, "study")
        assert "Nothing here yet" in page.locator(".tx-missing").inner_text()
        assert "torn" in page.get_by_role("region", name="Problems").inner_text()
        for key in "2345":
            page.keyboard.press(key)
            settled(page)
            assert page.locator(".tx-missing").count() >= 1
            assert page.locator("[role=alert]").count() == 0


def test_a_report_opens_from_a_file_with_the_network_off(browser: Any, built: Path, tmp_path: Path) -> None:
    studies = [shortened(built / n) for n in ("drift", "map", "compare", "neurons")]
    out = ts.report(studies, tmp_path / "report.html")
    context = browser.new_context(viewport={"width": 1400, "height": 900}, offline=True)
    page = context.new_page()
    watch = Watch(page)
    page.goto(out.as_uri())
    page.wait_for_selector("#transect .tx-panel")
    assert page.locator("figure img").count() == 8
    for k, panel in ((1, "drift"), (2, "curves"), (3, "map"), (4, "neurons")):
        page.locator(".tx-top nav button").nth(k).click()
        page.wait_for_selector(f"[data-panel={panel}]")
        settled(page)
        assert page.locator("#transect [role=alert]").count() == 0
    page.locator(".tx-top nav button").nth(4).click()
    page.get_by_role("tab", name="Run").click()
    assert "transect app DIR" in page.locator(".tx-missing").inner_text()
    assert serious(page) == []
    watch.check()
    context.close()
    plain = browser.new_context(java_script_enabled=False, offline=True).new_page()
    plain.goto(ts.report(studies[:1], tmp_path / "static.html", static=True).as_uri())
    assert "How far do representations move" in plain.locator("h2").first.inner_text()
    plain.context.close()


def test_the_widget_draws_in_a_notebook_page(browser: Any, built: Path) -> None:
    from transect.page import widget

    made = widget([built / "drift", built / "neurons"])
    page = browser.new_context(viewport={"width": 1200, "height": 900}).new_page()
    watch = Watch(page)
    page.set_content(f"<style>{made._css}</style><div id='cell'></div>")
    page.evaluate(
        """async ([source, data]) => {
          const module = await import(URL.createObjectURL(new Blob([source], {type: 'text/javascript'})));
          const el = document.getElementById('cell');
          window.free = module.default.render({model: {get: (name) => data}, el});
        }""",
        [str(made._esm), json.loads(json.dumps(made.data))],
    )
    page.wait_for_selector("#cell .tx-panel")
    page.locator(".tx-top nav button").nth(1).click()
    page.wait_for_selector("#cell [data-panel=drift] svg")
    assert page.url == "about:blank"
    page.evaluate("window.free()")
    assert page.locator("#cell .tx-panel").count() == 0
    watch.check()
    page.context.close()


def test_the_live_model_token_by_token(page: Any, tmp_path: Path) -> None:
    """SmolLM2 itself: prompt and generated tokens, layers, MLP and attention, reload, a prompt too long."""
    model = ts.open_model("smollm2")
    prompt = "The capital of France is"
    with served(tmp_path, "--model", "smollm2") as at:
        show(page, at, "neurons?v.mode=run&site=mlp.act")
        page.get_by_role("textbox", name="prompt").fill(prompt)
        page.get_by_label("new tokens").fill("6")
        page.get_by_role("button", name="Run", exact=True).click()
        status = page.locator(".tx-prompt [role=status]")
        expect(status).to_have_text("done, 5 prompt + 6 generated tokens", timeout=240_000)
        page.wait_for_selector(".tx-stage[data-painted]")
        assert page.locator(".tx-small").count() == 30
        assert page.locator(".tx-tokens button").count() == 11
        assert page.locator(".tx-tokens .tx-generated").count() == 6
        from transect.models.generate import activations

        steps = list(activations(model, prompt, ["mlp.act"], max_new_tokens=6))
        assert "Paris" in page.locator(".tx-said-text").inner_text()
        page.locator(".tx-tokens button").nth(3).click()
        page.get_by_role("radio", name="layer 12").click()
        page.get_by_label("neuron", exact=True).fill("40")
        page.get_by_label("neuron", exact=True).press("Enter")
        shown = page.locator(".tx-big-number span").first
        want = float(steps[3].values["mlp.12.act"][40])
        expect(shown).to_have_text(re.compile(re.escape(f"{abs(want):.4g}"[:5])), timeout=20_000)
        page.get_by_role("heading", name="Neurons").click()
        page.keyboard.press("ArrowRight")
        want = float(steps[4].values["mlp.12.act"][40])
        expect(shown).to_have_text(re.compile(re.escape(f"{abs(want):.4g}"[:5])), timeout=20_000)
        assert page.locator(".tx-said-text .tx-here").inner_text() == steps[4].token
        page.keyboard.press("m")
        expect(page.locator(".tx-large-name")).to_have_text("attn.12.head")
        page.reload()
        expect(status).to_have_text("done, 5 prompt + 6 generated tokens", timeout=30_000)
        page.get_by_label("new tokens").fill("200")
        page.get_by_role("button", name="Run", exact=True).click()
        page.wait_for_selector(".tx-tokens .tx-generated", timeout=120_000)
        page.get_by_role("button", name="Cancel").click()
        expect(status).to_contain_text("cancelled", timeout=30_000)
        page.get_by_role("textbox", name="prompt").fill("word " * 9000)
        page.get_by_role("button", name="Run", exact=True).click()
        expect(page.get_by_role("alert")).to_contain_text("the model takes", timeout=120_000)
    page.get_by_role("textbox", name="prompt").fill("nobody there")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.get_by_role("alert").first).to_contain_text("does not answer", timeout=10_000)
    page.watch.said.clear()
