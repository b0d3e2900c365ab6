"""Stores with planted points: written by the store's own writer, without a model."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import transect as ts
from transect.files import file_hash, write_json
from transect.store.shards import ShardWriter


def planted_store(
    out: Path,
    layers: list[np.ndarray],
    lengths: list[int],
    *,
    name: str = "planted",
    token: int = 5,
    labels: dict[str, list] | None = None,
    landmarks: dict[str, list[int]] | None = None,
    sites: list[str] | None = None,
) -> ts.Store:
    """A store of one shard: `layers[k]` [rows, d] are the points of resid.k (or of `sites[k]`), texts of
    `lengths` tokens."""
    rows, count = sum(lengths), len(lengths)
    sites = sites or [f"resid.{k}" for k in range(len(layers))]
    widths = {s: X.shape[1] for s, X in zip(sites, layers, strict=True)}
    plan = [[list(range(count))]]
    tokens = [[token] * n for n in lengths]
    columns = {
        "id": [f"t{i}" for i in range(count)],
        "hash": [f"{i:064d}" for i in range(count)],
        "text": ["a" * n for n in lengths],
        "shard": [0] * count,
        "row": np.concatenate([[0], np.cumsum(lengths)[:-1]]),
        "rows": lengths,
        "length": lengths,
        "tokens": pa.array(tokens, pa.list_(pa.int32())),
        "pieces": [["a"] * n for n in lengths],
        "offsets": pa.array(
            [[x for k in range(n) for x in (k, k + 1)] for n in lengths], pa.list_(pa.int32())
        ),
        "special": [[False] * n for n in lengths],
        "positions": pa.array([None] * count, pa.list_(pa.int32())),
        "label:odd": [i % 2 for i in range(count)],
    }
    columns |= {f"label:{k}": v for k, v in (labels or {}).items()}
    columns |= {f"landmark:{k}": pa.array(v, pa.int32()) for k, v in (landmarks or {}).items()}
    out.mkdir(parents=True)
    pq.write_table(pa.table(columns), out / "texts.parquet")
    write_json(out / "plan.json", plan)
    fingerprint = f"{abs(hash(json.dumps([name, tokens, [float(X.sum()) for X in layers]]))):016x}"
    write_json(
        out / "manifest.json",
        {
            "format": 1,
            "fingerprint": fingerprint,
            "model": {"name": name, "spec": name, "kind": "decoder", "fingerprint": {"weights": "0" * 64}},
            "texts": {"name": "planted", "spec": "planted", "fingerprint": "0", "count": count},
            "tokens_hash": str(token),
            "plan_hash": hashlib.sha256(json.dumps(plan).encode()).hexdigest(),
            "sites": {s: {"width": w} for s, w in widths.items()},
            "dtype": {"compute": "float32", "store": "float32"},
            "attention": None,
            "positions": "all",
            "pool": None,
            "max_length": None,
            "additive_error": None,
            "origin": {},
            "created": "",
            "index_sha256": file_hash(out / "texts.parquet"),
        },
    )
    writer = ShardWriter(out / "shards" / "00000.safetensors", widths, rows, "float32")
    for site, X in zip(sites, layers, strict=True):
        assert len(X) == rows
        writer.put(site, 0, np.ascontiguousarray(X, np.float32).data.cast("B"))
    writer.finish(
        {
            "capture": fingerprint,
            "rows": rows,
            "max_abs": {s: float(np.abs(X).max()) for s, X in zip(sites, layers, strict=True)},
        }
    )
    return ts.open_store(out)
