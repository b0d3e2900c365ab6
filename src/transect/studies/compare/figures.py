"""Figures of comparisons and of adapters: drift curves of several runs, layer × run heatmaps, matrices,
spectra of ΔW.

Like every figure they only draw what stands in a table.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from transect.models import sites
from transect.results.drawing import colours, label, panels
from transect.results.study import Figure, Study
from transect.results.table import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

DASHES = ((3, 1.5), (1, 1), (5, 1, 1, 1), (2, 2))


def drift_label(measure: str) -> str:
    """Axis label of a measure turned into a drift."""
    from transect.measures.registry import find

    return f"1 − {label(measure)}" if find(measure).itself == 1 else label(measure)


def draw_compare_curves(study: Study, figure: Figure) -> "Canvas":
    """Drift over layers, a panel per measure: series in colour with their bands and second seeds, other
    controls in grey."""
    o = figure.options
    table = study.tables[figure.table].where(token=o["token"], normalise=o["normalise"])
    names = [m for m in o["measures"] if len(table.where(measure=m))]
    canvas, axes = panels(len(names), columns=2 if len(names) in (2, 4) else 3, height=1.9)
    palette = colours(o["series"])
    for ax, name in zip(axes, names, strict=True):
        part = table.where(measure=name)
        for series in o["series"]:
            _curve(ax, part.where(series=series, role="run"), series, palette[series], (None, None))
        for series in o["series"]:
            second = part.where(series=series, role="second seed")
            _curve(ax, second, f"{series}: second seed", palette[series], DASHES[0])
        for k, series in enumerate(o["controls"]):
            _curve(ax, part.where(series=series), series, "0.45", DASHES[(k + 1) % len(DASHES)])
        _scale(ax, part.column("value"), "y")
        ax.set_ylabel(drift_label(name))
        ax.set_xlabel("layer")
    _legend(canvas, axes)
    return canvas


def _curve(ax: "Axes", part: Table, name: str, colour: str, dashes: Any) -> None:
    rows = sorted((r for r in part if r["value"] is not None), key=lambda r: sites.order(r["site"]))
    if not rows:
        return
    x = [sites.layer(r["site"]) or 0 for r in rows]
    y, low, high = (
        np.array([np.nan if r[c] is None else r[c] for r in rows], float) for c in ("value", "low", "high")
    )
    ax.plot(x, y, color=colour, label=name, dashes=dashes)
    ax.fill_between(x, low, high, color=colour, alpha=0.2, lw=0)
    if max(r["runs"] for r in rows) > 1:
        for column in ("seed_low", "seed_high"):
            ax.plot(x, [r[column] for r in rows], color=colour, lw=0.5, alpha=0.7)


def _scale(ax: "Axes", values: np.ndarray, axis: str) -> None:
    """Logarithmic where values span more than a factor of 50; zeros and rounding stay below the axis."""
    known = values[np.isfinite(values) & (values > 1e-9)]
    if len(known) and known.max() > 50 * known.min():
        getattr(ax, f"set_{axis}scale")("log")
        getattr(ax, f"set_{axis}lim")(known.min() / 2, known.max() * 2)


def _legend(canvas: "Canvas", axes: "Sequence[Axes]") -> None:
    found: dict[str, Any] = {}
    for ax in axes:
        for handle, name in zip(*ax.get_legend_handles_labels(), strict=True):
            found.setdefault(name, handle)
    if found:
        canvas.legend(list(found.values()), list(found), loc="outside lower center", ncols=3, frameon=False)


def draw_compare_heat(study: Study, figure: Figure) -> "Canvas":
    """Layers across, series down, colour the drift on a logarithmic scale; cells without a positive drift are
    hatched."""
    from matplotlib.colors import LogNorm

    o = figure.options
    table = study.tables[figure.table].where(token=o["token"], normalise=o["normalise"], measure=o["measure"])
    series = [s for s in o["series"] if len(table.where(series=s))]
    names = sorted(table.values("site"), key=sites.order)
    matrix = np.full((len(series), len(names)), np.nan)
    for row in table:
        if row["series"] in series and row["value"] is not None:
            matrix[series.index(row["series"]), names.index(row["site"])] = row["value"]
    shown = np.where(matrix > 1e-9, matrix, np.nan)
    canvas, (ax,) = panels(1, height=0.5 + 0.22 * len(series))
    known = shown[np.isfinite(shown)]
    norm = LogNorm(known.min(), max(known.max(), known.min() * 1.01)) if len(known) else None
    image = ax.imshow(shown, aspect="auto", interpolation="nearest", norm=norm)
    _hatched(ax, np.argwhere(~np.isfinite(shown)))
    ax.set_yticks(range(len(series)), series)
    step = max(1, len(names) // 10)
    ax.set_xticks(range(0, len(names), step), [str(sites.layer(s)) for s in names[::step]])
    ax.set_xlabel("layer (hatched: identical to the base, below 1e-9, or not computed)")
    ax.spines[:].set_visible(False)
    canvas.colorbar(image, ax=ax, label=drift_label(o["measure"]))
    return canvas


def _hatched(ax: "Axes", cells: np.ndarray) -> None:
    from matplotlib.patches import Rectangle

    for i, j in cells:
        box = Rectangle((j - 0.5, i - 0.5), 1, 1, facecolor="0.9", edgecolor="0.6", hatch="////", lw=0)
        ax.add_patch(box)


def draw_compare_matrices(study: Study, figure: Figure) -> "Canvas":
    """A layer × layer panel for each pair of models; differences diverge about 0."""
    o = figure.options
    table = study.tables[figure.table]
    canvas, axes = panels(len(o["panels"]), columns=4, height=1.55)
    shifts = [abs(r["value"]) for r in table if r["kind"] == "difference" and r["value"] is not None]
    top = max([1e-12, *shifts])
    for ax, name in zip(axes, o["panels"], strict=True):
        part = table.where(panel=name)
        names = sorted({*part.values("site"), *part.values("site2")}, key=sites.order)
        at = {s: k for k, s in enumerate(names)}
        matrix = np.full((len(names), len(names)), np.nan)
        for row in part:
            if row["value"] is not None:
                matrix[at[row["site2"]], at[row["site"]]] = row["value"]
                if row.get("run") == row.get("run2"):
                    matrix[at[row["site"]], at[row["site2"]]] = row["value"]
        kind = part.values("kind")[0]
        delta = kind == "difference"
        how = (
            {"cmap": "RdBu_r", "vmin": -top, "vmax": top}
            if delta
            else {"vmin": min(0.0, float(np.nanmin(matrix))), "vmax": 1}
        )
        image = ax.imshow(matrix, origin="lower", interpolation="nearest", **how)
        _hatched(ax, np.argwhere(~np.isfinite(matrix)))
        ax.set_title(name.replace(" − base", "\n− base × base"), fontsize=7)
        base, other = (
            ("layer", "layer")
            if kind == "itself"
            else ("base", part.values("run2")[0] if kind == "cross" else part.values("run")[0])
        )
        ax.set_xlabel(f"layer ({base})" if base != "layer" else "layer", fontsize=6)
        ax.set_ylabel(f"layer ({other})" if other != "layer" else "layer", fontsize=6)
        canvas.colorbar(image, ax=ax, shrink=0.62)
    return canvas


def draw_compare_points(study: Study, figure: Figure) -> "Canvas":
    """Mean drift of every run against its step or score, with the interval by text; crosses: did not
    learn."""
    o = figure.options
    table = study.tables[figure.table].where(token=o["token"], normalise=o["normalise"], role="run")
    names = [m for m in o["measures"] if len(table.where(measure=m))]
    canvas, axes = panels(len(names), height=2.1)
    kinds = list(dict.fromkeys(f"{r['method']} {r['task']}".strip() for r in table))
    palette = colours(kinds)
    for ax, name in zip(axes, names, strict=True):
        for kind in kinds:
            rows = [r for r in table.where(measure=name) if f"{r['method']} {r['task']}".strip() == kind]
            rows = [r for r in rows if r[o["x"]] is not None and r["value"] is not None]
            for seed in dict.fromkeys(r["seed"] for r in rows):
                own = sorted((r for r in rows if r["seed"] == seed), key=lambda r: r[o["x"]])
                _points(ax, own, o, palette[kind], kind)
        ax.set_ylabel(f"mean over layers: {drift_label(name)}", fontsize=7)
        ax.set_xlabel(o["xlabel"])
        ax.set_ylim(bottom=0)
    handles, labels = axes[0].get_legend_handles_labels()
    found = dict(zip(labels, handles, strict=True))
    if found:
        canvas.legend(list(found.values()), list(found), loc="outside lower center", ncols=4, frameon=False)
    return canvas


def _points(ax: "Axes", rows: list[dict[str, Any]], o: dict[str, Any], colour: str, name: str) -> None:
    if not rows:
        return
    x, y = [r[o["x"]] for r in rows], np.array([r["value"] for r in rows], float)
    low, high = (np.array([math.nan if r[c] is None else r[c] for r in rows], float) for c in ("low", "high"))
    error = np.nan_to_num(np.maximum(np.stack([y - low, high - y]), 0))
    style = "-" if o["lines"] else ""
    ax.errorbar(x, y, error, color=colour, marker="o", ls=style, lw=0.9, label=name)
    failed = [k for k, r in enumerate(rows) if r["learned"] is False]
    if failed:
        ax.plot([x[k] for k in failed], y[failed], "x", color="k", ms=6, label="did not learn")


def draw_adapter_layers(study: Study, figure: Figure) -> "Canvas":
    """‖ΔW‖ / ‖W‖ of every block, a curve per adapter or fine-tune."""
    table = study.tables[figure.table].where(measure="relative_norm_of_layer")
    canvas, (ax,) = panels(1, height=2.0)
    palette = colours(table.values("run"))
    for run in table.values("run"):
        rows = sorted(table.where(run=run), key=lambda r: r["layer"])
        ax.plot(
            [r["layer"] for r in rows], [r["value"] for r in rows], color=palette[run], marker="o", label=run
        )
    ax.set_xlabel("block")
    ax.set_ylabel("‖ΔW‖ / ‖W‖ (Frobenius)")
    ax.set_ylim(bottom=0)
    ax.legend(frameon=False)
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
            for layer in sorted(set(part.values("layer"))):
                rows = sorted(part.where(layer=layer), key=lambda r: r["index"])
                shade = matplotlib.colormaps["viridis"](layer / last)
                dashes = DASHES[1] if run != runs[0] else (None, None)
                name = run if layer == last // 2 else None  # one entry of the legend, in a middle shade
                ax.plot(
                    [r["index"] for r in rows],
                    [r["value"] for r in rows],
                    color=shade,
                    lw=0.6,
                    dashes=dashes,
                    label=name,
                )
        ax.set_title(kind)
        ax.set_xlabel("index")
        ax.set_ylabel("σᵢ / σ₁")
        ax.set_ylim(0, 1.03)
    shades = matplotlib.cm.ScalarMappable(matplotlib.colors.Normalize(0, last), "viridis")
    canvas.colorbar(shades, ax=axes, label="block", shrink=0.6, pad=0.01)
    _legend(canvas, axes)
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
            rows = sorted(table.where(module=kind, run=run), key=lambda r: r["layer"])
            x = [r["layer"] for r in rows]
            ax.plot(x, [r["value"] for r in rows], color=palette[run], label=run)
            low, high = ([r[c] for r in rows] for c in ("null_low", "null_high"))
            name = f"{run}: random directions"
            ax.fill_between(x, low, high, color=palette[run], alpha=0.25, lw=0, label=name)
        ax.set_title(kind)
        ax.set_xlabel("block")
        ax.set_ylabel(f"share in top {o['top']}")
        ax.set_ylim(bottom=0)
    _legend(canvas, axes)
    return canvas
