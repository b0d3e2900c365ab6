"""Figures of pairs of sites: layer × layer matrices with the null on the diagonal, one measure against
others."""

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from transect.models import sites
from transect.results.drawing import hatch, label, panels, whole_ticks
from transect.results.study import Figure, Study
from transect.results.table import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas


def draw_matrix(study: Study, figure: Figure) -> "Canvas":
    """A layer × layer matrix of one run per normalisation, its null on the diagonal, flagged cells
    hatched."""
    o = figure.options
    table = study.tables[figure.table].where(measure=o["measure"], run=o["run"], **o.get("where", {}))
    kinds = table.values("normalise")
    canvas, axes = panels(len(kinds), columns=2, height=2.9)
    matrices = [_matrix(table.where(normalise=how), o) for how in kinds]
    wide = any(_spans(matrix) for _, matrix, _ in matrices)
    for ax, how, (names, matrix, flagged) in zip(axes, kinds, matrices, strict=True):
        image = ax.imshow(
            matrix,
            origin="lower",
            interpolation="nearest",
            cmap=o.get("cmap", "viridis"),
            norm=_norm(matrix) if wide else None,
        )
        blank = o.get("value") == "corrected" and not o.get("cross")  # the excess of a layer over itself is 0
        holes = [(int(j), int(i)) for i, j in np.argwhere(~np.isfinite(matrix)) if not (blank and i == j)]
        hatch(ax, [*flagged, *holes])
        ticks = list(range(0, len(names), max(1, len(names) // 6)))
        ax.set_xticks(ticks, [str(sites.layer(names[k])) for k in ticks])
        ax.set_yticks(ticks, [str(sites.layer(names[k])) for k in ticks])
        ax.set_xlabel(f"layer ({sites.family(names[0])})")
        ax.set_ylabel(f"layer ({sites.family(names[0])})")
        ax.set_title({"raw": "raw points", "unit": "unit-norm points"}.get(how, str(how)))
        ax.spines[:].set_visible(False)
        if o.get("blocks"):
            _frames(
                ax,
                study.tables["changes"].where(run=o["run"], normalise=how, kind="block", status="ok"),
                names,
            )
        excess = "\nexcess over the null" if o.get("value") == "corrected" else ""
        canvas.colorbar(image, ax=ax, shrink=0.85, label=label(o["measure"]) + excess)
    return canvas


def _frames(ax: Any, changes: Table, names: list[str]) -> None:
    """Blocks as frames along the diagonal."""
    from matplotlib.patches import Rectangle

    edges = [0, *sorted(names.index(row["site2"]) for row in changes), len(names)]
    for a, b in itertools.pairwise(edges):
        if len(edges) > 2:
            ax.add_patch(Rectangle((a - 0.5, a - 0.5), b - a, b - a, fill=False, edgecolor="#D55E00", lw=1.2))


def _matrix(table: Table, o: dict[str, Any]) -> tuple[list[str], np.ndarray, list[tuple[int, int]]]:
    """Site names, values with each site's own null on the diagonal, and the cells that are flagged."""
    names = sorted({*table.column("site"), *table.column("site2")}, key=sites.order)
    at = {s: k for k, s in enumerate(names)}
    matrix, flagged = np.full((len(names), len(names)), np.nan), []
    for row in table:
        i, j = at[row["site"]], at[row["site2"]]
        value = row[o.get("value", "value")]
        matrix[i, j] = np.nan if value is None else value
        if not o.get("cross"):
            matrix[j, i] = matrix[i, j]
            for k, name in ((i, "null_site"), (j, "null_site2")):
                if o.get("value", "value") == "value" and row.get(name) is not None:
                    matrix[k, k] = row[name]
        if row["status"] != "ok":
            flagged += [(j, i)] if o.get("cross") else [(j, i), (i, j)]
    return names, matrix, flagged


def _spans(matrix: np.ndarray) -> bool:
    """Whether sizes span more than two decades, the smallest twentieth left aside."""
    seen = np.abs(matrix[np.isfinite(matrix) & (matrix != 0)])
    return bool(len(seen) and seen.max() > 100 * np.quantile(seen, 0.05))


def _norm(matrix: np.ndarray) -> Any:
    """Logarithmic colours, symmetric about zero where values go below it."""
    from matplotlib.colors import LogNorm, SymLogNorm

    seen = matrix[np.isfinite(matrix)]
    top = float(np.abs(seen).max(initial=0))
    if not top:
        return None
    if seen.min() > 0:
        return LogNorm(vmin=float(seen.min()), vmax=top)
    return SymLogNorm(
        float(np.median(np.abs(seen[seen != 0]))), vmin=float(seen.min()), vmax=float(seen.max())
    )


def _bare(measure: str) -> str:
    """A measure's words without its unit: ranks have none."""
    return label(measure).partition(" (")[0]


def draw_scatter(study: Study, figure: Figure) -> "Canvas":
    """One measure against others, a point per pair of layers, by rank, with the rank correlation."""
    from scipy.stats import rankdata

    o = figure.options
    how = o.get("normalise", "raw")
    every = study.tables[figure.table].where(run=o["run"], normalise=how, status="ok")
    base = {row["site"]: row for row in every.where(measure=o["measure"], design="disjoint")}
    table = every.where(design="paired")
    others = [m for m in o["others"] if len(table.where(measure=m))]
    canvas, axes = panels(len(others), columns=2)
    for ax, other in zip(axes, others, strict=True):
        rows = [r for r in table.where(measure=other) if r["site"] in base]
        x, y = (
            rankdata(v) for v in ([r["value"] for r in rows], [base[r["site"]]["corrected"] for r in rows])
        )
        points = ax.scatter(x, y, c=[sites.layer(r["site"]) or 0 for r in rows], s=9, cmap="viridis")
        for row in study.tables["companions"].where(
            **{"of": o["measure"], "with": other, "run": o["run"]}, normalise=how
        ):
            ax.set_title(f"ρ = {row['value']:.2f}".replace("-", "−"))
        ax.set_xlabel(f"rank: {_bare(other)}")
        ax.set_ylabel(f"rank: {_bare(o['measure'])}\nbeyond its null")
        for axis in "xy":
            whole_ticks(ax, axis=axis)
    bar = canvas.colorbar(points, ax=axes, label="layer", shrink=0.8)
    whole_ticks(bar.ax, axis="y")
    return canvas
