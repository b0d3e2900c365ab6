"""Blocks of work for the tests of engines. Worker processes import this module alone, and with it neither
torch nor transformers."""

import os
import resource
import signal
import time
from pathlib import Path

from transect.errors import TransectError
from transect.work.pool import threads


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


def run_dry_once(folder: Path, block: int) -> int:
    """Block 2 asks, the first time, for more memory than its process may have."""
    mark = folder / f"dry-{block}"
    if block == 2 and not mark.exists():
        mark.write_text("")
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (2 << 40, hard))
        try:
            bytearray(3 << 40)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    return block * block


def complain(block: int) -> int:
    raise TransectError(f"block {block} is wrong.", "Change it.")


def own_threads(block: int) -> int:
    return threads()


def write_receipt(folder: Path, block: int) -> int:
    (folder / f"{block}.partial").write_text(str(block * block))
    (folder / f"{block}.partial").rename(folder / f"{block}.done")
    with (folder / "log").open("a") as log:
        log.write(f"{block}\n")
    return block * block


def read_receipt(folder: Path, block: int) -> int | None:
    path = folder / f"{block}.done"
    return int(path.read_text()) if path.exists() else None


def slow_square(folder: Path, block: int) -> int:
    """Says on which host it was; the first blocks wait until both hosts have one."""
    import ray

    (folder / f"{block}.node").write_text(ray.get_runtime_context().get_node_id())
    end = time.monotonic() + 60
    while len({p.read_text() for p in folder.glob("*.node")}) < 2 and time.monotonic() < end:
        time.sleep(0.05)
    return block * block


def marked(folder: str, block: int) -> int:
    """Leaves a file with the number of the process, and takes half a second."""
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(0.5)
    return block
