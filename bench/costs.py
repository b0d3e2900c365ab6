"""What the app says that a study will cost beside what it costs, on a tiny model and on SmolLM2.

    OMP_NUM_THREADS=1 TRANSECT_THREADS=1 python bench/costs.py [--tiny]

Every command runs in a process of its own on one thread; CPU seconds with imports, figures and page. A plan
is right when it is within a factor of 2. The token study is made with its control; evolve is the token study
of every checkpoint, and is not run here.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
#: Study → its words after the store; MODEL, TEXTS, STORE and LORA stand for what is measured.
COMMANDS = {
    "probe": "probe STORE",
    "lens": "lens STORE",
    "depth": "depth STORE --longest 16",
    "adapters": "adapters LORA --base MODEL",
    "pruning": "neurons prune MODEL --texts TEXTS",
    "tokens": "tokens STORE",
}


def adapter(model: str, out: Path) -> None:
    """A LoRA adapter of random numbers."""
    import torch
    from peft import LoraConfig, get_peft_model

    import transect as ts

    torch.manual_seed(0)
    names = ["q_proj", "v_proj", "up_proj"]
    adapted: Any = get_peft_model(ts.open_model(model).model, LoraConfig(r=4, target_modules=names))
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.01)
    adapted.save_pretrained(out)


def spent(words: list[str]) -> float:
    """CPU seconds of a command."""
    call = "from transect.cli.main import main; main()"
    before = os.times()
    subprocess.run([sys.executable, "-c", call, *words], check=True, capture_output=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def compare(model: str, texts: str, at: Path) -> None:
    from transect.page.catalog import Catalog
    from transect.page.estimates import study_cost

    print(f"{Path(model).name}, {Path(texts).name}")
    spent(["capture", model, texts, "--out", str(at / "store")])
    adapter(model, at / "lora")
    catalog = Catalog([at]).scan()
    for store in catalog["stores"]:
        store["path"] = str(at / store["path"])
    places = {"STORE": str(at / "store"), "MODEL": model, "TEXTS": texts, "LORA": str(at / "lora")}
    for name, line in COMMANDS.items():
        words = [places.get(w, w) for w in line.split()]
        values = {"base": model, "texts": texts, "longest": 16 if name == "depth" else None}
        plan = study_cost(name, [places[{"adapters": "LORA", "pruning": "MODEL"}.get(name, "STORE")]],
                          catalog, None, values)  # fmt: skip
        seconds, predicted = spent([*words, "--out", str(at / name)]), plan["seconds"]
        held = sum(f.stat().st_size for f in (at / name).rglob("*") if f.is_file())
        size = plan["bytes"] / 1e6, held / 1e6, plan["bytes"] / held
        print(
            f"  {name:<10}{predicted:>8.0f} s predicted{seconds:>8.0f} CPU-s   {predicted / seconds:4.2f} x"
            f"   {size[0]:>6.1f} MB predicted{size[1]:>8.1f} MB   {size[2]:4.2f} x",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="the tiny model alone")
    tiny = parser.parse_args().tiny
    from tiny import make_texts, save_tiny

    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        save_tiny(at / "tiny", "llama")
        lines = (json.dumps({"text": text}) for text in make_texts(24).texts)
        (at / "texts.jsonl").write_text("\n".join(lines))
        compare(str(at / "tiny"), str(at / "texts.jsonl"), at / "of-tiny")
        if not tiny:
            compare("smollm2", "gsm-test:8", at / "of-smollm2")


if __name__ == "__main__":
    main()
