"""One shard file: a safetensors file mapped for reading, or written header first so that rows go straight to
their place."""

import errno
import hashlib
import itertools
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from transect.errors import TransectError
from transect.files import (
    Place,
    discard,
    is_remote,
    loads,
    make_folder,
    open_new,
    partial_of,
    publish,
    reaching,
    write_at,
    write_json,
    writing,
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
        with reaching(path):
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
            length_of_header = int.from_bytes(head, "little")
            body = file.read(length_of_header) if length_of_header <= min(size - 8, LONGEST_HEADER) else b""
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


def shard_name(k: int) -> str:
    """The file of shard k in a store's folder of shards."""
    return f"{k:05d}.safetensors"


def shard_header(widths: dict[str, int], rows: int, dtype: str) -> bytes:
    """What a shard file begins with: the length of its header, and the header."""
    header, offset = {}, 0
    for site, width in widths.items():
        end = offset + rows * width * NUMPY[SAFETENSORS[dtype]].itemsize
        header[site] = {"dtype": SAFETENSORS[dtype], "shape": [rows, width], "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 64)
    return len(text).to_bytes(8, "little") + text


class Beside:
    """One thread that does `work` with what comes, piece after piece, while the caller goes on; a piece must
    stay as it is until the next one comes."""

    def __init__(self, work: Callable[..., Any]) -> None:
        self._work, self._thread = work, ThreadPoolExecutor(1)
        self._last: Future[Any] | None = None

    def take(self, *piece: Any) -> None:
        """Begin with a piece, as soon as what came before is done. Raises: what the one before raised."""
        self._wait()
        self._last = self._thread.submit(self._work, *piece)

    def close(self) -> None:
        """All is done; nothing may come after."""
        try:
            self._wait()
        finally:
            self._thread.shutdown()

    def _wait(self) -> None:
        if self._last is not None:
            self._last.result()


class Sha256(Beside):
    """sha256 of bytes as they come, in a thread beside what is done with them meanwhile."""

    def __init__(self) -> None:
        self._sum = hashlib.sha256()
        super().__init__(self._sum.update)

    def hexdigest(self) -> str:
        """The sum of all; nothing may come after it."""
        self.close()
        return self._sum.hexdigest()


class ShardWriter:
    """A shard whose header is written first, so that rows can go to their place as they come, in any order of
    sites."""

    def __init__(self, path: Place, widths: dict[str, int], rows: int, dtype: str) -> None:
        self.path, self.scratch = path, None
        if is_remote(path):  # rows come in any order of sites: the shard is made here and put there whole
            self.scratch = Path(tempfile.mkdtemp(prefix="transect-"))
        self.rows, self.dtype = rows, dtype
        head, item = shard_header(widths, rows, dtype), NUMPY[SAFETENSORS[dtype]].itemsize
        self._put = {0: (len(head), zlib.crc32(head))}  # offset → bytes written there, their CRC-32
        self._stride = {site: width * item for site, width in widths.items()}
        ends = list(itertools.accumulate((rows * s for s in self._stride.values()), initial=len(head)))
        self._begin, self._size = dict(zip(widths, ends, strict=False)), ends[-1]
        make_folder(path.parent)
        self.partial = partial_of(self.scratch / path.name if self.scratch else path)
        self._fd = open_new(self.partial)
        self.open = True
        try:
            write_at(self._fd, head, 0)
            reserve(self._fd, self._size)
        except OSError:
            self.abandon()
            raise

    def put(self, site: str, row: int, data: memoryview, crc: int | None = None) -> None:
        """Write contiguous rows, beginning at `row`; `crc` is their CRC-32 where it is known."""
        offset = self._begin[site] + row * self._stride[site]
        write_at(self._fd, data, offset)
        self._put[offset] = (data.nbytes, zlib.crc32(data) if crc is None else crc)

    def abandon(self) -> None:
        """Drop what was written."""
        if self.open:
            os.close(self._fd)
        self.open = False
        discard(self.scratch or self.partial)

    def seal(self, sha256: str | None = None, pieces: Iterable[Any] = ()) -> str:
        """Make what was put durable, and compare it with the file meanwhile: with `pieces`, all of it once
        more in its order, where there are any, else by CRC-32. TransectError unless all is there. Returns its
        sha256; one that is given is believed."""
        with ThreadPoolExecutor(1) as disk:
            synced = disk.submit(os.fsync, self._fd)
            seen = self._read_back(None if sha256 else Sha256(), pieces)
            synced.result()
        os.close(self._fd)
        self.open = False
        return sha256 or seen or ""

    def finish(self, receipt: dict[str, Any]) -> None:
        """Seal the shard unless it is, give it its name, then write its receipt: it counts from here on."""
        if self.open:
            receipt["sha256"] = self.seal(receipt.get("sha256"))
        if self.scratch:
            with writing(self.path):
                self.path.fs.put_file(str(self.partial), self.path.path)
            shutil.rmtree(self.scratch)
        else:
            publish(self.partial, self.path)
        write_json(self.path.with_suffix(".json"), receipt)

    def _read_back(self, beside: Sha256 | None, pieces: Iterable[Any]) -> str | None:
        """Read the file once: it holds what was put, and every byte was put. Its sha256, where asked."""
        sound, end = True, 0
        with self.partial.open("rb") as file:
            for (offset, (size, crc)), piece in itertools.zip_longest(sorted(self._put.items()), pieces):
                data = file.read(size) if offset == end and sound else b""
                sound = sound and len(data) == size
                sound = sound and (zlib.crc32(data) == crc if piece is None else _equal(data, piece))
                end = offset + size
                if beside:
                    beside.take(data)
        sha256 = beside.hexdigest() if beside else None
        if not sound or end != self._size:
            raise TransectError(
                f"{self.path}: not all that was written is there.", "Run the same capture again."
            )
        return sha256


def _equal(one: Any, two: Any) -> bool:
    """Whether two pieces hold the same bytes."""
    X, Y = (np.frombuffer(piece, np.uint8) for piece in (one, two))
    words = len(X) // 8 * 8
    whole = len(X) == len(Y) and np.array_equal(X[:words].view(np.uint64), Y[:words].view(np.uint64))
    return whole and np.array_equal(X[words:], Y[words:])


def reserve(fd: int, size: int) -> None:
    """Give a file its size and, where the disk can, its place: a full disk is found before the first row, and
    pages found one by one cost more than what is written to them."""
    try:
        os.posix_fallocate(fd, 0, size)
    except AttributeError:  # no such call here
        os.ftruncate(fd, size)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
            raise
        os.ftruncate(fd, size)
