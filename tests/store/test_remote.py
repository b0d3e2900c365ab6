"""Stores behind fsspec: on a real object server that speaks S3, and in memory. Equal to local ones, read by
range."""

import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import transect as ts
from tiny import make_texts, save_tiny
from transect.errors import TransectError
from transect.files import is_remote, place
from transect.store.ranged import Ranged
from transect.work import pool as engine

SITES = ["resid", "mlp.act"]


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A bucket of a moto server on this machine; its address goes to whoever asks the environment.

    Its log goes to a file: a pipe that nobody reads fills up, and the server waits for ever.
    """
    command = [sys.executable, "-c", "from moto.server import main; main()", "-H", "127.0.0.1", "-p", "0"]
    log = tmp_path_factory.mktemp("moto") / "log"
    with log.open("w") as sink:
        server = subprocess.Popen(command, stderr=sink, stdout=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while not (said := re.search(r"Running on (\S+)", log.read_text())):
        assert server.poll() is None, log.read_text()
        assert time.monotonic() < until, "no server"
        time.sleep(0.1)
    address = said[1]
    given = {"AWS_ENDPOINT_URL": address, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "word"}
    given |= {"AWS_DEFAULT_REGION": "us-east-1"}
    before = {k: os.environ.get(k) for k in given}
    os.environ.update(given)
    while engine._POOLS:  # workers that were born before know nothing of the address
        engine._POOLS.popitem()[1].shutdown()
    for _ in range(50):
        try:
            urllib.request.urlopen(address, timeout=5).close()
            break
        except OSError:
            time.sleep(0.1)
    import s3fs

    s3fs.S3FileSystem().mkdir("stores")
    yield "s3://stores"
    for k, v in before.items():
        os.environ.pop(k, None) if v is None else os.environ.update({k: v})
    server.kill()
    server.wait()


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> ts.Store:
    folder = tmp_path_factory.mktemp("remote")
    save_tiny(folder / "m", "llama")
    model = ts.open_model(str(folder / "m"))
    return ts.capture(model, make_texts(12), folder / "store", sites=SITES, batch_tokens=64, shard_bytes=9000)


def captured(local: ts.Store, out: str) -> ts.Store:
    model = ts.open_model(str(local.path.parent / "m"))
    return ts.capture(model, make_texts(12), out, sites=SITES, batch_tokens=64, shard_bytes=9000)


@pytest.mark.parametrize("where", ["s3", "memory"])
def test_a_remote_store_is_the_local_one(where: str, local: ts.Store, bucket: str, tmp_path: Path) -> None:
    out = f"{bucket}/one" if where == "s3" else "memory://one"
    store = captured(local, out)
    assert is_remote(store.path)
    assert store.verify() == []
    assert store.fingerprint == local.fingerprint
    assert len(store.plan) > 2
    for site in store.sites:
        assert np.array_equal(store.points(site), local.points(site))
    assert np.array_equal(store.sample(5, "resid.2"), local.sample(5, "resid.2"))
    assert np.array_equal(store.points("resid.1", tokens="last"), local.points("resid.1", tokens="last"))
    again = captured(local, out)  # a finished one is left alone
    assert again.manifest["created"] == store.manifest["created"]


def test_an_unfinished_remote_store_resumes(local: ts.Store, bucket: str) -> None:
    store = captured(local, f"{bucket}/cut")
    store.receipt(1).unlink()
    store.shard(1).unlink()
    cut = ts.open_store(f"{bucket}/cut")
    assert cut.unfinished == [1]
    with pytest.raises(TransectError, match="shard 2 of"):
        cut.points("resid.0")
    again = captured(local, f"{bucket}/cut")
    assert again.unfinished == []
    assert np.array_equal(again.points("mlp.1.act"), local.points("mlp.1.act"))


def test_a_sweep_over_remote_stores_by_workers(local: ts.Store, bucket: str, tmp_path: Path) -> None:
    store = captured(local, f"{bucket}/swept")
    given = {"n": 20, "groups": 4, "permutations": 3}
    here = list(ts.sweep("cka", local, workers=1, **given))
    there = list(ts.sweep("cka", store, workers=2, out=tmp_path, **given))
    assert [r["value"] for r in here] == [r["value"] for r in there]


def test_only_the_rows_that_are_asked_for_travel(
    local: ts.Store, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = captured(local, f"{bucket}/ranges")
    store.points("resid.0")  # headers are known from here on
    asked: list[int] = []
    plain = Ranged._runs

    def counted(self: Ranged, runs: list[tuple[int, int]]) -> list[np.ndarray]:
        asked.extend(b - a for a, b in runs)
        return plain(self, runs)

    monkeypatch.setattr(Ranged, "_runs", counted)
    sample = store.sample(3, "resid.1")
    assert sum(asked) == len(sample) < store.rows.sum() / 4


def test_ranges_join_what_is_near_and_part_what_is_far() -> None:
    path = place("memory://ranges/a.bin")
    whole = np.arange(600 * 3, dtype="<f4").reshape(600, 3)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"head" + whole.tobytes())
    array = Ranged(path, 4, np.dtype("<f4"), (600, 3))
    rows = np.array([5, 599, 7, 300, 5, 302])
    assert np.array_equal(array[rows], whole[rows])
    assert np.array_equal(array[10:13], whole[10:13])
    assert array[np.array([], int)].shape == (0, 3)
    path.write_bytes(b"head" + whole.tobytes()[:-8])
    with pytest.raises(TransectError, match="cut short"):
        array[np.array([599])]


def test_places_that_are_none() -> None:
    with pytest.raises(TransectError, match="nonsense"):
        ts.open_store("nonsense://bucket/store")
    with pytest.raises(TransectError, match="memory://nothing"):
        ts.open_store("memory://nothing/there")


@pytest.mark.fault(
    "bad luck",
    "a store on another machine cannot be reached: no network, no credentials",
    "a message with the cause, for whatever was to be read or written",
    "mend it and run the same command again: what was finished is kept",
)
def test_a_place_that_does_not_answer(local: ts.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens there; then a place that fails in its own way once the store is open."""
    for nowhere in ("http://127.0.0.1:1/store", "ftp://127.0.0.1:1/store"):
        with pytest.raises(TransectError, match=r"cannot be reached.*credentials"):
            ts.open_store(nowhere)
    store = captured(local, "memory://silent")
    filesystem = type(store.path.fs)

    def silent(*_args: Any, **_kwargs: Any) -> Any:
        raise RuntimeError("no credentials")

    for call in ("cat_file", "cat_ranges"):
        monkeypatch.setattr(filesystem, call, silent)
    with pytest.raises(TransectError, match=r"cannot be reached \(RuntimeError: no credentials"):
        store.points("resid.0")
    monkeypatch.setattr(filesystem, "put_file", silent)
    with pytest.raises(TransectError, match="cannot be reached"):
        captured(local, "memory://other")
