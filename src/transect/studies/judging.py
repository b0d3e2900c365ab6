"""A store's own model, judged on some of its texts: which texts, by which options, through which blocks."""

from typing import Annotated, Any

import numpy as np

from transect.errors import TransectError
from transect.models.edit import Blocks
from transect.random import rng
from transect.store.store import Store
from transect.store.units import apart
from transect.studies.runs import model_of
from transect.work.options import Option, WorkOptions

#: Fewest texts that half samples and groups can be made of.
FEWEST = 8


class JudgeOptions(WorkOptions, total=False):
    """Which texts judge, and how sure the answers are."""

    texts: Annotated[Any, Option(None, "Texts to capture a model on: a file, gsm-test:60, …")]
    judges: Annotated[int, Option(24, "Texts drawn to judge.", least=FEWEST)]
    longest: Annotated[int, Option(96, "Tokens of a text that are used.", least=3)]
    groups: Annotated[int, Option(10, "Groups of texts behind the intervals.", least=2)]
    seed: Annotated[int, Option(0, "Seed of every random choice.", least=0)]


_BLOCKS: dict[tuple[str, str], Blocks] = {}


def blocks_of(store: Store) -> Blocks:
    """The blocks of a store's model, kept between the tasks of one process. Raises: TransectError for a model
    that cannot be opened, edited or read out."""
    key = (str(store.path), store.content)
    if key not in _BLOCKS:
        _BLOCKS.clear()
        _BLOCKS[key] = Blocks(model_of(store))
    return _BLOCKS[key]


def drawn(store: Store, study: str, judges: int, seed: int) -> list[int]:
    """Texts of three tokens or more that judge in a study, by the seed, in the store's order.

    Raises: TransectError for fewer than FEWEST of them, and for a store without all tokens of its texts.
    """
    if store.manifest["pool"] or store.manifest["positions"] != "all":
        raise TransectError(
            f"{store.path} does not hold all tokens of its texts.",
            "Capture without --pool and --positions, or give arrays of all tokens.",
        )
    enough = apart(store, np.flatnonzero(store.lengths > 2), rng(seed, "units"))
    if len(enough) < FEWEST:
        raise TransectError(
            f"{store.path}: {len(enough)} texts have 3 tokens; {FEWEST} are needed.", "Add texts."
        )
    return sorted(rng(seed, study).permutation(enough)[:judges].tolist())
