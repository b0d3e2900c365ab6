"""Frames of a million points in Chromium while the camera turns, by the 2-D canvas and by WebGL 2.

    python bench/points.py

Prints milliseconds between frames: median, 95 % and longest.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from playwright.sync_api import expect

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from browser import launched, served, show
from planted import planted_store

TEXTS, TOKENS = 10_000, 101
COUNT = """() => {
  window.frames_ = [];
  let last = performance.now();
  const next = () => {
    const now = performance.now();
    window.frames_.push(now - last);
    last = now;
    requestAnimationFrame(next);
  };
  requestAnimationFrame(next);
}"""


def turn(address: str, gl: str) -> list[float]:
    """Milliseconds between frames while the camera turns for a second."""
    with launched() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        show(page, address, f"text?v.gl={gl}")
        cloud = page.locator(".tx-cloud")
        expect(cloud).to_have_attribute("data-drawn", str(TEXTS * (TOKENS - 1)), timeout=120_000)
        box = cloud.bounding_box()
        page.evaluate(COUNT)
        page.mouse.move(box["x"] + 300, box["y"] + 200)
        page.mouse.down()
        for k in range(60):
            page.mouse.move(box["x"] + 300 + 2 * k, box["y"] + 200 + k)
            page.wait_for_timeout(16)
        return page.evaluate("window.frames_.slice(5)")


def main() -> None:
    """Both painters on one planted store."""
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(TEXTS * TOKENS, 4)) * [3, 2, 1, 0.5]).astype("f4")
    X[:, 0] += np.repeat(rng.normal(size=TEXTS) * 4, TOKENS)
    with tempfile.TemporaryDirectory() as home:
        planted_store(Path(home) / "many", [X], [TOKENS] * TEXTS, name="many")
        for gl, name in (("off", "2-D canvas"), ("on", "WebGL 2")):
            with served(home) as address:
                frames = np.array(turn(address, gl))
            told = f"median {np.median(frames):.0f} ms, 95 % within {np.quantile(frames, 0.95):.0f} ms"
            print(f"{name:12s} {told}, longest {frames.max():.0f} ms, {len(frames)} frames")


if __name__ == "__main__":
    main()
