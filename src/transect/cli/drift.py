"""`transect drift STORE… --out DIR`."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from transect.cli.shared import DRAW, JSON, OUT, WORK, bars, finish, options, show, spinner, the_stores

if TYPE_CHECKING:
    from transect.store.store import Store

#: The production configuration of the program that this study replaces: its model, data and sizes.
PRESETS = {
    "otexplorer": {
        "model": "gpt2-large",
        "texts": "gsm8k:2000",
        "max_length": 256,
        "batch_tokens": 4 * 256,
        "pca": 50,
        "threshold": 2.0,
    }
}
CONTROLS = options(
    click.option(
        "--control", "controls", multiple=True, help="Store of a control run, as often as there are some."
    ),
    click.option(
        "--random-weights", is_flag=True, help="Capture a control: same architecture, random weights."
    ),
    click.option("--shuffled-tokens", is_flag=True, help="Capture a control: same words in random order."),
)
METHOD = options(
    click.option(
        "--measure", default="sinkhorn", show_default=True, help="Behind the matrix and the change layers."
    ),
    click.option(
        "--pca", type=int, default=None, help="Project each pair on one basis of so many dimensions."
    ),
    click.option(
        "--massive", default=10.0, show_default=True, help="Drop tokens above so many median norms; 0 keeps."
    ),
    click.option(
        "--resamples", default=20, show_default=True, help="Half-samples behind a change layer's support."
    ),
    click.option("--as-published", is_flag=True, help="Also what the replaced program's formulas give."),
)
PRESET = options(
    click.option(
        "--preset",
        type=click.Choice(list(PRESETS)),
        default=None,
        help="Capture and sizes of a published run.",
    ),
    click.option("--model", default=None, help="With --preset: another model than its own."),
    click.option("--texts", default=None, help="With --preset: other texts than its own."),
)


@click.command()
@click.argument("stores", nargs=-1)
@OUT
@PRESET
@CONTROLS
@METHOD
@DRAW
@WORK
@JSON
def drift(stores: tuple[str, ...], out: Path, as_json: bool, **kwargs: Any) -> None:
    """How far representations move from layer to layer, beyond what two halves of the texts differ by at one layer."""
    from transect.errors import TransectError
    from transect.studies.drift.study import drift as run

    chosen = {k: kwargs.pop(k) for k in ("preset", "model", "texts")}
    wanted = {k: kwargs.pop(k) for k in ("random_weights", "shuffled_tokens")}
    kwargs["massive"] = kwargs["massive"] or None
    with bars() as told:
        if chosen["preset"]:
            preset = PRESETS[chosen["preset"]]
            kwargs["pca"] = kwargs["pca"] or preset["pca"]
            kwargs["threshold"] = preset["threshold"]
            opened = [_preset(preset, chosen, out, kwargs["seed"], told)]
        elif stores:
            opened = the_stores(stores)
        else:
            raise TransectError("no store given.", "Name one, or use --preset.")
        controls = [
            *the_stores(kwargs.pop("controls")),
            *_captured(opened[0], out, kwargs["seed"], told, **wanted),
        ]
        study = run(opened, controls=controls, out=out, progress=told, **kwargs)
    if chosen["preset"]:
        study.warnings.append(
            f"Preset {chosen['preset']}, corrected: one PCA basis per pair instead of one per layer, the debiased "
            "divergence with epsilon relative to the median cost, split-half nulls, position 0 dropped, spectral instead "
            "of norm entropy, change layers by MAD z and PELT instead of a rolling z. --as-published shows the difference."
        )
    finish(study, out, quiet=as_json)
    if as_json:
        show(study.tables["adjacent"], as_json=True)


def _preset(preset: dict[str, Any], chosen: dict[str, Any], out: Path, seed: int, told: Callable) -> "Store":
    from transect.models.models import open_model
    from transect.store.capture import capture
    from transect.texts.texts import open_texts

    with spinner("opening model and texts"):
        texts = open_texts(chosen["texts"] or preset["texts"], seed=seed)
        model = open_model(chosen["model"] or preset["model"])
    sizes = {k: preset[k] for k in ("max_length", "batch_tokens")}
    return capture(
        model, texts, out / "stores" / "model", progress=lambda d, t: told("capture", d, t), **sizes
    )


def _captured(
    store: "Store", out: Path, seed: int, told: Callable, *, random_weights: bool, shuffled_tokens: bool
) -> "list[Store]":
    """Control runs captured beside the study, from the texts and the model of the first store."""
    from transect.models.models import open_model
    from transect.store.capture import recapture

    spec, made = store.manifest["model"]["spec"], []
    if random_weights:
        model = open_model(f"random:{spec}", seed=seed)
        model.name = f"{store.name}, random weights"
        made.append(
            recapture(
                store, model, out / "stores" / "random", progress=lambda d, t: told("random weights", d, t)
            )
        )
    if shuffled_tokens:
        model = open_model(spec)
        model.name = f"{store.name}, shuffled tokens"
        bar = lambda d, t: told("shuffled tokens", d, t)  # noqa: E731
        made.append(recapture(store, model, out / "stores" / "shuffled", shuffle_tokens=seed, progress=bar))
    return made
