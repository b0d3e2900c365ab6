"""Which figures a drift study draws, with their captions."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from transect.files import folder_name
from transect.measures.registry import find
from transect.results.study import Figure, Study
from transect.store.store import Store
from transect.studies.drift.names import TRANSPORT
from transect.studies.drift.tables import SPECTRA


def _figures(
    study: Study, stores: Sequence[Store], others: Sequence[Store], measure: str, origin: str
) -> list[Figure]:
    first, label = stores[0], find(measure).label
    runs = {"runs": [s.name for s in [*stores, *others]], "controls": [s.name for s in others]}
    shuffled = "dotted: the texts of every column permuted by themselves (reference)"
    simple = ["wasserstein", "paired_displacement", "euclidean", "cosine"]
    reference = "columns permuted by whole texts"
    counts = study.tables["layers"].where(measure="norm_entropy").column("n")
    most = {"norm_entropy": [float(np.log(counts[0])), "log n, its largest value"]} if len(counts) else {}
    drawn: list[tuple[str, str, str, str, str, dict[str, Any]]] = [
        (
            "excess",
            "depth",
            "adjacent",
            "Drift beyond the split-half null",
            f"{label} between each layer and the next less its null, tokens of different texts; vertical "
            "lines: jumps, with the share of half-samples that find them. A band that reaches the lower edge "
            "includes 0.",
            {
                "measures": [measure],
                "where": {"design": "disjoint"},
                "panels": "normalise",
                "value": "corrected",
                "changes": True,
                "log": True,
                **runs,
            },
        ),
        (
            "drift",
            "depth",
            "adjacent",
            f"Drift between adjacent layers ({label})",
            f"{label} between each layer and the next, tokens of different texts; dotted: two halves of the "
            "texts at one layer"
            " (split-half null) with its interval.",
            {"measures": [measure], "where": {"design": "disjoint"}, "panels": "normalise", **runs},
        ),
        (
            "transport",
            "depth",
            "adjacent",
            "Other transport measures beyond their nulls",
            "Each transport measure less its own null, unit-norm points of different texts.",
            {
                "measures": list(TRANSPORT),
                "where": {"design": "disjoint", "normalise": "unit"},
                "value": "corrected",
                **runs,
            },
        ),
        (
            "pairs",
            "matrix",
            "pairs",
            f"All layer pairs of {first.name} ({label}, excess)",
            "Excess over the split-half null between every two layers, tokens of different texts; frames: "
            "blocks; the diagonal"
            " is 0 by construction.",
            {"run": first.name, "measure": measure, "value": "corrected", "blocks": True},
        ),
        (
            "same-tokens",
            "depth",
            "adjacent",
            "The same tokens at both layers",
            "Transport of the same tokens beside their mean squared displacement, unit-norm points; no "
            "split-half null belongs"
            " to this design.",
            {
                "measures": ["wasserstein", "paired_displacement"],
                "where": {"design": "paired", "normalise": "unit"},
                "null": False,
                **runs,
            },
        ),
        (
            "spectra",
            "depth",
            "ratios",
            "Spectrum of each layer over its reference",
            f"Unit-norm points; each statistic over that of the same points with {reference}; at 1 they are "
            "equal.",
            {
                "measures": list(SPECTRA),
                "where": {"normalise": "unit"},
                "null": False,
                "reference": "over its reference",
                "lines": {m: [1.0, "reference"] for m in SPECTRA},
                **runs,
            },
        ),
        (
            "statistics",
            "depth",
            "layers",
            "Norms, anisotropy, dimension",
            f"Raw points; {shuffled}.",
            {
                "measures": [
                    "mean_norm",
                    "anisotropy",
                    "twonn",
                    "outlier_dimensions",
                    "condition_number",
                    "norm_entropy",
                ],
                "where": {"normalise": "raw"},
                "lines": most,
                **runs,
            },
        ),
        (
            "scales",
            "depth",
            "scales",
            "Intrinsic dimension at four scales",
            (
                "Gride dimension from the ratio of the 2k-th to the k-th neighbour distance, k the scale, "
                "raw "
                "points."
            ),
            {"measures": ["gride"], "panels": "scale", **runs},
        ),
        (
            "companions",
            "scatter",
            "adjacent",
            f"{label} beside simple distances",
            (
                "A point per pair of adjacent layers, unit-norm, by rank; abscissa: same tokens; ρ: rank "
                "correlation over layers."
            ),
            {"measure": measure, "normalise": "unit", "others": simple, "run": first.name},
        ),
        (
            "plan",
            "depth",
            "adjacent",
            "How much of the plan is the identity",
            "Share of transported mass that stays with its own token, raw points; dotted: texts permuted.",
            {"measures": ["plan"], "where": {"normalise": "raw", "design": "paired"}, **runs},
        ),
        (
            "plan-shape",
            "columns",
            "adjacent",
            "Shape of the transport plan and error of its solve",
            "The same tokens at both layers, raw points. Entropy: 0 for a permutation, 1 for the independent "
            "plan; concentration: largest share of a row; marginal error: L1, of the solve.",
            {
                "where": {"measure": "plan", "normalise": "raw", "design": "paired"},
                "columns": {
                    "plan_entropy": "entropy (0 to 1)",
                    "plan_concentration": "concentration",
                    "plan_marginal_error": "marginal error",
                },
                **runs,
            },
        ),
    ]
    for store in stores[1:]:
        place = next(k for k, d in enumerate(drawn) if d[0] == "same-tokens")
        _, kind, table, title, words, o = next(d for d in drawn if d[0] == "pairs")
        title = title.replace(first.name, store.name)
        name = f"pairs-{folder_name(store.name)}"
        drawn.insert(place, (name, kind, table, title, words, {**o, "run": store.name}))
    if "across" in study.tables:
        drawn.append(
            (
                "across",
                "depth",
                "across",
                "The same layer across runs",
                f"Each layer of {first.name} against the same layer of the other runs.",
                {
                    "measures": [measure, "cosine", "euclidean"],
                    "panels": "measure",
                    "series": "run2",
                    "runs": [s.name for s in stores[1:]],
                    "controls": [],
                },
            )
        )
    return [Figure(n, k, t, title, f"{caption} {origin}", o) for n, k, t, title, caption, o in drawn]
