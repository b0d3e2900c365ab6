"""Token columns: positions that mean the same in every text, found from landmarks, never from token indices.

Between two landmarks that are equally far apart in every text, every position is a column. Where their
distance varies (a day of one or two digits), only the words that are the same token in all texts are; the
rest is masked, and counted.
"""

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from transect.errors import TransectError
from transect.store.selection import resolve
from transect.store.store import Store


@dataclass(frozen=True)
class Column:
    """One position in every text: its selector for `Store.select`, the token most texts have there, its
    landmark."""

    token: str
    piece: str
    landmark: str | None = None
    status: str = "ok"


def columns(
    store: Store, tokens: Sequence[str] | None = None, *, position0: bool = False
) -> tuple[list[Column], list[str]]:
    """(columns in reading order, notes on what was masked). tokens: selectors of your own instead of all
    positions.

    A column that some texts lack has a status that counts them. position0=False masks columns that are the
    first token of any text (the sink).
    """
    pieces = store.index["pieces"].to_pylist()
    if tokens is None and store.manifest["pool"]:
        tokens = ["all"]  # one point a text: no position to choose
    if tokens is not None:
        return [_asked(store, str(token), pieces, position0) for token in tokens], []
    anchors, notes = _anchors(store)
    placed: list[tuple[np.ndarray, Column]] = []
    ends = [("start", np.full(len(store), -1)), *anchors, ("end", store.lengths)]
    for (name, at), (after, until) in itertools.pairwise(ends):
        if name != "start":
            placed.append((at, Column(f"landmark:{name}", _piece(pieces, at), name)))
        offsets, note = _between(store, pieces, (name, at), (after, until))
        placed += offsets
        notes += note
    kept = [(at, c) for at, c in placed if position0 or (at > 0).all()]
    if dropped := [c for at, c in placed if not position0 and not (at > 0).all()]:
        names = ", ".join(f"{c.token} ({c.piece!r})" for c in dropped)
        notes.append(f"position 0 left out (the sink): {names}")
    if not kept:
        raise TransectError(f"{store.path}: no position is comparable in all texts.", "Name tokens yourself.")
    return [c for _, c in kept], notes


def _anchors(store: Store) -> tuple[list[tuple[str, np.ndarray]], list[str]]:
    """Landmarks that every text has, in the one order that they have in every text."""
    at, notes = {}, []
    for name in store.landmarks:
        place = store.index[f"landmark:{name}"].fill_null(-1).to_numpy().astype(np.int64)
        if (place < 0).any():
            notes.append(f"landmark {name}: masked, {int((place < 0).sum())} of {len(store)} texts lack it")
        else:
            at[name] = place
    if not at:
        raise TransectError(
            f"{store.path}: no landmark that all texts have; positions cannot be compared.",
            "Use texts with landmarks (a template set), or name tokens yourself.",
        )
    kept: list[tuple[str, np.ndarray]] = []
    for name in sorted(at, key=lambda n: (float(at[n].mean()), n)):
        if not kept or (at[name] > kept[-1][1]).all():
            kept.append((name, at[name]))
        elif not (at[name] == kept[-1][1]).all():
            crossed = int((at[name] <= kept[-1][1]).sum())
            notes.append(
                f"landmark {name}: masked, it stands before {kept[-1][0]} in {crossed} of {len(store)} texts"
            )
    return kept, notes


def _between(
    store: Store, pieces: list[list[str]], left: tuple[str, np.ndarray], right: tuple[str, np.ndarray]
) -> tuple[list[tuple[np.ndarray, Column]], list[str]]:
    gaps = right[1] - left[1] - 1
    if right[0] == "end" and left[0] != "start":
        gaps = gaps.clip(max=int(gaps.min())) if (gaps != gaps[0]).any() else gaps
    if (gaps == gaps[0]).all():
        return [_offset(pieces, left, right, k) for k in range(1, int(gaps[0]) + 1)], []
    least = int(gaps.min())
    forward = 0 if left[0] == "start" else _same(pieces, left[1], 1, least)
    backward = 0 if right[0] == "end" else _same(pieces, right[1], -1, least - forward)
    offsets = [_offset(pieces, left, right, k) for k in range(1, forward + 1)]
    offsets += [_offset(pieces, left, right, -k) for k in range(backward, 0, -1)]
    usual = Counter(gaps.tolist()).most_common(1)[0][0]
    note = (
        f"between {left[0]} and {right[0]}: {least - forward - backward} to"
        f" {int(gaps.max()) - forward - backward} "
        "positions"
        f" masked, {int((gaps != usual).sum())} of {len(store)} texts differ from the usual length"
    )
    return offsets, [note]


def _offset(
    pieces: list[list[str]], left: tuple[str, np.ndarray], right: tuple[str, np.ndarray], k: int
) -> tuple[np.ndarray, Column]:
    """The k-th position after `left`, or before `right` when k is negative, or where there is nothing on the
    left."""
    if left[0] == "start" and k > 0:
        at = left[1] + k
        k = int((at - right[1])[0])
    name, base = right if k < 0 else left
    return base + k, Column(f"landmark:{name}{k:+d}", _piece(pieces, base + k))


def _same(pieces: list[list[str]], base: np.ndarray, step: int, most: int) -> int:
    """How many positions from `base` on hold one and the same token in every text."""
    for k in range(1, most + 1):
        if len({row[int(at) + step * k] for row, at in zip(pieces, base, strict=True)}) > 1:
            return k - 1
    return most


def _piece(pieces: list[list[str]], at: np.ndarray) -> str:
    """The token most texts have there; … where fewer than half agree."""
    [(piece, count)] = Counter(row[int(k)] for row, k in zip(pieces, at, strict=True)).most_common(1)
    return piece if 2 * count > len(pieces) else "…"


def _asked(store: Store, token: str, pieces: list[list[str]], position0: bool) -> Column:
    selection = store.select(token) if store.manifest["pool"] else resolve(store, token, True)
    bare = token.removeprefix("landmark:")
    landmark = bare if bare in store.landmarks else None
    if selection.pooled or len(selection) > len(store):
        raise TransectError(
            f"{token!r} is not one token a text.", "Write landmark:NAME+k, last, or a position."
        )
    if selection.missing:
        count, first = len(selection.missing), store.ids[selection.missing[0]]
        lack = f"{count} of {len(store)} texts have no such token (first: {first})"
        return Column(token, "", landmark, lack)
    first = int((selection.position == 0).sum())
    status = f"position 0 of {first} of {len(store)} texts (the sink)" if first and not position0 else "ok"
    return Column(token, _piece(pieces, selection.position), landmark, status)
