"""Figures of pruning: what the removal of neurons costs, against the whole model."""

from typing import TYPE_CHECKING

import numpy as np

from transect.results.drawing import COLOURS, WIDTH, legend_below
from transect.results.study import Figure, Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

#: Methods stand side by side by so much of the axis, so that their bars can be told apart.
BESIDE = 0.006
#: Ratios that a logarithmic axis names.
TICKS = (0.5, 1, 2, 5, 10, 20, 50, 100, 1000, 10000)


def draw_pruning(study: Study, figure: Figure) -> "Canvas":
    """Ratio of perplexities, pruned to whole, against the fraction removed: a line per method, bars by text,
    the whole model at 1."""
    import matplotlib.pyplot as plt

    table = study.tables[figure.table]
    canvas, ax = plt.subplots(figsize=(WIDTH["single"], 2.6), layout="constrained")
    methods = table.values("method")
    for k, (colour, method) in enumerate(zip(COLOURS, methods, strict=False)):
        part = table.where(method=method)
        order = np.argsort(part.column("fraction"))
        ratio, low, high = (part.column(n)[order] for n in ("ratio", "ratio_low", "ratio_high"))
        ax.errorbar(
            part.column("fraction")[order] + BESIDE * (k - (len(methods) - 1) / 2),
            ratio,
            np.abs(np.stack([low, high]) - ratio),
            fmt="o-",
            ms=2.5,
            capsize=1.5,
            elinewidth=0.8,
            color=colour,
            label=str(method),
        )
    ax.axhline(1, color="0.4", ls="--", lw=0.8, label="not pruned")
    low, high = ax.get_ylim()
    if high > 3 * max(low, 1e-9):
        ax.set_yscale("log")
        ticks = [t for t in TICKS if ax.get_ylim()[0] <= t <= ax.get_ylim()[1]]
        ax.set_yticks(ticks, [f"{t:g}" for t in ticks])
        ax.minorticks_off()
    ax.set(xlabel="fraction of MLP neurons removed", ylabel="perplexity ÷ whole model's")
    legend_below(canvas)
    return canvas
