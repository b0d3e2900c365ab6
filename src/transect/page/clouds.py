"""The tokens behind the points: a cloud to look at, neighbours in the original space, what moves most, and
where words stand.

Runs in the worker process. The first token of every text is left out, as in the studies; what was left out
beyond that is said.
"""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from transect.errors import TransectError
from transect.models import sites
from transect.page.payload import few_labels, word
from transect.page.readings import context
from transect.store.selection import Selection
from transect.store.store import Store, open_store

#: Points of one run that are drawn, tokens behind the axes and the turn, hits and neighbours that are listed.
MOST, FIT, HITS, NEAR = 1_000_000, 2000, 300, 12
#: Bytes read at a time.
BLOCK = 32 << 20


def cloud(paths: list[str], site: str, unit: bool, file: Path) -> dict[str, Any]:
    """Every token of one or two runs on the first three principal axes of each; B is turned onto A where both
    hold the same tokens.

    `file` gets, for each run: float32 [n, 3], int32 texts [n], int32 positions [n], after a JSON header.
    """
    stores = [open_store(p) for p in paths]
    meta, parts, first = [], [], None
    for store in stores:
        selection = _spread(_all(store), MOST)
        axes, mean, share = _axes(store, site, selection, unit)
        Z = np.concatenate([(X - mean) @ axes for X in _read(store, site, selection, unit)]).astype("<f4")
        turned = False
        if first is not None and first[0].same_tokens(store) and len(first[1]) == len(Z):
            U, _, V = np.linalg.svd(Z.T.astype(np.float64) @ first[1].astype(np.float64))
            Z, turned = (Z @ (U @ V)).astype("<f4"), True
        first = first or (store, Z)
        parts += [
            Z.tobytes(),
            selection.texts.astype("<i4").tobytes(),
            selection.position.astype("<i4").tobytes(),
        ]
        meta.append(
            {"run": store.name, "n": len(Z), "all": len(_all(store)), "share": share, "turned": turned}
            | {"texts": len(store), "labels": few_labels(store)}
        )
    header = json.dumps({"site": site, "unit": unit, "runs": meta}).encode()
    header += b" " * (-len(header) % 4)
    file.write_bytes(struct.pack("<I", len(header)) + header + b"".join(parts))
    return {"bytes": file.stat().st_size}


def nearest(path: str, site: str, text: int, position: int, unit: bool) -> dict[str, Any]:
    """The tokens of other texts closest to one token, in the original space."""
    store = open_store(path)
    selection = _all(store)
    at = np.flatnonzero((selection.texts == text) & (selection.position == position))
    if not len(at):
        raise TransectError(
            f"{store.name} holds no point of text {text}, token {position}.", "Choose another."
        )
    x = _scaled(store.read(store.check_site(site), selection.rows[at]), unit)[0]
    far = np.concatenate([np.linalg.norm(X - x, axis=1) for X in _read(store, site, selection, unit)])
    far[selection.texts == text] = np.inf
    order = np.argsort(far, kind="stable")[:NEAR]
    rows = [_hit(store, selection, k, float(far[k])) for k in order if np.isfinite(far[k])]
    return {"site": site, "n": len(selection), "width": store.width(site), "unit": unit, "hits": rows}


def moved(path: str, site: str, unit: bool) -> dict[str, Any]:
    """The tokens that move most from a layer to the next."""
    store = open_store(path)
    here = sites.layer(store.check_site(site))
    kin = [s for s in store.sites if sites.family(s) == sites.family(site)]
    following = next((s for s in sorted(kin, key=sites.order) if (sites.layer(s) or 0) > (here or 0)), None)
    if following is None:
        raise TransectError(f"{site} is the last of its kind.", "Choose a layer above it.")
    selection = _all(store)
    pairs = zip(_read(store, site, selection, unit), _read(store, following, selection, unit), strict=True)
    far = np.concatenate([np.linalg.norm(Y - X, axis=1) for X, Y in pairs])
    rows = [_hit(store, selection, k, float(far[k])) for k in np.argsort(-far, kind="stable")[:NEAR]]
    summary = {"site": site, "site2": following, "n": len(far), "unit": unit, "median": float(np.median(far))}
    return summary | {"hits": rows}


def search(path: str, words: str, label: str = "", value: str = "") -> dict[str, Any]:
    """Where some words begin, by text; only in texts whose `label` is `value`, where one is named."""
    if not words.strip() and not label:
        raise TransectError("an empty search.", "Write a word, or choose a label.")
    store, sought = open_store(path), words.lower()
    labels = store.label(label) if label else None
    hits, count, texts = [], 0, 0
    for text in range(len(store)):
        if labels is not None and word(labels[text]) != value:
            continue
        texts += 1
        pieces = store.tokens(text)
        for at in _beginnings(pieces, sought):
            count += 1
            if len(hits) < HITS:
                hits.append(context(store, text, at, None))
    return {"count": count, "texts": texts, "hits": hits}


def _beginnings(pieces: list[str], sought: str) -> Iterator[int]:
    """Tokens in which the words begin; the first of the text where there are no words."""
    if not sought.strip():
        yield min(1, len(pieces) - 1)
        return
    ends = np.cumsum([len(p.lower()) for p in pieces])
    line, at, last = "".join(pieces).lower(), 0, -1
    while (at := line.find(sought, at)) >= 0:
        begun = at + len(sought) - len(sought.lstrip())
        token = int(np.searchsorted(ends, begun, side="right"))
        if token != last and token < len(pieces):
            yield token
        last, at = token, at + max(1, len(sought))


def _all(store: Store) -> Selection:
    if store.manifest["pool"]:
        raise TransectError(f"{store.name} holds one point per text, no tokens.", "Capture without --pool.")
    return store.select("all", False)


def _spread(selection: Selection, most: int) -> Selection:
    """As many points as may be drawn, evenly through all texts."""
    if len(selection) <= most:
        return selection
    return selection.subset(np.linspace(0, len(selection) - 1, most).astype(np.int64))


def _scaled(X: np.ndarray, unit: bool) -> np.ndarray:
    X = X.astype(np.float64)
    return X / np.maximum(np.linalg.norm(X, axis=1, keepdims=True), 1e-12) if unit else X


def _read(store: Store, site: str, selection: Selection, unit: bool) -> Iterator[np.ndarray]:
    size = max(1, BLOCK // (8 * store.width(store.check_site(site))))
    for begin in range(0, len(selection), size):
        yield _scaled(store.read(site, selection.rows[begin : begin + size]), unit)


def _axes(
    store: Store, site: str, selection: Selection, unit: bool
) -> tuple[np.ndarray, np.ndarray, list[float]]:
    """Principal axes [d, 3], mean [d] and the share of variance of each, of an even sample of the points."""
    some = _spread(selection, FIT)
    X = _scaled(store.read(store.check_site(site), some.rows), unit)
    mean = X.mean(axis=0)
    _, s, V = np.linalg.svd(X - mean, full_matrices=False)
    axes = np.zeros((X.shape[1], 3))
    axes[:, : min(3, len(V))] = V[:3].T
    axes *= np.where(axes[np.abs(axes).argmax(axis=0), range(3)] < 0, -1.0, 1.0)  # signs are arbitrary: fixed
    total = float((s**2).sum()) or 1.0
    return axes, mean, [float(v) for v in s[:3] ** 2 / total]


def _hit(store: Store, selection: Selection, k: Any, value: float) -> dict[str, Any]:
    return context(store, int(selection.texts[k]), int(selection.position[k]), value)
