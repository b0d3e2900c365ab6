"""`make bench`: every bench in one run, side by side with its peers, written to docs/benchmarks.md as printed.

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
PEERS = ("torch", "transformers", "numpy", "scipy", "POT", "scikit-learn", "safetensors")
#: Script → arguments (CLOUDS stands for the file of real clouds), heading.
BENCHES = {
    "capture.py": (["--threads", "1"], "Capture and store"),
    "sinkhorn.py": (["CLOUDS", "--sizes", "500", "1000"], "Transport"),
    "cka.py": (["CLOUDS"], "Similarity of all layer pairs"),
    "smds.py": ([], "Supervised MDS map"),
    "neurons.py": ([], "Neurons"),
    "train.py": ([], "Training step"),
    "page.py": ([], "The page"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer texts and pairs")
    quick = parser.parse_args().quick
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TRANSECT_THREADS": "1"}
    parts = ["<!-- Made by make bench. -->", "", "# Benchmarks", ""]
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PEERS)
    parts += [
        f"Ratios measured side by side in one run, in CPU seconds, one thread. {versions}; {time.strftime('%Y-%m-%d')}.",
        "",
    ]
    parts += ["Clouds are real: 1000 tokens of SmolLM2-135M at 31 layers of width 576, on GSM8K problems.", ""]
    with tempfile.TemporaryDirectory() as folder:
        clouds = Path(folder) / "clouds.npz"
        subprocess.run([sys.executable, ROOT / "bench/clouds.py", clouds], check=True, env=environment)
        for script, (arguments, heading) in BENCHES.items():
            if not (ROOT / "bench" / script).exists():
                continue
            given = [str(clouds) if a == "CLOUDS" else a for a in arguments]
            given += {"capture.py": ["--texts", "12"], "sinkhorn.py": ["--pairs", "4"]}.get(script, []) if quick else []
            print(f"bench/{script} …", flush=True)
            done = subprocess.run(
                [sys.executable, ROOT / "bench" / script, *given],
                capture_output=True,
                text=True,
                env=environment,
                check=False,
            )
            if done.returncode:
                sys.exit(f"bench/{script} failed:\n{done.stderr[-2000:]}")
            print(done.stdout)
            shown = done.stdout.replace(str(clouds), "clouds.npz").rstrip()
            parts += [f"## {heading}", "", f"`python bench/{script}`", "", "```text", shown, "```", ""]
    (ROOT / "docs/benchmarks.md").write_text("\n".join(parts))
    print("written to docs/benchmarks.md")


if __name__ == "__main__":
    main()
