"""Report: one self-contained HTML file from one or several studies. It opens offline and asks no server for anything.

Everything that comes from models or texts is escaped; a Content-Security-Policy forbids requests, and every script but
that of the interactive part, which `static` leaves out. The data behind each figure is in the file as CSV, up to a
budget; what was left out is said.
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

from transect import __version__
from transect.errors import TransectError
from transect.files import write_bytes
from transect.page.explore import explore
from transect.results.drawing import render
from transect.results.study import Figure, Study
from transect.results.table import Table

#: Bytes of CSV that go into one report, all figures together.
DATA_BUDGET = 4 << 20
#: Cells that a spreadsheet would run as a formula are written as text.
FORMULA = re.compile(r"^\s*[=+\-@＝＋－＠]|^[\t\r\n]")

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:{% if page %} blob:; script-src 'sha256-{{ page.hash }}'{% endif %}; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
:root { color-scheme: light dark; --ink: #1a1a1a; --quiet: #5d6470; --line: #d9dce1; --paper: #fff; --card: #f7f8fa; --accent: #0b63a5; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --quiet: #a3abb8; --line: #3a3f47; --paper: #16181c; --card: #1f2228; --accent: #7cb8ee; } }
body { font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 0 auto; max-width: 62rem; padding: 2rem 1.25rem 5rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; } h2 { font-size: 1.25rem; margin: 2.6rem 0 .6rem; border-bottom: 1px solid var(--line); padding-bottom: .3rem; }
h3 { font-size: 1.02rem; margin: 1.6rem 0 .4rem; } a { color: var(--accent); } .quiet { color: var(--quiet); font-size: .88rem; }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1rem; margin: 1rem 0; } figure { margin: 1.4rem 0 2rem; }
figure img { display: block; width: 100%; background: #fff; border: 1px solid var(--line); border-radius: 4px; box-sizing: border-box; padding: .6rem; }
figcaption { font-size: .88rem; color: var(--quiet); margin-top: .5rem; } figcaption b { color: var(--ink); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .82rem; font-variant-numeric: tabular-nums; margin: .5rem 0; }
th, td { text-align: left; padding: .25rem .7rem .25rem 0; border-bottom: 1px solid var(--line); white-space: nowrap; } td.n { text-align: right; }
ul.findings li { margin: .35rem 0; } .warn { background: var(--card); border-left: 3px solid #d55e00; padding: .5rem .9rem; margin: 1rem 0; font-size: .92rem; }
details { margin: .4rem 0; } summary { cursor: pointer; color: var(--accent); font-size: .88rem; } pre { background: var(--card); padding: .7rem; overflow-x: auto; font-size: .78rem; }
@media print { details { display: none; } body { max-width: none; } }
</style>{% if page %}<style>{{ page.style|safe }}
body { max-width: none; } body > :not(#explore) { max-width: 62rem; margin-left: auto; margin-right: auto; } #explore { margin: 1.5rem auto; max-width: 1680px; }</style>{% endif %}</head><body>
<h1>{{ title }}</h1>
<p class="quiet">Transect {{ version }} · every number stands with its null, its interval and its origin.</p>
<nav>{% for s in studies %}<a href="#{{ s.id }}">{{ s.study.name }}</a>{% endfor %}<a href="#provenance">provenance</a>{% if page %}<a href="#explore">explore</a>{% endif %}</nav>
{% for s in studies %}
<section id="{{ s.id }}">
<h2>{{ s.study.question }}</h2>
{% if s.study.findings %}<ul class="findings">{% for f in s.study.findings %}<li>{{ f }}</li>{% endfor %}</ul>{% endif %}
{% for w in s.study.warnings %}<p class="warn">{{ w }}</p>{% endfor %}
{% for f in s.figures %}
<figure id="{{ s.id }}-{{ f.name }}"><img alt="{{ f.title }}" src="data:image/svg+xml;base64,{{ f.svg }}">
<figcaption><b>{{ f.title }}.</b> {{ f.caption }}
{% if f.csv %} <a download="{{ f.name }}.csv" href="data:text/csv;base64,{{ f.csv }}">Data behind this figure (CSV, {{ f.rows }} rows)</a>{% else %} Data behind this figure: {{ f.table }}.parquet ({{ f.rows }} rows; left out of this file to keep it small).{% endif %}</figcaption></figure>
{% endfor %}
{% for t in s.tables %}
<details><summary>Table {{ t.name }}: {{ t.count }} rows{% if t.shown < t.count %}, the first {{ t.shown }} shown{% endif %}</summary><div class="scroll"><table><thead><tr>{% for c in t.columns %}<th>{{ c }}</th>{% endfor %}</tr></thead><tbody>
{% for row in t.rows %}<tr>{% for cell in row %}<td{% if cell.number %} class="n"{% endif %}>{{ cell.text }}</td>{% endfor %}</tr>{% endfor %}
</tbody></table></div></details>
{% endfor %}
<h3>Methods</h3>{% for m in s.study.methods %}<p>{{ m }}</p>{% endfor %}
</section>
{% endfor %}
<section id="provenance"><h2>Provenance</h2>
{% for s in studies %}<details><summary>{{ s.study.name }}: models, texts, versions, seeds</summary><pre>{{ s.provenance }}</pre></details>{% endfor %}
</section>
{% if page %}<section id="explore"><h2>Explore</h2><p class="quiet">The same results to look through: press ? inside for the keyboard. Nothing is asked of any server.{% if page.left %} Left out of this file: {{ page.left|join(", ") }}.{% endif %}</p>
<noscript><p class="warn">This part draws with JavaScript; everything above needs none.</p></noscript>
<div id="transect"></div></section>
<script type="application/json" id="transect-data">{{ page.data|safe }}</script>
<script type="module">{{ page.script|safe }}</script>{% endif %}
</body></html>
"""


def report(
    studies: Study | str | Path | Sequence[Study | str | Path],
    out: str | Path,
    *,
    static: bool = False,
    figures: Path | None = None,
) -> Path:
    """Write one HTML file from studies, or from folders that hold one or several; returns its path.

    Figures, words and data need no script. Below them stands the app's own page over the same results, unless `static`. `figures`:
    where `save_all` has just put the figures of this one study; they are taken from there instead of being drawn again.
    """
    from jinja2 import Environment

    several: Sequence[Any] = studies if isinstance(studies, list | tuple) else [studies]
    loaded = [s for given in several for s in load_studies(given)]
    budget = [DATA_BUDGET]
    shown = [_section(k, study, budget, figures) for k, study in enumerate(loaded)]
    title = "Transect: " + ", ".join(dict.fromkeys(s.name for s in loaded))
    page = (
        Environment(autoescape=True)
        .from_string(PAGE)
        .render(title=title, version=__version__, studies=shown, page=None if static else explore(loaded))
    )
    write_bytes(Path(out), page.encode())
    return Path(out)


def load_studies(given: Study | str | Path) -> list[Study]:
    """A study, the one in a folder, or those in its folders."""
    if isinstance(given, Study):
        return [given]
    folder = Path(given)
    if (folder / "study.json").exists():
        return [Study.load(folder)]
    found = sorted(p.parent for p in folder.glob("*/study.json")) if folder.is_dir() else []
    if not found:
        raise TransectError(
            f"{folder}: no study here.", "Run one first, for example: transect drift STORE --out DIR."
        )
    return [Study.load(p) for p in found]


def _section(k: int, study: Study, budget: list[int], figures: Path | None) -> dict[str, Any]:
    return {
        "id": f"{study.name}-{k}",
        "study": study,
        "figures": [_figure(study, f, budget, figures) for f in study.figures],
        "tables": [_table(name, table) for name, table in study.tables.items() if len(table)],
        "provenance": json.dumps(study.provenance, indent=1, default=str, ensure_ascii=False),
    }


def _figure(study: Study, figure: Figure, budget: list[int], figures: Path | None) -> dict[str, Any]:
    table = study.tables[figure.table]
    data = to_csv(table).encode()
    told = {
        "name": figure.name,
        "title": figure.title,
        "caption": figure.caption,
        "table": figure.table,
        "rows": len(table),
    }
    fits = len(data) <= budget[0]
    budget[0] -= len(data) if fits else 0
    csv_text = base64.b64encode(data).decode() if fits else ""
    drawn = (
        (figures / f"{figure.name}.svg").read_bytes() if figures else render(study, figure, ["svg"])["svg"]
    )
    return told | {"svg": base64.b64encode(drawn).decode(), "csv": csv_text}


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
    """A table as CSV; text that a spreadsheet would take for a formula gets an apostrophe."""
    sink = io.StringIO()
    writer = csv.writer(sink)
    for row in (dict(zip(table.columns, table.columns, strict=True)), *table):
        writer.writerow([f"'{v}" if isinstance(v, str) and FORMULA.match(v) else v for v in row.values()])
    return sink.getvalue()
