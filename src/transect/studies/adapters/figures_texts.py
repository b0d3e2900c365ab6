"""Figures of intruders: how many there are by block, and what scaling them does to texts."""

from typing import TYPE_CHECKING

import numpy as np

from transect.results.drawing import COLOURS, colours, legend_below, named, panels, whole_ticks
from transect.results.study import Figure, Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

#: Path → colour, dashes, name in the legend.
PATHS = {
    "line": ("0.6", "-", "base → tuned, all of ΔW"),
    "intruders": (COLOURS[2], "-", "intruders scaled"),
    "others": (COLOURS[0], "--", "as many others scaled (control)"),
}


def draw_adapter_intruders(study: Study, figure: Figure) -> "Canvas":
    """Intruders of every block, a curve a run, beside those of random changes."""
    table = study.tables[figure.table].where(measure="intruders_of_block")
    canvas, (ax,) = panels(1, height=2.0)
    palette = colours(figure.options["runs"])
    for run in figure.options["runs"]:
        rows = sorted(table.where(run=run), key=lambda r: r["layer"])
        x = [r["layer"] for r in rows]
        ax.plot(x, [r["value"] for r in rows], color=palette[run], marker="o", label=named(run))
        low, high = ([r[c] for r in rows] for c in ("null_low", "null_high"))
        name = named(f"{run}: random ΔW")
        ax.fill_between(x, low, high, color=palette[run], alpha=0.25, lw=0, label=name)
    ax.set(xlabel="block", ylabel="intruders")
    ax.set_ylim(0, max(1, ax.get_ylim()[1]))
    whole_ticks(ax)
    whole_ticks(ax, axis="y")
    legend_below(canvas, [ax], 2)
    return canvas


def draw_adapter_forgetting(study: Study, figure: Figure) -> "Canvas":
    """Loss of every set of texts beyond that of the base, against the scale of what is scaled."""
    o = figure.options
    table = study.tables[figure.table].where(run=o["run"], measure="loss")
    canvas, axes = panels(len(o["texts"]), columns=2, height=2.0)
    for ax, texts in zip(axes, o["texts"], strict=True):
        end = table.where(texts=texts, path="line", scale=1.0)
        for path, (colour, dashes, name) in PATHS.items():
            rows = list(table.where(texts=texts, path=path)) + ([] if path == "line" else list(end))
            if len(rows) < 2:
                continue
            rows.sort(key=lambda r: r["scale"])
            x, y, low, high = (
                np.array([r[k] for r in rows], float)
                for k in ("scale", "corrected", "corrected_low", "corrected_high")
            )
            ax.plot(x, y, color=colour, ls=dashes, marker="o", label=name)
            ax.fill_between(x, low, high, color=colour, alpha=0.15, lw=0)
        ax.set(title=f"{texts} texts", xlabel="scale (1: tuned)", ylabel="loss − base (nats a token)")
        ax.axhline(0, color="0.6", lw=0.6)
    legend_below(canvas, axes, 3)
    return canvas
