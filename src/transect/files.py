"""Files written whole or not at all, and read with a message when they are damaged; and where they lie.

Every writer keeps one protocol: a partial file under a name of its own, synced, renamed, its folder synced.
Every JSON object carries the checksum of the rest of it, and JSON is strict both ways. A folder is on a disk,
or behind PROTOCOL:// on whatever fsspec reaches (s3, gs, abfs, http, memory …): written whole, read by range,
with credentials and endpoints from the environment (AWS_ENDPOINT_URL, FSSPEC_S3_KEY …), never from a
manifest.
"""

import contextlib
import errno
import hashlib
import json
import math
import os
import platform
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transect.errors import TransectError, near_path

#: A pathlib.Path, or a UPath, which offers the same for remote folders.
Place = Any


def place(path: Any) -> Place:
    """The folder or file of that name; paths elsewhere pass through. Raises: TransectError for neither."""
    if not isinstance(path, str) and not hasattr(path, "exists"):
        raise TransectError(f"{path!r:.80} is no path.", "Give a string or a pathlib.Path.")
    if not isinstance(path, str) or "://" not in path:
        return local(path) if isinstance(path, str | Path) else path
    try:
        from upath import UPath

        location = UPath(path)
        with reaching(location):
            location.fs  # noqa: B018  a protocol without its package, or a server, is found out here
    except ImportError as error:
        raise TransectError(
            f"{path}: {error}.", "pip install 'transect[remote]', and the fsspec package of this protocol."
        ) from error
    except ValueError as error:
        raise TransectError(
            f"{path}: {error}.", "Use a protocol that fsspec knows, such as s3://."
        ) from error
    return location


def local(spec: Any) -> Path:
    """A path on this machine, `~` resolved. Raises: TransectError for a name that no file can have."""
    if not isinstance(spec, str | os.PathLike):
        raise TransectError(f"{spec!r:.80} is no path.", "Give a string or a pathlib.Path.")
    try:
        if not str(spec) or "\0" in str(spec):
            raise ValueError("it is empty" if not str(spec) else "it holds a null byte")
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


def folder_name(name: str) -> str:
    """A run's name as that of a folder or file: what is no letter, digit, dot or dash becomes `_`."""
    return re.sub(r"[^\w.-]+", "_", name)


def plain_name(name: Any, what: str) -> str:
    """`name`, if it can be a file's name and leads nowhere else. Raises: TransectError."""
    bad = not isinstance(name, str) or not name.strip(". ") or len(name.encode(errors="replace")) > 200
    if bad or re.search(r"[/\\\x00-\x1f\x7f]", name) or name.startswith("."):
        raise TransectError(f"{what} {name!r:.80} is no plain file name.", "Give it another name.")
    return name


def file_hash(path: Place) -> str:
    """sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# strict JSON

#: The field of every object we write that holds the sha256 of the rest of it.
CHECKSUM = "checksum"


def loads(text: str | bytes, *, constants: bool = False) -> Any:
    """Strict JSON: UTF-8, no key twice, no lone surrogate, finite numbers unless `constants`. Raises:
    ValueError."""
    text = text.decode() if isinstance(text, bytes) else text
    number = float if constants else _finite
    value = json.loads(text, object_pairs_hook=_object, parse_constant=number, parse_float=number)
    if "\\u" in text:
        json.dumps(value, ensure_ascii=False).encode()
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return result


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text} is no finite number")
    return value


def dumps(value: Any, indent: int | None = None) -> str:
    """Strict JSON; a number that is not finite becomes null. Raises: ValueError for a lone surrogate."""
    try:
        text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    except ValueError:
        text = json.dumps(with_numbers(value, lambda _: None), indent=indent, ensure_ascii=False)
    text.encode()
    return text


def with_numbers(value: Any, instead: Any) -> Any:
    """`value` with `instead(number)` for every float that is not finite."""
    if isinstance(value, dict):
        return {k: with_numbers(v, instead) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [with_numbers(v, instead) for v in value]
    return instead(value) if isinstance(value, float) and not math.isfinite(value) else value


def checksum(value: dict[str, Any]) -> str:
    """sha256 of an object without its own checksum."""
    return hashlib.sha256(dumps({k: v for k, v in value.items() if k != CHECKSUM}).encode()).hexdigest()


def is_sealed(path: Place) -> bool:
    """Whether a JSON file that can be read carries a checksum."""
    value = loads(path.read_bytes())
    return isinstance(value, dict) and CHECKSUM in value


def read_json(path: Place, what: str, fix: str = "", kind: Any = dict) -> Any:
    """The JSON in `path`, without its checksum, which is compared where there is one.

    Raises: TransectError, with `fix`, when it is not there, damaged, or not of this `kind`.
    """
    try:
        with reaching(path):
            if not path.parent.is_dir():
                like = near_path(path.parent) if isinstance(path, Path) else ""
                remedy = "Capture one with: transect capture MODEL TEXTS --out DIR."
                raise TransectError(f"{path.parent}: no such {what}.{like}", remedy)
            data = path.read_bytes()
        value = loads(data)
        if not isinstance(value, kind):
            raise ValueError(f"a {type(value).__name__} where another kind stands")
        if isinstance(value, dict) and value.pop(CHECKSUM, stored := checksum(value)) != stored:
            raise ValueError("its checksum is another")
        return value
    except FileNotFoundError:
        raise TransectError(f"{path.parent}: not a {what} ({path.name} is missing).", fix) from None
    except (OSError, ValueError, RecursionError) as error:
        fix = fix or "Delete it and run the same command again."
        raise TransectError(f"{path}: damaged ({error}).", fix) from error


def write_json(path: Place, value: Any) -> None:
    """Write JSON whole or not at all; an object gets its checksum. Raises: TransectError."""
    try:
        record = {**value, CHECKSUM: checksum(value)} if isinstance(value, dict) else value
        data = dumps(record, indent=1).encode()
    except UnicodeEncodeError as error:
        raise TransectError(f"{path}: {error}.", "A text holds half a character: mend the input.") from error
    write_bytes(path, data)


# writing

#: This machine, as the names of partial files tell it.
HOST = re.sub(r"[^A-Za-z0-9-]", "-", platform.node())[:24] or "here"
PARTIAL = re.compile(rf"\.{HOST}\.(\d+)\.[0-9a-f]{{8}}\.partial$")


@contextlib.contextmanager
def reaching(path: Place) -> Iterator[None]:
    """What comes instead of a file from another machine becomes a message: no credentials, no network.
    Raises: TransectError; what a file is, or that there is none, is raised as it was."""
    try:
        yield
    except (TransectError, FileNotFoundError, ImportError, ValueError):
        raise
    except Exception as error:
        if not is_remote(path):
            raise
        raise TransectError(
            f"{path} cannot be reached ({type(error).__name__}: {error}).",
            "Check the address, the credentials in the environment and the network.",
        ) from error


def unwritable(path: Place, error: OSError) -> TransectError:
    """What to say when a file cannot be written: a full disk, a closed folder, too long a name."""
    return TransectError(
        f"{path} cannot be written ({error.strerror or error}); what stood there is as it was.",
        "Make room or allow writing, and run the same command again: what was finished is kept.",
    )


@contextlib.contextmanager
def writing(path: Place) -> Iterator[None]:
    """What the disk refuses inside becomes a message. Raises: TransectError."""
    try:
        with reaching(path):
            yield
    except OSError as error:
        raise unwritable(path, error) from error


def partial_of(path: Path) -> Path:
    """A name beside `path` that no other process and no other call uses, for what is not whole yet."""
    return path.with_name(f".{path.name[:40]}.{HOST}.{os.getpid()}.{secrets.token_hex(4)}.partial")


def discard(path: Path) -> None:
    """Remove a partial file or folder of ours; what cannot be removed stays."""
    with contextlib.suppress(OSError):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def remove_empty(folder: Path) -> None:
    """Remove a folder that we made, unless something is in it."""
    with contextlib.suppress(OSError):
        folder.rmdir()


def open_new(path: Path) -> int:
    """A descriptor of a file that was not there; links are not followed."""
    flags = (getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_CLOEXEC", "O_BINARY"))
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | sum(flags), 0o666)


def write_at(fd: int, data: Any, offset: int) -> None:
    """Write all of `data`, whose bytes are `offset` bytes into the file."""
    data = memoryview(data).cast("B")
    while data.nbytes:
        if hasattr(os, "pwrite"):
            written = os.pwrite(fd, data, offset)
        else:
            os.lseek(fd, offset, os.SEEK_SET)
            written = os.write(fd, data)
        data, offset = data[written:], offset + written


def sync_folder(folder: Path) -> None:
    """Make what was renamed inside `folder` durable, where the platform can."""
    try:
        fd = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    except PermissionError:  # Windows opens no folders; a folder may be written and not read
        return
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
            raise
    finally:
        os.close(fd)


def make_folder(folder: Place) -> None:
    """Make a folder and those above it, durably."""
    missing = [] if is_remote(folder) else [p for p in (folder, *folder.parents) if not p.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        sync_folder(path.parent)


def publish(partial: Path, path: Path) -> None:
    """Give a synced partial file or folder its name, durably."""
    partial.replace(path)
    sync_folder(path.parent)


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[int]:
    """A descriptor; what is written to it is at `path`, durable, after the block. Raises: TransectError."""
    with writing(path):
        make_folder(path.parent)
        partial = partial_of(path)
        fd = open_new(partial)
        try:
            try:
                yield fd
                os.fsync(fd)
            finally:
                os.close(fd)
            publish(partial, path)
        except BaseException:
            discard(partial)
            raise


def write_bytes(path: Place, data: bytes) -> None:
    """Write a file whole or not at all, and make it durable. Raises: TransectError."""
    if is_remote(path):  # object stores put a whole object or none
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return
    with whole_file(path) as fd:
        write_at(fd, data, 0)
