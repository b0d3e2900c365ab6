"""What handing out blocks costs: wall seconds of the local pool and of Ray beside the work itself, both
pools warm.

    OMP_NUM_THREADS=1 python bench/engines.py [--blocks 100] [--workers 2]

The blocks wait instead of computing, so that what is measured is the engine and not two processes
sharing a memory bus.
"""

import argparse
import time

from transect.work.pool import run_blocks


def work(task: tuple[int, float]) -> int:
    time.sleep(task[1])
    return task[0]


def wall(engine: str, blocks: list[tuple[int, float]], workers: int) -> float:
    begun = time.monotonic()
    done = [k for _, k in run_blocks(work, blocks, engine=engine, workers=workers)]
    assert sorted(done) == list(range(len(blocks)))
    return time.monotonic() - begun


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--blocks", type=int, default=100)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    for engine in ("local", "ray"):
        wall(engine, [(k, 0.01) for k in range(4 * given.workers)], given.workers)
    print(f"{given.blocks} blocks, {given.workers} workers, wall seconds, best of 3")
    for each in (0.05, 0.2):
        blocks = [(k, each) for k in range(given.blocks)]
        floor = each * given.blocks / given.workers
        local, ray = (min(wall(e, blocks, given.workers) for _ in range(3)) for e in ("local", "ray"))
        print(
            f"  blocks of {each * 1000:3.0f} ms: work alone {floor:5.2f}   local {local:5.2f} "
            f"({local / floor - 1:+.1%})   ray {ray:5.2f} ({ray / floor - 1:+.1%}, {ray / local - 1:+.1%} "
            "over local)"
        )


if __name__ == "__main__":
    main()
