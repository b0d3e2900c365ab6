"""Capture: Model × Texts → Store. Hooks write each site's real tokens straight to their place on disk;
nothing is kept.

The plan (which texts share a batch, which batches a shard) is settled before the first forward pass, so a run
that was killed resumes at its next shard and ends bit-identical. `forward` is the same pass for consumers
without a store.
"""

import functools
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from transect.errors import TransectError
from transect.files import Place, is_remote, place
from transect.models.forward import kept_positions, make_plan, shuffled
from transect.models.limits import check_fits
from transect.models.probe import probe
from transect.store.capture_shard import ShardJob, opening_of, write_shard
from transect.store.manifest import begin, make_index, make_manifest
from transect.store.recapture import in_dtype_of, same_tokens_or_refuse, stored_texts
from transect.store.shards import NUMPY, SAFETENSORS
from transect.store.store import Store, open_store
from transect.texts.texts import Texts, tokenize
from transect.work.pool import run_blocks

if TYPE_CHECKING:
    from transect.models.models import Model

Progress = Callable[[int, int], None]


def capture(
    model: "Model",
    texts: Texts,
    out: Place,
    *,
    sites: Sequence[str] = ("resid",),
    layers: Iterable[int] | None = None,
    positions: str = "all",
    pool: str | None = None,
    position0: bool = True,
    store_dtype: str | None = None,
    max_length: int | None = None,
    shuffle_tokens: int | None = None,
    batch_tokens: int = 2048,
    shard_bytes: int = 512 << 20,
    shard: tuple[int, int] = (1, 1),
    engine: str = "local",
    workers: int = 1,
    gpus_per_worker: int = 0,
    progress: Progress | None = None,
) -> Store:
    """Run the base model once over the texts and keep the points of `sites`; returns the open store.

    A second call on a finished folder returns it; on an unfinished one it resumes; on another capture's
    folder it refuses.

    Args:
        sites: Families or single sites.
        layers: Only these layers.
        positions: Tokens to keep: all, or of last, landmark:NAME+k, numbers (negative: from the
            end), with commas.
        pool: Keep one mean per text.
        position0: Count the first token in the pooled mean.
        store_dtype: float32, bfloat16 or float16; by default the compute dtype. inf is never written.
        max_length: Cut texts at so many tokens.
        shuffle_tokens: Control: every text's own tokens in random order, with this seed.
        batch_tokens: Padded tokens per forward pass.
        shard_bytes: Size of a shard.
        shard: (k, n): capture every n-th shard, beginning with the k-th.
        engine: Worker processes here, or Ray.
        workers: Worker processes that each open the model; by default this process alone.
        gpus_per_worker: GPUs that a Ray worker gets.
        progress: Called with (done, total) rows.
    """
    out = place(str(out))
    _check_options(
        {"batch_tokens": batch_tokens, "shard_bytes": shard_bytes, "workers": workers},
        {"shuffle_tokens": shuffle_tokens, "gpus_per_worker": gpus_per_worker},
    )
    tokenized = tokenize(texts, model.tokenizer, max_length)
    texts = texts.subset(tokenized.kept)
    if shuffle_tokens is not None:
        tokenized = shuffled(tokenized, shuffle_tokens)
    check_fits(model, tokenized.ids, texts.ids)
    kept = kept_positions(tokenized, positions)
    first = probe(model, tokenized, sites, layers, batch_tokens)
    dtype = store_dtype or str(model.dtype).removeprefix("torch.")
    if dtype not in SAFETENSORS:
        raise TransectError(f"store dtype {dtype!r} is not one of {', '.join(SAFETENSORS)}.")
    if pool not in (None, "mean"):
        raise TransectError(f"pool={pool!r}: None or 'mean'.")
    rows = [1 if pool else len(k) for k in kept]
    item = NUMPY[SAFETENSORS[dtype]].itemsize
    row_bytes = item * sum(first.widths.values())
    lengths = [len(t) for t in tokenized.ids]
    budget = 0 if first.apart else batch_tokens  # 0: one text a pass
    plan = make_plan(lengths, rows, budget, max(1, shard_bytes // row_bytes))
    options = {"positions": positions, "pool": pool, "position0": position0, "max_length": max_length}
    options |= {"shuffle_tokens": shuffle_tokens}
    options |= {"batch_tokens": batch_tokens, "shard_bytes": shard_bytes}
    manifest = make_manifest(model, texts, tokenized, first, dtype, plan, options)
    begin(out, manifest, plan, make_index(texts, tokenized, kept, rows, plan, positions, pool))
    store = open_store(out)
    store.check_receipts()
    mine = [k for k in store.unfinished if k % shard[1] == shard[0] - 1]
    count = [sum(rows[i] for batch in shard_ for i in batch) for shard_ in plan]
    need = [count[k] * row_bytes for k in mine]
    _check_space(out, max(need, default=0) * workers if is_remote(out) else sum(need))
    done = sum(rows) - sum(count[k] for k in mine)
    if engine == "local" and workers == 1:
        job = ShardJob(model, first.taps, first.widths, tokenized.ids, kept, manifest)
        for k in mine:
            done = job.write(store, k, done, sum(rows), progress)
        return open_store(out)
    blocks = [(str(out), k) for k in mine]
    there = run_blocks(
        functools.partial(write_shard, opening_of(model)), blocks, engine=engine, workers=workers,
        gpus_per_worker=gpus_per_worker,
    )  # fmt: skip
    for (_, k), _receipt in there:
        done += count[k]
        if progress:
            progress(done, sum(rows))
    return open_store(out)


def recapture(
    store: Store, model: "Model", out: Place, *, progress: Progress | None = None, **changes: Any
) -> Store:
    """Capture the texts of a store again, with its options, through another model or with `changes` to the
    options.

    The tokens are the store's own (`shuffle_tokens` puts them in another order), the dtypes are the store's
    too. Raises: TransectError when this model's tokenizer gives other tokens.
    """
    m, texts = store.manifest, stored_texts(store)
    names = ("positions", "pool", "position0", "max_length", "shuffle_tokens", "batch_tokens", "shard_bytes")
    kept: dict[str, Any] = {name: m.get(name) for name in names}
    if changes.get("max_length", kept["max_length"]) != kept["max_length"]:
        raise TransectError("a recapture keeps the store's max_length.", "Capture the texts again instead.")
    model = in_dtype_of(store, model)
    tokenized = tokenize(texts, model.tokenizer, kept["max_length"])
    if kept["shuffle_tokens"] is not None:
        tokenized = shuffled(tokenized, kept["shuffle_tokens"])
    same_tokens_or_refuse(store, tokenized)
    kept |= {"sites": store.sites, "store_dtype": m["dtype"]["store"]}
    return capture(model, texts, out, progress=progress, **(kept | changes))


def _check_options(positive: dict[str, int], natural: dict[str, int | None]) -> None:
    """TransectError for a count below 1, or a seed or number below 0."""
    for least, options in ((1, positive), (0, natural)):
        for name, value in options.items():
            if value is not None and value < least:
                raise TransectError(f"{name}={value}.", f"Give {least} or more.")


def _check_space(out: Place, need: int) -> None:
    free = shutil.disk_usage(tempfile.gettempdir() if is_remote(out) else out).free
    if need > free:
        raise TransectError(
            f"{out}: the capture needs {need / 1e9:.2f} GB, {free / 1e9:.2f} GB are free.",
            "Capture fewer sites or layers (--sites, --layers), pool (--pool mean), "
            "or store half (--store-dtype bfloat16).",
        )
