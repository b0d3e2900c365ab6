"""Engines: one contract for all of them, whoever is killed; stores and tables equal those of one process, bit
for bit."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import transect as ts
from blocks import (
    complain,
    die_always,
    die_once,
    own_threads,
    read_receipt,
    run_dry_once,
    square,
    write_receipt,
)  # fmt: skip
from planted import planted_store
from tiny import make_texts, save_tiny
from transect.errors import TransectError
from transect.work.pool import PATIENCE, THREADS, run_blocks, threads

ENGINES = ["serial", "local", "ray", "part"]


def given(engine: str, folder: Path) -> dict:
    """How each engine is asked for; the parts of a run meet in a folder."""
    if engine == "part":
        return {"engine": "part:1/1", "workers": 2, "receipt": partial(read_receipt, folder)}
    return {"engine": engine.replace("serial", "local"), "workers": 1 if engine == "serial" else 2}


@pytest.mark.parametrize("engine", ENGINES)
def test_all_blocks_come_back(engine: str, tmp_path: Path) -> None:
    assert dict(run_blocks(square, range(17), **given(engine, tmp_path))) == {k: k * k for k in range(17)}


@pytest.mark.fault(
    "bad luck",
    "a worker is killed, or ends for want of memory",
    "its blocks are done by another worker",
    "nothing",
)
@pytest.mark.parametrize("engine", ["local", "ray", "part"])
def test_a_killed_worker_loses_nothing(engine: str, tmp_path: Path) -> None:
    done = dict(run_blocks(partial(die_once, tmp_path), range(7), retries=6, **given(engine, tmp_path)))
    assert done == {k: k * k for k in range(7)}


@pytest.mark.fault("bad luck", "a worker is killed, or ends for want of memory")
@pytest.mark.parametrize("engine", ["local", "ray", "part"])
def test_a_worker_without_memory_loses_nothing(engine: str, tmp_path: Path) -> None:
    done = dict(run_blocks(partial(run_dry_once, tmp_path), range(5), **given(engine, tmp_path)))
    assert done == {k: k * k for k in range(5)}
    assert (tmp_path / "dry-2").exists()


@pytest.mark.parametrize("engine", ["local", "ray", "part"])
def test_a_block_that_always_kills_ends_with_a_message(engine: str, tmp_path: Path) -> None:
    with pytest.raises(TransectError, match="a worker died 2 times"):
        dict(run_blocks(die_always, range(2), retries=1, **given(engine, tmp_path)))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_users_error_arrives_whole(engine: str, tmp_path: Path) -> None:
    with pytest.raises(TransectError) as caught:
        dict(run_blocks(complain, range(2), **given(engine, tmp_path)))
    assert caught.value.fix == "Change it."


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_workers_have_one_thread(engine: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(THREADS, raising=False)
    assert set(dict(run_blocks(own_threads, range(4), **given(engine, tmp_path))).values()) == {1}
    assert THREADS not in os.environ


@pytest.mark.parametrize("engine", ENGINES)
def test_what_is_done_is_not_done_again(engine: str, tmp_path: Path) -> None:
    write_receipt(tmp_path, 3)
    told = given(engine, tmp_path) | {"receipt": partial(read_receipt, tmp_path)}
    assert dict(run_blocks(partial(write_receipt, tmp_path), range(6), **told)) == {
        k: k * k for k in range(6)
    }
    assert sorted((tmp_path / "log").read_text().split()) == list("012345")


def test_parts_share_the_work_and_all_end_with_all_of_it(tmp_path: Path) -> None:
    """Three processes on one folder: every block is done once, and each process has every receipt."""
    code = (
        "import sys; sys.path[:0] = sys.argv[3:]\n"
        "from functools import partial; from pathlib import Path\n"
        "from blocks import read_receipt, write_receipt\nfrom transect.work.pool import run_blocks\n"
        "at = Path(sys.argv[1])\n"
        "how = {'engine': sys.argv[2], 'workers': 1, 'receipt': partial(read_receipt, at)}\n"
        "done = dict(run_blocks(partial(write_receipt, at), range(12), **how))\n"
        "assert done == {k: k * k for k in range(12)}, done\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    every = [
        subprocess.Popen(
            [*command, f"part:{k}/3", str(Path(__file__).parent), str(Path(__file__).parents[1])]
        )
        for k in (1, 2, 3)
    ]
    assert [p.wait(timeout=120) for p in every] == [0, 0, 0]
    assert sorted((tmp_path / "log").read_text().split(), key=int) == [str(k) for k in range(12)]


def test_a_part_that_never_comes_is_done_by_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PATIENCE, "0.2")
    told = {"engine": "part:1/3", "workers": 1, "receipt": partial(read_receipt, tmp_path)}
    assert dict(run_blocks(partial(write_receipt, tmp_path), range(9), **told)) == {
        k: k * k for k in range(9)
    }


def test_mistakes() -> None:
    with pytest.raises(TransectError, match="engine 'slurm'"):
        dict(run_blocks(square, range(2), engine="slurm"))
    with pytest.raises(TransectError, match="k/n with 1"):
        dict(run_blocks(square, range(2), engine="part:3/2", receipt=lambda block: None))
    with pytest.raises(TransectError, match="Give --out"):
        dict(run_blocks(square, range(2), engine="part:1/2"))
    with pytest.raises(TransectError, match="does not hand out GPUs"):
        dict(run_blocks(square, range(2), gpus_per_worker=1))
    with pytest.raises(TransectError, match="the cluster has 0"):
        dict(run_blocks(square, range(2), engine="ray", gpus_per_worker=1))


# the two loads: capture and sweep


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("engine")
    save_tiny(folder / "m", "llama")
    was = torch.get_num_threads()
    torch.set_num_threads(
        1
    )  # a product may differ in its last bit with the number of threads, and workers have one
    texts = make_texts(24)
    ts.capture(
        ts.open_model(str(folder / "m")),
        texts,
        folder / "serial",
        sites=["resid", "mlp.act"],
        batch_tokens=64,
        shard_bytes=9000,
    )
    yield folder
    torch.set_num_threads(was)


def contents(store: ts.Store) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted((store.path / "shards").glob("*.safetensors"))}


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_capture_by_workers_is_the_serial_store(engine: str, saved: Path, tmp_path: Path) -> None:
    model = ts.open_model(str(saved / "m"))
    store = ts.capture(
        model,
        make_texts(24),
        tmp_path,
        sites=["resid", "mlp.act"],
        batch_tokens=64,
        shard_bytes=9000,
        engine=engine,
        workers=2,
    )
    assert len(store.plan) > 4
    assert contents(store) == contents(ts.open_store(saved / "serial"))
    assert store.verify() == []
    with pytest.raises(TransectError, match="no worker can open it"):
        ts.capture(ts.wrap_model(model.model, model.tokenizer), make_texts(9), tmp_path / "b", workers=2)


def die_while_writing(mark: str, opening: tuple, task: tuple[str, int]) -> int:
    """write_shard; the first worker to come to the third piece of shard 2 is killed there."""
    from transect.store import shards
    from transect.store.capture_shard import write_shard

    put, pieces = shards.ShardWriter.put, []

    def fatal(self: shards.ShardWriter, site: str, row: int, data: memoryview) -> None:
        pieces.append(site)
        if task[1] == 2 and len(pieces) == 3 and not Path(mark).exists():
            Path(mark).write_text("")
            os.kill(os.getpid(), signal.SIGKILL)
        put(self, site, row, data)

    shards.ShardWriter.put = fatal
    try:
        return write_shard(opening, task)
    finally:
        shards.ShardWriter.put = put


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_capture_whose_worker_is_killed_is_the_serial_store(engine: str, saved: Path, tmp_path: Path) -> None:
    from transect.store.capture_shard import opening_of

    shutil.copytree(saved / "serial", tmp_path / "store")
    for file in (tmp_path / "store/shards").iterdir():
        file.unlink()
    cut = ts.open_store(tmp_path / "store")
    fn = partial(die_while_writing, str(tmp_path / "killed"), opening_of(ts.open_model(str(saved / "m"))))
    blocks = [(str(tmp_path / "store"), k) for k in cut.unfinished]
    assert len(dict(run_blocks(fn, blocks, engine=engine, workers=2))) == len(cut.plan) > 4
    assert (tmp_path / "killed").exists()
    assert contents(ts.open_store(tmp_path / "store")) == contents(ts.open_store(saved / "serial"))
    assert ts.open_store(tmp_path / "store").verify() == []


def grown(out: Path) -> ts.Store:
    """Five layers that grow unequally, ten texts of unequal lengths."""
    rng, lengths = np.random.default_rng(0), [5, 9, 7, 12, 6, 8, 11, 5, 7, 10]
    layers = [rng.normal(size=(sum(lengths), 6)).astype(np.float32) * np.arange(1, 7)]
    for k in range(4):
        layers.append((layers[-1] @ rng.normal(size=(6, 6)) / 2 + k).astype(np.float32))
    return planted_store(out, layers, lengths)


@pytest.mark.parametrize("engine", ["local", "ray", "part:1/1"])
def test_a_swept_table_is_the_serial_one(engine: str, tmp_path: Path) -> None:
    store = grown(tmp_path / "store")
    given = {"pairs": "all", "n": 20, "groups": 4, "permutations": 5}
    serial = ts.sweep(["cka", "sinkhorn"], store, workers=1, **given)
    table = ts.sweep(["cka", "sinkhorn"], store, engine=engine, workers=2, out=tmp_path / "out", **given)
    assert list(table) == list(serial)


def test_a_sweep_cut_in_half_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    from transect.inference import evaluate as cells

    room = importlib.import_module(
        "transect.inference.sweep"
    )  # the function has taken the name in the package
    store = grown(tmp_path / "store")
    given = {"pairs": "all", "n": 20, "groups": 4, "permutations": 5}
    serial = ts.sweep("cka", store, workers=1, **given)
    full, stopped = cells.evaluate, []

    def stop(task: tuple) -> list:
        if stopped:
            raise KeyboardInterrupt
        stopped.append(1)
        return full(task)

    monkeypatch.setattr(room, "evaluate", stop)
    with pytest.raises(KeyboardInterrupt):
        ts.sweep("cka", store, workers=1, out=tmp_path / "out", **given)
    monkeypatch.setattr(room, "evaluate", full)
    assert len(list((tmp_path / "out/cells").glob("*.json"))) == 1
    assert list(ts.sweep("cka", store, engine="ray", workers=2, out=tmp_path / "out", **given)) == list(
        serial
    )


def test_a_second_host_that_dies_loses_nothing(tmp_path: Path) -> None:
    """Two Ray nodes, each a raylet of its own; the second is taken down with its workers in the middle of the
    run."""
    code = (
        "import sys, time; sys.path[:0] = sys.argv[2:]\n"
        "from functools import partial; from pathlib import Path\n"
        "from ray.cluster_utils import Cluster\nfrom blocks import slow_square\n"
        "from transect.work.pool import run_blocks\n"
        "head = {'num_cpus': 1, 'include_dashboard': False}\n"
        "cluster = Cluster(initialize_head=True, head_node_args=head)\n"
        "other = cluster.add_node(num_cpus=1)\ncluster.wait_for_nodes()\n"
        "import os, ray\nos.environ['PYTHONPATH'] = os.pathsep.join(sys.path)\n"
        "done, gone = {}, False\n"
        "env = {'env_vars': {'PYTHONPATH': os.pathsep.join(p for p in sys.path if p)}}\n"
        "ray.init(address=cluster.address, runtime_env=env, log_to_driver=False)\n"
        "how = {'engine': 'ray', 'workers': 2, 'retries': 4}\n"
        "for block, told in run_blocks(partial(slow_square, Path(sys.argv[1])), range(16), **how):\n"
        "    done[block] = told\n"
        "    if len(done) == 5 and not gone:\n"
        "        gone = True; cluster.remove_node(other, allow_graceful=False)\n"
        "assert done == {k: k * k for k in range(16)}, done\n"
        "ray.shutdown(); cluster.shutdown()\n"
    )
    with (tmp_path / "log").open("w") as log:  # a file, for Ray's own processes outlive a pipe
        command = [
            sys.executable,
            "-c",
            code,
            str(tmp_path),
            str(Path(__file__).parent),
            str(Path(__file__).parents[1]),
        ]
        env = os.environ | {"RAY_USAGE_STATS_ENABLED": "0"}
        done = subprocess.run(command, stdout=log, stderr=log, timeout=200, env=env)
    assert done.returncode == 0, (tmp_path / "log").read_text()[-3000:]
    assert len({p.read_text() for p in tmp_path.glob("*.node")}) == 2, "both hosts had done some of the work"


def test_threads_of_blas_do_not_decide_how_many_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    from transect.work.pool import cores

    here = len(os.sched_getaffinity(0))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for unset in ("", "0", "many"):
        monkeypatch.setenv("TRANSECT_THREADS", unset)
        assert (threads(), cores()) == (1, here)
    monkeypatch.setenv("TRANSECT_THREADS", "3")
    assert (threads(), cores()) == (3, 3)
