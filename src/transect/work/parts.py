"""One of n equal processes that share a disk: its own blocks first, then those that nobody else finishes."""

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

from transect.errors import TransectError
from transect.work.pool import PATIENCE, run_local


def part_of(text: str) -> tuple[int, int]:
    """(k, n) of "k/n"."""
    k, _, n = text.partition("/")
    if not (k.isdecimal() and n.isdecimal() and len(n) < 9 and len(k) < 9 and 1 <= int(k) <= int(n)):
        raise TransectError(f"part {text!r}.", "Write k/n with 1 ≤ k ≤ n, like 2/8.")
    return int(k), int(n)


def run_part(
    fn: Callable[[Any], Any],
    blocks: list[Any],
    where: str,
    workers: int | None,
    retries: int,
    receipt: Callable[[Any], Any] | None,
) -> Iterator[tuple[Any, Any]]:
    """Own share first, by a hash of the block: what is left to do looks different to each process."""
    k, n = part_of(where)
    if receipt is None:
        raise TransectError(
            "parts of a run meet through its folder.", "Give --out on a disk that all of them share."
        )
    mine = [b for b in blocks if _place(b, n) == k - 1]
    for block, answer in run_local(fn, mine, workers, retries):
        yield block, answer
    others, patience = [b for b in blocks if _place(b, n) != k - 1], float(os.environ.get(PATIENCE) or 60)
    news = time.monotonic()
    while others:
        came = [(b, answer) for b in others if (answer := receipt(b)) is not None]
        if came:
            news, others = time.monotonic(), [b for b in others if all(b is not c for c, _ in came)]
            yield from came
        elif time.monotonic() - news > patience:
            block = others.pop()
            yield block, fn(block)
        else:
            time.sleep(min(1.0, patience / 10))


def _place(block: Any, n: int) -> int:
    return int(hashlib.sha256(repr(block).encode()).hexdigest()[:8], 16) % n
