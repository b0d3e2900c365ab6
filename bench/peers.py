"""Values and CPU seconds beside libraries that others wrote, measure by measure, in one run.

    OMP_NUM_THREADS=1 python bench/peers.py CLOUDS.npz [--texts 12]

Transport, all pairs of CKA, layouts and the manifold map have benches of their own. A peer that is not
installed is named. Differences are the largest over layers (or pairs), relative to the peer's value.
Where a peer computes another quantity under the same name, its row says which.
"""

import argparse
import functools
import importlib.metadata
import importlib.util
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

Clouds = list[np.ndarray]


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    begun = time.process_time()
    result = work()
    return time.process_time() - begun, result


def row(what: str, peer: str, ours: tuple[float, Any], theirs: tuple[float, Any], note: str = "") -> None:
    a, b = (np.asarray(values, float) for _, values in (ours, theirs))
    off = float(np.max(np.abs(a - b) / np.maximum(np.abs(b), 1e-12)))
    ratio = theirs[0] / max(ours[0], 1e-9)
    print(
        f"  {what:<34}{peer:<30}{ours[0]:8.2f}{theirs[0]:9.2f}{ratio:8.2f} x   {off:.0e}  {note}", flush=True
    )


def spectra(clouds: Clouds) -> None:
    import torch
    from representation_geometry.metrics import linear_cka, metric_from_eigenvalues
    from representation_geometry.online import RunningCovariance

    from transect.measures.similarity import cka
    from transect.measures.spectra import participation_ratio, spectrum, stable_rank

    which = [(k,) for k in range(len(clouds))]

    def theirs() -> list[dict[str, float]]:
        out = []
        for X in clouds:
            sums = RunningCovariance(X.shape[1])
            sums.update(torch.from_numpy(X))
            out.append(metric_from_eigenvalues(torch.linalg.eigvalsh(sums.covariance()).numpy()))
        return out

    seconds, told = timed(theirs)
    peer = "representation-geometry"
    row(
        "participation ratio",
        peer,
        timed(lambda: participation_ratio.values(clouds, which)),
        (seconds, column(told, "d_pr")),
    )
    row(
        "stable rank",
        peer,
        timed(lambda: stable_rank.values(clouds, which)),
        (seconds, column(told, "stable_rank")),
    )
    entropies = timed(lambda: [np.exp(-(s[s > 0] * np.log(s[s > 0])).sum()) for s in map(spectrum, clouds)])
    row(
        "effective rank", peer, entropies, (seconds, column(told, "d_entropy")), "their covariance is float32"
    )
    steps = [(k, k + 1) for k in range(len(clouds) - 1)]
    ours = timed(lambda: cka.values(clouds, steps, unbiased=False))
    tensors = [torch.from_numpy(X) for X in clouds]
    row(
        "CKA, biased, adjacent",
        peer,
        ours,
        timed(lambda: [linear_cka(tensors[i], tensors[j]) for i, j in steps]),
    )


def column(rows: list[dict[str, float]], name: str) -> list[float]:
    return [r[name] for r in rows]


def similarity(clouds: Clouds) -> None:
    from rsatoolbox.data import Dataset
    from rsatoolbox.rdm import calc_rdm, compare

    from transect.measures.neighbours import rsa

    few = [X[:500] for X in clouds]
    steps = [(k, k + 1) for k in range(len(few) - 1)]

    def theirs() -> list[float]:
        made = [calc_rdm(Dataset(X.astype(np.float64)), method="euclidean") for X in few]
        return [float(compare(made[i], made[j], method="spearman")[0, 0]) for i, j in steps]

    row(
        "RSA, Spearman, n = 500, adjacent", "rsatoolbox", timed(lambda: rsa.values(few, steps)), timed(theirs)
    )


def dimension(clouds: Clouds) -> None:
    from skdim.id import TwoNN

    from transect.measures.spectra import twonn

    which = [
        (k,) for k in range(1, len(clouds))
    ]  # layer 0 repeats points: every token of one kind is one point
    ours = timed(lambda: twonn.values(clouds, which))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = timed(lambda: [float(TwoNN().fit(clouds[k]).dimension_) for (k,) in which])
    row(
        "TwoNN dimension, 30 layers",
        "scikit-dimension TwoNN",
        ours,
        fitted,
        "they fit a line to 90 %, ours is the maximum likelihood",
    )


def sliced(clouds: Clouds) -> None:
    import ot

    from transect.measures.distances import _directions
    from transect.measures.distances import sliced as ours

    steps = [(k, k + 1) for k in range(1, len(clouds) - 1)]
    squared = timed(lambda: ours.values(clouds, steps, projections=512))

    def theirs() -> list[float]:
        drawn = _directions(clouds[0].shape[1], 512, 0)
        way = functools.partial(ot.sliced_wasserstein_distance, n_projections=512, projections=drawn)
        return [float(way(clouds[i].astype(float), clouds[j].astype(float))) ** 2 for i, j in steps]

    row("sliced W2², 512 directions", f"POT {version('POT')}", squared, timed(theirs))


def capture(texts: int) -> None:
    """The residual stream of every layer, as each library's own users would write it, on the batches of our
    plan.
    """
    import nnsight
    import torch
    from transformer_lens.model_bridge import TransformerBridge

    import transect as ts
    from transect.models.forward import inputs, kept_positions, make_batch, make_plan
    from transect.texts.texts import tokenize

    model = ts.open_model("smollm2")
    chosen = ts.open_texts(f"gsm-test:{texts}")
    tokenized = tokenize(chosen, model.tokenizer)
    lengths, kept = [len(t) for t in tokenized.ids], kept_positions(tokenized, "all")
    plan = [
        inputs(model, make_batch(tokenized.ids, b, kept))
        for s in make_plan(lengths, lengths, 2048, 10**9)
        for b in s
    ]
    layers = model.model.config.num_hidden_layers

    def floor() -> list[torch.Tensor]:
        return [model.base(**batch)[0] for batch in plan]

    def hidden() -> list[torch.Tensor]:
        return [torch.stack(model.base(**b, output_hidden_states=True).hidden_states[:-1]) for b in plan]

    traced = nnsight.NNsight(model.base)

    def by_nnsight() -> list[torch.Tensor]:
        out = []
        for batch in plan:
            with traced.trace(**batch):
                saved = nnsight.save([traced.layers[k].input for k in range(layers)])
            out.append(torch.stack(saved))
        return out

    def by_lens() -> list[torch.Tensor]:
        names = [f"blocks.{k}.hook_in" for k in range(layers)]
        out = []
        for batch in plan:
            _, cache = bridge.run_with_cache(
                batch["input_ids"],
                attention_mask=batch["attention_mask"],
                names_filter=lambda name: name in names,
            )
            out.append(torch.stack([cache[name] for name in names]))
        return out

    with torch.inference_mode():
        floor()
        base, truth = min(timed(floor)[0] for _ in range(2)), hidden()
        print(f"  the forward pass of the base model alone: {base:.2f} CPU-s, {sum(lengths)} tokens")
        ways = {"transformers output_hidden_states": hidden, f"nnsight {version('nnsight')}": by_nnsight}
        for name, way in ways.items():
            told(name, way, base, truth, plan)
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        seconds = min(timed(lambda k=k: ts.capture(model, chosen, f"{folder}/{k}"))[0] for k in range(2))
        print(f"  {'transect, written to disk':<36}{seconds:8.2f} CPU-s  {seconds / base:5.2f} x")
        model.model.save_pretrained(f"{folder}/model")
        model.tokenizer.save_pretrained(f"{folder}/model")
        bridge = TransformerBridge.boot_transformers(f"{folder}/model", device="cpu")
        with torch.inference_mode():
            told(
                f"TransformerLens {version('transformer-lens')}, eager attention", by_lens, base, truth, plan
            )


def told(name: str, way: Callable[[], list[Any]], base: float, truth: list[Any], plan: list[Any]) -> None:
    """A row: seconds beside the floor, and the largest difference at real tokens relative to the largest
    value.
    """
    way()
    seconds, found = min((timed(way) for _ in range(2)), key=lambda r: r[0])
    off = 0.0
    for a, b, batch in zip(found, truth, plan, strict=True):
        real = batch["attention_mask"].bool()
        off = max(off, float((a[:, real] - b[:, real]).abs().max() / b[:, real].abs().max()))
    print(f"  {name:<36}{seconds:8.2f} CPU-s  {seconds / base:5.2f} x   differs by {off:.0e}")


def version(name: str) -> str:
    return importlib.metadata.version(name)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clouds", help="an .npz of one [n, d] array for each layer")
    parser.add_argument("--texts", type=int, default=12)
    options = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    with np.load(options.clouds) as file:
        clouds = [file[name].astype(np.float32) for name in file.files]
    print(f"clouds: {len(clouds)} layers of {clouds[0].shape}")
    print(f"  {'':<34}{'peer':<30}{'ours s':>8}{'peer s':>9}{'ratio':>8}     difference")
    needs = {spectra: "representation_geometry", similarity: "rsatoolbox", dimension: "skdim", sliced: "ot"}
    for part, package in needs.items():
        if importlib.util.find_spec(package):
            part(clouds)
        else:
            print(f"  {package} is not installed: make peers")
    print(f"capture of the residual stream, {options.texts} problems of gsm-test, one thread")
    missing = [p for p in ("nnsight", "transformer_lens") if not importlib.util.find_spec(p)]
    if missing:
        print(f"  {', '.join(missing)} not installed: make peers")
    else:
        capture(options.texts)


if __name__ == "__main__":
    main()
