"""Figures of depth: distances of layers n apart, and what foretells damage."""

from typing import TYPE_CHECKING

import numpy as np

from transect.models import sites
from transect.results.drawing import COLOURS, legend_below, named, panels, whole_ticks
from transect.results.study import Figure, Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas


def draw_apart(study: Study, figure: Figure) -> "Canvas":
    """Angular distance by first layer and number of layers apart, a panel a run, on one scale."""
    table = study.tables[figure.table].where(measure="angular_distance", token="all")
    runs = figure.options["runs"]
    canvas, axes = panels(len(runs), columns=2)
    highest = float(np.nanmax(table.column("value")))
    for ax, run in zip(axes, runs, strict=True):
        part = table.where(run=run)
        first = np.array([sites.layer(s) for s in part.column("site")])
        apart = part.column("apart").astype(int)
        grid = np.full((apart.max(), first.max() + 1), np.nan)
        grid[apart - 1, first] = part.column("value")
        ends = (-0.5, first.max() + 0.5, 0.5, apart.max() + 0.5)
        ax.imshow(grid, origin="lower", aspect="auto", vmin=0, vmax=highest, extent=ends)
        ax.set(xlabel="layer l", ylabel="layers apart n", title=str(run) if len(runs) > 1 else "")
        whole_ticks(ax)
    canvas.colorbar(axes[-1].images[0], ax=axes, label="angular distance (÷ π)")
    return canvas


def draw_foretold(study: Study, figure: Figure) -> "Canvas":
    """Rank correlation of each measure with the KL, a panel an edit, a mark a run."""
    table = study.tables[figure.table].where(damage="kl_divergence")
    kinds = list(dict.fromkeys(zip(table.column("edit"), table.column("blocks"), strict=True)))
    names = table.values("measure")
    canvas, axes = panels(len(kinds), height=1.9)
    for ax, (kind, count) in zip(axes, kinds, strict=True):
        for k, run in enumerate(figure.options["runs"]):
            part = table.where(edit=kind, blocks=int(count), run=run)
            y = np.arange(len(part)) + 0.2 * (k - (len(figure.options["runs"]) - 1) / 2)
            value, low, high = (part.column(n) for n in ("value", "low", "high"))
            error = np.maximum(np.stack([value - low, high - value]), 0)
            colour = COLOURS[k % len(COLOURS)]
            ax.errorbar(value, y, xerr=error, fmt="o", ms=3, color=colour, elinewidth=0.8, label=named(run))
        ax.axvline(0, color="0.6", lw=0.6)
        first = ax is axes[0]
        ax.set_yticks(range(len(names)), [str(n).replace("_", " ") for n in names] if first else [])
        ax.set(xlim=(-1.05, 1.05), title=f"{kind}" + (f", {count} in a row" if count > 2 else ""))
        ax.set_xlabel("Spearman with KL")
        ax.invert_yaxis()
    legend_below(canvas, axes, 2)
    return canvas
