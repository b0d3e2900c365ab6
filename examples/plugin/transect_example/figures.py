"""A kind of figure: `draw_KIND(study, figure)` returns a matplotlib figure and computes nothing."""

from typing import Any

from transect.results.drawing import label, panels


def draw_gaps(study: Any, figure: Any) -> Any:
    """Excess of every step with its interval; 0 is the null."""
    table = study.tables[figure.table].where(status="ok")
    canvas, (ax,) = panels(1, height=2.0)
    x = range(len(table))
    value = table.column("corrected")
    arms = abs(table.column("corrected_high") - value)
    ax.errorbar(x, value, arms, marker="o", ms=3, capsize=2)
    ax.axhline(0, color="0.6", lw=0.6)
    ax.set_xlabel("layer l → l + 1")
    ax.set_ylabel(f"{label('mean_gap')}\nexcess over the null")
    return canvas
