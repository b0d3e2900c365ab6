"""A store from points that somebody else captured: `store_from_arrays({site: points}, out=DIR)`.

All arrays are read once: shapes, numbers that are not finite, and the sha256 of every shard, which together
are the store's identity. In a new folder shards are written aside in the same pass, read back, and get their
names when the manifest stands; into a store that was begun, a second pass writes what is missing.
"""

import contextlib
import functools
import hashlib
import json
import platform
import shutil
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from transect import __version__
from transect.errors import TransectError
from transect.files import Place, is_remote, place, remove_empty
from transect.models import sites as site_names
from transect.models.foreign import sites_of
from transect.store.manifest import begin, identified, is_begun, make_index, tokens_hash
from transect.store.recapture import ARRAYS
from transect.store.sample_texts import about, tokens_of
from transect.store.samples import Samples, as_raw, runs, samples_of, stored_dtype
from transect.store.shard_write import filling, make_shard
from transect.store.shards import NUMPY, SAFETENSORS, Sha256, ShardWriter, shard_header, shard_name, widen
from transect.store.store import Store, open_store
from transect.texts.texts import Texts, Tokenized

#: Size of a shard, and of what is held of one site while it is written.
SHARD_BYTES, BLOCK_BYTES = 512 << 20, 8 << 20


class Foreseen(NamedTuple):
    """A shard before it is written: the sha256 of its file, the CRC-32 of every block in order of writing,
    the largest |x| of every site."""

    sha256: str
    crcs: list[int]
    peak: dict[str, float]


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
        groups: What samples are resampled by, a value a sample; by default each by itself.
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
    out = place(str(out))
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
    with _staging(out, sites, shards, dtype) as (foreseen, staged):
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
            fill = functools.partial(_fill, sites, *shards[k], dtype, foreseen[k])
            make_shard(store, k, widths, fill, staged.get(k))
    return open_store(out)


@contextlib.contextmanager
def _staging(
    out: Place, sites: Mapping[str, Samples], shards: Sequence[tuple[int, int]], dtype: str
) -> Iterator[tuple[list[Foreseen], dict[int, ShardWriter]]]:
    """What is known of every shard after one pass over the points, and those that were written in it: all of
    a new folder on a disk. Those that got no name are removed, and folders that stay empty."""
    foreseen, staged = list[Foreseen](), dict[int, ShardWriter]()
    if is_remote(out) or is_begun(out):
        yield [_foresee(sites, a, b, dtype) for a, b in shards], staged
        return
    folder, widths = out / "shards", {site: s.width for site, s in sites.items()}
    absent = [p for p in (folder, out, *out.parents) if not p.exists()]
    with contextlib.ExitStack() as dropped:
        for path in reversed(absent):
            dropped.callback(remove_empty, path)
        for k, (a, b) in enumerate(shards):
            with filling(out, k, len(shards), lambda: 0):
                path, rows = folder / shard_name(k), int(next(iter(sites.values())).lengths[a:b].sum())
                staged[k] = ShardWriter(path, widths, rows, dtype)
                dropped.callback(staged[k].abandon)
                foreseen.append(_foresee(sites, a, b, dtype, staged[k]))
                staged[k].seal(foreseen[-1].sha256)
        yield foreseen, staged


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


def _foresee(
    sites: Mapping[str, Samples], first: int, end: int, dtype: str, writer: ShardWriter | None = None
) -> Foreseen:
    """Samples `first` to `end` - 1 as the shard that they will be, put into it where it is begun. Raises:
    TransectError for NaN and inf."""
    rows = int(next(iter(sites.values())).lengths[first:end].sum())
    digest, crcs, peak = Sha256(), list[int](), dict.fromkeys(sites, 0.0)
    digest.update(shard_header({site: s.width for site, s in sites.items()}, rows, dtype))
    for site, samples in sites.items():
        row = 0
        for at, block in samples.blocks(first, end, dtype, BLOCK_BYTES):
            data = block.data.cast("B")
            digest.update(data)
            peak[site] = max(peak[site], largest := _peak(block))
            if not np.isfinite(largest):
                _refuse(site, samples, at, np.isfinite(widen(block)))
            crcs.append(zlib.crc32(data))
            if writer:
                writer.put(site, row, data, crcs[-1])
            row += len(block)
    return Foreseen(digest.hexdigest(), crcs, peak)


def _peak(block: np.ndarray) -> float:
    """Largest |x|, NaN where one is: bits without their sign are in the order of |x|, NaN above infinity."""
    bits = block.view(f"u{block.itemsize}")
    largest = (bits & bits.dtype.type(np.iinfo(bits.dtype).max >> 1)).max(keepdims=True)
    return float(widen(largest.view(block.dtype)).item())


def _refuse(site: str, samples: Samples, first: int, finite: np.ndarray) -> None:
    """Name the first sample with values that are not finite: rows `finite` begin with sample `first`."""
    row = int(np.argmin(finite.all(axis=1)))
    ends = np.cumsum(samples.lengths[first:])
    i = first + int(np.searchsorted(ends, row, side="right"))
    begin = int(ends[i - first] - samples.lengths[i])
    mine = finite[begin : begin + samples.lengths[i]]
    came = all(np.isfinite(widen(raw.array)).all() for raw in samples.part(i, i + 1))
    raise TransectError(
        f"{site}: {int((~mine).sum())} of {mine.size} values of sample {i} are "
        f"{'beyond float32' if came else 'NaN or inf'}.",
        f"Leave that sample out, or {'scale' if came else 'mend'} it.",
    )


def _fill(
    sites: Mapping[str, Samples], first: int, end: int, dtype: str, foreseen: Foreseen, writer: ShardWriter
) -> dict[str, Any]:
    """Put samples `first` to `end` - 1 into a shard, site by site; what its receipt says of them."""
    crcs = iter(foreseen.crcs)
    for site, samples in sites.items() if writer.open else ():
        row = 0
        for _, block in samples.blocks(first, end, dtype, BLOCK_BYTES):
            writer.put(site, row, block.data.cast("B"), next(crcs))
            row += len(block)
    return {"max_abs": foreseen.peak, "splits": [], "sha256": foreseen.sha256}


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
