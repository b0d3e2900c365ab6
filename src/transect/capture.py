"""Capture: Model × Texts → Store. Hooks write each site's real tokens straight to their place on disk; nothing is kept.

The plan (which texts share a batch, which batches a shard) is settled before the first forward pass, so a run that was
killed resumes at its next shard and ends bit-identical. `forward` is the same pass for consumers without a store.
"""

import contextlib
import fcntl
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from transect.errors import TransectError
from transect.layout import begin, make_index, make_manifest
from transect.passes import Batch, Probe, kept_positions, make_batch, make_plan, probe, run, shuffled
from transect.shards import NUMPY, SAFETENSORS, ShardWriter
from transect.store import Store, open_store
from transect.texts import Texts, Tokenized, tokenize

if TYPE_CHECKING:
    import torch

    from transect.models import Model

Progress = Callable[[int, int], None]


def capture(
    model: "Model",
    texts: Texts,
    out: str | Path,
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
    progress: Progress | None = None,
) -> Store:
    """Run the base model once over the texts and keep the points of `sites`; returns the open store.

    positions: "all", or a comma-separated list of "last", "landmark:NAME", "landmark:NAME+2", positions (negative: from
    the end). pool="mean": one mean per text (over its tokens, without the first when position0=False). store_dtype:
    the compute dtype unless given; a value that does not fit stops the capture, inf is never written. shuffle_tokens: a seed; every text's own tokens are put in random order first (a control: same
    words, no order; landmarks go). batch_tokens: padded tokens per forward pass. shard=(k, n): this process captures every n-th shard. A second call on a finished
    folder returns it; on an unfinished one it resumes; on another capture's folder it refuses.
    """
    out = Path(out)
    tokenized = tokenize(texts, model.tokenizer, max_length)
    if shuffle_tokens is not None:
        tokenized = shuffled(tokenized, shuffle_tokens)
    kept = kept_positions(tokenized, positions)
    first = probe(model, tokenized, sites, layers)
    dtype = store_dtype or str(model.dtype).removeprefix("torch.")
    if dtype not in SAFETENSORS:
        raise TransectError(f"store dtype {dtype!r} is not one of {', '.join(SAFETENSORS)}.")
    if pool not in (None, "mean"):
        raise TransectError(f"pool={pool!r}: None or 'mean'.")
    rows = [1 if pool else len(k) for k in kept]
    item = NUMPY[SAFETENSORS[dtype]].itemsize
    row_bytes = item * sum(first.widths.values())
    plan = make_plan([len(t) for t in tokenized.ids], rows, batch_tokens, max(1, shard_bytes // row_bytes))
    options = {"positions": positions, "pool": pool, "position0": position0, "max_length": max_length}
    options |= {"shuffle_tokens": shuffle_tokens}
    options |= {"batch_tokens": batch_tokens, "shard_bytes": shard_bytes}
    manifest = make_manifest(model, texts, tokenized, first, dtype, plan, options)
    begin(out, manifest, plan, make_index(texts, tokenized, kept, rows, plan, positions, pool))
    store = open_store(out)
    mine = [k for k in store.unfinished if k % shard[1] == shard[0] - 1]
    _check_space(out, sum(rows[i] for k in mine for batch in plan[k] for i in batch) * row_bytes)
    done = sum(rows) - sum(rows[i] for k in mine for batch in plan[k] for i in batch)
    with _lock(out / f"capture-{shard[0]}-of-{shard[1]}.lock"):
        for k in mine:
            job = _Job(model, first, tokenized, kept, pool, position0, dtype)
            done = job.write(store, k, plan[k], rows, done, sum(rows), progress)
    return open_store(out)


# writing a shard


def recapture(
    store: Store, model: "Model", out: str | Path, *, progress: Progress | None = None, **changes: Any
) -> Store:
    """Capture the texts of a store again, with its options, through another model or with `changes` to the options."""
    m = store.manifest
    texts = Texts(
        store.index["text"].to_pylist(),
        store.ids,
        labels={name: values.tolist() for name, values in store.labels.items()},
        name=m["texts"]["name"],
        spec=m["texts"]["spec"],
        chat=m["texts"].get("chat", False),
    )
    names = ("positions", "pool", "position0", "max_length", "batch_tokens", "shard_bytes")
    options: dict[str, Any] = {**{name: m[name] for name in names}, "sites": store.sites, **changes}
    return capture(model, texts, out, progress=progress, **options)


class _Job:
    """Passes over the batches of one shard, each row written where the plan says."""

    def __init__(
        self,
        model: "Model",
        probe: Probe,
        tokenized: Tokenized,
        kept: list[np.ndarray],
        pool: str | None,
        position0: bool,
        dtype: str,
    ) -> None:
        import torch

        self.model, self.probe, self.tokenized, self.kept = model, probe, tokenized, kept
        self.pool, self.position0, self.dtype = pool, position0, getattr(torch, dtype)
        self.peak: dict[str, float] = dict.fromkeys(probe.widths, 0.0)
        self.splits: list[list[int]] = []

    def write(
        self,
        store: Store,
        k: int,
        batches: list[list[int]],
        rows: list[int],
        done: int,
        total: int,
        progress: Progress | None,
    ) -> int:
        begun = time.time()
        size = sum(rows[i] for batch in batches for i in batch)
        writer = ShardWriter(store.shard(k), self.probe.widths, size, str(self.dtype).removeprefix("torch."))
        row = 0
        try:
            for batch in batches:
                self._batch(writer, batch, row, rows)
                row += sum(rows[i] for i in batch)
                if progress:
                    progress(done + row, total)
            writer.finish(
                {"rows": size, "max_abs": self.peak, "splits": self.splits, "seconds": round(time.time() - begun, 3)}
            )
        except OSError as error:
            writer.abandon()
            raise TransectError(
                f"{store.path}: shard {k + 1} of {len(store.plan)} cannot be written ({error.strerror}); {k} are kept.",
                "Free some space and run the same capture again: it resumes.",
            ) from error
        except BaseException:
            writer.abandon()
            raise
        return done + size

    def _batch(self, writer: ShardWriter, members: list[int], row: int, rows: list[int]) -> None:
        """One pass; when memory runs out the batch is halved, and the receipt says so."""
        import torch

        batch = make_batch(self.tokenized, members, self.kept, self.model.tokenizer.pad_token_id or 0)
        try:
            run(self.model, self.probe.taps, batch, lambda site, value: self._put(writer, site, value, row, batch))
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not _out_of_memory(error):
                raise
            if len(members) == 1:
                raise TransectError(
                    f"text {members[0]} ({batch.mask.shape[1]} tokens) does not fit in memory.",
                    "Lower --max-length, or use another --dtype.",
                ) from error
            half = len(members) // 2
            self.splits.append([members[0], half])
            self._batch(writer, members[:half], row, rows)
            self._batch(writer, members[half:], row + sum(rows[i] for i in members[:half]), rows)

    def _put(self, writer: ShardWriter, site: str, value: "torch.Tensor", row: int, batch: Batch) -> None:
        import torch

        if self.pool:
            value = self._mean(value, batch)
        cast = value.to(self.dtype).contiguous().cpu()
        peak = float(cast.abs().amax())
        if not np.isfinite(peak):
            self._refuse(site, value)
        self.peak[site] = max(self.peak[site], peak)
        raw = cast.view(
            torch.uint8 if cast.element_size() == 1 else torch.int16 if cast.element_size() == 2 else cast.dtype
        )
        writer.put(site, row, raw.numpy().data.cast("B"))

    def _mean(self, value: "torch.Tensor", batch: Batch) -> "torch.Tensor":
        import torch

        weight = torch.ones(len(batch.owner), dtype=torch.float64)
        if not self.position0:
            weight[(batch.keep % batch.mask.shape[1] == 0)] = 0.0
        count = len(batch.mask)
        owner = batch.owner.to(value.device)
        total = torch.zeros(count, value.shape[1], dtype=torch.float64, device=value.device)
        total.index_add_(0, owner, value.double() * weight.to(value.device)[:, None])
        n = torch.zeros(count, dtype=torch.float64).index_add_(0, batch.owner, weight)
        if bool((n == 0).any()):
            raise TransectError(
                "pool='mean' without position 0 leaves a one-token text empty.", "Drop short texts, or keep position 0."
            )
        return total / n.to(value.device)[:, None]

    def _refuse(self, site: str, value: "torch.Tensor") -> None:
        name = str(self.dtype).removeprefix("torch.")
        if bool(value.isfinite().all()):
            raise TransectError(
                f"{site} reaches {float(value.abs().amax()):,.0f}, more than {name} holds.",
                "Use --store-dtype bfloat16 or float32.",
            )
        raise TransectError(
            f"{self.model.name}: {site} is not finite (NaN or inf).",
            "The weights hold NaN or overflow in this dtype; try --dtype float32.",
        )


def _out_of_memory(error: BaseException) -> bool:
    import torch

    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def _check_space(out: Path, need: int) -> None:
    free = shutil.disk_usage(out).free
    if need > free:
        raise TransectError(
            f"{out}: the capture needs {need / 1e9:.2f} GB, {free / 1e9:.2f} GB are free.",
            "Capture fewer sites or layers (--sites, --layers), pool (--pool mean), or store half (--store-dtype bfloat16).",
        )


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """One writer per rank: the lock goes with its process."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TransectError(
                f"{path.parent}: another process is capturing this part.", "Wait for it, or use --shard k/n."
            ) from None
        yield
