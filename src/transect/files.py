"""Files written whole or not at all, and read with a message when they are not what they should be; and where they lie.

A folder is on a disk, or behind PROTOCOL:// on whatever fsspec reaches (s3, gs, abfs, http, memory …). Remote files are
written whole and read by range. Credentials and endpoints come from the environment, as fsspec's filesystems read them
(AWS_ENDPOINT_URL, FSSPEC_S3_KEY …), never from a manifest.
"""

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from transect.errors import TransectError

#: A pathlib.Path, or a UPath, which offers the same for remote folders.
Place = Any


def place(path: Any) -> Place:
    """The folder or file that a string names; paths pass through."""
    if not isinstance(path, str) or "://" not in path:
        return Path(path) if isinstance(path, str) else path
    try:
        from upath import UPath

        found = UPath(path)
        found.fs  # noqa: B018  a protocol without its package is found out here
    except ImportError as error:
        raise TransectError(
            f"{path}: {error}.", "pip install 'transect[remote]', and the fsspec package of this protocol."
        ) from error
    except ValueError as error:
        raise TransectError(
            f"{path}: {error}.", "Use a protocol that fsspec knows, such as s3://."
        ) from error
    return found


def local(spec: Any) -> Path:
    """A path on this machine, `~` resolved; TransectError for a name that no file can have or that may not be looked at."""
    try:
        path = Path(spec).expanduser()
        path.exists()
    except (OSError, RuntimeError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise TransectError(
            f"{str(spec)!r:.80} cannot be looked up ({why!s:.80}).", "Check the path."
        ) from error
    return path


def is_remote(path: Place) -> bool:
    """Whether a path leads off this machine's disks."""
    return not isinstance(path, Path)


#: Characters that drive a terminal or turn the order of what it shows.
CONTROL = dict.fromkeys(
    (
        *(c for c in range(32) if c not in (9, 10)),
        *range(127, 160),
        0x200E,
        0x200F,
        *range(0x202A, 0x202F),
        *range(0x2066, 0x206A),
    )
)


def plain(text: str) -> str:
    """Text as a terminal may have it: file names, texts and manifests hold what others wrote."""
    return text.translate(CONTROL)


def file_hash(path: Place) -> str:
    """sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Place, what: str) -> Any:
    """The JSON in `path`; TransectError when it is not there or is damaged."""
    try:
        if not path.parent.is_dir():
            raise TransectError(
                f"{path.parent}: no such {what}.", "Capture one with: transect capture MODEL TEXTS --out DIR."
            )
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise TransectError(f"{path.parent}: not a {what} ({path.name} is missing).") from None
    except (OSError, ValueError, RecursionError) as error:
        raise TransectError(
            f"{path}: damaged ({error}).", "Delete it and run the same command again."
        ) from error


def kept_json(folder: Place, key: str) -> Any:
    """What an earlier run left as FOLDER/KEY.json, or None."""
    path = folder / f"{key}.json"
    return read_json(path, "folder of cells") if path.exists() else None


def write_json(path: Place, value: Any) -> None:
    """Write JSON whole or not at all."""
    write_bytes(path, json.dumps(value, indent=1, ensure_ascii=False).encode())


def unwritable(path: Place, error: OSError) -> TransectError:
    """What to say when a file cannot be written: a full disk, a closed folder."""
    return TransectError(
        f"{path} cannot be written ({error.strerror}); what stood there is as it was.",
        "Make room or allow writing, and run the same command again: what was finished is kept.",
    )


def write_bytes(path: Place, data: bytes) -> None:
    """Write a file whole or not at all, and make it durable."""
    if is_remote(path):  # object stores put a whole object or none
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise unwritable(path, error) from error
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


class Ranged:
    """An array [rows, width] inside a remote file, of which only the asked rows travel."""

    #: Rows that are read along rather than asked for anew.
    GAP = 64

    def __init__(self, path: Place, offset: int, dtype: np.dtype, shape: tuple[int, ...]) -> None:
        self.path, self.offset, self.dtype, self.shape = path, offset, dtype, shape

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        if isinstance(rows, slice):
            begin, end, _ = rows.indices(self.shape[0])
            return self._runs([(begin, end)])[0]
        if not len(rows):
            return np.empty((0, self.shape[1]), self.dtype)
        order = np.unique(rows)
        cuts = np.flatnonzero(np.diff(order) > self.GAP) + 1
        runs = [(int(part[0]), int(part[-1]) + 1) for part in np.split(order, cuts)]
        starts = np.array([a for a, _ in runs])
        which = np.searchsorted(starts, rows, side="right") - 1
        out = np.empty((len(rows), self.shape[1]), self.dtype)
        for k, (found, (begin, _)) in enumerate(zip(self._runs(runs), runs, strict=True)):
            out[which == k] = found[rows[which == k] - begin]
        return out

    def _runs(self, runs: list[tuple[int, int]]) -> list[np.ndarray]:
        size = self.shape[1] * self.dtype.itemsize
        begins = [self.offset + a * size for a, _ in runs]
        ends = [self.offset + b * size for _, b in runs]
        parts = self.path.fs.cat_ranges([self.path.path] * len(runs), begins, ends, on_error="raise")
        for part, a, b in zip(parts, begins, ends, strict=True):
            if len(part) != b - a:
                raise TransectError(
                    f"{self.path}: {len(part)} of {b - a} bytes came.", "The file is cut short."
                )
        return [np.frombuffer(p, self.dtype).reshape(-1, self.shape[1]) for p in parts]
