"""Which stored rows a token selector names: for every text one token, all of them, or their mean, with what
is missing."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from transect.errors import TransectError

if TYPE_CHECKING:
    from transect.store.store import Store

#: No text has so many tokens: positions beyond it are missing in all alike.
LONGEST = 1 << 40
LANDMARK = re.compile(r"^landmark:(?P<name>[^+\-]+?)(?P<offset>[+-][0-9]+)?$")


@dataclass(frozen=True)
class Selection:
    """Rows of a store: `rows` [n] in text order, the text [n] and position [n] of each, and the texts without
    any.

    A pooled selection stands for one point per text: the mean of the rows in each of `spans`.
    """

    rows: np.ndarray
    texts: np.ndarray
    position: np.ndarray
    missing: tuple[int, ...] = ()
    pooled: bool = False
    spans: tuple[tuple[int, int], ...] = ()

    def __len__(self) -> int:
        return len(self.texts)

    def subset(self, which: np.ndarray) -> "Selection":
        """The points `which` of this selection."""
        spans = tuple(self.spans[k] for k in which) if self.pooled else ()
        rows = self.rows if self.pooled else self.rows[which]
        return Selection(rows, self.texts[which], self.position[which], self.missing, self.pooled, spans)

    def split(self, size: int) -> Iterator[np.ndarray]:
        """Rows in runs of at most `size`, broken between texts (a longer text is a run of its own)."""
        edges = np.flatnonzero(np.diff(self.texts, prepend=-1, append=-1))
        begin = 0
        for k in range(1, len(edges)):
            if k == len(edges) - 1 or edges[k + 1] - begin > size:
                yield self.rows[begin : edges[k]]
                begin = edges[k]


def positions(store: "Store", tokens: str | int, position0: bool) -> Selection:
    """Resolve a selector against a store; TransectError for one that is not known, or that no text has."""
    selection = resolve(store, tokens, position0)
    if not len(selection):
        where = "after its first" if tokens in ("all", "mean") else f"at {tokens}"
        raise TransectError(f"{store.path}: no text has a token {where}.", "Choose other --tokens.")
    return selection


def resolve(store: "Store", tokens: str | int, position0: bool) -> Selection:
    """The same, also where no text has such a token: all are missing then."""
    tokens = int(tokens) if isinstance(tokens, np.integer) else tokens
    if not isinstance(tokens, str | int) or isinstance(tokens, bool):
        raise TransectError(f"no tokens {tokens!r:.80}.", "Give all, last, mean, a position, landmark:NAME.")
    if tokens in ("all", "mean"):
        return _all(store, position0, pooled=tokens == "mean" and not store.manifest["pool"])
    if tokens == "last":
        return _one(store, _last_content(store))
    if isinstance(tokens, int) or re.fullmatch("-?[0-9]{1,9}", tokens):
        k = max(-LONGEST, min(int(tokens), LONGEST))
        return _one(store, np.full(len(store), k) if k >= 0 else store.lengths + k)
    match = LANDMARK.match(tokens)
    if not match or match["name"] not in store.landmarks:
        names = ", ".join(f"landmark:{n}" for n in store.landmarks) or "no landmarks in these texts"
        raise TransectError(
            f"{store.path}: no tokens {tokens!r}.", f"There are: all, last, mean, a position, {names}."
        )
    at = store.index[f"landmark:{match['name']}"].fill_null(-1).to_numpy().astype(np.int64)
    return _one(store, np.where(at >= 0, at + int(match["offset"] or 0), -1))


def _all(store: "Store", position0: bool, pooled: bool) -> Selection:
    rows, texts = np.arange(store.start[-1]), np.repeat(np.arange(len(store)), store.rows)
    position = _stored_positions(store)
    if not position0:
        keep = position != 0
        rows, texts, position = rows[keep], texts[keep], position[keep]
        if len(keep) and not len(rows):
            raise TransectError(
                f"{store.path}: every text has one token, position 0, which is left out.",
                "Keep it: --position0, position0=True.",
            )
    missing = tuple(np.setdiff1d(np.arange(len(store)), texts).tolist())
    if not pooled:
        return Selection(rows, texts, position, missing)
    present = np.unique(texts)
    first, last = np.searchsorted(texts, present), np.searchsorted(texts, present, side="right")
    spans = tuple((int(rows[a]), int(rows[b - 1]) + 1) for a, b in zip(first, last, strict=True))
    return Selection(rows[:0], present, np.full(len(present), -1), missing, True, spans)


def _stored_positions(store: "Store") -> np.ndarray:
    """Token position of every stored row; -1 for a pooled one."""
    column = store.index["positions"]
    if column.null_count == len(column):
        return np.arange(store.start[-1]) - np.repeat(store.start[:-1], store.rows)
    return column.combine_chunks().flatten().to_numpy().astype(np.int64)


def _last_content(store: "Store") -> np.ndarray:
    special = store.index["special"].to_pylist()
    return np.array([max((k for k, s in enumerate(row) if not s), default=-1) for row in special])


def _one(store: "Store", wanted: np.ndarray) -> Selection:
    """One token per text, where that token exists and was stored."""
    valid = (wanted >= 0) & (wanted < store.lengths)
    if (store.rows == store.lengths).all():
        rows = store.start[:-1] + wanted
    else:
        stored, text = _stored_positions(store), np.repeat(np.arange(len(store)), store.rows)
        place = {(t, p): r for r, (t, p) in enumerate(zip(text.tolist(), stored.tolist(), strict=True))}
        places = [place.get((t, p), -1) for t, p in enumerate(wanted.tolist())]
        rows = np.array(places)
        valid &= rows >= 0
    texts = np.flatnonzero(valid)
    return Selection(rows[texts], texts, wanted[texts], tuple(np.flatnonzero(~valid).tolist()))
