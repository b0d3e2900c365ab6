"""What the page reads: tables as columns, positions as float32 bytes, studies and stores as plain cards.

The server, the report and the notebook widget send the same things, so that one page serves all three.
Nothing is computed here; a missing number is null, and the row's `status` says why.
"""

import base64
import hashlib
import json
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from transect import __version__
from transect.models import sites
from transect.page.vocabulary import vocabulary
from transect.results.drawing import palette
from transect.results.study import Study
from transect.results.table import Table
from transect.store.store import Store

#: Distinct values of a label that can be filtered by, and texts that are told apart by one.
VALUES, LABELLED = 60, 50_000
#: Tables that travel as float32 bytes (see `pack_positions`), never as columns.
PACKED = ("positions",)


def identity(kind: str, path: str | Path) -> str:
    """A short id of a folder, as the page names it: never a path."""
    return f"{kind}-{hashlib.sha256(str(path).encode()).hexdigest()[:10]}"


def columns(table: Table) -> dict[str, Any]:
    """{rows, columns: name → numbers, lists of whole numbers, or texts as codes into values}.

    Empty columns and replicates, which are lists of other numbers, stay behind.
    """
    out: dict[str, Any] = {}
    for name in shown_columns(table.arrow):
        column = table.arrow[name]
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            coded = column.combine_chunks().dictionary_encode()
            codes = [-1 if c is None else c for c in coded.indices.to_pylist()]
            out[name] = {"codes": codes, "values": coded.dictionary.to_pylist()}
        elif pa.types.is_list(column.type):
            out[name] = {"lists": column.to_pylist()}
        else:
            out[name] = {"data": [_number(v) for v in column.to_pylist()]}
    return {"rows": len(table), "columns": out}


def shown_columns(arrow: pa.Table) -> list[str]:
    """Columns that hold something and are no replicates: of lists, those of whole numbers."""
    kept = (n for n in arrow.column_names if arrow[n].null_count < arrow.num_rows)
    kinds = {n: arrow.schema.field(n).type for n in kept}
    return [n for n, t in kinds.items() if not pa.types.is_list(t) or pa.types.is_integer(t.value_type)]


def _number(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.9g}") if math.isfinite(value) else None
    return value


def pack_positions(table: Table) -> bytes:
    """Positions of neurons: length of the header, JSON header {run, dim, sites}, then float32 [neurons,
    dim]."""
    axes = [a for a in "xyzuvw" if a in table.columns]
    points = np.stack([table.column(a) for a in axes], axis=1).astype("<f4")
    names = np.asarray(table.column("site"))
    meta, parts, at = [], [], 0
    for site in table.values("site"):
        here = np.flatnonzero(names == site)
        meta.append({"site": site, "start": at, "count": len(here)})
        parts.append(points[here])
        at += len(here)
    header = json.dumps({"run": table.values("run")[0], "dim": len(axes), "sites": meta}).encode()
    header += b" " * (-len(header) % 4)
    return struct.pack("<I", len(header)) + header + np.concatenate(parts).tobytes()


def study_card(study: Study, key: str, path: str = "") -> dict[str, Any]:
    """A study without its rows: words, figures, names of its tables, runs, provenance."""
    tables = [
        {"name": n, "rows": len(t), "columns": shown_columns(t.arrow), "packed": n in PACKED}
        for n, t in study.tables.items()
    ]
    figures = [
        {
            "name": f.name,
            "kind": f.kind,
            "table": f.table,
            "title": f.title,
            "caption": f.caption,
            "options": f.options,
        }
        for f in study.figures
    ]
    origin = {k: v for k, v in study.provenance.items() if k != "runs"}
    runs = [run_card(r) for r in study.provenance.get("runs", [])]
    return {
        "id": key,
        "path": path,
        "name": study.name,
        "question": study.question,
        "findings": study.findings,
        "warnings": study.warnings,
        "methods": study.methods,
        "figures": figures,
        "tables": tables,
        "runs": runs,
        "colours": palette(study.figures, [r["name"] for r in runs]),
        "provenance": origin | {"transect": __version__},
    }


def run_card(manifest: dict[str, Any]) -> dict[str, Any]:
    """What the page says about one captured run."""
    model, texts = manifest.get("model", {}), manifest.get("texts", {})
    families: dict[str, dict[str, Any]] = {}
    for site, entry in manifest.get("sites", {}).items():
        here = families.setdefault(
            sites.family(site), {"sites": 0, "width": int(entry.get("width", 0)), "layers": []}
        )
        here["sites"] += 1
        here["layers"] += [] if (at := sites.layer(site)) is None else [at]
    return {
        "name": model.get("name", "?"),
        "spec": model.get("spec", ""),
        "kind": model.get("kind", ""),
        "weights": str(model.get("fingerprint", {}).get("weights", ""))[:12],
        "texts": texts.get("spec", ""),
        "count": texts.get("count"),
        "fingerprint": manifest.get("fingerprint", ""),
        "tokens_hash": str(manifest.get("tokens_hash", ""))[:12],
        "dtype": manifest.get("dtype", {}).get("compute", ""),
        "created": manifest.get("created", ""),
        "origin": manifest.get("origin", {}),
        "families": families,
        "control": _control(manifest),
    }


def _control(manifest: dict[str, Any]) -> str:
    """What makes a run a control: random weights, shuffled tokens; empty where it is none."""
    source = manifest.get("model", {}).get("fingerprint", {}).get("source") or {}
    formats = ["random weights"] if source.get("format") == "random" else []
    formats += ["shuffled tokens"] if manifest.get("shuffle_tokens") is not None else []
    return ", ".join(formats)


def store_card(store: Store, key: str, path: str = "") -> dict[str, Any]:
    """A store: its run, what it holds, how big it is, and what is missing."""
    size = sum(f.stat().st_size for f in store.path.rglob("*") if f.is_file())
    problems = (
        [f"{len(store.unfinished)} of {len(store.plan)} shards are not captured"] if store.unfinished else []
    )
    card = run_card(store.manifest) | {"id": key, "path": path, "texts_held": len(store), "bytes": size}
    card |= {"rows": int(store.start[-1]), "labels": list(store.labels), "landmarks": store.landmarks}
    return card | {"problems": problems, "pooled": bool(store.manifest["pool"]), "sites": store.sites}


def few_labels(store: Store) -> dict[str, Any]:
    """Label → codes of texts into its values, for labels of few values."""
    labels: dict[str, Any] = {}
    for name, column in store.labels.items() if len(store) <= LABELLED else ():
        words = [word(v) for v in column]
        values = sorted(set(words), key=lambda w: (len(w), w))
        if len(values) <= VALUES:
            at = {w: k for k, w in enumerate(values)}
            labels[name] = {"values": values, "codes": [at[w] for w in words]}
    return labels


def word(value: Any) -> str:
    """A label's value as the page writes it."""
    return "" if value is None else str(value)


def inlined(studies: list[Study], budget: int) -> tuple[dict[str, Any], list[str]]:
    """Studies with as many of their tables as fit into `budget` bytes, smallest first; and what was left
    out."""
    cards, tables, positions, left = [], {}, {}, []
    sizes: list[tuple[int, str, str, Any]] = []
    for k, study in enumerate(studies):
        key = identity(study.name, f"{k}")
        cards.append(study_card(study, key))
        for name, table in study.tables.items():
            if name in PACKED and len(table):
                encoded: Any = base64.b64encode(pack_positions(table)).decode()
                sizes.append((len(encoded), key, name, encoded))
            else:
                encoded = columns(table)
                sizes.append((len(json.dumps(encoded)), key, name, encoded))
    for size, key, name, encoded in sorted(sizes, key=lambda s: s[0]):
        card = next(c for c in cards if c["id"] == key)
        if size > budget:
            left.append(f"{name} of {card['name']} ({size / 1e6:.1f} MB)")
            continue
        budget -= size
        (positions if name in PACKED else tables).setdefault(key, {})[name] = encoded
    catalog = {
        "version": __version__,
        "root": "",
        "studies": cards,
        "stores": [],
        "problems": [],
        "models": [],
    }
    catalog |= {"estimates": [], "left_out": left, "words": vocabulary()}
    return {"catalog": catalog, "tables": tables, "positions": positions}, left
