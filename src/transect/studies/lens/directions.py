"""A direction in words: the tokens that it pushes up and down most, beside other directions.

Its score for a token is half the difference of the logits that the model makes of it and of its opposite, so
that what the head adds to any state cancels. Random directions of any kind have top tokens too.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from transect.errors import TransectError
from transect.files import local
from transect.models.edit import Blocks
from transect.random import rng
from transect.store.array_files import open_arrays
from transect.store.samples import widen
from transect.store.store import Store, open_store
from transect.studies.judging import blocks_of


def directions(spec: Sequence[str], site: str, width: int) -> dict[str, np.ndarray]:
    """Name → direction [width]: the arrays of a file, or the difference of two stores' means at a site.

    Args:
        spec: One .npy or .safetensors file of vectors [width] or [k, width], or two stores: second − first.

    Raises: TransectError for another width, directions of norm 0 or not finite, and anything else.
    """
    vectors = _difference(spec, site) if len(spec) == 2 else _read(spec)
    for name, v in vectors.items():
        if v.shape != (width,):
            raise TransectError(f"{name}: shape {list(v.shape)}; the head reads {width}.", "Give others.")
        if not np.isfinite(v).all() or not np.linalg.norm(v):
            raise TransectError(f"{name}: no direction (norm {np.linalg.norm(v):g}).", "Leave it out.")
    return vectors


def _difference(spec: Sequence[str], site: str) -> dict[str, np.ndarray]:
    a, b = (open_store(s) for s in spec)
    means = []
    for store in (a, b):
        total, count = np.zeros(store.width(store.check_site(site))), 0
        for part in store.blocks(site, position0=False):
            total, count = total + part.sum(axis=0, dtype=np.float64), count + len(part)
        means.append(total / count)
    return {f"{b.name} − {a.name} at {site}": means[1] - means[0]}


def _read(spec: Sequence[str]) -> dict[str, np.ndarray]:
    if len(spec) != 1:
        raise TransectError(f"{len(spec)} directions.", "Give one file, or two stores with a comma.")
    file = local(spec[0])
    if not Path(file).is_file():
        raise TransectError(f"{spec[0]} is no file.", "Give one file, or two stores with a comma.")
    vectors: dict[str, np.ndarray] = {}
    with open_arrays(Path(file)) as held:
        for name, raw in (held if isinstance(held, dict) else {Path(file).stem: held}).items():
            array = widen(np.asarray(raw.array if hasattr(raw, "array") else raw)).astype(np.float64)
            rows = array[None] if array.ndim == 1 else array.reshape(-1, array.shape[-1])
            vectors |= {name if len(rows) == 1 else f"{name} {k}": v for k, v in enumerate(rows)}
    return vectors


def read_out(
    store: Store, vectors: dict[str, np.ndarray], site: str, *, top: int, draws: int, seed: int
) -> list[dict[str, Any]]:
    """Rows of the top tokens of each direction, of both signs: score, and as null the top scores of random
    directions (mean and 95 % range); `pairs_high`: 97.5 % of those of differences of two states at the site,
    of tokens of different texts.

    Scores are per unit of the direction's norm, times the mean norm of the states."""
    blocks = blocks_of(store)
    width, states = store.width(site), _states(store, site, 2 * draws, seed)
    random = rng(seed, "directions").standard_normal((draws, width))
    chance = pushed(blocks, random).max(axis=1)
    pairs = pushed(blocks, states[:draws] - states[draws:]).max(axis=1)
    summary = {"null": float(chance.mean()), "pairs_high": float(np.quantile(pairs, 0.975)), "draws": draws}
    summary |= dict(zip(("null_low", "null_high"), np.quantile(chance, [0.025, 0.975]).tolist(), strict=True))
    rows = []
    for name, v in vectors.items():
        score = pushed(blocks, v[None])[0]
        order = np.argsort(score)
        for sign, picks in (("+", order[::-1][:top]), ("−", order[:top])):
            for rank, token in enumerate(picks.tolist(), 1):
                row = {"measure": "direction_score", "run": store.name, "site": site, "direction": name}
                row |= {"sign": sign, "rank": rank, "word": blocks.model.tokenizer.decode([token])}
                row |= {"value": abs(float(score[token])), "token_id": token, "seed": seed, "status": "ok"}
                rows.append(row | summary | {"control": "random directions"})
    return rows


def pushed(blocks: Blocks, V: np.ndarray) -> np.ndarray:
    """Score of every token [k, vocabulary] for directions [k, width], in logits about their mean."""
    V = V / np.linalg.norm(V, axis=1, keepdims=True) * np.sqrt(V.shape[1])
    both = [blocks.readout(torch.from_numpy((s * V).astype(np.float32))).float() for s in (1, -1)]
    score = ((both[0] - both[1]) / 2).cpu().numpy()
    return score - score.mean(axis=1, keepdims=True)


def _states(store: Store, site: str, count: int, seed: int) -> np.ndarray:
    """States of tokens drawn by the seed, position 0 left out, float64 [count, width]."""
    rows = store.select("all", False).rows
    drawn = rng(seed, "states").choice(rows, count, replace=len(rows) < count)
    return store.read(site, drawn).astype(np.float64)
