"""Figures of pruning: perplexity against the fraction of neurons removed."""

from typing import TYPE_CHECKING

import numpy as np

from transect.results.drawing import COLOURS, panels
from transect.results.study import Figure, Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas


def draw_pruning(study: Study, figure: Figure) -> "Canvas":
    """Perplexity against the fraction of neurons removed, a line per method, bars by text, the unpruned model
    dashed."""
    table = study.tables[figure.table]
    canvas, (ax,) = panels(1, height=2.4)
    for colour, method in zip(COLOURS, table.values("method"), strict=False):
        part = table.where(method=method)
        order = np.argsort(part.column("fraction"))
        value = part.column("value")[order]
        arms = np.abs(np.stack([part.column("low")[order], part.column("high")[order]]) - value)
        ax.errorbar(
            part.column("fraction")[order],
            value,
            arms,
            fmt="o-",
            ms=3,
            capsize=2,
            color=colour,
            label=str(method),
        )
    ax.axhline(float(table.column("null")[0]), color="0.4", ls="--", lw=0.8, label="not pruned")
    ax.set_yscale("log")
    ax.set(xlabel="fraction of MLP neurons removed", ylabel="perplexity (per token)")
    ax.legend(frameon=False)
    return canvas
