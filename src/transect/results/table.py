"""Tables: tidy rows on disk as Parquet, each number beside its null, interval, counts and status, with its
provenance.

Any Parquet reader opens them; the provenance is JSON in the schema's metadata under `transect`.
"""

import hashlib
import importlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from transect.errors import TransectError
from transect.files import dumps, loads, local, write_bytes
from transect.work.shown import MOST_COLUMNS, MOST_ROWS, html

#: Key in the footer of a table's file, followed by the sha256 of the file with zeros in its place.
CHECKSUM = b"transect_sha256"
ZEROS = b"0" * 64
#: Columns that every table has, in this order; options and further results of a measure follow.
COLUMNS: dict[str, pa.DataType] = {
    "measure": pa.string(),
    "run": pa.string(),
    "run2": pa.string(),
    "site": pa.string(),
    "site2": pa.string(),
    "token": pa.string(),
    "position0": pa.string(),
    "massive": pa.string(),
    "normalise": pa.string(),
    "pca": pa.int64(),
    "design": pa.string(),
    "value": pa.float64(),
    "low": pa.float64(),
    "high": pa.float64(),
    "null": pa.float64(),
    "null_low": pa.float64(),
    "null_high": pa.float64(),
    "corrected": pa.float64(),
    "corrected_low": pa.float64(),
    "corrected_high": pa.float64(),
    "p": pa.float64(),
    "n": pa.int64(),
    "n_texts": pa.int64(),
    "control": pa.string(),
    "draws": pa.int64(),
    "seed": pa.int64(),
    "calibration": pa.string(),
    "status": pa.string(),
}
#: The mark, in the column `calibration`, of an interval whose coverage is as it should be.
WITHIN = "within its band"


class Table:
    """Rows of results. Missing numbers are null on disk and NaN in `column`; a row's `status` says why."""

    def __init__(self, rows: Iterable[dict[str, Any]] = (), provenance: dict[str, Any] | None = None) -> None:
        self.provenance = provenance or {}
        rows = list(rows)
        extra = list(dict.fromkeys(key for row in rows for key in row if key not in COLUMNS))
        columns = {
            name: pa.array([_null(row.get(name)) for row in rows], kind) for name, kind in COLUMNS.items()
        }
        columns |= {name: _array([_null(row.get(name)) for row in rows]) for name in extra}
        self.arrow = pa.table(columns)

    @classmethod
    def load(cls, path: str | Path) -> "Table":
        """Read a table; TransectError when the file is not one."""
        try:
            data = Path(path).read_bytes()
            if _sealed(data) != data:
                raise ValueError("its checksum is another")
            arrow = pq.read_table(pa.BufferReader(data), page_checksum_verification=True)
            provenance = loads((arrow.schema.metadata or {}).get(b"transect", b"{}"), constants=True)
        except (OSError, ValueError, RecursionError, pa.ArrowException) as error:
            raise TransectError(
                f"{path}: not a readable table ({error}).", "Run the study again; finished cells are kept."
            ) from error
        table = cls(provenance=provenance)
        table.arrow = arrow.replace_schema_metadata(None)
        return table

    def save(self, path: str | Path) -> Path:
        """Write as .parquet, whole or not at all. Raises: TransectError for the name of another kind."""
        path = local(path)
        if path.suffix not in ("", ".parquet"):
            raise TransectError(
                f"{path}: tables are saved as .parquet.",
                "to_pandas() writes CSV and more.",
            )
        sink = pa.BufferOutputStream()
        metadata = {"transect": dumps(json.loads(json.dumps(self.provenance, default=str)))}
        arrow = self.arrow.replace_schema_metadata(metadata)
        with pq.ParquetWriter(sink, arrow.schema, compression="zstd", write_page_checksum=True) as writer:
            writer.write_table(arrow)
            writer.add_key_value_metadata({CHECKSUM.decode(): ZEROS.decode()})
        write_bytes(path, _sealed(sink.getvalue().to_pybytes()))
        return path

    def __len__(self) -> int:
        return self.arrow.num_rows

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.arrow.to_pylist())

    def __add__(self, other: "Table") -> "Table":
        table = Table(provenance=self.provenance | other.provenance)
        table.arrow = pa.concat_tables([self.arrow, other.arrow], promote_options="permissive")
        return table

    def __repr__(self) -> str:
        names = {str(m) for m in self.arrow["measure"].to_pylist() if m is not None}
        return f"<table: {len(self)} rows, {', '.join(sorted(names))}>"

    @property
    def columns(self) -> list[str]:
        """Column names."""
        return self.arrow.column_names

    def column(self, name: str) -> np.ndarray:
        """One column; numbers, and what is empty in every row, as float64 with NaN where there is none."""
        if name not in self.columns:
            raise TransectError(f"no column {name!r}.", f"Columns: {', '.join(self.columns)}.")
        values = self.arrow[name].to_pylist()
        kind = self.arrow.schema.field(name).type
        number = pa.types.is_floating(kind) or (pa.types.is_integer(kind) and None in values)
        if number or pa.types.is_null(kind):
            return np.array([math.nan if v is None else v for v in values], dtype=float)
        return np.array(values, dtype=object if None in values else None)

    def where(self, keep: Callable[[dict[str, Any]], bool] | None = None, **equal: Any) -> "Table":
        """The rows whose columns equal the given values (a list: any of them) and for which `keep(row)`
        holds."""
        table = Table(provenance=self.provenance)
        table.arrow = self.arrow
        for name, wanted in equal.items():
            table.arrow = table.arrow.filter(_matches(table.arrow, name, wanted))
        if keep is not None:
            table.arrow = table.arrow.filter(pa.array([bool(keep(row)) for row in table], pa.bool_()))
        return table

    def values(self, name: str) -> list[Any]:
        """Distinct values of a column, in order of appearance, without null."""
        return [v for v in dict.fromkeys(self.arrow[name].to_pylist()) if v is not None]

    def pivot(
        self, value: str = "value", index: str = "site", columns: str = "site2"
    ) -> tuple[list[str], list[str], np.ndarray]:
        """A matrix [index, columns] of one column, NaN where there is no row; row and column names with
        it."""
        left, right = self.values(index), self.values(columns)
        out = np.full((len(left), len(right)), np.nan)
        at, to = {s: k for k, s in enumerate(left)}, {s: k for k, s in enumerate(right)}
        for row in self:
            if row[index] in at and row[columns] in to and row[value] is not None:
                out[at[row[index]], to[row[columns]]] = row[value]
        return left, right, out

    def _repr_html_(self) -> str:
        there = [n for n in self.columns if self.arrow[n].null_count < len(self)][:MOST_COLUMNS]
        rows = [[row[name] for name in there] for row in self.arrow.slice(0, MOST_ROWS).to_pylist()]
        return html(there, rows, repr(self)[1:-1], len(self) - len(rows))

    @property
    def frame(self) -> Any:
        """The rows as a polars data frame."""
        return self.to_polars()

    def to_polars(self) -> Any:
        """A polars data frame."""
        import polars

        return polars.from_arrow(self.arrow)

    def to_pandas(self) -> Any:
        """A pandas data frame. Raises: TransectError without pandas."""
        _needs("pandas")
        return self.arrow.to_pandas()

    def to_xarray(self, *dims: str, values: Sequence[str] = ("value", "low", "high")) -> Any:
        """An xarray data set of `values` over `dims`, NaN where there is no row.

        Args:
            dims: Columns; by default those of measure, run, run2, site, site2, token with several values.
            values: Columns of numbers.

        Raises: TransectError without xarray, and where several rows have the same place.
        """
        xarray = _needs("xarray")
        usual = ("measure", "run", "run2", "site", "site2", "token")
        names = list(dims or [n for n in usual if len(self.values(n)) > 1] or ["site"])
        at = [{v: k for k, v in enumerate(self.values(n))} for n in names]
        rows = [row for row in self if all(row[n] in places for n, places in zip(names, at, strict=True))]
        index = [tuple(places[row[n]] for n, places in zip(names, at, strict=True)) for row in rows]
        if len(set(index)) < len(index):
            raise TransectError(
                f"several rows have the same {', '.join(names)}.",
                "Name more columns, or take rows with where().",
            )
        held: dict[str, Any] = {}
        for value in values:
            array = np.full([len(places) for places in at], np.nan)
            for k, row in zip(index, rows, strict=True):
                array[k] = math.nan if row[value] is None else row[value]
            held[value] = (names, array)
        return xarray.Dataset(held, {n: list(places) for n, places in zip(names, at, strict=True)})


def _needs(package: str) -> Any:
    """A package of the extra `frames`. Raises: TransectError where it is not installed."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise TransectError(f"{package} is not installed.", "pip install 'transect[frames]'.") from error


def has_checksum(path: Path) -> bool:
    """Whether a table's file carries a checksum; those of earlier versions do not."""
    return CHECKSUM in path.read_bytes()


def _sealed(data: bytes) -> bytes:
    """A table's file with its checksum in its place; as it is where there is no such place."""
    at = data.rfind(CHECKSUM)
    if at < 0:
        return data
    at += len(CHECKSUM) + 2  # Thrift: the kind of the next field, then how long it is
    digest = hashlib.sha256(data[:at] + ZEROS + data[at + len(ZEROS) :]).hexdigest()
    return data[:at] + digest.encode() + data[at + len(ZEROS) :]


def _matches(arrow: pa.Table, name: str, wanted: Any) -> Any:
    """Which rows hold a value, or any of several; a column that is not there holds None."""
    several = list(wanted) if isinstance(wanted, list | tuple | set) else [wanted]
    if name not in arrow.column_names:
        return pa.array([None in several] * arrow.num_rows, pa.bool_())
    column = arrow[name]
    if pa.types.is_null(column.type):
        return pa.array([None in several] * arrow.num_rows, pa.bool_())
    known = [v for v in several if v is not None]
    try:
        hit = (
            pc.is_in(column, pa.array(known, column.type))
            if known
            else pa.array([False] * arrow.num_rows, pa.bool_())
        )
    except (
        pa.ArrowInvalid,
        pa.ArrowTypeError,
    ):  # values of another kind equal nothing here, but 1 and 1.0 do
        values = column.to_pylist()
        hit = pa.array([v in known for v in values], pa.bool_())
    return pc.or_kleene(hit, pc.is_null(column)) if None in several else hit


def merge(tables: Sequence[Table]) -> Table:
    """All rows of several tables, columns united."""
    joined = tables[0]
    for table in tables[1:]:
        joined = joined + table
    return joined


def _null(value: Any) -> Any:
    if isinstance(value, list):
        return [_null(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and math.isnan(value) else value


def _array(values: list[Any]) -> pa.Array:
    """A column of whatever type holds the values; mixed ones become text."""
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([None if v is None else str(v) for v in values])
