"""What a study of neurons says: findings, methods, figures."""

from typing import Any

import numpy as np

from transect.results.study import Figure, Study, describe_run
from transect.store.store import Store

#: How the positions of a map were found.
LAYOUTS = {
    "smacof": "Positions minimise the squared error between distances and 1 − ρ (SMACOF from classical "
    "scaling).",
    "classical": "Positions are those of classical scaling of the distances 1 − ρ.",
    "umap": "Positions are UMAP's of the distances 1 − ρ: it keeps neighbourhoods, not distances, so that "
    "stress only compares.",
    "pacmap": "Positions are PaCMAP's of points whose squared distances are 2(1 − ρ): it keeps "
    "neighbourhoods, not distances, so that stress only compares.",
}
#: What the figure of repetition says on its axis.
BEST = {"best_match": "mean largest |ρ|"}
#: How the neurons were put on a line.
ORDERS = {
    "leaf": "The order on a line is that of the leaves of average linkage on 1 − ρ, every two clusters "
    "joined at their closest ends (Gruvaeus & Wainer 1972).",
    "spectral": "The order on a line is that of the Fiedler vector of the graph with weights (1 + ρ)/2.",
    "loss": "The order on a line is where gradient steps on Σ D²·(1 + ρ)/2 ÷ Σ D² ended.",
}


def describe(study: Study, store: Store, shown: list[str], place: Any) -> None:
    """Fill in findings, warnings, methods, provenance and figures from the tables."""
    maps, repeats = study.tables["maps"], study.tables["repeats"]
    halves, chance = maps.column("reproducibility"), maps.column("reproducibility_null")
    dimensions = f"{place.dim} dimension{'s' * (place.dim > 1)}"
    study.findings = [
        f"{store.name}: maps in {dimensions} have stress {_span(maps.column('value'), 3)}; "
        f"activations whose texts are permuted neuron by neuron give {_span(maps.column('null'), 3)}. Halves "
        f"of the texts agree to a Procrustes correlation of {_span(halves)}; those of the permuted ones to "
        f"{_span(chance)}.",
        *_most_structured(maps),
        f"Sorted ({place.order}), neighbours correlate with {_span(maps.column('neighbour_rho'), 3)} on "
        f"average; as they come {_span(maps.column('neighbour_rho_before'), 3)}; permuted, then sorted, "
        f"{_span(maps.column('neighbour_rho_null'), 3)}.",
    ]
    if len(repeats):
        over = sum(r["value"] > r["null_high"] for r in repeats)
        study.findings.append(
            "Neurons are repeated in later blocks with a mean largest |ρ| of "
            f"{_span(repeats.column('value'))} (texts permuted {_span(repeats.column('null'))}); in "
            f"{over} of {len(repeats)} pairs of blocks above each of {repeats.column('draws')[0]} draws. "
            "Texts were not resampled: no pair is called the first."
        )
    study.warnings += _warnings(study)
    study.trace([store], _options(place))
    study.methods = _methods(place)
    study.figures = _figures(store, shown, place, with_repeats=len(repeats) > 0)


# below: helpers in reading order


def _most_structured(maps: Any) -> list[str]:
    """Of several blocks the one whose stress is least beside its control's, where any is below it."""
    rows = [r for r in maps if r["value"] < r["null"]]
    if len(maps) < 2 or not rows:
        return []
    best, sites = min(rows, key=lambda r: r["value"] / r["null"]), list(maps.column("site"))
    picks = [sites[int(np.argmin(half))] for half in zip(*maps.column("half_ratios"), strict=True)]
    return [
        f"The most structured block is {best['site']}: stress {best['value']:.3f} against "
        f"{best['null']:.3f}; {picks.count(best['site'])} of 2 halves of the texts pick the same."
    ]


def _span(values: np.ndarray, digits: int = 2) -> str:
    low, high = (f"{v:z.{digits}f}" for v in (values.min(), values.max()))
    return low if low == high else f"{low} to {high}"


def _options(place: Any) -> dict[str, Any]:
    names = ("dim", "layout", "method", "init", "order", "position0", "seed")
    return {name: getattr(place, name) for name in names}


def _warnings(study: Study) -> list[str]:
    maps, sentences = study.tables["maps"], []
    if low := [r["site"] for r in maps if r["reproducibility"] < 0.8]:
        sentences.append(
            f"{len(low)} of {len(maps)} maps are not reproduced by half the texts (Procrustes correlation "
            f"below 0.8): {', '.join(low[:6])}."
        )
    if start := [r["site"] for r in maps if r["reproducibility_null"] > 0.5]:
        sentences.append(
            f"Halves of the control agree in {len(start)} of {len(maps)} maps: the start decides where "
            f"neurons end, not the texts: {', '.join(start[:6])}."
        )
    if none := [r["site"] for r in maps if r["value"] >= r["null"]]:
        sentences.append(
            f"{len(none)} of {len(maps)} maps fit no better than their control: {', '.join(none[:6])}."
        )
    if dead := int(np.sum(maps.column("constant"))):
        sentences.append(f"{dead} neurons never change and correlate with nothing.")
    return sentences


def layout_name(place: Any) -> str:
    """How maps were made, in a few words."""
    if place.method == "minibatch":
        return f"gradient steps by mini-batches from {place.init or 'normal'}"
    return {"umap": "UMAP", "pacmap": "PaCMAP", "smacof": "SMACOF"}.get(place.layout, "classical scaling")


def _methods(place: Any) -> list[str]:
    layout = LAYOUTS[place.layout]
    if place.method == "minibatch":
        layout = (
            "Positions are where AdamW on the squared error between distances and 1 − ρ of one batch of "
            f"whole texts at a time ended, from the start '{place.init or 'normal'}'; stress is against ρ "
            "over all tokens."
        )
    return [
        "Correlations are Pearson's over all tokens, from sums streamed in one pass (float64 accumulation). "
        f"{layout} Stress is √(Σ(D − D̂)²/ΣD²). The control gives every neuron an order of texts of its own, "
        "tokens of a text in theirs: a reference, no test. Reproducibility is the Procrustes correlation of "
        "maps drawn from two halves of the texts; beside it that of the control's halves.",
        f"{ORDERS[place.order]} `neighbour_rho` is the mean correlation of neighbours. `order_cost` is the "
        "loss Σ D·(1 − ρ)/2 of the program this study replaces, on an even line: it falls when uncorrelated "
        "neurons stand close, so sorting raises it.",
        "Repetition is the mean over neurons of the largest |ρ| with a neuron of the later block, over "
        "equally many tokens of each text; its null gives every text the later activations of another "
        "text. Poles are the ends of a map's longest axis; their correlations are read in the half of the "
        "texts that did not choose them, beside random sets of neurons.",
    ]


def _figures(store: Store, sites: list[str], place: Any, *, with_repeats: bool) -> list[Figure]:
    origin = (
        f"{describe_run(store)}; position 0 {'kept' if place.position0 else 'dropped'}; seed {place.seed}."
    )
    shown = {"runs": [store.name], "controls": []}
    coordinates = {1: "Neurons by rank on a line", 2: "Both coordinates"}.get(
        place.dim, f"First two of {place.dim} coordinates, colour: the third"
    )
    figures = [
        Figure(
            "stress",
            "depth",
            "maps",
            "Stress of each map",
            f"By {layout_name(place)}. Dotted: every neuron's texts permuted by themselves. {origin}",
            {"measures": ["stress"], **shown},
        ),
        Figure(
            "maps",
            "maps",
            "positions",
            f"Neurons of {store.name}",
            f"{coordinates}, by {layout_name(place)}; distances match 1 − ρ. Stress of each map, and the "
            "Procrustes correlation of maps from two halves of the texts. "
            f"{'Line' if place.dim == 1 else 'Right'}: every neuron's texts permuted by "
            f"themselves (control). {origin}",
            {"sites": sites},
        ),
        Figure(
            "sorted",
            "sorted",
            "sorted",
            "Correlations before and after sorting",
            f"Order: {place.order}. ρ of every two neurons; blocks of more than 256 show means over pairs of "
            "different neurons in 256 × 256 cells. Grey: a neuron with itself. Right: every neuron's texts "
            f"permuted, then sorted the same way (control). {origin}",
            {"sites": sites},
        ),
        Figure(
            "repeats",
            "depth",
            "repeats",
            "Repetition of neurons in later blocks",
            (
                "Mean over neurons of the largest |ρ| with a neuron of the block `skip` further on; dotted: "
                f"texts permuted, band: its draws. {origin}"
            ),
            {"measures": ["best_match"], "panels": "skip", "xlabel": "layer l", "labels": BEST, **shown},
        ),
    ]
    return figures if with_repeats else figures[:3]
