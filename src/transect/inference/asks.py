"""Asks: what a study wants done, as data. One call does them all over one pool, with one bar and one folder
to resume from."""

import functools
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transect.files import CHECKSUM, checksum, loads, with_numbers, write_json
from transect.results.table import Table, merge
from transect.work.folders import clear_partials
from transect.work.options import Work
from transect.work.pool import run_blocks


@dataclass(frozen=True)
class Ask:
    """Some work and what becomes of it: `finish` gets what `fn` made of each task, in order.

    `fn` is importable and pure, so that a worker may run it; its answers are JSON. `key` names a task's
    answer in the folder of finished work. `weight` says how much of the bar a task is.
    """

    fn: Callable[[Any], Any]
    tasks: tuple[Any, ...]
    finish: Callable[[list[Any]], Any]
    key: Callable[[Any], str] | None = None
    weight: Callable[[Any], int] = lambda _task: 1


def answer(asks: Mapping[str, Ask | Sequence[Ask]], work: Work, step: str = "measuring") -> dict[str, Any]:
    """What every ask came to, by name; a name with several asks has a list.

    Of several tables each stands in OUT/cells/NAME.parquet as soon as it is whole, whatever becomes of the
    rest.
    """
    listed = [
        (name, ask) for name, asked in asks.items() for ask in ([asked] if isinstance(asked, Ask) else asked)
    ]
    flat = [(k, t) for k, (_, ask) in enumerate(listed) for t in range(len(ask.tasks))]
    folder = None if work.out is None else Path(work.out) / "cells"
    if folder is not None:
        clear_partials(folder)
    blocks, place = [], {}
    for k, t in flat:
        ask = listed[k][1]
        block = (ask.fn, ask.tasks[t], ask.key(ask.tasks[t]) if ask.key else None)
        place[id(block)] = (k, t)
        blocks.append(block)
    total = sum(listed[k][1].weight(listed[k][1].tasks[t]) for k, t in flat)
    bar = _bar(work.progress, step, total)
    results: dict[tuple[int, int], Any] = {}
    finished: dict[str, Any] = {}
    waiting = Counter(listed[k][0] for k, _ in flat)

    def finish(name: str) -> None:
        part = [
            ask.finish([results[k, t] for t in range(len(ask.tasks))])
            for k, (of, ask) in enumerate(listed)
            if of == name
        ]
        tables = part and all(isinstance(value, Table) for value in part)
        if folder is not None and len(asks) > 1 and tables:
            merge(part).save(folder / f"{name}.parquet")
        finished[name] = part[0] if isinstance(asks[name], Ask) else part

    done = run_blocks(
        functools.partial(_run, folder), blocks, engine=work.engine, workers=work.workers,
        receipt=functools.partial(_kept, folder) if folder else None,
    )  # fmt: skip
    for block, value in done:
        k, t = place[id(block)]
        results[k, t] = value
        bar(listed[k][1].weight(listed[k][1].tasks[t]))
        waiting[listed[k][0]] -= 1
        if not waiting[listed[k][0]]:
            finish(listed[k][0])
    for name in asks:
        if name not in finished:  # it had no task
            finish(name)
    return {name: finished[name] for name in asks}


def _run(folder: Path | None, block: tuple[Callable[[Any], Any], Any, str | None]) -> Any:
    """One task; its answer is written under its key before it is returned."""
    fn, task, key = block
    value = fn(task)
    if folder is not None and key is not None:
        write_json(folder / f"{key}.json", {"value": with_numbers(value, lambda x: {"float": str(x)})})
    return value


def _kept(folder: Path, block: tuple[Callable[[Any], Any], Any, str | None]) -> Any:
    """What an earlier run left of a task; None for nothing, and for what is damaged: it is done again."""
    file = folder / f"{block[2]}.json"
    if block[2] is None or not file.exists():
        return None
    try:
        text = file.read_bytes()
        cached = loads(text, constants=True)
        if not isinstance(cached, dict) or len(cached) != 2 or not cached.keys() & {"value", CHECKSUM}:
            return cached  # an earlier version wrote the answer alone
        return _numbers(cached["value"]) if cached[CHECKSUM] == checksum(cached) else None
    except (OSError, ValueError, KeyError, RecursionError):
        return None


def _numbers(value: Any) -> Any:
    """An answer with the floats that JSON does not know."""
    if isinstance(value, list):
        return [_numbers(v) for v in value]
    if isinstance(value, dict):
        return (
            float(value["float"]) if value.keys() == {"float"} else {k: _numbers(v) for k, v in value.items()}
        )
    return value


def _bar(progress: Callable[[str, int, int], None] | None, step: str, total: int) -> Callable[[int], None]:
    """A counter that reports at most ten times a second, and at both ends."""
    state = {"done": 0, "when": 0.0}
    if progress:
        progress(step, 0, total)

    def update(weight: int) -> None:
        state["done"] += weight
        now = time.monotonic()
        if progress and (now - state["when"] > 0.1 or state["done"] >= total):
            state["when"] = now
            progress(step, int(state["done"]), total)

    return update
