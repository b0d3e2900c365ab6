"""What studies of SmolLM2 cost beside the passes through it that they need, in CPU seconds of one thread.

    OMP_NUM_THREADS=1 TRANSECT_THREADS=1 python bench/passes.py [--texts 12]

Needed: the lens reads every site three times and the output once (the head alone); depth runs the model whole
and once an edit; the loss of dimension one pass, its layers none; steering 17 passes a site, an intervention
8; intruders every set of texts at each place of a line and of a scale, and a pass there and back for the
Fisher information. Probes and matches need the passes of their captures alone: they stand beside those.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

import transect as ts
from transect.models.losses import losses
from transect.studies.adapters.changes import adapter_changes
from transect.studies.adapters.forgetting import Tuned, fisher, judged
from transect.studies.manifold.intervene import TEXTS, intervene
from transect.studies.manifold.moves import next_token
from transect.studies.manifold.paths import TEXTS as MOST
from transect.studies.manifold.plan import MapJob
from transect.studies.manifold.question import Moving, question
from transect.studies.manifold.steer import steer
from transect.train.finetune import finetune
from transect.train.recipe import Recipe

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
        moves(model, Path(folder))
        intruders(Path(folder), count)
        captured(model, Path(folder), count)


def moves(model: ts.Model, folder: Path) -> None:
    """Steering and intervention at three and five sites, beside their bare passes over the same texts."""
    store = ts.capture(
        model, ts.open_texts("months:192"), folder / "months", sites=["resid"], layers=[0, 7, 15, 22]
    )
    job = MapJob(
        str(store.path),
        store.content,
        (),
        ("month",),
        None,
        (("circle", '{"period": 12.0}'),),
        permutations=0,
    )
    task = Moving(job, "resid.15", "landmark:month", 3.0)
    asked = question(task)
    for name, work, texts, passes in (("steering", steer, MOST, 17), ("intervention", intervene, TEXTS, 8)):
        ids = asked.ids(np.arange(texts))
        told(
            f"{name}, a site",
            cpu(lambda work=work: work(task)),
            passes * cpu(lambda ids=ids: next_token(model, ids)),
        )


def intruders(folder: Path, count: int) -> None:
    """What an adapter does to texts, its first vectors taken for intruders: losses at every place and Fisher
    information, beside passes there, and there and back."""
    size = {"steps": 4, "batch": 4, "max_length": 32, "eval_limit": 8}
    loud = finetune(Recipe(model="smollm2", task="lm:sotu", method="lora", **size), folder / "loud")
    config = json.loads((loud / "adapter_config.json").read_text())
    changes, _ = adapter_changes(loud, config, "smollm2")
    tuned, texts = Tuned("smollm2", changes), ts.open_texts(f"gsm-test:{count}")
    how = SimpleNamespace(top=16, longest=LONGEST, groups=10, seed=0)
    picks, rows = {c.name: [0] for c in changes[::10]}, []
    spent = cpu(lambda: rows.extend(judged(tuned, {"task": texts}, picks, how, None)))
    spent += cpu(lambda: fisher(tuned, texts, how))
    places = sum(row["measure"] == "loss" for row in rows)
    whole = cpu(lambda: losses(tuned.model, texts, max_length=LONGEST))
    told(f"texts of intruders, {places} places", spent, (places + 3) * whole)


def captured(model: ts.Model, folder: Path, count: int) -> None:
    """Studies without a pass of their own: with their captures, beside the passes of those."""
    texts = ts.open_texts(f"gsm-test:{count}")
    whole = cpu(lambda: losses(model, texts))
    stores: list[ts.Store] = []

    def taken(name: str, **sites: Any) -> float:
        return cpu(lambda: stores.append(ts.capture(model, texts, folder / name, name=name, **sites)))

    spent = taken("probed", sites=["resid"], layers=[0, 15, 29])
    told("probe, 3 sites", spent + cpu(lambda: ts.studies.probe(stores[0], workers=1)), whole)
    spent = sum(taken(name, sites=["mlp.act"], layers=[0, 15, 29]) for name in ("one", "other"))
    told("match, 3 sites", spent + cpu(lambda: ts.studies.match(stores[1], stores[2], workers=1)), 2 * whole)


def told(name: str, spent: float, needed: float) -> None:
    print(f"  {name:<32}{spent:6.1f} CPU-s, {needed:6.1f} needed   {spent / needed:.2f} x")


if __name__ == "__main__":
    main()
