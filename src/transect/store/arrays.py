"""A store from points that somebody else captured: `store_from_arrays({site: points}, out=DIR)`.

All arrays are read once: shapes, numbers that are not finite, and the sha256 of every shard, which together
are the store's identity. In a new folder shards are written aside in the same pass, read back, and get their
names when the manifest stands; into a store that was begun, a second pass writes what is missing.
"""

import functools
import hashlib
import json
import platform
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from transect import __version__
from transect.errors import TransectError
from transect.files import Place, is_remote, place
from transect.models import sites as site_names
from transect.models.foreign import sites_of
from transect.store.checks import ARRAYS
from transect.store.manifest import begin, identified, make_index, tokens_hash
from transect.store.sample_texts import about, tokens_of
from transect.store.samples import Samples, as_raw, runs, samples_of, stored_dtype
from transect.store.shard_write import make_shard
from transect.store.shards import NUMPY, SAFETENSORS
from transect.store.staging import Foreseen, fill, staged_pass
from transect.store.store import Store, open_store
from transect.texts.columns import whole_characters
from transect.texts.texts import Texts, Tokenized

#: Size of a shard.
SHARD_BYTES = 512 << 20


def store_from_arrays(
    points: Any,
    out: Place,
    name: str | None = None,
    texts: Sequence[str] | Texts | None = None,
    labels: Any = None,
    tokens: Any = None,
    groups: Any = None,
    mask: Any = None,
) -> Store:
    """Write points that are there already into a store, and open it; no model is needed.

    Equal arrays find the store that is there; other ones are refused, and nothing is changed.

    >>> ts.store_from_arrays({"resid.0": [np.ones((7, 64)), np.ones((5, 64))]}, out="runs/mine")

    Args:
        points: Site → a list of arrays [tokens, width], one a sample; or an array [samples, tokens, width]
            with `mask`; or an array [samples, width], one point a sample. Sites are named as ours, or as in
            TransformerLens and Hugging Face's modules. A sequence of arrays is transformers' hidden_states.
            float16, bfloat16 and float32 are kept, float64 becomes float32.
        out: A folder, or PROTOCOL://… that fsspec reaches.
        name: Short name of this run in tables and figures; by default that of the folder.
        texts: A string a sample; by default its number. Open texts bring labels and groups along.
        labels: Name → a value a sample.
        tokens: The tokens of each sample, as ids or as strings.
        groups: What samples are part of, a value a sample: a probe holds it out whole.
        mask: [samples, tokens], True where a token is real; "all" where nothing is padded.

    Raises: TransectError for arrays that do not fit each other, are empty, or hold NaN or inf.
    """
    named, notes = _named(points)
    sites = {site: samples_of(site, value, mask) for site, value in named.items()}
    return write_samples(sites, out, name, about(sites, texts, labels, tokens, groups), tokens, notes)


def _named(points: Any) -> tuple[dict[str, Any], list[str]]:
    """Points by our sites, in our order, and notes on what was left out."""
    if isinstance(points, list | tuple):
        return {f"resid.{k}": one for k, one in enumerate(points)}, last_note(len(points) - 1)
    if not hasattr(points, "items"):
        raise TransectError(f"points are a {type(points).__name__}.", 'Give {"resid.0": [array, …], …}.')
    mapping = dict(points.items())
    if odd := [n for n in mapping if not isinstance(n, str)]:
        raise TransectError(f"{odd[0]!r:.80} is no site.", "Sites are strings, like resid.12.")
    return chosen_names(mapping)


def last_note(last: int) -> list[str]:
    """What to know of the last of transformers' hidden_states."""
    return [f"resid.{last} is the last of hidden_states: most models norm it, unlike a captured resid.{last}"]


def chosen_names(mapping: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Values by our sites, in our order. Two names of one site must hold the same. Raises: TransectError."""
    by_site, left = sites_of(mapping)
    notes = [f"{len(left)} names that are no sites left out: {', '.join(left[:10])}"] if left else []
    if not by_site:
        raise TransectError("no points.", 'Give {"resid.0": [array, …], …}.')
    for site, names in by_site.items():
        for other in names[1:]:
            if not _equal(mapping[names[0]], mapping[other]):
                raise TransectError(
                    f"{names[0]} and {other} are both {site} and hold different points.", "Give one of them."
                )
    return {s: mapping[by_site[s][0]] for s in sorted(by_site, key=site_names.order)}, notes


def _equal(one: Any, two: Any) -> bool:
    parts = [v if isinstance(v, list | tuple) else [v] for v in (one, two)]
    return len(parts[0]) == len(parts[1]) and all(
        np.array_equal(as_raw(a, "").array, as_raw(b, "").array) for a, b in zip(*parts, strict=True)
    )


# writing


def write_samples(
    sites: Mapping[str, Samples],
    out: Place,
    name: str | None,
    texts: Texts,
    tokens: Any = None,
    notes: Iterable[str] = (),
    more: Mapping[str, Any] | None = None,
) -> Store:
    """The store of these samples: read once for their identity, then written shard by shard. `more` stands in
    the manifest as a part of what was captured."""
    out = place(out)
    if name is not None and not isinstance(name, str):
        raise TransectError(f"name={name!r:.80}.", "Give a word.")
    whole_characters("the name", [name or ""])
    one = next(iter(sites.values()))
    dtypes = sorted({d for s in sites.values() for d in s.dtypes})
    dtype = stored_dtype(dtypes)
    widths = {site: s.width for site, s in sites.items()}
    row_bytes = NUMPY[SAFETENSORS[dtype]].itemsize * sum(widths.values())
    tokenized = tokens_of(texts, one.lengths, tokens, one.pooled)
    shards = runs(one.lengths, max(1, SHARD_BYTES // row_bytes))
    plan = [[list(range(a, b))] for a, b in shards]
    pool = "given" if one.pooled else None
    note = f"stored as {dtype}: came as {', '.join(dtypes)}"
    notes = [*notes, *texts.notes, *([note] if dtypes != [dtype] else [])]
    if not out.exists():
        _check_space(out, row_bytes, [int(one.lengths[a:b].sum()) for a, b in shards])
    with staged_pass(out, sites, shards, dtype) as (foreseen, staged):
        manifest = _manifest(
            name or _name_of(out), _digest(sites, dtype, foreseen), texts, tokenized, widths, dtype, plan,
            pool, notes, more or {},
        )  # fmt: skip
        kept = [np.arange(n) for n in one.lengths]
        index = make_index(texts, tokenized, kept, one.lengths.tolist(), plan, "all", pool)
        begin(out, manifest, plan, index)
        store = open_store(out)
        store.check_receipts()
        _check_space(out, row_bytes, [store.rows_in(k) for k in store.unfinished if k not in staged])
        for k in store.unfinished:
            again = functools.partial(fill, sites, *shards[k], dtype, foreseen[k])
            make_shard(store, k, widths, again, staged.get(k))
    return open_store(out)


def _name_of(out: Place) -> str:
    """The name of a folder, "." too."""
    return (out if is_remote(out) else out.resolve()).name or "arrays"


def _manifest(
    name: str,
    digest: str,
    texts: Texts,
    tokenized: Tokenized,
    widths: dict[str, int],
    dtype: str,
    plan: list,
    pool: str | None,
    notes: list[str],
    more: Mapping[str, Any],
) -> dict[str, Any]:
    weights = {"weights": digest, "adapter": None, "tokenizer": None, "config": None, "dtype": dtype}
    identity = {
        "model": {"name": name, "spec": ARRAYS, "kind": ARRAYS, "fingerprint": weights, "heads": None},
        "texts": {
            "name": texts.name,
            "spec": texts.spec,
            "fingerprint": texts.fingerprint,
            "count": len(texts),
            "chat": False,
        },
        "unit": "sample" if texts.spec == ARRAYS else "text",
        "tokens_hash": tokens_hash(tokenized),
        "sites": {site: {"width": width} for site, width in widths.items()},
        "dtype": {"compute": dtype, "store": dtype},
        "attention": None,
        "plan_hash": hashlib.sha256(json.dumps(plan).encode()).hexdigest(),
        "positions": "all",
        "pool": pool,
        "position0": True,
        "max_length": None,
        "shuffle_tokens": None,
        **more,
    }
    origin = {"transect": __version__, "numpy": np.__version__, "python": platform.python_version()}
    return identified(identity, {"additive_error": None, "notes": notes, "origin": origin})


def _digest(sites: Mapping[str, Samples], dtype: str, shards: Sequence[Foreseen]) -> str:
    """sha256 over sites, widths, lengths and the shards as they will be."""
    parts = [f"{site}:{dtype}:{s.width}:{s.lengths.tolist()}" for site, s in sites.items()]
    return hashlib.sha256("\n".join([*parts, *(s.sha256 for s in shards)]).encode()).hexdigest()


def _check_space(out: Place, row_bytes: int, rows: list[int]) -> None:
    need = row_bytes * (max(rows, default=0) if is_remote(out) else sum(rows))
    disk = (
        tempfile.gettempdir()
        if is_remote(out)
        else next(p for p in (out, *out.absolute().parents) if p.exists())
    )
    free = shutil.disk_usage(disk).free
    if need > free:
        raise TransectError(
            f"{out}: the points need {need / 1e9:.2f} GB, {free / 1e9:.2f} GB are free.",
            "Give fewer sites, or convert them to bfloat16 first.",
        )
