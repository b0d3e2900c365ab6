"""A real browser for the page tests: found on the machine, never downloaded; nothing it loads may leave the
machine."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).parents[1]
AXE = ROOT / "web" / "node_modules" / "axe-core" / "axe.min.js"
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--enable-unsafe-swiftshader"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
]


def chromium() -> str | None:
    """The browser: TRANSECT_CHROMIUM, or what the system has."""
    names = (os.environ.get("TRANSECT_CHROMIUM"), "chromium", "chromium-browser", "google-chrome")
    return next((found for n in names if n and (found := shutil.which(n))), None)


def lacking() -> str:
    """What the page tests need and is not here; empty when all is."""
    missing = [] if chromium() else ["Chromium (Debian: apt-get install chromium)"]
    missing += [] if AXE.is_file() else ["axe-core (cd web && npm ci)"]
    return " and ".join(missing)


@contextmanager
def launched(*more: str) -> Iterator[Any]:
    """A browser."""
    from playwright.sync_api import sync_playwright

    found = chromium()
    assert found, f"the page tests need {lacking()}"
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=found, args=[*FLAGS, *more])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def served(*arguments: str | Path) -> Iterator[str]:
    """`transect app …` in a process of its own; its address."""
    command = [
        sys.executable,
        "-c",
        "from transect.cli.main import main; main()",
        "app",
        *map(str, arguments),
        "--no-browser",
    ]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:"), server.communicate(timeout=10)
        yield address
    finally:
        server.terminate()
        server.communicate(timeout=20)


class Watch:
    """What a page asked for and complained about; `check` fails on anything that is not of this machine."""

    def __init__(self, page: Any) -> None:
        self.asked: list[str] = []
        self.said: list[str] = []
        page.on("request", lambda r: self.asked.append(r.url))
        page.on("websocket", lambda w: self.asked.append(w.url))
        page.on("pageerror", lambda e: self.said.append(f"error: {e}"))
        page.on("console", lambda m: self.said.append(m.text) if m.type == "error" else None)
        page.on("dialog", lambda d: (self.said.append(f"dialog: {d.message}"), d.dismiss()))

    def check(self, *expected: str) -> None:
        """No request off the machine, no error, no blocked script or style; `expected` complaints are
        allowed."""
        away = [
            u
            for u in self.asked
            if urlsplit(u).scheme not in ("data", "blob", "file") and urlsplit(u).hostname != "127.0.0.1"
        ]
        assert not away, f"asked beyond this machine: {away}"
        said = [s for s in self.said if not any(e in s for e in expected)]
        assert not said, f"the page complained: {said}"


def settled(page: Any) -> Any:
    """Wait until nothing is loading."""
    from playwright.sync_api import expect

    page.wait_for_selector(".tx-main h1")
    expect(page.locator(".tx-pulse")).to_have_count(0, timeout=60_000)
    page.wait_for_timeout(150)
    return page


def show(page: Any, address: str, hash_: str) -> Any:
    """The page at this place of its address."""
    page.goto(f"{address}#{hash_}")
    return settled(page)


def at(page: Any, words: str) -> None:
    """The address says so: it follows the selection a moment later."""
    from playwright.sync_api import expect

    expect(page).to_have_url(re.compile(re.escape(words)))


def serious(page: Any) -> list[str]:
    """Findings of axe-core that keep somebody from using the page."""
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    bad = [v for v in found if v["impact"] in ("serious", "critical")]
    return [f"{v['id']}: {[n['html'][:160] for n in v['nodes'][:3]]}" for v in bad]
