"""Figures of power: how often a planted effect is found, against the number of texts."""

from typing import TYPE_CHECKING

import numpy as np

from transect.inference.tests import LEVEL
from transect.results.drawing import COLOURS, WIDTH, legend_below
from transect.results.study import Figure, Study
from transect.studies.calibrate.planted import TESTS

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

#: Sizes beside nothing that a panel shows.
MOST = 5


def draw_power(study: Study, figure: Figure) -> "Canvas":
    """A panel a test: share of draws found against texts, a line a size, the mean over sites."""
    import matplotlib.pyplot as plt

    rows = [r for r in study.tables[figure.table] if r["run"] == figure.options["run"]]
    most = max(r["tokens_a_text"] for r in rows)
    sizes = sorted({r["size"] for r in rows})[: MOST + 1]
    canvas, axes = plt.subplots(1, 2, figsize=(WIDTH["single"], 2.3), sharey=True, layout="constrained")
    for ax, test in zip(axes, TESTS, strict=True):
        curve = [r for r in rows if r["test"] == test and r["tokens_a_text"] == most]
        counts = sorted({r["n_texts"] for r in curve})
        for k, size in enumerate(sizes):
            levels = [
                np.mean([r["value"] for r in curve if r["size"] == size and r["n_texts"] == T])
                for T in counts
            ]
            style = {"color": COLOURS[k - 1], "ls": "-"} if size else {"color": "0.4", "ls": "--"}
            ax.plot(counts, levels, marker="o", ms=2.5, label=f"{size:g}" if size else "nothing", **style)
        for level in (LEVEL, figure.options["power"]):
            ax.axhline(level, color="0.6", ls=":", lw=0.8)
        ax.set(title=test, xlabel="texts", ylim=(-0.02, 1.02))
    axes[0].set_ylabel("share of draws found")
    legend_below(canvas, axes[:1], len(sizes), title="size planted")
    return canvas
