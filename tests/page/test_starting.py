"""Work that the page starts: forms from the command line, commands from forms, and a line of tasks that
outlives the page and the server."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect
from starlette.testclient import TestClient

from browser import served, settled, show
from hostile import HOST, TOKEN
from transect.errors import TransectError
from transect.page.server import make_app
from transect.page.starting import arguments, forms, inside
from transect.page.tasks import Tasks

SMALL = {"draws": "20", "permutations": "19", "workers": "1"}


@pytest.fixture(scope="module")
def store(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds one store and nothing else."""
    home = tmp_path_factory.mktemp("work")
    shutil.copytree(built / "stores" / "plain", home / "plain")
    return home


def test_a_form_becomes_the_command_that_a_reader_would_type() -> None:
    drift = forms()["drift"]
    assert {f["name"] for f in drift["fields"]} >= {"stores", "n", "measure", "controls", "position0"}
    assert not {f["name"] for f in drift["fields"]} & {"out", "overwrite", "engine", "trust_remote_code"}
    made = arguments(
        drift,
        {"stores": ["a", "b"], "n": 20, "groups": "10", "controls": ["x"], "position0": "True"},
        "runs/d",
    )
    assert made == ["drift", "--out=runs/d", "--control=x", "--position0", "--n=20", "--", "a", "b"]
    assert arguments(forms()["neurons"], {"store": "s"}, "m")[:2] == ["neurons", "map"]


@pytest.mark.fault(
    "bad input",
    "a form of the app with values that its command does not take",
    "refused before anything starts; folders lie inside the app's own",
)
@pytest.mark.parametrize(
    ("values", "out", "told"),
    [
        ({"stores": ["a"], "overwrite": "True"}, "d", "no option overwrite"),
        ({"stores": []}, "d", "needs stores"),
        ({"stores": ["a"], "n": "1"}, "d", "n=1"),
        ({"stores": ["a"], "n": "many"}, "d", "no number"),
        ({"stores": ["a"], "n": {"x": 1}}, "d", "a value is"),
        ({"stores": ["a"]}, "../d", "no folder inside"),
        ({"stores": ["a"]}, "/etc/d", "no folder inside"),
        ({"stores": ["a"]}, ".transect/x", "no folder inside"),
        ({"stores": ["-"]}, "d", "no stdin"),
    ],
)
def test_what_a_form_may_not_ask_for(values: dict[str, Any], out: str, told: str) -> None:
    with pytest.raises(TransectError, match=told):
        arguments(forms()["drift"], values, out)
    assert inside("runs/drift") == "runs/drift"


@pytest.fixture
def client(store: Path) -> Iterator[TestClient]:
    with TestClient(
        make_app([store], TOKEN, {HOST}), base_url=f"http://{HOST}", headers={"x-transect-token": TOKEN}
    ) as made:
        yield made


def test_a_plan_says_time_bytes_and_command_and_starts_nothing(client: TestClient, store: Path) -> None:
    first = {"model": "plain", "texts": "days:30"}
    (step,) = client.post("/api/plan", json={"form": "drift", "values": {"stores": ["plain"]}}).json()
    assert step["command"] == "transect drift --out=plain-drift -- plain"
    assert step["seconds"] >= 1
    assert step["bytes"] > 1e6
    two = client.post("/api/plan", json={"form": "drift", "values": {}, "capture": first}).json()
    assert [s["name"] for s in two] == ["capture", "drift"]
    assert two[1]["command"].endswith("-- stores/plain-days-30")
    for bad in ({"form": "shell"}, {"form": "drift", "values": 3}, {"form": "drift", "capture": []}):
        assert client.post("/api/plan", json=bad).status_code == 400
        assert client.post("/api/tasks", json=bad).status_code == 400
    assert client.get("/api/tasks").json() == []
    assert client.post("/api/tasks/task-9/resume").status_code == 400
    assert not (store / ".transect").exists()


def until(there: Callable[[], Any], seconds: float = 60) -> Any:
    """Waits until something is there."""
    end = time.monotonic() + seconds
    while not (found := there()):
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.1)
    return found


@pytest.mark.browser
@pytest.mark.fault(
    "bad luck",
    "the app ends while it runs a study",
    "a card that says interrupted, with resume; what was finished is kept",
    "open the app again and press resume",
)
def test_work_goes_on_without_the_page_and_can_be_resumed(page: Any, store: Path) -> None:
    with ExitStack() as first:
        address = first.enter_context(served(store))
        show(page, address, "work?v.form=calibrate")
        page.get_by_text("options (").click()
        for name, value in SMALL.items():
            page.locator(f".tx-field:has(> span:text-is('{name}')) input").fill(value)
        line = "transect calibrate --out=plain-calibrate"
        expect(page.locator(".tx-plan code")).to_contain_text(line)
        page.get_by_role("button", name="start", exact=True).click()
        page.get_by_label("folder").fill("second")
        expect(page.locator(".tx-plan code")).to_contain_text("--out=second")
        page.get_by_role("button", name="start", exact=True).click()
        tasks = page.get_by_role("region", name="Tasks").locator("article")
        expect(tasks).to_have_count(2)
        page.reload()
        settled(page)
        expect(tasks).to_have_count(2)
        expect(page.locator(".tx-field:has(> span:text-is('draws')) input")).to_have_value("20")
        tasks.filter(has_text="second").get_by_role("button", name="cancel").click()
        expect(tasks.filter(has_text="second")).to_contain_text("cancelled")
        expect(tasks.filter(has_text="plain-calibrate")).to_contain_text("running")
        until(lambda: list(store.glob("plain-calibrate/cells/*.json")))
        page.goto("about:blank")
    kept = {f.name: f.stat().st_mtime_ns for f in store.glob("plain-calibrate/cells/*.json")}
    assert kept
    assert not (store / "plain-calibrate" / "study.json").exists()
    with served(store) as address:
        show(page, address, "work")
        one = page.get_by_role("region", name="Tasks").locator("article").filter(has_text="plain-calibrate")
        expect(one).to_contain_text("interrupted")
        one.get_by_role("button", name="resume").click()
        expect(one).to_contain_text("done", timeout=60_000)
        now = {f.name: f.stat().st_mtime_ns for f in store.glob("plain-calibrate/cells/*.json")}
        assert kept.items() <= now.items(), "what was finished is not done again"
        show(page, address, "work?v.form=calibrate")
        expect(page.locator(".tx-plan")).to_contain_text("the last one here took so long")
        one.get_by_role("button", name="open").click()
        expect(page.get_by_role("region", name="calibrate study plain-calibrate")).to_be_visible()
        page.goto("about:blank")  # it asks for the tasks as long as it is open


def test_a_command_that_fails_says_why_and_what_needs_it_does_not_start(store: Path, tmp_path: Path) -> None:
    shutil.copytree(store / "plain", tmp_path / "plain")
    tasks = Tasks(tmp_path)
    first = tasks.submit("a", ["info", "nowhere"], "x")
    second = tasks.submit("b", ["info", "plain"], "y", after=first.id)
    slow = tasks.submit("c", ["calibrate", "--out=c", "--draws=4000", "--workers=1", "--", "plain"], "c")
    with pytest.raises(TransectError, match="another app"):
        Tasks(tmp_path).submit("d", ["info"], "z")
    until(lambda: slow.state == "running")
    cards = {card["id"]: card for card in tasks.cards()}
    assert [cards[t.id]["state"] for t in (first, second)] == ["failed", "failed"]
    assert "nowhere" in " ".join(cards[first.id]["output"])
    assert "needs a, which is failed" in cards[second.id]["message"]
    tasks.cancel(slow.id)
    until(lambda: slow.state == "cancelled", 20)
    assert tasks.took(["info"]) is None
    tasks.forget(first.id)
    tasks.close()
    again = Tasks(tmp_path)
    assert {t["id"]: t["state"] for t in again.cards()} == {second.id: "failed", slow.id: "cancelled"}
    (tmp_path / ".transect" / "tasks" / slow.id / "task.json").write_text("{")
    assert [t["id"] for t in Tasks(tmp_path).cards()] == [second.id], "a damaged task is left out"
