"""Figures of the manifold study: the map with landmarks and null, lines along the text, subspaces, points,
shapes.

Kinds are found by `figures.draw`, as those of `figures.py` are. Nothing is computed here.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from transect.models import sites
from transect.results.study import Figure, Study
from transect.results.table import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

FULL = 6.75
SIGN = ("#0072B2", "#D55E00")
WORDS = {
    "value": "score",
    "corrected": "corrected score",
    "random": "random weights, corrected",
    "added": "added by training",
}


def _grid(part: Table, value: str) -> tuple[list[str], list[dict[str, Any]], np.ndarray]:
    """(sites, one row a column in order, values [site, column]) of a map."""
    rows = list(part)
    names = sorted({r["site"] for r in rows}, key=sites.order)
    heads = list({r["column"]: r for r in sorted(rows, key=lambda r: r["column"])}.values())
    at, to = {s: k for k, s in enumerate(names)}, {r["column"]: k for k, r in enumerate(heads)}
    grid = np.full((len(names), len(heads)), np.nan)
    for r in rows:
        if r["status"] == "ok" and r.get(value) is not None:
            grid[at[r["site"]], to[r["column"]]] = r[value]
    return names, heads, grid


def _tokens(ax: "Axes", heads: list[dict[str, Any]], axis: str = "x") -> None:
    """Tokens as tick labels; landmarks in bold, a slot by its name."""
    texts = [
        f"‹{r['landmark']}›" if r["piece"] == "…" and r.get("landmark") else _clean(r["piece"]) for r in heads
    ]
    ticks = range(len(heads))
    (ax.set_xticks if axis == "x" else ax.set_yticks)(list(ticks), texts, fontsize=6)
    marks = ax.get_xticklabels() if axis == "x" else ax.get_yticklabels()
    for tick, row in zip(marks, heads, strict=True):
        tick.set_rotation(90 if axis == "x" else 0)
        tick.set_fontweight("bold" if row.get("landmark") else "normal")


def _clean(piece: str) -> str:
    return "".join(c for c in piece.strip() if c.isprintable()) or "␣"


def _layers(ax: "Axes", names: list[str]) -> None:
    step = max(1, len(names) // 8)
    ticks = list(range(0, len(names), step))
    ax.set_yticks(ticks, [str(sites.layer(names[k])) for k in ticks])
    ax.set_ylabel(f"layer ({sites.family(names[0])})")


def _marks(ax: "Axes", heads: list[dict[str, Any]], o: dict[str, Any]) -> None:
    """Source (solid) and destination (dashed) as frames around their columns; one word where they are one."""
    if o.get("source") == o.get("destination"):
        o = {"source and destination": o.get("source")}
    for key, style in (("source", "-"), ("destination", "--"), ("source and destination", "-")):
        if key not in o:
            continue
        at = next((k for k, r in enumerate(heads) if r["token"] == o.get(key)), None)
        if at is not None:
            ax.axvline(at - 0.5, color="k", lw=0.8, ls=style)
            ax.axvline(at + 0.5, color="k", lw=0.8, ls=style)
            ax.annotate(
                key,
                (at, 1.01),
                xycoords=("data", "axes fraction"),
                fontsize=6,
                ha="center",
                va="bottom",
                color="k",
            )


def draw_manifold_map(study: Study, figure: Figure) -> "Canvas":
    """Site × token heatmaps: the score with its null as a strip below, what is beyond it, and what training
    added."""
    import matplotlib.pyplot as plt

    from transect.results.drawing import MARKS, hatch, title_above

    o = figure.options
    part = study.tables[figure.table].where(run=o["run"], shape=o["shape"], kind=o["kind"])
    shown = o["panels"]
    canvas, axes = plt.subplots(
        len(shown),
        1,
        figsize=(FULL, 1.75 * len(shown) + 0.7),
        squeeze=False,
        sharex=True,
        layout="constrained",
    )
    for ax, value in zip(axes[:, 0], shown, strict=True):
        names, heads, grid = _grid(part, value)
        kwargs: dict[str, Any] = {"cmap": "viridis", "vmin": 0, "vmax": 1}
        if value != "value":
            kwargs["vmin"] = 0 if value != "added" else -1
        if value == "added":
            kwargs["cmap"] = "RdBu_r"
        image = ax.imshow(grid, origin="lower", aspect="auto", interpolation="nearest", **kwargs)
        hatch(ax, [(int(j), int(i)) for i, j in np.argwhere(~np.isfinite(grid))])
        if value in TESTS:
            _dots(ax, part, names, heads, TESTS[value])
        _layers(ax, names)
        _marks(ax, heads, o)
        bar = canvas.colorbar(image, ax=ax, label=WORDS[value], pad=0.01, aspect=12)
        if value == "value":
            low, high = np.nanmin(part.column("null")), np.nanmax(part.column("null"))
            bar.ax.axhspan(low, high, color="w", alpha=0.55, lw=0)
            bar.ax.axhline((low + high) / 2, color="k", lw=0.8)
            bar.ax.text(-0.35, (low + high) / 2, "null", fontsize=6, ha="right", va="center")
        ax.spines[:].set_visible(False)
    _tokens(axes[-1, 0], heads)
    title_above(canvas, f"{figure.title} — {o['run']} ({MARKS['above']})")
    return canvas


#: What a panel shows → the p over the whole map that its dots mean.
TESTS = {"corrected": "p_max", "added": "added_p_max"}


def _dots(ax: "Axes", part: Table, names: list[str], heads: list[dict[str, Any]], test: str) -> None:
    """A filled dot in every cell whose p over the whole map is at most 0.05."""
    at, to = {s: k for k, s in enumerate(names)}, {r["column"]: k for k, r in enumerate(heads)}
    spots = [
        (to[r["column"]], at[r["site"]])
        for r in part
        if r["status"] == "ok" and (1 if r.get(test) is None else r[test]) <= 0.05
    ]
    if spots:
        ax.plot(*zip(*spots, strict=True), "o", color="w", mec="k", mew=0.3, ms=1.8)


def draw_manifold_lines(study: Study, figure: Figure) -> "Canvas":
    """Corrected score along the text at three depths, with intervals, the null band and the random-weight
    map."""
    import matplotlib.pyplot as plt

    from transect.results.drawing import COLOURS, legend_below

    o = figure.options
    part = study.tables[figure.table].where(run=o["run"], shape=o["shape"], kind="free")
    canvas, ax = plt.subplots(figsize=(FULL, 2.9), layout="constrained")
    for k, site in enumerate(o["sites"]):
        rows = sorted(part.where(site=site, status="ok"), key=lambda r: r["column"])
        x = [r["column"] for r in rows]
        colour = COLOURS[k]
        ax.errorbar(
            x,
            [r["corrected"] for r in rows],
            yerr=_bars(rows, "corrected"),
            color=colour,
            marker="o",
            ms=2.5,
            elinewidth=0.6,
            label=site,
        )
        if any(r.get("random") is not None for r in rows):
            ax.plot(x, [r["random"] for r in rows], color=colour, dashes=(3, 1.5), lw=0.9)
        low, high = ([(r[b] - r["null"]) / (1 - r["null"]) for r in rows] for b in ("null_low", "null_high"))
        ax.fill_between(x, low, high, color="0.6", alpha=0.25, lw=0)
    heads = _grid(part, "value")[1]
    ax.axhline(0, color="0.5", lw=0.6)
    ax.plot([], [], color="0.3", dashes=(3, 1.5), lw=0.9, label="random weights")
    ax.fill_between([], [], color="0.6", alpha=0.25, label="null, 5–95 %")
    places = {r["column"]: r for r in heads}
    ax.set_xlim(min(places) - 0.5, max(places) + 0.5)
    _marks(ax, [places[k] for k in sorted(places)], o)
    _tokens(ax, heads)
    ax.set_ylabel("corrected score")
    ax.set_xlabel("token")
    legend_below(canvas, columns=5)
    return canvas


def _bars(rows: list[dict[str, Any]], key: str) -> list[list[float]]:
    """Distances to the ends of the interval; 0 where there is none."""
    ends = ("low", "high") if key == "value" else (f"{key}_low", f"{key}_high")
    return [[abs(r[key] - r[end]) if r[end] is not None else 0.0 for r in rows] for end in ends]


def draw_manifold_similarity(study: Study, figure: Figure) -> "Canvas":
    """Token × token matrices at three depths: |cosine| of W above the diagonal, overlap of subspaces below
    it."""
    import matplotlib.pyplot as plt
    from matplotlib.patches import Rectangle

    from transect.results.drawing import hatch

    o = figure.options
    part = study.tables[figure.table].where(run=o["run"])
    names = sorted(part.values("site"), key=sites.order)
    heads = list({r["column"]: r for r in part if r["column"] == r["column2"]}.values())
    canvas, axes = plt.subplots(
        1, len(names), figsize=(FULL, 3.1), squeeze=False, sharey=True, layout="constrained"
    )
    for ax, site in zip(axes[0], names, strict=True):
        grid, mark = np.full((len(heads), len(heads)), np.nan), None
        for r in part.where(site=site, status="ok"):
            i, j = r["column"], r["column2"]
            if i != j:
                grid[i, j], grid[j, i] = r["value"], r["overlap"]
            if {r["token"], r["token2"]} == {o.get("source"), o.get("destination")}:
                mark = r
        image = ax.imshow(grid, cmap="viridis", vmin=0, vmax=1, interpolation="nearest")
        hatch(ax, [(int(j), int(i)) for i, j in np.argwhere(~np.isfinite(grid))])
        title = f"{site}"
        if mark:
            for x, y in ((mark["column2"], mark["column"]), (mark["column"], mark["column2"])):
                ax.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, edgecolor=SIGN[1], lw=1.4))
            title += f"\n|cos| {mark['value']:.2f} ({mark['null']:.2f}), "
            title += f"overlap {mark['overlap']:.2f} ({mark['overlap_null']:.2f})"
        ax.set_title(title, fontsize=7)
        _tokens(ax, heads)
        _smaller(ax)
    _tokens(axes[0, 0], heads, "y")
    _smaller(axes[0, 0])
    canvas.colorbar(image, ax=axes, label="above: |cos| of W · below: overlap", shrink=0.75, pad=0.01)
    return canvas


def _smaller(ax: "Axes") -> None:
    for tick in [*ax.get_xticklabels(), *ax.get_yticklabels()]:
        tick.set_fontsize(4)


def draw_manifold_scatter(study: Study, figure: Figure) -> "Canvas":
    """Held-out points in the fitted subspace, coloured by label, each beside the ideal places of the same
    labels."""
    import matplotlib.pyplot as plt

    o = figure.options
    part = study.tables[figure.table].where(run=o["run"])
    cells = list(dict.fromkeys((r["site"], r["token"]) for r in part))
    solid = "z3" in part.columns and any(r["z3"] is not None for r in part)
    kwargs: Any = {"subplot_kw": {"projection": "3d"}} if solid else {}
    canvas, axes = plt.subplots(
        1,
        1 + len(cells),
        figsize=(2.25 * (1 + len(cells)), 2.5),
        squeeze=False,
        layout="constrained",
        **kwargs,
    )
    wide = ("1", "2", "3") if solid else ("1", "2") if "z2" in part.columns else ("1",)
    for k, ax in enumerate(axes[0]):
        rows = list(part.where(site=cells[max(0, k - 1)][0], token=cells[max(0, k - 1)][1]))
        key = "ideal" if k == 0 else "z"
        xyz = [[r[f"{key}{a}"] for r in rows] for a in wide]
        xyz += [[0.0] * len(rows)] * (2 - len(wide)) if len(wide) < 2 else []
        colour = _numbers([r["label_value"] for r in rows])
        cyclic = o["shape"] in ("circle", "discrete_circle", "closed_chain", "torus", "klein_bottle")
        points = ax.scatter(
            *xyz, c=colour, cmap="twilight_shifted" if cyclic else "viridis", s=7, linewidths=0
        )
        if not solid:
            ax.set_aspect("equal", adjustable="datalim")
        token = cells[max(0, k - 1)][1].removeprefix("landmark:")
        title = (
            f"ideal {o['shape']}" if k == 0 else f"{rows[0]['site']}, {token}: score {rows[0]['value']:.2f}"
        )
        ax.set_title(title)
        ax.set_xlabel("target axis 1" if k == 0 else "fitted axis 1")
        if len(wide) > 1:
            ax.set_ylabel("axis 2")
    canvas.colorbar(points, ax=axes, label=rows[0]["label"], shrink=0.8, pad=0.02)
    return canvas


def _numbers(values: list[Any]) -> np.ndarray:
    """Numbers as they are, words by their rank."""
    array = np.asarray(values)
    return array if array.dtype.kind in "fiu" else np.unique(array, return_inverse=True)[1]
