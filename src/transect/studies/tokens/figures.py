"""Figures of token geometry: curves of series with their controls, comparison grids, differences, heatmaps
with the tokens on.

Like every figure they only draw what stands in a table.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from transect.results.drawing import (
    WIDTH,
    alone,
    band,
    colours,
    legend_below,
    named,
    panels,
    whole_ticks,
)
from transect.results.study import Figure, Study
from transect.results.table import Table
from transect.studies.tokens.pictures import MOST

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas


def axis_label(curve: str) -> str:
    """Words for a curve's axis."""
    from transect.studies.tokens.names import CURVES

    return CURVES[curve].label


def draw_token_curves(study: Study, figure: Figure) -> "Canvas":
    """A panel per curve: series in colour, their random weights dashed, nulls dotted."""
    o = figure.options
    table = study.tables[figure.table]
    count = len(o["curves"])
    canvas, axes = panels(count, columns=2 if count in (2, 4) else 3, height=1.9)
    palette = colours(o["series"])
    depth = _depths(table)
    for ax, curve in zip(axes, o["curves"], strict=True):
        part = table.where(curve=curve).where(lambda row: row.get("comparable") is not False)
        for series in o["series"]:
            _line(ax, part.where(series=series, role="run"), palette[series], series, depth)
            _plain(ax, part.where(series=series, role="run"), "null", palette[series], ":", 0.8, depth)
            random = part.where(series=series, role="control")
            _plain(ax, random, "value", palette[series], "--", 0.9, depth)
        _finish(ax, curve, part, depth)
    _legend(canvas, axes, o["series"], palette, bool(o["controls"]), "null of the measure")
    return canvas


def draw_token_grid(study: Study, figure: Figure) -> "Canvas":
    """Rows: curves; columns: levels of one choice; colours: the other choices."""
    import matplotlib.pyplot as plt

    o = figure.options
    table = study.tables[figure.table]
    columns = list(dict.fromkeys(c["column"] for c in o["cells"]))
    lines = list(dict.fromkeys(c["line"] for c in o["cells"]))
    palette, depth = colours(lines), _depths(table)
    curves = [c for c in o["curves"] if len(table.where(curve=c))]
    size = (WIDTH["full"], 1.45 * len(curves) + 0.5)
    canvas, grid = plt.subplots(
        len(curves), len(columns), figsize=size, squeeze=False, layout="constrained", sharey="row"
    )
    for k, (row, curve) in enumerate(zip(grid, curves, strict=True)):
        part = table.where(curve=curve).where(lambda r: r.get("comparable") is not False)
        for ax, column in zip(row, columns, strict=True):
            for cell in (c for c in o["cells"] if c["column"] == column):
                mine = part.where(series=cell["series"], role="run")
                _line(ax, mine, palette[cell["line"]], cell["line"], depth)
                random = part.where(series=cell["series"], role="control")
                _plain(ax, random, "value", palette[cell["line"]], "--", 0.7, depth)
            _mean_null(
                ax,
                part.where(series=[c["series"] for c in o["cells"] if c["column"] == column], role="run"),
                depth,
            )
            _finish(ax, curve, part, depth)
            ax.set_ylabel(axis_label(curve) if ax is row[0] else "", fontsize=7)
            ax.set_xlabel(_depth_label(depth) if k == len(curves) - 1 else "")
            if k == 0:
                ax.set_title(f"{o['by']}: {column}")
    _legend(canvas, list(grid.ravel()), lines, palette, bool(o["controls"]), "null, averaged", grey=True)
    return canvas


def draw_token_differences(study: Study, figure: Figure) -> "Canvas":
    """B − A through depth with its interval, a panel per curve, a colour per contrast; 0 drawn in."""
    o = figure.options
    table = study.tables[figure.table]
    canvas, axes = panels(len(o["curves"]), columns=3, height=1.9)
    palette, depth = colours(o["contrasts"]), _depths(table, "contrast")
    for ax, curve in zip(axes, o["curves"], strict=True):
        part = table.where(curve=curve)
        ax.axhline(0, color="0.5", lw=0.6)
        for contrast in o["contrasts"]:
            _line(ax, part.where(contrast=contrast), palette[contrast], contrast, depth)
        _finish(ax, curve, part, depth)
        ax.set_ylabel("Δ " + axis_label(curve).partition("\n(")[0])
    _legend(canvas, axes, o["contrasts"], palette, False, "")
    return canvas


def draw_token_heatmap(study: Study, figure: Figure) -> "Canvas":
    """Cosines of the tokens of one text at several layers, the tokens written beside the first."""
    import matplotlib.pyplot as plt

    o = figure.options
    table = study.tables[figure.table].where(run=o["run"], prompt=o["prompt"])
    names = table.values("site")
    first = table.where(site=names[0], j=0)
    order = np.argsort(first.column("i"))
    pieces = [_piece(p) for p in first.column("piece")[order]]
    height = 2 * (WIDTH["full"] - 1.2) / len(names) + 0.6
    canvas, grid = plt.subplots(
        2, len(names), figsize=(WIDTH["full"], height), squeeze=False, layout="constrained"
    )
    image: Any = None
    for k, site in enumerate(names):
        part = table.where(site=site)
        for row, value, end in ((0, "value", ""), (1, "centred", "_centred")):
            ax = grid[row][k]
            M = part.column(value).reshape(len(pieces), len(pieces))  # rows stand in the order of i, then j
            image = ax.imshow(M, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest", rasterized=True)
            means, null = (part.column(f"{name}{end}")[0] for name in ("mean", "null"))
            title = f"mean {means:z.2f}\nother texts {null:z.2f}"
            ax.set_title(title if row else f"{site}\n{title}", fontsize=7)
            ax.tick_params(length=0)
            ax.set_xticks([])
            ax.set_yticks(range(len(pieces)) if k == 0 else [], pieces if k == 0 else [], fontsize=5)
            if row == 1:
                ax.set_xticks(range(len(pieces)), pieces, rotation=90, fontsize=5)
            if k == 0:
                ax.set_ylabel("raw" if row == 0 else "mean taken out")
    bar = canvas.colorbar(image, ax=grid, shrink=0.6, pad=0.01)
    bar.set_label("cosine")
    return canvas


def draw_token_evolution(study: Study, figure: Figure) -> "Canvas":
    """Curves along training: a line per layer, eight at most, dark to light; steps on a log axis where they
    grow by factors."""
    import matplotlib
    import matplotlib.ticker

    o = figure.options
    table = study.tables[figure.table]
    names = [c for c in o["curves"] if len(table.where(curve=c))]
    canvas, axes = panels(len(names), columns=2 if len(names) in (2, 4) else 3, height=1.95)
    last = max(float(table.column("layer").max()), 1.0)
    shade = matplotlib.colormaps["viridis"]
    for ax, curve in zip(axes, names, strict=True):
        part = table.where(curve=curve)
        layers = sorted(set(part.column("layer").tolist()))
        for layer in spread(layers, MOST):
            rows = sorted(part.where(layer=layer), key=lambda r: r["step"])
            x, y, low, high, null = (
                np.array([np.nan if r.get(k) is None else r[k] for r in rows], float)
                for k in ("step", "value", "low", "high", "null")
            )
            colour = shade(0.92 * layer / last)
            ax.plot(x, y, color=colour, marker="o", ms=2)
            ax.fill_between(x, low, high, color=colour, alpha=0.15, lw=0)
            ax.plot(x, null, color=colour, lw=0.7, ls=":")
        steps = sorted(set(table.column("step").tolist()))
        if grows(steps):
            ax.set_xscale("symlog", linthresh=1, linscale=0.5)
            ax.set_xticks(sorted({*steps[:2], *steps[3:-2:2], steps[-1]}))
        else:
            ax.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5, integer=True))
        ax.xaxis.set_major_formatter(lambda v, _: f"{v:g}")
        ax.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
        _logarithmic(ax, part, curve)
        ax.set_xlabel("training step")
        ax.set_ylabel(o.get("labels", {}).get(curve) or axis_label(curve))
    norm = matplotlib.colors.Normalize(0, last / 0.92)
    bar = canvas.colorbar(matplotlib.cm.ScalarMappable(norm, shade), ax=axes, shrink=0.7, pad=0.01)
    bar.ax.set_ylim(0, last)
    bar.ax.yaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True, nbins=8))
    bar.set_label("layer")
    return canvas


# pieces of a panel


def grows(steps: Sequence[int | float]) -> bool:
    """Whether most steps after 0 are half as much again as the one before, or more."""
    after = np.array([s for s in steps if s > 0], float)
    return len(after) < 2 or float(np.median(after[1:] / after[:-1])) >= 1.5


def spread(values: Sequence[Any], most: int) -> list[Any]:
    """At most so many of the values, evenly over them, the first and the last among them."""
    count = min(most, len(values))
    return list(dict.fromkeys(values[round(k * (len(values) - 1) / max(1, count - 1))] for k in range(count)))


def _piece(text: str) -> str:
    """A token as it is written, its space shown, nothing that a font may lack."""
    shown = text.replace("Ġ", "␣").replace("Ċ", "⏎").replace(" ", "␣").replace("\n", "⏎")
    shown = shown.replace("␣", "·").replace("⏎", "¶")
    return "".join(c if c.isprintable() and ord(c) < 0x2000 else "?" for c in shown)[:12]


Depths = dict[str, float] | None


def _depths(table: Table, by: str = "series") -> Depths:
    """None where all series have one number of layers, else that number by series."""
    deepest: dict[str, float] = {}
    for row in table:
        deepest[row[by]] = max(deepest.get(row[by], 1.0), row["layer"] or 0.0)
    return None if len(set(deepest.values())) <= 1 else deepest


def _depth_label(depth: Depths) -> str:
    return "layer" if depth is None else "depth (fraction)"


def _x(rows: Sequence[dict[str, Any]], depth: Depths) -> np.ndarray:
    layers = np.array([r["layer"] for r in rows], float)
    if depth is not None and all(r.get("depth") is not None for r in rows):
        return np.array([r["depth"] for r in rows], float)
    return layers if depth is None else layers / depth[rows[0].get("series") or rows[0]["contrast"]]


def _line(ax: "Axes", part: Table, colour: str, name: str, depth: Depths) -> None:
    """A curve with its interval, and the least and largest seed as thin lines."""
    rows = sorted((r for r in part if r["value"] is not None), key=lambda r: r["layer"])
    if not rows:
        return
    x = _x(rows, depth)
    y, low, high = (
        np.array([np.nan if r[k] is None else r[k] for r in rows], float) for k in ("value", "low", "high")
    )
    ax.plot(x, y, color=colour, marker="o", ms=2, label=named(name))
    band(ax, x, low, high, colour, 0.2)
    if (rows[0].get("runs") or rows[0].get("seeds") or 1) > 1:
        for k in ("seed_low", "seed_high"):
            ax.plot(x, [r[k] for r in rows], color=colour, lw=0.4, alpha=0.7)


def _plain(ax: "Axes", part: Table, value: str, colour: str, style: str, width: float, depth: Depths) -> None:
    rows = sorted((r for r in part if r[value] is not None), key=lambda r: r["layer"])
    if rows:
        ax.plot(_x(rows, depth), [r[value] for r in rows], color=colour, ls=style, lw=width, **alone(rows))


def _mean_null(ax: "Axes", part: Table, depth: Depths) -> None:
    layers: dict[int, list[float]] = {}
    for row in part:
        if row["null"] is not None:
            layers.setdefault(row["layer"], []).append(row["null"])
    rows = [{"layer": k, "value": float(np.mean(v))} for k, v in sorted(layers.items())]
    if rows and depth is None:
        ax.plot(_x(rows, depth), [r["value"] for r in rows], color="0.45", ls=":", lw=0.9)


def _finish(ax: "Axes", curve: str, part: Table, depth: Depths) -> None:
    """Labels; a logarithmic axis where values span more than two decades; whole numbers for layers."""
    _logarithmic(ax, part, curve)
    if depth is None:
        whole_ticks(ax, 7)
    ax.set_ylabel(axis_label(curve))
    ax.set_xlabel(_depth_label(depth))


def _logarithmic(ax: "Axes", part: Table, curve: str) -> None:
    """A logarithmic axis for sizes that span much; cosines and similarities keep theirs."""
    if "cos" in curve or "cka" in curve:
        return
    values = np.array([r[k] for r in part for k in ("value", "null") if r.get(k) is not None], float)
    if len(values) and values.min() > 0 and values.max() > 30 * values.min():
        ax.set_yscale("log")


def _legend(
    canvas: "Canvas",
    axes: "Sequence[Axes]",
    names: Sequence[str],
    palette: dict[str, str],
    random: bool,
    null: str,
    grey: bool = False,
) -> None:
    from matplotlib.lines import Line2D

    handles: list[Any] = [Line2D([], [], color=palette[n], marker="o", ms=2, label=named(n)) for n in names]
    if random:
        handles.append(Line2D([], [], color="0.3", ls="--", lw=0.9, label="random weights"))
    if null:
        handles.append(Line2D([], [], color="0.45" if grey else "0.3", ls=":", lw=0.9, label=null))
    legend_below(canvas, columns=4, handles=handles)
