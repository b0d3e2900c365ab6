"""Figures of the neuron study: small multiples of maps, sorted heatmaps, pruning curves. Table →
matplotlib."""

from typing import TYPE_CHECKING, Any

import numpy as np

from transect.results.drawing import COLOURS, panels
from transect.results.study import Figure, Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas


def draw_maps(study: Study, figure: Figure) -> "Canvas":
    """Neurons of several blocks as points, one panel a block, axes of equal scale."""
    table = study.tables[figure.table]
    chosen = [s for s in figure.options["sites"] if len(table.where(site=s))]
    canvas, axes = panels(len(chosen), height=2.1)
    bound = max(float(np.nanmax(np.abs([table.column("x"), table.column("y")]))), 1e-9) * 1.05
    for ax, site in zip(axes, chosen, strict=True):
        part = table.where(site=site)
        colour: dict[str, Any] = (
            {"c": part.column("z"), "cmap": "viridis"} if "z" in part.columns else {"color": COLOURS[0]}
        )
        points = ax.scatter(
            part.column("x"), part.column("y"), s=2, lw=0, rasterized=len(part) > 500, **colour
        )
        ax.set(title=f"{site} (N = {len(part)})", xlim=(-bound, bound), ylim=(-bound, bound), aspect="equal")
        ax.set_xlabel("x (1 − ρ)")
        ax.set_ylabel("y (1 − ρ)")
    if "z" in table.columns:
        canvas.colorbar(points, ax=axes, label="z (1 − ρ)", shrink=0.7)
    return canvas


def draw_sorted(study: Study, figure: Figure) -> "Canvas":
    """Correlation heatmaps before and after seriation, side by side for each block."""
    table = study.tables[figure.table]
    chosen = [str(s) for s in table.values("site")]
    kinds = {"before": "in order of index", "after": "sorted", "control": "shuffled, sorted (control)"}
    canvas, axes = panels(len(kinds) * len(chosen), columns=len(kinds), height=2.2)
    limit = float(np.nanquantile(np.abs(table.column("value")), 0.99)) or 1.0
    cells = iter(axes)
    for site in chosen:
        for when, words in kinds.items():
            ax, part = next(cells), table.where(site=site, order=when)
            side = int(max(part.column("row"))) + 1
            matrix = np.full((side, side), np.nan)
            matrix[part.column("row").astype(int), part.column("col").astype(int)] = part.column("value")
            image = ax.imshow(matrix, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
            ax.set(title=f"{site}\n{words}", xlabel="neuron (block)", ylabel="neuron (block)")
            ax.spines[:].set_visible(False)
    canvas.colorbar(image, ax=axes, label="mean ρ", shrink=0.6)
    return canvas
