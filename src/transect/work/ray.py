"""Blocks on Ray: actors that keep what they opened (a model, a store) between blocks, one GPU each where
asked for.

An actor that dies, by itself or with its host, is replaced and its blocks are run again. Nothing but blocks
and receipts travels: stores, tables and models are read and written by the actors, on a disk or object store
that all of them reach.
"""

import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

from transect.errors import TransectError
from transect.work.pool import THREADS, cores, retried

#: Seconds that a call for the first actor may take before the cluster is called full.
START = 120


class Worker:
    """What an actor is: a process with one thread that runs blocks."""

    def __init__(self) -> None:
        os.environ[THREADS] = os.environ["OMP_NUM_THREADS"] = "1"

    def ready(self) -> int:
        """The process id, once it is there."""
        return os.getpid()

    def run(self, fn: Callable[[Any], Any], block: Any) -> Any:
        """fn(block)."""
        return fn(block)


def run_on_ray(
    fn: Callable[[Any], Any], blocks: list[Any], address: str, workers: int | None, retries: int, gpus: int
) -> Iterator[tuple[Any, Any]]:
    """Yield (block, receipt) in whatever order; at most two blocks per actor are under way."""
    ray = _ray(address, workers)
    gone = (ray.exceptions.RayActorError, ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError)
    crew = _crew(ray, min(workers or _room(ray, gpus), len(blocks)), gpus)
    waiting = [(block, 0) for block in reversed(blocks)]
    flying: dict[Any, tuple[Any, Any, int]] = {}
    try:
        while waiting or flying:
            for actor in crew.free(flying):
                if waiting:
                    block, tried = waiting.pop()
                    flying[actor.run.remote(fn, block)] = (actor, block, tried)
            for call in crew.wait(flying):
                actor, block, tried = flying.pop(call)
                try:
                    answer = ray.get(call)
                except gone:
                    crew.replace(actor)
                    waiting += retried([(block, tried)], retries)
                except ray.exceptions.RayTaskError as error:
                    if not isinstance(error.cause, MemoryError):
                        raise error.cause from None
                    waiting += retried([(block, tried)], retries)
                else:
                    yield block, answer
    finally:
        for call in flying:
            ray.cancel(call, force=False)


def _ray(address: str, workers: int | None) -> Any:
    """Ray, joined to the cluster at `address`, or to one of this machine's cores that lives as long as this
    process."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError:
        raise TransectError(
            "Ray is not installed.", "pip install 'transect[ray]', or use --engine local."
        ) from None
    if ray.is_initialized():
        return ray
    settings: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    if not address:
        paths = os.pathsep.join(p for p in sys.path if p)
        settings |= {"num_cpus": max(workers or 1, cores()), "include_dashboard": False}
        settings |= {"runtime_env": {"env_vars": {"PYTHONPATH": paths}}}
    try:
        ray.init(address=address or "local", **settings)
    except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        fix = "Start one with: ray start --head; set RAY_AUTH_MODE=token where it asks for a token."
        raise TransectError(f"no Ray cluster at {address!r} ({error}).", fix) from error
    return ray


def _room(ray: Any, gpus: int) -> int:
    has = ray.cluster_resources()
    return max(1, int(min([has.get("CPU", 1)] + ([has.get("GPU", 0) // gpus] if gpus else []))))


_CREWS: dict[int, "_Crew"] = {}


def _crew(ray: Any, size: int, gpus: int) -> "_Crew":
    """The actors of this process, kept until it ends: a study runs many short sweeps."""
    if gpus and ray.cluster_resources().get("GPU", 0) < gpus:
        has = ray.cluster_resources().get("GPU", 0)
        raise TransectError(
            f"each worker asks for {gpus} GPUs; the cluster has {has:.0f}.", "Lower gpus_per_worker."
        )
    crew = _CREWS.setdefault(gpus, _Crew(ray, gpus))
    crew.grow(size)
    return crew


class _Crew:
    """Actors of one kind; what they opened is theirs as long as they live. Only those that are there are
    given work: one that replaces a dead one may have to wait for a place, and the others go on."""

    def __init__(self, ray: Any, gpus: int) -> None:
        self.ray, self.kind = ray, ray.remote(num_cpus=1, num_gpus=gpus, max_concurrency=1)(Worker)
        self.actors: list[Any] = []
        self.coming: dict[Any, Any] = {}  # call for `ready` → actor
        self.size = 0

    def grow(self, size: int) -> None:
        """At least `size` actors, of which a run uses so many."""
        self.size = size
        for _ in range(size - len(self.actors) - len(self.coming)):
            self._start()

    def _start(self) -> None:
        actor = self.kind.remote()
        self.coming[actor.ready.remote()] = actor

    def free(self, flying: dict[Any, tuple[Any, Any, int]]) -> list[Any]:
        """Actors that may take a block, the idlest first; an actor may have two."""
        actors = self.actors[: self.size]
        load = [sum(actor is busy for busy, _, _ in flying.values()) for actor in actors]
        order = sorted(range(len(load)), key=load.__getitem__)
        return [actors[k] for calls in (0, 1) for k in order if load[k] <= calls]

    def wait(self, flying: dict[Any, tuple[Any, Any, int]]) -> list[Any]:
        """Calls that have ended; actors that have come meanwhile are taken in."""
        done, _ = self.ray.wait([*flying, *self.coming], num_returns=1, timeout=None if flying else START)
        if not done:
            raise TransectError(
                f"no worker came in {START} seconds.", "The cluster is full: wait, or ask for less."
            )
        for call in [c for c in done if c in self.coming]:
            actor = self.coming.pop(call)
            try:
                self.ray.get(call)
                self.actors.append(actor)
            except self.ray.exceptions.RayActorError:
                self._start()
        return [c for c in done if c in flying]

    def replace(self, actor: Any) -> None:
        """A new actor in the place of one that died."""
        if any(known is actor for known in self.actors):
            self.actors = [known for known in self.actors if known is not actor]
            self._start()
