"""Figures of shapes ranked and of what a move along them does."""

from typing import TYPE_CHECKING, Any

from transect.models import sites
from transect.results.drawing import legend_below, named
from transect.results.study import Figure, Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas
from transect.studies.manifold.figures import SIGN, _bars


def draw_manifold_ranking(study: Study, figure: Figure) -> "Canvas":
    """Shapes ranked by corrected score with intervals; those not computed are listed with their reason."""
    import matplotlib.pyplot as plt

    o = figure.options
    part = study.tables[figure.table].where(run=o["run"])
    rows = [r for r in part if r["status"] == "ok"]
    failed = [r for r in part if r["status"] != "ok"]
    canvas, ax = plt.subplots(figsize=(5.5, 0.24 * (len(rows) + len(failed)) + 1.1), layout="constrained")
    y = list(range(len(rows)))
    values = [r["corrected"] for r in rows]
    ax.errorbar(
        values,
        y,
        xerr=_bars(rows, "corrected"),
        fmt="o",
        color=SIGN[0],
        ms=4,
        elinewidth=1,
        label=named(o["run"]),
    )
    if any(r.get("random") is not None for r in rows):
        known = [(r["random"], k) for k, r in enumerate(rows) if r.get("random") is not None]
        ax.plot(*zip(*known, strict=True), "x", color=SIGN[1], ms=4, label="random weights")
    for k, r in enumerate(failed, len(rows)):
        why = r["status"].removeprefix(f"shape {r['shape']}: ")
        reason = why if len(why) < 90 else why[:87] + "…"
        ax.text(0.01, k, reason, fontsize=6, va="center", color="0.35")
    ax.axvline(0, color="0.5", lw=0.6)
    ax.set_yticks(range(len(rows) + len(failed)), [_named(r) for r in [*rows, *failed]])
    ax.set_ylim(len(rows) + len(failed) - 0.4, -0.6)
    ax.set_xlim(right=1.02)
    ax.set_xlabel(
        f"corrected score at {rows[0]['site']}, {rows[0]['token'].removeprefix('landmark:')} (0: permuted "
        "labels)"
    )
    legend_below(canvas, columns=2)
    return canvas


def _named(row: dict[str, Any]) -> str:
    """A shape's name, with the dimensions its labels fill where they are fewer than the fit's."""
    name, rank = row["shape"].replace("_", " "), row.get("target_rank")
    return name if rank is None or rank == row["dimension"] else f"{name} ({rank}-D)"


def draw_manifold_intervention(study: Study, figure: Figure) -> "Canvas":
    """Change of the next-token distribution after a move along the manifold, beside moves of equal size
    elsewhere."""
    import matplotlib.pyplot as plt

    o = figure.options
    part = study.tables[figure.table].where(run=o["run"])
    measures = [m for m in ("kl", "label_shift") if len(part.where(measure=m, status="ok"))]
    canvas, axes = plt.subplots(
        1, len(measures), figsize=(3.3 * len(measures), 2.5), squeeze=False, layout="constrained"
    )
    names = sorted(part.values("site"), key=sites.order)
    for ax, measure in zip(axes[0], measures, strict=True):
        rows = {r["site"]: r for r in part.where(measure=measure, status="ok")}
        x = [k for k, s in enumerate(names) if s in rows]
        shown = [rows[names[k]] for k in x]
        ax.errorbar(
            x,
            [r["value"] for r in shown],
            yerr=_bars(shown, "value"),
            fmt="o-",
            color=SIGN[0],
            label="along the manifold",
        )
        ax.plot(x, [r["null"] for r in shown], "x--", color=SIGN[1], ms=4, label="random subspace, same size")
        ax.plot(x, [r["covariance"] for r in shown], ":", color="0.35", label="points' covariance, same size")
        ax.fill_between(
            x, *[[r[b] for r in shown] for b in ("null_low", "null_high")], color=SIGN[1], alpha=0.2, lw=0
        )
        ax.set_xticks(range(len(names)), [str(sites.layer(s)) for s in names])
        ax.set_xlabel(f"layer ({sites.family(names[0])}) moved at {o['token'].removeprefix('landmark:')}")
        words = {"kl": "KL of next token (nats)", "label_shift": "log-odds shift, new label over old"}
        ax.set_ylabel(words[measure])
        ax.set_ylim(bottom=min(0, ax.get_ylim()[0]))
    legend_below(canvas, [axes[0, 0]])
    return canvas
