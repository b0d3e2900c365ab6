"""Data sets of activations: Parquet files, and folders that Hugging Face's datasets wrote to disk.

A column that is named as a site holds one sample a row: a list of points [tokens][width], or one point
[width]. Text, token ids and plain columns come along.
"""

from pathlib import Path
from typing import Any

import numpy as np

from transect.errors import TransectError
from transect.store.samples import Raw
from transect.store.shards import SAFETENSORS

#: What tells a folder of datasets' from others.
STATE = "state.json"


def is_data_set(path: Path) -> bool:
    """Whether a path is a Parquet file, or a folder that `Dataset.save_to_disk` wrote."""
    return path.suffix == ".parquet" or (path / STATE).is_file()


def open_data_set(path: Path) -> dict[str, Any]:
    """Column → rows of points [rows, width], one point a sample [samples, width], or a list of plain values;
    `lengths` [samples] where samples have several points. Raises: TransectError."""
    import pyarrow as pa

    try:
        table = _table(path)
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise TransectError(
            f"{path} cannot be read ({error!s:.200}).", "Give a Parquet file, or a folder of save_to_disk."
        ) from error
    columns: dict[str, Any] = {}
    for name in table.column_names:
        column = _plain(table[name])
        if _has_gaps(column):
            raise TransectError(f"{path}: column {name!r:.80} has empty cells.", "Fill or drop it.")
        value, lengths = _values(column)
        columns[name] = value
        if lengths is None:
            continue
        if not np.array_equal(columns.setdefault("lengths", lengths), lengths):
            raise TransectError(
                f"{path}: samples of {name!r:.80} have other numbers of tokens than those of other columns.",
                "Import the columns that belong together: --sites NAME,NAME.",
            )
    return columns


def _table(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.suffix == ".parquet":
        return pq.read_table(path)
    from transect.files import read_json

    files = read_json(path / STATE, "data set")["_data_files"]
    parts = [pa.ipc.open_stream(pa.memory_map(str(path / f["filename"]))).read_all() for f in files]
    return pa.concat_tables(parts)


def _plain(column: Any) -> Any:
    """A column as one array, without the types that datasets puts around nested lists."""
    import pyarrow as pa

    array = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    return array.storage if isinstance(array, pa.ExtensionArray) else array


def _has_gaps(array: Any) -> bool:
    """Whether a cell, or anything in a cell's lists, is missing."""
    return bool(array.null_count) or (_is_list(array.type) and _has_gaps(array.flatten()))


def _values(array: Any) -> tuple[Any, np.ndarray | None]:
    """(points [n, width] or plain values, rows of each sample where a sample has several)."""
    import pyarrow as pa

    if not _is_list(array.type):
        return array.to_pylist(), None
    counts, inner = _opened(array)
    if not _is_list(inner.type):
        if pa.types.is_floating(inner.type) and len(set(counts.tolist())) == 1:
            return _points(inner, int(counts[0])), None
        return array.to_pylist(), None
    widths, flat = _opened(inner)
    if _is_list(flat.type) or not pa.types.is_floating(flat.type) or len(set(widths.tolist())) != 1:
        return array.to_pylist(), None
    return _points(flat, int(widths[0])), counts


def _is_list(kind: Any) -> bool:
    import pyarrow as pa

    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _opened(array: Any) -> tuple[np.ndarray, Any]:
    """(length of each list, all their values end to end)."""
    import pyarrow.compute as pc

    lengths = pc.call_function("list_value_length", [array]).to_numpy(zero_copy_only=False)
    return lengths.astype(np.int64), array.flatten()


def _points(flat: Any, width: int) -> Raw:
    values = flat.to_numpy(zero_copy_only=False)
    name = values.dtype.name
    assert name in SAFETENSORS, name
    return Raw(values.reshape(-1, width), name)
