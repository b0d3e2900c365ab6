"""Stores with planted points: written by the store's own writer, without a model."""

import hashlib
import itertools
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


def tuples_cka(X, Y, k):
    """CKA whose every product is of tokens of different texts, by loops over two, three and four texts."""

    def hsic(K, L):
        T, two, three, four = len(K) // k, 0.0, 0.0, 0.0
        block = lambda M, s, t: M[s * k : s * k + k, t * k : t * k + k]  # noqa: E731
        for s, t in itertools.permutations(range(T), 2):
            two += (block(K, s, t) * block(L, s, t)).sum() / (T * (T - 1) * k**2)
        for s, t, u in itertools.permutations(range(T), 3):
            by_token = block(K, s, t).sum(axis=1) @ block(L, s, u).sum(axis=1)
            three += by_token / (T * (T - 1) * (T - 2) * k**3)
        for s, t, u, v in itertools.permutations(range(T), 4):
            four += block(K, s, t).sum() * block(L, u, v).sum() / (T * (T - 1) * (T - 2) * (T - 3) * k**4)
        return two - 2 * three + four

    K, L = X @ X.T, Y @ Y.T
    return hsic(K, L) / np.sqrt(hsic(K, K) * hsic(L, L))
