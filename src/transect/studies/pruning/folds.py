"""Folds of texts, judged by a model without some of its neurons: the tasks of a pruning study, all of one
process."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from transect.inference.accumulators import model_moments
from transect.models.losses import losses
from transect.models.models import Model
from transect.numeric.moments import Moments
from transect.random import rng
from transect.studies.pruning.cut import BY_ACTIVATION, ranked, take_out
from transect.texts.texts import Texts
from transect.work.keys import key_of

#: What the key of an answer is of, beside the model, the texts and the code.
SETTINGS = ("scope", "folds", "compensation", "max_length", "seed")


@dataclass(frozen=True, eq=False)
class Fold:
    """One task: a fold of the texts, judged where fractions of the neurons are removed by one method."""

    model: Model
    texts: Texts
    number: int
    method: str
    fractions: tuple[float, ...]
    how: Any

    def key(self) -> str:
        """Name of the task's answer, whatever the model is called."""
        what = [
            self.model.fingerprint,
            str(self.model.dtype),
            self.texts.fingerprint,
            self.number,
            self.method,
        ]
        settings = {name: getattr(self.how, name) for name in SETTINGS}
        return key_of([*what, self.fractions, settings], __name__)

    def split(self) -> tuple[np.ndarray, np.ndarray]:
        """(texts that are judged, the others)."""
        order = rng(self.how.seed, "folds").permutation(len(self.texts))
        members = np.sort(order[self.number :: self.how.folds])
        return members, np.setdiff1d(order, members)


class Whole:
    """The model as it is: what it says of a fold, and moments over the others where they are asked for."""

    def __init__(self, task: Fold) -> None:
        members, rest = task.split()
        self.model, self.longest = task.model, task.how.max_length
        self.judged, self.rest = (task.texts.subset(part.tolist()) for part in (members, rest))
        self.losses, self.tokens = self.losses_of(task.model)
        self.found: dict[str, Moments] = {}

    def losses_of(self, model: Model) -> tuple[np.ndarray, np.ndarray]:
        """(losses in nats [texts], tokens [texts]) of the fold."""
        return losses(model, self.judged, max_length=self.longest)

    def moments(self) -> dict[str, Moments]:
        """Of every mlp.act, over the texts that are not judged."""
        if not self.found:
            self.found = model_moments(self.model, self.rest, ["mlp.act"], max_length=self.longest)
        return self.found


#: The fold at work; its moments are as large as fit, so that there is one.
_WHOLE: dict[tuple[Any, ...], Whole] = {}


def judged(task: Fold) -> dict[str, Any]:
    """Of every text of the fold its loss (nats) and tokens whole, and its loss for each fraction: `before`,
    `tokens` [texts], `after` [fractions, texts]; and how many tokens the method was calibrated on, if any."""
    key = (id(task.model), task.texts.fingerprint, task.number, *(getattr(task.how, s) for s in SETTINGS))
    if key not in _WHOLE:
        _WHOLE.clear()
        _WHOLE[key] = Whole(task)
    whole, how = _WHOLE[key], task.how
    need = how.compensation or task.method in BY_ACTIVATION
    moments = whole.moments() if need else {}
    ranking = ranked(task.model, moments, task.method, how.seed * how.folds + task.number)
    after = []
    for fraction in task.fractions:
        options = moments if how.compensation else {}
        small = take_out(task.model, options, ranking, fraction, scope=how.scope)
        after.append(whole.losses_of(small)[0].tolist())
    count = min((m.n for m in moments.values()), default=None)
    return {"before": whole.losses.tolist(), "tokens": whole.tokens.tolist(), "after": after, "seen": count}


def forget() -> None:
    """Let go of the fold at work."""
    _WHOLE.clear()


def collected(
    tasks: Sequence[Fold], answers: Sequence[dict[str, Any]]
) -> tuple[np.ndarray, np.ndarray, dict[tuple[str, float], np.ndarray]]:
    """(losses of the whole model [texts], tokens [texts], (method, fraction) → losses [texts])."""
    size = len(tasks[0].texts)
    before, tokens = np.zeros(size), np.zeros(size)
    after = {(t.method, f): np.zeros(size) for t in tasks for f in t.fractions}
    for task, answer in zip(tasks, answers, strict=True):
        members = task.split()[0]
        before[members], tokens[members] = answer["before"], answer["tokens"]
        for fraction, values in zip(task.fractions, answer["after"], strict=True):
            after[task.method, fraction][members] = values
    return before, tokens, after
