"""One shard of a store: passes over its batches, each row written where the plan says; here or in a worker.

A worker opens the model by itself, makes sure that it is the one in the manifest, and finds everything else
in the store.
"""

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from transect.errors import TransectError
from transect.models import sites
from transect.models.forward import Batch, kept_positions, make_batch, run
from transect.models.modules import taps_for
from transect.store.landing import Landing, Points
from transect.store.recapture import stored_tokens
from transect.store.shard_write import make_shard
from transect.store.shards import ShardWriter
from transect.store.store import Store, open_store

if TYPE_CHECKING:
    import torch

    from transect.models.models import Model

Progress = Callable[[int, int], None]


def opening_of(model: "Model") -> tuple[tuple[str, Any], ...]:
    """The arguments that open this model again in another process."""
    if not model.opening:
        raise TransectError(
            f"{model.name} was not opened from a spec string, so that no worker can open it.",
            "Save it and open the folder, or capture with workers=1.",
        )
    return tuple(sorted(model.opening.items()))


def write_shard(opening: tuple[tuple[str, Any], ...], task: tuple[str, int]) -> int:
    """Capture shard k of the store in a folder; returns its rows. What was opened is kept for the next
    shard."""
    folder, k = task
    store = open_store(folder)
    if k not in store.unfinished:
        return 0
    return _job(opening, folder, store.fingerprint).write(store, k, 0, 0, None)


@functools.lru_cache(maxsize=1)
def _job(opening: tuple[tuple[str, Any], ...], folder: str, fingerprint: str) -> "ShardJob":
    from transect.models.models import open_model

    store, model = open_store(folder), open_model(**dict(opening))
    actual, wanted = model.fingerprint, store.manifest["model"]["fingerprint"]
    if any(actual.get(key) != wanted.get(key) for key in ("weights", "adapter", "tokenizer")):
        raise TransectError(
            f"{model.name} is another model here than the one {folder} was begun with.", "Compare files."
        )
    widths = {site: entry["width"] for site, entry in store.manifest["sites"].items()}
    tokens = stored_tokens(store)
    kept = kept_positions(tokens, store.manifest["positions"])
    taps = list(taps_for(model.model, list(widths)).values())
    return ShardJob(model, taps, widths, tokens.ids, kept, store.manifest)


class ShardJob:
    """Passes over the batches of one shard, each row written where the plan says."""

    def __init__(
        self,
        model: "Model",
        taps: list[sites.Tap],
        widths: dict[str, int],
        ids: Sequence[Sequence[int]],
        kept: Sequence[np.ndarray],
        manifest: dict[str, Any],
    ) -> None:
        import torch

        self.model, self.taps, self.widths, self.ids, self.kept = model, taps, widths, ids, kept
        self.pool, self.position0 = manifest["pool"], manifest["position0"]
        self.dtype = getattr(torch, manifest["dtype"]["store"])
        self.peak: dict[str, float] = {}
        self.splits: list[list[int]] = []
        self.landing = Landing(model.device)

    def write(self, store: Store, k: int, done: int, total: int, progress: Progress | None) -> int:
        """Capture shard k; `done` of `total` rows were there before, and what is there now comes back."""

        def fill(writer: ShardWriter) -> dict[str, Any]:
            self.peak, self.splits = dict.fromkeys(self.widths, 0.0), []
            row, rows = 0, store.rows.tolist()
            for batch in store.plan[k]:
                self._batch(writer, batch, row, rows)
                row += sum(rows[i] for i in batch)
                if progress:
                    progress(done + row, total)
            self._write(writer, self.landing.rest())
            return {"max_abs": self.peak, "splits": self.splits}

        make_shard(store, k, self.widths, fill)
        return done + store.rows_in(k)

    def _batch(self, writer: ShardWriter, members: list[int], row: int, rows: list[int]) -> None:
        """One pass; when memory runs out the batch is halved, and the receipt says so."""
        import torch

        batch = make_batch(self.ids, members, self.kept, self.model.tokenizer.pad_token_id or 0)
        try:
            self.landing.begin()
            run(self.model, self.taps, batch, lambda site, value: self._put(writer, site, value, row, batch))
            self._write(writer, self.landing.end())
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
        if self.pool:
            value = self._mean(value, batch)
        stored = value.to(self.dtype).contiguous()
        points = Points(site, row, stored, stored.abs().amax(), value)
        if self.landing.stream is not None:
            self.landing.arriving.append(points)
            return
        self._write(writer, [points._replace(stored=stored.cpu())])

    def _write(self, writer: ShardWriter, landed: Sequence[Points]) -> None:
        """Points that are in this machine's memory, each to its place; TransectError where one is not
        finite."""
        import torch

        for site, row, stored, largest, value in landed:
            peak = float(largest)
            if not np.isfinite(peak):
                self._refuse(site, value)
            self.peak[site] = max(self.peak[site], peak)
            as_bytes = {1: torch.uint8, 2: torch.int16}.get(stored.element_size(), stored.dtype)
            writer.put(site, row, stored.view(as_bytes).numpy().data.cast("B"))

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
                "pool='mean' without position 0 leaves a one-token text empty.",
                "Drop short texts, or keep position 0.",
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
