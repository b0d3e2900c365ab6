"""What belongs to points that came as arrays: texts, labels, groups and tokens, a value for each sample."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from transect.errors import TransectError
from transect.store.checks import ARRAYS
from transect.store.samples import Samples
from transect.texts.columns import typed, whole_characters
from transect.texts.texts import Texts, Tokenized


def about(
    sites: Mapping[str, Samples],
    texts: Sequence[str] | Texts | None,
    labels: Any,
    tokens: Any,
    groups: Any,
) -> Texts:
    """The samples with texts, labels and groups. Raises: TransectError where sites or columns do not fit."""
    (first, one), *_ = sites.items()
    for site, other in sites.items():
        if len(other.lengths) != len(one.lengths):
            raise TransectError(
                f"{site} has {len(other.lengths)} samples, {first} has {len(one.lengths)}.",
                "Give the same samples at every site.",
            )
        if other.pooled != one.pooled or (other.lengths != one.lengths).any():
            i = int(np.argmax(other.lengths != one.lengths))
            raise TransectError(
                f"{site} has {other.lengths[i]} points in sample {i}, {first} has {one.lengths[i]}.",
                "Give the same tokens at every site.",
            )
    count = len(one.lengths)
    opened = isinstance(texts, Texts)
    columns = {**(texts.labels if opened else {}), **_labels(labels)}
    rows = [str(i) for i in range(count)] if texts is None else list(texts.texts if opened else texts)
    wanted = {"texts": rows, "tokens": tokens, "groups": groups}
    for what, column in (wanted | {f"label {n}": v for n, v in columns.items()}).items():
        if column is not None and not hasattr(column, "__len__"):
            raise TransectError(f"{what}: a {type(column).__name__} is no list.", "Give one a sample.")
        if column is not None and len(column) != count:
            raise TransectError(
                f"{what}: {len(column)} for {count} samples.", "Give one a sample, in their order."
            )
    if any(not isinstance(t, str) for t in rows):
        raise TransectError("a text is no string.", "Give one string a sample.")
    whole_characters("a text", rows)
    if groups is None:
        belongs = texts.groups if opened else None
    else:
        given = _plain(groups)
        if lack := sum(g is None or g != g for g in given):
            raise TransectError(f"groups: {lack} of {count} samples have none.", "Give each sample one.")
        belongs = [str(g) for g in given]
        whole_characters("a group", belongs)
    if opened:
        return Texts(
            rows, texts.ids, labels=columns, name=texts.name, spec=texts.spec, groups=belongs,
            notes=list(texts.notes),
        )  # fmt: skip
    ids = [str(i) for i in range(count)]
    name, spec = ("samples", ARRAYS) if texts is None else ("texts", "strings")
    return Texts(rows, ids, columns, name=name, spec=spec, groups=belongs)


def _labels(labels: Any) -> dict[str, list[Any]]:
    if labels is not None and not isinstance(labels, Mapping):
        raise TransectError("labels have no names.", 'Give {"month": [1, 2, …]}, a value a sample.')
    columns = {str(name): _plain(values) for name, values in (labels or {}).items()}
    for name, values in columns.items():
        if odd := [v for v in values if not isinstance(v, str | int | float | bool | type(None))]:
            raise TransectError(
                f"label {name!r:.80} holds a {type(odd[0]).__name__}.", "A label is one number or word."
            )
    return {name: typed(values, name) for name, values in columns.items()}


def _plain(values: Any) -> list[Any]:
    values = values.tolist() if hasattr(values, "tolist") else list(values)
    return [v.item() if isinstance(v, np.generic) else v for v in values]


def tokens_of(texts: Texts, lengths: np.ndarray, tokens: Any, pooled: bool) -> Tokenized:
    """Token ids and strings of the samples; without tokens all of them are token 0."""
    if tokens is not None and not all(
        hasattr(row, "__iter__") and not isinstance(row, str) for row in tokens
    ):
        raise TransectError("tokens are no lists.", "Give the tokens of each sample as a list.")
    rows = [[0] * int(n) for n in lengths] if tokens is None else [_plain(row) for row in tokens]
    kinds = {type(t) for row in rows for t in row}
    if not (kinds <= {str} or kinds <= {int}):
        raise TransectError("tokens are neither ids nor strings.", "Give whole numbers, or strings.")
    if odd := [t for row in rows for t in set(row) if isinstance(t, int) and not 0 <= t < 1 << 31]:
        raise TransectError(f"token {odd[0]}.", "Token ids are 0 or more and below 2^31.")
    for i, (row, n) in enumerate(zip(rows, lengths, strict=True)):
        if (not pooled and len(row) != n) or not row:
            raise TransectError(
                f"sample {i} has {len(row)} tokens and {n} points.", "Give a token for every point."
            )
    pieces: list[list[str]] = [["…" if tokens is None else str(t) for t in row] for row in rows]
    for row in pieces:
        whole_characters("a token", list(set(row)))
    number = {t: k for k, t in enumerate(sorted({t for row in rows for t in row}))} if kinds <= {str} else {}
    ids: list[list[int]] = [[number[t] for t in row] if number else row for row in rows]
    offsets = [_offsets(text, row) for text, row in zip(texts.texts, pieces, strict=True)]
    special = [[False] * len(row) for row in ids]
    return Tokenized(ids, offsets, special, texts.texts, kept=list(range(len(ids))), pieces=pieces)


def _offsets(text: str, pieces: Sequence[str]) -> list[tuple[int, int]]:
    """Characters of each token where they stand in the text one after another, else none for any."""
    at, spans = 0, []
    for piece in pieces:
        begin = text.find(piece, at) if piece else -1
        if begin < 0:
            return [(0, 0)] * len(pieces)
        at = begin + len(piece)
        spans.append((begin, at))
    return spans
