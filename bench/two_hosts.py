"""Two hosts on one machine: the second is a network namespace of its own, with its own address, taken away
in mid-run.

    python bench/two_hosts.py

A Ray head runs here, a second node inside the namespace, joined by a virtual cable. Both take blocks of
one run; after a few, every process in the namespace is killed and the cable cut. What comes back must be
all of it. Needs the right to make network namespaces (root), and `ip`.
"""

import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

NAME, HERE, THERE = "transect-two", "10.213.77.1", "10.213.77.2"


def sh(*words: str, check: bool = True) -> str:
    return subprocess.run(words, check=check, capture_output=True, text=True).stdout


def slow_square(folder: Path, block: int) -> int:
    """Says on which host it was; the first blocks wait until both hosts have one."""
    import ray

    (folder / f"{block}.node").write_text(ray.util.get_node_ip_address())
    end = time.monotonic() + 60
    while block < 2 and len({p.read_text() for p in folder.glob("*.node")}) < 2 and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(0.3)
    return block * block


def lay_cable() -> None:
    sh("ip", "netns", "add", NAME)
    sh("ip", "link", "add", "tr-here", "type", "veth", "peer", "name", "tr-there")
    sh("ip", "link", "set", "tr-there", "netns", NAME)
    sh("ip", "addr", "add", f"{HERE}/30", "dev", "tr-here")
    sh("ip", "link", "set", "tr-here", "up")
    for words in (
        ("addr", "add", f"{THERE}/30", "dev", "tr-there"),
        ("link", "set", "tr-there", "up"),
        ("link", "set", "lo", "up"),
    ):
        sh("ip", "-n", NAME, *words)


def take_away() -> None:
    """The second host, all at once: its end of the cable and its processes. Nobody says goodbye."""
    sh("ip", "-n", NAME, "link", "set", "tr-there", "down", check=False)
    for pid in sh("ip", "netns", "pids", NAME, check=False).split():
        subprocess.run(["kill", "-9", pid], check=False)


def main() -> None:
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token"}  # read when Ray is imported
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    import ray

    from transect.work.pool import run_blocks

    ray_command = str(Path(sys.executable).parent / "ray")
    start = [ray_command, "start", "--num-cpus", "1", "--disable-usage-stats"]
    lay_cable()
    try:
        sh(*start, "--head", f"--node-ip-address={HERE}", "--port=6399", "--include-dashboard=false")
        sh("ip", "netns", "exec", NAME, *start, f"--address={HERE}:6399", f"--node-ip-address={THERE}")
        with tempfile.TemporaryDirectory() as folder:
            done, gone, begun = {}, False, time.monotonic()
            work = partial(slow_square, Path(folder))
            for block, told in run_blocks(work, range(24), engine=f"ray@{HERE}:6399", workers=2, retries=4):
                done[block] = told
                if os.environ.get("TALK"):
                    print(f"{time.monotonic() - begun:6.1f} s: block {block}", file=sys.stderr)
                if len(done) == 6 and not gone:
                    gone = True
                    hosts = sorted({p.read_text() for p in Path(folder).glob("*.node")})
                    take_away()
                    cut = time.monotonic()
            assert done == {k: k * k for k in range(24)}, done
            assert hosts == [HERE, THERE], hosts
            print(
                f"hosts {', '.join(hosts)}: 24 blocks, the second taken away after 6; all equal, "
                f"{cut - begun:.1f} s before and {time.monotonic() - cut:.1f} s after"
            )
        ray.shutdown()
    finally:
        take_away()
        subprocess.run([ray_command, "stop", "--force"], capture_output=True, check=False)
        sh("ip", "link", "del", "tr-here", check=False)
        sh("ip", "netns", "del", NAME, check=False)


if __name__ == "__main__":
    main()
