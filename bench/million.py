"""A million tokens of 31 layers from disk: CPU seconds and memory of drift, CKA, spectra and neurons, at a
quarter of the tokens and at all of them.

    OMP_NUM_THREADS=1 python bench/million.py [--tokens 1000000] [--width 64] [--write]

The store is synthetic, float16, as deep as SmolLM2 and as wide as asked; its bytes are said and checked
against the disk first. Each size runs in a process of its own. Memory is the largest private memory of that
process (RssAnon; mapped files are the system's to drop), above what it had before the store was opened:
it grows by a small part of what the points are, the index with it.
Seconds of all tokens are predicted from those of the quarter: four times for what streams, the same for what
draws a sample. --write puts the output into docs/scale.md.
"""

import argparse
import contextlib
import functools
import io
import itertools
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

PAGE = Path(__file__).parents[1] / "docs/scale.md"
BEGIN, END = "<!-- bench/million.py begins -->", "<!-- bench/million.py ends -->"
LAYERS, LENGTH = 31, 1000
#: What is measured, and how its cost grows with tokens.
WORK = {
    "norms of every token, for the massive ones": 1,
    "drift, Sinkhorn of adjacent layers, n = 1000": 0,
    "unbiased CKA of adjacent layers": 1,
    "spectra of every layer": 1,
    "neurons, three layers with control": 1,
}


def make(out: Path, tokens: int, width: int) -> None:
    """A store whose layers turn from one cloud to another, a block of samples at a time."""
    from transect.store.arrays import write_samples
    from transect.store.sample_texts import about
    from transect.store.samples import Raw, Samples

    lengths = np.full(tokens // LENGTH, LENGTH)

    def part(layer: int, a: int, b: int) -> list[Raw]:
        first, last = (cloud(a, b, width, end) for end in (0, 1))
        turned = np.cos(layer / LAYERS) * first + np.sin(layer / LAYERS) * last * np.linspace(0.2, 2, width)
        return [Raw(turned.astype(np.float16), "float16")]

    half = frozenset(["float16"])
    sites = {
        f"resid.{k}": Samples(lambda a, b, k=k: part(k, a, b), lengths, width, half, False)
        for k in range(LAYERS)
    }
    write_samples(sites, out, "synthetic", about(sites, None, None, None, None))


@functools.lru_cache(maxsize=8)
def cloud(a: int, b: int, width: int, end: int) -> np.ndarray:
    return np.random.default_rng([a, end]).standard_normal(((b - a) * LENGTH, width), np.float32)


def norms(store: Any) -> None:
    import transect as ts

    ts.sweep("mean_norm", store, n=1000, groups=2, permutations=0, workers=1)


def drift(store: Any) -> None:
    import transect as ts

    ts.sweep("sinkhorn", store, n=1000, groups=5, workers=1)


def similarity(store: Any) -> None:
    from transect.inference.accumulators import CKA

    names, width = store.sites, store.width(store.sites[0])
    pairs = list(itertools.pairwise(names))
    sums = [CKA(width, width) for _ in pairs]
    for rows in store.select("all", True).split(1 << 12):
        points = [store.read(site, rows) for site in names]
        for k, one in enumerate(sums):
            one.update(points[k], points[k + 1])
    assert all(0 < one.freeze() <= 1 for one in sums)


def spectra(store: Any) -> None:
    from transect.inference.accumulators import spectral, store_moments

    found = [spectral(store_moments(store, site))["effective_rank"] for site in store.sites]
    assert all(np.isfinite(found))


def neurons(store: Any) -> None:
    from transect.inference.accumulators import split_moments

    for site in store.sites[:: LAYERS // 2]:
        split_moments(store, site)


class Watch:
    """The largest private memory of this process while it runs, MB."""

    def __enter__(self) -> "Watch":
        self.most, self.over = private(), threading.Event()
        self.thread = threading.Thread(target=self._look, daemon=True)
        self.thread.start()
        return self

    def _look(self) -> None:
        while not self.over.wait(0.05):
            self.most = max(self.most, private())

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()


def private() -> float:
    """Memory of this process that is no file's, MB; 0 where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon")), 0.0)


def child(folder: str) -> None:
    """Everything of one store, as JSON: name → [CPU seconds, MB above the start]."""
    import transect as ts
    import transect.inference.accumulators
    import transect.measures.transport

    told: dict[str, list[float]] = {}
    before, calls = private(), (norms, drift, similarity, spectra, neurons)
    for name, call in zip(WORK, calls, strict=True):
        begun = time.process_time()
        with Watch() as watch:
            call(ts.open_store(folder))
        told[name] = [time.process_time() - begun, watch.most - before]
    print(json.dumps(told))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--write", action="store_true", help="into docs/scale.md")
    parser.add_argument("--child")
    args = parser.parse_args()
    if args.child:
        child(args.child)
    else:
        print_to(lambda: report(args.tokens, args.width), args.write)


def print_to(work: Callable[[], None], write: bool) -> None:
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        work()
    print(told.getvalue(), end="")
    if write:
        page = PAGE.read_text()
        head, tail = page.split(BEGIN)[0], page.split(END)[1]
        PAGE.write_text(f"{head}{BEGIN}\n```text\n{told.getvalue()}```\n{END}{tail}")


def report(tokens: int, width: int) -> None:
    each = LAYERS * width * 2
    print(f"{LAYERS} layers of width {width}, float16: {each * tokens / 1e9:.1f} GB for {tokens:,} tokens")
    found: list[dict[str, list[float]]] = []
    with tempfile.TemporaryDirectory() as folder:
        free = shutil.disk_usage(folder).free
        assert free > 1.2 * each * tokens, f"{free / 1e9:.1f} GB free: take fewer --tokens"
        for count in (tokens // 4, tokens):
            place = Path(folder) / str(count)
            begun = time.process_time()
            make(place, count, width)
            print(f"  a store of {count:,} tokens is made in {time.process_time() - begun:.0f} CPU-s")
            words = [sys.executable, __file__, "--child", str(place)]
            ran = subprocess.run(words, stdout=subprocess.PIPE, check=True)
            found.append(json.loads(ran.stdout))
            shutil.rmtree(place)
    quarter, whole = found
    print(f"  {'CPU-s':<48}{tokens // 4:>10,}{tokens:>12,}{'predicted':>12}   MB above the start")
    for name, grows in WORK.items():
        (some, low), (all_of_it, high) = quarter[name], whole[name]
        print(f"  {name:<48}{some:>10.1f}{all_of_it:>12.1f}{some * 4**grows:>12.1f}   {low:.0f} → {high:.0f}")


if __name__ == "__main__":
    main()
