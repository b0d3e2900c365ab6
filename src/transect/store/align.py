"""Runs of the same texts under other tokenizers, cut to the points that all of them have: `align`.

`prefix`: tokens that end at the same character, where every run has read the same text. `word`: the last
token of every word. `text`: the mean of a text's tokens without the first. `last`: the last token of a text.
An aligned run is a store of its own, with the same tokens as the others, so that every study takes it.
"""

import functools
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from transect.errors import TransectError
from transect.files import Place, folder_name, place
from transect.models import sites as site_names
from transect.store.arrays import write_samples
from transect.store.recapture import stored_texts
from transect.store.samples import Raw, Samples
from transect.store.store import Store
from transect.texts.texts import Texts

ALIGNMENTS = ("prefix", "word", "text", "last")
#: What is aligned, in words, and what a share is a share of.
WHAT = {
    "prefix": "tokens end where one of every other run does",
    "word": "words end in a token of every run",
    "text": "texts have points in every run",
    "last": "texts have a last token in every run",
}
#: Share of a run's own points below which a comparison says nothing of it.
LEAST = 0.25
WORD = re.compile(r"\w+(?:['’]\w+)*")
#: More characters than any text has: a point is text × SPAN + character.
SPAN = 1 << 32


@dataclass(frozen=True)
class Points:
    """The stored tokens of one run in texts that every run has: number of the text, first and last character,
    row and position of each, special tokens left out; `total`: how many there are in all of its texts."""

    text: np.ndarray
    begin: np.ndarray
    end: np.ndarray
    row: np.ndarray
    position: np.ndarray
    total: int


@dataclass(frozen=True)
class Found:
    """Points of one run under keys that mean the same in every run: `keys` [n], ascending; `row` [n], or the
    rows of the k-th from `edges[k]` to `edges[k + 1]` where a point is their mean."""

    keys: np.ndarray
    row: np.ndarray
    edges: np.ndarray | None = None

    def at(self, keys: np.ndarray) -> "Found":
        """The same for some of the keys only."""
        k = np.searchsorted(self.keys, keys)
        if self.edges is None:
            return Found(keys, self.row[k])
        several = [self.row[self.edges[i] : self.edges[i + 1]] for i in k]
        edges = np.concatenate([[0], np.cumsum([len(rows) for rows in several])])
        return Found(keys, np.concatenate(several), edges)

    def read(self, store: Store, site: str, a: int, b: int) -> np.ndarray:
        """Points a to b - 1 of a site, float32 [b - a, width]."""
        if self.edges is None:
            return store.read(site, self.row[a:b])
        X = store.read(site, self.row[self.edges[a] : self.edges[b]]).astype(np.float64)
        sums = np.add.reduceat(X, self.edges[a:b] - self.edges[a], axis=0)
        return (sums / np.diff(self.edges[a : b + 1])[:, None]).astype(np.float32)


def align(
    stores: Sequence[Store],
    out: Place,
    how: str = "prefix",
    sites: Sequence[str] | None = None,
    least: float = LEAST,
) -> list[Store]:
    """Cut runs of the same texts to the points that all have, and write them to OUT/NAME as stores.

    Args:
        stores: Two or more, captured from the same texts, with any tokenizers.
        out: A folder; an aligned run that is there already is opened.
        how: "prefix", "word", "text" or "last" (see this file's head).
        sites: Families or single sites; by default all.
        least: Share of each run's own tokens (words, texts) that must be aligned.

    Returns: the aligned stores, in order; the manifest of each holds its share.
    Raises: TransectError where too few points are aligned, or characters are not known.
    """
    if how not in ALIGNMENTS:
        raise TransectError(f"align={how!r}.", f"Choose one of {', '.join(ALIGNMENTS)}.")
    texts, numbers = _common(stores)
    every = [_points(s, n, how) for s, n in zip(stores, numbers, strict=True)]
    words = np.array(
        [(i, *m.span()) for i, t in enumerate(texts.texts) for m in WORD.finditer(t)] or np.empty((0, 3)),
        np.int64,
    )
    positions = [_keyed(points, words, how) for points in every]
    keys = functools.reduce(np.intersect1d, [f.keys for f in positions])
    of = {"prefix": [p.total for p in every], "word": [len(words)] * len(stores)}
    shares = [len(keys) / max(1, n) for n in of.get(how, [len(s) for s in stores])]
    for store, share in zip(stores, shares, strict=True):
        if share < least or not len(keys):
            raise TransectError(
                f"{store.name}: {share:.1%} of its {WHAT[how]}; at least {least:.0%} must.",
                "Align by word or text, capture the same texts without cutting them, or lower the share.",
            )
    texts, pieces, starts = _cut(texts, keys, how)
    aligned = []
    for store, share, places in zip(stores, shares, (f.at(keys) for f in positions), strict=True):
        selected = store.sites if sites is None else site_names.select(store.sites, sites)
        samples = {site: _samples(store, site, places, starts, how in ("text", "last")) for site in selected}
        record = {"how": how, "share": share, "with": [s.name for s in stores], "of": store.content}
        folder = place(out) / folder_name(store.name)
        aligned.append(write_samples(samples, folder, store.name, texts, pieces, more={"aligned": record}))
    return aligned


def _common(stores: Sequence[Store]) -> tuple[Texts, list[np.ndarray]]:
    """The texts that every run has, and for each run the number that each of its texts has among them (-1:
    none)."""
    if len(stores) < 2:
        raise TransectError("align needs two runs.", "Give two stores or more.")
    for store in stores:
        m = store.manifest
        if m["texts"].get("chat") or m.get("shuffle_tokens") is not None:
            raise TransectError(
                f"{store.path} holds {'chats' if m['texts'].get('chat') else 'shuffled tokens'}: its tokens "
                "stand at other characters than its texts.",
                "Capture the texts as they are.",
            )
    names = [list(zip(s.ids, s.index["text"].to_pylist(), strict=True)) for s in stores]
    held = set(names[0]).intersection(*map(set, names[1:]))
    if not held:
        refs = " and ".join(f"{s.path} ({s.manifest['texts']['spec']})" for s in stores[:2])
        raise TransectError(f"{refs} hold different texts.", "Capture every run from the same texts.")
    keep = [i for i, name in enumerate(names[0]) if name in held]
    number = {names[0][i]: k for k, i in enumerate(keep)}
    texts = stored_texts(stores[0]).subset(keep)
    return texts, [np.array([number.get(name, -1) for name in ids]) for ids in names]


def _points(store: Store, numbers: np.ndarray, how: str) -> Points:
    if store.manifest["pool"] and how != "text":
        raise TransectError(f"{store.path} holds one point a text.", "Align by text.")
    selection = store.select("all", True)
    if store.manifest["pool"]:
        text = numbers[selection.texts]
        inside = text >= 0
        none = np.zeros(int(inside.sum()), np.int64)
        return Points(text[inside], none, none, selection.rows[inside], none - 1, len(text))
    flat = store.index["offsets"].combine_chunks().flatten().to_numpy().astype(np.int64).reshape(-1, 2)
    special = store.index["special"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    first = np.concatenate([[0], np.cumsum(store.lengths)[:-1]])
    at = first[selection.texts] + selection.position
    (begin, end), text = flat[at].T, numbers[selection.texts]
    real = ~special[at].astype(bool)
    if how in ("prefix", "word"):
        real &= end > begin
        if not real.any():
            raise TransectError(
                f"{store.path}: the characters of its tokens are not known.",
                "Give texts and their tokens as strings, or align by text.",
            )
    inside = real & (text >= 0)
    columns = (text, begin, end, selection.rows, selection.position)
    return Points(*(c[inside] for c in columns), total=int(real.sum()))


def _keyed(points: Points, words: np.ndarray, how: str) -> Found:
    """The points of one run under their keys: text × SPAN + the character where they end, or the text."""
    if how == "word":
        return _word_ends(points, words)
    if how == "text":
        kept = np.flatnonzero(points.position != 0)  # the first token is often a sink: it would rule the mean
        kept = kept[np.argsort(points.text[kept], kind="stable")]
        keys, first = np.unique(points.text[kept], return_index=True)
        return Found(keys, points.row[kept], np.append(first, len(kept)))
    key = points.text if how == "last" else points.text * SPAN + points.end
    order = np.lexsort((points.position, key))
    last = np.append(key[order][1:] != key[order][:-1], True) if len(key) else order.astype(bool)
    return Found(key[order][last], points.row[order][last])


def _word_ends(points: Points, words: np.ndarray) -> Found:
    """The last token of each word that this run reads to its end."""
    key = points.text * SPAN + points.begin
    order = np.lexsort((points.position, key))
    text, _, end = words.T
    at = np.searchsorted(key[order], text * SPAN + end) - 1  # the last token that begins before the word ends
    token = order[np.maximum(at, 0)]
    complete = (at >= 0) & (points.text[token] == text) & (points.end[token] >= end)
    return Found((text * SPAN + end)[complete], points.row[token[complete]])


def _cut(texts: Texts, keys: np.ndarray, how: str) -> tuple[Texts, list[list[str]] | None, np.ndarray]:
    """The texts with aligned points, the characters that belong to each point, and where each text's points
    begin."""
    text, end = np.divmod(keys, SPAN) if how in ("prefix", "word") else (keys, keys)
    kept, first = np.unique(text, return_index=True)
    starts = np.append(first, len(keys))
    selected = texts.subset(kept.tolist())
    if how in ("text", "last"):
        return selected, None, starts
    pieces = []
    for sentence, a, b in zip(selected.texts, starts[:-1], starts[1:], strict=True):
        edges = [0, *end[a:b].tolist()]
        parts = [sentence[p:q] for p, q in itertools.pairwise(edges)]
        pieces.append([WORD.findall(piece)[-1] for piece in parts] if how == "word" else parts)
    return selected, pieces, starts


def _samples(store: Store, site: str, positions: Found, starts: np.ndarray, pooled: bool) -> Samples:
    """The aligned points of one site, read from the run's own store when they are asked for."""
    dtype = "float32" if positions.edges is not None else store.manifest["dtype"]["store"]

    def part(a: int, b: int) -> list[Raw]:
        return [_as_stored(positions.read(store, site, int(starts[a]), int(starts[b])), dtype)]

    return Samples(part, np.diff(starts), store.width(site), frozenset([dtype]), pooled)


def _as_stored(points: np.ndarray, dtype: str) -> Raw:
    """Points in the dtype that they were read from: nothing is rounded."""
    if dtype == "bfloat16":
        return Raw((points.view(np.uint32) >> 16).astype(np.uint16), dtype)
    return Raw(points.astype(dtype), dtype)
