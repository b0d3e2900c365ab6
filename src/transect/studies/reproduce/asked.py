"""What an entry has to work with: stores of the model and of its control, texts, and numbers by text."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from transect.errors import TransectError
from transect.inference.intervals import jackknife
from transect.models import sites
from transect.numeric.norms import ordinary_tokens
from transect.random import rng
from transect.store.store import Store
from transect.studies.runs import Run, open_runs, random_control
from transect.work.options import Work

#: Tokens above so many median norms are left out.
MASSIVE = 10.0


@dataclass
class Found:
    """What came of an entry: a number with its interval, its control, and whether the claim holds (None: it
    cannot be told)."""

    value: float
    low: float
    high: float
    holds: bool | None
    null: float = float("nan")
    null_low: float = float("nan")
    null_high: float = float("nan")
    control: str = ""
    n_texts: int = 0
    note: str = ""


class Asked:
    """An entry's model, options and work."""

    def __init__(self, model: Run, how: Any, work: Work) -> None:
        self.model, self.how, self.work = model, how, work

    def store(self, family: str = "resid", model: Run | None = None) -> Store:
        """The model's states at a family of sites, or those of another model: captured once, into OUT."""
        options = {"seed": self.how.seed, "sites": [family], "progress": self.work.progress}
        run = self.model if model is None else model
        out = None if self.work.out is None else Path(self.work.out) / family
        store = open_runs([run], self.how.texts, out, max_length=self.how.longest, **options)[0]
        if not [s for s in store.sites if sites.family(s) == family]:
            raise TransectError(f"{store.path} has no {family}.", f"Capture with --sites {family}.")
        return store

    def random(self, store: Store) -> Store:
        """The same texts through the same architecture with random weights."""
        assert self.work.out is not None
        return random_control(
            store, Path(self.work.out) / "control", seed=self.how.seed, progress=self.work.progress
        )

    def by_text(
        self, f: Callable[[np.ndarray], float], texts: int, scale: str = "identity"
    ) -> tuple[float, float, float]:
        """f of all texts (their numbers), with its interval from groups of texts left out."""
        order = rng(self.how.seed, "groups").permutation(texts)
        parts = np.array_split(order, min(self.how.groups, texts))
        every = np.arange(texts)
        value = f(every)
        return value, *jackknife(value, [f(np.setdiff1d(every, part)) for part in parts], scale=scale)


def states(store: Store, names: Sequence[str], *, keep: bool = False) -> list[np.ndarray]:
    """States of every text at some sites, [sites, tokens, d]; without position 0 and massive tokens unless
    they are kept."""
    texts = [np.stack([store.sample(i, s)[0 if keep else 1 :] for s in names]) for i in range(len(store))]
    if keep:
        return [X for X in texts if X.shape[1]]
    return [X for X in ordinary_tokens(texts, MASSIVE) if X.shape[1] > 1]


def layers(store: Store) -> list[str]:
    """Sites of the residual stream, in order."""
    return sites.select(store.sites, ["resid"])


def equal(texts: Sequence[np.ndarray], seed: int, most: int = 8) -> np.ndarray:
    """[texts, k, d]: equally many tokens of each text [tokens, d], in their order."""
    k = min(most, min(len(X) for X in texts))
    draw = functools.partial(rng, seed, "tokens")
    return np.stack([X[np.sort(draw(t).permutation(len(X))[:k])] for t, X in enumerate(texts)])


def beyond(value: Sequence[float], bound: float = 0.0) -> bool | None:
    """Whether a number is above a bound with its whole interval; None where the interval holds the bound."""
    _, low, high = value
    return True if low > bound else False if high < bound else None


def finding(
    trained: Sequence[float],
    holds: bool | None,
    control: str,
    null: Sequence[float],
    texts: int,
    note: str = "",
) -> Found:
    """What an entry found: own and null are a value and, where they are known, the ends of its interval."""
    nothing = [float("nan")] * 3
    (value, low, high), (middle, below, above) = ([*x, *nothing][:3] for x in (trained, null))
    return Found(value, low, high, holds, middle, below, above, control, texts, note)
