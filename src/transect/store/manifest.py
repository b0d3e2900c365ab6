"""What stands around the shards of a store: its manifest, plan and index, written before the first forward
pass.

A folder that holds the same capture is gone on with; one that holds another is refused and left as it is.
"""

import hashlib
import json
import platform
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from transect import __version__
from transect.errors import TransectError
from transect.files import Place, is_remote, make_folder, read_json, write_bytes, write_json, writing
from transect.models.probe import Probe
from transect.models.readings import ATTENTION
from transect.store.store import FORMAT
from transect.texts.texts import Texts, Tokenized
from transect.work.folders import ELSEWHERE, check_kind, clear_partials, locked

if TYPE_CHECKING:
    from transect.models.models import Model


def make_manifest(
    model: "Model", texts: Texts, tokenized: Tokenized, probe: Probe, dtype: str, plan: list, options: dict
) -> dict[str, Any]:
    import torch
    import transformers

    identity = {
        "model": {
            "name": model.name,
            "spec": model.spec,
            "kind": model.kind,
            "fingerprint": model.fingerprint,
            "heads": _heads(model),
        },
        "texts": {
            "name": texts.name,
            "spec": texts.spec,
            "fingerprint": texts.fingerprint,
            "count": len(texts),
            "chat": texts.chat,
        },
        "tokens_hash": tokens_hash(tokenized),
        "sites": {site: {"width": width} for site, width in probe.widths.items()},
        "dtype": {"compute": str(model.dtype).removeprefix("torch."), "store": dtype},
        "attention": "eager"
        if any(tap.reads in ATTENTION for tap in probe.taps)
        else getattr(model.base.config, "_attn_implementation", None),
        "plan_hash": hashlib.sha256(json.dumps(plan).encode()).hexdigest(),
        **options,
    }
    origin = {"transect": __version__, "torch": torch.__version__, "transformers": transformers.__version__}
    origin |= {
        "python": platform.python_version(),
        "device": str(model.device),
        "threads": torch.get_num_threads(),
    }
    state = {
        "additive_error": probe.additive,
        "texts_apart": probe.apart,
        "opening": model.opening,
        "notes": [*model.notes, *texts.notes, *tokenized.notes],
        "origin": origin,
    }
    return identified(identity, state)


def identified(identity: dict[str, Any], state: dict[str, Any]) -> dict[str, Any]:
    """A manifest: what was captured, whose hash is its fingerprint, and the circumstances, which do not
    count."""
    fingerprint = hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()[:16]
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {"format": FORMAT, "fingerprint": fingerprint, **identity, **state, "created": created}


def tokens_hash(tokenized: Tokenized) -> str:
    """sha256 of every text's token ids, in order."""
    return hashlib.sha256(json.dumps(tokenized.ids).encode()).hexdigest()


def _heads(model: "Model") -> int | None:
    """Attention heads, where the configuration says."""
    config = model.base.config.get_text_config()
    return next(
        (v for n in ("num_attention_heads", "n_head", "num_heads") if (v := getattr(config, n, None))), None
    )


def begin(out: Place, manifest: dict[str, Any], plan: list, index: Any) -> None:
    """Lay out the folder, or make sure that what lies there is this very capture; one process at a time does.

    The manifest comes last: a folder without one was only begun, and is begun again.
    """
    if _is_this(out, manifest):
        return
    _check_empty(out)
    with locked(
        out / ".begin.lock", f"{out}: another process has been laying it out for minutes.", wait=600.0
    ):
        if _is_this(out, manifest):
            return
        _check_empty(out)
        import pyarrow as pa
        import pyarrow.parquet as pq

        if not is_remote(out):
            clear_partials(out)
        sink = pa.BufferOutputStream()
        pq.write_table(index, sink, compression="zstd", write_page_checksum=True)
        data = sink.getvalue().to_pybytes()
        with writing(out):
            make_folder(out / "shards")
        write_bytes(out / "texts.parquet", data)
        write_json(out / "plan.json", plan)
        write_json(out / "manifest.json", manifest | {"index_sha256": hashlib.sha256(data).hexdigest()})


def is_begun(out: Place) -> bool:
    """Whether a store lies in `out`, of whatever capture. Raises: TransectError when something else does."""
    with writing(out):
        if (out / "manifest.json").exists():
            return True
    _check_empty(out)
    return False


def _is_this(out: Place, manifest: dict[str, Any]) -> bool:
    """Whether `out` holds this capture, finished or not; TransectError when it holds another."""
    with writing(out):  # a folder that may not be looked into is not there to be written either
        if not (out / "manifest.json").exists():
            return False
    old = read_json(out / "manifest.json", "store", "Capture into another folder.")
    if old.get("fingerprint") != manifest["fingerprint"]:
        raise TransectError(
            f"{out} holds another capture: {_difference(old, manifest)}; nothing was changed.", ELSEWHERE
        )
    return True


def _check_empty(out: Place) -> None:
    """TransectError when `out` holds anything but what a capture leaves that was stopped as it began."""
    left, why = ("texts.parquet", "plan.json", "shards", "manifest.json"), ""
    if not out.exists():
        return
    if not is_remote(out) and not out.is_dir():
        raise TransectError(f"{out} is no folder.", "Choose another --out; nothing was changed.")
    if any(p.name not in left and not p.name.startswith((".", "capture-")) for p in out.iterdir()):
        why = "is not empty and is no store"
    elif (out / "shards").exists():
        files = list((out / "shards").iterdir())
        why = (
            "holds shards and no manifest"
            if any(p.suffix in (".json", ".safetensors") for p in files)
            else ""
        )
    if why and not (out / "manifest.json").exists():  # another process may have laid it out meanwhile
        check_kind(out, "store")
        raise TransectError(f"{out} {why}.", "Choose another --out; nothing was changed.")


def _difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    for key in ("model", "texts", "sites", "dtype", *new):
        if old.get(key) != new.get(key):
            if key in ("model", "texts"):
                return f"{key} {old[key]['spec']}, asked {new[key]['spec']}" + (
                    " (same name, other content)" if old[key]["spec"] == new[key]["spec"] else ""
                )
            if key == "sites":
                return f"{len(old[key])} sites, asked {len(new[key])}"
            return f"{key} {old.get(key)}, asked {new.get(key)}"
    return "other options"


def make_index(
    texts: Texts,
    tokenized: Tokenized,
    kept: list[np.ndarray],
    rows: list[int],
    plan: list,
    positions: str,
    pool: str | None,
) -> Any:
    import pyarrow as pa

    shard, row = np.zeros(len(texts), np.int64), np.zeros(len(texts), np.int64)
    for k, batches in enumerate(plan):
        begin = 0
        for i in (i for batch in batches for i in batch):
            shard[i], row[i] = k, begin
            begin += rows[i]
    every = positions == "all" and not pool
    columns: dict[str, Any] = {
        "id": texts.ids,
        "hash": texts.hashes,
        "text": texts.texts,
        "shard": shard,
        "row": row,
        "rows": rows,
        "length": [len(t) for t in tokenized.ids],
        "tokens": pa.array(tokenized.ids, pa.list_(pa.int32())),
        "pieces": tokenized.pieces
        or [
            [text[a:b] for a, b in spans]
            for text, spans in zip(tokenized.texts, tokenized.offsets, strict=True)
        ],
        "offsets": pa.array(
            [[x for span in spans for x in span] for spans in tokenized.offsets], pa.list_(pa.int32())
        ),
        "special": tokenized.special,
        "positions": pa.array(
            [None if every else [-1] if pool else k.tolist() for k in kept], pa.list_(pa.int32())
        ),
    }
    columns |= {f"label:{name}": values for name, values in texts.labels.items()}
    if texts.messages is not None:
        columns["messages"] = [json.dumps(conversation) for conversation in texts.messages]
    if texts.groups is not None:
        columns["group"] = texts.groups
    columns |= {
        f"span:{name}": pa.array(spans, pa.list_(pa.int32())) for name, spans in texts.landmarks.items()
    }
    columns |= {f"landmark:{name}": pa.array(at, pa.int32()) for name, at in tokenized.landmarks.items()}
    return pa.table(columns)
