"""The points of one site by sample, whatever they came as.

A list of arrays, a padded array with its mask, one array of all rows with lengths, or one point a sample.
Nothing is copied before it is written.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from transect.errors import TransectError
from transect.store.shards import NUMPY, SAFETENSORS, widen


@dataclass(frozen=True)
class Raw:
    """An array and the name of its dtype; bfloat16 lies in it as the upper half of a float32."""

    array: np.ndarray
    dtype: str


@dataclass(frozen=True)
class Samples:
    """One site: `part(a, b)` gives the points of samples a to b - 1 as they came, as arrays [rows, width] to
    lay end to end; `lengths` [samples] are their rows."""

    part: Callable[[int, int], list[Raw]]
    lengths: np.ndarray
    width: int
    dtypes: frozenset[str]
    pooled: bool

    def blocks(self, first: int, end: int, dtype: str, size: int) -> Iterator[tuple[int, np.ndarray]]:
        """(sample, rows [n, width] from it on, in the stored dtype), at most `size` bytes or one sample at a
        time."""
        most = max(1, size // (NUMPY[SAFETENSORS[dtype]].itemsize * self.width))
        for a, b in runs(self.lengths[first:end], most):
            rows = [cast(raw, dtype) for raw in self.part(first + a, first + b)]
            yield first + a, rows[0] if len(rows) == 1 else np.concatenate(rows)


def runs(lengths: np.ndarray, most: int) -> list[tuple[int, int]]:
    """Samples in runs [a, b) of at most `most` rows; a longer one is a run of its own."""
    edges, filled = [0], 0
    for i, n in enumerate(lengths.tolist()):
        if filled and filled + n > most:
            edges.append(i)
            filled = 0
        filled += n
    return list(itertools.pairwise([*edges, len(lengths)]))


def as_raw(value: Any, what: str) -> Raw:
    """An array of numbers with a fraction from NumPy, torch, JAX or nested lists, not copied where it can be
    helped. Raises: TransectError."""
    if isinstance(value, Raw):
        return value
    if hasattr(value, "detach") and hasattr(value, "data_ptr"):  # torch, without importing it
        name = str(value.dtype).removeprefix("torch.")
        try:  # nested, sparse and meta tensors hold no array
            tensor = value.detach().cpu().resolve_conj().resolve_neg()
            if name == "bfloat16":
                import torch

                return Raw(tensor.contiguous().view(torch.int16).numpy().view(np.uint16), name)
            value = tensor.numpy() if name in SAFETENSORS else np.empty(0, np.int8)
        except (RuntimeError, TypeError) as error:
            raise TransectError(
                f"{what}: no array of numbers ({error!s:.80}).", "Give dense tensors [tokens, width]."
            ) from error
    elif np.ma.is_masked(value):
        raise TransectError(f"{what}: a masked array.", "Leave those rows out; for padding give mask.")
    else:
        try:
            value = np.asarray(value)
        except (TypeError, ValueError) as error:
            raise TransectError(
                f"{what}: no array of numbers ({error!s:.80}).", "Give arrays [tokens, width]."
            ) from error
        name = value.dtype.name
    if name == "bfloat16":  # JAX's
        return Raw(np.ascontiguousarray(value).view(np.uint16), name)
    if name not in SAFETENSORS:
        raise TransectError(
            f"{what}: its dtype is {name}.", f"Points are one of {', '.join(SAFETENSORS)}: convert them."
        )
    return Raw(value, name)


def cast(raw: Raw, dtype: str) -> np.ndarray:
    """The array in the stored `dtype`, which holds every value of its own (but for float64's digits)."""
    if raw.dtype == dtype:
        return np.ascontiguousarray(raw.array, NUMPY[SAFETENSORS[dtype]])
    with np.errstate(over="ignore"):  # what float32 does not hold is found as infinite
        return np.ascontiguousarray(widen(raw.array), np.float32)


def stored_dtype(dtypes: Sequence[str]) -> str:
    """The dtype that a store of these keeps: their own where it is one, else float32."""
    only = set(dtypes)
    return only.pop() if len(only) == 1 and only != {"float64"} else "float32"


def samples_of(site: str, value: Any, mask: Any = None, lengths: np.ndarray | None = None) -> Samples:
    """The points of a site, from what somebody has of it.

    Args:
        value: A list of arrays [tokens, width], an array [samples, tokens, width] with `mask`, an array
            [rows, width] with `lengths`, or an array [samples, width]: one point a sample.
        mask: [samples, tokens] bool, True where a token is real; "all" where every one is.
        lengths: Rows of each sample.

    Raises: TransectError, naming site and sample.
    """
    if isinstance(value, list | tuple):
        return _listed(site, value)
    raw = as_raw(value, site)
    array = _heads_joined(site, raw.array, 4)
    if array.ndim == 3:
        return _masked(site, Raw(array, raw.dtype), mask)
    if array.ndim != 2:
        raise TransectError(
            f"{site}: an array of shape {array.shape}.",
            "Give a list of [tokens, width], [samples, tokens, width] with a mask, or [samples, width].",
        )
    if lengths is None:
        return _cut(site, Raw(array, raw.dtype), np.ones(len(array), np.int64), pooled=True)
    return _cut(site, Raw(array, raw.dtype), lengths, pooled=False)


def _heads_joined(site: str, array: np.ndarray, dimensions: int) -> np.ndarray:
    """Heads side by side, where they are an axis of their own."""
    if site.endswith(".head") and array.ndim == dimensions:
        return array.reshape(*array.shape[:-2], -1)
    return array


def _listed(site: str, value: Sequence[Any]) -> Samples:
    parts = []
    for i, one in enumerate(value):
        raw = as_raw(one, f"{site}, sample {i}")
        array = _heads_joined(site, raw.array, 3)
        if array.ndim != 2 or (parts and array.shape[1] != parts[0].array.shape[1]):
            wanted = f"[tokens, {parts[0].array.shape[1]}]" if parts else "[tokens, width]"
            raise TransectError(
                f"{site}: sample {i} has shape {array.shape}, where {wanted} is due.",
                "Give each sample as an array of its tokens; one point a sample: an array [samples, width].",
            )
        parts.append(Raw(array, raw.dtype))
    lengths = np.array([len(p.array) for p in parts], np.int64)
    width = parts[0].array.shape[1] if parts else 0
    dtypes = frozenset(p.dtype for p in parts)
    return _sound(site, Samples(lambda a, b: parts[a:b], lengths, width, dtypes, False))


def _masked(site: str, raw: Raw, mask: Any) -> Samples:
    shape = raw.array.shape
    if mask is None:
        raise TransectError(
            f"{site}: an array {list(shape)} without a mask: which tokens are padding?",
            'Give mask (--mask), [samples, tokens], True where a token is real; "all": none is padded.',
        )
    keep = np.ones(shape[:2], bool) if isinstance(mask, str) and mask == "all" else as_mask(mask)
    if keep.shape != shape[:2]:
        raise TransectError(
            f"{site}: a mask {list(keep.shape)} for points {list(shape)}.",
            f"The mask of these points is {list(shape[:2])}.",
        )

    lengths, complete = keep.sum(axis=1).astype(np.int64), bool(keep.all())

    def part(a: int, b: int) -> list[Raw]:
        if complete:
            return [Raw(raw.array[a:b].reshape(-1, shape[2]), raw.dtype)]
        return [Raw(raw.array[a:b][keep[a:b]], raw.dtype)]

    return _sound(site, Samples(part, lengths, shape[2], frozenset([raw.dtype]), False))


def as_mask(mask: Any) -> np.ndarray:
    """A mask of zeros and ones as bool. Raises: TransectError."""
    if hasattr(mask, "detach"):
        mask = mask.detach().cpu().numpy()
    try:
        bits = np.asarray(mask)
        if bits.dtype.kind not in "biuf" or not np.isin(bits, (0, 1)).all():
            raise ValueError("it holds other than 0 and 1")
    except (TypeError, ValueError) as error:
        raise TransectError(f"no mask: {error!s:.80}.", "Give True where a token is real.") from error
    return bits.astype(bool)


def _cut(site: str, raw: Raw, lengths: np.ndarray, pooled: bool) -> Samples:
    if lengths.sum() != len(raw.array) or (len(lengths) and lengths.min() < 0):
        raise TransectError(
            f"{site}: lengths of {int(lengths.sum())} rows in all, there are {len(raw.array)}.",
            "Give the rows of every sample, in their order.",
        )
    start = np.concatenate([[0], np.cumsum(lengths)])

    def part(a: int, b: int) -> list[Raw]:
        return [Raw(raw.array[start[a] : start[b]], raw.dtype)]

    return _sound(site, Samples(part, lengths, raw.array.shape[1], frozenset([raw.dtype]), pooled))


def _sound(site: str, samples: Samples) -> Samples:
    if not len(samples.lengths):
        raise TransectError(f"{site}: no samples.", "Give at least one.")
    if not samples.width:
        raise TransectError(f"{site}: points of no dimensions.", "Give arrays [tokens, width].")
    if not samples.lengths.all():
        i = int(np.flatnonzero(samples.lengths == 0)[0])
        raise TransectError(f"{site}: sample {i} is empty.", "Leave out samples without tokens.")
    return replace(samples, pooled=True) if (samples.lengths == 1).all() else samples
