"""Requests of any kind against the app: never a fault of the server, nothing for a page of another name."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some
from starlette.testclient import TestClient

import transect as ts
from hostile import HOST, TOKEN, modest, small_store
from transect.page.server import make_app
from transect.results.study import Study
from transect.results.table import Table


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ts.Store:
    return small_store(tmp_path_factory.mktemp("attacks") / "store")


@pytest.fixture(scope="module")
def client(store: ts.Store) -> Iterator[TestClient]:
    home = store.path.parent
    Study("drift", "?", {"adjacent": Table([{"measure": "cka", "value": 0.5}])}).save(home / "study")
    with TestClient(
        make_app([home], TOKEN, {HOST}),
        base_url=f"http://{HOST}",
        headers={"x-transect-token": TOKEN},
        raise_server_exceptions=False,
    ) as made:
        yield made


ENTRY = some.recursive(
    some.none() | some.booleans() | some.integers(-(2**70), 2**70) | some.floats() | some.text(max_size=6),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
PIECE = some.text(alphabet="ab0.%2f\\?#;&=\x7f é", max_size=12) | some.sampled_from(
    [
        "..",
        "api",
        "catalog",
        "study",
        "store",
        "jobs",
        "texts",
        "events",
        "values",
        "assets",
        "job-1",
        "%00",
        "a" * 3000,
    ]
)
NUMBER = some.sampled_from(["", "-1", "0", "x", "²", "1e9", "9" * 30, "-" + "9" * 5000, "NaN", "1.5", "\0"])


@modest(max_examples=150)
@given(
    pieces=some.lists(PIECE, max_size=6),
    query=some.tuples(some.sampled_from(["start", "step", "from", "x"]), NUMBER),
)
def test_addresses_of_any_kind(client: TestClient, pieces: list[str], query: tuple[str, str]) -> None:
    from urllib.parse import quote

    path = "/" + "/".join(quote(p, safe="%") for p in pieces)
    for method in ("GET", "POST", "DELETE"):
        answer = client.request(method, path, params=dict([query]))
        assert answer.status_code < 500, (method, path, answer.text)


@modest(max_examples=60)
@given(number=NUMBER)
def test_numbers_of_any_kind(client: TestClient, number: str) -> None:
    told = client.get("/api/catalog").json()
    key, study = told["stores"][0]["id"], told["studies"][0]["id"]
    for path in (f"/api/store/{key}/texts", f"/api/study/{study}/table/adjacent", "/api/jobs/job-1/values"):
        for name in ("start", "step", "from"):
            assert client.get(path, params={name: number}).status_code < 500


@modest(max_examples=120)
@given(
    body=some.dictionaries(
        some.sampled_from(["kind", "store", "study", "site", "neuron", "text", "model", "prompt"]), ENTRY
    )
    | ENTRY,
    kind=some.sampled_from(["live", "neuron", "similarity", "scatter", "shell"]),
)
def test_jobs_of_any_kind_that_name_nothing(client: TestClient, body: Any, kind: str) -> None:
    """Nothing here names a store or a model that is there, so that no job may start."""
    asked = body | {"kind": kind} if isinstance(body, dict) else body
    data = json.dumps(asked).encode("utf-8", "surrogatepass")
    assert client.post("/api/jobs", content=data).status_code == 400
    assert client.get("/api/jobs").json() == []


@pytest.mark.parametrize("data", [b"[" * 100_000, b"\xff\xfe", b"", b'{"kind":' + b"9" * 10_000 + b"}"])
def test_bodies_made_to_break_a_reader(client: TestClient, data: bytes) -> None:
    assert client.post("/api/jobs", content=data).status_code == 400


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example:4000"},
        {"host": "127.0.0.1.evil.example:4000"},
        {"host": "127.0.0.1"},
        {"host": "[::1]:4000"},
        {"host": f"{HOST}, evil.example"},
        {"origin": f"http://{HOST}.evil.example"},
        {"origin": f"https://{HOST}"},
        {"origin": ""},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_a_page_of_another_name_changes_nothing(
    client: TestClient, headers: dict[str, str], method: str
) -> None:
    """A name that was pointed at this machine after the page had loaded, with the token it cannot have."""
    for path in ("/api/jobs", "/api/catalog", "/api/jobs/job-1"):
        answer = client.request(method, path, headers=headers, json={"kind": "live"})
        assert answer.status_code in (403, 421), (path, answer.status_code)
        assert "access-control-allow-origin" not in answer.headers
