"""Steering in words: what happened on the way, whether outputs lie as states do, and their figure."""

from collections.abc import Mapping
from typing import Any

from transect.inference.asks import Ask, answer
from transect.results.study import Figure, Study, describe_run
from transect.results.table import Table
from transect.results.words import interval
from transect.store.recapture import model_or_refuse
from transect.store.store import Store
from transect.studies.manifold.question import tasks_of
from transect.studies.manifold.steer import GAP, steer
from transect.work.options import Work

#: Shares of the depth at which texts are steered.
DEPTHS = (0.25, 0.5, 0.75)
NAMES = {
    "label_shift": "log-odds of the target's word over the old one's",
    "between_shift": "log-odds of the word halfway over both",
    "kl": "KL of the next token (nats)",
}


def add_steering(study: Study, store: Store, moves: Mapping[str, Any], work: Work) -> Study:
    """Add the table steering, its findings, methods and figure to a manifold study: `at` a token (its
    source), by a `shift` (a quarter of the label's span), read after a `prompt`."""
    model_or_refuse(store, "steering")
    tasks = tasks_of(study, store, DEPTHS, moves)
    job, token = tasks[0].job, tasks[0].token
    ask = Ask(
        steer, tasks, lambda answers: Table([row for rows in answers for row in rows]),
        key=lambda task: task.key(steer.__module__),
    )  # fmt: skip
    table = answer({"steering": ask}, work, "steering")["steering"]
    table.provenance = study.provenance
    study.tables["steering"] = table
    study.warnings += [f"steering at {r['site']}: {r['status']}." for r in table if r["status"] != "ok"]
    done = table.where(status="ok").values("site")
    study.findings += [line for site in done for line in _findings(study, store.name, site)]
    study.methods.append(METHOD)
    if done:
        row = next(iter(table.where(status="ok")))
        caption = (
            f"{row['n']} held-out texts moved by {row['shift']:g} at {token}, {done[len(done) // 2]}, along "
            "the curve through class means of the other texts and straight; dashed and dotted: as far as "
            "along the curve in random directions and in those of the points' covariance. Bars: 95 % over "
            f"{row['n_units']} {'groups' if job.group else 'label values'}. Last panel: rank correlation of "
            f"distances between outputs with those between states, band: permuted classes. "
            f"{describe_run(store)}."
        )
        options = {"run": store.name, "site": done[len(done) // 2]}
        title = "Along the manifold, and straight"
        study.figures.append(Figure("steering", "manifold_steering", "steering", title, caption, options))
    return study


def _findings(study: Study, run: str, site: str) -> list[str]:
    table = study.tables["steering"].where(run=run, site=site)

    def at(measure: str, path: str, fraction: float | None = 0.5) -> dict[str, Any] | None:
        return next(iter(table.where(measure=measure, path=path, fraction=fraction, status="ok")), None)

    lines = []
    off = {path: at("off_manifold", path) for path in ("manifold", "line", "random", GAP)}
    row, start = next(iter(table)), at("off_manifold", "manifold", 0.0)
    if start and all(off.values()):
        lines.append(
            f"{run}: halfway along a move of {row['shift']:g} at {site}, {row['token']}, states are "
            f"{interval(off['manifold'] or {}, digits=3)} steps from the curve of held-out texts on the "
            f"manifold and {interval(off['line'] or {}, digits=3)} on the straight line (difference "
            f"{interval(off[GAP] or {}, digits=3)}); in random directions "
            f"{(off['random'] or {})['value']:.3g}; class means themselves {start['value']:.3g}."
        )
    for measure, name in NAMES.items():
        curve, line, gap = (at(measure, path) for path in ("manifold", "line", GAP))
        if curve and line and gap:
            lines.append(
                f"{run}: there, {name}: {interval(curve, 'per_step', 3)} a step moved on the manifold, "
                f"{interval(line, 'per_step', 3)} on the line (difference {interval(gap, 'per_step', 3)}); "
                f"{interval(curve, 'corrected', 3)} beyond random directions of the same size."
            )
    along, straight, gap = (at("output_geometry", path, None) for path in ("manifold", "line", GAP))
    if along and straight and gap:
        lines.append(
            f"{run}: at {site} the outputs of {along['n_units']} classes lie as their states do with rank "
            f"correlation {interval(along, digits=3)} along the manifold (p {along['p']:.2g}) and "
            f"{interval(straight, digits=3)} straight (p {straight['p']:.2g}, permuted classes up to "
            f"{straight['null_high']:.2g}); difference {interval(gap, digits=3)}."
        )
    return lines


METHOD = (
    "Steering (Wurgaft et al. 2026, arXiv:2605.05115): a cubic spline through the class means of training "
    "texts (closed where the label comes round; many label values are classed with their neighbours). "
    "Held-out texts are moved by the curve's own change, by the straight line between the same ends, and "
    "in random directions as far as the curve takes them at each part of the way. A step is the mean "
    "distance of neighbouring class means of held-out texts, whose own spline says how far a state is "
    "from the manifold; at the ends of the way that is what sampling makes. Effects are means over units "
    "with t-intervals, also by how far texts are moved (KL grows with the square of it). Outputs: "
    "Hellinger distance between mean next-token laws of held-out texts by class, against lengths of the "
    "curve and straight distances of training texts; intervals leave out a class at a time, classes are "
    "permuted whole."
)
