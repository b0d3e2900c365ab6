"""`make bench`: every bench in one run, side by side with its peers, written to docs/benchmarks.md as
printed.

python bench/run.py [--quick]
"""

import argparse
import importlib.metadata
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
PEERS = (
    "torch", "transformers", "numpy", "scipy", "scikit-learn", "safetensors", "ray", "POT", "geomloss",
    "pytorch-cka",
    "representation-geometry", "transformer-lens", "nnsight", "scikit-dimension", "rsatoolbox",
    "calibrated-similarity",
)  # fmt: skip
#: What each bench is to reach.
REACH = {
    "capture.py": (
        "Reach: residual stream ≤ 1.10 × the forward pass, every family ≤ 1.4 ×; a layer read in "
        "≤ 2 × np.load of its bytes."
    ),
    "sinkhorn.py": (
        "Reach: all pairs in ≤ 2 × the cost matrices, ≥ 6 × faster than POT's defaults; exact "
        "W2 no slower than the scipy loop."
    ),
    "cka.py": "Reach: ≤ 2.0 CPU-s and ≤ 1 GB at n = 2000 (drawn clouds), one pass over the store.",
    "nulls.py": "Reach: 199 draws of CKA, RSA and kNN in ≤ 3 × the value (31 layers, adjacent pairs).",
    "smds.py": "Reach: 13 shapes and 100 permutations in ≤ 3 × the map of one shape without a null.",
    "neurons.py": (
        "Reach: ≥ 70 % of the matmul rate; a layout faster than scikit-learn's at equal or lower stress."
    ),
    "train.py": "Reach: ≤ 1.15 × a plain loop.",
    "engines.py": "Reach: < 10 % over the local pool at blocks of 50 ms and more.",
    "bring.py": (
        "Reach: import at ≥ 70 % of the disk's copy rate; the verdict of calibrated-similarity in fewer CPU "
        "seconds."
    ),
    "passes.py": "Reach: each study ≤ 3 × the forward passes that it needs.",
    "page.py": "Reach: first paint < 0.5 s, a new token at 46,080 points < 60 ms of CPU.",
}
#: Script → arguments (CLOUDS stands for the file of real clouds), heading, arguments of a quick run.
BENCHES = {
    "capture.py": (["--threads", "1"], "Capture and store", ["--texts", "12"]),
    "peers.py": (["CLOUDS"], "Values and speed beside peers", ["--texts", "4"]),
    "sinkhorn.py": (["CLOUDS", "--sizes", "500", "1000"], "Transport", ["--pairs", "4"]),
    "cka.py": (["--points", "2000"], "Similarity of all layer pairs", ["--points", "500"]),
    "nulls.py": ([], "Nulls and intervals", []),
    "smds.py": ([], "Supervised MDS map", ["--cells", "2"]),
    "neurons.py": ([], "Neurons", ["--width", "512"]),
    "train.py": ([], "Training step", []),
    "engines.py": ([], "Engines", ["--blocks", "40"]),
    "passes.py": ([], "Studies that run the model", []),
    "page.py": ([], "The page", []),
    "bring.py": ([], "Bring anything", ["--quick"]),
    "growth.py": (["CLOUDS"], "How cost grows", []),
    "studies.py": ([], "Where the time of a study goes", ["--only", "demo"]),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer texts and pairs")
    parser.add_argument("--only", nargs="*", help="these scripts alone; the other sections of the page stay")
    given = parser.parse_args()
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TRANSECT_THREADS": "1"}
    parts = ["<!-- Made by make bench. -->", "", "# Benchmarks", ""]
    versions = ", ".join(f"{name} {version(name)}" for name in PEERS)
    parts += [
        f"Ratios measured side by side in one run, in CPU seconds, one thread. {versions}; Python "
        f"{sys.version.split()[0]}. Sections say of which day they are.",
        "",
        "Clouds are real: 1000 tokens of SmolLM2-135M (the 4-bit copy) at 31 layers of width 576, on GSM8K "
        "problems, without",
        "position 0 and without massive tokens. The `smds` reference library is on no package index: its "
        "ratio is printed by",
        "`python bench/smds.py --reference` where it can be imported.",
        "",
    ]
    failed: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        clouds = Path(folder) / "clouds.npz"
        subprocess.run([sys.executable, ROOT / "bench/clouds.py", clouds], check=True, env=environment)
        for script, (arguments, heading, quick) in BENCHES.items():
            if given.only and script not in given.only:
                continue
            named = [*arguments, *(quick if given.quick else [])]
            print(f"bench/{script} …", flush=True)
            done = subprocess.run(
                [
                    sys.executable,
                    ROOT / "bench" / script,
                    *(str(clouds) if a == "CLOUDS" else a for a in named),
                ],
                capture_output=True,
                text=True,
                env=environment,
                check=False,
            )
            if done.returncode:
                failed.append(script)
                print(f"bench/{script} failed:\n{done.stderr[-2000:]}", file=sys.stderr)
                continue
            print(done.stdout, flush=True)
            shown = done.stdout.replace(str(clouds), "clouds.npz").rstrip()
            told = " ".join(
                ["python", f"bench/{script}", *("clouds.npz" if a == "CLOUDS" else a for a in named)]
            )
            parts += [
                f"## {heading}",
                "",
                f"`{told}`, {time.strftime('%Y-%m-%d')}",
                "",
                *([REACH[script], ""] if script in REACH else []),
                "```text",
                shown,
                "```",
                "",
            ]
    page = ROOT / "docs/benchmarks.md"
    if given.only and page.exists():
        parts = [merged(page.read_text(), "\n".join(parts))]
    page.write_text("\n".join(parts))
    print("written to docs/benchmarks.md")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def merged(before: str, now: str) -> str:
    """The page before, with the sections that were made now."""
    old, new = ({s.partition("\n")[0]: s for s in text.split("\n## ")[1:]} for text in (before, now))
    order = [heading for _, heading, _ in BENCHES.values() if heading in old | new]
    return "\n## ".join(
        [before.split("\n## ")[0], *((old | new)[heading].rstrip() + "\n" for heading in order)]
    )


def version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    main()
