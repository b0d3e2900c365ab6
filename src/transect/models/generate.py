"""Activations of a prompt as the model runs: prompt tokens first, then one event per generated token, all
sites at once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from transect.errors import TransectError
from transect.models import sites
from transect.models.forward import hooked

if TYPE_CHECKING:
    import torch

    from transect.models.forward import Put
    from transect.models.models import Model


@dataclass(frozen=True)
class Step:
    """One token: its text, id, position, whether it was generated, and site → activations [width]."""

    token: str
    id: int
    position: int
    generated: bool
    values: dict[str, np.ndarray]


def activations(
    model: "Model",
    prompt: str,
    wanted: Sequence[str] = ("mlp.act",),
    *,
    max_new_tokens: int = 20,
    seed: int | None = None,
) -> Iterator[Step]:
    """Steps for every prompt token, then for every generated one (greedy, or sampled with a seed), as they
    come.

    Stops at the end token or after max_new_tokens. Close the iterator to cancel. TransectError for an empty
    prompt, a prompt longer than the model takes, or a model that does not generate.
    """
    import torch

    if model.kind != "decoder":
        raise TransectError(f"{model.name} is an {model.kind} and generates nothing.", "Use a decoder.")
    if model.model.get_output_embeddings() is None:
        raise TransectError(
            f"{model.name} was saved without its head and predicts nothing.", "Use the whole model."
        )
    ids = model.tokenizer(prompt, return_tensors="pt")["input_ids"]
    limit = getattr(model.base.config.get_text_config(), "max_position_embeddings", None)
    if not ids.numel() or (limit and ids.shape[1] + max_new_tokens > limit):
        raise TransectError(
            f"a prompt of {ids.numel()} tokens and {max_new_tokens} new ones; the model takes {limit}.",
            "Shorten it.",
        )
    taps = sites.discover(model.model)
    selected = [taps[s] for s in sites.select(list(taps), wanted)]
    draw = None if seed is None else torch.Generator().manual_seed(seed)
    past, fed, position = None, ids.to(model.device), 0
    for new in range(max_new_tokens + 1):
        seen: dict[str, torch.Tensor] = {}
        put = _keeper(seen, fed.shape[1])
        with torch.inference_mode(), hooked(selected, put):
            out = model.model(input_ids=fed, past_key_values=past, use_cache=True)
        past = out.past_key_values
        for k, token in enumerate(fed[0].tolist()):
            values = {site: rows[k].numpy() for site, rows in seen.items()}
            yield Step(model.tokenizer.decode([token]), token, position, new > 0, values)
            position += 1
        logits = out.logits[0, -1].float()
        following = (
            logits.argmax()
            if draw is None
            else torch.multinomial(logits.softmax(0).cpu(), 1, generator=draw)[0]
        )
        if int(following) == model.tokenizer.eos_token_id:
            return
        fed = following.reshape(1, 1).to(model.device)


def _keeper(seen: "dict[str, torch.Tensor]", tokens: int) -> "Put":
    """Puts each site's rows [tokens, width] into `seen`."""

    def put(site: str, value: "torch.Tensor") -> None:
        seen[site] = value.detach().reshape(tokens, -1).float().cpu().clone()

    return put
