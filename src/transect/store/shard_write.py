"""How one shard is made, whoever has its points: under its lock, once, dropped where anything goes wrong."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from transect.errors import TransectError
from transect.files import Place, is_remote
from transect.store.shards import ShardWriter
from transect.store.store import Store
from transect.work.folders import clear_partials, locked


def make_shard(
    store: Store,
    k: int,
    widths: dict[str, int],
    fill: Callable[[ShardWriter], dict[str, Any]],
    writer: ShardWriter | None = None,
) -> None:
    """Write shard k of a store, unless its receipt is there; another process may have finished it meanwhile.

    Args:
        widths: Dimensions of every site, in their order.
        fill: Puts every row of every site, and returns what the receipt says beside rows and seconds.
        writer: One that was begun before the store was.

    Raises: TransectError when another process writes this shard, or the disk refuses.
    """
    lock = store.shard(k).with_suffix(".lock")
    busy = f"{store.path}: another process is capturing shard {k + 1} of {len(store.plan)}."
    with locked(lock, busy):
        if store.receipt(k).exists():
            return
        if not is_remote(store.path):
            clear_partials(lock.parent, store.shard(k).name)
        begun, rows = time.time(), store.rows_in(k)
        count = len(store.plan)
        with filling(store.path, k, count, lambda: count - len(store.unfinished)) as dropped:
            if writer is None:
                writer = ShardWriter(store.shard(k), widths, rows, store.manifest["dtype"]["store"])
            dropped.callback(writer.abandon)
            receipt = {"capture": store.fingerprint, "rows": rows, **fill(writer)}
            writer.finish(receipt | {"seconds": round(time.time() - begun, 3)})


@contextlib.contextmanager
def filling(path: Place, k: int, count: int, kept: Callable[[], int]) -> Iterator[contextlib.ExitStack]:
    """Around the writing of shard k of `count`: where it fails, what is called back on the stack is called.
    Raises: TransectError when the disk refuses."""
    with contextlib.ExitStack() as dropped:
        try:
            yield dropped
        except OSError as error:
            raise TransectError(
                f"{path}: shard {k + 1} of {count} cannot be written ({error.strerror}); {kept()} are kept.",
                "Make room or allow writing, and run the same capture again: it resumes.",
            ) from error
        dropped.pop_all()
