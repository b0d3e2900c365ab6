"""Arrays in files of others, mapped and not read: .npz, .npy, .safetensors, .pt, and folders of safetensors.

Nothing in a file is run: NumPy's are read without pickles, torch's with weights only. Headers are checked
against the size of the file before any of it is believed.
"""

import contextlib
import shutil
import tempfile
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from transect.errors import TransectError
from transect.store.samples import Raw
from transect.store.shards import LONGEST_HEADER, NUMPY, safetensors_header

#: What a file may hold beside points: ids, masks, lengths, labels.
OTHERS = {"I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "<i1", "U8": "<u1", "BOOL": "?"}
NAMES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}
#: What transformers and serving engines call the states of all layers.
STATES = "hidden_states"
SUFFIXES = (".npz", ".npy", ".safetensors", ".pt", ".pth")


#: What damaged headers and archives raise in the libraries that read them.
UNREADABLE = (OSError, ValueError, KeyError, EOFError, RuntimeError, SyntaxError)
UNREADABLE = (*UNREADABLE, zipfile.BadZipFile, zlib.error, tokenize.TokenError)


@contextlib.contextmanager
def open_arrays(file: Path) -> Iterator[Any]:
    """What a file holds while the block runs: name → array, or a list of them. Raises: TransectError.

    Compressed arrays are unpacked into a folder of their own, which is removed after the block.
    """
    if file.suffix not in SUFFIXES:
        raise TransectError(f"{file}: no arrays are read from {file.suffix or 'such a file'}.", HINT)
    if not file.is_file():
        raise TransectError(f"no file {file}.", HINT)
    with tempfile.TemporaryDirectory(prefix="transect-") as scratch:
        try:
            arrays = READERS[file.suffix](file, Path(scratch))
        except UNREADABLE as error:
            raise TransectError(f"{file} cannot be read ({error!s:.200}).", HINT) from error
        yield arrays


HINT = f"Give a file {', '.join(SUFFIXES)}, or a folder of .safetensors."


def _npy(file: Path, scratch: Path) -> Raw:
    return _npy_at(file, 0)


def _npy_at(file: Path, begin: int) -> Raw:
    """The .npy that begins at a byte of a file, mapped."""
    with file.open("rb") as opened:
        opened.seek(begin)
        version = np.lib.format.read_magic(opened)
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, by_column, dtype = read(opened)
        offset, size = opened.tell(), file.stat().st_size
    if dtype.hasobject:
        raise TransectError(
            f"{file}: an array of Python objects, which only running a pickle would read.",
            "Save one array of all rows and an array `lengths`, or one array a site with a mask.",
        )
    if offset + dtype.itemsize * int(np.prod(shape, dtype=object)) > size:
        raise ValueError("an array does not fit the file")
    if 0 in shape or not shape:
        return Raw(np.zeros(shape, dtype), dtype.name)
    order: Any = "F" if by_column else "C"
    return Raw(np.memmap(file, dtype, "r", offset, shape, order), dtype.name)


def _npz(file: Path, scratch: Path) -> dict[str, Raw]:
    """Every array of an archive; stored ones lie in it as they are, packed ones are unpacked beside it."""
    arrays = {}
    with zipfile.ZipFile(file) as archive:
        packed = [i for i in archive.infolist() if i.compress_type != zipfile.ZIP_STORED]
        need, free = sum(i.file_size for i in packed), shutil.disk_usage(scratch).free
        if need > free:
            raise TransectError(
                f"{file} unpacks to {need / 1e9:.2f} GB, {free / 1e9:.2f} GB are free in {scratch.parent}.",
                "Make room, or save it with numpy.savez.",
            )
        for k, info in enumerate(archive.infolist()):
            name = info.filename.removesuffix(".npy")
            if info in packed:
                aside = scratch / f"{k}.npy"
                with archive.open(info) as source, aside.open("wb") as target:
                    shutil.copyfileobj(source, target, 1 << 20)
                arrays[name] = _npy_at(aside, 0)
            else:
                _check(archive, info)
                arrays[name] = _npy_at(file, _data_of(file, info))
    return arrays


def _check(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
    """Read a member once: a checksum that is another raises."""
    with archive.open(info) as source:
        while source.read(1 << 20):
            pass


def _data_of(file: Path, info: zipfile.ZipInfo) -> int:
    """Where the bytes of a stored member begin: behind its local header, name and extra field."""
    with file.open("rb") as opened:
        opened.seek(info.header_offset)
        head = opened.read(30)
    if len(head) < 30 or head[:4] != b"PK\x03\x04":
        raise ValueError("no archive member where its directory says")
    return (
        info.header_offset
        + 30
        + int.from_bytes(head[26:28], "little")
        + int.from_bytes(head[28:30], "little")
    )


def _safetensors(file: Path, scratch: Path) -> dict[str, Raw]:
    size = file.stat().st_size
    length, header = safetensors_header(file, size)
    bytes_of, arrays = np.memmap(file, np.uint8, "r"), {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        try:
            (first, last), shape, kind = entry["data_offsets"], tuple(entry["shape"]), entry["dtype"]
            dtype = NUMPY.get(kind) or np.dtype(OTHERS[kind])
        except (TypeError, KeyError, ValueError) as error:
            raise ValueError(f"{name:.80} has a header that is none, or a dtype that is not read") from error
        if not all(type(v) is int and v >= 0 for v in (first, last, *shape)):
            raise ValueError(f"{name:.80} has no shape")
        count = int(np.prod(shape, dtype=object))
        if last - first != dtype.itemsize * count or 8 + length + last > size:
            raise ValueError(f"{name:.80} does not fit the file")
        data = bytes_of[8 + length + first : 8 + length + last]
        arrays[name] = Raw(data.view(dtype).reshape(shape), NAMES.get(kind, dtype.name))
    return arrays


def _torch(file: Path, scratch: Path) -> Any:
    """Tensors of a .pt file: a dict of them, or a list; a value that is a list of samples stays one."""
    import pickle

    import torch

    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            if any(i.file_size > LONGEST_HEADER for i in archive.infolist() if i.filename.endswith(".pkl")):
                raise ValueError("its table of tensors is too long")
            for info in archive.infolist():
                _check(archive, info)
    try:
        loaded = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except (pickle.UnpicklingError, RuntimeError, AttributeError, TypeError) as error:
        raise TransectError(
            f"{file}: holds more than tensors, or is no file of torch.",
            "Save a dict of tensors with torch.save; nothing else of a pickle is run.",
        ) from error
    if isinstance(loaded, torch.Tensor):
        return loaded
    if isinstance(loaded, list | tuple):
        return _tensors(file, list(loaded))
    if not isinstance(loaded, dict):
        raise TransectError(f"{file}: holds a {type(loaded).__name__}.", "Save a dict of tensors.")
    return {str(k): _tensors(file, v, block=k != STATES) for k, v in loaded.items()}


def _tensors(file: Path, value: Any, block: bool = False) -> Any:
    """A tensor or a list of them; of the tuple that a block gives, the first: its hidden states."""
    import torch

    several = isinstance(value, tuple) and bool(value)
    if block and several and isinstance(value[0], torch.Tensor) and value[0].ndim == 3:
        return value[0]
    if isinstance(value, torch.Tensor) or (
        isinstance(value, list | tuple) and all(isinstance(v, torch.Tensor) for v in value)
    ):
        return value
    if isinstance(value, list | tuple) and all(isinstance(v, str | int | float) for v in value):
        return list(value)
    raise TransectError(
        f"{file}: holds a {type(value).__name__} that is neither a tensor nor a list of them.",
        "Save a dict of tensors.",
    )


READERS = {".npz": _npz, ".npy": _npy, ".safetensors": _safetensors, ".pt": _torch, ".pth": _torch}
