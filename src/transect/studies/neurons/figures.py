"""Figures of the neuron study: maps beside their controls, sorted heatmaps. Table → matplotlib."""

from typing import TYPE_CHECKING, Any

import numpy as np

from transect.results.drawing import COLOURS
from transect.results.study import Figure, Study
from transect.results.table import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas


def draw_maps(study: Study, figure: Figure) -> "Canvas":
    """Neurons of some blocks as points, each beside its control; on a line, places against rank with the
    control's line drawn in."""
    table, controls = study.tables[figure.table], study.tables["control_positions"]
    sites = [s for s in figure.options["sites"] if len(table.where(site=s))]
    fits = {row["site"]: row for row in study.tables["maps"]}
    if "y" not in table.columns:
        return _lines(table, controls, sites, fits)
    canvas, grid = _grid(len(sites), 2, 1.75)
    every = [part.column(axis) for part in (table, controls) for axis in "xy"]
    bound = max(float(np.nanmax(np.abs(np.concatenate(every)))), 1e-9) * 1.05
    for axes, site in zip(grid, sites, strict=True):
        for ax, source, words in zip(axes, (table, controls), ("", "control"), strict=True):
            part, fit = source.where(site=site), fits[site]
            colour: dict[str, Any] = {"color": "0.5" if words else COLOURS[0]}
            if "z" in part.columns:
                colour = {"c": part.column("z"), "cmap": "viridis", "vmin": -bound, "vmax": bound}
            points = ax.scatter(
                part.column("x"), part.column("y"), s=2, lw=0, rasterized=len(part) > 500, **colour
            )
            ax.set(xlim=(-bound, bound), ylim=(-bound, bound), aspect="equal")
            ax.set_title(f"{words or site}\n{_fit(fit, bool(words))}")
        axes[0].set_ylabel("position 2")
    for ax in grid[-1]:
        ax.set_xlabel("position 1")
    if "z" in table.columns:
        bar = canvas.colorbar(points, ax=list(grid[-1]), location="bottom", shrink=0.7, aspect=30)
        bar.set_label("position 3")
    return canvas


def draw_sorted(study: Study, figure: Figure) -> "Canvas":
    """Correlation heatmaps before and after sorting and of the sorted control, side by side by block."""
    table = study.tables[figure.table]
    names = [str(s) for s in table.values("site")]
    kinds = {"before": "by index", "after": "sorted", "control": "control, sorted"}
    canvas, grid = _grid(len(names), len(kinds), 1.35)
    cells = {(site, when): _cells(table.where(site=site, order=when)) for site in names for when in kinds}
    strong = [np.nanquantile(np.abs(matrix), 0.99) for matrix in cells.values() if matrix.size > 1]
    limit = float(max(strong, default=1.0)) or 1.0
    for axes, site in zip(grid, names, strict=True):
        for ax, (when, words) in zip(axes, kinds.items(), strict=True):
            part = table.where(site=site, order=when)
            end = int(part.column("last").max()) + 1
            image = ax.imshow(
                cells[site, when],
                cmap="RdBu_r",
                vmin=-limit,
                vmax=limit,
                interpolation="nearest",
                extent=(0, end, end, 0),
            )
            ax.set_facecolor("0.6")
            ax.set_title(f"{site}\n{words}" if when == "before" else f"\n{words}")
            ax.set_xticks([0, end // 2, end])
            ax.set_yticks([0, end // 2, end] if when == "before" else [])
            ax.spines[:].set_visible(False)
        axes[0].set_ylabel("neuron")
    for ax in grid[-1]:
        ax.set_xlabel("neuron")
    sizes = {int(n) for n in table.column("last") - table.column("first") + 1}
    several = "–".join(str(n) for n in sorted({min(sizes), max(sizes)}))
    words = "ρ" if sizes == {1} else f"ρ, mean over cells of {several} neurons a side"
    canvas.colorbar(image, ax=grid.ravel().tolist(), location="bottom", shrink=0.7, aspect=40, label=words)
    return canvas


# below: helpers in reading order


def _lines(table: Table, controls: Table, sites: list[str], fits: dict[str, Any]) -> "Canvas":
    canvas, grid = _grid(len(sites), 1, 1.5)
    for (ax,), site in zip(grid, sites, strict=True):
        x, null = (np.sort(source.where(site=site).column("x")) for source in (table, controls))
        ax.plot(np.arange(len(x)), x, ".", ms=2, color=COLOURS[0], label="map", rasterized=len(x) > 500)
        ax.plot(np.arange(len(null)), null, "-", lw=0.7, color="0.2", label="control")
        ax.set_title(f"{site}: {_fit(fits[site])}\ncontrol: {_fit(fits[site], True)}")
        ax.set_ylabel("position 1")
    grid[-1][0].set_xlabel("rank of the neuron")
    grid[0][0].legend(frameon=False, markerscale=3)
    return canvas


def _fit(row: dict[str, Any], control: bool = False) -> str:
    value, halves = (
        (row["null"], row["reproducibility_null"]) if control else (row["value"], row["reproducibility"])
    )
    return f"stress {value:.2f}, halves {halves:.2f}"


def _cells(part: Table) -> np.ndarray:
    """The lines of one heatmap as a matrix, NaN for a neuron with itself."""
    lines = sorted(part, key=lambda row: row["row"])
    return np.array([[np.nan if v is None else v for v in row["values"]] for row in lines], float)


def _grid(rows: int, columns: int, height: float) -> "tuple[Canvas, np.ndarray]":
    """Axes [rows, columns] at the width of a column."""
    import matplotlib.pyplot as plt

    from transect.results.drawing import WIDTH

    size = (WIDTH["single"], height * rows + 0.7)
    canvas, grid = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    return canvas, np.asarray(grid)
