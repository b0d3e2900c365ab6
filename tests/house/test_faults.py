"""Bad luck: killed processes, full disks, flipped bits, read-only folders, two at once. Nothing is lost or
silently wrong."""

import functools
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

import transect as ts
from planted import planted_store
from tiny import WORDS, make_texts, save_tiny, tiny_model, tiny_tokenizer
from transect.errors import TransectError
from transect.results.table import Table

HERE = Path(__file__).parents[1]
SMALL: dict[str, Any] = {"sites": ["resid"], "batch_tokens": 64, "shard_bytes": 5_000}
SWEEP: dict[str, Any] = {"pairs": "all", "n": 20, "groups": 4, "permutations": 5, "workers": 1}


def run_code(code: str, *words: Any, **more: Any) -> "subprocess.Popen[str]":
    """A Python process with the tests on its path."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(HERE), str(Path(__file__).parent), *sys.path]),
        "HF_HUB_OFFLINE": "1",
    }
    command = [sys.executable, "-c", code, *map(str, words)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more
    )


def killed(code: str, mark: Callable[[], bool], *words: Any) -> None:
    """Start, wait until `mark` says that the work is under way, and kill without warning."""
    process = run_code(code, *words)
    end = time.monotonic() + 120
    while not mark() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.005)
    process.kill()
    _, said = process.communicate()
    assert process.returncode == -signal.SIGKILL, f"not caught at work: {said[-2000:]}"


@pytest.fixture(scope="module")
def llama() -> ts.Model:
    return ts.wrap_model(tiny_model("llama"), tiny_tokenizer(), "tiny")


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> ts.Store:
    """Four layers of 24 texts, each a bent copy of the one below."""
    rng, layers = np.random.default_rng(0), []
    lengths = [4 + k % 5 for k in range(24)]
    X = rng.normal(size=(sum(lengths), 6)) + 2
    for k in range(4):
        layers.append(X.astype(np.float32))
        X = np.tanh(X @ rng.normal(size=(6, 6)) / 2) * 3 + k
    return planted_store(tmp_path_factory.mktemp("faults") / "store", layers, lengths)


# killed


@pytest.mark.fault(
    "bad luck",
    "a sweep or a study is killed",
    "finished blocks lie in `cells/`",
    "run the same command; finished blocks are not computed again, and the table is the same",
)
def test_a_sweep_killed_anywhere_ends_as_the_unbroken_one(grown: ts.Store, tmp_path: Path) -> None:
    """Twice, at blocks that the clock chooses; no half-written block is taken for one."""
    whole = ts.sweep(["cka", "sinkhorn"], grown, out=tmp_path / "whole", **SWEEP)
    code = (
        "import sys, time, json, transect as ts, transect.inference.asks as room\n"
        "room.write_json = lambda *a, w=room.write_json: (w(*a), time.sleep(0.2))\n"
        "store = ts.open_store(sys.argv[1])\n"
        "ts.sweep(['cka', 'sinkhorn'], store, out=sys.argv[2], **json.loads(sys.argv[3]))\n"
    )
    cells = tmp_path / "broken" / "cells"
    for wanted in (1, 3):
        there = functools.partial(lambda k: cells.is_dir() and len(list(cells.glob("*.json"))) >= k, wanted)
        killed(code, there, grown.path, tmp_path / "broken", json.dumps(SWEEP))
    kept = {p.name: p.stat().st_mtime_ns for p in cells.glob("*.json")}
    again = ts.sweep(["cka", "sinkhorn"], grown, out=tmp_path / "broken", **SWEEP)
    assert again.arrow.equals(whole.arrow)
    assert len(kept) < len(list(cells.glob("*.json")))
    assert all((cells / name).stat().st_mtime_ns == when for name, when in kept.items()), (
        "what was done stands"
    )


@pytest.mark.fault(
    "bad luck", "a run with workers is killed", "its workers end with it", "run the same command"
)
def test_the_workers_of_a_killed_run_end_with_it(tmp_path: Path) -> None:
    import psutil

    code = (
        "import functools, pathlib, sys, time\nfrom transect.work.pool import run_blocks\n"
        "from blocks import marked\n"
        "list(run_blocks(functools.partial(marked, sys.argv[1]), range(400), workers=2))\n"
    )
    process = run_code(code, tmp_path)
    end = time.monotonic() + 120
    while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < end:
        time.sleep(0.02)
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) >= 2
    process.kill()
    process.wait()  # and not communicate: workers that stay would keep its pipes open
    _, alive = psutil.wait_procs(family, timeout=30)
    assert alive == []
    process.communicate()


@pytest.mark.fault(
    "bad luck",
    "training or fine-tuning is killed",
    "the last checkpoint and `state.pt`",
    "run the same command: it goes on from the last checkpoint, to the same weights bit for bit",
)
def test_a_training_run_killed_between_checkpoints_ends_bit_for_bit(tmp_path: Path) -> None:
    from transect.train.pretrain import pretrain
    from transect.train.pretraining import preset

    words = WORDS[:13]
    rng = np.random.default_rng(0)
    (tmp_path / "t.txt").write_text("\n".join(" ".join(rng.choice(words, 20)) for _ in range(80)))
    given = {"steps": 6, "texts": str(tmp_path / "t.txt"), "evaluate_every": 3, "checkpoints": [2, 4]}
    code = (
        "import sys, json, time, transect.train.pretrain as room\n"
        "from transect.train.pretraining import preset\n"
        "step = room._Run._step\n"
        "room._Run._step = lambda self, k: (time.sleep(0.2), step(self, k))[1]\n"
        "given = json.loads(sys.argv[1]); given['checkpoints'] = tuple(given['checkpoints'])\n"
        "room.pretrain(preset('tiny', **given), sys.argv[2])\n"
    )
    killed(code, (tmp_path / "broken" / "checkpoint-00002").is_dir, json.dumps(given), tmp_path / "broken")
    asked = preset("tiny", **given | {"checkpoints": (2, 4)})  # type: ignore[arg-type]
    whole, again = (pretrain(asked, tmp_path / name) for name in ("whole", "broken"))
    first, second = (load_file(folder / "model.safetensors") for folder in (whole, again))
    assert all(bool((first[k] == second[k]).all()) for k in first)
    assert (whole / "steps.csv").read_bytes() == (again / "steps.csv").read_bytes()
    assert not list(again.rglob("*.partial"))


@pytest.mark.fault("bad luck", "training or fine-tuning is killed")
def test_a_fine_tune_killed_between_checkpoints_ends_bit_for_bit(tmp_path: Path) -> None:
    from transect.train.finetune import finetune
    from transect.train.recipe import Recipe

    rng = np.random.default_rng(0)
    rows = [
        (" ".join(rng.choice(words, 4)), k)
        for _ in range(40)
        for k, words in enumerate((["good", "nice"], ["bad", "poor"]))
    ]
    data = "".join(json.dumps({"text": text, "label": k}) + "\n" for text, k in rows)
    (tmp_path / "task.jsonl").write_text(data)
    model = save_tiny(tmp_path / "model", "llama")
    given = {
        "model": str(model),
        "task": str(tmp_path / "task.jsonl"),
        "method": "lora",
        "steps": 8,
        "batch": 4,
    }
    given |= {"dropout": 0.1, "evaluate_every": 4}
    code = (
        "import sys, json, time, transect.train.finetune as room\nfrom transect.train.recipe import Recipe\n"
        "step = room._Run._step\n"
        "room._Run._step = lambda self, k: (time.sleep(0.2), step(self, k))[1]\n"
        "room.finetune(Recipe(**json.loads(sys.argv[1]), checkpoints=(3, 6)), sys.argv[2])\n"
    )
    killed(code, (tmp_path / "broken" / "checkpoint-00003").is_dir, json.dumps(given), tmp_path / "broken")
    assert not (tmp_path / "broken" / "result.json").exists()
    asked = Recipe(**given, checkpoints=(3, 6))  # type: ignore[arg-type]
    whole, again = (finetune(asked, tmp_path / name) for name in ("whole", "broken"))
    for name in ("adapter_model.safetensors", "head.safetensors"):
        first, second = load_file(whole / name), load_file(again / name)
        assert all(bool((first[k] == second[k]).all()) for k in first)
    first, second = (json.loads((folder / "result.json").read_text()) for folder in (whole, again))
    assert first["metrics"] == second["metrics"]
    assert not list(again.rglob("*.partial"))


@pytest.mark.fault(
    "bad luck",
    "the app itself is killed",
    "its worker ends with it; studies and stores are only ever read",
    "start it again; a live run of the old server is gone",
)
def test_a_killed_app_takes_its_worker_along_and_leaves_the_folder_as_it_was(
    grown: ts.Store, tmp_path: Path
) -> None:
    import httpx
    import psutil

    shutil.copytree(grown.path, tmp_path / "store")
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    command = [sys.executable, "-m", "transect", "app", str(tmp_path), "--port", "0", "--no-browser"]
    servers = []
    for _ in range(2):
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        servers.append(server)
        assert server.stdout is not None
        base, token = server.stdout.readline().strip().split("/?token=")
        with httpx.Client(base_url=base, headers={"x-transect-token": token}, timeout=60) as client:
            assert client.get("/api/jobs").json() == [], "a new server knows no job of the old one"
            key = client.get("/api/catalog").json()["stores"][0]["id"]
            asked = {"kind": "similarity", "store": key, "site": "resid.1", "text": 0, "centred": False}
            assert client.post("/api/jobs", json=asked).status_code == 200
        family = psutil.Process(server.pid).children(recursive=True)
        server.kill()
        server.wait()
        server.stdout.close()
        _, alive = psutil.wait_procs(family, timeout=60)
        assert alive == [], "the worker hears that its pipe has closed"
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


# two at once


@pytest.mark.fault(
    "bad luck",
    "two captures write one shard, whatever their shares",
    "the second: `another process is capturing shard …`",
    "wait, or share the work with `--shard k/n`",
)
def test_a_second_capture_of_the_folder_is_refused_and_the_first_is_sound(
    tmp_path: Path, llama: ts.Model
) -> None:
    folder, out = save_tiny(tmp_path / "model", "llama"), tmp_path / "store"
    code = (
        "import json, sys, time, transect as ts, transect.store.shards as room\nfrom tiny import make_texts\n"
        "finish = room.ShardWriter.finish\n"
        "room.ShardWriter.finish = lambda self, told: (\n"
        "    print('at work', flush=True), sys.stdin.readline(), finish(self, told))\n"
        "ts.capture(ts.open_model(sys.argv[1]), make_texts(), sys.argv[2], **json.loads(sys.argv[3]))\n"
    )
    first = run_code(code, folder, out, json.dumps(SMALL), stdin=subprocess.PIPE)
    assert first.stdout is not None
    assert first.stdin is not None
    assert first.stdout.readline() == "at work\n"
    model = ts.open_model(str(folder))
    with pytest.raises(TransectError, match=r"another process is capturing.*Wait for it"):
        ts.capture(model, make_texts(), out, **SMALL)
    first.communicate("\n" * 50, timeout=120)
    assert first.returncode == 0
    store = ts.capture(model, make_texts(), out, **SMALL)
    assert store.verify() == []
    assert not list(out.rglob("*.partial"))


# the disk


@pytest.fixture
def disk(tmp_path: Path) -> Any:
    """A disk of 1 MiB of its own; without the right to mount one, a limit on the size of a file stands for
    it."""
    if os.getuid() == 0:
        (tmp_path / "disk").mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(tmp_path / "disk")], check=False
        )
        if done.returncode == 0:
            yield tmp_path / "disk"
            subprocess.run(["umount", "-l", str(tmp_path / "disk")], check=True)
            return
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    (tmp_path / "disk").mkdir(exist_ok=True)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40 << 10, before[1]))
    yield tmp_path / "disk"
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.fault(
    "bad luck",
    "the disk fills up",
    "`… cannot be written (No space left on device); …`",
    "make room, run the same command: finished shards, blocks and the old table are kept",
)
def test_a_full_disk_keeps_what_was_finished(llama: ts.Model, tmp_path: Path, disk: Path) -> None:
    """Room for the whole capture as it begins, taken by another program while it runs."""

    texts = make_texts(26)
    options = SMALL | {"shard_bytes": 20_000}
    taken: list[bool] = []

    def neighbour(done: int, total: int) -> None:
        if not taken and 3 * done > total:
            taken.append(True)
            if disk.is_mount():
                (disk / "neighbour").write_bytes(bytes(shutil.disk_usage(disk).free))
            else:
                resource.setrlimit(
                    resource.RLIMIT_FSIZE, (4 << 10, resource.getrlimit(resource.RLIMIT_FSIZE)[1])
                )

    with pytest.raises(TransectError, match=r"cannot be written.*kept"):
        ts.capture(llama, texts, disk / "s", progress=neighbour, **options)
    kept = ts.open_store(disk / "s")
    assert 0 < len(kept.unfinished) < len(kept.plan)
    assert not list((disk / "s").rglob("*.partial"))
    assert [p for p in kept.verify() if "is missing" not in p] == []
    shutil.copytree(disk / "s", tmp_path / "elsewhere")
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    )
    whole = ts.capture(llama, texts, tmp_path / "elsewhere", **options)
    assert whole.verify() == []


@pytest.mark.fault("bad luck", "the disk fills up")
def test_a_table_that_does_not_fit_leaves_the_old_one(disk: Path) -> None:
    small = Table([{"measure": "cka", "value": 1.0}])
    small.save(disk / "t.parquet")
    rng = np.random.default_rng(0)
    with pytest.raises(TransectError, match=r"t\.parquet cannot be written"):
        Table([{"measure": "cka", "value": v} for v in rng.normal(size=200_000)]).save(disk / "t.parquet")
    assert Table.load(disk / "t.parquet").arrow.equals(small.arrow)
    assert [p.name for p in disk.iterdir()] == ["t.parquet"]


@pytest.mark.fault(
    "bad luck",
    "a bit flips in `texts.parquet` or a table",
    "refused on reading",
    "capture into another folder; run the study again",
)
@pytest.mark.fault(
    "bad luck",
    "a bit flips in a shard",
    "nothing on reading one value; `transect info DIR --verify` names the shard",
    "delete the shard and its `.json`, capture again: only that shard is made",
)
@pytest.mark.parametrize(
    "file", ["texts.parquet", "shards/00000.safetensors", "shards/00000.json", "plan.json"]
)
def test_one_flipped_bit_is_found(grown: ts.Store, tmp_path: Path, file: str) -> None:
    """Wherever it fell: the store does not open, or the command says which file it is, with exit 2."""
    from click.testing import CliRunner

    from transect.cli.main import cli

    rng = np.random.default_rng(0)
    for share in rng.random(4):
        copy = tmp_path / f"{share:.6f}"
        shutil.copytree(grown.path, copy)
        data = bytearray((copy / file).read_bytes())
        data[int(share * len(data))] ^= 1 << int(share * 997) % 8
        (copy / file).write_bytes(data)
        done = CliRunner().invoke(cli, ["info", str(copy), "--verify"])
        assert isinstance(done.exception, TransectError), (file, share, done.output)
        assert done.exception.fix


@pytest.mark.fault(
    "bad luck",
    "a Parquet file, manifest, plan or block is cut short",
    "`… cannot be read`, `… damaged`",
    "delete the named file and run the same command; a store without its index is captured anew",
)
@pytest.mark.parametrize("kept", [0.0, 0.3, 0.97])
def test_a_parquet_file_cut_short_is_refused(grown: ts.Store, tmp_path: Path, kept: float) -> None:
    Table([{"measure": "cka", "value": 1.0}]).save(tmp_path / "t.parquet")
    shutil.copytree(grown.path, tmp_path / "s")
    for file in (tmp_path / "t.parquet", tmp_path / "s" / "texts.parquet"):
        data = file.read_bytes()
        file.write_bytes(data[: int(kept * len(data))])
    with pytest.raises(TransectError, match=r"not a readable table.*Run the study again"):
        Table.load(tmp_path / "t.parquet")
    with pytest.raises(TransectError, match=r"texts\.parquet cannot be read"):
        ts.open_store(tmp_path / "s")


@pytest.mark.fault("bad luck", "a bit flips in a finished block of a sweep")
@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_damaged_block_of_a_sweep_is_done_again(grown: ts.Store, tmp_path: Path, damage: str) -> None:
    whole = ts.sweep("cka", grown, out=tmp_path, **SWEEP)
    block = min((tmp_path / "cells").glob("*.json"))
    data = block.read_bytes()
    # the first decimal of a number: another last one may be read as the same float
    at = next(k for k, byte in enumerate(data) if 0x31 <= byte <= 0x38 and data[k - 1 : k] == b".")
    spoilt = data[:40] if damage == "cut" else data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
    block.write_bytes(spoilt)
    assert ts.sweep("cka", grown, out=tmp_path, **SWEEP).arrow.equals(whole.arrow)
    assert block.read_bytes() == data


@pytest.mark.fault(
    "bad luck",
    "the clock is set back, files carry odd dates",
    "nothing: no decision rests on a date",
    "nothing",
)
def test_the_clock_does_not_matter(
    llama: ts.Model, grown: ts.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Begun in 2040, gone on with in 1980, files dated anyhow: the same shards, nothing done twice."""
    monkeypatch.setattr(time, "time", lambda: 2.2e9)
    monkeypatch.setattr(time, "gmtime", lambda *_: time.struct_time((2040, 1, 1, 0, 0, 0, 0, 1, 0)))
    first = ts.capture(llama, make_texts(), tmp_path / "s", shard=(1, 2), **SMALL)
    assert first.manifest["created"].startswith("2040")
    assert first.unfinished
    table = ts.sweep("cka", grown, out=tmp_path / "sweep", **SWEEP)
    for k, file in enumerate(sorted(tmp_path.rglob("*.*"))):
        os.utime(file, (k * 1e8, (40 - k) * 1e8 if k < 40 else 0))
    monkeypatch.setattr(time, "time", lambda: 3.2e8)
    monkeypatch.setattr(time, "gmtime", lambda *_: time.struct_time((1980, 1, 1, 0, 0, 0, 0, 1, 0)))
    before = {
        k: first.shard(k).stat().st_mtime_ns for k in range(len(first.plan)) if k not in first.unfinished
    }
    store = ts.capture(llama, make_texts(), tmp_path / "s", **SMALL)
    assert {k: store.shard(k).stat().st_mtime_ns for k in before} == before
    whole = ts.capture(llama, make_texts(), tmp_path / "whole", **SMALL)
    assert store.fingerprint == whole.fingerprint
    assert all(store.shard(k).read_bytes() == whole.shard(k).read_bytes() for k in range(len(whole.plan)))
    monkeypatch.setattr(
        sys.modules["transect.inference.sweep"], "evaluate", lambda *_: pytest.fail("computed again")
    )
    assert ts.sweep("cka", grown, out=tmp_path / "sweep", **SWEEP).arrow.equals(table.arrow)


@pytest.mark.fault(
    "bad luck",
    "a folder may not be written",
    "`… cannot be written (Permission denied)`",
    "another `--out`, or give yourself the right",
)
def test_a_folder_that_may_not_be_written(llama: ts.Model, grown: ts.Store, tmp_path: Path) -> None:
    closed, half = tmp_path / "closed", tmp_path / "half"
    closed.mkdir()
    store = ts.open_store(shutil.copytree(grown.path, tmp_path / "store"))
    ts.capture(llama, make_texts(), half, shard=(1, 2), **SMALL)
    for folder in (closed, half, half / "shards"):
        folder.chmod(0o555)
    for folder in (tmp_path, *tmp_path.parents):
        if (
            folder.owner() == "root"
            and os.geteuid() == 0
            and folder.is_relative_to("/tmp")
            and folder != Path("/tmp")
        ):
            folder.chmod(0o755)
    mine = os.geteuid()
    if mine == 0:
        os.seteuid(65534)
    try:
        tried = [
            lambda: ts.capture(llama, make_texts(), closed / "s", **SMALL),
            lambda: ts.capture(llama, make_texts(), half, **SMALL),
            lambda: Table([{"measure": "m"}]).save(closed / "t.parquet"),
            lambda: ts.sweep("cka", store, out=closed / "sweep", **SWEEP),
        ]
        for call in tried:
            with pytest.raises(TransectError, match="cannot be written") as caught:
                call()
            assert caught.value.fix
    finally:
        if mine == 0:
            os.seteuid(0)
        for folder in (closed, half, half / "shards"):
            folder.chmod(0o755)
    assert not list(closed.iterdir())
    assert ts.capture(llama, make_texts(), half, **SMALL).verify() == []
