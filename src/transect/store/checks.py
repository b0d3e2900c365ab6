"""What a manifest, a plan and an index must say before any of it is believed: a folder can come from
anywhere.

Fields that reading relies on are there and of their kind, and every text's rows lie inside its shard. Values
are for `Store.verify`, which knows the checksums.
"""

from typing import Any

import numpy as np

from transect.errors import TransectError
from transect.files import Place

#: Kind of model in the manifest of a store that was made from arrays.
ARRAYS = "arrays"
#: What to do about a store whose frame is damaged: nothing of it can be made again in its place.
ELSEWHERE = "Capture into another folder."
#: Field → kind, as `layout.make_manifest` writes them.
FIELDS: dict[str, type | tuple[type, ...]] = {
    "fingerprint": str,
    "model": dict,
    "texts": dict,
    "tokens_hash": str,
    "sites": dict,
    "dtype": dict,
    "positions": str,
    "pool": (str, type(None)),
    "max_length": (int, type(None)),
    "origin": dict,
    "created": str,
    "index_sha256": str,
}
#: The same inside model, texts and dtype.
INNER: dict[str, dict[str, type]] = {
    "model": {"name": str, "spec": str, "kind": str, "fingerprint": dict},
    "texts": {"name": str, "spec": str},
    "dtype": {"compute": str, "store": str},
}
#: Columns of the index that hold a whole number for every text.
COUNTED = ("shard", "row", "rows", "length")
LISTED = ("tokens", "pieces", "offsets", "special", "positions")


def check_manifest(path: Place, manifest: dict[str, Any], plan: Any) -> None:
    """TransectError when a field that reading relies on is missing or of another kind."""
    for name, kind in FIELDS.items():
        if not isinstance(manifest.get(name), kind):
            raise _damaged(path, "manifest.json", f"{name} is {_shown(manifest.get(name))}")
    for name, fields in INNER.items():
        for inner, kind in fields.items():
            if not isinstance(manifest[name].get(inner), kind):
                raise _damaged(
                    path, "manifest.json", f"{name}.{inner} is {_shown(manifest[name].get(inner))}"
                )
    if not manifest["sites"]:
        raise _damaged(path, "manifest.json", "it names no sites")
    for site, entry in manifest["sites"].items():
        width = entry.get("width") if isinstance(entry, dict) else None
        if type(width) is not int or not 0 < width < 1 << 31:
            raise _damaged(path, "manifest.json", f"the width of {_shown(site)} is {_shown(width)}")
    if not isinstance(plan, list) or not all(isinstance(shard, list) for shard in plan):
        raise _damaged(path, "plan.json", "it is no list of shards")


def check_index(path: Place, index: Any, shards: int) -> None:
    """TransectError when a column is missing or of another kind, or rows would be read outside of their
    shard."""
    import pyarrow as pa

    for name in ("id", "text", *COUNTED, *LISTED):
        if name not in index.column_names or index.column_names.count(name) > 1:
            raise _damaged(path, "texts.parquet", f"it has no column {name}")
    for name in ("id", "text"):
        if not pa.types.is_string(index.schema.field(name).type) or index[name].null_count:
            raise _damaged(path, "texts.parquet", f"the column {name} is not text")
    for name in COUNTED:
        if not pa.types.is_integer(index.schema.field(name).type) or index[name].null_count:
            raise _damaged(path, "texts.parquet", f"the column {name} does not count")
    if odd := [n for n in LISTED if not pa.types.is_list(index.schema.field(n).type)]:
        raise _damaged(path, "texts.parquet", f"the column {odd[0]} holds no lists")
    shard, row, rows, length = (index[name].to_numpy().astype(np.int64) for name in COUNTED)
    held = (
        np.bincount(shard, rows, shards) if len(shard) and shard.min() >= 0 and shard.max() < shards else None
    )
    many = 1 << 48  # beyond this, sums of rows are no longer exact
    sane = (
        held is not None
        and min(row.min(), rows.min(), length.min()) >= 0
        and max(row.max(), held.max()) < many
    )
    if held is None or not sane or (row + rows > held[shard]).any() or (rows > length).any():
        raise _damaged(path, "texts.parquet", "rows lie outside of their shard")
    _check_lists(path, index, rows, length)


def _check_lists(path: Place, index: Any, rows: np.ndarray, length: np.ndarray) -> None:
    import pyarrow.compute as pc

    for name in ("tokens", "pieces", "special"):
        if index[name].null_count or (pc.list_value_length(index[name]).to_numpy() != length).any():
            raise _damaged(path, "texts.parquet", f"the column {name} does not hold one entry a token")
    where = index["positions"]
    if where.null_count not in (0, len(where)) or (
        not where.null_count and (pc.list_value_length(where).to_numpy() != rows).any()
    ):
        raise _damaged(path, "texts.parquet", "the column positions does not hold one entry a row")


def check_hash(path: Place, file: str, actual: str, wanted: Any) -> None:
    """TransectError when a file is not the one that this store was written with; None is not checked."""
    if wanted is not None and actual != wanted:
        raise _damaged(path, file, "it is not the one that was written here")


def _damaged(path: Place, file: str, why: str) -> TransectError:
    return TransectError(f"{path}: {file} is damaged: {why}.", ELSEWHERE)


def _shown(value: Any) -> str:
    return "missing" if value is None else repr(value)[:60]
