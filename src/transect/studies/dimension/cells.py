"""Dimension of one layer: of all texts together and of every text alone; and the loss of every text.

All texts give equally many tokens: dimensions read at different numbers of points do not compare.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from transect.errors import TransectError
from transect.inference.evaluate import opened
from transect.measures.spectra import participation_ratio, twonn
from transect.models import sites
from transect.models.losses import losses
from transect.numeric import estimators
from transect.numeric.norms import ordinary
from transect.random import rng
from transect.store.recapture import stored_texts
from transect.store.store import Store
from transect.store.units import apart
from transect.studies.judging import FEWEST
from transect.studies.runs import model_of
from transect.work.keys import key_of

#: What a layer's states are described by, and its axis.
MEASURES = {
    "twonn": "TwoNN dimension",
    "participation_ratio": "participation ratio (dimensions)",
    "curvature": "curvature over tokens (degrees)",
}
#: Tokens of a text by default, and the share of texts that have as many.
WINDOW, ENOUGH = 32, 0.8
#: Texts of one task of losses.
TEXTS = 8


class Window(NamedTuple):
    """Texts of a store and which of their tokens are looked at, [texts, window]; `massive`: tokens passed
    over for their norm; `short`: texts left out, which have fewer."""

    texts: tuple[int, ...]
    tokens: tuple[tuple[int, ...], ...]
    massive: int
    short: int


class Layer(NamedTuple):
    """One task: a site of a store at some tokens of some texts; how many of them all texts together are
    looked at by, groups left out, half samples."""

    path: str
    content: str
    site: str
    window: Window
    each: int
    groups: int
    halves: int
    seed: int

    def key(self) -> str:
        """Name of the task's answer."""
        return key_of(list(self)[1:], __name__)


class Losses(NamedTuple):
    """One task: the loss of some texts of a store under its own model."""

    path: str
    content: str
    members: tuple[int, ...]
    longest: int

    def key(self) -> str:
        """Name of the task's answer."""
        return key_of(list(self)[1:], __name__)


def window_of(stores: Sequence[Store], how: Any) -> Window:
    """The first `how.window` tokens after position 0 of up to `how.judges` texts; tokens that are massive at
    any layer of any of these stores of the same tokens are passed over in all of them.

    Raises: TransectError for stores without all tokens, and for fewer than 8 texts that are long enough.
    """
    first = stores[0]
    for store in stores:
        if store.manifest["pool"] or store.manifest["positions"] != "all":
            raise TransectError(
                f"{store.path} does not hold all tokens of its texts.",
                "Capture without --pool and --positions, or give arrays of all tokens.",
            )
    lengths = np.diff(first.start) - 1
    size = how.window or max(4, min(WINDOW, int(np.quantile(lengths, 1 - ENOUGH))))
    order = rng(how.seed, "dimension").permutation(
        apart(first, np.flatnonzero(lengths >= size), rng(how.seed, "units"))
    )
    reach = {int(i): min(int(lengths[i]), 2 * size) for i in order}
    loud = _massive(stores, reach, how)
    kept = {i: 1 + np.flatnonzero(~loud[i])[:size] for i in reach}
    texts = [i for i in kept if len(kept[i]) == size][: how.judges]
    if len(texts) < FEWEST:
        raise TransectError(
            f"{first.path}: {len(texts)} texts have {size} tokens after the first; {FEWEST} are needed.",
            "Choose a smaller --window, or capture longer texts.",
        )
    texts.sort()
    tokens = tuple(tuple(kept[i].tolist()) for i in texts)
    passed = sum(int(loud[i][: kept[i][-1]].sum()) for i in texts)
    return Window(tuple(texts), tokens, passed, int((lengths < size).sum()))


def _massive(stores: Sequence[Store], reach: dict[int, int], how: Any) -> dict[int, np.ndarray]:
    """Text → which of its tokens after position 0 are above `how.massive` median norms at any layer."""
    cuts = np.cumsum([0, *reach.values()])
    loud = np.zeros(cuts[-1], bool)
    for store in stores if how.massive and reach else ():
        rows = np.concatenate([store.start[i] + 1 + np.arange(n) for i, n in reach.items()])
        for site in sites.select(store.sites, sites.asked(how.sites)):
            loud |= ~ordinary(np.linalg.norm(store.read(site, rows), axis=1)[None], how.massive)
    return {i: loud[a:b] for i, a, b in zip(reach, cuts, cuts[1:], strict=False)}


def draws(texts: int, groups: int, halves: int, seed: int) -> dict[str, list[np.ndarray]]:
    """Texts of every resample: `all`; `drops`, a group left out; `halves` and the `others` of each."""
    every = np.arange(texts)
    parts = np.array_split(rng(seed, "groups").permutation(texts), min(groups, texts))
    orders = [rng(seed, "dimension halves", k).permutation(texts) for k in range(halves)]
    split = [(np.sort(p[: texts // 2]), np.sort(p[texts // 2 :])) for p in orders]
    resamples = {"all": [every], "drops": [np.setdiff1d(every, part) for part in parts]}
    return resamples | {"halves": [a for a, _ in split], "others": [b for _, b in split]}


def measured(task: Layer) -> dict[str, Any]:
    """by_text: measure → [texts], each from its whole window; curve: measure → resample → values of all
    texts together (of curvature, which needs order, their mean)."""
    store, size = opened(task.path, task.content), len(task.window.tokens[0])
    rows = np.concatenate(
        [store.start[i] + np.array(t) for i, t in zip(task.window.texts, task.window.tokens, strict=True)]
    )
    X = store.read(task.site, rows).reshape(len(task.window.texts), size, -1)
    singles = [alone(Z) for Z in X]
    by_text = {m: [one[m] for one in singles] for m in MEASURES}
    each = min(task.each, size)
    picked = [np.sort(rng(task.seed, "tokens", i).permutation(size)[:each]) for i in task.window.texts]
    points = np.concatenate([Z[places] for Z, places in zip(X, picked, strict=True)]).astype(np.float64)
    texts = np.repeat(np.arange(len(X)), each)
    near = estimators.nearest_texts(points, texts)
    angles = np.array(by_text["curvature"])

    def together(members: np.ndarray) -> dict[str, float]:
        inside = np.isin(texts, members)
        shared = estimators.participation_ratio(points[inside], texts[inside])
        values = {"twonn": estimators.twonn_of(near[inside][:, members]), "participation_ratio": shared}
        return values | {"curvature": float(np.nanmean(angles[members]))}

    every = draws(len(X), task.groups, task.halves, task.seed)
    values = {name: [together(members) for members in several] for name, several in every.items()}
    curve = {m: {name: [one[m] for one in several] for name, several in values.items()} for m in MEASURES}
    return {"by_text": by_text, "curve": curve}


def alone(X: np.ndarray) -> dict[str, float]:
    """Measures of one text's tokens [n, d] in their order; NaN where there is none."""
    values = {"curvature": curvature(X)}
    for measure in (twonn, participation_ratio):
        try:
            values[measure.__name__] = float(measure(X))
        except TransectError:
            values[measure.__name__] = float("nan")
    return values


def curvature(X: np.ndarray) -> float:
    """Mean angle between successive steps of a trajectory [n, d], in degrees, 0 to 180; 0 is straight, 120
    independent points in many dimensions; NaN without two steps that lead anywhere.

    Source: Hosseini & Fedorenko 2023, arXiv:2311.04930; Hénaff et al. 2019, doi:10.1038/s41593-019-0377-4.
    """
    steps = np.diff(X.astype(np.float64), axis=0)
    size = np.linalg.norm(steps, axis=1)
    steps, size = steps[size > 0], size[size > 0]
    if len(steps) < 2:
        return float("nan")
    cosine = (steps[1:] * steps[:-1]).sum(axis=1) / (size[1:] * size[:-1])
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))).mean())


def judged(task: Losses) -> list[float]:
    """Mean loss of each text's first tokens, nats a token. Raises: TransectError for a model without a next
    token."""
    store = opened(task.path, task.content)
    sums, count = losses(model_of(store), stored_texts(store).subset(task.members), max_length=task.longest)
    return (sums / count).tolist()
