"""Screenshots of the app for the docs: `python docs/shoot.py DIR`, DIR holding studies and stores. Writes
figures/app-*.png."""

import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from browser import FLAGS, Watch, chromium, served

OUT = Path(__file__).parent / "figures"
#: Name → address, colours. What a study lacks is drawn as what it lacks.
SHOTS = {
    "study": ("study?", "light"),
    "depth": ("depth?a=smollm2&layer=24", "light"),
    "compare": ("compare?layer=29", "light"),
    "text": ("text?a=smollm2&b=random%3Asmollm2&layer=24&token=10&v.text=0", "light"),
    "work": ("work?v.form=drift", "light"),
    "map": ("map?a=smol&layer=30&token=29&v.show=added", "light"),
    "neurons": ("neurons?a=smollm2&site=mlp.act&layer=16&neuron=300", "dark"),
    "run": ("neurons?a=smollm2&site=mlp.act&layer=16&neuron=300&v.mode=run", "dark"),
    "report": ("report?", "light"),
}


def settled(page: Any) -> None:
    """Nothing loads any more."""
    page.wait_for_selector(".tx-main h1")
    page.wait_for_timeout(800)
    for _ in range(120):
        if not page.locator(".tx-pulse").count():
            break
        page.wait_for_timeout(500)
    page.wait_for_timeout(500)


def prepare(page: Any, name: str) -> None:
    """What has to happen on a screen before it is worth a picture."""
    if name == "run":
        page.get_by_role("button", name="Run", exact=True).click()
        page.wait_for_selector(".tx-prompt [role=status]:has-text('done')", timeout=240_000)
        page.locator(".tx-tokens button").nth(9).click()
        settled(page)
    if name == "report":
        page.keyboard.press("2")
        settled(page)
        page.locator("[data-panel=drift]").get_by_role("button", name="pin").click()
        page.keyboard.press("8")
        settled(page)


def main() -> None:
    """Every screen, in 1440 × 900."""
    wanted = sys.argv[2:] or list(SHOTS)
    with served(sys.argv[1]) as address, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium(), args=FLAGS)
        for name in wanted:
            at, scheme = SHOTS[name]
            page = browser.new_context(
                viewport={"width": 1440, "height": 900}, color_scheme=scheme
            ).new_page()
            watch = Watch(page)
            page.goto(f"{address}#{at}")
            settled(page)
            prepare(page, name)
            page.wait_for_timeout(5200)  # until the message at the corner is gone
            page.screenshot(path=OUT / f"app-{name}.png")
            watch.check()
            page.context.close()
            print(OUT / f"app-{name}.png")
        browser.close()


if __name__ == "__main__":
    main()
