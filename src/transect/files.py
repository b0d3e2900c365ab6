"""Files written whole or not at all, and read with a message when they are not what they should be."""

import contextlib
import hashlib
import json
import os
from typing import Any

from transect.errors import TransectError
from transect.places import Place, is_remote

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
        raise TransectError(f"{path}: damaged ({error}).", "Delete it and run the same command again.") from error


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
