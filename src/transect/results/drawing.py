"""Figures: Table → matplotlib, fit to print. Nothing is computed here; every control that a table holds is
drawn.

A kind is a function `draw_KIND(study, figure)` returning a matplotlib Figure; `draw_all` writes PDF, SVG and
PNG.
"""

import functools
import importlib
import importlib.metadata
import io
import math
import pkgutil
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transect.errors import TransectError
from transect.files import write_bytes
from transect.results.study import Figure, Study

if TYPE_CHECKING:
    import numpy as np
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
    "text.parse_math": False,
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
#: A control that stands beside runs of its own colours.
GREY = "#737373"
#: What a mark means, in print and on the screen.
MARKS = {
    "above": "filled dot: p ≤ 0.05 over the map, above the null or above random weights",
    "jump": "dotted: a jump, with its support",
    "flagged": "cross: flagged",
    "hatched": "hatched: not computed",
    "control": "dashed: control",
}
#: How a null is called, by the control of its rows.
NULLS = {
    "split halves": "split-half null",
    "shuffled columns": "columns permuted (reference)",
    "permuted texts": "texts permuted",
}


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


def palette(figures: Sequence[Figure], runs: Sequence[str]) -> dict[str, str]:
    """Colour of every name that a study draws: as its figures list them first, then its other runs."""
    assigned: dict[str, str] = {}
    for options in (f.options for f in figures):
        names = options.get("runs") or options.get("series") or []
        beside = options.get("controls") or []
        if all(isinstance(n, str) for part in (names, beside) for n in part):
            for name, colour in (colours(names) | {n: GREY for n in beside if n not in names}).items():
                assigned.setdefault(name, colour)
    left = [c for c in COLOURS if c not in assigned.values()] or list(COLOURS)
    others = [run for run in dict.fromkeys(runs) if run not in assigned]
    return assigned | {run: left[k % len(left)] for k, run in enumerate(others)}


def named(name: str) -> str:
    """A name for a legend, which would leave out one that begins with an underscore."""
    return f"\u200b{name}" if name.startswith("_") else name


def draw(study: Study, figure: Figure) -> "Canvas":
    """Draw one figure of a study; the caller closes it."""
    import matplotlib

    kinds = _kinds()
    if figure.kind not in kinds:
        raise TransectError(f"no figure of kind {figure.kind!r}.", f"Kinds: {', '.join(sorted(kinds))}.")
    from transect.results.letters import family, plain

    with matplotlib.rc_context(STYLE | {"font.family": list(family())}):
        return plain(kinds[figure.kind](study, figure))


@functools.cache
def _kinds() -> dict[str, Callable[[Study, Figure], Any]]:
    """Kinds drawn in curves.py, in the studies' files figures*.py, and by other packages (entry points
    `transect.figures`), by name."""
    studies = importlib.import_module("transect.studies")
    drawn = dict(vars(importlib.import_module("transect.results.curves")))
    for module in pkgutil.walk_packages(studies.__path__, "transect.studies."):
        if module.name.rsplit(".", 1)[1].startswith("figures"):
            drawn |= vars(importlib.import_module(module.name))
    for entry in importlib.metadata.entry_points(group="transect.figures"):
        drawn |= vars(entry.load())
    return {k[5:]: f for k, f in drawn.items() if k.startswith("draw_")}


def save_all(study: Study, out: str | Path, formats: Sequence[str] = ("pdf", "svg", "png")) -> list[Path]:
    """Write every figure of a study to OUT/figures; returns the files.

    Raises: what drawing a figure raises, once all others are written.
    """
    folder = Path(out) / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []
    failed: list[Exception] = []
    for figure in study.figures:
        try:
            for kind, content in render(study, figure, formats).items():
                files.append(folder / f"{figure.name}.{kind}")
                write_bytes(files[-1], content)
        except (OSError, TransectError, MemoryError):  # of the disk and of files, not of one figure
            raise
        except Exception as error:
            error.add_note(f"figure {figure.name}; every other figure of {out} is drawn")
            failed.append(error)
    if failed:
        raise failed[0]
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
        if box.width > canvas.get_figwidth():  # what is printed at this width is no wider
            inside = canvas.get_tightbbox()
            box.x0, box.x1 = min(0.0, inside.x0), max(canvas.get_figwidth(), inside.x1)
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


def legend_below(
    canvas: "Canvas",
    axes: "Sequence[Axes] | None" = None,
    columns: int = 3,
    handles: Sequence[Any] | None = None,
    title: str | None = None,
) -> None:
    """One legend under the figure, of `handles` or of the panels (all unless given), each name once; in fewer
    columns where it would be wider than the figure."""
    from transect.results.letters import legible

    names: dict[str, Any] = {handle.get_label(): handle for handle in handles or ()}
    for ax in [] if handles else canvas.axes if axes is None else axes:
        for handle, name in zip(*ax.get_legend_handles_labels(), strict=True):
            names.setdefault(name, handle)
    for count in range(columns if names else 0, 0, -1):
        legend = canvas.legend(
            list(names.values()), [legible(name) for name in names], loc="outside lower center",
            ncols=count, frameon=False, title=title,
        )  # fmt: skip
        if count == 1 or legend.get_window_extent(_renderer(canvas)).width <= canvas.bbox.width:
            return
        legend.remove()


def title_above(canvas: "Canvas", text: str) -> None:
    """One title over all panels, in more lines where it would be wider than the figure."""
    from transect.results.letters import legible

    title = canvas.suptitle(legible(text), fontsize=8)
    share = title.get_window_extent(_renderer(canvas)).width / canvas.bbox.width
    if share > 1:
        title.set_text("\n".join(textwrap.wrap(title.get_text(), math.floor(len(text) / share))))


def _renderer(canvas: "Canvas") -> Any:
    return canvas.canvas.get_renderer()  # type: ignore[attr-defined]


def wrapped(text: str, width: int = 26) -> str:
    """A label on as many lines as a small panel needs."""
    return "\n".join(textwrap.wrap(text, width))


def whole_ticks(ax: "Axes", most: int = 6, axis: str = "x") -> None:
    """Ticks at whole numbers: there is no layer 2.5, and no half of a vector."""
    from matplotlib.ticker import MaxNLocator

    locator = MaxNLocator(integer=True, nbins=most, min_n_ticks=1)
    getattr(ax, f"{axis}axis").set_major_locator(locator)


def alone(x: "Sequence[Any] | np.ndarray") -> dict[str, Any]:
    """A mark for a line of one point, which would not be seen."""
    return {"marker": "_", "ms": 7} if len(x) == 1 else {}


def band(
    ax: "Axes", x: "np.ndarray", low: "np.ndarray", high: "np.ndarray", colour: str, alpha: float
) -> None:
    """An interval through depth; of one point a bar."""
    if len(x) == 1:
        ax.vlines(x, low, high, color=colour, alpha=2 * alpha, lw=3)
    else:
        ax.fill_between(x, low, high, color=colour, alpha=alpha, lw=0)


def blank(name: str, why: str) -> "Canvas":
    """A figure that has nothing to draw, which says why in the place of its panels."""
    canvas, (ax,) = panels(1)
    ax.set_axis_off()
    ax.text(0.5, 0.5, wrapped(f"{name}: no number to draw ({why}).", 60), ha="center", va="center")
    return canvas


def hatch(ax: "Axes", cells: Sequence[tuple[int, int]]) -> None:
    """Cells without a number look like nothing else: grey, hatched."""
    from matplotlib.patches import Rectangle

    for x, y in dict.fromkeys(cells):
        ax.add_patch(
            Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor="0.9", edgecolor="0.6", hatch="////", lw=0)
        )
