"""Models with other blocks at some depths, or none: what a block is worth, and how a state is read out.

A position of the stack runs a list of blocks one after the other: none (the block is removed), twice the same
(repeated), its neighbour (swapped). Masks and rotary tables are those of the position.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from transect.errors import TransectError
from transect.models import sites

if TYPE_CHECKING:
    import torch

    from transect.models.models import Model

#: Position → blocks that run there, in order.
Routes = Mapping[int, Sequence[int]]
#: States that are read out at a time: no more than any model has positions.
ROWS = 128


class Blocks:
    """The blocks of a decoder, checked to be what its next tokens come from, one after the other."""

    def __init__(self, model: "Model") -> None:
        """Run a few tokens and see that blocks run by hand give the model's own logits. Raises:
        TransectError, naming the model, where they do not."""
        check_head(model)
        self.model = model
        residual = [t for t in sites.discover(model.model).values() if sites.family(t.site) == "resid"]
        self.blocks = [tap.module for tap in residual if tap.reads == "output"]
        self.rest: dict[int, tuple[Any, ...] | None] = {}
        self._check()

    def __len__(self) -> int:
        return len(self.blocks)

    def logits(self, ids: Any, mask: Any = None) -> "torch.Tensor":
        """Logits [texts, tokens, vocabulary] in float32 of token ids [texts, tokens]."""
        import torch

        tokens = torch.as_tensor(np.asarray(ids), dtype=torch.long, device=self.model.device)
        kept = torch.ones_like(tokens) if mask is None else mask.to(tokens.device)
        with torch.inference_mode():
            out = self.model.model(input_ids=tokens, attention_mask=kept, use_cache=False)
        return out.logits.float()

    def remembered(self, ids: Any, mask: Any = None) -> "tuple[torch.Tensor, list[torch.Tensor]]":
        """(`logits`, what every block gave): edits of the same tokens start from there."""
        gave: list[torch.Tensor] = []

        def keep(_module: Any, _args: Any, out: Any) -> None:
            gave.append(out[0] if isinstance(out, tuple) else out)

        hooks = [block.register_forward_hook(keep) for block in self.blocks]
        try:
            return self.logits(ids, mask), gave
        finally:
            for hook in hooks:
                hook.remove()

    @contextlib.contextmanager
    def routed(self, routes: Routes, gave: "Sequence[torch.Tensor]" = ()) -> Iterator[None]:
        """While open, position k of the stack runs the blocks `routes[k]`; positions not named run their own.
        With what every block `gave` to these tokens, none before the first edited position runs again."""
        forwards = [(b, b.__dict__.get("forward"), b.forward) for b in self.blocks]
        first = min(routes, default=0) if len(gave) == len(self) else 0
        try:
            for k in range(first):
                steps = [_giving(gave[k])] if k == first - 1 else []
                self.blocks[k].forward = _chained(steps, self.rest.get(k))
            for k, chain in routes.items():
                steps = [forwards[j][2] for j in chain]
                self.blocks[k].forward = _chained(steps, self.rest.get(k))
            yield
        finally:
            for block, before, _ in forwards:
                block.__dict__.pop("forward", None)
                if before is not None:
                    block.forward = before

    def readout(self, states: "torch.Tensor") -> "torch.Tensor":
        """Logits [n, vocabulary] that the model makes of states [n, width] as if they left its last block.

        Final norm, head, caps and scales are the model's own: it runs with every block but the last one
        handing on what it gets, and the last one giving the states.
        """
        import torch

        parts = []
        for part in states.to(self.model.device, self.model.dtype).split(ROWS):
            routes = dict.fromkeys(range(len(self)), ())
            with self.routed(routes):
                self.blocks[-1].forward = _chained([_giving(part[:, None])], self.rest[len(self) - 1])
                parts.append(self.logits(torch.zeros(len(part), 1, dtype=torch.long))[:, 0])
        return torch.cat(parts)

    def _check(self) -> None:
        import torch

        size = self.model.model.get_input_embeddings().weight.shape[0]
        ids, fired = torch.arange(6)[None] % size, dict.fromkeys(range(len(self)), 0)
        last: list[torch.Tensor] = []

        def see(k: int) -> Callable[..., None]:
            def hook(_module: Any, _args: Any, out: Any) -> None:
                fired[k] += 1
                self.rest[k] = (None,) * (len(out) - 1) if isinstance(out, tuple) else None
                last[:] = [out[0] if isinstance(out, tuple) else out]

            return hook

        hooks = [block.register_forward_hook(see(k)) for k, block in enumerate(self.blocks)]
        try:
            usual = self.logits(ids)
        finally:
            for hook in hooks:
                hook.remove()
        fits = len(last) == 1 and last[0].shape[:2] == ids.shape and set(fired.values()) == {1}
        if fits:
            with self.routed({k: (k,) for k in range(len(self))}):
                by_hand = self.logits(ids)
            scale = float(usual.abs().max())
            read = self.readout(last[0][0])
            fits = all(float((logits - usual).abs().max()) < 1e-2 * scale for logits in (by_hand, read[None]))
        if not fits:
            raise TransectError(
                f"{self.model.name} ({type(self.model.model).__name__}): its {len(self)} blocks, run "
                "one after "
                "the other, do not give its own logits.",
                "Blocks can be removed, repeated and swapped where each takes the state and returns it, "
                "as in "
                "Llama and GPT-2.",
            )


def check_head(model: "Model") -> None:
    """Raises: TransectError for a model without a next token: an encoder, or a decoder without its head."""
    if model.kind != "decoder":
        raise TransectError(f"{model.name} is an {model.kind}: it has no next token.", "Use a decoder.")
    if model.model.get_output_embeddings() is None:
        raise TransectError(
            f"{model.name} was saved without its head and predicts nothing.", "Use the whole model."
        )


def _giving(states: "torch.Tensor") -> Callable[..., Any]:
    return lambda *_args, **_kwargs: states


def _chained(steps: Sequence[Callable[..., Any]], rest: tuple[Any, ...] | None) -> Callable[..., Any]:
    """A block's forward that runs several in turn, and returns what the block would: the state, or a tuple
    that begins with it."""

    def forward(*args: Any, **kwargs: Any) -> Any:
        named = "" if args else next(iter(kwargs))
        state = args[0] if args else kwargs[named]
        for step in steps:
            out = step(**{**kwargs, named: state}) if named else step(state, *args[1:], **kwargs)
            state = out[0] if isinstance(out, tuple) else out
        return state if rest is None else (state, *rest)

    return forward
