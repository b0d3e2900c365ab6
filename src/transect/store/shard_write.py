"""How one shard is made, whoever has its points: under its lock, once, dropped where anything goes wrong."""

import time
from collections.abc import Callable
from typing import Any

from transect.errors import TransectError
from transect.files import is_remote
from transect.store.shards import ShardWriter
from transect.store.store import Store
from transect.work.folders import clear_partials, locked


def make_shard(
    store: Store, k: int, widths: dict[str, int], fill: Callable[[ShardWriter], dict[str, Any]]
) -> None:
    """Write shard k of a store, unless its receipt is there; another process may have finished it meanwhile.

    Args:
        widths: Dimensions of every site, in their order.
        fill: Puts every row of every site, and returns what the receipt says beside rows and seconds.

    Raises: TransectError when another process writes this shard, or the disk refuses.
    """
    lock = store.shard(k).with_suffix(".lock")
    busy = f"{store.path}: another process is capturing shard {k + 1} of {len(store.plan)}."
    with locked(lock, busy):
        if store.receipt(k).exists():
            return
        if not is_remote(store.path):
            clear_partials(lock.parent, store.shard(k).name)
        _make(store, k, widths, fill)


def _make(
    store: Store, k: int, widths: dict[str, int], fill: Callable[[ShardWriter], dict[str, Any]]
) -> None:
    begun, rows = time.time(), store.rows_in(k)
    try:
        writer = ShardWriter(store.shard(k), widths, rows, store.manifest["dtype"]["store"])
    except OSError as error:
        raise _unwritable(store, k, error) from error
    try:
        receipt = {"capture": store.fingerprint, "rows": rows, **fill(writer)}
        writer.finish(receipt | {"seconds": round(time.time() - begun, 3)})
    except OSError as error:
        writer.abandon()
        raise _unwritable(store, k, error) from error
    except BaseException:
        writer.abandon()
        raise


def _unwritable(store: Store, k: int, error: OSError) -> TransectError:
    kept = len(store.plan) - len(store.unfinished)
    return TransectError(
        f"{store.path}: shard {k + 1} of {len(store.plan)} cannot be written ({error.strerror}); "
        f"{kept} are kept.",
        "Make room or allow writing, and run the same capture again: it resumes.",
    )
