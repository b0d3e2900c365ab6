"""What a hook takes out of what its module was given or gives: a tensor, or numbers made of it on the spot.

Attention weights [texts, heads, tokens, tokens] never leave the pass: each head's become two numbers a token,
or, where that is asked, the weights on the first `SEEN` tokens. A router's choice becomes one number an
expert.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from transect.errors import TransectError

if TYPE_CHECKING:
    import torch

    from transect.models.sites import Tap

#: Readings of attention weights, which only the eager implementation returns.
ATTENTION = ("sink", "entropy", "weights")
#: Tokens that weights are kept of: what is stored of a text grows with its length, not with its square.
SEEN = 64
#: How far a row of attention weights may be from 1 in sum.
ROUND_OFF = 0.05


def input_of(tap: "Tap", args: tuple[Any, ...], named: dict[str, Any]) -> "torch.Tensor":
    """The first tensor that a module was given."""
    import torch

    several = args or (named.get("hidden_states"), *named.values())
    for value in several:
        if isinstance(value, torch.Tensor):
            return value
    raise TransectError(f"{tap.site}: its module is given no tensor.", "Leave it out with --sites.")


def returned(tap: "Tap", value: Any) -> "torch.Tensor":
    """What a tap reads of what its module returns: the tensor itself, or the first of several."""
    import torch

    if tap.reads in ATTENTION:
        return _of_attention(tap, value)
    if tap.reads == "experts":
        return _choice(tap, value)
    first = value
    while isinstance(first, tuple | list) and first:
        first = first[0]
    if not isinstance(first, torch.Tensor) and hasattr(first, "to_tuple"):
        first = first.to_tuple()[0]
    if not isinstance(first, torch.Tensor):
        raise TransectError(
            f"{tap.site}: its module returns a {type(first).__name__}.", "Leave it out with --sites."
        )
    return first


def _of_attention(tap: "Tap", value: Any) -> "torch.Tensor":
    """[texts, tokens, heads]: the weight of the first token, or the entropy in nats, head by head; or [texts,
    tokens, heads · SEEN], the weights of the first tokens, head by head."""
    import torch

    weights = next((w for w in _tensors(value) if _is_attention(w)), None)
    if weights is None:
        raise TransectError(
            f"{tap.site}: {type(tap.module).__name__} returns no attention weights.",
            "This model cannot give them; leave attention out of --sites.",
        )
    if tap.reads == "sink":
        return weights[..., 0].transpose(1, 2)
    if tap.reads == "weights":
        seen = torch.nn.functional.pad(weights[..., :SEEN], (0, max(0, SEEN - weights.shape[-1])))
        return seen.transpose(1, 2).flatten(2)
    heads = [torch.special.entr(head.float()).sum(-1) for head in weights.unbind(1)]
    return torch.stack(heads, -1).to(weights.dtype)


def _is_attention(value: "torch.Tensor") -> bool:
    if value.ndim != 4 or value.shape[-1] != value.shape[-2] or not value.is_floating_point():
        return False
    return bool(((value[0, :, 0].float().sum(-1) - 1).abs() < ROUND_OFF).all())


def _choice(tap: "Tap", value: Any) -> "torch.Tensor":
    """[tokens, experts]: the weight of every expert that was chosen, 0 for the others."""
    import torch

    tensors = list(_tensors(value))
    candidate = next((v for v in tensors if not v.is_floating_point() and v.ndim == 2), None)
    if candidate is None or tensors[0].ndim != 2:
        raise TransectError(
            f"{tap.site}: {type(tap.module).__name__} does not say which experts it chose.",
            "Take mlp.router, its logits.",
        )
    weights = next((v for v in tensors[1:] if v.is_floating_point() and v.shape == candidate.shape), None)
    kind = tensors[0].dtype
    scores = torch.ones_like(candidate, dtype=kind) if weights is None else weights.to(kind)
    return torch.zeros_like(tensors[0]).scatter(1, candidate.long(), scores)


def _tensors(value: Any) -> "Iterator[torch.Tensor]":
    import torch

    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for one in value:
            yield from _tensors(one)
