"""A store from a file of activations: which of its arrays are points, masks, lengths, tokens and labels.

Reads what NumPy, safetensors and torch write, transformers' hidden_states, caches of TransformerLens and
nnsight by their names, the files that serving engines write (`hidden_states` of one prompt a file), and data
sets of activations.
"""

import functools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypedDict, Unpack

import numpy as np

from transect.errors import TransectError
from transect.files import Place, local
from transect.models import sites as site_names
from transect.models.foreign import site_of
from transect.store.array_files import HINT, STATES, open_arrays
from transect.store.array_tables import is_data_set, open_data_set
from transect.store.arrays import chosen_names, last_note, write_samples
from transect.store.checks import ARRAYS
from transect.store.sample_texts import about
from transect.store.samples import Raw, Samples, as_mask, as_raw, samples_of
from transect.store.store import Store
from transect.texts.texts import Texts, open_texts
from transect.work.options import Option, Values

#: Names that files use for what stands beside points, where no option says which it is.
SCALARS = (str, bool, int, float)  # what a column of labels holds
MASKS, TOKENS = ("attention_mask", "mask"), ("input_ids", "token_ids", "tokens")


class ImportOptions(TypedDict, total=False):
    """What the arrays of a file are, and what belongs to them."""

    name: Annotated[
        str | None,
        Option(None, "Short name of this run in tables; by default that of the folder."),
    ]
    site: Annotated[str | None, Option(None, "Site of a file that holds one array.")]
    sites: Annotated[
        Sequence[str] | None, Option(None, "Only these sites or families; other names are left out.")
    ]
    layers: Annotated[
        Sequence[int] | None,
        Option(None, "Which layers hidden_states hold, in their order; by default 0, 1, 2, …"),
    ]
    mask: Annotated[
        str | None,
        Option(
            None,
            "Array that says which tokens are real, or another .npy file; all where nothing is padded. By "
            "default attention_mask or mask.",
        ),
    ]
    tokens: Annotated[
        str | None, Option(None, "Array of token ids; by default input_ids, token_ids or tokens.")
    ]
    texts: Annotated[
        str | None, Option(None, "Texts of the samples, in their order: a file as transect capture takes it.")
    ]
    label: Annotated[
        str | None,
        Option(None, "Labels, with commas: arrays of FILE or columns of --texts; by default all of these."),
    ]


class Told(Values):
    """Frozen value of ImportOptions."""

    group = ImportOptions


def import_arrays(file: str | Path, out: Place, **options: Unpack[ImportOptions]) -> Store:
    """Write the activations in a file, a folder of safetensors or a data set into a store, and open it.

    Args:
        file: .npz, .npy, .safetensors, .pt, .parquet, a folder that datasets wrote, or a folder of
            .safetensors with one sample each.
        out: A folder, or PROTOCOL://… that fsspec reaches.
        **options: `ImportOptions`: which array is what, texts and labels.

    Raises: TransectError for names that are no sites, arrays that do not fit, and files that cannot be read.
    """
    o, path = Told(**options), local(str(file))
    if is_data_set(path):
        return _from_arrays(path, open_data_set(path), out, o)
    if path.is_dir():
        files = sorted(path.glob("*.safetensors"), key=_natural)
        if not files:
            raise TransectError(f"{path} holds no .safetensors.", HINT)
        return _from_states(files, out, o)
    with open_arrays(path) as arrays:
        if isinstance(arrays, dict) and getattr(_array(arrays.get(STATES)), "ndim", 0) == 3:
            return _from_states([path], out, o)
        return _from_arrays(path, arrays, out, o)


def _natural(path: Path) -> list[Any]:
    """Sort key by which 2 stands before 10."""
    return [(int(p), "") if p.isdecimal() else (-1, p) for p in re.split(r"(\d+)", path.stem)]


def _array(value: Any) -> Any:
    return value.array if isinstance(value, Raw) else value


def _taken(arrays: dict[str, Any], asked: str | None, usual: Sequence[str]) -> Any:
    """The array that an option names, or one of the usual names; it is taken out of `found`."""
    name = asked or next((n for n in usual if n in arrays), None)
    if name is None:
        return None
    if name not in arrays:
        raise TransectError(f"no array {name!r:.80}.", f"There are: {', '.join(list(arrays)[:20])}.")
    return _array(arrays.pop(name))


# one file of arrays


def _from_arrays(path: Path, arrays: Any, out: Place, o: Told) -> Store:
    if isinstance(arrays, list) and not o.site:
        arrays = {STATES: arrays}
    elif not isinstance(arrays, dict):
        if not o.site:
            raise TransectError(f"{path} holds one array and no name.", "Say whose it is: --site resid.12.")
        arrays = {o.site: arrays}
    arrays = dict(arrays)
    mask = _mask(arrays, o.mask)
    lengths = _taken(arrays, None, ("lengths",))
    tokens = _taken(arrays, o.tokens, TOKENS)
    names = [n.strip() for n in (o.label or "").split(",") if n.strip()]
    words = arrays.pop("text", None) if isinstance(arrays.get("text"), list) else None
    if not names and o.texts is None:
        names = [n for n, v in arrays.items() if isinstance(v, list) and v and isinstance(v[0], SCALARS)]
    labels = {n: _listed(_taken(arrays, n, ())) for n in names if n in arrays}
    notes = _spread(arrays, o.layers)
    if o.sites is not None:
        notes += _reduced(arrays, o.sites)
    named, left = chosen_names(arrays)
    if lengths is not None:
        lengths = _counts(lengths)
    sites = {site: samples_of(site, value, mask, lengths) for site, value in named.items()}
    first = next(iter(sites.values()))
    opened = _texts(o.texts, [n for n in names if n not in labels])
    texts = about(sites, words if opened is None else opened, labels, None, None)
    rows = None if tokens is None else _rows(tokens, mask, lengths, first)
    return write_samples(sites, out, o.name, texts, rows, [*notes, *left])


def _mask(arrays: dict[str, Any], asked: str | None) -> Any:
    if asked == "all":
        for name in MASKS:
            arrays.pop(name, None)
        return "all"
    if asked and asked not in arrays and asked.endswith(".npy"):
        with open_arrays(local(asked)) as other:
            return as_mask(np.array(other.array))
    mask = _taken(arrays, asked, MASKS)
    return None if mask is None else as_mask(mask)


def _counts(lengths: Any) -> np.ndarray:
    counts = np.asarray(lengths)
    if counts.ndim != 1 or counts.dtype.kind not in "iu":
        raise TransectError("lengths are no list of whole numbers.", "Give the rows of every sample.")
    return counts.astype(np.int64)


def _spread(arrays: dict[str, Any], layers: Sequence[int] | None) -> list[str]:
    """transformers' hidden_states, a list or [layers, samples, tokens, width], as sites of their own."""
    states = _array(arrays.get(STATES))
    if not isinstance(states, list | tuple) and getattr(states, "ndim", 0) != 4:
        return []
    kind = arrays.pop(STATES)
    parts = [Raw(a, kind.dtype) for a in states] if isinstance(kind, Raw) else list(states)
    numbers = _numbers(layers, len(parts))
    arrays.update({f"resid.{k}": part for k, part in zip(numbers, parts, strict=True)})
    return last_note(len(parts) - 1) if layers is None else []


def _numbers(layers: Sequence[int] | None, count: int) -> list[int]:
    if layers is not None and (len(layers) != count or len({*layers}) < count or min(layers) < 0):
        raise TransectError(
            f"hidden_states hold {count} layers, --layers names {len(layers)}.", "Name each once."
        )
    return list(range(count) if layers is None else layers)


def _reduced(arrays: dict[str, Any], wanted: Sequence[str]) -> list[str]:
    """Leave only names of the sites that were asked for."""
    known: dict[str, str] = {}
    for name in arrays:
        try:
            known[name] = site_of(name)[0]
        except TransectError:  # a name of nothing: it was not asked for
            continue
    if not (there := [s for s in known.values() if s]):
        raise TransectError("no name here is a site.", f"There are: {', '.join(list(arrays)[:20])}.")
    keep = set(site_names.select(list(dict.fromkeys(there)), wanted))
    odd = [name for name in arrays if known.get(name, "") not in keep]
    for name in odd:
        del arrays[name]
    return [f"{len(odd)} arrays were not asked for: {', '.join(odd[:10])}"] if odd else []


def _rows(tokens: Any, mask: Any, lengths: np.ndarray | None, one: Samples) -> list[Any]:
    """Token ids a sample, of the tokens that are real."""
    if isinstance(tokens, list):
        return [_listed(row) if hasattr(row, "tolist") else row for row in tokens]
    ids = np.asarray(tokens)
    if lengths is not None and ids.ndim == 1 and len(ids) == lengths.sum():
        return [row.tolist() for row in np.split(ids, np.cumsum(lengths)[:-1])]
    if ids.ndim == 2 and isinstance(mask, np.ndarray) and mask.shape == ids.shape:
        return [row[keep].tolist() for row, keep in zip(ids, mask, strict=True)]
    if ids.ndim == 2 and (one.pooled or (mask == "all" if isinstance(mask, str) else False)):
        return ids.tolist()
    raise TransectError(
        f"token ids of shape {list(ids.shape)} do not fit the points.",
        "Give [samples, tokens] beside a mask, or one row of them beside lengths.",
    )


def _listed(values: Any) -> list[Any]:
    return values.tolist() if hasattr(values, "tolist") else list(values)


def _texts(spec: str | None, names: Sequence[str]) -> Texts | None:
    if spec is not None:
        return open_texts(spec, label=",".join(names) or None)
    if names:
        raise TransectError(
            f"no array {names[0]!r:.80} to be a label.", "Name an array, or give --texts FILE."
        )
    return None


# files of serving engines


def _from_states(files: Sequence[Path], out: Place, o: Told) -> Store:
    """One sample a file: `hidden_states` [layers, tokens, width] or [tokens, layers, width]."""

    @functools.lru_cache(maxsize=64)
    def opened(i: int) -> tuple[Raw, list[int] | None]:
        with open_arrays(files[i]) as arrays:
            states = arrays.get(STATES) if isinstance(arrays, dict) else None
            if states is None or _array(states).ndim != 3:
                raise TransectError(f"{files[i]}: no hidden_states [layers, tokens, width].", HINT)
            ids = _taken(arrays, o.tokens, TOKENS)
            return as_raw(states, str(files[i])), None if ids is None else np.asarray(ids).ravel().tolist()

    shapes = [(opened(i)[0].array.shape, opened(i)[1]) for i in range(len(files))]
    axis = _layer_axis(files, shapes)
    counts = {shape[axis] for shape, _ in shapes}
    if len(counts) > 1 or len({shape[2] for shape, _ in shapes}) > 1:
        raise TransectError(
            f"the files hold {', '.join(map(str, sorted(counts)))} layers, or other widths.",
            "Import files of one model and one choice of layers.",
        )
    lengths = np.array([shape[1 - axis] for shape, _ in shapes], np.int64)
    if not lengths.all():
        raise TransectError(f"{files[int(lengths.argmin())]} is empty.", "Leave out prompts without tokens.")

    def part(k: int, a: int, b: int) -> list[Raw]:
        loaded = [opened(i)[0] for i in range(a, b)]
        return [Raw(raw.array[k] if axis == 0 else raw.array[:, k], raw.dtype) for raw in loaded]

    dtypes = frozenset(opened(i)[0].dtype for i in range(len(files)))
    numbers = _numbers(o.layers, counts.pop())
    sites = {
        f"resid.{number}": Samples(functools.partial(part, k), lengths, shapes[0][0][2], dtypes, False)
        for k, number in sorted(enumerate(numbers), key=lambda pair: pair[1])
    }
    if o.sites is not None:
        kept = site_names.select(list(sites), o.sites)
        sites = {s: sites[s] for s in kept}
    ids = [path.stem for path in files]
    names = [n.strip() for n in (o.label or "").split(",") if n.strip()]
    texts = _texts(o.texts, names) or Texts(ids, ids, name="samples", spec=ARRAYS)
    tokens = None if any(row is None for _, row in shapes) else [row for _, row in shapes]
    return write_samples(sites, out, o.name, about(sites, texts, None, tokens, None), tokens)


def _layer_axis(files: Sequence[Path], shapes: Sequence[tuple[Any, list[int] | None]]) -> int:
    """Which axis holds layers: the one that is not as long as the token ids; the first without any."""
    axes = set()
    for file, (shape, ids) in zip(files, shapes, strict=True):
        if ids is not None and len(ids) not in shape[:2]:
            raise TransectError(
                f"{file}: {len(ids)} token ids for hidden_states {list(shape)}.", "One axis holds the tokens."
            )
        if ids is not None and shape[0] != shape[1]:
            axes.add(int(shape[0] == len(ids)))
    if len(axes) > 1:
        raise TransectError("some files put layers first and some tokens.", "Import them apart.")
    return axes.pop() if axes else 0
