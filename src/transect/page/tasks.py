"""Commands that the page has started: a line of child processes, each kept in a folder, so that a reload, a
closed tab or a killed server loses nothing.

A task is the command a reader could type: `python -m transect …` in the app's folder. Its state, output and
progress are files of FOLDER/.transect/tasks/ID. What was running when the server ended can be resumed: the
same command again, which goes on where it stopped.
"""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from transect.errors import TransectError, plain
from transect.files import read_json, write_json

#: Where a command writes its progress when this names a file (see cli/shared.py).
PROGRESS = "TRANSECT_PROGRESS"
#: What keeps a command from fetching models, texts and packages.
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSECT_OFFLINE")
#: Seconds that a cancelled command has to end by itself, and then once more.
GRACE = 5.0
ENDS = ("done", "failed", "cancelled", "interrupted")
#: Tasks that are listed; lines of output that are shown.
KEPT, TAIL = 60, 40


@dataclass
class Task:
    """One command: what it does, where it writes, how far it is."""

    id: str
    title: str
    arguments: list[str]
    out: str
    after: str = ""
    state: str = "queued"
    created: float = field(default_factory=time.time)
    started: float | None = None
    ended: float | None = None
    seconds: float | None = None
    message: str = ""


class Tasks:
    """The line of commands of one folder; one runs at a time."""

    def __init__(self, root: Path) -> None:
        self.root, self.folder = root, root / ".transect" / "tasks"
        self._tasks: dict[str, Task] = {}
        self._wake, self._lock = threading.Condition(), FileLock(self.root / ".transect" / "tasks.lock")
        self._process: subprocess.Popen[bytes] | None = None
        self._asked: set[str] = set()
        self._closed = False
        self._thread: threading.Thread | None = None
        self._load()

    def submit(
        self, title: str, arguments: list[str], out: str, *, after: str = "", seconds: float | None = None
    ) -> Task:
        """Put a command in line; `after` names the task that it needs. TransectError where none can run."""
        self._lock_folder()
        with self._wake:
            number = 1 + max((int(key.partition("-")[2]) for key in self._tasks), default=0)
            task = Task(f"task-{number}", title, arguments, out, after, seconds=seconds)
            self._keep(task)
            self._tasks[task.id] = task
            self._wake.notify_all()
        return task

    def find(self, key: str) -> Task:
        """A task by its id."""
        if key not in self._tasks:
            raise TransectError(f"no task {key!r} here.", "Reload the page.")
        return self._tasks[key]

    def cancel(self, key: str) -> Task:
        """Stop a command, or take one that waits or is past out of the list of those to do."""
        task = self.find(key)
        with self._wake:
            if task.state == "queued":
                self._end(task, "cancelled")
            elif task.state == "running":
                self._asked.add(key)
            self._wake.notify_all()
        return task

    def resume(self, key: str) -> Task:
        """The same command again: what was finished is kept."""
        task = self.find(key)
        self._lock_folder()
        with self._wake:
            if task.state in ENDS and task.state != "done":
                task.state, task.message, task.ended = "queued", "", None
                self._keep(task)
                self._wake.notify_all()
        return task

    def forget(self, key: str) -> None:
        """Drop an ended task from the list; what it wrote stays."""
        import shutil

        task = self.find(key)
        with self._wake:
            if task.state in ENDS:
                del self._tasks[key]
                shutil.rmtree(self.folder / key, ignore_errors=True)

    def took(self, words: list[str]) -> float | None:
        """Seconds that the last finished command of these words took."""
        done = [t for t in self._tasks.values() if t.state == "done" and t.arguments[: len(words)] == words]
        last = max(done, key=lambda t: t.ended or 0, default=None)
        return round((last.ended or 0) - (last.started or 0), 1) if last else None

    def cards(self) -> list[dict[str, Any]]:
        """Every task as the page lists it, newest first."""
        with self._wake:
            tasks = sorted(self._tasks.values(), key=lambda t: -t.created)[:KEPT]
        return [self._card(t) for t in tasks]

    def close(self) -> None:
        """End what runs, as Ctrl-C would; it can be resumed."""
        with self._wake:
            self._closed = True
            self._wake.notify_all()
        if self._thread is not None:
            self._thread.join(3 * GRACE)
        self._lock.release()

    # keeping

    def _lock_folder(self) -> None:
        """Make the folder and this server the only one that works in it."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise TransectError(
                f"another app starts commands in {self.root}.", "Start them there, or stop that app."
            ) from error
        except OSError as error:
            raise TransectError(
                f"{self.root} cannot be written ({error.strerror}).", "Open a folder of your own."
            ) from error
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, daemon=True, name="tasks")
            self._thread.start()

    def _load(self) -> None:
        for file in sorted(self.folder.glob("task-*/task.json")) if self.folder.is_dir() else ():
            with contextlib.suppress(TransectError, TypeError, ValueError):
                record = read_json(file, "task")
                task = Task(**record)
                int(task.id.partition("-")[2])
                if task.state in ("running", "queued"):
                    task.state, task.message = "interrupted", "the app ended before this was done."
                self._tasks[task.id] = task

    def _keep(self, task: Task) -> None:
        (self.folder / task.id).mkdir(parents=True, exist_ok=True)
        write_json(self.folder / task.id / "task.json", asdict(task))

    def _card(self, task: Task) -> dict[str, Any]:
        place = self.folder / task.id
        progress: dict[str, Any] = {}
        if task.state == "running":
            with contextlib.suppress(TransectError):
                progress = read_json(place / "progress.json", "progress")
        lines: list[str] = []
        with contextlib.suppress(OSError):
            lines = (place / "output.txt").read_text("utf-8", "replace").splitlines()[-TAIL:]
        return asdict(task) | {
            "progress": progress,
            "output": [plain(line) for line in lines],
            "command": shell(task.arguments),
            "now": time.time(),
        }

    # working

    def _work(self) -> None:
        while True:
            with self._wake:
                while not self._closed and not (task := self._next()):
                    self._wake.wait()
                if self._closed:
                    return
                assert task is not None
                task.state, task.started = "running", time.time()
                self._keep(task)
            try:
                self._run(task)
            except OSError as error:
                with self._wake:
                    self._end(task, "failed", f"it could not be started ({error}).")

    def _next(self) -> Task | None:
        for task in sorted(self._tasks.values(), key=lambda t: t.created):
            if task.state != "queued":
                continue
            before = self._tasks.get(task.after)
            if before is None or before.state == "done":
                return task
            if before.state in ENDS:
                self._end(task, "failed", f"it needs {before.title}, which is {before.state}.")
        return None

    def _run(self, task: Task) -> None:
        place = self.folder / task.id
        (place / "progress.json").unlink(missing_ok=True)
        offline = dict.fromkeys(OFFLINE, "1")
        with (place / "output.txt").open("wb") as output:
            self._process = process = subprocess.Popen(
                [sys.executable, "-m", "transect", *task.arguments],
                cwd=self.root,
                env=os.environ | offline | {PROGRESS: str(place / "progress.json")},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._wait(process, task)
        self._process = None
        with self._wake:
            stopped = "cancelled" if task.id in self._asked else "interrupted" if self._closed else ""
            self._asked.discard(task.id)
            state = "done" if process.returncode == 0 else stopped or "failed"
            self._end(task, state, "" if state != "failed" else f"exit {process.returncode}")

    def _wait(self, process: "subprocess.Popen[bytes]", task: Task) -> None:
        """Until the command ends; once it is asked to stop, ever more firmly."""
        since, firm = None, 0
        while process.poll() is None:
            if task.id in self._asked or self._closed:
                since = since or time.monotonic()
                if time.monotonic() - since >= firm * GRACE and firm < 3:
                    _signal(process, (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGKILL", 15))[firm])
                    firm += 1
            with self._wake:
                self._wake.wait(0.2)

    def _end(self, task: Task, state: str, message: str = "") -> None:
        task.state, task.message, task.ended = state, message, time.time()
        with contextlib.suppress(TransectError):
            self._keep(task)


def _signal(process: "subprocess.Popen[bytes]", number: int) -> None:
    """A signal to a command and the processes it started."""
    with contextlib.suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, number)
        else:
            process.terminate()


def shell(arguments: list[str]) -> str:
    """The command as it is typed."""
    return shlex.join(["transect", *arguments])
