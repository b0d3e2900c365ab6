"""One pass over samples: the checksums of every shard as it will be and, in a new folder, the shards."""

import contextlib
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from transect.errors import TransectError
from transect.files import Place, is_remote, remove_empty
from transect.store.manifest import is_begun
from transect.store.samples import Samples
from transect.store.shard_write import filling
from transect.store.shards import Beside, Sha256, ShardWriter, shard_header, shard_name, widen

#: What is held of one site while it is read or written.
BLOCK_BYTES = 8 << 20


class Foreseen(NamedTuple):
    """A shard before it is written: the sha256 of its file, the CRC-32 of every block in order of writing,
    the largest |x| of every site."""

    sha256: str
    crcs: list[int]
    peak: dict[str, float]


@contextlib.contextmanager
def staged_pass(
    out: Place, sites: Mapping[str, Samples], shards: Sequence[tuple[int, int]], dtype: str
) -> Iterator[tuple[list[Foreseen], dict[int, ShardWriter]]]:
    """What is known of every shard after one pass over the points, and those that were written in it: all of
    a new folder on a disk. Those that got no name are removed, and folders that stay empty."""
    foreseen, staged = list[Foreseen](), dict[int, ShardWriter]()
    if is_remote(out) or is_begun(out):
        yield [foresee(sites, a, b, dtype) for a, b in shards], staged
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
                foreseen.append(foresee(sites, a, b, dtype, staged[k]))
                staged[k].seal(foreseen[-1].sha256, _pieces(sites, a, b, dtype))
        yield foreseen, staged


def foresee(
    sites: Mapping[str, Samples], first: int, end: int, dtype: str, writer: ShardWriter | None = None
) -> Foreseen:
    """Samples `first` to `end` - 1 as the shard that they will be, put into it where it is begun. Raises:
    TransectError for NaN and inf."""
    digest, crcs, peak = Sha256(), list[int](), dict.fromkeys(sites, 0.0)
    digest.take(_header(sites, first, end, dtype))
    with contextlib.closing(Beside(writer.put if writer else _checksum(crcs))) as disk:
        for site, row, at, block in _blocks(sites, first, end, dtype):
            data = block.data.cast("B")
            digest.take(data)
            disk.take(site, row, data, 0)
            peak[site] = max(peak[site], largest := _peak(block))
            if not np.isfinite(largest):
                _refuse(site, sites[site], at, np.isfinite(widen(block)))
    return Foreseen(digest.hexdigest(), crcs, peak)


def _checksum(crcs: list[int]) -> Callable[..., None]:
    """Instead of a shard: the CRC-32 of what would be put into it."""
    return lambda site, row, data, crc: crcs.append(zlib.crc32(data))


def _pieces(sites: Mapping[str, Samples], first: int, end: int, dtype: str) -> Iterator[Any]:
    """All that a shard of these samples holds, in its order."""
    yield _header(sites, first, end, dtype)
    for *_, block in _blocks(sites, first, end, dtype):
        yield block.data.cast("B")


def _header(sites: Mapping[str, Samples], first: int, end: int, dtype: str) -> bytes:
    """What the shard of these samples begins with."""
    rows = int(next(iter(sites.values())).lengths[first:end].sum())
    return shard_header({site: s.width for site, s in sites.items()}, rows, dtype)


def _blocks(
    sites: Mapping[str, Samples], first: int, end: int, dtype: str
) -> Iterator[tuple[str, int, int, np.ndarray]]:
    """(site, row in the shard, sample that it begins with, block), in the order of a shard."""
    for site, samples in sites.items():
        row = 0
        for at, block in samples.blocks(first, end, dtype, BLOCK_BYTES):
            yield site, row, at, block
            row += len(block)


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


def fill(
    sites: Mapping[str, Samples], first: int, end: int, dtype: str, foreseen: Foreseen, writer: ShardWriter
) -> dict[str, Any]:
    """Put samples `first` to `end` - 1 into a shard, site by site; what its receipt says of them."""
    crcs = iter(foreseen.crcs)
    for site, row, _, block in _blocks(sites, first, end, dtype) if writer.open else ():
        writer.put(site, row, block.data.cast("B"), next(crcs))
    return {"max_abs": foreseen.peak, "splits": [], "sha256": foreseen.sha256}
