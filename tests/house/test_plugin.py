"""The example package, installed where it stands alone: its measure, texts, study and figure are found and
work."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from planted import planted_store

ROOT = Path(__file__).parents[2]


def test_a_package_of_somebody_else_is_found(tmp_path: Path) -> None:
    site = tmp_path / "site"
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-compile",
    ]
    command += ["--disable-pip-version-check", "--target", str(site), str(ROOT / "examples/plugin")]
    subprocess.run(command, check=True, capture_output=True)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20 * 8, 5))
    planted_store(tmp_path / "store", [X, X + 3, X + 3], [8] * 20)
    environment = os.environ | {"PYTHONPATH": str(site), "TRANSECT_THREADS": "1", "OMP_NUM_THREADS": "1"}

    def transect(*arguments: str) -> subprocess.CompletedProcess:
        call = [sys.executable, "-m", "transect", *arguments]
        return subprocess.run(
            call, env=environment, capture_output=True, text=True, cwd=tmp_path, check=False
        )

    done = transect("spread", "store", "--out", "out", "--n", "60", "--groups", "4")
    assert done.returncode == 0, done.stderr
    assert "resid.0 → resid.1" in done.stdout
    assert (tmp_path / "out/figures/gaps.pdf").stat().st_size > 1000
    assert "--squared" in transect("measure", "mean_gap", "--help").stdout
    assert "spread" in transect("--help").stdout
    code = "import transect as ts; t = ts.open_texts('proverbs:4'); print(len(t), sorted(t.labels))"
    told = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert told.stdout.split("\n")[0] == "4 ['theme']"
