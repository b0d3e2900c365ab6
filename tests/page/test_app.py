"""The server of the app: who may ask, what ids lead to, damaged folders, and live runs in the worker process."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

import transect as ts
from planted import planted_store
from tiny import save_tiny
from transect.page.catalog import Catalog
from transect.page.guard import HEADERS
from transect.page.payload import columns, inlined, pack_positions
from transect.page.server import make_app
from transect.results.study import Study
from transect.results.table import Table

HOST = "127.0.0.1:4000"
TOKEN = "sesame"
NASTY = "</script><img src=x onerror=alert(1)>"


def small_study() -> Study:
    rows = [
        {
            "measure": "sinkhorn",
            "run": "plain",
            "site": "resid.0",
            "site2": "resid.1",
            "value": 0.0,
            "status": "ok",
        },
        {"measure": "sinkhorn", "run": "plain", "site": "resid.1", "site2": "resid.2", "status": NASTY},
    ]
    spots = [
        {"run": "plain", "site": f"mlp.{k}.act", "neuron": i, "x": i + k / 2, "y": -1.0}
        for k in (0, 1)
        for i in (0, 1, 2)
    ]
    study = Study("drift", NASTY, {"adjacent": Table(rows), "positions": Table(spots)}, findings=[NASTY])
    study.provenance = {"seed": 0, "runs": []}
    return study


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


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"x-transect-token": "wrong"}, 403),
        ({"x-transect-token": ""}, 403),
        ({"host": "evil.example"}, 421),
        ({"host": "127.0.0.1:4001"}, 421),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": f"http://{HOST}"}, 200),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-origin"}, 200),
    ],
)
def test_only_the_page_with_its_token_may_ask(
    client: TestClient, headers: dict[str, str], status: int
) -> None:
    for path in ("/api/catalog", "/"):
        answer = client.get(path, headers=headers)
        assert answer.status_code == status, path
        for name, value in HEADERS.items():
            assert answer.headers[name] == value
        assert "unsafe" not in answer.headers["content-security-policy"]


def test_the_token_in_the_address_is_enough(client: TestClient) -> None:
    assert client.get(f"/api/catalog?token={TOKEN}", headers={"x-transect-token": ""}).status_code == 200
    assert client.get("/assets/page.js", headers={"x-transect-token": ""}).status_code == 200
    assert (
        client.post("/api/jobs", json={"kind": "live"}, headers={"x-transect-token": ""}).status_code == 403
    )


@pytest.mark.parametrize("by", ["token", "code"])
def test_a_browser_gets_a_cookie_and_an_address_without_token(home: Path, by: str) -> None:
    app = make_app([home], TOKEN, {HOST})
    given = TOKEN if by == "token" else app.code()
    with TestClient(app, base_url=f"http://{HOST}", follow_redirects=False) as browser:
        assert browser.get("/").status_code == 403
        sent = browser.get(f"/?{by}={given}")
        assert (sent.status_code, sent.headers["location"]) == (303, "/")
        told = sent.headers["set-cookie"].lower()
        assert "httponly" in told
        assert "samesite=strict" in told
        assert given.lower() not in told
        assert browser.get("/").status_code == 200
        assert browser.get("/api/catalog", headers={"x-transect-token": ""}).status_code == 200
        assert browser.get("/api/catalog?token=").status_code == 200
        assert browser.get("/api/catalog", headers={"x-transect-token": "wrong"}).status_code == 403
        assert browser.get("/api/catalog", headers={"origin": "http://127.0.0.1:1"}).status_code == 403
        browser.cookies.clear()
        assert browser.get("/api/catalog").status_code == 403
        assert browser.get(f"/?{by}={given}").status_code == (303 if by == "token" else 403), (
            "a code counts once"
        )
        browser.cookies.clear()
        assert browser.get(f"/api/catalog?code={app.code()}").status_code == 403


DAMAGE = {
    "nan": lambda told: json.dumps(told | {"provenance": {"seed": float("nan")}}),
    "huge": lambda told: json.dumps(told).replace('"seed": 0', '"seed": 1e400'),
    "twice": lambda told: json.dumps(told)[:-1] + ', "name": "drift"}',
    "surrogate": lambda told: json.dumps(told | {"question": "\ud800"}),
    "list": lambda told: "[]",
    "runs": lambda told: json.dumps(told | {"provenance": {"runs": [3]}}),
    "spec": lambda told: json.dumps(told | {"provenance": {"runs": [{"model": {"spec": []}, "sites": 3}]}}),
    "figure": lambda told: json.dumps(told | {"figures": [{"name": "../x"}]}),
    "findings": lambda told: json.dumps(told | {"findings": [{}]}),
    "flipped": lambda told: json.dumps(told | {"question": "other", "checksum": "0" * 64}),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_one_damaged_study_is_a_card_and_the_rest_works(home: Path, tmp_path: Path, damage: str) -> None:
    for part in ("runs/plain", "studies/one"):
        shutil.copytree(home / part, tmp_path / part)
    small_study().save(tmp_path / "studies" / "bad")
    file = tmp_path / "studies" / "bad" / "study.json"
    told = {k: v for k, v in json.loads(file.read_text()).items() if k != "checksum"}
    file.write_text(DAMAGE[damage](told))
    with TestClient(make_app([tmp_path], TOKEN, {HOST}), base_url=f"http://{HOST}") as client:
        client.headers["x-transect-token"] = TOKEN
        told = client.get("/api/catalog").json()
        assert [s["path"] for s in told["studies"]] == ["studies/one"]
        assert [s["path"] for s in told["stores"]] == ["runs/plain"]
        assert [p["path"] for p in told["problems"]] == ["studies/bad"]
        assert told["problems"][0]["message"]
        assert client.get(f"/api/study/{told['studies'][0]['id']}/table/adjacent").status_code == 200


@pytest.mark.parametrize(
    "change",
    [
        {"neuron": 1e308},
        {"neuron": [1]},
        {"neuron": 1.5},
        {"neuron": None},
        {"site": {}},
        {"neuron": "9" * 5000},
    ],
)
def test_a_job_of_wrong_types_fails_with_a_message(client: TestClient, change: dict) -> None:
    store = client.get("/api/catalog").json()["stores"][0]["id"]
    body = {"kind": "neuron", "store": store, "site": "mlp.0.act", "neuron": 0} | change
    last = events(client, client.post("/api/jobs", json=body).json()["id"])[-1]
    assert (last["type"], "trace" in last) == ("failed", False)
    assert client.get("/api/jobs").status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b'{"kind": "neuron", "neuron": 1e400}',
        b'{"a": NaN}',
        b'{"a": 1, "a": 2}',
        b'{"a": "\\ud800"}',
        b"\xff",
    ],
)
def test_what_is_no_strict_json_is_refused(client: TestClient, body: bytes) -> None:
    assert client.post("/api/jobs", content=body).status_code == 400
    assert client.get("/api/jobs").status_code == 200


def test_a_body_is_read_no_further_than_its_limit() -> None:
    import asyncio

    from starlette.requests import Request

    from transect.page import server

    sent: list[int] = []

    async def receive() -> dict:
        sent.append(1)
        return {"type": "http.request", "body": b"x" * (1 << 18), "more_body": len(sent) < 1000}

    request = Request({"type": "http", "method": "POST", "headers": []}, receive)
    with pytest.raises(ts.TransectError, match="more than"):
        asyncio.run(server._body(request))
    assert len(sent) == 5


def test_requests_while_the_folder_is_looked_through_see_all_of_it(home: Path) -> None:
    catalog = Catalog([home])
    ids = [card["id"] for kind in ("studies", "stores") for card in catalog.scan()[kind]]
    failed: list[Exception] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            try:
                for key in ids:
                    catalog.paths[key]
                catalog.table(ids[0], "adjacent")
            except Exception as error:
                failed.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(15):
        catalog.scan()
    over.set()
    for thread in threads:
        thread.join()
    assert failed == []


def test_a_store_captured_anew_is_read_anew(tmp_path: Path) -> None:
    X = np.arange(12.0).reshape(6, 2)
    planted_store(tmp_path / "s", [X], [3, 3])
    catalog = Catalog([tmp_path])
    key = catalog.scan()["stores"][0]["id"]
    assert np.array_equal(catalog.store(key).points("resid.0"), X)
    assert catalog.store(key) is catalog.store(key)
    shutil.rmtree(tmp_path / "s")
    planted_store(tmp_path / "s", [-X], [3, 3])
    assert np.array_equal(catalog.store(key).points("resid.0"), -X)


def test_the_catalog_lists_what_is_there_and_what_is_wrong(client: TestClient) -> None:
    told = client.get("/api/catalog").json()
    assert [s["path"] for s in told["studies"]] == ["studies/one"]
    assert [(s["path"], s["rows"], s["texts_held"]) for s in told["stores"]] == [("runs/plain", 27, 4)]
    problems = {p["path"]: p["message"] for p in told["problems"]}
    assert set(problems) == {"studies/broken", "studies/torn", "runs/half"}
    assert "table adjacent cannot be read" in problems["studies/torn"]
    assert {e["study"] for e in told["estimates"]} == {"drift", "manifold", "neurons", "compare"}
    drift = next(e for e in told["estimates"] if e["study"] == "drift")
    assert drift["seconds"] >= 1
    assert drift["command"].startswith("transect drift runs/plain")


def test_missing_is_null_and_never_zero(client: TestClient) -> None:
    study = client.get("/api/catalog").json()["studies"][0]["id"]
    told = client.get(f"/api/study/{study}/table/adjacent").json()
    assert told["columns"]["value"]["data"] == [0.0, None]
    status = told["columns"]["status"]
    assert [status["values"][c] for c in status["codes"]] == ["ok", NASTY]


def test_positions_travel_as_float32(client: TestClient) -> None:
    study = client.get("/api/catalog").json()["studies"][0]["id"]
    raw = client.get(f"/api/study/{study}/positions/positions").content
    length = int.from_bytes(raw[:4], "little")
    header = json.loads(raw[4 : 4 + length])
    assert header["dim"] == 2
    assert [(s["site"], s["start"], s["count"]) for s in header["sites"]] == [
        ("mlp.0.act", 0, 3),
        ("mlp.1.act", 3, 3),
    ]
    points = np.frombuffer(raw[4 + length :], "<f4").reshape(-1, 2)
    assert points.tolist() == [[0, -1], [1, -1], [2, -1], [0.5, -1], [1.5, -1], [2.5, -1]]


@pytest.mark.parametrize(
    "key", ["..%2f..", "%2e%2e%2f%2e%2e", "....//", "/etc", "drift-0000000000", "store-%00"]
)
def test_ids_are_looked_up_and_never_joined(client: TestClient, key: str) -> None:
    for path in (f"/api/study/{key}/table/adjacent", f"/api/store/{key}/texts", f"/assets/{key}"):
        assert client.get(path).status_code in (400, 404), path
    study = client.get("/api/catalog").json()["studies"][0]["id"]
    for name in ("../study", "..%2f..%2fsecret", "positions.parquet", "study"):
        assert client.get(f"/api/study/{study}/table/{name}").status_code in (400, 404)


def test_a_path_in_a_job_leads_nowhere(client: TestClient, home: Path) -> None:
    for job in (
        {"kind": "neuron", "store": str(home / "runs" / "plain"), "site": "mlp.0.act", "neuron": 0},
        {"kind": "live", "model": str(home / "model"), "prompt": "x"},
        {"kind": "shell"},
        [1],
    ):
        answer = client.post("/api/jobs", json=job)
        assert answer.status_code == 400, job
        assert answer.json()["message"]
    assert client.post("/api/jobs", content=b"x" * (2 << 20)).status_code == 400


def events(client: TestClient, job: str, start: int = -1) -> list[dict]:
    """All events of a job, read as a page would: until it ends."""
    told = []
    with client.stream("GET", f"/api/jobs/{job}/events?from={start}") as stream:
        for line in stream.iter_lines():
            if line.startswith("data: "):
                told.append(json.loads(line[6:]))
    return told


def model_id(client: TestClient, part: str = "model") -> str:
    return next(m["id"] for m in client.get("/api/catalog").json()["models"] if m["spec"].endswith(part))


def start(client: TestClient, prompt: str, new: int = 3, part: str = "/model", **more) -> str:
    body = {"kind": "live", "model": model_id(client, part), "prompt": prompt, "max_new_tokens": new, **more}
    return client.post("/api/jobs", json=body).json()["id"]


def test_two_prompts_at_once_are_what_each_is_alone(client: TestClient, home: Path) -> None:
    """Ids, order and activations of both are those of the function that the worker calls."""
    from transect.models.generate import activations

    prompts = ("The month of March has", "Anna lives in Berlin and")
    jobs = [start(client, p, 4) for p in prompts]
    heard: dict[str, list[dict]] = {}
    threads = [threading.Thread(target=lambda j=j: heard.update({j: events(client, j)})) for j in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    model = ts.open_model(str(home / "model"))
    for job, prompt in zip(jobs, prompts, strict=True):
        steps = list(activations(model, prompt, ["mlp.act", "attn.head"], max_new_tokens=4))
        tokens = [e for e in heard[job] if e["type"] == "token"]
        assert heard[job][-1]["type"] == "done"
        assert [(t["id"], t["generated"]) for t in tokens] == [(s.id, s.generated) for s in steps]
        sites = next(e for e in heard[job] if e["type"] == "started")["sites"]
        for k, step in enumerate(steps):
            got = np.frombuffer(client.get(f"/api/jobs/{job}/values?step={k}").content, "<f4")
            want = np.concatenate([step.values[s["site"]] for s in sites])
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    assert client.get(f"/api/jobs/{jobs[0]}/values?step=99").status_code == 400


def test_a_reload_hears_everything_again_and_from_where_it_was(client: TestClient) -> None:
    job = start(client, "Numbers: 1 2 3", 2)
    first = events(client, job)
    assert events(client, job) == first
    assert events(client, job, 2) == first[3:]
    listed = {j["id"]: j["state"] for j in client.get("/api/jobs").json()}
    assert listed[job] == "done"


def test_a_run_can_be_cancelled_and_the_next_one_is_well(client: TestClient) -> None:
    long = start(client, "The " * 20, 400, seed=2)
    waiting = start(client, "never started", 2)
    client.delete(f"/api/jobs/{waiting}")
    for _ in range(400):
        state = next(j["state"] for j in client.get("/api/jobs").json() if j["id"] == long)
        if state == "running":
            break
        time.sleep(0.02)
    client.delete(f"/api/jobs/{long}")
    assert events(client, long)[-1]["type"] == "cancelled"
    assert [e["type"] for e in events(client, waiting)] == ["queued", "cancelled"]
    assert events(client, start(client, "after", 1))[-1]["type"] == "done"


@pytest.mark.parametrize(
    ("prompt", "new", "part", "words"),
    [
        ("", 3, "/model", "empty prompt"),
        ("word " * 3000, 3, "/model", "the model takes"),
        ("hello", 5000, "/model", "the page asks for 0 to"),
        ("hello", 3, "no-such-model", "no-such-model"),
    ],
)
def test_what_cannot_run_gets_a_message(
    client: TestClient, prompt: str, new: int, part: str, words: str
) -> None:
    last = events(client, start(client, prompt, new, part))[-1]
    assert last["type"] == "failed"
    assert words in last["message"]
    assert "trace" not in last


def test_a_worker_that_dies_fails_its_job_and_a_fresh_one_follows(client: TestClient) -> None:
    import psutil

    job = start(client, "The " * 20, 400, seed=2)
    for _ in range(400):
        if any(e["state"] == "running" for e in client.get("/api/jobs").json() if e["id"] == job):
            break
        time.sleep(0.02)
    own = [c for c in psutil.Process(os.getpid()).children() if "spawn_main" in " ".join(c.cmdline())]
    assert len(own) == 1
    own[0].kill()
    last = events(client, job)[-1]
    assert (last["type"], "worker process ended" in last.get("message", "")) == ("failed", True)
    assert events(client, start(client, "after", 1))[-1]["type"] == "done"


def test_one_neuron_and_one_text_read_from_a_store(client: TestClient, home: Path) -> None:
    store = client.get("/api/catalog").json()["stores"][0]["id"]
    body = {"kind": "neuron", "store": store, "site": "mlp.0.act", "neuron": 2}
    value = events(client, client.post("/api/jobs", json=body).json()["id"])[-2]["value"]
    points = ts.open_store(home / "runs" / "plain").points("mlp.0.act", position0=False).astype(float)
    assert value["n"] == len(points) == 23
    assert value["mean"] == pytest.approx(points[:, 2].mean(), rel=1e-6)
    assert value["largest"][0]["value"] == pytest.approx(points[:, 2].max(), rel=1e-6)
    rho = np.corrcoef(points.T)[2]
    best = max((i for i in range(6) if i != 2), key=lambda i: abs(rho[i]))
    assert value["nearest"][0]["neuron"] == best
    assert value["nearest"][0]["rho"] == pytest.approx(rho[best], rel=1e-5)
    body = {"kind": "similarity", "store": store, "site": "resid.0", "text": 2, "centred": False}
    value = events(client, client.post("/api/jobs", json=body).json()["id"])[-2]["value"]
    own = ts.open_store(home / "runs" / "plain").sample(2, "resid.0").astype(float)[1:]
    unit = own / np.linalg.norm(own, axis=1, keepdims=True)
    np.testing.assert_allclose(value["cosine"], unit @ unit.T, atol=6e-5)
    body = {"kind": "neuron", "store": store, "site": "mlp.9.act", "neuron": 2}
    assert "no site" in events(client, client.post("/api/jobs", json=body).json()["id"])[-1]["message"]


@pytest.mark.parametrize("start", ["x", "-1", "1e9", "99999999999999"])
def test_what_is_no_number_is_refused(client: TestClient, start: str) -> None:
    store = client.get("/api/catalog").json()["stores"][0]["id"]
    assert client.get(f"/api/store/{store}/texts?start={start}").status_code == 400
    body = {"kind": "neuron", "store": store, "site": "mlp.0.act", "neuron": start}
    last = events(client, client.post("/api/jobs", json=body).json()["id"])[-1]
    assert (last["type"], "trace" in last) == ("failed", False)


def test_texts_come_a_page_at_a_time(client: TestClient) -> None:
    store = client.get("/api/catalog").json()["stores"][0]["id"]
    told = client.get(f"/api/store/{store}/texts?start=2").json()
    assert told["count"] == 4
    assert [(t["index"], len(t["tokens"])) for t in told["texts"]] == [(2, 9), (3, 6)]


def test_inlined_data_keeps_to_its_budget_and_says_what_it_left() -> None:
    data, left = inlined([small_study()], 1 << 20)
    assert left == []
    key = data["catalog"]["studies"][0]["id"]
    assert data["tables"][key]["adjacent"] == columns(small_study().tables["adjacent"])
    assert set(data["positions"][key]) == {"positions"}
    data, left = inlined([small_study()], 60)
    assert len(left) == 2
    assert data["catalog"]["left_out"] == left
    assert "positions of drift" in " ".join(left)
    assert pack_positions(small_study().tables["positions"])[:4] != b""


def test_a_report_cannot_be_broken_out_of(tmp_path: Path) -> None:
    page = ts.report(small_study(), tmp_path / "r.html").read_text()
    assert "<img src=x" not in page
    assert "\\u003c/script" in page
    plain = ts.report(small_study(), tmp_path / "s.html", static=True).read_text()
    assert "<script" not in plain
    assert "default-src 'none'" in plain


def test_folders_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ts.TransectError, match="no such folder"):
        Catalog([tmp_path / "nothing"])
    told = Catalog([tmp_path]).scan()
    assert (told["studies"], told["stores"], told["problems"]) == ([], [], [])


def test_the_command_prints_its_address_alone_and_serves(home: Path) -> None:
    import httpx

    command = [
        sys.executable,
        "-c",
        "from transect.cli.main import main; main()",
        "app",
        str(home),
        "--port",
        "0",
        "--no-browser",
    ]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:")
        base, token = address.split("/?token=")
        assert len(token) >= 24
        page = httpx.get(address, follow_redirects=True)
        assert str(page.url) == f"{base}/"
        assert (page.status_code, "page.js" in page.text) == (200, True)
        assert httpx.get(f"{base}/api/catalog", headers={"x-transect-token": token}).json()["studies"]
        assert httpx.get(f"{base}/api/catalog").status_code == 403
        port = base.rsplit(":", 1)[1]
        again = subprocess.run(
            [*command[:3], "app", str(home), "--port", port, "--no-browser"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (again.returncode, f"port {port} cannot be used" in again.stderr, again.stdout) == (
            2,
            True,
            "",
        )
    finally:
        server.terminate()
        out, _ = server.communicate(timeout=20)
    assert out == ""
