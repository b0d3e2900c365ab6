"""The first look at a model, before anything is written: widths, additivity, whether texts may share a pass.

A text's points must be those of the text alone. One is run alone, then in a pass with a longer one, then
alone again.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from transect.errors import TransectError
from transect.models import sites
from transect.models.forward import Batch, make_batch, run
from transect.models.modules import taps_for
from transect.texts.texts import Tokenized

if TYPE_CHECKING:
    import torch

    from transect.models.models import Model

#: dtype → largest relative difference of a text alone and in a batch. Half precision: of the median token,
#: as single tokens differ by 4 % (bfloat16 batches of SmolLM2, docs of the store); else of the worst.
TOLERANCE = {"torch.float64": 1e-6, "torch.float32": 1e-3, "torch.float16": 2e-2, "torch.bfloat16": 5e-2}
ROUND_OFF = 1e-2  # rows under this share of the mean row are compared with that share


@dataclass(frozen=True)
class Probe:
    """What the first passes told.

    Args:
        taps: the chosen sites and their modules. widths: of each chosen site. additive: largest relative
        error of resid + attn.out + mlp.out = next resid; None where a part is missing. apart: why texts must
        not share a pass ("resid.2 of a text differs by 0.31 …"), or "".
    """

    taps: list[sites.Tap]
    widths: dict[str, int]
    additive: float | None
    apart: str


def probe(
    model: "Model",
    tokenized: Tokenized,
    wanted: Sequence[str],
    layers: Iterable[int] | None,
    batch_tokens: int,
) -> Probe:
    """Run the shortest text alone and beside the longest that would share a pass with it.

    Raises: TransectError for points that are not finite, not the tokens', or differ from run to run.
    """
    taken = taps_for(model.model, wanted, layers)
    read_sites = list(taken)
    taps = _structure(model) | taken
    every = list(taps.values())
    shortest = min(range(len(tokenized)), key=lambda i: len(tokenized.ids[i]))
    batch = _of(model, tokenized.ids, [shortest], shortest)
    seen = _seen(model, every, batch)
    for site, rows in seen.items():
        if not bool(rows.isfinite().all()):
            raise TransectError(
                f"{model.name}: {site} is not finite on the shortest text.",
                "The weights hold NaN or overflow in this dtype; try --dtype float32.",
            )
    used = [taps[s] for s in read_sites]
    entries = [taps[s] for s in seen if sites.layer(s) == 0 and sites.family(s).endswith("resid")]
    _rows_are_tokens(model, entries, batch, seen)
    apart = _together(model, used, tokenized, shortest, seen, batch_tokens)
    second = _seen(model, used, batch)
    if (worst := _worst(seen, second, model)) is not None:
        raise TransectError(
            f"{model.name}: {worst[0]} of one text differs by {worst[1]:.2g} (relative) "
            "from one pass to the next.",
            "The model keeps state or draws random numbers while it runs; it cannot be captured.",
        )
    return Probe(used, {s: seen[s].shape[1] for s in read_sites}, _additivity(seen), apart)


def _structure(model: "Model") -> dict[str, sites.Tap]:
    """The sites that tell whether sublayers add up; none where only modules can be named."""
    try:
        return sites.discover(model.model)
    except TransectError:
        return {}


def _of(model: "Model", ids: Sequence[Sequence[int]], members: list[int], kept: int) -> Batch:
    """A batch of which the rows of one text are kept."""
    keep = {i: np.arange(len(ids[i]) if i == kept else 0) for i in members}
    return make_batch(ids, members, keep, model.tokenizer.pad_token_id or 0)


def _seen(model: "Model", taps: Sequence[sites.Tap], batch: Batch) -> dict[str, "torch.Tensor"]:
    seen: dict[str, torch.Tensor] = {}
    run(model, taps, batch, lambda site, rows: seen.update({site: rows.float().cpu().clone()}))
    return seen


def _rows_are_tokens(
    model: "Model", entries: list[sites.Tap], batch: Batch, seen: dict[str, "torch.Tensor"]
) -> None:
    """Another first token changes the first row of what enters block 0, and the last token the last row."""
    ids = batch.ids[0].tolist()
    for at in (0, len(ids) - 1):
        other = next((token for token in ids if token != ids[at]), None)
        if other is None or not entries:
            continue
        changed = batch.ids.clone()
        changed[0, at] = other
        for site, rows in _seen(model, entries, Batch(changed, batch.mask, batch.keep, batch.owner)).items():
            moved = (seen[site] - rows).norm(dim=1)
            if site.startswith("decoder.") or not float(moved.max()):  # shifted by its start token
                continue
            if int(moved.argmax()) != at:
                raise TransectError(
                    f"{model.name}: token {at} stands in row {int(moved.argmax())} of {site}.",
                    "The model moves or pads tokens inside; it cannot be captured.",
                )


def _together(
    model: "Model", taps: list[sites.Tap], tokenized: Tokenized, shortest: int, alone: dict, batch_tokens: int
) -> str:
    """Why the shortest text, beside the longest that leaves it room, is not what it is alone; "" if it is."""
    lengths = [len(ids) for ids in tokenized.ids]
    others = [i for i, length in enumerate(lengths) if i != shortest and 2 * length <= batch_tokens]
    if not others:
        return ""
    longest = max(others, key=lambda i: lengths[i])
    worst = _worst(alone, _seen(model, taps, _of(model, tokenized.ids, [longest, shortest], shortest)), model)
    if worst is None:
        return ""
    return f"{worst[0]} of a text differs by {worst[1]:.2g} (relative) in a pass with a longer one"


def _worst(
    alone: dict[str, "torch.Tensor"], beside: dict[str, "torch.Tensor"], model: "Model"
) -> tuple | None:
    """(site, relative difference) where it is largest; None where all are within the tolerance."""
    worst = (0.0, "")
    for site, rows in beside.items():
        size = alone[site].norm(dim=1)
        error = (rows - alone[site]).norm(dim=1) / (size + ROUND_OFF * size.mean()).clamp_min(1e-30)
        half = str(model.dtype) in ("torch.float16", "torch.bfloat16")
        worst = max(worst, (float(error.median() if half else error.max()), site))
    limit = TOLERANCE.get(str(model.dtype), 5e-2)
    return (worst[1], worst[0]) if not worst[0] <= limit else None


def _additivity(seen: dict[str, "torch.Tensor"]) -> float | None:
    """Largest relative error of resid + attn.out + mlp.out = next resid; None where a part is missing."""
    worst = None
    for site in [s for s in seen if sites.family(s) == "resid" and not s.startswith("encoder.")]:
        k, stack = sites.layer(site), "decoder." if site.startswith("decoder.") else ""
        parts = (
            [f"{stack}resid.{k + 1}", f"{stack}attn.{k}.out", f"{stack}mlp.{k}.out"] if k is not None else []
        )
        if parts and all(p in seen for p in parts):
            after, attention, mlp = (seen[p] for p in parts)
            delta = after - seen[site]
            error = float((delta - attention - mlp).norm() / delta.norm().clamp_min(1e-30))
            worst = error if worst is None else max(worst, error)
    return worst
