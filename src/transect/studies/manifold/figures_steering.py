"""Figure of steering: what happens along the manifold and on the straight line between the same ends."""

from typing import TYPE_CHECKING, Any

import numpy as np

from transect.models import sites
from transect.results.drawing import COLOURS, GREY, legend_below, panels
from transect.results.study import Figure, Study
from transect.results.table import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

#: Path → its name, colour and line.
LOOKS = {
    "manifold": ("along the manifold", COLOURS[0], "-"),
    "line": ("straight line", COLOURS[2], "-"),
    "random": ("random direction, as far as the manifold", GREY, "--"),
    "covariance": ("points' covariance, as far as the manifold", GREY, ":"),
}
#: Measure → its axis.
WORDS = {
    "label_shift": "log-odds shift,\ntarget over old label",
    "between_shift": "log-odds shift,\nhalfway over both ends",
    "kl": "KL of next token\n(nats)",
    "off_manifold": "distance from manifold\n(steps between classes)",
}


def draw_manifold_steering(study: Study, figure: Figure) -> "Canvas":
    """Effects and distance from the manifold along the way at one site, and the two geometries over sites."""
    o = figure.options
    table = study.tables[figure.table].where(run=o["run"], status="ok")
    here = table.where(site=o["site"])
    names = [m for m in WORDS if len(here.where(measure=m))]
    shared = table.where(measure="output_geometry", path=["manifold", "line"])
    canvas, axes = panels(len(names) + bool(len(shared)))
    for ax, measure in zip(axes, names, strict=False):
        for path, (name, colour, style) in LOOKS.items():
            part = here.where(measure=measure, path=path)
            x, value, low, high = (part.column(k) for k in ("fraction", "value", "low", "high"))
            if path in ("manifold", "line"):
                bars = np.maximum(np.nan_to_num(np.stack([value - low, high - value])), 0)
                ax.errorbar(
                    x, value, yerr=bars, color=colour, ls=style, marker="o", elinewidth=0.7, label=name
                )
            else:
                ax.plot(x, value, color=colour, ls=style, label=name)
        ax.set(xlabel="part of the way", xticks=[0, 0.5, 1], xlim=(-0.05, 1.08))
        ax.set_ylabel(WORDS[measure])
        ax.axhline(0, color="0.7", lw=0.5, zorder=0)
    if len(shared):
        _geometry(axes[-1], shared)
    legend_below(canvas, axes, 2)
    return canvas


def _geometry(ax: "Axes", table: Table) -> None:
    """Rank correlations by site, with their intervals and the band of permuted classes."""
    names = sorted(table.values("site"), key=sites.order)
    for k, path in enumerate(("manifold", "line")):
        rows: list[dict[str, Any]] = sorted(table.where(path=path), key=lambda r: names.index(r["site"]))
        x = np.array([names.index(r["site"]) for r in rows]) + 0.16 * (k - 0.5)
        value, low, high = (np.array([r[n] for r in rows], float) for n in ("value", "low", "high"))
        bars = np.maximum(np.nan_to_num(np.stack([value - low, high - value])), 0)
        ax.errorbar(x, value, yerr=bars, fmt="o", color=LOOKS[path][1], elinewidth=0.7)
    low, high = (table.where(path="line").column(n) for n in ("null_low", "null_high"))
    ax.fill_between(
        range(len(names)), low, high, color="0.5", alpha=0.2, lw=0, label="permuted classes, 95 %"
    )
    ax.set_xticks(range(len(names)), [str(sites.layer(s)) for s in names])
    ax.set(xlim=(-0.5, len(names) - 0.5), xlabel="layer")
    ax.set_ylabel("ρ of output and\nstate distances")
    ax.axhline(0, color="0.7", lw=0.5, zorder=0)
