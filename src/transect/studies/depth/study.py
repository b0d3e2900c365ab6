"""Depth: what each block is worth, what foretells it, and how many blocks a model needs.

Blocks are removed, repeated and swapped; what the model then says stands beside what it says whole, on the
same tokens. How far apart the states around a block are is read from the same texts.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Unpack

from transect.errors import TransectError
from transect.inference.asks import Ask, answer
from transect.results.study import Study
from transect.results.table import merge
from transect.store.store import Store
from transect.studies.depth.edits import KINDS, TEXTS, Judged, edits, judged
from transect.studies.depth.similar import Similarity, similar
from transect.studies.depth.tables import collected, damages, distances, foretold, worth
from transect.studies.depth.words import describe
from transect.studies.judging import JudgeOptions, blocks_of, drawn
from transect.studies.runs import Run, captured_controls, open_runs
from transect.work.options import MOST_DRAWS, Option, Work, group, only

#: The table that --json prints.
HEADLINE = "damage"


class DepthOptions(JudgeOptions, total=False):
    """Which texts judge the blocks, and how sure the answers are."""

    massive: Annotated[
        float, Option(10.0, "Similarity leaves out tokens above so many median norms; 0 keeps them.", least=0)
    ]
    share: Annotated[
        float, Option(0.01, "Effective depth counts blocks worth more than so much of the loss.", above=0)
    ]
    halves: Annotated[int, Option(100, "Half samples of texts behind support.", 2, MOST_DRAWS)]


def depth(
    run: Run,
    *,
    random_weights: bool = False,
    edit: Sequence[str] = KINDS,
    spans: Sequence[int] = (),
    **options: Unpack[DepthOptions],
) -> Study:
    """What each block is worth: damage where it is removed, repeated or swapped, what foretells it.

    Args:
        run: A store with all tokens of its texts, or a model that is captured on `texts`.
        random_weights: Also a reference: the same architecture with random weights.
        edit: What is done to blocks: remove, repeat, swap.
        spans: Also remove so many blocks in a row, at every depth.

    Returns: a study with the tables damage, distances, prediction and worth.

    Raises: TransectError for a model whose blocks cannot be run one by one, and for stores without tokens.
    """
    only(options, DepthOptions)
    how, work = group(options, DepthOptions), Work.of(options)
    if unknown := [kind for kind in edit if kind not in KINDS]:
        raise TransectError(f"edit {unknown[0]!r}.", f"Choose from {', '.join(KINDS)}.")
    stores = open_runs([run], how.texts, work.out, seed=how.seed, progress=work.progress)
    blocks = len(blocks_of(_checked(stores[0])))  # refuses what cannot be edited before anything is captured
    if wrong := [n for n in spans if not 1 < n < blocks]:
        raise TransectError(f"spans: {wrong[0]} blocks of {blocks}.", f"Give 2 to {blocks - 1}.")
    stores += captured_controls(stores[0], work, how.seed, random_weights=random_weights)
    measured = _measured(stores, tuple(edit), tuple(spans), how, work)
    makers = {"damage": damages, "distances": distances, "prediction": foretold}
    tables = {name: merge([make(one) for one in measured]) for name, make in makers.items()}
    tables["worth"] = merge([worth(one, how.share) for one in measured])
    study = Study("depth", "What is each block worth, and what foretells it?", tables)
    describe(study, stores, how)
    return study.marked()


def _checked(store: Store) -> Store:
    """The store. Raises: TransectError where it does not hold every layer."""
    names = [s for s in store.sites if s.startswith("resid.")]
    if names != [f"resid.{k}" for k in range(len(names))] or len(names) < 3:
        raise TransectError(f"{store.path} does not hold every resid site.", "Capture with --sites resid.")
    return store


def _measured(
    stores: Sequence[Store], kinds: tuple[str, ...], spans: tuple[int, ...], how: Any, work: Work
) -> list[Any]:
    """The sums of every store, over one pool."""
    asks: dict[str, Ask] = {}
    every = edits(len(blocks_of(stores[0])), kinds, spans)
    for store in stores:
        members, where = drawn(store, "depth", how.judges, how.seed), (str(store.path), store.content)
        cut = [tuple(members[k : k + TEXTS]) for k in range(0, len(members), TEXTS)]
        tasks = tuple(Judged(*where, part, how.longest, kinds, spans) for part in cut)
        asks[f"judged {store.name}"] = Ask(
            judged, tasks, list, key=Judged.key, weight=lambda task: (1 + len(every)) * len(task.members)
        )
        kin = tuple((str(s.path), s.content) for s in stores if s is not store and s.same_tokens(store))
        looks = (*where, tuple(members), how.longest, how.massive, how.halves, spans, how.seed, kin)
        asks[f"similar {store.name}"] = Ask(similar, (Similarity(*looks),), list, key=Similarity.key)
    answers = answer(asks, work, "depth")
    return [
        collected(
            s.name, every, answers[f"judged {s.name}"], answers[f"similar {s.name}"][0],
            halves=how.halves, seed=how.seed, groups=how.groups,
        )
        for s in stores
    ]  # fmt: skip
