"""Report: one self-contained HTML file from one or several studies. It opens offline and asks no server for
anything.

Everything that comes from models or texts is escaped; a Content-Security-Policy forbids requests, and every
script but that of the interactive part, which `static` leaves out. The data behind each figure is in the file
as CSV, each table once and without its draws and replicates, up to a budget; what was left out is said.
"""

import base64
import csv
import io
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pyarrow.types import is_list

from transect import __version__
from transect.errors import TransectError
from transect.files import local, write_bytes
from transect.page.explore import explore
from transect.results.drawing import render
from transect.results.study import Figure, Study
from transect.results.table import Table

#: Bytes of CSV that go into one report, all figures together.
DATA_BUDGET = 5 << 18
#: Cells that a spreadsheet would run as a formula are written as text.
FORMULA = re.compile(r"^\s*[=+\-@＝＋－＠]|^[\t\r\n]")

#: The page that every report is filled into.
PAGE = Path(__file__).with_name("report.html")


def report(
    studies: Study | str | Path | Sequence[Study | str | Path],
    out: str | Path,
    *,
    static: bool = False,
    figures: Path | None = None,
) -> Path:
    """Write one HTML file from studies, or from folders that hold one or several; returns its path.

    Figures, words and data need no script. Below them stands the app's own page over the same results, unless
    `static`. `figures`:
    where `save_all` has just put the figures of this one study; they are taken from there instead of being
    drawn again.
    """
    from jinja2 import Environment

    several: Sequence[Any] = studies if isinstance(studies, list | tuple) else [studies]
    loaded = [s for source in several for s in load_studies(source)]
    if not loaded:
        raise TransectError("no studies.", "Give at least one.")
    budget = [DATA_BUDGET]
    shown = [_section(k, study, budget, figures) for k, study in enumerate(loaded)]
    title = "Transect: " + ", ".join(dict.fromkeys(s.name for s in loaded))
    page = (
        Environment(autoescape=True)
        .from_string(PAGE.read_text(encoding="utf-8"))
        .render(title=title, version=__version__, studies=shown, page=None if static else explore(loaded))
    )
    write_bytes(Path(out), page.encode())
    return Path(out)


def load_studies(source: Study | str | Path) -> list[Study]:
    """A study, the one in a folder, or those in its folders."""
    if isinstance(source, Study):
        return [source]
    folder = local(source)
    if (folder / "study.json").exists():
        return [Study.load(folder)]
    folders = sorted(p.parent for p in folder.glob("*/study.json")) if folder.is_dir() else []
    if not folders:
        raise TransectError(
            f"{folder}: no study here.", "Run one first, for example: transect drift STORE --out DIR."
        )
    return [Study.load(p) for p in folders]


def _section(k: int, study: Study, budget: list[int], figures: Path | None) -> dict[str, Any]:
    held: dict[str, str] = {}  # table → the figure that carries it
    return {
        "id": f"{study.name}-{k}",
        "study": study,
        "figures": [_figure(study, f, budget, figures, held) for f in study.figures],
        "tables": [_table(name, table) for name, table in study.tables.items() if len(table)],
        "provenance": json.dumps(study.provenance, indent=1, default=str, ensure_ascii=False),
    }


def _figure(
    study: Study, figure: Figure, budget: list[int], figures: Path | None, held: dict[str, str]
) -> dict[str, Any]:
    table = study.tables[figure.table]
    data = b"" if figure.table in held else to_csv(table).encode()
    parts = {
        "name": figure.name,
        "title": figure.title,
        "caption": figure.caption,
        "table": figure.table,
        "rows": len(table),
    }
    fits = len(data) <= budget[0]
    budget[0] -= len(data) if fits else 0
    csv_text = base64.b64encode(data).decode() if fits else ""
    same = held.get(figure.table, "")
    if csv_text:
        held[figure.table] = figure.name
    drawn = (
        (figures / f"{figure.name}.svg").read_bytes() if figures else render(study, figure, ["svg"])["svg"]
    )
    return parts | {"svg": base64.b64encode(drawn).decode(), "csv": csv_text, "same": same}


def _table(name: str, table: Table, most: int = 60) -> dict[str, Any]:
    hidden = {"replicates", "halves", "null_draws"}
    columns = [c for c in table.columns if c not in hidden and table.arrow[c].null_count < len(table)]
    rows = [[_cell(row[c]) for c in columns] for row in list(table)[:most]]
    return {
        "name": name,
        "count": len(table),
        "shown": min(most, len(table)),
        "columns": columns,
        "rows": rows,
    }


def _cell(value: Any) -> dict[str, Any]:
    if isinstance(value, float):
        return {"number": True, "text": "" if math.isnan(value) else f"{value:.4g}"}
    return {
        "number": isinstance(value, int) and not isinstance(value, bool),
        "text": "" if value is None else str(value),
    }


def to_csv(table: Table) -> str:
    """A table as CSV, without lists and empty columns; text that a spreadsheet would take for a formula gets
    an apostrophe."""
    sink = io.StringIO()
    writer = csv.writer(sink)
    flat = [c for c in table.columns if not is_list(table.arrow.schema.field(c).type)]
    kept = [c for c in flat if table.arrow[c].null_count < len(table)]
    for cells in (kept, *([row[c] for c in kept] for row in table)):
        writer.writerow([f"'{v}" if isinstance(v, str) and FORMULA.match(v) else v for v in cells])
    return sink.getvalue()
