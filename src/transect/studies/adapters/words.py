"""Findings, methods and figures of the adapters study."""

import numpy as np

from transect.results.study import Figure, Study

#: Draws of the random-direction control.
DRAWS = 20


def describe(study: Study, runs: list[str], base: str, scaling: str, top: int) -> None:
    """Fill in findings, methods and figures. `scaling`: that of the adapter in words, "" for none."""
    modules = study.tables["modules"]
    layers = study.tables["layers"].where(measure="relative_norm_of_layer")
    origin = f"Base {base}; {', '.join(runs)}; {scaling or 'full fine-tune'}."
    for run in runs:
        part = sorted(layers.where(run=run), key=lambda r: -r["value"])
        if part:
            most, least = part[0], part[-1]
            spread = f"largest in block {most['layer']} ({most['value']:.3g}), smallest in block"
            spread += f" {least['layer']} ({least['value']:.3g})"
            if len(part) == 1:
                spread = f"{most['value']:.3g} in block {most['layer']}, the only one that changed"
            study.findings.append(f"{run}: ‖ΔW‖ / ‖W‖ is {spread} (exact for these weights).")
        ranks = modules.where(run=run, measure="stable_rank", status="ok").column("value")
        share = modules.where(run=run, measure="energy_in_top", status="ok")
        if len(ranks):
            beyond = share.where(lambda r: r["p"] is not None and r["value"] > r["null_high"])
            study.findings.append(
                f"{run}: stable rank of ΔW {np.median(ranks):.2f} (median of {len(ranks)} modules, "
                f"{ranks.min():.2f} to {ranks.max():.2f}); "
                f"{np.median(share.column('value')):.3f} of it lies in the top {top} input directions of "
                f"W (median), random directions hold {np.median(share.column('null')):.3f}; {len(beyond)} "
                f"of {len(share)} modules above the control's 97.5 %."
            )
    full = " and W − W_base for the full fine-tune" if len(runs) > 1 else ""
    what = f"what merging the adapter adds to the base ({scaling}){full}" if scaling else "W − W_base"
    study.methods = [
        (
            f"ΔW is {what}, per module. Relative norm: Frobenius, over the base's weight. Stable rank: "
            "‖ΔW‖_F² / ‖ΔW‖₂²; it is at most r for an adapter. Energy in top: share of ‖ΔW‖_F² whose rows "
            f"lie in the span of the {top} leading right singular vectors of W; control: {DRAWS} random "
            "subspaces of that dimension."
        ),
    ]
    drawn = {"runs": runs, "top": top}
    figures = [
        Figure(
            "layers",
            "adapter_layers",
            "layers",
            "Size of the weight change by layer",
            f"‖ΔW‖ / ‖W‖ over all changed modules of a block; embeddings and head beside. {origin}",
        ),
        Figure(
            "spectra",
            "adapter_spectra",
            "spectra",
            "Spectra of ΔW",
            (
                "Singular values over the largest; at most eight blocks a panel, evenly spaced, dark to "
                f"light with depth; dotted: the second run. {origin}"
            ),
        ),
        Figure(
            "energy",
            "adapter_energy",
            "modules",
            "Direction of ΔW",
            f"Share in the top {top} input directions of W; shaded: random directions, 95 %. {origin}",
            drawn,
        ),
        Figure(
            "ranks",
            "adapter_ranks",
            "modules",
            "Stable rank of ΔW",
            f"‖ΔW‖_F² / ‖ΔW‖₂² of every module, over its largest possible value: r where an adapter has one, "
            f"else the smaller side of W. Hatched: not changed. {origin}",
            drawn,
        ),
    ]
    vectors = not len(study.tables["spectra"])  # norms or biases alone: no spectrum, no direction
    study.figures = figures[:1] if vectors else figures
    if vectors:
        study.warnings.append("Vectors alone were changed (norms or biases): they have no spectrum.")
