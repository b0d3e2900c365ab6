"""Map a function over blocks: in this process, or on a local pool that outlives a killed worker. One function, one seam.

At-least-once and unordered. A block is a small picklable value and `fn(block)` a pure function of it, so that a block may
be run again on any worker; large results go to disk inside `fn`, and a receipt comes back.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any

from transect.errors import TransectError

#: Threads a numeric room may start inside one block; a worker of a pool has one.
THREADS = "TRANSECT_THREADS"


def threads() -> int:
    """How many threads a block may use here: TRANSECT_THREADS, OMP_NUM_THREADS, or the cores this process may use."""
    asked = next((v for v in map(os.environ.get, (THREADS, "OMP_NUM_THREADS")) if v and v.isdigit() and int(v)), None)
    return int(asked or len(os.sched_getaffinity(0)))


def run_blocks(
    fn: Callable[[Any], Any],
    blocks: Iterable[Any],
    *,
    engine: str = "local",
    workers: int | None = None,
    retries: int = 2,
    gpus_per_worker: int = 0,
) -> Iterator[tuple[Any, Any]]:
    """Yield (block, receipt) as blocks finish. workers=1 stays in this process. A block whose worker dies is run again
    up to `retries` times; its exception, if it raises one, is raised here."""
    if engine != "local":
        raise TransectError(f"engine {engine!r} is not available.", "Use engine='local'.")
    if gpus_per_worker:
        raise TransectError("the local engine does not hand out GPUs.", "Set gpus_per_worker=0.")
    blocks = list(blocks)
    workers = min(workers or threads(), len(blocks))
    if workers <= 1:
        for block in blocks:
            yield block, fn(block)
        return
    yield from _Pool(fn, workers, retries).run(blocks)


_POOLS: dict[int, ProcessPoolExecutor] = {}


def _pool(workers: int) -> ProcessPoolExecutor:
    """The pool of so many workers, kept until this process ends: a study runs many short sweeps."""
    if workers not in _POOLS:
        with _environment():
            _POOLS[workers] = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_single_thread)
            list(_POOLS[workers].map(_ready, range(workers)))  # all are born while the environment says one thread
    return _POOLS[workers]


def _ready(k: int) -> int:
    return k


class _Pool:
    """At most two blocks per worker in flight; a broken pool is rebuilt and what was in flight is tried again."""

    def __init__(self, fn: Callable[[Any], Any], workers: int, retries: int) -> None:
        self.fn, self.workers, self.retries = fn, workers, retries

    def run(self, blocks: list[Any]) -> Iterator[tuple[Any, Any]]:
        waiting = [(block, 0) for block in reversed(blocks)]
        flying: dict[Future[Any], tuple[Any, int]] = {}
        try:
            while waiting or flying:
                lost = self._submit(waiting, flying)
                done, _ = wait(flying, return_when=FIRST_COMPLETED)
                for future in done:
                    block, tried = flying.pop(future)
                    if isinstance(future.exception(), BrokenProcessPool):
                        lost.append((block, tried))
                    else:
                        yield block, future.result()
                if lost:
                    lost += flying.values()
                    flying.clear()
                    _POOLS.pop(self.workers).shutdown(wait=False, cancel_futures=True)
                    waiting += self._again(lost)
        finally:
            for future in flying:
                future.cancel()

    def _submit(self, waiting: list, flying: dict) -> list[tuple[Any, int]]:
        """Fill the pool; what a pool that has just broken does not take is lost for now."""
        while waiting and len(flying) < 2 * self.workers:
            block, tried = waiting.pop()
            try:
                flying[_pool(self.workers).submit(self.fn, block)] = (block, tried)
            except BrokenProcessPool:
                return [(block, tried)]
        return []

    def _again(self, lost: list[tuple[Any, int]]) -> list[tuple[Any, int]]:
        if any(tried >= self.retries for _, tried in lost):
            raise TransectError(
                f"a worker died {self.retries + 1} times on the same work.",
                "It may lack memory: lower --workers or --n.",
            )
        return [(block, tried + 1) for block, tried in lost]


class _environment:
    """Workers are born with one thread each; this process keeps its own setting."""

    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", THREADS)

    def __enter__(self) -> None:
        self.before = {name: os.environ.get(name) for name in self.names}
        os.environ.update(dict.fromkeys(self.names, "1"))

    def __exit__(self, *_: object) -> None:
        for name, value in self.before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _single_thread() -> None:
    os.environ[THREADS] = "1"
