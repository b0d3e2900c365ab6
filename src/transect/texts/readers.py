"""Rows of text from local files and standard input: named columns of equal length, as they stand there.

A format enters here when its rows can be read without running anything of the file. A folder of Parquet files
is one source, in the order of the files' names. What is not plainly a file of its format is refused with the
line; how cells of CSV and TSV are read stands in `separated.py`.
"""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transect.errors import TransectError
from transect.texts.separated import lines, separated

#: Bytes of text and labels that Parquet files may unpack to: a small file can hold any number of repeats.
MOST_BYTES = 4 << 30
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
        if file.is_dir():
            return _parquet(file, sorted(file.glob("*.parquet")))
        if file.suffix.lower() == ".parquet":
            return _parquet(file, [file])
        data = file.read_bytes()
    except OSError as error:
        raise TransectError(
            f"{file} cannot be read: {error.strerror or error}.", "Check the path."
        ) from error
    readers = {".jsonl": _jsonl, ".json": _json, ".csv": _csv, ".tsv": _csv, ".txt": _txt}
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
    return Rows({"text": [line for line in lines(text) if line.strip()]}, labels=())


def _jsonl(what: str, text: str) -> Rows:
    rows = []
    for number, line in enumerate(lines(text), 1):
        if line.strip():
            rows.append(_strict(f"{what}, line {number}", line, "One object a line."))
            if not isinstance(rows[-1], dict):
                raise TransectError(f"{what}, line {number}: not an object.", "One object a line.")
    return _from_objects(rows)


def _json(what: str, text: str) -> Rows:
    rows = _strict(what, text, "Write a list of objects.")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise TransectError(f"{what} must hold a list of objects.", "Or use .jsonl, one object a line.")
    return _from_objects(rows)


def _strict(where: str, text: str, fix: str) -> Any:
    """JSON without NaN, Infinity and repeated keys."""
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise TransectError(f"{where}: not JSON ({error}).", fix) from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        names = [key for key, _ in pairs]
        raise ValueError(f"the key {next(n for n in names if names.count(n) > 1)!r:.80} stands there twice")
    return result


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number, a missing value is null")


def _from_objects(rows: list[dict[str, Any]]) -> Rows:
    names = dict.fromkeys(key for row in rows for key in row)
    return Rows({name: [row.get(name) for row in rows] for name in names})


def _csv(what: str, text: str) -> Rows:
    return Rows(separated(what, text, "\t" if what.lower().endswith(".tsv") else ","))


def _parquet(what: Path, files: list[Path]) -> Rows:
    """The rows of one or several Parquet files with the same columns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    batches, size = [], 0
    for file in files:
        try:
            with pq.ParquetFile(file) as opened:
                names = opened.schema_arrow.names
                if len(set(names)) < len(names):
                    raise TransectError(f"{file}: two columns have one name.", "Rename one of them.")
                for batch in opened.iter_batches(batch_size=4096):
                    size += batch.nbytes
                    if size > MOST_BYTES:
                        raise TransectError(
                            f"{what} unpacks to more than {MOST_BYTES >> 30} GiB.",
                            "Give fewer rows or columns.",
                        )
                    batches.append(batch)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise TransectError(f"{file} is not a readable Parquet file: {error}.") from error
    try:
        return Rows(pa.Table.from_batches(batches).to_pydict() if batches else {})
    except (pa.ArrowException, ValueError) as error:
        raise TransectError(
            f"{what}: its files have different columns ({error!s:.200}).", "Give one kind."
        ) from error
