"""Figures of comparisons and of adapters: drift curves of several runs, layer × run heatmaps, matrices,
spectra of ΔW.

Like every figure they only draw what stands in a table.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from transect.models import sites
from transect.results.drawing import (
    GREY,
    colours,
    hatch,
    label,
    legend_below,
    named,
    panels,
    whole_ticks,
    wrapped,
)
from transect.results.study import Figure, Study
from transect.results.table import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

#: Drifts at or below this are rounding.
NOISE = 1e-9
DASHES = ((3, 1.5), (1, 1), (5, 1, 1, 1), (2, 2))


def drift_label(measure: str) -> str:
    """Axis label of a measure turned into a drift."""
    from transect.measures.registry import find

    less = "1\N{NO-BREAK SPACE}−\N{NO-BREAK SPACE}" if find(measure).itself == 1 else ""
    return f"{less}{label(measure)}"


def draw_compare_curves(study: Study, figure: Figure) -> "Canvas":
    """Drift over layers, a panel per measure: series in colour with their bands and second seeds, other
    controls in grey."""
    o = figure.options
    table = study.tables[figure.table].where(token=o["token"], normalise=o["normalise"])
    names = [m for m in o["measures"] if len(table.where(measure=m))]
    canvas, axes = panels(len(names), columns=2 if len(names) in (2, 4) else 3, height=1.9)
    palette = colours(o["series"])
    parts = [table.where(measure=name) for name in names]
    floors = _floors([part.column("value") for part in parts])
    for ax, name, part, floor in zip(axes, names, parts, floors, strict=True):
        for series in o["series"]:
            _curve(ax, part.where(series=series, role="run"), series, palette[series], (None, None), floor)
        for series in o["series"]:
            second = part.where(series=series, role="second seed")
            _curve(ax, second, f"{series}: second seed", palette[series], DASHES[0], floor)
        for k, series in enumerate(o["controls"]):
            _curve(ax, part.where(series=series), series, GREY, DASHES[(k + 1) % len(DASHES)], floor)
        _log_axis(ax, floor, part.column("value"))
        ax.set_ylabel(wrapped(drift_label(name)))
        ax.set_xlabel("layer")
        whole_ticks(ax)
    legend_below(canvas, axes)
    return canvas


def _curve(ax: "Axes", part: Table, name: str, colour: str, dashes: Any, floor: float | None) -> None:
    rows = sorted((r for r in part if r["value"] is not None), key=lambda r: sites.order(r["site"]))
    if not rows:
        return
    x = [sites.layer(r["site"]) or 0 for r in rows]
    y, low, high = (
        np.array([np.nan if r[c] is None else r[c] for r in rows], float) for c in ("value", "low", "high")
    )
    if floor is not None:
        y, low, high = (np.where(np.isfinite(v), np.maximum(v, floor), v) for v in (y, low, high))
    ax.plot(x, y, color=colour, label=named(name), dashes=dashes, marker="." if len(x) == 1 else None)
    ax.fill_between(x, low, high, color=colour, alpha=0.2, lw=0)
    if max(r["runs"] for r in rows) > 1:
        for column in ("seed_low", "seed_high"):
            ends = np.array([np.nan if r[column] is None else r[column] for r in rows], float)
            ax.plot(x, ends if floor is None else np.maximum(ends, floor), color=colour, lw=0.8, alpha=0.7)


def _floors(columns: Sequence[np.ndarray]) -> list[float | None]:
    """Where the logarithmic axis of each panel ends, or None for a straight one: all panels are alike, and
    logarithmic where any spans more than a factor of 50 or goes down to the numeric noise."""
    known = [c[np.isfinite(c) & (c > NOISE)] for c in columns]
    low = [np.isfinite(c).any() and (c[np.isfinite(c)] <= NOISE).any() for c in columns]
    wide = any(len(k) and k.max() > 50 * k.min() for k in known) or any(low)
    return [
        float(k.min()) / (5 if sunk else 2) if wide and len(k) else None
        for k, sunk in zip(known, low, strict=True)
    ]


def _log_axis(ax: "Axes", floor: float | None, values: np.ndarray) -> None:
    """A logarithmic axis down to the floor, which is drawn where values lie on it."""
    if floor is None:
        return
    ax.set_yscale("log")
    ax.set_ylim(floor / 1.3, np.nanmax(values) * 2)
    if (values[np.isfinite(values)] <= NOISE).any():
        ax.axhline(floor, color="0.6", lw=0.6, ls=":", label=f"at or below {NOISE:g}")


def draw_compare_heat(study: Study, figure: Figure) -> "Canvas":
    """Layers across, series down, colour the drift on a logarithmic scale. A circle: identical to the base; a
    dash: below the numeric noise; hatched: not computed."""
    from matplotlib.colors import LogNorm

    o = figure.options
    table = study.tables[figure.table].where(token=o["token"], normalise=o["normalise"], measure=o["measure"])
    series = [s for s in o["series"] if len(table.where(series=s))]
    names = sorted(table.values("site"), key=sites.order)
    matrix = np.full((len(series), len(names)), np.nan)
    for row in table:
        if row["series"] in series and row["value"] is not None:
            matrix[series.index(row["series"]), names.index(row["site"])] = row["value"]
    shown = np.where(matrix > NOISE, matrix, np.nan)
    canvas, (ax,) = panels(1, height=0.5 + 0.22 * len(series))
    known = shown[np.isfinite(shown)]
    norm = LogNorm(known.min(), max(known.max(), known.min() * 1.01)) if len(known) else None
    image = ax.imshow(shown, aspect="auto", interpolation="nearest", norm=norm)
    hatch(ax, [(int(j), int(i)) for i, j in np.argwhere(~np.isfinite(matrix))])
    for mark, cells in (("o", matrix == 0), ("_", (matrix <= NOISE) & (matrix != 0))):
        i, j = np.nonzero(cells)
        ax.plot(j, i, mark, color="0.35", mfc="none", ms=3.5, ls="")
    ax.set_yticks(range(len(series)), [named(s) for s in series])
    step = max(1, len(names) // 10)
    ax.set_xticks(range(0, len(names), step), [str(sites.layer(s)) for s in names[::step]])
    ax.set_xlabel(f"layer (circle: identical to the base; dash: below {NOISE:g}; hatched: not computed)")
    ax.spines[:].set_visible(False)
    canvas.colorbar(image, ax=ax, label=drift_label(o["measure"]))
    return canvas


def draw_compare_matrices(study: Study, figure: Figure) -> "Canvas":
    """A layer × layer panel for each pair of models, one colour bar for values and one for differences, which
    diverge about 0."""
    from transect.measures.registry import find

    o, images = figure.options, {}
    table = study.tables[figure.table]
    canvas, axes = panels(len(o["panels"]), columns=4, height=1.55)
    shifts = [abs(r["value"]) for r in table if r["kind"] == "difference" and r["value"] is not None]
    top = max([1e-12, *shifts])
    values = [r["value"] for r in table if r["kind"] != "difference" and r["value"] is not None]
    least = min([0.0, *values])
    for ax, name in zip(axes, o["panels"], strict=True):
        part = table.where(panel=name)
        kind = part.values("kind")[0]
        matrix, across, up = _layers_by_layers(part, kind)
        delta = kind == "difference"
        how = {"cmap": "RdBu_r", "vmin": -top, "vmax": top} if delta else {"vmin": least, "vmax": 1}
        if kind == "itself" and find(part.values("measure")[0]).itself == 1:
            np.fill_diagonal(matrix, 1.0)
        aspect = "equal" if matrix.shape[0] == matrix.shape[1] else "auto"
        images[delta] = ax.imshow(matrix, origin="lower", interpolation="nearest", aspect=aspect, **how)
        hatch(ax, [(int(j), int(i)) for i, j in np.argwhere(~np.isfinite(matrix))])
        ax.set_title(name.replace(" − base", "\n− base × base"), fontsize=7)
        base, other = (
            ("layer", "layer")
            if kind == "itself"
            else ("base", part.values("run2")[0] if kind == "cross" else part.values("run")[0])
        )
        ax.set_xlabel(f"layer ({base})" if base != "layer" else "layer", fontsize=6)
        ax.set_ylabel(f"layer ({other})" if other != "layer" else "layer", fontsize=6)
        for axis, names in (("x", across), ("y", up)):
            shown = range(0, len(names), -(-len(names) // 5))
            getattr(ax, f"set_{axis}ticks")(shown, [str(sites.layer(names[k])) for k in shown])
    for delta, image in images.items():
        words = "difference of two" if delta else label(table.values("measure")[0])
        canvas.colorbar(image, ax=list(axes), shrink=0.7, pad=0.01, label=words)
    return canvas


def _layers_by_layers(part: Table, kind: str) -> tuple[np.ndarray, list[str], list[str]]:
    """Values [layers of the other, layers of the base], NaN where there is none, and the names of both;
    models of two depths have layers of their own, one model with itself is symmetric."""
    first, other = ({*part.values(column)} for column in ("site", "site2"))
    left = sorted(first if kind == "cross" else first | other, key=sites.order)
    right = sorted(other if kind == "cross" else first | other, key=sites.order)
    matrix = np.full((len(right), len(left)), np.nan)
    for row in part:
        if row["value"] is not None:
            matrix[right.index(row["site2"]), left.index(row["site"])] = row["value"]
            if row.get("run") == row.get("run2"):
                matrix[right.index(row["site"]), left.index(row["site2"])] = row["value"]
    return matrix, left, right


def draw_compare_points(study: Study, figure: Figure) -> "Canvas":
    """Mean drift of every run against its step or score, with the interval by text; crosses: did not
    learn."""
    o = figure.options
    table = study.tables[figure.table].where(token=o["token"], normalise=o["normalise"], role="run")
    names = [m for m in o["measures"] if len(table.where(measure=m))]
    canvas, axes = panels(len(names), height=2.1)
    kinds = list(dict.fromkeys(f"{r['method']} {r['task']}".strip() for r in table))
    palette = colours(kinds)
    floors = _floors([table.where(measure=name).column("value") for name in names])
    for ax, name, floor in zip(axes, names, floors, strict=True):
        for kind in kinds:
            rows = [r for r in table.where(measure=name) if f"{r['method']} {r['task']}".strip() == kind]
            rows = [r for r in rows if r[o["x"]] is not None and r["value"] is not None]
            for seed in dict.fromkeys(r["seed"] for r in rows):
                points = sorted((r for r in rows if r["seed"] == seed), key=lambda r: r[o["x"]])
                _points(ax, points, o, palette[kind], kind)
        ax.set_ylabel(wrapped(f"mean over layers: {drift_label(name)}"), fontsize=7)
        ax.set_xlabel(o["xlabel"])
        if floor is None:
            ax.set_ylim(bottom=0)
        _log_axis(ax, floor, table.where(measure=name).column("value"))
    legend_below(canvas, axes, 4)
    return canvas


def _points(ax: "Axes", rows: list[dict[str, Any]], o: dict[str, Any], colour: str, name: str) -> None:
    if not rows:
        return
    x, y = [r[o["x"]] for r in rows], np.array([r["value"] for r in rows], float)
    low, high = (np.array([math.nan if r[c] is None else r[c] for r in rows], float) for c in ("low", "high"))
    error = np.nan_to_num(np.maximum(np.stack([y - low, high - y]), 0))
    style = "-" if o["lines"] else ""
    ax.errorbar(x, y, error, color=colour, marker="", ls=style, lw=0.9)
    ends = np.array([bool(r.get("final", True)) for r in rows])
    for mask, what, filled in ((ends, "", colour), (~ends, " (checkpoint)", "white")):
        if mask.any():
            spots = np.array(x)[mask], y[mask]
            ax.plot(*spots, "o", color=colour, mfc=filled, ms=4, ls="", label=named(f"{name}{what}"))
    failed = [k for k, r in enumerate(rows) if r["learned"] is False]
    if failed:
        ax.plot([x[k] for k in failed], y[failed], "x", color="k", ms=6, label="not shown to have learned")
