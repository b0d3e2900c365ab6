"""Map a function over blocks: here, on a local pool, on Ray, or as one of many equal processes. One function,
one seam.

At-least-once and unordered. A block is a small picklable value and `fn(block)` a pure function of it, so that
a block may be run again on any worker; large results go to disk inside `fn`, and a receipt comes back.
"""

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from typing import Any

from transect.errors import TransectError

#: Threads a numeric room may start inside one block; a worker of a pool has one.
THREADS = "TRANSECT_THREADS"
#: Seconds without news from the other processes of a shared run after which their blocks are done here.
PATIENCE = "TRANSECT_PATIENCE"
#: What a worker dies of, or raises when its memory is gone: the block is tried again.
LOST = (BrokenProcessPool, MemoryError)


def threads() -> int:
    """How many threads a block may use here: TRANSECT_THREADS, OMP_NUM_THREADS, or the cores this process may
    use."""
    return _first_of(THREADS, "OMP_NUM_THREADS")


def cores() -> int:
    """How many workers start where nobody says: TRANSECT_THREADS, or the cores this process may use. Each has
    one thread."""
    return _first_of(THREADS)


def _first_of(*names: str) -> int:
    """The first of these settings that holds a number above 0, or the cores this process may use."""
    asked = next((v for v in map(os.environ.get, names) if v and v.isdecimal() and int(v)), None)
    return int(asked or _usable())


def _usable() -> int:
    """Cores that this process may use, as far as the platform tells."""
    if hasattr(os, "process_cpu_count"):
        return os.process_cpu_count() or 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_blocks(
    fn: Callable[[Any], Any],
    blocks: Iterable[Any],
    *,
    engine: str = "local",
    workers: int | None = None,
    retries: int = 2,
    gpus_per_worker: int = 0,
    receipt: Callable[[Any], Any] | None = None,
) -> Iterator[tuple[Any, Any]]:
    """Yield (block, receipt) as blocks finish; `receipt` looks up what an earlier run left of a block, None
    for nothing.

    engine: "local"; "ray", "ray@ADDRESS" (a cluster that is there, or "auto"); "part:k/n", the k-th of n
    processes that run the same program on one disk: each does its share, then waits for the receipts of the
    others and does what does not come. workers=1 stays in this process. A block whose worker dies is run
    again up to `retries` times; its exception, if it raises one, is raised here.
    """
    kind, _, where = engine.replace("@", ":", 1).partition(":")
    if kind not in ("local", "ray", "part"):
        raise TransectError(
            f"engine {engine!r} is not available.", "There are local, ray, ray@ADDRESS and part:k/n."
        )
    if gpus_per_worker and kind != "ray":
        raise TransectError(
            f"the engine {kind} does not hand out GPUs.", "Set gpus_per_worker=0, or use engine='ray'."
        )
    todo: list[Any] = []
    for block in blocks:
        answer = receipt(block) if receipt else None
        if answer is None:
            todo.append(block)
        else:
            yield block, answer
    if kind == "part":
        from transect.work.parts import run_part

        yield from run_part(fn, todo, where, workers, retries, receipt)
    elif kind == "ray" and todo:
        from transect.work.ray import run_on_ray

        yield from run_on_ray(fn, todo, where, workers, retries, gpus_per_worker)
    else:
        yield from run_local(fn, todo, workers, retries)


def run_local(
    fn: Callable[[Any], Any], blocks: list[Any], workers: int | None, retries: int
) -> Iterator[tuple[Any, Any]]:
    workers = min(workers or cores(), len(blocks))
    if workers > 1:
        yield from _Pool(fn, workers, retries).run(blocks)
        return
    for block in blocks:
        yield block, fn(block)


_POOLS: dict[int, ProcessPoolExecutor] = {}


def _pool(workers: int) -> ProcessPoolExecutor:
    """The pool of so many workers, kept until this process ends: a study runs many short sweeps."""
    if workers not in _POOLS:
        with _environment():
            _POOLS[workers] = ProcessPoolExecutor(
                workers, mp_context=get_context("spawn"), initializer=_single_thread
            )
            list(
                _POOLS[workers].map(_ready, range(workers))
            )  # all are born while the environment says one thread
    return _POOLS[workers]


def _ready(k: int) -> int:
    return k


class _Pool:
    """At most two blocks per worker in flight; a broken pool is rebuilt and what was in flight is tried
    again."""

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
                    if isinstance(future.exception(), LOST):
                        lost.append((block, tried))
                    else:
                        yield block, future.result()
                if lost:
                    lost += flying.values()
                    flying.clear()
                    _POOLS.pop(self.workers).shutdown(wait=False, cancel_futures=True)
                    waiting += retried(lost, self.retries)
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


def retried(lost: list[tuple[Any, int]], retries: int) -> list[tuple[Any, int]]:
    """What was lost, once more; TransectError when a block has had its tries."""
    if any(tried >= retries for _, tried in lost):
        raise TransectError(
            f"a worker died {retries + 1} times on the same work.",
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
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose run was killed ends too: it would wait for work for ever, with all that it has read."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
