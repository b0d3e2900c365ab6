"""Figures of the match study: how alike the most alike neurons of two runs are, beside rotations."""

from typing import TYPE_CHECKING

import numpy as np

from transect.results.drawing import COLOURS, legend_below, panels
from transect.results.study import Figure, Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas


def draw_twins(study: Study, figure: Figure) -> "Canvas":
    """Share of neurons whose best match is at least so close, a panel a site, beside random directions."""
    o = figure.options
    pairs = study.tables[figure.table]
    canvas, axes = panels(max(1, len(o["sites"])))
    for ax, site in zip(axes, o["sites"], strict=False):
        part = pairs.where(run=o["run"], site=site, status="ok")
        height = 1 - np.arange(len(part)) / max(1, len(part))
        ax.plot(np.sort(part.column("value")), height, color=COLOURS[0], label="other run")
        ax.plot(np.sort(part.column("null")), height, color="0.5", label="random directions")
        ax.plot(
            np.sort(part.column("null_high")), height, color="0.2", ls=":", lw=0.9, label="texts permuted"
        )
        ax.set(title=site, xlabel="best |ρ|", xlim=(0, 1.02), ylim=(0, 1.02))
    axes[0].set_ylabel("share of neurons")
    legend_below(canvas, axes, 3)
    return canvas
