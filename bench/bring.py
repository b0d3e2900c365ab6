"""Other people's activations, other tokenizers, a look while training: equal to what others hold, and what it
costs.

    OMP_NUM_THREADS=1 python bench/bring.py [--quick]

TransformerLens and nnsight are the real packages on a tiny random Llama. A peer that is
not installed is named.
"""

import argparse
import importlib.util
import os
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
warnings.simplefilter("ignore")


def cpu(work: Callable[[], Any]) -> tuple[float, Any]:
    begun = time.process_time()
    result = work()
    return time.process_time() - begun, result


def others(at: Path) -> None:
    """A store made of what each tool holds equals the store that Transect captures of the same model."""
    import torch

    import transect as ts
    from tiny import make_texts, save_tiny, tiny_tokenizer

    folder, texts = save_tiny(at / "llama", "llama"), make_texts(6)
    words, model = tiny_tokenizer(), ts.open_model(str(at / "llama"))
    families = ["resid", "attn.head", "attn.out", "mlp.act", "mlp.out", "final_norm"]
    own = ts.capture(model, texts, at / "own", sites=families, batch_tokens=1)
    ids = [torch.tensor([words(text)["input_ids"]]) for text in texts.texts]
    if importlib.util.find_spec("transformer_lens"):
        from transformer_lens.model_bridge import TransformerBridge

        bridge = TransformerBridge.boot_transformers(str(folder), device="cpu")
        caches = [bridge.run_with_cache(one)[1] for one in ids]
        lists = {name: [cache[name][0] for cache in caches] for name in caches[0]
                 if name.startswith(("blocks", "ln_final", "hook_embed"))}  # fmt: skip
        compared("TransformerLens", ts.store_from_arrays(lists, at / "lens", texts=texts), own)
        one = ts.store_from_arrays(caches[0], at / "cache", mask="all")
        print(f"  an ActivationCache as it is: {len(one.sites)} sites, {int(one.start[-1])} rows")
    else:
        print("  TransformerLens is not installed")
    if importlib.util.find_spec("nnsight"):
        from nnsight import LanguageModel

        held: dict[str, list[Any]] = {}
        lens = LanguageModel(model.model, tokenizer=words)
        for text in texts.texts:
            for name, value in saved(lens, text, len(model.base.layers)).items():
                held.setdefault(name, []).append(value[0])
        compared("nnsight", ts.store_from_arrays(held, at / "nnsight", texts=texts), own)
    else:
        print("  nnsight is not installed")


def saved(lens: Any, text: str, layers: int) -> dict[str, Any]:
    """Values that nnsight saves of one text, by its names for modules."""
    found: dict[str, Any] = {}
    for k in range(layers):
        with lens.trace(text):
            neurons = lens.model.layers[k].mlp.down_proj.input.save()
            block = lens.model.layers[k].output.save()
        whole = block[0] if isinstance(block, tuple) else block
        found[f"model.layers.{k}.output"] = whole if whole.ndim == 3 else whole[None]
        found[f"model.layers.{k}.mlp.down_proj.input"] = neurons
    return found


def compared(name: str, theirs: Any, own: Any) -> None:
    worst = max(float(np.abs(theirs.points(s) - own.points(s)).max()) for s in theirs.sites)
    assert worst < 1e-5, f"{name}: {worst}"
    print(
        f"  {name:<18}{len(theirs.sites)} sites, {int(theirs.start[-1])} rows, largest difference {worst:.0e}"
    )


def importing(at: Path, megabytes: int) -> None:
    """Wall seconds of an import and of a copy of the same bytes to the same disk, both synced."""
    from transect.store.imports import import_arrays

    rng = np.random.default_rng(0)
    X = rng.standard_normal((megabytes * 1_000_000 // (4 * 64 * 768), 64, 768), np.float32)
    np.save(at / "points.npy", X)
    size, best = (at / "points.npy").stat().st_size, [float("inf"), float("inf")]
    for k in range(3):
        (at / "copy.npy").unlink(missing_ok=True)  # a new file on both sides
        begun = time.perf_counter()
        shutil.copyfile(at / "points.npy", at / "copy.npy")
        with (at / "copy.npy").open("rb+") as file:
            os.fsync(file.fileno())
        best[0] = min(best[0], time.perf_counter() - begun)
        begun = time.perf_counter()
        import_arrays(at / "points.npy", at / f"imported{k}", site="resid.0", mask="all")
        best[1] = min(best[1], time.perf_counter() - begun)
        shutil.rmtree(at / f"imported{k}")
    copy, ours = (size / 1e6 / seconds for seconds in best)
    print(f"  import {ours:.0f} MB/s, copy {copy:.0f} MB/s: {ours / copy:.0%}")


def aligning(at: Path, texts: int) -> None:
    """CPU seconds to align runs of many texts under two tokenizers."""
    import transect as ts
    from transect.store.align import align

    rng = np.random.default_rng(0)
    known = ["the", "month", "of", "March", "has", "thirty", "days", "birthday", "Berlin", "number"]
    made = [" ".join(rng.choice(known, 12)) for _ in range(texts)]
    stores = []
    for size in (3, 4):
        tokens = [[f"{' ' * bool(i)}{w}"[k : k + size] for i, w in enumerate(t.split())
                   for k in range(0, len(w) + bool(i), size)] for t in made]  # fmt: skip
        points = [np.ones((len(row), 8), np.float32) for row in tokens]
        stores.append(ts.store_from_arrays({"resid.0": points}, at / f"t{size}", texts=made, tokens=tokens))
    for how in ("prefix", "word", "text"):
        seconds, found = cpu(lambda how=how: align(stores, at / how, how))
        share = found[0].manifest["aligned"]["share"]
        print(
            f"  {how:<8}{texts:,} texts: {seconds:.1f} CPU-s, {int(found[0].start[-1]):,} points, {share:.0%}"
        )


def calibrating() -> None:
    """The score of the best pair of layers beside calibrated-similarity: verdict and CPU seconds."""
    import transect as ts
    from transect.numeric.permute import text_permutations
    from transect.studies.compare.calibrated import calibrated

    rng, n = np.random.default_rng(0), 300
    left = [rng.standard_normal((n, 96)) for _ in range(8)]
    right = [rng.standard_normal((n, 64)) for _ in range(5)]
    related = [*right[:-1], 0.5 * left[3][:, :64] + rng.standard_normal((n, 64))]
    which = [(i, 8 + j) for i in range(8) for j in range(5)]

    def ours(other: list[np.ndarray]) -> tuple[float, float, float]:
        clouds = [*left, *other]
        order = text_permutations(n, 200, np.random.default_rng(1))
        null = np.array(ts.measures.cka.null_values(clouds, which, order, 1)).T
        return calibrated(np.array(ts.measures.cka.values(clouds, which)), null)

    for name, other in (("unrelated", right), ("related", related)):
        seconds, (score, _, p) = cpu(lambda other=other: ours(other))
        line = f"  {name:<10}Transect: score {score:.3f}, p {p:.3f}, {seconds:.1f} CPU-s"
        if not importlib.util.find_spec("calibrated_similarity"):
            print(f"{line}; calibrated-similarity is not installed")
            continue
        theirs, (their_score, their_p) = cpu(lambda other=other: peer(left, other))
        assert (p <= 0.05) == (their_p <= 0.05), "another verdict"
        print(f"{line}; calibrated-similarity: score {their_score:.3f}, p {their_p:.3f}, {theirs:.1f} CPU-s")


def peer(left: list[np.ndarray], right: list[np.ndarray]) -> tuple[float, float]:
    """Score and p of calibrated-similarity, with unbiased CKA of torch tensors."""
    import torch
    from calibrated_similarity import calibrate_layers

    def hsic(K: Any, L: Any) -> Any:
        n = len(K)
        K, L = K - torch.diag(torch.diag(K)), L - torch.diag(torch.diag(L))
        a, b = K.sum() * L.sum() / ((n - 1) * (n - 2)), 2 * (K.sum(0) @ L.sum(0)) / (n - 2)
        return (K * L).sum() + a - b

    def cka(X: Any, Y: Any) -> Any:
        K, L = X @ X.T, Y @ Y.T
        return hsic(K, L) / torch.sqrt(hsic(K, K) * hsic(L, L))

    tensors = [[torch.from_numpy(X - X.mean(0)) for X in side] for side in (left, right)]
    score, p, _ = calibrate_layers(*tensors, cka, agg="max", K=200)
    return float(score), float(p)


def looking(at: Path, texts: int) -> None:
    """CPU seconds of one look of a callback, beside a training step of the same model."""
    import torch

    import transect as ts
    from transect.integrations import Watch

    model = ts.open_model("smollm2")
    batch = torch.randint(0, 49000, (8, 64), generator=torch.Generator().manual_seed(0))

    def step() -> None:
        model.model.train()
        model.model(input_ids=batch, labels=batch).loss.backward()

    step()
    once, _ = cpu(step)
    watch = Watch(ts.open_texts(f"reviews:{texts}"), at / "watch", design={"n": 2 * texts})
    seconds = [cpu(lambda k=k: watch.look(model.model, model.tokenizer, k))[0] for k in (0, 1, 2)]
    print(
        f"  a look of {texts} texts at smollm2 (fp32): {seconds[-1]:.1f} CPU-s; a step of 8 × 64 tokens: "
        f"{once:.1f} CPU-s; at every 100th step {seconds[-1] / (100 * once):.1%}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less of everything")
    quick = parser.parse_known_args()[0].quick
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        print("What others hold")
        others(at)
        print("Import")
        importing(at, 100 if quick else 500)
        print("Alignment")
        aligning(at, 1000 if quick else 10_000)
        print("Best pair of layers, 40 pairs, n = 300, 200 permutations")
        calibrating()
        print("A look while training")
        looking(at, 12 if quick else 24)


if __name__ == "__main__":
    main()
