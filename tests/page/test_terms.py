"""The page explains itself: terms on hover and focus, a tour of six steps, empty screens with what to do."""

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from browser import serious, served, settled, show
from transect.results.terms import TERMS

pytestmark = pytest.mark.browser


def test_a_term_says_what_it_is_how_it_is_computed_and_where_from(page: Any, address: str) -> None:
    show(page, address, "depth?a=plain&layer=1")
    null = next(t for t in TERMS if t.name == "null")
    word = page.locator("[data-panel=drift] .tx-term", has_text="null").first
    for act in (word.hover, word.focus):
        act()
        note = page.locator(".tx-note")
        for part in (null.meaning, null.formula, null.source):
            expect(note).to_contain_text(part)
        page.mouse.move(700, 5)
        page.keyboard.press("Escape")
        expect(note).to_have_count(0)
        word.blur()
    page.locator("[data-panel=drift] h3 .tx-term").hover()
    expect(page.locator(".tx-note")).to_contain_text("Cuturi 2013")
    page.mouse.move(700, 5)
    page.keyboard.press("?")
    page.get_by_text(f"{len(TERMS)} terms").click()
    for term in TERMS:
        expect(page.locator(".tx-terms")).to_contain_text(term.meaning)
    assert serious(page) == []


def test_the_tour_has_six_steps_and_is_offered_once(page: Any, address: str) -> None:
    show(page, address, "study")
    page.get_by_role("button", name="new here? a tour of six steps").click()
    for k, screen in enumerate(("Study", "Depth", "Depth", "Text", "Work", "Report")):
        expect(page.get_by_role("dialog", name=f"Tour, step {k + 1} of 6")).to_be_visible()
        expect(page.locator(".tx-top nav [aria-current=page]")).to_contain_text(screen)
        settled(page)
        assert serious(page) == []
        page.keyboard.press("Enter")
    expect(page.locator(".tx-tour")).to_have_count(0)
    expect(page.get_by_role("button", name="new here?")).to_have_count(0)
    page.reload()
    settled(page)
    expect(page.get_by_role("button", name="new here?")).to_have_count(0)


def test_an_empty_folder_says_what_to_run_and_can_run_it(page: Any, tmp_path: Path) -> None:
    with served(tmp_path) as address:
        for screen in ("study", "depth", "compare", "map", "neurons", "text"):
            show(page, address, screen)
            expect(page.locator("pre code").first).to_contain_text("transect ")
            page.get_by_role("button", name="prepare and start").first.click()
            expect(page.locator(".tx-top nav [aria-current=page]")).to_contain_text("Work")
        page.get_by_label("model", exact=True).fill("nobody")
        page.get_by_label("texts", exact=True).fill("none.txt")
        page.get_by_label("what").select_option("capture")
        expect(page.locator(".tx-plan code")).to_contain_text(
            "transect capture --out=stores/nobody-none.txt -- nobody none.txt"
        )
        page.goto("about:blank")
