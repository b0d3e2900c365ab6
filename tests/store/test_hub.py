"""Stores on a hub: a server on this machine that speaks the hub's protocol as far as the client asks."""

import base64
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

import transect as ts
from transect.errors import TransectError

COMMIT = "a" * 40


class Hub(BaseHTTPRequestHandler):
    """Data sets in memory: made, committed in one piece, listed and read. `forbidden`: nobody may write."""

    protocol_version = "HTTP/1.1"
    repos: dict[str, dict[str, bytes]] = {}  # noqa: RUF012
    forbidden = False

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, body: object = None, status: int = 200, **headers: str) -> None:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(raw)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(raw)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.forbidden:
            return self.answer({"error": "no rights"}, 403)
        if self.path == "/api/repos/create":
            told = json.loads(body)
            name = f"{told.get('organization') or 'me'}/{told['name']}"
            self.repos.setdefault(name, {})
            return self.answer({"url": f"http://{self.headers['Host']}/datasets/{name}"})
        if self.path == "/api/validate-yaml":
            return self.answer({"errors": [], "warnings": []})
        repo = re.match(r"/api/datasets/([^/]+/[^/]+)/", self.path)[1]
        if "/preupload/" in self.path:
            files = json.loads(body)["files"]
            told = [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]
            return self.answer({"files": told})
        lines = [json.loads(line) for line in body.decode().splitlines()]
        kept = {x["value"]["path"]: x["value"]["content"] for x in lines if x["key"] == "file"}
        self.repos[repo] |= {path: base64.b64decode(content) for path, content in kept.items()}
        url = f"http://{self.headers['Host']}/datasets/{repo}/commit/{COMMIT}"
        return self.answer({"commitUrl": url, "commitOid": COMMIT, "success": True})

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        match = re.match(r"(?:/api)?/datasets/([^/]+/[^/]+)(.*)", path)
        held = self.repos.get(match[1]) if match else None
        if held is None:
            return self.answer({"error": "none"}, 404, X_Error_Code="RepoNotFound")
        if match[2].startswith("/resolve/"):
            raw = held[match[2].split("/", 3)[3]]
            tag = {"ETag": f'"{hash(raw):x}"', "X_Repo_Commit": COMMIT, "Accept_Ranges": "bytes"}
            return self.answer(raw, **tag)
        files = [
            {"type": "file", "path": p, "rfilename": p, "size": len(b), "oid": "b" * 40}
            for p, b in held.items()
        ]
        if "/tree/" in match[2]:
            return self.answer(files)
        return self.answer({"id": match[1], "sha": COMMIT, "siblings": files, "tags": [], "private": False})


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[type[Hub]]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_TOKEN", "hf_none")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(Hub, "repos", {})
    yield Hub
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def store(tmp_path: Path) -> ts.Store:
    rng = np.random.default_rng(0)
    points = {f"resid.{k}": [rng.standard_normal((n, 4)).astype("f4") for n in (3, 5, 2)] for k in (0, 1)}
    return ts.store_from_arrays(points, tmp_path / "mine", labels={"a|b": [1, 2, 3]})


def test_a_store_goes_to_a_hub_and_comes_back_with_a_card(hub: type[Hub], store: ts.Store) -> None:
    address = store.push_to_hub("me/points")
    assert address.endswith("/datasets/me/points")
    back = ts.open_store("hf://me/points")
    assert back.fingerprint == store.fingerprint
    assert np.array_equal(back.points("resid.1"), store.points("resid.1"))
    assert back.verify() == []
    assert back.path != store.path
    card = hub.repos["me/points"]["README.md"].decode()
    assert card.startswith('---\ntags: ["transect", "activations"]\n')
    assert r"| labels | a\|b |" in card
    assert f"`{store.fingerprint}`" in card
    assert 'ts.open_store("hf://me/points")' in card
    assert ts.open_store("hf://datasets/me/points@main").fingerprint == store.fingerprint


@pytest.mark.fault(
    "bad luck",
    "a hub gives no rights, has no such store, or does not answer",
    "a message that says which of them",
    "set HF_TOKEN or HF_ENDPOINT and push again: a push is one commit",
)
def test_a_hub_without_rights_is_told(
    hub: type[Hub], store: ts.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "forbidden", True)
    with pytest.raises(TransectError, match=r"HTTP 403.*HF_TOKEN"):
        store.push_to_hub("me/points")
    assert hub.repos == {}
    with pytest.raises(TransectError, match="is not there"):
        ts.open_store("hf://me/none")
    for name in ("points", "hf://a/b/c/d", "a b/c"):
        with pytest.raises(TransectError, match="names no store"):
            store.push_to_hub(name)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(TransectError, match="no hub answers"):
        ts.open_store("hf://me/points")
    store.receipt(0).unlink()
    with pytest.raises(TransectError, match="not captured to its end"):
        ts.open_store(store.path).push_to_hub("me/points")
