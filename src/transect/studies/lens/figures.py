"""Figures of the lens: a direction in words."""

from typing import TYPE_CHECKING

import numpy as np

from transect.results.drawing import COLOURS, legend_below, panels
from transect.results.study import Figure, Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

#: Words of either sign.
SHOWN = 8


def draw_direction(study: Study, figure: Figure) -> "Canvas":
    """Bars of the top tokens of both signs, a panel a direction, beside those of other directions."""
    names = figure.options["directions"]
    canvas, axes = panels(len(names), height=2.6)
    for ax, name in zip(axes, names, strict=True):
        part = study.tables[figure.table].where(direction=name)
        rows = [*list(part.where(sign="+"))[:SHOWN], *reversed(list(part.where(sign="−"))[:SHOWN])]
        score = np.array([r["value"] if r["sign"] == "+" else -r["value"] for r in rows])
        ax.barh(np.arange(len(rows)), score, color=[COLOURS[0] if s > 0 else COLOURS[1] for s in score])
        ax.set_yticks(np.arange(len(rows)), [repr(r["word"])[1:-1] for r in rows])
        ax.invert_yaxis()
        for key, style, word in (("null_high", "--", "random directions"), ("pairs_high", ":", "two states")):
            for side in (-1, 1):
                ax.axvline(side * rows[0][key], color="0.4", ls=style, lw=0.8, label=f"{word}, 97.5 %")
        ax.set(xlabel="score (logits)", title=name if len(name) < 30 else "")
    legend_below(canvas, axes, 2)
    return canvas
