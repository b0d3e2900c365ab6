"""The lens: what a state already says about the next token, layer by layer, and what a direction says.

Each text is judged by a map fitted on other texts. Random weights, shuffled tokens and a constant state are
read out beside.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Unpack

import numpy as np

from transect.inference.asks import Ask, answer
from transect.inference.intervals import jackknife, ratios
from transect.random import rng
from transect.results.study import Study
from transect.results.table import Table, merge
from transect.store.store import Store
from transect.studies.judging import JudgeOptions, drawn
from transect.studies.lens.directions import directions, read_out
from transect.studies.lens.judge import LENSES, MEASURES, Read, last_site, read, readable
from transect.studies.lens.words import describe
from transect.studies.runs import Run, captured_controls, open_runs
from transect.work.options import MOST_DRAWS, Option, Work, group, only

#: The table that --json prints.
HEADLINE = "lens"
#: Where the interval of each measure is symmetric.
SCALES = {"kl_divergence": "log", "top1_agreement": "logit", "entropy": "log", "next_loss": "log"}


class LensOptions(JudgeOptions, total=False):
    """Which states are read out, and who judges them."""

    sites: Annotated[str, Option("resid", "Sites as wide as the stream: resid, attn.out, mlp.out.")]
    folds: Annotated[int, Option(2, "Parts of the texts, judged in turn by maps of the rest.", least=2)]
    massive: Annotated[
        float, Option(10.0, "Maps leave out tokens above so many median norms; 0 keeps them.", least=0)
    ]
    at: Annotated[str | None, Option(None, "Site of the two stores' means; by default the last.")]
    top: Annotated[int, Option(10, "Words of a direction, of either sign.", 1, 1000)]
    draws: Annotated[int, Option(100, "Random directions beside it.", 2, MOST_DRAWS)]


def lens(
    run: Run,
    *,
    random_weights: bool = False,
    shuffled_tokens: bool = False,
    direction: Sequence[str] = (),
    **options: Unpack[LensOptions],
) -> Study:
    """What each layer already says about the next token: KL to the model's output, agreement, rank, entropy.

    Args:
        run: A store with all tokens of its texts, or a model that is captured on `texts`.
        random_weights: Also a reference: the same architecture with random weights.
        shuffled_tokens: Also a reference: the same words in random order.
        direction: Also a direction in words: a file of vectors, or two stores: second mean − first.

    Returns: a study with the table lens, and directions where there is one.

    Raises: TransectError for a model that cannot be read out, and for stores without tokens or last layer.
    """
    only(options, LensOptions)
    how, work = group(options, LensOptions), Work.of(options)
    stores = open_runs([run], how.texts, work.out, seed=how.seed, progress=work.progress)
    drawn(stores[0], "lens", how.judges, how.seed)
    names = readable(stores[0], how.sites)
    site = how.at or last_site(stores[0])
    vectors = directions(direction, site, stores[0].width(last_site(stores[0]))) if direction else {}
    stores += captured_controls(
        stores[0], work, how.seed, random_weights=random_weights, shuffled_tokens=shuffled_tokens
    )
    asks = {s.name: _ask(s, names, how) for s in stores}
    answers = answer(asks, work, "lens")
    study = Study("lens", "What does a state already say about the next token?", {})
    study.tables["lens"] = merge([_table(s.name, asks[s.name].tasks, answers[s.name], how) for s in stores])
    if vectors:
        site = last_site(stores[0]) if site not in stores[0].sites else site
        rows = read_out(stores[0], vectors, site, top=how.top, draws=how.draws, seed=how.seed)
        study.tables["directions"] = Table(rows)
    describe(study, stores, how)
    return study.marked()


def _ask(store: Store, names: Sequence[str], how: Any) -> Ask:
    """A task a site and fold."""
    judges = drawn(store, "lens", how.judges, how.seed)
    order = rng(how.seed, "lens folds").permutation(len(store))
    every = np.flatnonzero((store.lengths > 2) & (store.units >= 0)).tolist()
    by_unit = dict(zip(order.tolist(), (np.arange(len(order)) % how.folds).tolist(), strict=True))
    fold = {i: by_unit[int(store.units[i])] for i in every}
    tasks = []
    for site in names:
        for k in range(how.folds):
            judged = tuple(i for i in judges if fold[i] == k)
            others = tuple(i for i in every if fold[i] != k)
            if judged and others:
                where = (str(store.path), store.content, site)
                tasks.append(Read(*where, judged, others, how.longest, how.massive, how.seed))
    return Ask(read, tuple(tasks), list, key=Read.key, weight=lambda task: len(task.judged))


def _table(run: str, tasks: Sequence[Read], answers: Sequence[dict[str, Any]], how: Any) -> Table:
    """Every site, lens and measure with its interval by text; null: a constant state's on the same tokens."""
    rows = []
    for site in dict.fromkeys(task.site for task in tasks):
        mine = [a for task, a in zip(tasks, answers, strict=True) if task.site == site]
        tokens = np.concatenate([np.asarray(a["tokens"], float) for a in mine])
        sums = {
            lens: np.array([np.concatenate([a[lens][m] for a in mine]) for m in MEASURES]) for lens in LENSES
        }
        null = ratios(sums["constant"], tokens, how.groups, how.seed)[0]
        for lens in LENSES[:2]:
            values, drops = ratios(sums[lens], tokens, how.groups, how.seed)
            for k, measure in enumerate(MEASURES):
                ends = jackknife(float(values[k]), drops[k], scale=SCALES.get(measure, "identity"))
                three = np.array([values[k], *ends, null[k]])
                name = "next_rank" if measure == "log_rank" else measure
                value, low, high, beside = (np.exp(three) if measure == "log_rank" else three).tolist()
                row = {"measure": name, "run": run, "site": site, "lens": lens, "value": value, "low": low}
                row |= {"high": high, "null": beside, "control": "constant state", "n": int(tokens.sum())}
                row |= {"n_texts": len(tokens), "seed": how.seed, "status": "ok", "position0": "dropped"}
                row |= {
                    "fitted_on": min(a["fitted_on"] for a in mine),
                    "ridge": max(a["ridge"] for a in mine),
                }
                rows.append(row)
    return Table(rows)
