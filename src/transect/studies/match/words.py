"""The match study in words: findings with their numbers, warnings, methods, captions."""

from collections.abc import Sequence
from typing import Any

from transect.results.study import Figure, Study, describe_run
from transect.results.words import flagged, interval
from transect.store.store import Store

#: Sites whose curves a figure shows.
SHOWN = 3


def describe(study: Study, stores: Sequence[Store], how: Any) -> None:
    """Fill in findings, warnings, methods, provenance and figures."""
    study.findings = [*_findings(study, stores), *_sites(study, stores[0].name)]
    study.warnings = [
        *_cannot(study, how),
        "A twin fires on the same tokens of these texts; that it does the same work in its model is another "
        "question.",
        *flagged(study.tables, skip=("pairs",)),
    ]
    study.methods = _methods(how)
    study.trace(stores, how)
    known = study.tables["matches"].where(status="ok")
    tokens = int(known.column("n")[0]) if len(known) else 0
    origin = (
        f"{'; '.join(describe_run(s) for s in stores)}. {tokens} tokens, equally many a text; position 0 "
    )
    origin += f"{'kept' if how.position0 else 'dropped'}; seed {how.seed}."
    study.figures = _figures(study, stores, how, origin)


def _findings(study: Study, stores: Sequence[Store]) -> list[str]:
    (shared, every, chance), (lost, _, _), (new, others, _) = (
        _counted(study, *names)
        for names in (
            (stores[0].name, "shared"),
            (stores[0].name, "lost"),
            (stores[1].name, "new"),
        )
    )
    one, two = (s.name for s in stores)
    return [
        f"{shared} of {every} neurons of {one} have a twin in {two} (permuted texts: {chance:.1f}); {lost} "
        f"have none. {new} of {others} neurons of {two} have none in {one}."
    ]


def _counted(study: Study, run: str, measure: str) -> tuple[int, int, float]:
    """(neurons counted, of how many, and under permuted texts) over all sites."""
    rows = list(study.tables["matches"].where(run=run, measure=measure, status="ok"))
    chance = sum(r["null"] * r["neurons"] for r in rows)
    return sum(r["count"] for r in rows), sum(r["neurons"] for r in rows), chance


def _sites(study: Study, run: str) -> list[str]:
    """The site with most and with fewest twins."""
    rows = list(study.tables["matches"].where(run=run, measure="shared", status="ok"))
    if len(rows) < 2:
        return [f"{r['site']}: a share of {interval(r, digits=3)} has a twin." for r in rows]
    most, least = (pick(rows, key=lambda r: r["value"]) for pick in (max, min))
    return [
        f"Most twins at {most['site']}, a share of {interval(most, digits=3)}; fewest at {least['site']}, "
        f"{interval(least, digits=3)}."
    ]


def _cannot(study: Study, how: Any) -> list[str]:
    """A warning where even |ρ| = 1 would not stand out of random directions."""
    known = list(study.tables["pairs"].where(status="ok"))
    count = sum(r["null"] >= 1 - how.excess for r in known)
    if not count:
        return []
    return [
        f"{count} of {len(known)} neurons of both runs cannot have a twin here: random directions reach |ρ| "
        f"of {1 - how.excess:g} or more, which no match exceeds by {how.excess:g}. They count as lost or "
        "new; give more texts, or a smaller --excess."
    ]


def _methods(how: Any) -> list[str]:
    where = "in all of these sites" if how.everywhere else "in the site of the same name"
    return [
        f"Every neuron's best match {where}: the largest |Pearson ρ| over the same tokens, equally many of "
        "each text, from sums streamed in one pass. |ρ|, since a gated neuron may turn its sign with its "
        "output weights.",
        "Null of a neuron: its best |ρ| with as many random directions of the other run (a Gaussian matrix "
        f"of neurons in units of their spread; mean of {how.rotations}; Gurnee et al. 2024, "
        f"arXiv:2401.12181). A twin exceeds it by more than {how.excess:g}, and exceeds the neuron's own "
        "best |ρ| in each "
        f"of {how.permutations} permutations of whole texts. How many do so by chance is counted in the same "
        "way in the permuted texts. Lost and new: neurons of the first and second run without a twin. "
        "Neurons that never change are not counted.",
        "Intervals leave out groups of texts; support is the share of those in which the same neuron is the "
        "best match. One-to-one: the matching of largest mean |ρ|; soft matching where the numbers of "
        "neurons differ (Khosla & Williams 2024, arXiv:2311.09466); its interval keeps the matching.",
    ]


def _figures(study: Study, stores: Sequence[Store], how: Any, origin: str) -> list[Figure]:
    matches, runs = study.tables["matches"].where(measure="shared", status="ok"), [s.name for s in stores]
    sites = matches.where(run=runs[0]).values("site")
    shown = [sites[k] for k in sorted({0, len(sites) // 2, len(sites) - 1})] if sites else []
    figures = [
        Figure(
            "twins",
            "twins",
            "pairs",
            "How alike the most alike neurons are",
            f"{origin} Share of the neurons of {runs[0]} whose best |ρ| with a neuron of {runs[1]} is at "
            "least so large; grey: with random directions; dotted: the largest of each with texts permuted.",
            {"run": runs[0], "sites": shown[:SHOWN]},
        )
    ]
    if len(sites) > 1:
        figures.append(
            Figure(
                "shared",
                "depth",
                "matches",
                "Neurons with a twin",
                f"{origin} Share of a run's neurons with a twin in the other; 95 % by groups of texts; "
                "dotted: texts permuted.",
                {"measures": ["shared"], "runs": runs, "labels": {"shared": "neurons with a twin (share)"}},
            )
        )
    return figures
