"""What the studies that run a model, fit maps or take matrices apart would cost, in CPU seconds: counted as
they count, from the sizes of a model and of its points and from what the form asks.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

#: CPU seconds per unit of work on one core of an ordinary server, from one run of each study.
RATE = {
    "forward": 1.7e-11,  # × 2 × parameters × tokens
    "word": 2.0e-8,  # × tokens × words: log-probabilities and what is read from them
    "svd": 7.0e-10,  # × small² × large of a matrix in float64
    "gram": 4.0e-11,  # × tokens × width²
    "solve": 4.0e-11,  # × width³
    "replicate": 1.2e-9,  # × n² × width: the measures of one cloud, once
    "window": 1.0e-3,  # × texts × sites: five measures of a window
}
#: CPU seconds of a study of nothing: imports, figures, its page.
START = {"probe": 5.0, "lens": 14.0, "depth": 12.0, "adapters": 13.0, "pruning": 11.0}
START |= {"tokens": 30.0, "evolve": 30.0}
#: Bytes of figures, page and tables, and of what each block adds.
PAGE = (1.3e6, 1.5e4)
#: The same of the token study, with its many figures, beside what it captures.
TOKENS_PAGE = 5e6
#: Words of a model that is as wide as 64 or more: of SmolLM2; narrower ones are toys.
WORDS, TOY = 49_152, 64
#: What a drawn text is cut at, and how many are drawn, where the form does not say.
LONGEST, JUDGES, POINTS, WINDOWS = 96, 24, 300, 60


class Size(NamedTuple):
    """What a cost depends on: blocks and width of the stream, tokens and texts, checkpoints of a run, and the
    form's values."""

    blocks: int
    width: int
    tokens: float | int
    texts: float | int
    values: Mapping[str, Any]
    checkpoints: int = 1

    def number(self, name: str, usual: float | int) -> float:
        """A number of the form, or the usual one."""
        try:
            return float(next(iter(listed(self.values.get(name))), usual))
        except ValueError:
            return usual

    def several(self, name: str, usual: int) -> int:
        """How many values a field holds, or usually does."""
        return len(listed(self.values.get(name))) or usual

    def on(self, name: str) -> bool:
        """Whether a switch of the form is set."""
        return listed(self.values.get(name))[:1] == ["true"]

    def drawn(self, texts: float | int, longest: float | int) -> float:
        """Tokens of so many texts at most, each cut at so many tokens."""
        return min(texts, self.texts) * min(longest, self.tokens / max(1, self.texts))

    @property
    def judged(self) -> float:
        """Tokens of the texts that judge."""
        return self.drawn(self.number("judges", JUDGES), self.number("longest", LONGEST))

    @property
    def runs(self) -> int:
        """The run, and its controls where they are asked for."""
        return 1 + self.on("random_weights") + self.on("shuffled_tokens")

    def said(self, tokens: float | int) -> float:
        """Seconds from the last state to log-probabilities and what is read from them."""
        words = WORDS if self.width >= TOY else 0
        return tokens * words * (2 * RATE["forward"] * self.width + RATE["word"])

    def passed(self, tokens: float | int, share: float | int = 1) -> float:
        """Seconds of a pass through so large a share of the blocks, without what the model says."""
        return share * RATE["forward"] * 24 * self.blocks * self.width**2 * tokens


def listed(value: Any) -> list[str]:
    """The values of a field, from a list or from words with commas."""
    parts = value if isinstance(value, list) else str("" if value is None else value).split(",")
    return [word for p in parts if (word := str(p).strip().lower()) and word != "none"]


def depth(s: Size) -> float:
    """Every edit runs the blocks from the first edited one on: half of them."""
    edits = (s.several("edit", 3) + s.several("spans", 0)) * s.blocks
    return s.runs * (s.passed(s.judged, 1 + edits / 2) + (1 + edits) * s.said(s.judged))


def lens(s: Size) -> float:
    """Three read-outs a site, and a map fitted for every fold."""
    maps = s.number("folds", 2) * (RATE["gram"] * s.tokens * s.width**2 + 8 * RATE["solve"] * s.width**3)
    return s.runs * (s.blocks + 1) * (3 * s.said(s.judged) + maps)


def probe(s: Size) -> float:
    """Two decompositions a site and fold; labels of texts are read at one token of each."""
    rows = s.tokens if listed(s.values.get("label")) in ([], ["position"], ["token"]) else s.texts
    small, large = sorted((0.8 * rows, s.width))
    return s.runs * (s.blocks + 1) * s.number("folds", 5) * 2 * RATE["svd"] * small**2 * large


def adapters(s: Size) -> float:
    """Both models are opened, and each changed matrix is taken apart: six of width² a block, between a few
    and all of them."""
    factor = 6 if s.on("intruders") else 1
    return factor * 6 * s.blocks * RATE["svd"] * s.width**3 + 4 * s.passed(60)


def pruning(s: Size) -> float:
    """Moments of the neurons for each fold; each method and fraction folds neurons in and judges."""
    folds, neurons = s.number("folds", 2), 2.7 * s.width
    jobs = s.several("fractions", 3) * s.several("methods", 5)
    moments = (folds - 1) * (s.passed(s.tokens) + s.blocks * RATE["gram"] * s.tokens * neurons**2)
    solved = folds * s.blocks * RATE["solve"] * neurons**3 * jobs
    return moments + (1 + jobs) * (s.passed(s.tokens) + s.said(s.tokens)) + solved


def tokens(s: Size) -> float:
    """Measures of clouds and windows; gradients; blocks left out on twelve texts; random weights beside."""
    sites, n = s.blocks + 1, min(s.number("n", POINTS), s.tokens)
    clouds = sites * 2 * (1 + s.number("groups", 10) + 5) * RATE["replicate"] * n**2 * s.width
    windows = sites * 6 * RATE["window"] * min(WINDOWS, s.texts)
    some = s.drawn(s.number("gradient_texts", 12), LONGEST)
    skips = s.passed(some, 1 + s.blocks / 2) + (1 + s.blocks) * s.said(some)
    gradients = s.number("gradient_positions", 4) * s.passed(some, 3)
    one = clouds + windows + (0 if listed(s.values.get("gradients")) == ["false"] else skips + gradients)
    return one + (0 if listed(s.values.get("random_weights")) == ["false"] else one + s.passed(s.tokens))


def evolve(s: Size) -> float:
    """The token study of every checkpoint, without random weights, and a capture of each."""
    alone = s._replace(values={**s.values, "random_weights": "false"})
    return s.checkpoints * (tokens(alone) + s.passed(s.tokens))


#: Study → CPU seconds of it beyond what it takes to start.
COST: dict[str, Callable[[Size], float]] = {
    study.__name__: study for study in (depth, lens, probe, adapters, pruning, tokens, evolve)
}
