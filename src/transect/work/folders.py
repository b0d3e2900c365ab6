"""Folders that several processes write: their kind, who may write in one now, what the dead left behind.

The scope of a lock is that of what it guards: the beginning of a store, one shard.
"""

import contextlib
import glob
import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from transect.errors import TransectError
from transect.files import (
    PARTIAL,
    Place,
    discard,
    file_hash,
    is_remote,
    make_folder,
    unwritable,
    write_bytes,
    writing,
)

#: What folders hold, by the file that tells it.
KINDS = {"manifest.json": "store", "study.json": "study", "recipe.json": "run"}


#: What to do about a folder that holds something else.
ELSEWHERE = "Choose another folder (--out), or replace it (--overwrite)."


def check_kind(folder: Place, kind: str) -> None:
    """TransectError when a folder holds a store, study or run, and is to hold another `kind`."""
    for file, other in KINDS.items():
        if other != kind and (folder / file).is_file():
            raise TransectError(f"{folder} holds a {other}; a {kind} is not written over it.", ELSEWHERE)


@contextlib.contextmanager
def replacing(out: Place, overwrite: bool, needed: Iterable[Any] = ()) -> Iterator[None]:
    """The store, study or run that `out` holds is set aside while a new one is made there, then deleted.

    A TransectError on the way puts it back; after a kill it stays whole beside `out`, as OUT.replaced.

    Args:
        overwrite: False: nothing is done here.
        needed: What the new one is made from: none of it may lie in `out`.

    Raises: TransectError, and nothing was changed.
    """
    if not overwrite or not (out.is_dir() and any(out.iterdir())):
        yield
        return
    if is_remote(out):
        raise TransectError(f"{out} is not on this machine's disks.", "Delete it there, then go on.")
    out = out.resolve()
    aside = _may_replace(out, needed)
    with writing(out):
        out.rename(aside)
    try:
        yield
    except TransectError:
        with writing(out):
            shutil.rmtree(out, ignore_errors=True)
            aside.rename(out)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _may_replace(out: Place, needed: Iterable[Any]) -> Path:
    """Where what `out` holds is set aside; TransectError when it must stay."""
    aside = out.with_name(f"{out.name}.replaced")
    if not any((out / file).is_file() for file in KINDS):
        raise TransectError(f"{out} holds no store, study or run.", "Choose another folder (--out).")
    if Path.cwd().is_relative_to(out):
        raise TransectError(f"{out} is where this was started.", "Start it elsewhere.")
    if aside.exists():
        raise TransectError(
            f"{aside} is there: what an earlier --overwrite set aside.", "Delete it, or move it back."
        )
    for name in (part for n in needed if isinstance(n, str | Path) for part in _names(str(n))):
        with contextlib.suppress(OSError, ValueError, RuntimeError):  # what is no path lies nowhere
            path = Path(name).expanduser()
            if path.exists() and path.resolve().is_relative_to(out):
                raise TransectError(f"{path} is needed, and lies in {out}.", "Choose another folder (--out).")
    return aside


def _names(spec: str) -> list[str]:
    """What in a spec such as random:FOLDER, BASE+ADAPTER or A,B may be a path."""
    return [part for part in (spec, spec.partition(":")[2], *re.split(r"[+,]", spec)) if part]


def clear_partials(folder: Path, name: str = "") -> None:
    """Remove what processes of this machine that have ended left half-written: partials of `name`, or all."""
    import psutil

    with contextlib.suppress(OSError):  # what cannot be removed harms nothing
        for path in folder.glob(f".{glob.escape(name[:40])}*.partial"):
            if (match := PARTIAL.search(path.name)) and not psutil.pid_exists(int(match[1])):
                discard(path)


@contextlib.contextmanager
def locked(path: Place, busy: str, wait: float = 0.0) -> Iterator[None]:
    """One writer at a time of what the lock file `path` stands for; a lock ends with its process.

    Object stores and disks without locks have none: two writers put equal files there, each whole.

    Args:
        busy: What to say when another process has it.
        wait: Seconds to wait for it.

    Raises: TransectError.
    """
    if is_remote(path):
        yield
        return
    import filelock

    lock = filelock.FileLock(path, timeout=wait)
    try:
        with writing(path):
            make_folder(path.parent)
        lock.acquire()
    except filelock.Timeout:
        raise TransectError(busy, "Wait for it, or share the work with --shard k/n.") from None
    except OSError as error:
        raise unwritable(path, error) from error
    except NotImplementedError:  # this disk has no locks
        pass
    try:
        yield
    finally:
        lock.release()


def sync_file(path: Path) -> None:
    """Make what another library wrote durable."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


SUMS = "SHA256SUMS"


def write_sums(folder: Path, files: Iterable[Path]) -> None:
    """FOLDER/SHA256SUMS over some files below it, as sha256sum checks them; its first line is its own
    hash."""
    with writing(folder):
        lines = [f"{file_hash(file)}  {file.relative_to(folder).as_posix()}\n" for file in sorted(files)]
    text = "".join(lines).encode()
    write_bytes(folder / SUMS, b"# " + hashlib.sha256(text).hexdigest().encode() + b"\n" + text)


def check_sums(folder: Path) -> list[str]:
    """Files that are not what FOLDER/SHA256SUMS says: [] when all are."""
    head, _, text = (folder / SUMS).read_bytes().partition(b"\n")
    if head != b"# " + hashlib.sha256(text).hexdigest().encode():
        return [f"{folder / SUMS}: not as it was written"]
    problems = []
    for line in text.decode().splitlines():
        wanted, _, name = line.partition("  ")
        file = folder / name
        try:
            if not name or not file.resolve().is_relative_to(folder.resolve()) or file_hash(file) != wanted:
                problems.append(f"{file}: not as it was written")
        except (OSError, ValueError) as error:
            problems.append(f"{file}: {error}")
    return problems
