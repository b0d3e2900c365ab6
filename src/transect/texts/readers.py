"""Rows of text from local files and standard input: named columns of equal length, exactly as they stand there.

A format enters here when its rows can be read without running anything of the file.
"""

import csv
import io
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transect.errors import TransectError

FILES = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".txt")


@dataclass
class Rows:
    """Columns by name. `text`, `labels`, `group`, `id` name the ones a known source has for that."""

    columns: dict[str, list[Any]]
    text: str = "text"
    labels: tuple[str, ...] | None = None
    group: str | None = None
    id: str | None = None
    spans: dict[str, list[tuple[int, int] | None]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), []))


def read_file(file: Path) -> Rows:
    """The rows of a local file; one line is one text in .txt, where blank lines are no rows."""
    try:
        if file.suffix.lower() == ".parquet":
            return _parquet(file)
        data = file.read_bytes()
    except OSError as error:
        raise TransectError(f"{file} cannot be read: {error.strerror}.", "Check the path.") from error
    readers = {".jsonl": _jsonl, ".json": _json, ".csv": _csv, ".tsv": _tsv, ".txt": _txt}
    return readers[file.suffix.lower()](str(file), _decoded(str(file), data))


def read_stdin() -> Rows:
    """One text a line from standard input."""
    return _txt("standard input", _decoded("standard input", sys.stdin.buffer.read()))


def _decoded(what: str, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TransectError(f"{what} is not UTF-8 (byte {error.start}).", "Convert it to UTF-8.") from error


def _txt(_what: str, text: str) -> Rows:
    lines = [line.rstrip("\r") for line in text.split("\n")]
    return Rows({"text": [line for line in lines if line.strip()]}, labels=())


def _jsonl(what: str, text: str) -> Rows:
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except (ValueError, RecursionError) as error:
                raise TransectError(f"{what}, line {number}: not JSON ({error}).", "One object a line.") from error
            if not isinstance(rows[-1], dict):
                raise TransectError(f"{what}, line {number}: not an object.", "One object a line.")
    return _from_objects(rows)


def _json(what: str, text: str) -> Rows:
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TransectError(f"{what} is not JSON ({error}).") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise TransectError(f"{what} must hold a list of objects.", "Or use .jsonl, one object a line.")
    return _from_objects(rows)


def _from_objects(rows: list[dict[str, Any]]) -> Rows:
    names = dict.fromkeys(key for row in rows for key in row)
    return Rows({name: [row.get(name) for row in rows] for name in names})


def _csv(what: str, text: str, delimiter: str = ",") -> Rows:
    csv.field_size_limit(2**31 - 1)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        header = next(reader, [])
        rows = [row for row in reader if row]
    except csv.Error as error:
        raise TransectError(f"{what}, line {reader.line_num}: {error}.", "Quote fields with line breaks.") from error
    for number, row in enumerate(rows, 1):
        if len(row) != len(header):
            raise TransectError(f"{what}: row {number} has {len(row)} fields, the header {len(header)}.")
    columns = {name: [row[k] for row in rows] for k, name in enumerate(header)}
    return Rows({name: _numbers(values) if name not in ("text", "id") else values for name, values in columns.items()})


def _tsv(what: str, text: str) -> Rows:
    return _csv(what, text, "\t")


def _numbers(values: list[str]) -> list[Any]:
    """A column of numbers as numbers; anything else as it is."""
    for kind in (int, float):
        try:
            return [kind(value) for value in values]
        except ValueError:
            continue
    return list(values)


def _parquet(file: Path) -> Rows:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return Rows(pq.read_table(file).to_pydict())
    except pa.ArrowException as error:
        raise TransectError(f"{file} is not a readable Parquet file: {error}.") from error
