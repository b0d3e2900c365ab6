"""The server of the app: who may ask, what ids lead to, damaged folders, what the page is sent."""

import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

import transect as ts
from app_home import MARKUP, small_study
from hostile import HOST, TOKEN
from planted import planted_store
from transect.page.catalog import Catalog
from transect.page.guard import HEADERS
from transect.page.payload import columns, inlined, pack_positions, run_card
from transect.page.server import make_app
from transect.results.table import Table


@pytest.mark.fault(
    "bad input",
    "a page of another site, or another name for this machine",
    "refused by the app: host, origin and token are checked on every request",
)
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


@pytest.mark.fault(
    "bad luck",
    "one study or store in the folder of the app is damaged",
    "a card with its message; everything else works",
    "run that study again",
)
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
    assert [status["values"][c] for c in status["codes"]] == ["ok", MARKUP]


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


@pytest.mark.fault("bad input", "texts, labels and names with HTML or scripts")
def test_a_report_cannot_be_broken_out_of(tmp_path: Path) -> None:
    page = ts.report(small_study(), tmp_path / "r.html").read_text()
    assert "<img src=x" not in page
    assert "\\u003c/script" in page
    plain = ts.report(small_study(), tmp_path / "s.html", static=True).read_text()
    assert "<script" not in plain
    assert "default-src 'none'" in plain


def test_lists_of_whole_numbers_travel_and_replicates_stay_behind() -> None:
    rows = [{"measure": "m", "neurons": [3, 1], "replicates": [0.5, 0.25], "value": 1.0}]
    told = columns(Table(rows))["columns"]
    assert told["neurons"] == {"lists": [[3, 1]]}
    assert "replicates" not in told


def test_a_run_says_what_makes_it_a_control() -> None:
    def card(told: dict) -> str:
        return run_card(told)["control"]

    random = {"model": {"fingerprint": {"source": {"format": "random", "seed": 0}}}}
    assert card({"model": {"fingerprint": {"source": None}}}) == ""
    assert card(random) == "random weights"
    assert card(random | {"shuffle_tokens": 0}) == "random weights, shuffled tokens"


def test_folders_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ts.TransectError, match="no such folder"):
        Catalog([tmp_path / "nothing"])
    told = Catalog([tmp_path]).scan()
    assert (told["studies"], told["stores"], told["problems"]) == ([], [], [])
