"""Figures of the adapters study: size by block, spectra, direction and stable rank of ΔW."""

from typing import TYPE_CHECKING

import numpy as np

from transect.results.drawing import colours, hatch, legend_below, named, panels, whole_ticks
from transect.results.study import Figure, Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

DASHES = (1, 1)
#: Lines a panel holds before they cannot be told apart.
LINES = 8


def draw_adapter_layers(study: Study, figure: Figure) -> "Canvas":
    """‖ΔW‖ / ‖W‖ of every block, a curve per run; what lies outside of blocks stands to the right."""
    everything = study.tables[figure.table]
    table = everything.where(measure="relative_norm_of_layer")
    canvas, (ax,) = panels(1, height=2.0)
    palette = colours(everything.values("run"))
    last = max(table.column("layer"), default=-1)
    outside = everything.where(measure="relative_norm_of_module").values("module")
    for run in everything.values("run"):
        rows = sorted(table.where(run=run), key=lambda r: r["layer"])
        for k, module in enumerate(outside, 1):
            beside = everything.where(run=run, module=module, status="ok").column("value")
            ax.plot([last + 2 * k] * len(beside), beside, "D", color=palette[run], ms=4)
        ax.plot(
            [r["layer"] for r in rows],
            [r["value"] for r in rows],
            color=palette[run],
            marker="o",
            label=named(run),
        )
    ax.set_xlabel("block")
    whole_ticks(ax)
    if outside:
        shown = [t for t in ax.get_xticks() if 0 <= t <= last]
        spots = [last + 2 * k for k in range(1, len(outside) + 1)]
        ax.set_xticks([*shown, *spots], [*(f"{t:.0f}" for t in shown), *outside])
        for mark in ax.get_xticklabels()[len(shown) :]:
            mark.set(rotation=30, ha="right")
    ax.set_ylabel("‖ΔW‖ / ‖W‖ (Frobenius)")
    ax.set_ylim(0, 1.15 * max(everything.where(status="ok").column("value"), default=1))
    ax.legend(frameon=False, ncols=2)
    return canvas


def draw_adapter_spectra(study: Study, figure: Figure) -> "Canvas":
    """Singular values of ΔW over the largest, a panel per kind of module, a line per layer."""
    import matplotlib

    table = study.tables[figure.table]
    kinds = table.values("module")
    canvas, axes = panels(len(kinds), columns=4, height=1.7)
    runs = table.values("run")
    last = max(max(table.column("layer")), 1)
    for ax, kind in zip(axes, kinds, strict=True):
        for run in runs:
            part = table.where(module=kind, run=run)
            there = sorted(set(part.values("layer")))
            picked = np.linspace(0, len(there) - 1, min(len(there), LINES // len(runs))).round().astype(int)
            for layer in (there[k] for k in picked):
                rows = sorted(part.where(layer=layer), key=lambda r: r["index"])
                shade = matplotlib.colormaps["viridis"](layer / last)
                dashes = DASHES if run != runs[0] else (None, None)
                name = named(run) if layer == there[picked[len(picked) // 2]] else None
                ax.plot(
                    [r["index"] for r in rows],
                    [r["value"] for r in rows],
                    color=shade,
                    lw=0.9,
                    dashes=dashes,
                    label=name,
                )
        ax.set_title(kind)
        ax.set_xlabel("index")
        ax.set_ylabel("σᵢ / σ₁")
        whole_ticks(ax, 5)
        ax.set_ylim(0, 1.03)
    shades = matplotlib.cm.ScalarMappable(matplotlib.colors.Normalize(0, last), "viridis")
    bar = canvas.colorbar(shades, ax=axes, label="block", shrink=0.6, pad=0.01)
    whole_ticks(bar.ax, axis="y")
    if len(runs) > 1:
        legend_below(canvas, axes)
    return canvas


def draw_adapter_energy(study: Study, figure: Figure) -> "Canvas":
    """Share of ΔW in the leading singular directions of W beside random directions, by layer."""
    o = figure.options
    table = study.tables[figure.table].where(measure="energy_in_top")
    kinds = table.values("module")
    canvas, axes = panels(len(kinds), columns=4, height=1.7)
    palette = colours(o["runs"])
    for ax, kind in zip(axes, kinds, strict=True):
        for run in o["runs"]:
            part = table.where(module=kind, run=run)
            x, order = part.column("layer").astype(float), np.argsort(part.column("layer"))
            y, low, high = (part.column(c)[order] for c in ("value", "null_low", "null_high"))
            ax.plot(x[order], y, color=palette[run], marker=".", label=named(run))
            name = named(f"{run}: random directions")
            if len(x) > 1:
                ax.fill_between(x[order], low, high, color=palette[run], alpha=0.25, lw=0, label=name)
            else:  # a band of one point cannot be seen
                ax.vlines(x, low, high, color=palette[run], alpha=0.25, lw=6, label=name)
        ax.set_title(kind)
        blocks = max(table.where(module=kind).column("layer")) >= 0
        ax.set_xlabel("block" if blocks else "outside of blocks")
        whole_ticks(ax, 5)
        if not blocks:
            ax.set_xticks([])
        ax.set_ylabel(f"share in top {o['top']}")
        ax.set_ylim(bottom=0)
    legend_below(canvas, axes)
    return canvas


def draw_adapter_ranks(study: Study, figure: Figure) -> "Canvas":
    """Stable rank of ΔW, block × module, over the largest it can be; a panel per run."""
    runs = figure.options["runs"]
    table = study.tables[figure.table].where(measure="stable_rank")
    blocks = sorted(set(table.column("layer")))
    kinds = table.values("module")
    canvas, axes = panels(len(runs), columns=2, height=0.12 * len(blocks) + 1.5)
    images = []
    for ax, run in zip(axes, runs, strict=True):
        grid = np.full((len(blocks), len(kinds)), np.nan)
        for r in table.where(run=run, status="ok"):
            grid[blocks.index(r["layer"]), kinds.index(r["module"])] = r["value"] / (
                r["rank"] or r["smaller"]
            )
        images.append(ax.imshow(grid, origin="lower", aspect="auto", vmin=0, vmax=1, cmap="viridis"))
        hatch(ax, [(int(j), int(i)) for i, j in np.argwhere(~np.isfinite(grid))])
        ax.set_xticks(range(len(kinds)), kinds, rotation=40, ha="right")
        step = -(-len(blocks) // 12)
        ax.set_yticks(range(0, len(blocks), step), [str(b) if b >= 0 else "–" for b in blocks[::step]])
        ax.set_ylabel("block (–: outside)")
        ax.set_title(named(run))
    canvas.colorbar(images[0], ax=axes, label="stable rank / largest possible", shrink=0.8, pad=0.01)
    return canvas
