"""One shard file: a safetensors file mapped for reading, or written header first so that rows go straight to
their place."""

import json
import os
import shutil
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from transect.errors import TransectError
from transect.files import (
    Place,
    discard,
    file_hash,
    is_remote,
    loads,
    make_folder,
    open_new,
    partial_of,
    publish,
    write_at,
    write_json,
)
from transect.store.ranged import Ranged

NUMPY = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2"), "F64": np.dtype("<f8")}
LONGEST_HEADER = 100 << 20
SAFETENSORS = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "float64": "F64"}


@dataclass(frozen=True)
class Shard:
    """One shard file: an array [rows, width] per site, mapped (or remote) and not yet read."""

    path: Place
    arrays: dict[str, Any]


def map_shard(path: Place) -> Shard:
    """Map a shard file; the header is checked against the size of the file before any of it is believed."""
    remote = is_remote(path)
    try:
        size = path.stat().st_size
        length, header = safetensors_header(path, size)
        raw = None if remote else np.memmap(path, np.uint8, "r")
        arrays: dict[str, Any] = {}
        for site, entry in header.items():
            if site == "__metadata__":
                continue
            (first, last), dtype, shape = entry["data_offsets"], NUMPY[entry["dtype"]], tuple(entry["shape"])
            if not all(type(v) is int and v >= 0 for v in (first, last, *shape)) or len(shape) != 2:
                raise ValueError(f"{site} has no shape")
            if last - first != dtype.itemsize * shape[0] * shape[1] or 8 + length + last > size:
                raise ValueError(f"{site} does not fit the file")
            begin = 8 + length + first
            if raw is None:
                arrays[site] = Ranged(path, begin, dtype, shape)
            else:
                arrays[site] = raw[begin : 8 + length + last].view(dtype).reshape(shape)
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise TransectError(f"{path}: not a readable shard ({error}).", damaged_shard(path)) from error
    return Shard(path, arrays)


def damaged_shard(path: Place) -> str:
    """What to do about a shard file that is not what was written."""
    return f"Delete it and {path.stem}.json, and capture again."


def safetensors_header(path: Place, size: int) -> tuple[int, dict[str, Any]]:
    """(length, header) of a safetensors file of `size` bytes; ValueError where there is none."""
    if is_remote(path):
        read = lambda begin, end: path.fs.cat_file(path.path, start=begin, end=end)  # noqa: E731
    else:
        with path.open("rb") as file:
            head = file.read(8)
            told = int.from_bytes(head, "little")
            body = file.read(told) if told <= min(size - 8, LONGEST_HEADER) else b""
        read = lambda begin, end: (head + body)[begin:end]  # noqa: E731
    length = int.from_bytes(read(0, 8), "little")
    if not 0 < length <= min(size - 8, LONGEST_HEADER):
        raise ValueError("no safetensors header")
    try:
        header = loads(read(8, 8 + length))
    except RecursionError:
        raise ValueError("its header is nested too deeply") from None
    if not isinstance(header, dict):
        raise ValueError("its header is no object")
    return length, header


def widen(values: np.ndarray) -> np.ndarray:
    """Stored values as float32; bfloat16 arrives as the upper half of a float32."""
    if values.dtype == np.uint16:
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values


class ShardWriter:
    """A shard whose header is written first, so that rows can go to their place as they come, in any order of
    sites."""

    def __init__(self, path: Place, widths: dict[str, int], rows: int, dtype: str) -> None:
        self.path, self.scratch = path, None
        if is_remote(path):  # rows come in any order of sites: the shard is made here and put there whole
            self.scratch = Path(tempfile.mkdtemp(prefix="transect-"))
        self.rows, self.dtype = rows, dtype
        self._put: dict[int, tuple[int, int]] = {}  # offset → bytes written there, their CRC-32
        item = NUMPY[SAFETENSORS[dtype]].itemsize
        header, offset = {}, 0
        for site, width in widths.items():
            end = offset + rows * width * item
            header[site] = {
                "dtype": SAFETENSORS[dtype],
                "shape": [rows, width],
                "data_offsets": [offset, end],
            }
            offset = end
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 64)
        self._begin = {site: 8 + len(text) + header[site]["data_offsets"][0] for site in widths}
        self._stride = {site: width * item for site, width in widths.items()}
        self._size = offset
        make_folder(path.parent)
        self.partial = partial_of(self.scratch / path.name if self.scratch else path)
        self._fd = open_new(self.partial)
        self._open = True
        try:
            write_at(self._fd, len(text).to_bytes(8, "little") + text, 0)
            os.ftruncate(self._fd, 8 + len(text) + offset)
        except OSError:
            self.abandon()
            raise

    def put(self, site: str, row: int, data: memoryview) -> None:
        """Write contiguous rows, beginning at `row`."""
        offset = self._begin[site] + row * self._stride[site]
        write_at(self._fd, data, offset)
        self._put[offset] = (data.nbytes, zlib.crc32(data))

    def abandon(self) -> None:
        """Drop what was written."""
        if self._open:
            os.close(self._fd)
        self._open = False
        discard(self.scratch or self.partial)

    def finish(self, receipt: dict[str, Any]) -> None:
        """Make the shard durable, then its receipt: it counts from here on. TransectError unless it is
        whole."""
        os.fsync(self._fd)
        os.close(self._fd)
        self._open = False
        self._check()
        receipt["sha256"] = file_hash(self.partial)
        if self.scratch:
            self.path.fs.put_file(str(self.partial), self.path.path)
            shutil.rmtree(self.scratch)
        else:
            publish(self.partial, self.path)
        write_json(self.path.with_suffix(".json"), receipt)

    def _check(self) -> None:
        """The file holds what was put, and every byte of it was put."""
        whole = sum(size for size, _ in self._put.values()) == self._size
        with self.partial.open("rb") as file:
            for offset, (size, crc) in sorted(self._put.items()):
                file.seek(offset)
                whole = whole and zlib.crc32(file.read(size)) == crc
        if not whole:
            raise TransectError(
                f"{self.path}: not all that was written is there.", "Run the same capture again."
            )
