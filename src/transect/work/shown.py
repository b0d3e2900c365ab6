"""What a notebook shows of an object: a small HTML table, escaped, without scripts or styles of its own."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

#: Rows and columns that a notebook is shown.
MOST_ROWS, MOST_COLUMNS = 10, 12


def number(value: Any) -> str:
    """A value as a cell shows it: four digits of a number, nothing for what is not there."""
    if value is None or value != value:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def html(head: Sequence[str], rows: Iterable[Sequence[Any]], caption: str = "", more: int = 0) -> str:
    """A table as HTML.

    Args:
        head: Names of the columns.
        rows: Cells, row by row.
        caption: A sentence above it.
        more: Rows that are not shown.
    """
    top = f"<caption>{escape(caption)}</caption>" if caption else ""
    names = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(number(cell))}</td>" for cell in row) + "</tr>" for row in rows
    )
    left = f'<tr><td colspan="{len(head)}">… {more:,} more rows</td></tr>' if more > 0 else ""
    return f"<table>{top}<thead><tr>{names}</tr></thead><tbody>{body}{left}</tbody></table>"


def listed(title: str, sentences: Sequence[str]) -> str:
    """A heading and sentences below it; nothing where there are none."""
    items = "".join(f"<li>{escape(s)}</li>" for s in sentences)
    return f"<p><b>{escape(title)}</b></p><ul>{items}</ul>" if sentences else ""
