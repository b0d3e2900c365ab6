"""Curves through depth: a line per run over the sites of a store, with intervals, nulls and references."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from transect.models import sites
from transect.results.drawing import (
    NULLS,
    alone,
    band,
    blank,
    colours,
    label,
    legend_below,
    named,
    panels,
    whole_ticks,
    wrapped,
)
from transect.results.scales import scale_alike
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
    by, value = o.get("panels", "measure"), o.get("value", "value")
    shown, parts = _panels(table, o)
    if not shown:
        return blank(figure.name, _why(table))
    several = len({kind for _, kind in shown}) > 1
    canvas, axes = panels(len(parts), columns=2 if len(parts) in (2, 4) else 3)
    palette, depths = colours(o["runs"]), _depths(table, o.get("series", "run"))
    for ax, (name, kind), part in zip(axes, shown, parts, strict=True):
        for run in o["runs"]:
            _curve(ax, part.where(**{o.get("series", "run"): run}), run, palette[run], depths.get(run, 1), o)
        measure = name if by == "measure" else o["measures"][0]
        beside = "excess over the null" if value == "corrected" else o.get("reference", "")
        words = label(str(measure)) if not o.get("reference") else label(str(measure)).partition(" (")[0]
        words = o.get("labels", {}).get(measure, words)
        ax.set_ylabel(wrapped(words) + (f"\n{beside}" if beside else ""))
        ax.set_title(_title(by, name, kind if several else ""))
        if value == "corrected":
            ax.axhline(0, color="0.6", lw=0.6)
        if measure in o.get("lines", {}):
            height, word = o["lines"][measure]
            ax.axhline(height, color="0.4", lw=0.7, ls="--", label=word)
        if set(depths.values()) <= {1}:
            whole_ticks(ax)
            ax.set_xlabel(o.get("xlabel") or _of_layers(part))
        else:
            ax.set_xlabel("depth (fraction of blocks)")
    _scale(axes, [name for name, _ in shown], parts, o)
    if o.get("changes"):
        _mark_changes(study, axes, shown, palette, depths, o)
    legend_below(canvas, axes, 4)
    return canvas


def _panels(table: Table, o: dict[str, Any]) -> tuple[list[tuple[Any, str]], list[Table]]:
    """(name and family of sites, rows) of every panel that has a number."""
    by, shown, parts = o.get("panels", "measure"), [], []
    for name in o["measures"] if by == "measure" else table.values(by):
        here = table.where(**{by: name})
        for kind in dict.fromkeys(_family(row) for row in here):
            part = here.where(lambda row, kind=kind: _family(row) == kind)
            if np.isfinite(part.column(o.get("value", "value"))).any():
                shown.append((name, kind))
                parts.append(part)
    return shown, parts


def _title(by: str, name: Any, kind: str) -> str:
    """What tells a panel from the others, by lines; measures stand at their axes."""
    raw = {"raw": "raw points", "unit": "unit-norm points"}
    first = "" if by == "measure" else raw.get(name, str(name)) if by == "normalise" else f"{by} {name}"
    return "\n".join(line for line in (first, kind) if line)


def _scale(axes: "Sequence[Axes]", names: Sequence[Any], parts: Sequence[Table], o: dict[str, Any]) -> None:
    """Value axes: of one kind where panels show one quantity, each by itself where they do not."""
    by, log, value = o.get("panels", "measure"), o.get("log", False), o.get("value", "value")
    values = [part.column(value) for part in parts]
    tops = [part.column({"value": "high", "corrected": "corrected_high"}[value]) for part in parts]
    if by != "measure":
        scale_alike(axes, values, tops=tops, same=by == "skip", log=log)
        return
    for ax, name, column, high in zip(axes, names, values, tops, strict=True):
        scale_alike([ax], [column], tops=[high], log=log or name in o.get("logs", ()))


def draw_columns(study: Study, figure: Figure) -> "Canvas":
    """Several columns of the rows of one measure over sites, a panel each, a line per run."""
    o = figure.options
    table = study.tables[figure.table].where(**o["where"])
    names = [c for c in o["columns"] if c in table.columns and np.isfinite(table.column(c)).any()]
    if not names:
        return blank(figure.name, _why(table))
    canvas, axes = panels(len(names))
    palette = colours(o["runs"])
    for ax, name in zip(axes, names, strict=True):
        for run in o["runs"]:
            part = table.where(run=run)
            if len(part):
                x, order = np.array(_layers(part)), np.argsort(_layers(part))
                _line(ax, x[order], part.column(name)[order], run, palette[run], o)
        ax.set_ylabel(wrapped(o["columns"][name]))
        ax.set_xlabel(_of_layers(table))
        whole_ticks(ax)
        scale_alike([ax], [table.column(name)])
    legend_below(canvas, axes, 4)
    return canvas


def _family(row: Mapping[str, Any]) -> str:
    """The family of sites that a row is of; where it pairs two, both."""
    several = [sites.family(row[k]) for k in ("site", "site2") if row.get(k)]
    return " → ".join(dict.fromkeys(several))


def _of_layers(part: Table) -> str:
    """What the axis of layers counts: layers, steps of one, or steps to the next layer that is there."""
    steps = {
        (sites.layer(b) or 0) - (sites.layer(a) or 0)
        for a, b in zip(part.column("site"), part.column("site2"), strict=True)
        if b and b != a
    }
    if not steps:
        return "layer"
    return "layer l → l + 1" if steps == {1} else "layer l → next layer captured"


def _depths(table: Table, series: str) -> dict[str, int]:
    """What the layers of every series are divided by: the number of its last one where runs differ in that,
    else 1."""
    last: dict[str, int] = {}
    for row in table:
        ends = [sites.layer(row[s]) or 0 for s in ("site", "site2") if row.get(s)]
        last[row[series]] = max([last.get(row[series], 1), *ends])
    return last if len(set(last.values())) > 1 else dict.fromkeys(last, 1)


def _why(table: Table) -> str:
    """The reason that rows without a number give."""
    said = [r["status"] for r in table if r["status"] != "ok"]
    return said[0] if said else "no rows"


def _layers(part: Table) -> list[int]:
    return [sites.layer(s) or 0 for s in part.column("site")]


def _line(ax: "Axes", x: np.ndarray, y: np.ndarray, run: str, colour: str, o: dict[str, Any]) -> None:
    """The line of one run: dashed, and named so, where it is a control."""
    control = run in o.get("controls", ())
    name = named(f"{run} (control)" if control else run)
    ax.plot(x, y, color=colour, marker="o", ms=2, ls="--" if control else "-", label=name)


def _curve(ax: "Axes", part: Table, run: str, colour: str, depth: int, o: dict[str, Any]) -> None:
    """One run: value with its interval, and its null as a band or a dotted line; layers over `depth`."""
    part = part.where(lambda row: row["value"] is not None)
    if not len(part):
        return
    value = o.get("value", "value")
    x = np.array(_layers(part), float) / depth
    order = np.argsort(x)
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
        ax.plot(
            np.array(_layers(flagged)) / depth, flagged.column(value), "x", color="k", ms=4, label="flagged"
        )


def _mark_changes(
    study: Study,
    axes: "Sequence[Axes]",
    shown: Sequence[tuple[Any, str]],
    palette: dict[str, str],
    depths: dict[str, int],
    o: dict[str, Any],
) -> None:
    """Jumps as dotted lines with their support; the words of near neighbours go lower."""
    for ax, (name, kind) in zip(axes, shown, strict=True):
        jumps = study.tables["changes"].where(normalise=str(name), kind="jump", status="ok")
        jumps = jumps.where(lambda row, kind=kind: kind.startswith(sites.family(row["site"])))
        last, height = -9.0, 1.0
        for row in sorted(jumps, key=lambda r: sites.order(r["site"])):
            if row["run"] in palette and row["run"] not in o.get("controls", ()):
                at = (sites.layer(row["site"]) or 0) / depths.get(row["run"], 1)
                height = height - 0.07 if at - last < 4 / depths.get(row["run"], 1) else 1.0
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
