"""Folders, servers and browsers of the page tests."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from app_home import build, small_study
from browser import Watch, lacking, launched, served
from hostile import HOST, TOKEN
from planted import planted_store
from tiny import save_tiny
from transect.page.server import make_app


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study, a store, a model, and two damaged ones."""
    folder = tmp_path_factory.mktemp("app")
    rng = np.random.default_rng(0)
    lengths = [7, 5, 9, 6]
    layers = [rng.normal(size=(27, 6)) for _ in range(2)]
    planted_store(folder / "runs" / "plain", layers, lengths, name="plain", sites=["resid.0", "mlp.0.act"])
    small_study().save(folder / "studies" / "one")
    (folder / "studies" / "broken").mkdir()
    (folder / "studies" / "broken" / "study.json").write_text('{"name": "drift", "tables": ["adjacent"]')
    small_study().save(folder / "studies" / "torn")
    (folder / "studies" / "torn" / "adjacent.parquet").write_bytes(b"PAR1 not really")
    (folder / "runs" / "half").mkdir()
    (folder / "runs" / "half" / "plan.json").write_text("[]")
    save_tiny(folder / "model", "llama")
    (folder.parent / "secret.json").write_text("{}")
    return folder


@pytest.fixture(scope="module")
def client(home: Path) -> Iterator[TestClient]:
    app = make_app([home], TOKEN, {HOST}, models=[str(home / "model"), "no-such-model"])
    with TestClient(app, base_url=f"http://{HOST}", headers={"x-transect-token": TOKEN}) as made:
        yield made


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    assert not lacking(), f"the page tests need {lacking()}"
    return build(tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as made:
        yield made


@pytest.fixture(scope="session")
def address(built: Path) -> Iterator[str]:
    with served(built) as at:
        yield at


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page whose every request stays on this machine, and that complains about nothing."""
    context = browser.new_context(
        viewport={"width": 1400, "height": 900}, color_scheme="light", accept_downloads=True
    )
    made = context.new_page()
    made.watch = Watch(made)
    yield made
    context.close()
    made.watch.check()
