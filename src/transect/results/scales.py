"""Scales of value axes: one kind for all panels of a figure, whose bands they hold."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def scale_alike(
    axes: "Sequence[Axes]",
    columns: Sequence[np.ndarray],
    *,
    tops: Sequence[np.ndarray] = (),
    same: bool = False,
    log: bool = False,
) -> None:
    """One kind of value axis for all panels of a figure: logarithmic where any panel's values span more than
    two decades about their median, symmetric about zero in panels that go below it.

    Args:
        columns: The values of each panel.
        tops: The upper ends of their bands, which a logarithmic axis holds as far as ten times its largest
            value.
        same: Panels show one quantity: they get the same limits too.
        log: Logarithmic whatever they span.
    """
    known = [c[np.isfinite(c)] for c in columns]
    sizes = [np.abs(k[k != 0]) for k in known]
    wide = log or any(len(s) and s.max() > 100 * np.median(s) for s in sizes)
    for k, (ax, values, size) in enumerate(zip(axes, known, sizes, strict=True)):
        if not len(size):
            continue
        if wide and (values > 0).all():
            ax.set_yscale("log")
            ax.set_ylim(values.min() / 2, _top(values, tops[k] if tops else values))
        elif wide:
            _symmetric(ax, float(np.median(size)))
        elif size.max() >= 1e4:
            ax.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    if same and len(axes):
        ends = np.array([ax.get_ylim() for ax in axes])
        for ax in axes:
            ax.set_ylim(ends[:, 0].min(), ends[:, 1].max())


def _top(values: np.ndarray, tops: np.ndarray) -> float:
    """Where a logarithmic axis ends: over all bands, but for those far beyond every value."""
    most = float(values.max())
    return max(2 * most, min(1.1 * float(np.nanmax(tops, initial=0)), 10 * most))


def _symmetric(ax: "Axes", straight: float) -> None:
    """Logarithmic above and below zero, straight within `straight`; few ticks, none of them beside zero."""
    from matplotlib.ticker import FixedLocator, NullLocator

    ax.set_yscale("symlog", linthresh=straight)
    low, high = ax.get_ylim()
    first = math.ceil(math.log10(straight))
    decades = range(first, max(first + 1, math.ceil(math.log10(max(-low, high)))) + 1)
    step = -(-len(decades) // 4)
    ends = [10.0**k for k in decades[::step]]
    ax.yaxis.set_major_locator(FixedLocator([t for t in (*(-e for e in ends), 0, *ends) if low <= t <= high]))
    ax.yaxis.set_minor_locator(NullLocator())
