"""Figures: Table → matplotlib, fit to print. Nothing is computed here; every control that a table holds is
drawn.

A kind is a function `draw_KIND(study, figure)` returning a matplotlib Figure; `draw_all` writes PDF, SVG and
PNG.
"""

import importlib
import importlib.metadata
import io
import math
import pkgutil
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from transect.errors import TransectError
from transect.files import write_bytes
from transect.models import sites
from transect.results.study import Figure, Study
from transect.results.table import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

WIDTH = {"single": 3.25, "wide": 5.5, "full": 6.75}
STYLE: Any = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "legend.fontsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.1,
    "lines.markersize": 3,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "transect",
    "figure.dpi": 150,
    "savefig.dpi": 300,
    "image.cmap": "viridis",
}
#: petroff10: distinguishable by colour-blind readers.
COLOURS = (
    "#3f90da",
    "#ffa90e",
    "#bd1f01",
    "#94a4a2",
    "#832db6",
    "#a96b59",
    "#e76300",
    "#b9ac70",
    "#717581",
    "#92dadd",
)


def label(measure: str) -> str:
    """Axis label of a measure, with its unit, as its declaration says; the bare name of what is no
    measure."""
    from transect.measures.registry import registry

    m = registry().get(measure)
    if m is None:
        return measure.replace("_", " ")
    return f"{m.label} ({m.unit})" if m.unit and m.unit not in ("share", "clusters") else m.label


def colours(runs: Sequence[str]) -> dict[str, str]:
    """The same colour for the same run in every figure of a study."""
    return {run: COLOURS[k % len(COLOURS)] for k, run in enumerate(runs)}


def draw(study: Study, figure: Figure) -> "Canvas":
    """Draw one figure of a study; the caller closes it."""
    import matplotlib

    kinds = _kinds()
    if figure.kind not in kinds:
        raise TransectError(f"no figure of kind {figure.kind!r}.", f"Kinds: {', '.join(sorted(kinds))}.")
    with matplotlib.rc_context(STYLE):
        return kinds[figure.kind](study, figure)


def _kinds() -> dict[str, Callable[[Study, Figure], Any]]:
    """Kinds drawn here, in the studies' files figures*.py, and by other packages (entry points
    `transect.figures`), by name."""
    studies = importlib.import_module("transect.studies")
    drawn = dict(globals())
    for module in pkgutil.walk_packages(studies.__path__, "transect.studies."):
        if module.name.rsplit(".", 1)[1].startswith("figures"):
            drawn |= vars(importlib.import_module(module.name))
    for entry in importlib.metadata.entry_points(group="transect.figures"):
        drawn |= vars(entry.load())
    return {k[5:]: f for k, f in drawn.items() if k.startswith("draw_")}


def save_all(study: Study, out: str | Path, formats: Sequence[str] = ("pdf", "svg", "png")) -> list[Path]:
    """Write every figure of a study to OUT/figures; returns the files."""
    folder = Path(out) / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for figure in study.figures:
        for kind, content in render(study, figure, formats).items():
            files.append(folder / f"{figure.name}.{kind}")
            write_bytes(files[-1], content)
    return files


def render(study: Study, figure: Figure, formats: Sequence[str]) -> dict[str, bytes]:
    """One figure in several formats, the same bytes each time: laid out and measured once, which costs as
    much as a file."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    canvas, files = draw(study, figure), {}
    with matplotlib.rc_context(STYLE):
        canvas.set_dpi(STYLE["savefig.dpi"])  # hinting widens letters at lower ones
        canvas.draw_without_rendering()
        canvas.set_layout_engine(None)  # laid out; a place holder would ask for one more drawing a file
        box = canvas.get_tightbbox().padded(matplotlib.rcParams["savefig.pad_inches"])
        for kind in formats:
            metadata = {"Date": None} if kind == "svg" else {"CreationDate": None} if kind == "pdf" else None
            sink = io.BytesIO()
            canvas.savefig(sink, format=kind, bbox_inches=box, metadata=metadata)
            files[kind] = sink.getvalue()
    plt.close(canvas)
    return files


def panels(
    count: int, columns: int = 3, width: str = "full", height: float = 1.75
) -> "tuple[Canvas, list[Axes]]":
    """A grid of axes, unused ones removed."""
    import matplotlib.pyplot as plt

    columns = min(columns, count)
    rows = math.ceil(count / columns)
    size = (WIDTH["wide" if count == 1 else width], height * rows + (0.9 if count == 1 else 0.35))
    canvas, grid = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    flat = list(grid.ravel())
    for ax in flat[count:]:
        ax.remove()
    return canvas, flat[:count]


# curves through depth


def draw_depth(study: Study, figure: Figure) -> "Canvas":
    """Curves over sites with intervals and the null; one panel per measure or per normalisation."""
    o = figure.options
    table = study.tables[figure.table].where(measure=o["measures"], **o.get("where", {}))
    by = o.get("panels", "measure")
    names = [
        n for n in (o["measures"] if by == "measure" else table.values(by)) if len(table.where(**{by: n}))
    ]
    if not names:
        raise TransectError(f"figure {figure.name}: nothing to draw.")
    canvas, axes = panels(len(names), columns=2 if len(names) in (2, 4) else 3)
    palette = colours(o["runs"])
    for ax, name in zip(axes, names, strict=True):
        part = table.where(**{by: name})
        for run in o["runs"]:
            _curve(ax, part.where(**{o.get("series", "run"): run}), run, palette[run], o)
        shown = name if by == "measure" else o["measures"][0]
        ax.set_ylabel(
            _wrapped(label(str(shown))) + ("\nexcess over the null" if o.get("value") == "corrected" else "")
        )
        if by == "normalise":
            ax.set_title({"raw": "raw points", "unit": "unit-norm points"}.get(name, str(name)))
        elif by != "measure":
            ax.set_title(f"{by} {name}")
        if o.get("value") == "corrected":
            ax.axhline(0, color="0.6", lw=0.6)
        _scale(ax, part.column(o.get("value", "value")))
        several = _several_depths(table)
        plain = o.get("xlabel") or ("layer l → l + 1" if _paired(part) else "layer")
        ax.set_xlabel("depth (fraction of blocks)" if several else plain)
    if o.get("changes"):
        _mark_changes(study, axes, [str(n) for n in names], palette, o)
    found: dict[str, Any] = {}
    for ax in axes:
        found |= dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    canvas.legend(found.values(), found.keys(), loc="outside lower center", ncols=4, frameon=False)
    return canvas


def _wrapped(text: str, width: int = 26) -> str:
    """A label on as many lines as a small panel needs."""
    return "\n".join(textwrap.wrap(text, width))


def _scale(ax: "Axes", values: np.ndarray) -> None:
    """A logarithmic axis, symmetric where values go below zero, when they span more than two decades."""
    seen = np.abs(values[np.isfinite(values) & (values != 0)])
    if len(seen) and seen.max() > 100 * np.median(seen):
        if (values[np.isfinite(values)] > 0).all():
            ax.set_yscale("log")
        else:
            ax.set_yscale("symlog", linthresh=float(np.median(seen)))
    elif len(seen) and seen.max() >= 1e4:
        ax.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))


def _paired(part: Table) -> bool:
    return any(part.values("site2")) and part.values("site2") != part.values("site")


def _several_depths(table: Table) -> bool:
    return len({max(_layers(table.where(run=run)), default=0) for run in table.values("run")}) > 1


def _layers(part: Table) -> list[int]:
    return [sites.layer(s) or 0 for s in part.column("site")]


def _curve(ax: "Axes", part: Table, run: str, colour: str, o: dict[str, Any]) -> None:
    """One run: value with its interval, and its null as a band or a dotted line."""
    part = part.where(lambda row: row["value"] is not None)
    if not len(part):
        return
    value = o.get("value", "value")
    x = np.array(_layers(part), float)
    order = np.argsort(x)
    if _several_depths(part):
        x = x / x.max()
    y = part.column(value)[order]
    low, high = (
        part.column({"value": name, "corrected": f"corrected_{name}"}[value])[order]
        for name in ("low", "high")
    )
    x = x[order]
    control = run in o.get("controls", ())
    ax.plot(
        x,
        y,
        color=colour,
        marker="o",
        ms=2,
        ls="--" if control else "-",
        label=f"{run} (control)" if control else run,
    )
    ax.fill_between(x, low, high, color=colour, alpha=0.2, lw=0)
    null = part.column("null")[order]
    if value == "value" and o.get("null", True) and np.isfinite(null).any():
        below, above = (part.column(n)[order] for n in ("null_low", "null_high"))
        if np.isfinite(below).any():
            ax.fill_between(x, below, above, color="0.5", alpha=0.25, lw=0)
        name = {
            "split halves": "split-half null",
            "shuffled columns": "columns permuted (reference)",
            "permuted texts": "texts permuted",
        }
        shown = part.values("control")[0]
        ax.plot(x, null, color=colour, lw=0.8, ls=":", label=f"{run}: {name.get(shown, shown)}")
    flagged = part.where(lambda row: row["status"] != "ok")
    if len(flagged):
        ax.plot(_layers(flagged), flagged.column(value), "x", color="k", ms=4, label="flagged")


def _mark_changes(
    study: Study, axes: "Sequence[Axes]", names: list[str], palette: dict[str, str], o: dict[str, Any]
) -> None:
    for ax, name in zip(axes, names, strict=True):
        for row in study.tables["changes"].where(normalise=name, kind="jump", status="ok"):
            if row["run"] in palette and row["run"] not in o.get("controls", ()):
                ax.axvline(sites.layer(row["site"]) or 0, color=palette[row["run"]], ls=":", lw=0.9)
                ax.annotate(
                    f"{row['support']:.0%}" if row["support"] is not None else "",
                    (sites.layer(row["site"]), 1),
                    xycoords=("data", "axes fraction"),
                    fontsize=6,
                    ha="left",
                    va="top",
                    xytext=(2, 0),
                    textcoords="offset points",
                )


def hatch(ax: "Axes", cells: Sequence[tuple[int, int]]) -> None:
    """Cells without a number look like nothing else: grey, hatched."""
    from matplotlib.patches import Rectangle

    for x, y in dict.fromkeys(cells):
        ax.add_patch(
            Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor="0.9", edgecolor="0.6", hatch="////", lw=0)
        )
