"""Curves through depth: a line per run over the sites of a store, with intervals, nulls and references."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from transect.errors import TransectError
from transect.models import sites
from transect.results.drawing import (
    NULLS,
    alone,
    band,
    colours,
    label,
    legend_below,
    named,
    panels,
    scale_alike,
    whole_ticks,
)
from transect.results.study import Figure, Study
from transect.results.table import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas


def draw_depth(study: Study, figure: Figure) -> "Canvas":
    """Curves over sites with intervals and the null; a panel per measure or normalisation, and per family of
    sites."""
    o = figure.options
    table = study.tables[figure.table].where(measure=o["measures"], **o.get("where", {}))
    by = o.get("panels", "measure")
    names = [
        n for n in (o["measures"] if by == "measure" else table.values(by)) if len(table.where(**{by: n}))
    ]
    if not names:
        raise TransectError(f"figure {figure.name}: nothing to draw.")
    several_families = len(_families(table)) > 1
    shown_panels = [(n, kind) for n in names for kind in _families(table.where(**{by: n}))]
    parts = [
        table.where(**{by: n}).where(lambda row, kind=kind: _family(row) == kind) for n, kind in shown_panels
    ]
    canvas, axes = panels(len(parts), columns=2 if len(parts) in (2, 4) else 3)
    palette = colours(o["runs"])
    for ax, (name, kind), part in zip(axes, shown_panels, parts, strict=True):
        for run in o["runs"]:
            _curve(ax, part.where(**{o.get("series", "run"): run}), run, palette[run], o)
        shown = name if by == "measure" else o["measures"][0]
        beside = "excess over the null" if o.get("value") == "corrected" else o.get("reference", "")
        words = label(str(shown)) if not o.get("reference") else label(str(shown)).partition(" (")[0]
        words = o.get("labels", {}).get(shown, words)
        ax.set_ylabel(_wrapped(words) + (f"\n{beside}" if beside else ""))
        ax.set_title(_title(by, name, kind if several_families else ""))
        if o.get("value") == "corrected":
            ax.axhline(0, color="0.6", lw=0.6)
        if shown in o.get("lines", {}):
            height, word = o["lines"][shown]
            ax.axhline(height, color="0.4", lw=0.7, ls="--", label=word)
        several = _several_depths(table)
        if not several:
            whole_ticks(ax)
        plain = o.get("xlabel") or ("layer l → l + 1" if _paired(part) else "layer")
        ax.set_xlabel("depth (fraction of blocks)" if several else plain)
    _scale(axes, shown_panels, parts, o)
    if o.get("changes"):
        _mark_changes(study, axes, shown_panels, palette, o)
    legend_below(canvas, axes, 4)
    return canvas


def _title(by: str, name: Any, kind: str) -> str:
    """What tells a panel from the others, by lines; measures stand at their axes."""
    raw = {"raw": "raw points", "unit": "unit-norm points"}
    first = "" if by == "measure" else raw.get(name, str(name)) if by == "normalise" else f"{by} {name}"
    return "\n".join(line for line in (first, kind) if line)


def _scale(
    axes: "Sequence[Axes]", shown: Sequence[tuple[Any, str]], parts: Sequence[Table], o: dict[str, Any]
) -> None:
    """Value axes: of one kind where panels show one quantity, each by itself where they do not."""
    by, log = o.get("panels", "measure"), o.get("log", False)
    values = [part.column(o.get("value", "value")) for part in parts]
    if by != "measure":
        scale_alike(axes, values, same=by == "skip", log=log)
        return
    for ax, (name, _), column in zip(axes, shown, values, strict=True):
        scale_alike([ax], [column], log=log or name in o.get("logs", ()))


def draw_columns(study: Study, figure: Figure) -> "Canvas":
    """Several columns of the rows of one measure over sites, a panel each, a line per run."""
    o = figure.options
    table = study.tables[figure.table].where(**o["where"])
    names = [c for c in o["columns"] if c in table.columns and np.isfinite(table.column(c)).any()]
    if not names:
        raise TransectError(f"figure {figure.name}: nothing to draw.")
    canvas, axes = panels(len(names))
    palette = colours(o["runs"])
    for ax, name in zip(axes, names, strict=True):
        for run in o["runs"]:
            part = table.where(run=run)
            if len(part):
                x, order = np.array(_layers(part)), np.argsort(_layers(part))
                _line(ax, x[order], part.column(name)[order], run, palette[run], o)
        ax.set_ylabel(_wrapped(o["columns"][name]))
        ax.set_xlabel("layer l → l + 1" if _paired(table) else "layer")
        whole_ticks(ax)
        scale_alike([ax], [table.column(name)])
    legend_below(canvas, axes, 4)
    return canvas


def _wrapped(text: str, width: int = 26) -> str:
    """A label on as many lines as a small panel needs."""
    return "\n".join(textwrap.wrap(text, width))


def _family(row: Mapping[str, Any]) -> str:
    """The family of sites that a row is of; where it pairs two, both."""
    several = [sites.family(row[k]) for k in ("site", "site2") if row.get(k)]
    return " → ".join(dict.fromkeys(several))


def _families(table: Table) -> list[str]:
    return list(dict.fromkeys(_family(row) for row in table))


def _paired(part: Table) -> bool:
    return any(part.values("site2")) and part.values("site2") != part.values("site")


def _several_depths(table: Table) -> bool:
    return len({max(_layers(table.where(run=run)), default=0) for run in table.values("run")}) > 1


def _layers(part: Table) -> list[int]:
    return [sites.layer(s) or 0 for s in part.column("site")]


def _line(ax: "Axes", x: np.ndarray, y: np.ndarray, run: str, colour: str, o: dict[str, Any]) -> None:
    """The line of one run: dashed, and named so, where it is a control."""
    control = run in o.get("controls", ())
    name = named(f"{run} (control)" if control else run)
    ax.plot(x, y, color=colour, marker="o", ms=2, ls="--" if control else "-", label=name)


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
    _line(ax, x, y, run, colour, o)
    band(ax, x, low, high, colour, 0.2)
    null = part.column("null")[order]
    if value == "value" and o.get("null", True) and np.isfinite(null).any():
        below, above = (part.column(n)[order] for n in ("null_low", "null_high"))
        if np.isfinite(below).any():
            band(ax, x, below, above, "0.5", 0.25)
        shown = part.values("control")[0]
        words = named(f"{run}: {NULLS.get(shown, shown)}")
        ax.plot(x, null, color=colour, lw=0.8, ls=":", label=words, **alone(x))
    flagged = part.where(lambda row: row["status"] != "ok")
    if len(flagged):
        ax.plot(_layers(flagged), flagged.column(value), "x", color="k", ms=4, label="flagged")


def _mark_changes(
    study: Study,
    axes: "Sequence[Axes]",
    shown: Sequence[tuple[Any, str]],
    palette: dict[str, str],
    o: dict[str, Any],
) -> None:
    for ax, (name, kind) in zip(axes, shown, strict=True):
        jumps = study.tables["changes"].where(normalise=str(name), kind="jump", status="ok")
        jumps = jumps.where(lambda row, kind=kind: kind.startswith(sites.family(row["site"])))
        last, height = -9, 1.0
        for row in sorted(jumps, key=lambda r: sites.order(r["site"])):
            if row["run"] in palette and row["run"] not in o.get("controls", ()):
                at = sites.layer(row["site"]) or 0
                height = height - 0.07 if at - last < 4 else 1.0  # words of near neighbours go lower
                last = at
                ax.axvline(at, color=palette[row["run"]], ls=":", lw=0.9)
                ax.annotate(
                    f"{row['support']:.0%}" if row["support"] is not None else "",
                    (at, height),
                    xycoords=("data", "axes fraction"),
                    fontsize=6,
                    ha="left",
                    va="top",
                    xytext=(2, 0),
                    textcoords="offset points",
                )
