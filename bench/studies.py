"""Where the time of the demo and of each study goes: CPU seconds of imports, passes, measures, figures, and
the rest.

    OMP_NUM_THREADS=1 TRANSECT_THREADS=1 python bench/studies.py

Every command runs in a process of its own, on one thread, on SmolLM2 and small sizes. The floor of a
study is what it was asked for: passes through the model, and the measures with their nulls and
replicates.
"""

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

#: What is timed: column → places of the functions that do it, under the names by which their callers know
#: them.
PARTS = {
    "opening": ["transect.models.models.open_model"],
    "passes": ["transect.store.capture.capture"],
    "measures": [
        "transect.inference.sweep.evaluate",
        "transect.studies.manifold.rows.evaluate_site",
        "transect.studies.tokens.study.measured",
        "transect.studies.neurons.blocks.scaled",
        "transect.studies.neurons.blocks.split_moments",
    ],
    "figures": ["transect.results.drawing.render"],
    "report": ["transect.page.report.report"],
}
COMMANDS = {
    "demo": "demo --out {out}/demo",
    "drift": "drift {out}/demo/stores/smollm2 --n 100 --out {out}/drift",
    "compare": "compare {out}/demo/stores/smollm2 {out}/demo/stores/random --n 100 --out {out}/compare",
    "capture": "capture smollm2 birthdays:60 --sites resid,mlp.act --layers 2,15,29 --out {out}/days",
    "manifold": "manifold {out}/days --label date --shape circle --out {out}/map",
    "neurons": "neurons {out}/days --sites mlp.act --out {out}/neurons",
    "tokens": "tokens {out}/demo/stores/smollm2 --n 60 --out {out}/tokens",
}


def timed(name: str, spent: dict[str, float]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Adds the CPU seconds of every outermost call to `spent`."""

    def around(func: Callable[..., Any]) -> Callable[..., Any]:
        def run(*given: Any, **named: Any) -> Any:
            begun, within = time.process_time(), sum(spent.values())
            try:
                return func(*given, **named)
            finally:  # what a part inside has taken is its own
                spent[name] += time.process_time() - begun - (sum(spent.values()) - within)

        return run

    return around


def child(words: list[str]) -> None:
    """Run one command in this process and print where its time went, as JSON, last."""
    begun = time.process_time()
    import transformers  # noqa: F401

    spent = {"imports": time.process_time() - begun} | dict.fromkeys(PARTS, 0.0)
    for name, places in PARTS.items():
        for place in places:
            module, _, attribute = place.rpartition(".")
            room = importlib.import_module(module)
            if hasattr(room, attribute):
                setattr(room, attribute, timed(name, spent)(getattr(room, attribute)))
    from transect.cli.main import cli

    cli(words, standalone_mode=False)
    print(json.dumps(spent | {"whole": time.process_time()}))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="*", default=list(COMMANDS))
    parser.add_argument("command", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.command:
        child(given.command)
        return
    columns = ("imports", *PARTS)
    print(f"  {'CPU-s':<10}{'whole':>8}" + "".join(f"{c:>10}" for c in columns) + f"{'rest':>10}")
    with tempfile.TemporaryDirectory() as out:
        for name in given.only:
            command = [sys.executable, __file__, *COMMANDS[name].format(out=out).split()]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(f"{name}: {done.stderr[-1500:]}")
            told = json.loads(done.stdout.splitlines()[-1])
            rest = told["whole"] - sum(told[c] for c in columns)
            print(
                f"  {name:<10}{told['whole']:8.1f}"
                + "".join(f"{told[c]:10.1f}" for c in columns)
                + f"{rest:10.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
