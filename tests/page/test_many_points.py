"""Many points: a fair sample while the camera moves, every point at rest, by WebGL 2 and by the 2-D canvas
that takes its place."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import expect

from browser import served, settled, show
from planted import planted_store

pytestmark = pytest.mark.browser
TEXTS, TOKENS = 1500, 101


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Any:
    home: Path = tmp_path_factory.mktemp("many")
    X = np.random.default_rng(0).normal(size=(TEXTS * TOKENS, 3)).astype("f4") * [3, 2, 1]
    planted_store(home / "many", [X], [TOKENS] * TEXTS, name="many")
    with served(home) as address:
        yield address


@pytest.mark.parametrize("gl", ["on", "off"])
def test_a_turn_draws_a_sample_and_rest_draws_all(page: Any, many: str, gl: str) -> None:
    show(page, many, f"text?v.gl={gl}")
    cloud, every = page.locator(".tx-cloud"), str(TEXTS * (TOKENS - 1))
    expect(cloud).to_have_attribute("data-painter", "webgl" if gl == "on" else "canvas")
    expect(cloud).to_have_attribute("data-drawn", every)
    box = cloud.bounding_box()
    page.mouse.move(box["x"] + 200, box["y"] + 200)
    page.mouse.down()
    for k in range(8):
        page.mouse.move(box["x"] + 200 + 5 * k, box["y"] + 200)
        page.wait_for_timeout(20)
    assert int(cloud.get_attribute("data-drawn")) < int(every)
    page.mouse.up()
    expect(cloud).to_have_attribute("data-drawn", every)


def test_a_lost_context_goes_on_in_two_dimensions(page: Any, many: str) -> None:
    show(page, many, "text?v.gl=on")
    cloud = page.locator(".tx-cloud")
    expect(cloud).to_have_attribute("data-painter", "webgl")
    page.locator(".tx-cloud canvas").evaluate(
        "c => c.getContext('webgl2').getExtension('WEBGL_lose_context').loseContext()"
    )
    expect(cloud).to_have_attribute("data-painter", "canvas")
    settled(page)
    expect(cloud).to_have_attribute("data-drawn", str(TEXTS * (TOKENS - 1)))
