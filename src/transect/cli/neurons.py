"""`transect neurons STORE …` and `transect neurons prune MODEL …`."""

from pathlib import Path
from typing import Any

import click

from transect.cli.shared import MODEL, OUT, SEED, bars, finish, the_model, the_stores


class Neurons(click.Group):
    """What is no subcommand's name is a store: `transect neurons STORE` is short for `transect neurons map STORE`."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Route to `map` unless a subcommand is named."""
        if args and args[0] not in self.commands:
            args.insert(0, "map")
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Options before the store belong to `map` as well."""
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args.insert(0, "map")
        return super().parse_args(ctx, args)


@click.group(cls=Neurons)
def neurons() -> None:
    """Lay neurons out by the correlation of their activations (map), or prune redundant ones (prune)."""


@neurons.command("map")
@click.argument("store")
@OUT
@click.option("--sites", default="mlp.act", show_default=True, help="Family or single site.")
@click.option("--dim", default=3, show_default=True, help="Dimensions of the maps.")
@click.option("--position0", is_flag=True, help="Keep the first token of every text.")
@click.option(
    "--reference",
    type=click.Path(path_type=Path),
    default=None,
    help="Positions of the same neurons (another run) to align to.",
)
@click.option(
    "--cards", default=3, show_default=True, help="Neurons per block with their top token in context."
)
@SEED
def lay_out(store: str, out: Path, **kwargs: Any) -> None:
    """Maps of every block, with stress, control and reproducibility; sorted heatmaps; repetition in later blocks."""
    from transect.studies.neurons.study import neurons as run

    with bars() as told:
        study = run(the_stores([store])[0], out=out, progress=told, **kwargs)
    finish(study, out)


@neurons.command("prune")
@click.argument("model")
@click.option("--texts", required=True, help="Texts: half to calibrate, half to evaluate.")
@OUT
@click.option(
    "--fractions", default="0.1,0.25,0.5", show_default=True, help="Fractions of neurons to remove."
)
@click.option(
    "--methods",
    default="redundancy,clusters,activation,magnitude,random",
    show_default=True,
    help="Which to compare.",
)
@click.option(
    "--save", type=click.FloatRange(0, 0.99), default=None, help="Also save the model pruned by so much."
)
@click.option(
    "--scope",
    type=click.Choice(["layer", "global"]),
    default="layer",
    show_default=True,
    help="Same share of every block, or of all together.",
)
@click.option("--folds", type=int, default=2, show_default=True, help="Parts of the texts, judged in turn.")
@click.option("--no-compensation", is_flag=True, help="Do not fold removed neurons into the down-projection.")
@click.option("--max-length", type=int, default=256, show_default=True, help="Cut texts at so many tokens.")
@MODEL
@SEED
def prune(
    model: str,
    texts: str,
    out: Path,
    fractions: str,
    methods: str,
    save: float | None,
    scope: str,
    folds: int,
    no_compensation: bool,
    max_length: int,
    seed: int,
    **kwargs: Any,
) -> None:
    """Perplexity against the fraction of neurons removed, by redundancy and beside other ways.

    Each fold of the texts is judged by a model calibrated on the others.
    """
    from transect.inference.accumulators import model_moments
    from transect.results.study import Figure, Study
    from transect.results.table import Table
    from transect.studies.pruning.cut import prune as cut
    from transect.studies.pruning.study import curve
    from transect.texts.texts import open_texts

    samples, loaded = open_texts(texts, seed=seed), the_model(model, kwargs, seed)
    with bars() as told:
        rows = curve(
            loaded, samples, [float(f) for f in fractions.split(",")], methods=methods.split(","), folds=folds,
            scope=scope, compensate=not no_compensation, seed=seed, max_length=max_length, progress=lambda d, t: told("pruning", d, t),
        )  # fmt: skip
    study = Study("pruning", "How many neurons are redundant?", {"pruning": Table(rows)})
    study.findings = [
        f"{r['method']}, {r['fraction']:.0%} removed: perplexity {r['value']:.1f} [{r['low']:.1f}, {r['high']:.1f}], "
        f"{r['ratio']:.2f} × [{r['ratio_low']:.2f}, {r['ratio_high']:.2f}] that of the whole model ({r['null']:.1f})."
        for r in rows
    ]
    study.warnings = ["Intervals resample texts; random pruning is drawn once for each fold."]
    caption = (
        f"{loaded.name} on {texts}: {len(samples)} texts, {rows[0]['n']:,} tokens, each judged by a model calibrated on the "
        f"other {'half' if folds == 2 else 'folds'}; bars: 95 % by text; seed {seed}."
    )
    study.figures = [Figure("pruning", "pruning", "pruning", "Perplexity against neurons removed", caption)]
    if save is not None:
        small = cut(
            loaded, model_moments(loaded, samples, ["mlp.act"], max_length=max_length), save, seed=seed
        )
        small.model.save_pretrained(out / "model")
        small.tokenizer.save_pretrained(out / "model")
    finish(study, out)
