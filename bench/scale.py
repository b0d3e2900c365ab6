"""What a large run costs, from rates measured in this run: bytes, hours, euros; and how far the model can
be trusted.

    OMP_NUM_THREADS=1 python bench/scale.py [--write] [--gpu-flops 4e14] [--gpu-hour 2.5] ...

Three checks come first: bytes and CPU seconds of captures and sweeps predicted from smaller ones, and
the wall time of runs on the local pool, with and without workers that die, predicted by a simulation of
its scheduling. Then a 70B model on a million texts. What cannot be measured without such a machine
(throughput of an accelerator, prices) is an option and is printed as an assumption. --write puts the
output into docs/scale.md.
"""

import argparse
import contextlib
import functools
import heapq
import io
import math
import os
import random
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs/scale.md"
BEGIN, END = "<!-- bench/scale.py begins -->", "<!-- bench/scale.py ends -->"


@dataclass(frozen=True)
class Network:
    """What the cost of a pass and of its points depends on."""

    name: str
    layers: int
    width: int
    parameters: float  # those that multiply: without the embedding
    bytes_per_number: int

    def flops(self, tokens: float, length: float) -> float:
        """Of a forward pass: 2 for each weight and token, and 4 × width for each pair of positions of a
        layer.
        """
        return tokens * (2 * self.parameters + 4 * self.layers * self.width * length)

    def bytes(self, points: float, sites: int | None = None) -> float:
        """Of a store of so many points at so many sites of the residual stream (all of them unless given)."""
        return points * (self.layers + 1 if sites is None else sites) * self.width * self.bytes_per_number


def simulate(blocks: Sequence[float], workers: int, birth: float, deaths: Sequence[int] = ()) -> float:
    """Wall seconds of the local pool: a worker that dies (at the start of block k, once) breaks the pool,
    whose blocks in flight are run again after it is born anew. Blocks are taken in order, as workers
    become free."""
    waiting, doomed = list(reversed(range(len(blocks)))), set(deaths)
    now, running = birth, []
    while waiting or running:
        while waiting and len(running) < workers:
            block = waiting.pop()
            if block in doomed:
                doomed.discard(block)
                waiting += [block, *(b for _, b in running)]
                running, now = [], now + birth
                continue
            heapq.heappush(running, (now + blocks[block], block))
        now, _ = heapq.heappop(running)
    return now


def work(folder: str, task: tuple[int, float, bool]) -> int:
    """A block that takes its time, and whose worker is killed at its start, once, where asked."""
    k, seconds, dies = task
    mark = Path(folder) / f"{k}.died"
    if dies and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(seconds)
    return k


def pools() -> None:
    """Runs of sleeping blocks, so that eight workers can be watched on two cores: simulated and measured
    wall seconds.
    """
    from transect.work import pool as engine

    rng = random.Random(0)
    begun = time.monotonic()
    engine._pool(8)
    birth = time.monotonic() - begun
    print(f"wall seconds of 64 blocks of 0.1 to 0.9 s; a pool of 8 is born in {birth:.2f} s")
    for workers, deaths in ((2, ()), (8, ()), (8, (20,)), (8, (10, 30, 50))):
        blocks = [rng.uniform(0.1, 0.9) for _ in range(64)]
        born = birth * workers / 8
        with tempfile.TemporaryDirectory() as folder:
            engine._pool(workers)
            begun = time.monotonic()
            tasks = [(k, s, k in deaths) for k, s in enumerate(blocks)]
            done = list(engine.run_blocks(functools.partial(work, folder), tasks, workers=workers, retries=4))
            taken = time.monotonic() - begun
        assert sorted(k for _, k in done) == list(range(64))
        told = simulate(blocks, workers, born, deaths) - born  # this pool was there already
        line(f"{workers} workers, {len(deaths)} killed", told, taken, "s")


def line(what: str, told: float, found: float, unit: str) -> None:
    print(
        f"  {what:<46} predicted {told:10.2f} {unit}  measured {found:10.2f} {unit}  "
        f"{told / found - 1:+6.1%}",
        flush=True,
    )


def cpu(call: Callable[[], Any]) -> float:
    begun = time.process_time()
    call()
    return time.process_time() - begun


def captures() -> dict[str, float]:
    """Bytes and CPU seconds of captures from the FLOPs of a first one; returns the rates."""
    import transect as ts
    from transect.texts.texts import tokenize

    model, texts = ts.open_model("smollm2"), ts.open_texts("gsm-test:96")
    config = model.model.config
    body = sum(p.numel() for name, p in model.base.named_parameters() if "embed" not in name)
    small = Network("SmolLM2-135M", config.num_hidden_layers, config.hidden_size, body, 4)
    lengths = [len(ids) for ids in tokenize(texts, model.tokenizer).ids]
    model.id  # noqa: B018  the fingerprint is made once a model
    rates: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        ts.capture(model, texts.subset([0, 1]), f"{folder}/warm")
        for count in (24, 48, 96):
            mine, out = lengths[:count], Path(folder) / str(count)
            seconds = cpu(lambda c=count, o=out: ts.capture(model, texts.subset(range(c)), o))
            if not rates:
                again = Path(folder) / "again"
                seconds = min(
                    seconds, cpu(lambda c=count, o=again: ts.capture(model, texts.subset(range(c)), o))
                )
            flops = sum(small.flops(n, n) for n in mine)
            held = sum(f.stat().st_size for f in out.rglob("*") if f.is_file())
            if not rates:
                rates["flops"], rates["extra"] = flops / seconds, held / small.bytes(sum(mine))
                print(
                    f"rates from {count} texts: {rates['flops']:.2e} FLOP a CPU second, store "
                    f"{rates['extra']:.4f} × its points"
                )
                continue
            line(f"capture, {count} texts ({sum(mine)} tokens)", flops / rates["flops"], seconds, "CPU-s")
            line("  its store", small.bytes(sum(mine)) * rates["extra"] / 1e6, held / 1e6, "MB")
    return rates


def sweeps() -> dict[str, float]:
    """CPU seconds of pairs at twice the width, and at twice the points as well, from the small ones;
    returns the rates.
    """
    import numpy as np

    from sinkhorn import synthetic
    from transect.measures.similarity import cka
    from transect.measures.transport import sinkhorn

    clouds = synthetic(layers=12, n=2000)
    steps, rates = [(k, k + 1) for k in range(11)], {}
    every = [(i, j) for i in range(12) for j in range(i, 12)]
    units = {
        "sinkhorn": lambda n, d: len(steps) * n * n * d,
        "cka": lambda n, d: 12 * n * n * d + 12 * 12 * n * n / 2,
    }
    calls = {"sinkhorn": (sinkhorn, steps), "cka": (cka, every)}
    for name, (measure, pairs) in calls.items():
        for n, d in ((1000, 288), (1000, 576), (2000, 576)):
            some = [np.ascontiguousarray(X[:n, :d]) for X in clouds]
            seconds = min(cpu(lambda s=some, m=measure, p=pairs: m.values(s, p)) for _ in range(2))
            unit = units[name](n, d)
            if name not in rates:
                rates[name] = seconds / unit
                continue
            line(f"{name}, {len(pairs)} pairs, n = {n}, d = {d}", rates[name] * unit, seconds, "CPU-s")
        rates[name] = seconds / unit
    return rates


def large(rates: dict[str, float], given: argparse.Namespace) -> None:
    """70B × a million texts × 80 layers, for plans that keep less and less."""
    big = Network("70B", 80, 8192, 69e9, 2)
    texts, length = 1e6, 256
    tokens = texts * length
    devices = math.ceil(2 * big.parameters * 1.2 / given.gpu_bytes)
    seconds = big.flops(tokens, length) / given.gpu_flops
    print(
        f"a 70B model ({big.layers} layers × {big.width}, bfloat16) on {texts:.0e} texts of {length} tokens"
    )
    print(
        f"  assumed: {given.gpu_flops:.1e} FLOP/s reached by an accelerator of {given.gpu_bytes / 1e9:.0f} "
        f"GB at {given.gpu_hour} € an hour; {given.core_hour} € a core-hour; {given.disk_month} € a "
        f"GB-month; {given.disk_rate / 1e9:.0f} GB/s to disk for all workers"
    )
    print(
        f"  one pass: {big.flops(tokens, length):.1e} FLOP, {seconds / 3600:.0f} accelerator-hours of "
        f"arithmetic; weights need {devices} devices, of which `device_map` keeps one busy: "
        f"{seconds * devices / 3600:.0f} device-hours, {seconds * devices / 3600 * given.gpu_hour:.0f} €"
    )
    print(f"  {'what is kept':<44}{'bytes':>12}{'to write':>12}{'€ a month':>12}")
    plans = {
        "every token, 81 sites": big.bytes(tokens),
        "every token, 9 sites (--layers)": big.bytes(tokens, 9),
        "last token (--positions last), 81 sites": big.bytes(texts),
        "mean of each text (--pool mean), 81 sites": big.bytes(texts),
        "sample of 20,000 tokens (streams.Sample)": big.bytes(20_000),
        "Grams of d² (streams.CKA), 81 layers, float64": 81 * big.width**2 * 8,
    }
    for name, held in plans.items():
        print(
            f"  {name:<44}{size(held):>12}{held / given.disk_rate / 3600:>10.2f} "
            f"h{held / 1e9 * given.disk_month:>12,.0f}"
        )
    n, d, pairs = 20_000, big.width, 81 * 80 // 2
    for name, unit in (("sinkhorn", pairs * n * n * d), ("cka", 81 * n * n * d + 81 * 81 * n * n / 2)):
        hours = rates[name] * unit / 3600
        print(
            f"  {name}, all {pairs} pairs, n = {n}: {hours:,.0f} core-hours, {hours * given.core_hour:,.0f} €"
        )
    n = 2000
    hours = rates["sinkhorn"] * pairs * n * n * d / 3600
    print(
        f"  sinkhorn, all {pairs} pairs, n = {n}: {hours:,.1f} core-hours, {hours * given.core_hour:,.1f} €"
    )
    blocks = [seconds * devices / 2000] * 2000
    for lost in (0, 4):
        wall = simulate(blocks, 8, 300, [200 * (k + 1) for k in range(lost)])
        print(
            f"  8 workers of {devices} devices, 2000 shards, {lost} of them lost: {wall / 3600:.1f} h "
            "(each needs 5 minutes to open the weights)"
        )


def size(count: float) -> str:
    power = min(5, int(math.log(max(count, 1), 1000)))
    return f"{count / 1000**power:.1f} {('B', 'kB', 'MB', 'GB', 'TB', 'PB')[power]}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="put the output into docs/scale.md")
    parser.add_argument("--gpu-flops", type=float, default=4e14)
    parser.add_argument("--gpu-bytes", type=float, default=80e9)
    parser.add_argument("--gpu-hour", type=float, default=2.5)
    parser.add_argument("--core-hour", type=float, default=0.04)
    parser.add_argument("--disk-month", type=float, default=0.02)
    parser.add_argument("--disk-rate", type=float, default=2e9)
    given = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    out = io.StringIO()
    with contextlib.redirect_stdout(out) if given.write else contextlib.nullcontext():
        captures()
        rates = sweeps()
        pools()
        large(rates, given)
    if given.write:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n```text\n{out.getvalue()}```\n{END}{rest.partition(END)[2]}")
        print(out.getvalue(), end="")


if __name__ == "__main__":
    main()
