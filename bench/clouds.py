"""Real clouds for the other benches: the same 1000 tokens of SmolLM2-135M at every layer, without position 0.

python bench/clouds.py OUT.npz [--n 1000] [--texts 60]
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--texts", type=int, default=60)
    given = parser.parse_args()
    import transect as ts
    from transect.inference.evaluate import massive_tokens

    with tempfile.TemporaryDirectory() as folder:
        store = ts.capture(
            ts.open_model("smollm2"), ts.open_texts(f"gsm-test:{given.texts}"), Path(folder) / "s"
        )
        chosen = store.select("all", position0=False)
        massive = massive_tokens([store], [store.sites], [chosen], 10.0)[0]
        calm = np.setdiff1d(np.arange(len(chosen)), massive)
        rows = np.sort(np.random.default_rng(0).choice(calm, given.n, replace=False))
        np.savez(given.out, *(store.take(site, chosen.subset(rows)) for site in store.sites))


if __name__ == "__main__":
    main()
