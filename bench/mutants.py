"""Planted bugs: every fault of mutants.txt is put into a copy of the source, and the tests must fail on
that copy.

A test that passes on a wrong program proves nothing. Prints fault, first test that failed and seconds,
and writes docs/mutants.md; exit 1 when a fault survives, when a snippet does not occur exactly once, or
when a measure of the registry has fewer than two faults. The working tree is never changed.

    python bench/mutants.py [--only NAME …] [--new] [--jobs N]
"""

import argparse
import os
import queue
import re
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before the process that is forked from loads anything with threads
ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src"
LIST = Path(__file__).with_suffix(".txt")
PAGE = ROOT / "docs" / "mutants.md"
LIMIT = 900
#: What most tests import: loaded once, then every run is a fork of that process.
HEAVY = [
    "numpy",
    "scipy.stats",
    "scipy.optimize",
    "scipy.sparse.csgraph",
    "sklearn.cross_decomposition",
    "sklearn.neighbors",
]
HEAVY += ["sklearn.manifold", "torch", "ot", "pyarrow.parquet", "skdim", "matplotlib.pyplot"]
FAILED = re.compile(r"^(?:FAILED|ERROR) tests/(\S+?\.py(?:::\S+)?)", re.M)
HEAD = """# Planted bugs

`make mutants` puts each of these faults into a copy of the source, one at a time, and runs the tests
named for that file: they must fail. A fault that survives is a missing test. Every measure has two faults
or more; the list is `bench/mutants.txt`, and adding to it takes three lines. The table holds the last
answer for each, also of part runs.
"""


@dataclass(frozen=True)
class Fault:
    """One mistake: whose it is, what it is, where it stands, what stands there instead, and who must
    notice.
    """

    name: str
    words: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """What the tests said of a fault: caught, survived, or broken (it did not even run)."""

    fault: Fault
    state: str
    by: str
    seconds: float


def read_faults(text: str) -> list[Fault]:
    """The faults of a list; ValueError says which line is none."""
    faults: list[Fault] = []
    file, tests, said = "", (), ""
    old: list[str] = []
    new: list[str] = []

    def close() -> None:
        if said:
            name, _, words = said.partition(": ")
            faults.append(Fault(name, words, file, "\n".join(old), "\n".join(new), tests))

    for number, line in enumerate([*text.splitlines(), "@"], 1):
        if line.startswith("- "):
            old.append(line[2:])
        elif line.startswith("+ "):
            new.append(line[2:])
        elif not line or line.startswith("#"):
            continue
        elif line.startswith("@") or re.match(r"\w+: ", line):
            close()
            said, old, new = ("" if line.startswith("@") else line), [], []
            if line.startswith("@ "):
                file, _, listed = line[2:].partition(" | ")
                tests = tuple(listed.split())
        else:
            raise ValueError(f"{LIST.name}, line {number}: {line!r}")
    return faults


def unfit(faults: list[Fault]) -> list[str]:
    """Faults whose snippet is not there exactly once, or that change nothing."""
    told = []
    for fault in faults:
        found = (SOURCE / "transect" / fault.file).read_text().count(fault.old)
        if found != 1 or not fault.old or fault.old == fault.new:
            told.append(f"{fault.name}: {fault.words}: the snippet stands {found} times in {fault.file}")
    return told


def uncovered(faults: list[Fault]) -> list[str]:
    """Measures of the registry with fewer than two faults."""
    sys.path.insert(0, str(SOURCE))
    from transect.measures.registry import registry

    count = {name: sum(f.name == name for f in faults) for name in registry()}
    return [f"{name}: {k} faults listed, two are wanted" for name, k in count.items() if k < 2]


def run_tests(src: str, tests: tuple[str, ...], said: str) -> None:
    """pytest in a process of its own, on the source in `src`; exits with its status, 99 where it tested
    another source.
    """
    with open(said, "w") as file:  # noqa: PTH123
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    os.chdir(ROOT)
    os.environ |= {"PYTHONPATH": src, "OMP_NUM_THREADS": "1", "TRANSECT_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    sys.path[:] = [src, *(p for p in sys.path if Path(p) != SOURCE)]
    import pytest

    options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "--tb=no"]
    code = pytest.main([*options, *(str(Path("tests") / t) for t in tests)])
    sys.stdout.flush()
    found = getattr(sys.modules.get("transect"), "__file__", "") or ""
    os._exit(int(code) if found.startswith(src) else 99)


class Copy:
    """A copy of the source that can be spoilt, and the tests run against it."""

    def __init__(self, folder: Path) -> None:
        self.src, self.said = folder / "src", folder / "said.txt"
        shutil.copytree(SOURCE, self.src, ignore=shutil.ignore_patterns("__pycache__"))

    def run(self, tests: tuple[str, ...]) -> tuple[int, str]:
        """(pytest's exit status, what it said). What the tests import beside us is imported once, for all
        runs.
        """
        context = get_context("forkserver")
        context.set_forkserver_preload(HEAVY)
        process = context.Process(target=run_tests, args=(str(self.src), tests, str(self.said)))
        process.start()
        process.join(LIMIT)
        if process.is_alive():
            process.kill()
            process.join()
            return 1, f"FAILED tests/{tests[0]} (did not end)"
        return int(process.exitcode or 0), self.said.read_text()

    def try_out(self, fault: Fault) -> Outcome:
        """Plant, test, and put back what stood there."""
        path, begun = self.src / "transect" / fault.file, time.monotonic()
        right = path.read_text()
        try:
            self._write(path, right.replace(fault.old, fault.new))
            code, said = self.run(fault.tests)
        finally:
            self._write(path, right)
        found = FAILED.search(said)
        state = {0: "survived", 1: "caught"}.get(code, "broken")
        by = found[1] if found else said.strip().splitlines()[-1][:100] if state == "broken" else ""
        return Outcome(fault, state, by, time.monotonic() - begun)

    @staticmethod
    def _write(path: Path, text: str) -> None:
        """Compiled files are told apart by size and whole seconds: none of the old text may stay."""
        for stale in (path.parent / "__pycache__").glob(f"{path.stem}.*"):
            stale.unlink()
        path.write_text(text)


def run_all(faults: list[Fault], jobs: int) -> Iterator[Outcome]:
    """Each fault on its worker's copy, after its tests have passed on that copy as it is."""
    with tempfile.TemporaryDirectory(prefix="transect-mutants-") as top:
        free: queue.Queue[Copy] = queue.Queue()
        for k in range(jobs):
            free.put(Copy(Path(top) / str(k)))
        sound: dict[tuple[str, ...], str] = {}
        held = threading.Lock()

        def check(copy: Copy, tests: tuple[str, ...]) -> None:
            """A fault caught by a test that fails anyway is not caught."""
            with held:
                if tests not in sound:
                    code, said = copy.run(tests)
                    sound[tests] = f"exit status {code}: {said[-2000:]}" if code else ""
            if sound[tests]:
                raise SystemExit(f"{', '.join(tests)} does not pass on the source as it is:\n{sound[tests]}")

        def one(fault: Fault) -> Outcome:
            copy = free.get()
            try:
                check(copy, fault.tests)
                outcome = copy.try_out(fault)
            finally:
                free.put(copy)
            words = f"{outcome.state:9}{outcome.seconds:6.1f} s  {fault.name}: {fault.words}  [{outcome.by}]"
            print(words, flush=True)
            return outcome

        with ThreadPoolExecutor(jobs) as threads:
            yield from threads.map(one, faults)


def page(outcomes: list[Outcome], every: list[Fault], before: str) -> str:
    """docs/mutants.md: a row for each fault that was ever tried, with the last answer; `before` is the page
    as it stood.
    """
    rows = {key_of(line): line for line in before.splitlines() if line.startswith("| ")}
    for o in outcomes:
        by = f"`{o.by.split('[')[0]}`" if o.state == "caught" else f"**{o.state}**"
        rows[key(o.fault)] = f"{key(o.fault)} {by} | {o.seconds:.0f} |"
    told = [rows[key(f)] for f in every if key(f) in rows]
    caught = sum("**" not in line.rsplit("|", 3)[1] for line in told)
    head = f"{caught} of {len(told)} faults caught" + (
        f"; {len(every) - len(told)} not tried yet." if len(told) < len(every) else "."
    )
    return "\n".join([HEAD, head, "", "| what | fault | caught by | s |", "|---|---|---|---|", *told]) + "\n"


def key(fault: Fault) -> str:
    return f"| {fault.name} | {fault.words.replace('|', chr(92) + '|')} |"


def key_of(line: str) -> str:
    """The first two columns of a row; their own bars are escaped."""
    return line[: [m.start() for m in re.finditer(r"(?<!\\)\|", line)][2] + 1]


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", nargs="*", default=[], help="faults of these measures or rooms")
    parser.add_argument("--new", action="store_true", help="faults that the page has no answer for yet")
    parser.add_argument("--jobs", type=int, default=1, help="copies tested side by side")
    asked = parser.parse_args()
    every = read_faults(LIST.read_text())
    wrong = unfit(every) + uncovered(every)
    before = PAGE.read_text() if PAGE.exists() else ""
    known = {key_of(line) for line in before.splitlines() if line.startswith("| ")} if asked.new else set()
    faults = [f for f in every if (not asked.only or f.name in asked.only) and key(f) not in known]
    if not faults:
        wrong.append(
            f"no faults of {', '.join(asked.only)}; "
            f"there are: {', '.join(dict.fromkeys(f.name for f in every))}"
        )
    if wrong:
        print("\n".join(wrong), file=sys.stderr)
        return 1
    outcomes: list[Outcome] = []
    for outcome in run_all(faults, max(1, asked.jobs)):
        outcomes.append(outcome)
        PAGE.write_text(page(outcomes, every, before))  # a run that is stopped keeps its answers
    caught = sum(o.state == "caught" for o in outcomes)
    print(f"{caught} of {len(outcomes)} faults caught")
    return int(caught < len(outcomes))


if __name__ == "__main__":
    sys.exit(main())
