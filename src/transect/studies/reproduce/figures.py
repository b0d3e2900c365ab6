"""The figure of a reproduced claim: ours with its interval, the control, and what was published."""

from typing import TYPE_CHECKING

from transect.results.drawing import COLOURS, legend_below, panels
from transect.results.study import Figure, Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas


def draw_reproduced(study: Study, figure: Figure) -> "Canvas":
    """One number, its interval and its control on one axis; a published range as a band."""
    row = next(iter(study.tables[figure.table]))
    canvas, (ax,) = panels(1, height=0.7)
    if row["published_low"] is not None:
        ax.axvspan(
            row["published_low"], row["published_high"], color=COLOURS[1], alpha=0.3, lw=0, label="published"
        )
    for y, (names, colour, word) in enumerate(
        (
            (("value", "low", "high"), COLOURS[0], "here"),
            (("null", "null_low", "null_high"), "0.4", row["control"]),
        )
    ):
        value, low, high = (row[k] for k in names)
        if value is None:
            continue
        ax.plot([value], [-y], "o", ms=4, color=colour, label=word)
        if low is not None and high is not None:
            ax.plot([low, high], [-y, -y], "-", lw=1.2, color=colour)
    ax.axvline(0, color="0.6", lw=0.6)
    ax.set(yticks=[], ylim=(-1.6, 0.6), xlabel=figure.options["unit"])
    legend_below(canvas, [ax], 3)
    return canvas
