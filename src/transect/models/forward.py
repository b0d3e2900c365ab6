"""One forward pass of the base model with a hook on every wanted site: batches, masks, rows to keep.

Nothing here writes to disk: `capture` puts the rows into a store, `forward` hands them to whoever sums them
up.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from transect.errors import TransectError
from transect.models import readings, sites
from transect.models.layout import Layout, aligned, layouts
from transect.models.limits import check_fits
from transect.models.modules import taps_for
from transect.models.state import unchanged
from transect.texts.texts import Texts, Tokenized, tokenize

if TYPE_CHECKING:
    import torch

    from transect.models.models import Model

Put = Callable[[str, "torch.Tensor"], None]


@dataclass(frozen=True)
class Batch:
    """Texts of one forward pass: token ids [texts, longest] right-padded, the mask of real tokens, rows to
    keep."""

    ids: "torch.Tensor"
    mask: "torch.Tensor"
    keep: "torch.Tensor"  # flat indices of the kept tokens, text by text
    owner: "torch.Tensor"  # which text each kept token belongs to


def make_plan(
    lengths: Sequence[int], rows: Sequence[int], batch_tokens: int, shard_rows: int
) -> list[list[list[int]]]:
    """Shards of batches of text numbers: longest first, batches filled to a budget of padded tokens."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    batches: list[list[int]] = []
    for i in order:
        if batches and lengths[batches[-1][0]] * (len(batches[-1]) + 1) <= batch_tokens:
            batches[-1].append(i)
        else:
            batches.append([i])
    shards: list[list[list[int]]] = []
    filled = 0
    for batch in batches:
        size = sum(rows[i] for i in batch)
        if not shards or filled + size > shard_rows:
            shards.append([])
            filled = 0
        shards[-1].append(batch)
        filled += size
    return shards


@contextlib.contextmanager
def hooked(taps: Iterable[sites.Tap], put: Put) -> Iterator[dict[str, int]]:
    """While open, every pass hands each site's tensor [texts, tokens, width] to `put`; yields how often each
    fired."""
    fired: dict[str, int] = {}
    handles = []

    def hand(site: str, value: "torch.Tensor") -> None:
        fired[site] = fired.get(site, 0) + 1
        put(site, value)

    for tap in taps:
        fired[tap.site] = 0
        if tap.reads == "input":

            def hook(_module: Any, a: Any, kw: Any, tap: sites.Tap = tap) -> None:
                hand(tap.site, readings.input_of(tap, a, kw))

            handles.append(tap.module.register_forward_pre_hook(hook, with_kwargs=True))
        else:

            def after(_module: Any, _args: Any, result: Any, tap: sites.Tap = tap) -> None:
                hand(tap.site, readings.returned(tap, result))

            handles.append(tap.module.register_forward_hook(after))
    try:
        yield fired
    finally:
        for handle in handles:
            handle.remove()


def run(model: "Model", taps: Sequence[sites.Tap], batch: Batch, put: Put) -> None:
    """One pass of the base model over a batch; `put(site, rows)` gets the kept rows of each site, exactly
    once."""
    texts, tokens = batch.mask.shape
    complete = len(batch.keep) == batch.mask.numel()
    known = _layouts_of(model, taps, batch) if texts >= tokens > 1 else {}

    def keep_rows(site: str, value: "torch.Tensor") -> None:
        rows = aligned(value.detach(), texts, tokens, known.get(site), f"{model.name}: {site}")
        flat = rows.reshape(texts * tokens, -1)
        put(site, flat if complete else flat.index_select(0, batch.keep.to(flat.device)))

    _pass(model, taps, batch, keep_rows)


def _pass(model: "Model", taps: Sequence[sites.Tap], batch: Batch, put: Put) -> None:
    """One pass that leaves the model as it was; `put` gets each site's tensor as the model wrote it."""
    import torch

    with torch.inference_mode(), unchanged(model.model, model.name), hooked(taps, put) as fired:
        if any(tap.reads in readings.ATTENTION for tap in taps):
            _eager(model)
        model.base(**inputs(model, batch))
    if wrong := [f"{site} ({n}×)" for site, n in fired.items() if n != 1]:
        raise TransectError(
            f"{model.name}: sites that did not fire once per pass: {', '.join(wrong[:5])}.",
            "Leave them out with --sites.",
        )


def _eager(model: "Model") -> None:
    """Have attention computed where its weights can be read, until `unchanged` puts back what was there."""
    try:
        model.model.set_attn_implementation("eager")
    except (AttributeError, ValueError, NotImplementedError) as error:
        raise TransectError(
            f"{model.name} has no eager attention ({error!s:.80}).", "Leave attention out of --sites."
        ) from error


def _layouts_of(model: "Model", taps: Sequence[sites.Tap], batch: Batch) -> dict[str, Layout]:
    """How each site lays out texts and tokens, told by one text alone: for batches whose shape could be read
    twice."""

    def look(site: str, value: "torch.Tensor") -> None:
        readings = layouts(tuple(value.shape), 1, batch.mask.shape[1])
        model.layouts.update({site: readings[0]} if len(readings) == 1 else {})

    if any(tap.site not in model.layouts for tap in taps):
        _pass(model, taps, Batch(batch.ids[:1], batch.mask[:1], batch.keep[:0], batch.owner[:0]), look)
    return model.layouts


def inputs(model: "Model", batch: Batch) -> dict[str, "torch.Tensor"]:
    """Arguments of the base model. An encoder–decoder's decoder reads the same text, shifted by its start
    token."""
    import torch

    ids, mask = batch.ids.to(model.device), batch.mask.to(model.device)
    arguments: dict[str, Any] = {"input_ids": ids, "attention_mask": mask}
    if model.kind == "decoder":
        arguments["use_cache"] = False
    if model.kind == "encoder-decoder":
        config = model.base.config
        start = next(
            (
                v
                for n in ("decoder_start_token_id", "pad_token_id")
                if (v := getattr(config, n, None)) is not None
            ),
            0,
        )
        first = torch.full_like(ids[:, :1], start)
        arguments |= {
            "decoder_input_ids": torch.cat([first, ids[:, :-1]], 1),
            "decoder_attention_mask": mask,
            "use_cache": False,
        }
    return arguments


def make_batch(
    texts: Sequence[Sequence[int]],
    members: Sequence[int],
    kept: Sequence[np.ndarray] | Mapping[int, np.ndarray],
    pad: int = 0,
) -> Batch:
    """Pad the token ids of the texts `members` on the right."""
    import torch

    longest = max(len(texts[i]) for i in members)
    ids = torch.full((len(members), longest), pad, dtype=torch.long)
    mask = torch.zeros((len(members), longest), dtype=torch.long)
    for row, i in enumerate(members):
        ids[row, : len(texts[i])] = torch.tensor(texts[i])
        mask[row, : len(texts[i])] = 1
    keep = np.concatenate([row * longest + kept[i] for row, i in enumerate(members)])
    owner = np.repeat(np.arange(len(members)), [len(kept[i]) for i in members])
    return Batch(ids, mask, torch.from_numpy(keep), torch.from_numpy(owner))


def forward(
    model: "Model",
    texts: Texts,
    wanted: Sequence[str],
    *,
    max_length: int | None = None,
    batch_tokens: int = 2048,
) -> Iterator[tuple[list[int], np.ndarray, dict[str, "torch.Tensor"]]]:
    """The same pass without a store: per batch the text numbers, each row's text, and site → rows [n,
    width]."""
    tokenized = tokenize(texts, model.tokenizer, max_length)
    kept = kept_positions(tokenized, "all")
    taps = list(taps_for(model.model, wanted).values())
    check_fits(model, tokenized.ids, [texts.ids[i] for i in tokenized.kept])
    lengths = [len(t) for t in tokenized.ids]
    for batch in make_plan(lengths, lengths, batch_tokens, sum(lengths))[0]:
        got: dict[str, torch.Tensor] = {}
        packed = make_batch(tokenized.ids, batch, kept)
        run(model, taps, packed, lambda site, rows, got=got: got.update({site: rows.clone()}))
        members = [tokenized.kept[i] for i in batch]
        yield members, np.asarray(members)[packed.owner.numpy()], got


def shuffled(tokenized: Tokenized, seed: int) -> Tokenized:
    """Every text's own tokens in random order, special ones in place: the same words without their order."""
    ids, offsets = [], []
    for i, special in enumerate(tokenized.special):
        ordinary = np.flatnonzero(~np.array(special))
        order = np.arange(len(special))
        order[ordinary] = np.random.default_rng([seed, i]).permutation(ordinary)
        ids.append([tokenized.ids[i][k] for k in order])
        offsets.append([tokenized.offsets[i][k] for k in order])
    return replace(tokenized, ids=ids, offsets=offsets, landmarks={}, first_landmarks={})


def kept_positions(tokenized: Tokenized, positions: str) -> list[np.ndarray]:
    """Token positions to keep, per text, ascending."""
    if positions == "all":
        return [np.arange(len(ids)) for ids in tokenized.ids]
    kept = []
    for i, ids in enumerate(tokenized.ids):
        named = {_position(tokenized, i, part.strip()) for part in positions.split(",")}
        kept.append(np.array(sorted(p for p in named if p is not None and 0 <= p < len(ids)), dtype=np.int64))
    if empty := sum(not len(k) for k in kept):
        raise TransectError(
            f"positions {positions!r}: {empty} of {len(kept)} texts have none of these tokens.",
            "Choose others, or other texts.",
        )
    return kept


def _position(tokenized: Tokenized, i: int, part: str) -> int | None:
    length = len(tokenized.ids[i])
    if part == "last":
        return max((k for k, s in enumerate(tokenized.special[i]) if not s), default=None)
    if part.startswith("landmark:"):
        name, _, offset = part.removeprefix("landmark:").replace("-", "+-").partition("+")
        if name not in tokenized.landmarks:
            raise TransectError(
                f"no landmark {name!r}.", f"Landmarks: {', '.join(tokenized.landmarks) or 'none'}."
            )
        at = tokenized.landmarks[name][i]
        return None if at is None else at + int(offset or 0)
    try:
        return int(part) % length if -length <= int(part) < length else None
    except ValueError:
        raise TransectError(f"positions: {part!r} is not last, landmark:NAME or a number.") from None
