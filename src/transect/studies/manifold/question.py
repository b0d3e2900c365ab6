"""Sites at which held-out texts are moved, as tasks: the model, and what its next token is read after."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from transect.inference.evaluate import opened
from transect.models.edit import check_head
from transect.results.study import Study
from transect.store.store import Store
from transect.studies.manifold.plan import MapJob
from transect.studies.runs import model_of
from transect.texts.sets import DAYS, MONTHS
from transect.work.keys import key_of

if TYPE_CHECKING:
    from transect.models.models import Model

#: Labels whose values are words: (words, value → index of its word, appended prompt that asks for the word).
WORDS: dict[str, tuple[list[str], Callable[[float], int], str]] = {
    "date": (MONTHS, lambda y: _month(y), " The month of this birthday is"),
    "month": (MONTHS, lambda y: round(y - 1) % 12, " The month is"),
    "weekday": (DAYS, lambda y: round(y) % 7, " The day of the week is"),
}


def _month(date: float) -> int:
    """Month 0–11 of a day of the year / 365."""
    lengths = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
    return int(np.searchsorted(np.cumsum(lengths), (date % 1) * 365 + 1e-6, side="right"))


@dataclass(frozen=True)
class Moving:
    """One task: the map's job, the site and token to move at, how far in the label's units (None: a quarter
    of its span), and what texts go on with (None: what asks for the label's word)."""

    job: MapJob
    site: str
    token: str
    shift: float | None = None
    prompt: str | None = None

    def key(self, module: str) -> str:
        """Name of the task's answer, wherever the store lies now."""
        settings = asdict(self)
        del settings["job"]["store"]
        return key_of(settings, module)


class Question(NamedTuple):
    """What is asked of a model after moved texts. `first` [words]: first tokens of the words of the label;
    empty where it has no words, or two begin alike."""

    store: Store
    model: "Model"
    prompt: str
    extra: list[int]
    first: np.ndarray
    word_of: Callable[[float], int]

    def ids(self, texts: np.ndarray) -> list[list[int]]:
        """Token ids of some texts, with the prompt behind them."""
        return [[*self.store.token_ids(i).tolist(), *self.extra] for i in texts]

    def tokens(self, labels: np.ndarray) -> np.ndarray:
        """First tokens of the words of label values, their shape; empty where there are no words."""
        if not len(self.first):
            return np.empty(0, int)
        return self.first[[self.word_of(float(v)) for v in labels]]


@functools.lru_cache(maxsize=1)
def _model(path: str, content: str) -> "Model":
    """The model of a store, which predicts a next token; kept between the tasks of one process."""
    model = model_of(opened(path, content))
    check_head(model)
    return model


def question(task: Moving) -> Question:
    """The question of a task. Raises: TransectError for a store without its model, and a model without a
    next token."""
    store = opened(task.job.store, task.job.fingerprint)
    model = _model(task.job.store, task.job.fingerprint)
    words, word_of, asked = WORDS.get(task.job.label[0], ([], lambda y: 0, ""))
    prompt = asked if task.prompt is None else task.prompt

    def of(text: str) -> list[int]:
        return model.tokenizer(text, add_special_tokens=False)["input_ids"]

    first = np.array([of(f" {w}")[0] for w in words], int)
    if len(set(first.tolist())) < len(first):
        first = np.empty(0, int)
    return Question(store, model, prompt, of(prompt) if prompt else [], first, word_of)


def answered(question: Question, task: Moving, shift: float) -> dict[str, Any]:
    """Columns that every row of a task has."""
    columns = {"run": question.store.name, "token": task.token, "label": "/".join(task.job.label)}
    return columns | {"site": task.site, "shift": shift, "prompt": question.prompt, "seed": task.job.seed}


def by_unit(values: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Means [units] of numbers of texts: every unit weighs alike."""
    member = np.unique(units, return_inverse=True)[1]
    return np.bincount(member, values) / np.bincount(member)


def mean_interval(means: np.ndarray) -> tuple[float, float, float]:
    """A mean and the ends of its t-interval; NaN ends for a single one."""
    from scipy.stats import t

    centre, count = float(means.mean()), len(means)
    half = t.ppf(0.975, count - 1) * means.std(ddof=1) / np.sqrt(count) if count > 1 else np.nan
    return centre, centre - float(half), centre + float(half)


def tasks_of(
    study: Study, store: Store, depths: Sequence[float], moves: Mapping[str, Any]
) -> tuple[Moving, ...]:
    """The tasks of a manifold study's map at some shares of the depth, at its source token unless `at` names
    another; `shift` and `prompt` as they are."""
    origin, at = study.provenance, moves["at"]
    kept = {k: origin[k] for k in ("group", "alpha", "scale", "folds", "seed")}
    job = MapJob(
        store=str(store.path), fingerprint=store.content, tokens=(), label=tuple(origin["label"]),
        shapes=(tuple(origin["shapes"][0]),), n_components=origin["dimension"], permutations=0, **kept,
    )  # fmt: skip
    token = origin["source"] if at is None else at if ":" in at else f"landmark:{at}"
    there = [s for s in study.tables["map"].where(run=store.name).values("site") if s.startswith("resid")]
    sites = dict.fromkeys(there[round(f * (len(there) - 1))] for f in depths)
    return tuple(Moving(job, site, token, moves["shift"], moves["prompt"]) for site in sites)
