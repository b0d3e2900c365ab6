"""A disk that stops: counts what a writer asks of it, and dies before the call that a test names."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

#: Everything by which our writers change a disk or make it durable.
CALLS = tuple(
    name
    for name in (
        "open",
        "write",
        "pwrite",
        "posix_fallocate",
        "ftruncate",
        "fsync",
        "replace",
        "rename",
        "unlink",
        "mkdir",
        "rmdir",
    )
    if hasattr(os, name)
)

#: Calls to the disk of each writer: a test stops it before every one of them. They stand in docs/faults.md.
STOPS = {
    "a capture": 71,
    "an import": 112,
    "a sweep": 13,
    "a study": 23,
    "a study over an old one": 21,
    "a checkpoint": 25,
    "the state of a training run": 6,
    "the tables of a training run": 14,
}
#: Damages that are tried on what lies on a disk: bits flipped anywhere, and files cut short.
DAMAGES = {
    "a store": 301,
    "a store that is gone on with": 48,
    "a study": 609,
    "the blocks of a sweep": 8,
    "a training run": 286,
    "a finished training run": 372,
}


class Crash(BaseException):
    """The process is gone: nothing that it would still do reaches the disk."""


@contextmanager
def disk(stop: int | None = None) -> Iterator[list[str]]:
    """The calls made inside; before number `stop` a Crash comes, and from then on at every call."""
    made: list[str] = []
    before = {name: getattr(os, name) for name in CALLS}

    def counted(name: str) -> Callable[..., Any]:
        def call(*given: Any, **more: Any) -> Any:
            if stop is not None and len(made) >= stop:
                raise Crash
            made.append(name)
            return before[name](*given, **more)

        return call

    for name in CALLS:
        setattr(os, name, counted(name))
    try:
        yield made
    finally:
        for name, call in before.items():
            setattr(os, name, call)


def crashed_everywhere(write: Callable[[], Any], check: Callable[[int], Any]) -> int:
    """Stop `write` before each of its calls in turn, each time then `check`; how many there were. It makes
    its own place."""
    stop = 0
    while True:
        with disk(stop) as made:
            try:
                write()
            except Crash:
                pass
            else:
                assert len(made) <= stop
                return stop
        check(stop)
        stop += 1


def files(folder: Path) -> dict[str, bytes]:
    """What a folder holds, without locks and what is not whole."""
    found = (p for p in sorted(folder.rglob("*")) if p.is_file() and p.suffix != ".lock")
    return {str(p.relative_to(folder)): p.read_bytes() for p in found if not p.name.endswith(".partial")}


def flips(folder: Path, most: int, seed: int = 0) -> Iterator[tuple[str, int]]:
    """(file, byte): one bit of it is flipped while the caller looks, at `most` places of every file."""
    rng = np.random.default_rng(seed)
    for name, data in files(folder).items():
        if not data:
            continue
        for at in rng.choice(len(data), min(most, len(data)), replace=False).tolist():
            bit = 1 << int(rng.integers(8))
            (folder / name).write_bytes(data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :])
            yield name, at
        (folder / name).write_bytes(data)


def cuts(folder: Path) -> Iterator[tuple[str, int]]:
    """(file, length): every file cut to nothing, to its half, by a byte."""
    for name, data in files(folder).items():
        for length in {0, len(data) // 2, max(0, len(data) - 1)}:
            (folder / name).write_bytes(data[:length])
            yield name, length
        (folder / name).write_bytes(data)
