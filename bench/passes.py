"""What studies of SmolLM2 cost beside the passes through it that they need, in CPU seconds of one thread.

    OMP_NUM_THREADS=1 TRANSECT_THREADS=1 python bench/passes.py [--texts 12]

Needed: the lens reads every site three times and the output once (the head alone); depth runs the model whole
and once an edit; the loss of dimension one pass, its layers none. The capture before them is one pass and
stands in every store.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import transect as ts
from transect.models.losses import losses

LONGEST, SITES = 32, ("resid.0", "resid.10", "resid.20", "resid.30")


def cpu(work: Callable[[], Any]) -> float:
    """CPU seconds of one call."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=12)
    count = parser.parse_known_args()[0].texts
    model = ts.open_model("smollm2")
    with tempfile.TemporaryDirectory() as folder:
        texts = ts.open_texts(f"gsm-test:{count}")
        store = ts.capture(model, texts, Path(folder) / "s")
        tokens = int(np.minimum(store.lengths, LONGEST).sum())
        losses(model, texts, max_length=LONGEST)  # warms up
        whole = cpu(lambda: losses(model, texts, max_length=LONGEST))
        states = torch.randn(tokens, model.base.config.hidden_size)
        head = cpu(lambda: model.model.lm_head(states).log_softmax(-1))
        print(f"{count} texts, {tokens} tokens: a pass {whole:.2f} CPU-s, its head and softmax {head:.2f}")
        small = {"judges": count, "longest": LONGEST, "workers": 1}
        lens = cpu(lambda: ts.studies.lens(store, sites=",".join(SITES), **small))
        told("lens, 4 sites", lens, 4 * 4 * head)
        blocks = len(model.base.layers)
        told("depth", cpu(lambda: ts.studies.depth(store, **small)), (1 + 3 * blocks - 1) * whole)
        bare = cpu(lambda: ts.studies.dimension(store, loss=False, workers=1))
        both = cpu(lambda: ts.studies.dimension(store, workers=1))
        print(f"  dimension, {blocks + 1} layers    {bare:.1f} CPU-s without a pass")
        told("its losses", both - bare, cpu(lambda: losses(model, texts)))


def told(name: str, spent: float, needed: float) -> None:
    print(f"  {name:<24}{spent:6.1f} CPU-s, {needed:6.1f} needed   {spent / needed:.2f} x")


if __name__ == "__main__":
    main()
