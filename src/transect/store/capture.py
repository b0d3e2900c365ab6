"""Capture: Model × Texts → Store. Hooks write each site's real tokens straight to their place on disk;
nothing is kept.

The plan (which texts share a batch, which batches a shard) is settled before the first forward pass, so a run
that was killed resumes at its next shard and ends bit-identical. `forward` is the same pass for consumers
without a store.
"""

import copy
import functools
import shutil
import tempfile
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Unpack

from transect.errors import TransectError
from transect.files import Place, is_remote, place
from transect.models.forward import kept_positions, make_plan, shuffled
from transect.models.limits import check_fits
from transect.models.probe import probe
from transect.store.capture_shard import ShardJob, opening_of, write_shard
from transect.store.manifest import begin, make_index, make_manifest
from transect.store.options import Asked, CaptureOptions
from transect.store.recapture import in_dtype_of, model_or_refuse, same_tokens_or_refuse, stored_texts
from transect.store.shards import NUMPY, SAFETENSORS
from transect.store.store import Store, open_store
from transect.texts.texts import Texts, tokenize
from transect.work.pool import run_blocks

if TYPE_CHECKING:
    from transect.models.models import Model

Progress = Callable[[int, int], None]
#: Options that stand in the manifest: what a second capture of the same texts repeats.
TOLD = ("positions", "pool", "position0", "max_length", "shuffle_tokens", "batch_tokens", "shard_bytes")


def capture(model: "Model", texts: Texts, out: Place, **options: Unpack[CaptureOptions]) -> Store:
    """Run the base model once over the texts and keep the points of `sites`; returns the open store.

    A second call on a finished folder returns it; on an unfinished one it resumes; on another capture's
    folder it refuses.

    Args:
        model: From `open_model` or `wrap_model`.
        texts: From `open_texts`.
        out: A folder, or PROTOCOL://… that fsspec reaches.
        **options: `CaptureOptions`: sites, positions, pooling, dtype, batches, shards, workers.
    """
    o = Asked(**options)
    out = place(out)
    if o.name:
        model = copy.copy(model)
        model.name = o.name
    tokenized = tokenize(texts, model.tokenizer, o.max_length)
    texts = texts.subset(tokenized.kept)
    if o.shuffle_tokens is not None:
        tokenized = shuffled(tokenized, o.shuffle_tokens)
    check_fits(model, tokenized.ids, texts.ids)
    kept = kept_positions(tokenized, o.positions)
    first = probe(model, tokenized, o.sites, o.layers, o.batch_tokens)
    dtype = o.store_dtype or str(model.dtype).removeprefix("torch.")
    if dtype not in SAFETENSORS:
        raise TransectError(f"store dtype {dtype!r} is not one of {', '.join(SAFETENSORS)}.")
    rows = [1 if o.pool else len(k) for k in kept]
    item = NUMPY[SAFETENSORS[dtype]].itemsize
    row_bytes = item * sum(first.widths.values())
    lengths = [len(t) for t in tokenized.ids]
    budget = 0 if first.apart else o.batch_tokens  # 0: one text a pass
    plan = make_plan(lengths, rows, budget, max(1, o.shard_bytes // row_bytes))
    record = {name: getattr(o, name) for name in TOLD}
    manifest = make_manifest(model, texts, tokenized, first, dtype, plan, record)
    begin(out, manifest, plan, make_index(texts, tokenized, kept, rows, plan, o.positions, o.pool))
    store = open_store(out)
    store.check_receipts()
    mine = [k for k in store.unfinished if k % o.shard[1] == o.shard[0] - 1]
    count = [sum(rows[i] for batch in shard_ for i in batch) for shard_ in plan]
    need = [count[k] * row_bytes for k in mine]
    _check_space(out, max(need, default=0) * o.workers if is_remote(out) else sum(need))
    done = sum(rows) - sum(count[k] for k in mine)
    if o.engine == "local" and o.workers == 1:
        job = ShardJob(model, first.taps, first.widths, tokenized.ids, kept, manifest)
        for k in mine:
            done = job.write(store, k, done, sum(rows), o.progress)
        return open_store(out)
    blocks = [(str(out), k) for k in mine]
    there = run_blocks(
        functools.partial(write_shard, opening_of(model)), blocks, engine=o.engine, workers=o.workers,
        gpus_per_worker=o.gpus_per_worker,
    )  # fmt: skip
    for (_, k), _receipt in there:
        done += count[k]
        if o.progress:
            o.progress(done, sum(rows))
    return open_store(out)


def recapture(
    store: Store, model: "Model", out: Place, *, progress: Progress | None = None, **changes: Any
) -> Store:
    """Capture the texts of a store again, with its options, through another model or with `changes` to the
    options.

    The tokens are the store's own (`shuffle_tokens` puts them in another order), the dtypes are the store's
    too. Raises: TransectError when this model's tokenizer gives other tokens.
    """
    model_or_refuse(store, "another capture")
    m, texts = store.manifest, stored_texts(store)
    kept: dict[str, Any] = {name: m.get(name) for name in TOLD}
    if changes.get("max_length", kept["max_length"]) != kept["max_length"]:
        raise TransectError("a recapture keeps the store's max_length.", "Capture the texts again instead.")
    model = in_dtype_of(store, model)
    tokenized = tokenize(texts, model.tokenizer, kept["max_length"])
    if kept["shuffle_tokens"] is not None:
        tokenized = shuffled(tokenized, kept["shuffle_tokens"])
    same_tokens_or_refuse(store, tokenized)
    kept |= {"sites": store.sites, "store_dtype": m["dtype"]["store"]}
    return capture(model, texts, out, progress=progress, **(kept | changes))


def _check_space(out: Place, need: int) -> None:
    free = shutil.disk_usage(tempfile.gettempdir() if is_remote(out) else out).free
    if need > free:
        raise TransectError(
            f"{out}: the capture needs {need / 1e9:.2f} GB, {free / 1e9:.2f} GB are free.",
            "Capture fewer sites or layers (--sites, --layers), pool (--pool mean), "
            "or store half (--store-dtype bfloat16).",
        )
