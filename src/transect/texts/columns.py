"""Columns of a source as texts, ids and labels: which is what, what is left out, what cannot be stored."""

from pathlib import Path
from typing import Any

from transect.errors import TransectError
from transect.texts.readers import FILES, Rows

#: Share of rows that may have no text, or too short a one, before the source is refused.
MOST_LEFT_OUT = 1 / 20
PLAIN = (str, int, float, bool, type(None))


def stem_of(name: str) -> str:
    """A source's short name: a file's without its ending."""
    return Path(name).stem if Path(name).suffix.lower() in FILES else name


def ids_of(rows: Rows, stem: str) -> list[str]:
    """The source's own ids where every row has one of its own, else `stem` and row number."""
    ids = [
        str(value) if isinstance(value, str | int | float) else ""
        for value in rows.columns.get(rows.id or "id", [])
    ]
    unique = ids and all(ids) and len(set(ids)) == len(ids)
    if unique:
        whole_characters("the column of ids", ids)
    return ids if unique else [f"{stem}-{i:06d}" for i in range(len(rows))]


def text_column(rows: Rows, name: str, column: str | None) -> tuple[str, list[Any] | None, list[Any]]:
    """(column, conversations or None, texts)."""
    asked = column or rows.text
    if column is None and asked not in rows.columns and "messages" in rows.columns:
        asked = "messages"
    if asked not in rows.columns:
        raise TransectError(f"{name}: no column {asked!r}.", f"Columns: {', '.join(rows.columns) or 'none'}.")
    values = rows.columns[asked]
    if values and all(isinstance(v, list) and v and all(_is_message(m) for m in v) for v in values):
        return asked, values, ["\n".join(m["content"] for m in v) for v in values]
    return asked, None, values


def _is_message(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("role"), str)
        and isinstance(value.get("content"), str)
    )


def present_rows(values: list[Any], name: str, strict: bool) -> tuple[list[int], list[str]]:
    """(rows with a text, notes). Rows without one are left out while they are at most one in twenty."""
    for row, value in enumerate(values):
        if value is not None and not isinstance(value, str):
            raise TransectError(
                f"{name}: row {row + 1} of the text column holds {type(value).__name__}, not text.",
                "Choose --column.",
            )
        if value and not _encodable(value):
            raise TransectError(
                f"{name}: row {row + 1} holds half a character (a lone surrogate).", "Repair the file."
            )
    empty = [row for row, value in enumerate(values) if not (value or "").strip()]
    if len(empty) > (0 if strict else len(values) * MOST_LEFT_OUT):
        raise TransectError(
            f"{name}: {len(empty)} of {len(values)} rows have no text (first: row {empty[0] + 1}).",
            "Choose --column, or remove those rows.",
        )
    gone = set(empty)
    notes = [f"{len(empty)} rows without text left out"] if empty else []
    return [i for i in range(len(values)) if i not in gone], notes


def label_columns(rows: Rows, column: str, label: str | None, name: str) -> dict[str, list[Any]]:
    """Label columns: those asked, those the source is known for, or every other column of plain values."""
    if label is None and rows.labels is not None:
        return {key: rows.columns[key] for key in rows.labels}
    others = {k: v for k, v in rows.columns.items() if k not in (column, rows.id or "id")}
    if label is not None:
        return only(others, label, name)
    return {k: v for k, v in others.items() if all(isinstance(x, PLAIN) for x in v)}


def only(columns: dict[str, list[Any]], label: str | None, name: str) -> dict[str, list[Any]]:
    """The columns that `label` names, separated by commas; all without it."""
    if label is None:
        return columns
    wanted = [part.strip() for part in label.split(",") if part.strip()]
    if missing := [part for part in wanted if part not in columns]:
        raise TransectError(
            f"{name}: no label {missing[0]!r}.", f"There are: {', '.join(columns) or 'none'}."
        )
    for part in wanted:
        if odd := [v for v in columns[part] if not isinstance(v, PLAIN)]:
            what = f"{type(odd[0]).__name__} ({odd[0]!r:.60})"
            raise TransectError(f"{name}: label {part!r} holds {what}.", "A label is a number or a string.")
    return {part: columns[part] for part in wanted}


def typed(values: list[Any], name: str = "label") -> list[Any]:
    """One type a column: numbers stay numbers, a mixture and whole numbers beyond 64 bits become strings."""
    kinds = {type(v) for v in values if v is not None}
    large = any(isinstance(v, int) and not -(2**63) <= v < 2**63 for v in values)
    if kinds <= {int, float, bool} and not large:
        return values if len(kinds) <= 1 else [None if v is None else float(v) for v in values]
    strings = [None if v is None else str(v) for v in values]
    whole_characters(f"label {name!r:.80}", [name, *(v for v in strings if v)])
    return strings


def whole_characters(what: str, values: list[str]) -> None:
    """TransectError where a string holds half a character."""
    if not all(_encodable(value) for value in values):
        raise TransectError(f"{what} holds half a character (a lone surrogate).", "Repair the file.")


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
