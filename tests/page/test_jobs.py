"""Work in the app's worker process: live runs, readings of a store, cancelling, a worker that dies."""

import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

import transect as ts
from app_home import events
from transect.work import pool


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


@pytest.mark.fault(
    "bad luck",
    "the app's worker dies during a live run",
    "the run ends as failed, with a message",
    "run the prompt again; the server and the other runs go on",
)
def test_a_worker_that_dies_fails_its_job_and_a_fresh_one_follows(client: TestClient) -> None:
    import psutil

    while pool._POOLS:  # workers of other tests in this process are children too
        pool._POOLS.popitem()[1].shutdown()
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
