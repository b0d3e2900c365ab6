"""Jobs of the page: one worker process, one queue, events that stay to be read again after a reload.

Two prompts never run at once: they wait in line. A job that does not heed its cancellation is ended with its
process, and the next one gets a fresh process.
"""

import asyncio
import contextlib
import itertools
import multiprocessing
import queue
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transect.errors import TransectError
from transect.page import worker

KEPT = 24
#: Seconds that a cancelled job has to stop by itself.
GRACE = 3.0
ENDS = {"done", "failed", "cancelled"}


@dataclass
class Job:
    """One piece of work: what was asked, what came so far."""

    id: str
    kind: str
    arguments: dict[str, Any]
    events: list[dict[str, Any]] = field(default_factory=list)
    cancelled: float | None = None
    listeners: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = field(default_factory=list)

    @property
    def state(self) -> str:
        """queued, running, done, failed or cancelled."""
        last = self.events[-1]["type"] if self.events else "queued"
        return last if last in ENDS or last == "queued" else "running"

    def card(self) -> dict[str, Any]:
        """What the page lists."""
        shown = {
            k: v for k, v in self.arguments.items() if k in ("prompt", "site", "neuron", "text", "token")
        }
        return {"id": self.id, "kind": self.kind, "state": self.state, "asked": shown}


class Jobs:
    """The line of jobs and the process that works through it. `folder` holds the activations of live runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._jobs: dict[str, Job] = {}
        self._line: queue.Queue[Job | None] = queue.Queue()
        self._count = itertools.count(1)
        self._process: Any = None
        self._pipe: Any = None
        self._thread = threading.Thread(target=self._work, daemon=True, name="jobs")
        self._thread.start()

    def submit(self, kind: str, arguments: dict[str, Any]) -> Job:
        """Put a job in line."""
        job = Job(f"job-{next(self._count)}", kind, arguments)
        self._forget()
        self._jobs[job.id] = job
        self._tell(job, {"type": "queued"})
        self._line.put(job)
        return job

    def find(self, key: str) -> Job:
        """A job by its id."""
        if key not in self._jobs:
            raise TransectError(
                f"no job {key!r}.", "The server was started anew, or the job is long past: run it again."
            )
        return self._jobs[key]

    def all(self) -> list[Job]:
        """Every job that is kept, oldest first."""
        return list(self._jobs.values())

    def cancel(self, key: str) -> Job:
        """Ask a job to stop; one that waits never starts."""
        job = self.find(key)
        if job.state not in ENDS and job.cancelled is None:
            job.cancelled = time.monotonic()
        return job

    def values(self, key: str, step: int) -> bytes:
        """Activations of one token of a live run: float32, sites in the order of its `started` event."""
        job = self.find(key)
        started = next((e for e in job.events if e["type"] == "started"), None)
        known = sum(e["type"] == "token" for e in job.events)
        if started is None or not 0 <= step < known:
            raise TransectError(f"{key}: token {step} of {known} is not there.")
        size = 4 * started["width"]
        with (self.folder / f"{key}.f32").open("rb") as file:
            file.seek(step * size)
            return file.read(size)

    def file(self, key: str) -> Path:
        """What a finished cloud has written."""
        job = self.find(key)
        if job.kind != "cloud" or job.state != "done":
            raise TransectError(f"{key} has no file.", "Ask for the points again.")
        return self.folder / f"{key}.f32"

    async def follow(self, job: Job, start: int = 0) -> AsyncIterator[tuple[int, dict[str, Any]]]:
        """Events from number `start` on, as they come, until the job has ended."""
        listener = (asyncio.get_running_loop(), asyncio.Event())
        job.listeners.append(listener)
        try:
            while True:
                listener[1].clear()
                for k in range(start, len(job.events)):
                    yield k, job.events[k]
                    start = k + 1
                if job.state in ENDS and start >= len(job.events):
                    return
                await listener[1].wait()
        finally:
            job.listeners.remove(listener)

    def close(self) -> None:
        """End the worker."""
        self._line.put(None)
        for job in self.all():
            if job.state not in ENDS:
                self._tell(
                    job, {"type": "failed", "message": "the server was stopped.", "fix": "Start it again."}
                )
        self._end_process()

    def _work(self) -> None:
        while (job := self._line.get()) is not None:
            if job.cancelled is not None:
                self._tell(job, {"type": "cancelled"})
            elif job.state not in ENDS:
                self._run(job)

    def _run(self, job: Job) -> None:
        """Send a job to the process and pass on what it says, until it has ended one way or another."""
        pipe, asked = None, False
        while job.state not in ENDS:
            try:
                if pipe is None:
                    pipe = self._ready_pipe()
                    pipe.send((job.id, job.kind, job.arguments))
                if job.cancelled is not None and not asked:
                    asked = True
                    pipe.send(("cancel", job.id, {}))
                if pipe.poll(0.1):
                    key, event = pipe.recv()
                    if key == job.id:
                        self._tell(job, event)
            except (EOFError, OSError):
                self._process = None
                reason = "the worker process ended (out of memory?)."
                self._tell(
                    job,
                    {"type": "failed", "message": reason, "fix": "Try a shorter prompt or a smaller model."},
                )
                return
            if asked and time.monotonic() - (job.cancelled or 0) > GRACE:
                self._end_process()
                self._tell(job, {"type": "cancelled"})

    def _ready_pipe(self) -> Any:
        if self._process is None or not self._process.is_alive():
            context = multiprocessing.get_context("spawn")
            self._pipe, theirs = context.Pipe()
            self._process = context.Process(target=worker.main, args=(theirs, str(self.folder)), daemon=True)
            self._process.start()
            theirs.close()
        return self._pipe

    def _end_process(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.is_alive():
            process.terminate()
            process.join(2)
            if process.is_alive():
                process.kill()

    def _tell(self, job: Job, event: dict[str, Any]) -> None:
        if job.state in ENDS:
            return
        job.events.append(event)
        for loop, listener in list(job.listeners):
            with contextlib.suppress(RuntimeError):  # a loop that has closed listens no more
                loop.call_soon_threadsafe(listener.set)

    def _forget(self) -> None:
        """Drop the oldest finished jobs and their files."""
        ended = [j for j in self._jobs.values() if j.state in ENDS]
        for job in ended[: max(0, len(self._jobs) - KEPT + 1)]:
            del self._jobs[job.id]
            (self.folder / f"{job.id}.f32").unlink(missing_ok=True)
