"""Headline claims of the five programs that Transect replaces: what their formulas give, and what corrected
ones give here.

    python bench/reproduce.py [--out runs/reproduce] [--page docs/reproduction.md]

Captures SmolLM2-135M and its random-weight twin once into --out, computes everything on CPU with fixed
seeds, and writes the page. Everything on it comes from the run.
"""

import argparse
import importlib.metadata
import time
from collections.abc import Callable
from pathlib import Path

import transect as ts
from reproduce_clouds import compare, drift
from reproduce_parts import LAYER, Made, Section
from reproduce_units import DAYS, manifold, neurons, tokens

ROOT = Path(__file__).parents[1]
PROBLEMS, BIRTHDAYS = "gsm-test:60", "birthdays:400"
SECTIONS: tuple[Callable[[Made], Section], ...] = (drift, compare, tokens, neurons, manifold)
INTRO = """\
Five one-off programs came before Transect. For each: its headline claim, what its own formulas compute,
and what corrected computations give, **on the same points of one small model**. Under each table: what
follows.

The formulas are run by us, on a 4-bit copy of SmolLM2-135M-Instruct that needs no hub (`{model}`,
fingerprint `{id}`); random weights are the same architecture (seed 0). The models that the programs
were written for — gpt2-large, GPT-2, Qwen2.5, Llama-3.1, their own fine-tunes and decoders — were not
at hand. **Nothing here is a number that they published**: the tables show what a formula does. The
formulas stand in `bench/reproduce_formulas.py`, and in the package where a study offers them (`transect
drift --as-published`, `transect.studies.neurons.maps.order_cost`,
`transect.studies.neurons.minibatch`); where a program leaves a size open (a batch, a step), the choice
is ours and named. Brackets are 95 % intervals, by leaving out groups of texts or over folds. “Above 0”
means the whole interval; “to” between two numbers is from the least to the greatest of the layers or
draws.

`make reproduce` writes this page again: a few minutes on one core ({versions}).
"""


def capture(out: Path) -> Made:
    """Model, twin, and a store of each on both sets of texts; finished stores are opened."""
    problems, birthdays = (ts.open_texts(spec, seed=0) for spec in (PROBLEMS, BIRTHDAYS))
    models = [ts.open_model(spec, device="cpu", seed=0) for spec in ("smollm2", "random:smollm2")]
    sites = ["resid", "final_norm", "mlp.2.act", "mlp.2.out"]
    stores = [
        ts.capture(model, texts, out / f"{texts.name}-{name}", sites=which, positions=positions)
        for texts, which, positions in (
            (problems, sites, "all"),
            (birthdays, [f"resid.{LAYER}"], ",".join(DAYS)),
        )
        for model, name in zip(models, ("smollm2", "random"), strict=True)
    ]
    return Made(*models, *stores)


def written(section: Section) -> list[str]:
    """A section as Markdown."""
    lines = [f"## {section.title}", "", f"**Claim.** {section.claim}", ""]
    lines += [f"| {' | '.join(section.head)} |", f"|{'---|' * len(section.head)}"]
    lines += [f"| {' | '.join(row)} |" for row in section.rows]
    lines += ["", section.follows, "", f"*{section.basis}*", "", "```bash", section.commands, "```", ""]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=ROOT / "runs/reproduce", help="folder of the captures")
    parser.add_argument("--page", type=Path, default=ROOT / "docs/reproduction.md")
    given = parser.parse_args()
    begun = time.process_time()
    made = capture(given.out)
    print(f"captured: {time.process_time() - begun:.0f} CPU-s", flush=True)
    versions = ", ".join(
        f"{p} {importlib.metadata.version(p)}" for p in ("torch", "transformers", "numpy", "scipy")
    )
    lines = ["<!-- Made by bench/reproduce.py. -->", "", "# Reproduction", ""]
    lines += [INTRO.format(model=made.model.name, id=made.model.id, versions=versions)]
    for section in SECTIONS:
        lines += written(section(made))
        print(f"{section.__name__}: {time.process_time() - begun:.0f} CPU-s", flush=True)
    given.page.write_text("\n".join(lines))
    print(f"written to {given.page}")


if __name__ == "__main__":
    main()
