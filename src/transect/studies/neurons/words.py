"""What a study of neurons says: findings, methods, figures."""

import numpy as np

from transect.results.study import Figure, Study, describe_run
from transect.store.store import Store


def _describe(study: Study, store: Store, chosen: list[str], dim: int, position0: bool) -> None:
    maps, repeats = study.tables["maps"], study.tables["repeats"]
    ratio = maps.column("value") / maps.column("null")
    k = int(np.argmin(ratio))
    study.findings = [
        f"{store.name}: maps in {dim} dimensions have stress "
        f"{maps.column('value').min():.3f}–{maps.column('value').max():.3f}; "
        f"column-shuffled activations give {maps.column('null').min():.3f}–{maps.column('null').max():.3f}. "
        "Halves of the texts agree to a Procrustes correlation of "
        f"{maps.column('reproducibility').min():.2f}–{maps.column('reproducibility').max():.2f}.",
        (
            f"The most structured block is {maps.column('site')[k]}: stress {maps.column('value')[k]:.3f} "
            f"against {maps.column('null')[k]:.3f}."
        ),
    ]
    if len(repeats):
        top = max(repeats, key=lambda r: r["value"] - r["null"])
        study.findings.append(
            f"Neurons of {top['site']} are repeated best in {top['site2']}: mean largest |ρ| "
            f"{top['value']:.2f} (shuffled {top['null']:.2f}), {top['repeated']} above 0.9."
        )
    if low := [r["site"] for r in maps if r["reproducibility"] < 0.8]:
        study.warnings.append(
            f"{len(low)} of {len(maps)} maps are not reproduced by half the texts (Procrustes correlation "
            f"below 0.8): {', '.join(low[:6])}."
        )
    if dead := int(np.sum(maps.column("constant"))):
        study.warnings.append(f"{dead} neurons never change and correlate with nothing.")
    origin = f"{describe_run(store)}; position 0 {'kept' if position0 else 'dropped'}."
    study.provenance = {"runs": [store.manifest | {"path": str(store.path)}]}
    study.methods = [
        "Correlations are Pearson's over all tokens, from sums streamed in one pass (float64 "
        "accumulation). Positions minimise "
        "the squared error between distances and 1 − ρ (SMACOF from classical scaling); stress is √(Σ(D − "
        "D̂)²/ΣD²). The control "
        "shuffles every neuron's tokens by itself. Reproducibility is the Procrustes correlation of maps "
        "drawn from two halves of the texts.",
        "The order on a line is that of the Fiedler vector of the graph with weights (1 + ρ)/2; "
        "`neighbour_rho` is the mean "
        "correlation of neighbours. `order_cost` is the loss Σ D·(1 − ρ)/2 of the program this study "
        "replaces, on an even line: it "
        "falls when uncorrelated neurons stand close, so sorting raises it.",
    ]
    shown = {"runs": [store.name], "controls": []}
    study.figures = [
        Figure(
            "stress",
            "depth",
            "maps",
            "Stress of each map",
            f"Dotted: the same with every column shuffled. {origin}",
            {"measures": ["stress"], **shown},
        ),
        Figure(
            "maps",
            "maps",
            "positions",
            f"Neurons of {store.name}",
            f"First two of {dim} coordinates, distance 1 − ρ; colour: third. {origin}",
            {
                "sites": [
                    chosen[i]
                    for i in sorted(
                        {0, len(chosen) // 4, len(chosen) // 2, 3 * len(chosen) // 4, len(chosen) - 1}
                    )
                ]
            },
        ),
        Figure(
            "sorted",
            "sorted",
            "sorted",
            "Correlations before and after seriation",
            f"Mean ρ in blocks; right: shuffled columns sorted the same way (control). {origin}",
            {},
        ),
        Figure(
            "repeats",
            "depth",
            "repeats",
            "Repetition of neurons in later blocks",
            (
                "Mean over neurons of the largest |ρ| with a neuron of the block `skip` further on; dotted: "
                f"columns shuffled. {origin}"
            ),
            {"measures": ["best_match"], "panels": "skip", "xlabel": "layer l", **shown},
        ),
    ]
    if not len(repeats):
        study.figures.pop()
