"""`make gpu`: values and speed on a CUDA device beside this machine's processor, at most eight minutes.

    python bench/gpu.py [--clouds FILE.npz] [--quick]

Writes docs/gpu.md. Every torch path: capture in float32 and bfloat16, a batch of Sinkhorn pairs, Gram
matrices of CKA, neurons' correlations, training steps, a model spread by a device map. Weights are random.
Values come first; a value that differs ends the run with exit 1, after the page is written.
"""

import argparse
import itertools
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import transect as ts
from tiny import WORDS, tiny_tokenizer
from transect.measures.similarity import _hsic, centre
from transect.measures.transport import _solved
from transect.numeric.moments import Accumulator
from transect.numeric.sinkhorn import prepare_cloud

PAGE = Path(__file__).parents[1] / "docs/gpu.md"
SHAPES = {
    "1.1 B": {"hidden_size": 2048, "num_hidden_layers": 16, "intermediate_size": 8192},
    "6.7 B": {"hidden_size": 4096, "num_hidden_layers": 32, "intermediate_size": 11008},
}
GPU = "cuda"


def llama(device: str, dtype: torch.dtype, **shape: int) -> Any:
    """A Llama of random weights, with the tokenizer of the tests."""
    from transformers import LlamaConfig, LlamaForCausalLM

    heads = shape["hidden_size"] // 128 or 2
    config = LlamaConfig(vocab_size=32000, num_attention_heads=heads, num_key_value_heads=heads, **shape)
    torch.manual_seed(0)
    was = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            return LlamaForCausalLM(config).eval()
    finally:
        torch.set_default_dtype(was)


def some_texts(count: int, words: int) -> ts.Texts:
    rng = np.random.default_rng(0)
    return ts.open_texts([" ".join(rng.choice(WORDS, words)) for _ in range(count)])


def wrapped(model: Any) -> ts.Model:
    tokenizer = tiny_tokenizer()
    tokenizer.model_max_length = 2048
    return ts.wrap_model(model, tokenizer, "random Llama")


def apart(a: np.ndarray, b: np.ndarray) -> float:
    """‖a − b‖ / ‖b‖."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def seconds(call: Callable[[], Any], rounds: int = 3) -> float:
    """Least wall seconds of a call, the device waited for; one warm call before."""
    call()
    taken = []
    for _ in range(rounds):
        torch.cuda.synchronize()
        begun = time.perf_counter()
        call()
        torch.cuda.synchronize()
        taken.append(time.perf_counter() - begun)
    return min(taken)


class Page:
    """Lines of the page, and whether a value differed."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.failed: list[str] = []

    def say(self, line: str = "") -> None:
        print(line, flush=True)
        self.lines.append(line)

    def check(self, what: str, value: float, most: float) -> None:
        """A row of the table of values."""
        good = value <= most
        self.say(f"| {what} | {value:.1e} | {most:.0e} | {'yes' if good else '**no**'} |")
        if not good:
            self.failed.append(what)


def values(page: Page, clouds: list[np.ndarray]) -> None:
    """CPU = GPU, path by path."""
    page.say("| values on CUDA beside the processor | ‖difference‖ / ‖value‖ | at most | holds |")
    page.say("|---|---|---|---|")
    shape = {"hidden_size": 256, "num_hidden_layers": 4, "intermediate_size": 512}
    texts, exact = some_texts(12, 40), llama("cpu", torch.float64, **shape)
    with tempfile.TemporaryDirectory() as folder:
        points = {}
        for name, device, dtype in (
            ("exact", "cpu", torch.float64),
            ("cpu 32", "cpu", torch.float32),
            ("gpu 32", GPU, torch.float32),
            ("cpu 16", "cpu", torch.bfloat16),
            ("gpu 16", GPU, torch.bfloat16),
        ):
            model = llama("cpu", torch.float64, **shape)
            model.load_state_dict(exact.state_dict())
            store = ts.capture(
                wrapped(model.to(dtype).to(device)), texts, Path(folder) / name, sites=["resid", "mlp.act"]
            )
            points[name] = [store.points(site) for site in store.sites]
        for bits, most in (("32", 1e-5), ("16", 3e-2)):
            worst = max(map(apart, points[f"gpu {bits}"], points[f"cpu {bits}"]))
            name = "float32" if bits == "32" else "bfloat16"
            page.check(f"capture, {name}, every site", worst, most)
            own, theirs = (max(map(apart, points[f"{d} {bits}"], points["exact"])) for d in ("gpu", "cpu"))
            page.check(f"— its error against float64 ({theirs:.1e} on the processor)", own, 2 * theirs)
    some = dict(enumerate(map(prepare_cloud, clouds[:: max(1, len(clouds) // 6)])))
    pairs = list(itertools.combinations(some, 2))
    for tol in (1e-3, 1e-6):
        mine, theirs = (_solved(some, pairs, 0.05, tol, 2000, on) for on in (GPU, None))
        errors = [abs(a.divergence / b.divergence - 1) for a, b in zip(mine, theirs, strict=True)]
        page.check(f"Sinkhorn divergence, {len(pairs)} pairs, tolerance {tol:g}", max(errors), 10 * tol)
    rng = np.random.default_rng(1)
    views = [centre(rng.standard_normal((1024, 4096)).astype(np.float32)) for _ in range(4)]
    page.check(
        "CKA, Gram matrices", apart(on_gpu(lambda: _hsic(views, True, 4)), _hsic(views, True, 4)), 1e-5
    )
    X = (rng.standard_normal((6000, 2048)) @ rng.standard_normal((2048, 2048)) / 45 + 3).astype(np.float32)
    rho = lambda: Accumulator(2048).update(X).freeze().correlation  # noqa: E731
    page.check("neurons' correlations, 2,048", apart(on_gpu(rho), rho()), 1e-5)
    page.check("training, loss of 20 steps", *training_apart())
    mapped(page, texts)


def on_gpu(call: Callable[[], Any]) -> Any:
    """What a call gives while large products are made on the device."""
    os.environ["TRANSECT_DEVICE"] = GPU
    try:
        return call()
    finally:
        del os.environ["TRANSECT_DEVICE"]


def mapped(page: Page, texts: ts.Texts) -> None:
    """A model opened with device_map="auto" beside the same one on the device."""
    with tempfile.TemporaryDirectory() as folder:
        model = llama("cpu", torch.float32, hidden_size=256, num_hidden_layers=4, intermediate_size=512)
        model.save_pretrained(Path(folder) / "m")
        tiny_tokenizer().save_pretrained(Path(folder) / "m")
        stores = [
            ts.capture(ts.open_model(str(Path(folder) / "m"), **where), texts, Path(folder) / name)
            for name, where in (("map", {"device_map": "auto"}), ("one", {"device": GPU}))
        ]
        worst = max(apart(*(s.points(site) for s in stores)) for site in stores[0].sites)
        page.check("capture, device_map=auto beside one device", worst, 1e-5)


def recipes(folder: Path, **more: Any) -> Iterator[tuple[str, list[float], float]]:
    """(device, losses of the steps, seconds a step) of one recipe on both devices."""
    from transect.models.checkpoints import random_model  # noqa: F401  loaded before the clock starts
    from transect.train import pretrain as room
    from transect.train.data import prepare
    from transect.train.pretraining import config_of, preset
    from transect.train.world import World

    texts = folder / "t.txt"
    texts.write_text("\n".join(str(t) for t in some_texts(3000, 60).texts))
    recipe = preset("seed", texts=str(texts), vocab=500, **more).settled()
    data = prepare(recipe, folder / "data")
    for device in ("cpu", GPU):
        run = room._Run(
            recipe, data, config_of(recipe, len(data.tokenizer)), folder, World(0, 1, device), None
        )
        run.model.train()
        losses, begun = [], 0.0
        for k in range(recipe.steps):
            if k == recipe.steps // 2:
                torch.cuda.synchronize()
                begun = time.perf_counter()
            losses.append(run._step(k)["loss"])
        torch.cuda.synchronize()
        yield device, losses, (time.perf_counter() - begun) / (recipe.steps - recipe.steps // 2)


def training_apart() -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder:
        (_, cpu, _), (_, gpu, _) = recipes(Path(folder), steps=20, layers=2, width=128, heads=4, batch=4)
    return apart(np.array(gpu), np.array(cpu)), 1e-3


def speed(page: Page, clouds: list[np.ndarray], where: str, quick: bool) -> None:
    """Beside one core of the processor."""
    page.say("| work | CUDA | processor, one core | times as fast |")
    page.say("|---|---|---|---|")
    ready = dict(enumerate(map(prepare_cloud, clouds)))
    pairs = list(itertools.combinations(ready, 2))
    gpu = seconds(lambda: _solved(ready, pairs, 0.05, 1e-3, 1000, GPU))
    some = pairs[:: max(1, len(pairs) // 40)]
    begun = time.process_time()
    _solved(ready, some, 0.05, 1e-3, 1000, None)
    cpu = (time.process_time() - begun) * len(pairs) / len(some)
    n = len(clouds[0])
    page.say(
        f"| Sinkhorn divergence, all {len(pairs)} pairs of {len(clouds)} × {n} points ({where}); processor: "
        f"{len(some)} pairs, scaled | {gpu:.2f} s | {cpu:.1f} CPU-s | {cpu / gpu:.0f} |"
    )
    X = np.random.default_rng(0).standard_normal((16384, 4864)).astype(np.float32)
    rho = lambda rows: Accumulator(4864).update(X[:rows]).products  # noqa: E731
    gpu = seconds(lambda: on_gpu(lambda: rho(16384)), 2)
    begun = time.process_time()
    rho(2048)
    cpu = (time.process_time() - begun) * 8
    page.say(
        f"| correlations of 4,864 neurons, 16,384 tokens; processor: 2,048 tokens, scaled | {gpu:.2f} s | "
        f"{cpu:.1f} CPU-s | {cpu / gpu:.0f} |"
    )
    with tempfile.TemporaryDirectory() as folder:
        more = {"steps": 6 if quick else 10, "batch": 8, "checkpoints": ()}
        (_, _, cpu), (_, _, gpu) = recipes(Path(folder), **more)
    page.say(
        f"| a training step, preset seed, batch 8 × 256, vocabulary 500, float32 | {gpu * 1e3:.0f} ms | "
        f"{cpu:.2f} s | {cpu / gpu:.0f} |"
    )


def overhead(page: Page, name: str, shape: dict[str, int], texts: ts.Texts, folder: Path) -> None:
    """Capture beside the forward pass of the same batches."""
    from transect.models.forward import inputs, kept_positions, make_batch, make_plan
    from transect.texts.texts import tokenize

    model = wrapped(llama(GPU, torch.bfloat16, **shape))
    model.id  # noqa: B018  the fingerprint is computed once per model, not per capture
    tokenized = tokenize(texts, model.tokenizer)
    lengths, kept = [len(t) for t in tokenized.ids], kept_positions(tokenized, "all")
    plan = [b for s in make_plan(lengths, lengths, 8192, 10**9) for b in s]
    given = [inputs(model, make_batch(tokenized.ids, batch, kept)) for batch in plan]

    def forward() -> None:
        with torch.inference_mode():
            for batch in given:
                model.base(**batch)

    def capture(**options: Any) -> Callable[[], None]:
        def call() -> None:
            shutil.rmtree(folder / "s", ignore_errors=True)
            ts.capture(model, texts, folder / "s", sites=["resid"], batch_tokens=8192, **options)

        return call

    floor = seconds(forward, 2)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    pooled = seconds(capture(pool="mean"), 2)
    whole = seconds(capture(), 2)
    peak = (torch.cuda.max_memory_allocated() - before) / 2**20
    size = sum(f.stat().st_size for f in (folder / "s").rglob("*") if f.is_file())
    disk = written(folder, size)
    tokens = sum(lengths)
    page.say(
        f"| {name}, {tokens:,} tokens | {floor:.2f} s, {tokens / floor:,.0f} tokens/s "
        f"| {pooled / floor:.2f} × | {whole / floor:.2f} × | {size / 2**20:,.0f} MiB, "
        f"{disk / floor:.2f} × | {peak:,.0f} MiB |"
    )


def written(folder: Path, size: int) -> float:
    """Seconds to write so many bytes and to make them durable, as a plain program would."""
    block = np.random.default_rng(0).bytes(64 << 20)
    begun = time.perf_counter()
    with (folder / "plain").open("wb") as file:
        for _ in range(max(1, size // len(block))):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    taken = time.perf_counter() - begun
    (folder / "plain").unlink()
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clouds", type=Path, help="made by bench/clouds.py; without, planted ones")
    parser.add_argument("--quick", action="store_true", help="the smaller model alone")
    parser.add_argument("--page", type=Path, default=PAGE)
    given = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("make gpu: torch sees no CUDA device here; nothing is measured.")
    torch.set_num_threads(1)
    if given.clouds:
        read = np.load(given.clouds)
        clouds, where = [read[k].astype(np.float32) for k in read.files], "SmolLM2-135M, GSM8K"
    else:
        rng = np.random.default_rng(0)
        scale = np.arange(1, 577) ** -0.7
        clouds = [
            np.cumsum(rng.standard_normal((1 + k, 576)), 0)[-1] * 0.1
            + (1 + k / 10) * rng.standard_normal((1000, 576)) * scale
            for k in range(31)
        ]
        clouds, where = [c.astype(np.float32) for c in clouds], "planted"
    page, begun = Page(), time.perf_counter()
    device = torch.cuda.get_device_name(0)
    page.say("<!-- Made by bench/gpu.py. -->")
    page.say("\n# On an accelerator\n")
    page.say(
        f"`make gpu` on one {device}; torch {torch.__version__}, CUDA {torch.version.cuda}; "
        f"{time.strftime('%Y-%m-%d')}. Weights are random; a time is the least of a "
        "few, after a warm one.\n"
    )
    values(page, clouds)
    page.say()
    speed(page, clouds, where, given.quick)
    page.say("\nThe residual stream at every layer of a Llama in bfloat16, 8,192 tokens a batch: pooled to a")
    page.say(
        "mean a text, and all tokens to disk; beside the forward pass alone, and beside the writing of as"
    )
    page.say("many bytes by a plain program, which no capture of all tokens can beat.\n")
    page.say("| model | forward pass | pooled | all tokens | its bytes, written alone | memory added |")
    page.say("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name, shape in list(SHAPES.items())[: 1 if given.quick else 2]:
            texts = some_texts(128 if name == "1.1 B" else 64, 120)
            overhead(page, name, shape, texts, Path(folder))
            torch.cuda.empty_cache()
    page.say(f"\nAll of it: {time.perf_counter() - begun:.0f} s.")
    given.page.write_text("\n".join(page.lines) + "\n")
    if page.failed:
        raise SystemExit(f"values that differ: {'; '.join(page.failed)}")


if __name__ == "__main__":
    main()
