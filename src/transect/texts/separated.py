"""CSV and TSV, strictly: what a spreadsheet or `csv.writer` writes (RFC 4180), or a message with the line.

A field that begins with a quote ends with one; quotes inside it are doubled, separators and line breaks are
part of it. Quotes inside a field that does not begin with one are text. TSV is the same with tabs: there is
no other escape. Lines end with LF, CRLF, or CR where there is no LF. An empty field is missing (None).

A column is numeric when every field that is not empty is a plain number: digits with an optional minus,
without leading zeros, with an optional fraction and exponent, the exponent with its sign as programs write it
(1e-05). Codes such as 00501, 1_000, 12e5, nan and inf stay strings, and so does a column with a number beyond
64 bits.
"""

import csv
import io
import re
from typing import Any

from transect.errors import TransectError

WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,18})")
DECIMAL = re.compile(r"-?((0|[1-9][0-9]*)(\.[0-9]+)?|\.[0-9]+)([eE][+-][0-9]{1,3})?")
#: Columns that are never numbers.
WORDS = ("text", "id")


def lines(text: str) -> list[str]:
    """Lines that end with LF or CRLF, or with CR where there is no LF."""
    if "\n" not in text:
        return text.split("\r")
    return [line.rstrip("\r") for line in text.split("\n")]


def separated(what: str, text: str, delimiter: str) -> dict[str, list[Any]]:
    """Columns of a CSV (",") or TSV (tab) file by the names in its first line.

    Raises: TransectError with the line of an open quote, a repeated name, or a row of another length.
    """
    header, *rows = _records(what, text, delimiter) or [(1, [])]
    names = header[1]
    if twice := [name for name in names if names.count(name) > 1]:
        raise TransectError(
            f"{what}, line 1: the column {twice[0]!r:.80} stands there twice.", "Rename one of them."
        )
    for line, row in rows:
        if len(row) != len(names):
            raise TransectError(
                f"{what}, line {line}: {len(row)} fields, the header has {len(names)}.",
                "Quote fields that hold separators or line breaks.",
            )
    columns = {name: [row[k] or None for _, row in rows] for k, name in enumerate(names)}
    return {name: values if name in WORDS else numbers(values) for name, values in columns.items()}


def _records(what: str, text: str, delimiter: str) -> list[tuple[int, list[str]]]:
    """(first line, fields) of every record that is not an empty line."""
    csv.field_size_limit(2**31 - 1)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    records: list[tuple[int, list[str]]] = []
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return records
        except csv.Error as error:
            said = str(error)
            known = {
                "end of data": "a quote is never closed",
                "expected after": "text behind a closing quote",
            }
            why = next((short for mark, short in known.items() if mark in said), said)
            raise TransectError(
                f"{what}, line {line}: {why}.", "Close the quote; double quotes inside a quoted field."
            ) from error
        if fields:
            records.append((line, fields))


def numbers(values: list[str | None]) -> list[Any]:
    """Fields as int or float where all are plain numbers (None stays None), else as they are."""
    present = [value for value in values if value is not None]
    if not present or not all(DECIMAL.fullmatch(value) for value in present):
        return list(values)
    integral = all(WHOLE.fullmatch(value) for value in present)
    typed = [None if value is None else int(value) if integral else float(value) for value in values]
    fits = all(v is None or (-(2**63) <= v < 2**63 if integral else abs(v) < float("inf")) for v in typed)
    exact = integral or not any(
        len(value.lstrip("-")) > 18 and value.lstrip("-").isdecimal() for value in present
    )
    return typed if fits and exact else list(values)
