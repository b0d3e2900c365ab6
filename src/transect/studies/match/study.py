"""Match: the same neuron in another seed, checkpoint, adapter or model: which are shared, new and lost.

A twin stands out of random rotations of the other run and of permuted texts. The table of pairs holds every
neuron with its best match, so that a reader can step through them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Unpack

import numpy as np

from transect.errors import TransectError
from transect.inference.asks import Ask, answer
from transect.inference.intervals import jackknife
from transect.models import sites as names
from transect.results.study import Study
from transect.results.table import Table
from transect.store.align import ALIGNMENTS, align
from transect.store.store import Store
from transect.studies.match.pairs import Pairing, matched
from transect.studies.match.words import describe
from transect.studies.runs import Run, distinct, open_runs
from transect.work.options import MOST_DRAWS, Option, Work, WorkOptions, group, only

#: The table that --json prints.
HEADLINE = "matches"


class MatchOptions(WorkOptions, total=False):
    """Which neurons are sought where, and what makes a twin."""

    texts: Annotated[Any, Option(None, "Texts to capture models on.")]
    sites: Annotated[str, Option("mlp.act", "Family or single site; several separated by commas.")]
    everywhere: Annotated[
        bool, Option(False, "Seek twins in all of these sites, not only in the one of the same name.")
    ]
    align: Annotated[
        str | None, Option(None, "Other tokenizers: compare by these points.", choices=ALIGNMENTS)
    ]
    excess: Annotated[float, Option(0.5, "A twin correlates by more than this beyond rotations.", 0, below=1)]
    rotations: Annotated[int, Option(3, "Random rotations of the other run.", 1, MOST_DRAWS)]
    permutations: Annotated[int, Option(19, "Permutations of whole texts.", 19, MOST_DRAWS)]
    groups: Annotated[int, Option(10, "Groups of texts behind the intervals.", least=2)]
    position0: Annotated[bool, Option(False, "Keep the first token of every text.")]
    seed: Annotated[int, Option(0, "Seed of every random choice.", least=0)]


def match(store: Run, other: Run, **options: Unpack[MatchOptions]) -> Study:
    """The same neuron in another run: best correlation of each, beside rotations and permuted texts.

    Args:
        store: A store of neurons, or a model that is captured on `texts`.
        other: The run in which they are sought: another seed, checkpoint, adapter or model on the same texts.

    Returns: a study with the tables matches (shared, lost and new by site) and pairs (a row a neuron).

    Raises: TransectError for runs of other texts or tokens without `align`, and for sites that one lacks.
    """
    only(options, MatchOptions)
    how, work = group(options, MatchOptions), Work.of(options)
    asked = names.asked(how.sites)
    run_options = {"seed": how.seed, "sites": asked, "progress": work.progress}
    stores = open_runs([store, other], how.texts, work.out, **run_options)
    distinct(stores)
    stores = _same_points(stores, asked, how, work)
    selected = [names.select(s.sites, asked) for s in stores]
    pairs = (
        [(tuple(selected[0]), tuple(selected[1]))] if how.everywhere else [((s,), (s,)) for s in selected[0]]
    )
    if (lost := sorted(set(selected[0]) - set(selected[1]))) and not how.everywhere:
        raise TransectError(f"{stores[1].path} has no {lost[0]}.", "Name --sites, or seek --everywhere.")
    one, two = stores
    where = (str(one.path), str(two.path)), (one.content, two.content)
    rest = (how.excess, how.rotations, how.permutations, how.groups, how.position0, how.seed)
    tasks = tuple(Pairing(*where, *pair, *rest) for pair in pairs)
    answers = answer({"match": Ask(matched, tasks, list, key=Pairing.key)}, work, "match")["match"]
    study = Study("match", "Which neurons are the same in both runs?", {})
    matched_tasks = list(zip(tasks, answers, strict=True))
    study.tables["matches"] = Table([row for one in matched_tasks for row in _matches(stores, *one, how)])
    study.tables["pairs"] = Table([row for one in matched_tasks for row in _pairs(stores, *one)])
    describe(study, stores, how)
    return study.marked().in_units_of(stores)


def _same_points(stores: list[Store], asked: Sequence[str], how: Any, work: Work) -> list[Store]:
    """The stores, cut to common points where that was asked. Raises: TransectError for other points."""
    if how.align:
        if work.out is None:
            raise TransectError("align writes stores of its own.", "Give out=FOLDER.")
        return align(stores, Path(work.out) / "aligned", how.align, asked)
    one, two = stores
    if one.ids != two.ids or not one.same_tokens(two) or not np.array_equal(one.start, two.start):
        raise TransectError(
            f"{one.path} and {two.path} hold other texts or tokens.",
            "Capture both from the same texts; with two tokenizers compare by --align prefix or word.",
        )
    return stores


def _matches(
    stores: Sequence[Store], task: Pairing, matching: dict[str, Any], how: Any
) -> list[dict[str, Any]]:
    """Rows by site: share of the first run's neurons with a twin and without (lost), of the second's without
    (new), mean best |ρ|, and the mean |ρ| of the one-to-one or soft matching."""
    base = {k: matching[k] for k in ("n", "n_texts", "tokens_a_text")} | {"status": "ok", "seed": how.seed}
    base |= {"position0": "kept" if how.position0 else "dropped", "control": "permuted texts"}
    rows: list[dict[str, Any]] = []
    for side, sites, runs in (("left", task.sites, stores), ("right", task.sites2, stores[::-1])):
        for site, counts in zip(sites, matching[side]["sites"], strict=True):
            row = base | {"run": runs[0].name, "run2": runs[1].name, "site": site, "draws": how.permutations}
            row |= {"neurons": counts["neurons"]}
            if not counts["neurons"]:
                rows.append(row | {"measure": "shared", "status": "undefined: no neuron changes"})
                continue
            for name in ("shared", "lost" if side == "left" else "new"):
                turned = name != "shared"
                value, drops, null = (
                    abs(turned - np.asarray(counts[k])) for k in ("twins", "twins_drops", "twins_permuted")
                )
                count = round(float(value) * counts["neurons"])
                rows.append(row | _number(name, float(value), drops, null, "logit") | {"count": count})
            options = _number(
                "best_match", counts["best"], counts["best_drops"], counts["best_permuted"], "fisher"
            )
            rows.append(row | options | {"rotated": counts["best_turned"]})
    if one := matching["one_to_one"]:
        row = base | {"run": stores[0].name, "run2": stores[1].name, "site": task.sites[0]}
        row |= {"neurons": len(matching["left"]["at"]), "draws": len(one["permuted"])}
        rows.append(row | _number("one_to_one", one["value"], one["drops"], one["permuted"], "fisher"))
    return rows


def _number(measure: str, value: float, drops: Any, null: Any, scale: str) -> dict[str, Any]:
    low, high = jackknife(value, drops, scale=scale)
    draws = np.asarray(null, float)
    ends = np.quantile(draws, [0.025, 0.975]).tolist()
    number = {"measure": measure, "value": value, "low": low, "high": high, "null": float(draws.mean())}
    return number | {"null_low": ends[0], "null_high": ends[1], "corrected": value - float(draws.mean())}


def _pairs(stores: Sequence[Store], task: Pairing, other_unit: dict[str, Any]) -> list[dict[str, Any]]:
    """A row a neuron, of both runs: its best match in the other, how sure that is, its one-to-one partner."""
    rows: list[dict[str, Any]] = []
    where = [_places(s, n) for s, n in zip(stores, (task.sites, task.sites2), strict=True)]
    partner = (other_unit["one_to_one"] or {}).get("partner")
    back = {p: k for k, p in enumerate(partner) if p >= 0} if partner else {}
    for side in (0, 1):
        mine, other = (other_unit[("left", "right")[k]] for k in (side, 1 - side))
        run, run2 = stores[side].name, stores[1 - side].name
        for k, (site, neuron) in enumerate(where[side]):
            row: dict[str, Any] = {"measure": "twin", "run": run, "run2": run2, "site": site}
            row |= {"neuron": neuron, "status": "ok" if mine["alive"][k] else "undefined: constant"}
            if mine["alive"][k]:
                at = mine["at"][k]
                site2, twin = where[1 - side][at]
                row |= {"site2": site2, "twin": twin, "rho": mine["rho"][k], "value": abs(mine["rho"][k])}
                row |= {
                    "null": mine["null"][k],
                    "null_high": mine["bound"][k],
                    "excess": abs(mine["rho"][k]) - mine["null"][k],
                }
                row |= {"support": mine["support"][k], "mutual": other["at"][at] == k}
                row["shared"] = mine["twin"][k]
            if partner:
                opposite = partner[k] if side == 0 else back.get(k, -1)
                row["one_to_one"] = opposite if opposite >= 0 else None
            rows.append(row)
    return rows


def _places(store: Store, sites: Sequence[str]) -> list[tuple[str, int]]:
    return [(site, i) for site in sites for i in range(store.width(site))]
