"""Measures that need no store: accumulators that take blocks of tokens as the model makes them, and freeze
into a result.

Each equals the measure on all stored points, whatever the blocks and their order; two accumulators of
different texts merge into one. For clouds, `Sample` keeps a uniform sample of tokens that depends on their
names alone.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from transect.errors import TransectError
from transect.measures.spectra import OF_SPECTRUM
from transect.numeric.moments import Accumulator, Moments
from transect.numeric.permute import columns_by_text
from transect.random import rng
from transect.store.store import Store
from transect.store.units import families_of

if TYPE_CHECKING:
    from transect.models.models import Model
    from transect.texts.texts import Texts


class _Hsic:
    """Sums over tokens from which the HSIC of two linear kernels follows, in float64."""

    def __init__(self, d: int, e: int) -> None:
        self.n = 0
        self.products, self.sum_x, self.sum_y = np.zeros((d, e)), np.zeros(d), np.zeros(e)
        self.x_by_y, self.y_by_x = np.zeros(d), np.zeros(e)  # Σ x |y|² and Σ y |x|²
        self.square_x = self.square_y = self.both = 0.0

    def update(self, X: np.ndarray, Y: np.ndarray) -> None:
        a, b = np.einsum("ij,ij->i", X, X), np.einsum("ij,ij->i", Y, Y)
        self.n += len(X)
        self.products += X.T @ Y
        self.sum_x += X.sum(axis=0)
        self.sum_y += Y.sum(axis=0)
        self.x_by_y += b @ X
        self.y_by_x += a @ Y
        self.square_x, self.square_y, self.both = (
            self.square_x + a.sum(),
            self.square_y + b.sum(),
            self.both + a @ b,
        )

    def add(self, other: "_Hsic") -> None:
        for name in vars(self):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def value(self, unbiased: bool) -> float:
        """Song's estimator from the kernels without their diagonals, or the biased trace of the centred ones,
        × n²."""
        n, sx, sy = self.n, self.sum_x, self.sum_y
        if not unbiased:
            return float(((self.products - np.outer(sx, sy) / n) ** 2).sum())
        trace = (self.products**2).sum() - self.both
        rows = sx @ self.products @ sy - sx @ self.x_by_y - sy @ self.y_by_x + self.both
        ends = (sx @ sx - self.square_x) * (sy @ sy - self.square_y)
        return float(trace + ends / ((n - 1) * (n - 2)) - 2 / (n - 2) * rows)


class CKA:
    """CKA of two views of any number of tokens in memory of d² numbers: `update(X, Y)`, `merge`, `freeze()`.

    `measures.cka` holds an n × n matrix; here the same value follows from cross-products of the dimensions.
    Both shift the points by the mean of the first block, which leaves the value as it is and keeps its
    digits.
    """

    def __init__(self, d: int, e: int) -> None:
        self.shift: tuple[np.ndarray, np.ndarray] | None = None
        self.sums = (_Hsic(d, e), _Hsic(d, d), _Hsic(e, e))

    def update(self, X: np.ndarray, Y: np.ndarray) -> "CKA":
        """Add rows X [k, d] and the same tokens' Y [k, e]."""
        if len(X) != len(Y):
            raise TransectError(f"cka: {len(X)} and {len(Y)} rows.", "Row i of both must be one token.")
        if self.shift is None:
            self.shift = X.mean(axis=0, dtype=np.float64), Y.mean(axis=0, dtype=np.float64)
        A, B = X - self.shift[0], Y - self.shift[1]
        for sums, (left, right) in zip(self.sums, ((A, B), (A, A), (B, B)), strict=True):
            sums.update(left, right)
        return self

    def merge(self, other: "CKA") -> "CKA":
        """Add the tokens of another accumulator, which must have the same shift: give it one with `like`."""
        pairs = zip(self.shift or (), other.shift or (), strict=False)
        if not self.shift or not other.shift or not all(np.array_equal(a, b) for a, b in pairs):
            raise TransectError("accumulators about different points.", "Make the second with first.like().")
        for mine, theirs in zip(self.sums, other.sums, strict=True):
            mine.add(theirs)
        return self

    def like(self) -> "CKA":
        """An empty accumulator about the same point, for another process."""
        if self.shift is None:
            raise TransectError("an accumulator without rows has no point to share.", "Update it first.")
        empty = CKA(len(self.shift[0]), len(self.shift[1]))
        empty.shift = self.shift
        return empty

    def freeze(self, unbiased: bool = True) -> float:
        """The value so far; NaN when a self-term is not positive. TransectError below 4 tokens."""
        n = self.sums[0].n
        if n < 4:
            raise TransectError(f"cka needs at least 4 tokens, got {n}.", "Give more texts.")
        cross, x, y = (s.value(unbiased) for s in self.sums)
        nothing = any(v <= 1e-12 * s.both for v, s in ((x, self.sums[1]), (y, self.sums[2])))
        return float("nan") if nothing else cross / float(np.sqrt(x * y))


def spectral(moments: Moments) -> dict[str, float]:
    """Every measure that is a function of the covariance spectrum, at its default options, from streamed
    moments."""
    values = np.clip(np.linalg.eigvalsh(moments.cross)[::-1], 0, np.inf)
    if not values.sum() > 0:
        raise TransectError("all points are equal.", "A spectrum needs variance.")
    shares = values / values.sum()
    return {name: float(of(shares)) for name, of in OF_SPECTRUM.items()}


@dataclass(frozen=True)
class Sample:
    """At most `size` tokens of any number, each as likely as any other: those whose names hash lowest.
    `points` [k, d], float32, in the order of their hashes `keys` [k]; `seen` counts all tokens."""

    size: int
    keys: np.ndarray
    points: np.ndarray
    seen: int = 0

    @classmethod
    def empty(cls, size: int, width: int) -> "Sample":
        """A sample of nothing yet."""
        return cls(size, np.empty(0, np.uint64), np.empty((0, width), np.float32))

    def update(self, keys: np.ndarray, X: np.ndarray) -> "Sample":
        """With the rows X [k, d] named by `token_keys`."""
        every, points = np.concatenate([self.keys, keys]), np.concatenate([self.points, X.astype(np.float32)])
        kept = np.argsort(every, kind="stable")[: self.size]
        return Sample(self.size, every[kept], points[kept], self.seen + len(keys))

    def merge(self, other: "Sample") -> "Sample":
        """The sample of both halves' tokens."""
        joined = self.update(other.keys, other.points)
        return Sample(self.size, joined.keys, joined.points, self.seen + other.seen)


def token_keys(text: str, positions: Sequence[int] | np.ndarray, seed: int = 0) -> np.ndarray:
    """A number for each token of a text, uint64 [k], that depends on text id, position and seed alone."""
    digests = [hashlib.blake2b(f"{seed}\0{text}\0{p}".encode(), digest_size=8).digest() for p in positions]
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)


def stream(
    model: "Model",
    texts: "Texts",
    wanted: Sequence[str],
    visit: Callable[[dict[str, np.ndarray], np.ndarray, np.ndarray], Any],
    *,
    position0: bool = False,
    **options: Any,
) -> None:
    """Call visit(site → rows [k, d], text number of each row [k], its position [k]) for every batch of a pass
    over the texts.

    Nothing is kept. The first token of every text is left out unless position0. options: of `passes.forward`.
    """
    from transect.models.forward import forward

    for _, owner, got in forward(model, texts, wanted, **options):
        first = np.flatnonzero(np.diff(owner, prepend=-1))
        position = np.arange(len(owner)) - np.repeat(first, np.diff(np.append(first, len(owner))))
        kept = np.flatnonzero(position >= (0 if position0 else 1))
        rows = {site: value.float().cpu().numpy()[kept] for site, value in got.items()}
        visit(rows, owner[kept], position[kept])


class SplitMoments(NamedTuple):
    """Moments of one site over all texts and over two halves of them, and the same of a control."""

    whole: Moments
    halves: tuple[Moments, Moments]
    control: Moments
    control_halves: tuple[Moments, Moments]


def split_moments(store: Store, site: str, *, position0: bool = True, seed: int = 0) -> SplitMoments:
    """All that a map needs, in one pass over the activations; the halves merge into the whole.

    The halves are whole texts, or groups of them, drawn by the seed. The control gives every neuron an order
    of texts of its own within its half (`columns_by_text`). TransectError where a half has fewer than 2
    tokens.
    """
    width, member = store.width(site), text_halves(store, seed)
    actual, noise = ([Accumulator(width), Accumulator(width)] for _ in range(2))
    generator = rng(seed, "texts by neuron", site)
    for rows in _blocks(store, width, position0):
        X, texts = store.read(site, rows), _texts_of(store, rows)
        for half in (0, 1):
            here = member[texts] == half
            for sums in (actual[half], noise[half]):
                if sums.shift_x is None:
                    sums.about(X)
            if here.any():
                lengths = np.unique(texts[here], return_counts=True)[1]
                actual[half].update(X[here])
                noise[half].update(columns_by_text(X[here], lengths, generator))
    if (least := min(sums.n for sums in actual)) < 2:
        raise TransectError(
            f"{store.path}: half of its texts ({len(store)}) holds {least} tokens; halves judge a map.",
            "Capture more texts, or longer ones.",
        )
    halves, control_halves = ((sums[0].freeze(), sums[1].freeze()) for sums in (actual, noise))
    total, control = (sums[0].merge(sums[1]).freeze() for sums in (actual, noise))
    return SplitMoments(total, halves, control, control_halves)


def text_halves(store: Store, seed: int) -> np.ndarray:
    """The half, 0 or 1, of every text: int [T], half of them in each; groups of texts and copies stay
    together."""
    units, of = np.unique(families_of(store), return_inverse=True)
    return (rng(seed, "halves").permutation(len(units)) % 2)[of]


def store_moments(
    store: Store,
    site: str,
    site2: str | None = None,
    *,
    position0: bool = True,
    shuffle: int | None = None,
) -> Moments:
    """Moments of one site, or of two sites over the same tokens. shuffle: a seed; every column of the first
    site has its texts in an order of its own (`columns_by_text`, a control)."""
    accumulator = Accumulator(store.width(site), None if site2 is None else store.width(site2))
    generator = rng(shuffle or 0, "texts by neuron", site)
    for rows in _blocks(store, max(store.width(site), store.width(site2) if site2 else 0), position0):
        X = store.read(site, rows)
        if shuffle is not None:
            X = columns_by_text(X, np.unique(_texts_of(store, rows), return_counts=True)[1], generator)
        accumulator.update(X, None if site2 is None else store.read(site2, rows))
    return accumulator.freeze()


def _texts_of(store: Store, rows: np.ndarray) -> np.ndarray:
    return np.searchsorted(store.start, rows, side="right") - 1


def _blocks(store: Store, width: int, position0: bool) -> Iterator[np.ndarray]:
    yield from store.select("all", position0).split(max(256, (64 << 20) // (4 * width)))


def model_moments(
    model: "Model", texts: "Texts", wanted: Sequence[str], *, position0: bool = True, **options: Any
) -> dict[str, Moments]:
    """Moments of several sites straight from the model, without a store: for blocks too wide to keep."""
    from transect.models.forward import forward

    sums: dict[str, Accumulator] = {}
    for _, owner, got in forward(model, texts, wanted, **options):
        first = np.flatnonzero(np.diff(owner, prepend=-1))
        for site, rows in got.items():
            X = rows.float().cpu().numpy()
            X = X if position0 else np.delete(X, first, axis=0)
            sums.setdefault(site, Accumulator(X.shape[1])).update(X)
    return {site: sums.pop(site).freeze() for site in list(sums)}  # one at a time: each is N² numbers
