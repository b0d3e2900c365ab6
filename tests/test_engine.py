"""The local engine: every block once in the end, in whatever order, also when workers are killed."""

import os
import signal
from functools import partial
from pathlib import Path

import pytest

from transect.engine import THREADS, run_blocks, threads
from transect.errors import TransectError


def square(block: int) -> int:
    return block * block


def die_once(folder: Path, block: int) -> int:
    mark = folder / str(block)
    if block % 3 == 0 and not mark.exists():
        mark.write_text("")
        os.kill(os.getpid(), signal.SIGKILL)
    return block * block


def die_always(block: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return block


def complain(block: int) -> int:
    raise TransectError(f"block {block} is wrong.", "Change it.")


def own_threads(block: int) -> int:
    return threads()


@pytest.mark.parametrize("workers", [1, 2])
def test_all_blocks_come_back(workers: int) -> None:
    assert dict(run_blocks(square, range(17), workers=workers)) == {k: k * k for k in range(17)}


def test_a_killed_worker_loses_nothing(tmp_path: Path) -> None:
    assert dict(run_blocks(partial(die_once, tmp_path), range(7), workers=2, retries=6)) == {k: k * k for k in range(7)}


def test_a_block_that_always_kills_ends_with_a_message() -> None:
    with pytest.raises(TransectError, match="a worker died 2 times"):
        dict(run_blocks(die_always, range(2), workers=2, retries=1))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_users_error_arrives_whole(workers: int) -> None:
    with pytest.raises(TransectError) as caught:
        dict(run_blocks(complain, range(2), workers=workers))
    assert caught.value.fix == "Change it."


def test_workers_have_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(THREADS, raising=False)
    assert set(dict(run_blocks(own_threads, range(4), workers=2)).values()) == {1}
    assert THREADS not in os.environ


def test_unknown_engine() -> None:
    with pytest.raises(TransectError, match="engine 'slurm'"):
        dict(run_blocks(square, range(2), engine="slurm"))
