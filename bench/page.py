"""The page in a real Chromium: time to first paint, and what one more token costs at 46,080 points.

python bench/page.py [--tokens 40]

Where there is no graphics card, as in CI, the page stamps points itself on a 2-D canvas; WebGL through
software GL stands beside it, and rasterising is then CPU time too and is counted. CPU time is that of
the browser's processes (page, and the one that draws), from /proc; the server and its worker are not in
it.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from browser import FLAGS, chromium, served
from transect.results.study import Figure, Study
from transect.results.table import Table

BLOCKS, WIDTH = 30, 1536


def study(folder: Path) -> None:
    """A map of 46,080 neurons: positions only matter by their number."""
    rng = np.random.default_rng(0)
    rows = [
        {
            "measure": "position",
            "run": "bench",
            "site": f"mlp.{k}.act",
            "neuron": i,
            "x": x,
            "y": y,
            "z": z,
            "status": "ok",
        }
        for k in range(BLOCKS)
        for i, (x, y, z) in enumerate(rng.normal(size=(WIDTH, 3)).tolist())
    ]
    made = Study("neurons", "bench", {"positions": Table(rows)})
    made.figures = [Figure("maps", "maps", "positions", "", "", {"sites": ["mlp.0.act"]})]
    made.save(folder / "neurons")


#: Steps through tokens from inside the page, each when the one before has been drawn and shown.
STEPS = """async (tokens) => {
  const stage = document.querySelector('.tx-stage'), steps = [], script = [];
  for (let k = 0; k < tokens; k++) {
    const at = performance.now();
    const drawn = new Promise((done) => {
      const watch = new MutationObserver(() => { watch.disconnect(); done(); });
      watch.observe(stage, {attributes: true, attributeFilter: ['data-ms']});
    });
    document.body.dispatchEvent(new KeyboardEvent('keydown', {
      key: k % 2 ? 'ArrowLeft' : 'ArrowRight', bubbles: true}));
    await drawn;
    await new Promise((shown) => requestAnimationFrame(() => setTimeout(shown)));
    steps.push(performance.now() - at);
    script.push(Number(stage.dataset.ms));
  }
  return [steps, script];
}"""


def cpu(browser: psutil.Process) -> float:
    """CPU seconds of the browser's processes so far."""
    total = 0.0
    for process in [browser, *browser.children(recursive=True)]:
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
    return total


def first_paint(browser: Any, address: str, times: int = 5) -> tuple[float, float]:
    """(first contentful paint, page with its data) in seconds, medians over cold loads."""
    paints, whole = [], []
    for _ in range(times):
        page = browser.new_context(viewport={"width": 1600, "height": 1000}).new_page()
        begun = time.perf_counter()
        page.goto(address + "#study")
        page.wait_for_selector(".tx-main .tx-panel")
        whole.append(time.perf_counter() - begun)
        paints.append(
            page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime") / 1e3
        )
        page.context.close()
    return statistics.median(paints), statistics.median(whole)


def per_token(page: Any, process: psutil.Process, tokens: int) -> tuple[float, float, float]:
    """(CPU ms, wall ms, main-thread ms) of one more token: step through a finished run, all 46,080 points
    drawn anew.
    """
    page.keyboard.press("ArrowLeft")
    page.wait_for_timeout(1500)
    idle_begun, idle = time.perf_counter(), cpu(process)
    page.wait_for_timeout(1500)
    rest = (cpu(process) - idle) / (time.perf_counter() - idle_begun)
    begun = cpu(process)
    started = time.perf_counter()
    steps, script = page.evaluate(STEPS, tokens)
    spent = cpu(process) - begun - rest * (time.perf_counter() - started)
    return 1e3 * spent / tokens, statistics.median(steps), statistics.median(script)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=40)
    given = parser.parse_args()
    from playwright.sync_api import sync_playwright

    found = chromium()
    if not found:
        sys.exit("bench/page.py needs Chromium (Debian: apt-get install chromium)")
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
        study(Path(folder))
        with served(folder, "--model", "smollm2") as address:
            here = {p.pid for p in psutil.Process().children(recursive=True)}
            browser = play.chromium.launch(executable_path=found, args=FLAGS)
            new = [
                p
                for p in psutil.Process().children(recursive=True)
                if p.pid not in here and "chrom" in p.name()
            ]
            process = min(new, key=lambda p: p.create_time())
            paint, whole = first_paint(browser, address)
            page = browser.new_page(viewport={"width": 1600, "height": 1000})
            page.goto(address + "#neurons?v.mode=run&site=mlp.act&layer=12")
            page.get_by_label("new tokens").fill("12")
            page.get_by_role("button", name="Run", exact=True).click()
            page.wait_for_selector(".tx-prompt [role=status]:has-text('done')", timeout=300_000)
            page.get_by_role("heading", name="Neurons").click()
            found_ways = {}
            for kind, flag in (("canvas", "off"), ("webgl", "on")):
                page.goto(re.sub(r"&?v\.gl=\w+", "", page.url) + f"&v.gl={flag}")
                page.reload()
                page.wait_for_selector(f".tx-stage[data-painter={kind}][data-painted]")
                found_ways[kind] = per_token(page, process, given.tokens)
            browser.close()
    print(
        f"page, {version}, {os.cpu_count()} cores, software GL; {BLOCKS} blocks × {WIDTH} neurons = "
        f"{BLOCKS * WIDTH:,} points"
    )
    print(f"  first contentful paint              {1e3 * paint:7.0f} ms      reach < 500 ms")
    print(f"  page with its catalog               {1e3 * whole:7.0f} ms")
    for name, (spent, wall, thread) in {
        "2-D canvas": found_ways["canvas"],
        "WebGL in software": found_ways["webgl"],
    }.items():
        print(
            f"  one more token, {name:<19} {spent:7.1f} CPU-ms  reach < 60 CPU-ms; {wall:.0f} ms until "
            f"drawn, {thread:.1f} ms from state to frame"
        )


if __name__ == "__main__":
    main()
