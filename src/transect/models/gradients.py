"""What the next-token loss owes to each depth: gradients of single tokens by their own states, and the loss
where one block is skipped."""

from typing import TYPE_CHECKING

import numpy as np

from transect.models import sites
from transect.models.edit import Blocks
from transect.models.forward import hooked

if TYPE_CHECKING:
    import torch

    from transect.models.models import Model


def token_gradients(
    model: "Model", ids: np.ndarray, at: np.ndarray, other: np.ndarray
) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Site → (norm of the gradient, the same for the next tokens `other`, norm of the state), each
    [positions].

    ids: tokens of one text; at: the positions asked. The text is copied once for each, cut behind it.
    """
    import torch

    taps = sites.discover(model.model)
    selected = [taps[s] for s in sites.select(list(taps), ["resid"])]
    copies = torch.from_numpy(np.stack([ids[: at.max() + 1]] * len(at)).astype(np.int64)).to(model.device)
    mask = torch.arange(copies.shape[1])[None] <= torch.from_numpy(at)[:, None]
    row, place = torch.arange(len(at)), torch.from_numpy(at)
    seen: dict[str, torch.Tensor] = {}

    def keep(site: str, value: "torch.Tensor") -> None:
        seen[site] = value if value.requires_grad else value.requires_grad_(True)

    frozen = [p for p in model.model.parameters() if p.requires_grad]
    for p in frozen:
        p.requires_grad_(False)
    try:
        with torch.enable_grad(), hooked(selected, keep):
            out = model.model(input_ids=copies, attention_mask=mask.long().to(model.device), use_cache=False)
        scores = out.logits[row, place].float()
        norms = []
        for following in (ids[at + 1], other):
            wanted = torch.from_numpy(np.asarray(following, np.int64)).to(model.device)
            loss = torch.nn.functional.cross_entropy(scores, wanted, reduction="sum")
            gradients = torch.autograd.grad(loss, list(seen.values()), retain_graph=True)
            norms.append([g[row, place].float().norm(dim=-1).cpu().numpy().astype(float) for g in gradients])
    finally:
        for p in frozen:
            p.requires_grad_(True)
    sizes = [v.detach()[row, place].float().norm(dim=-1).cpu().numpy().astype(float) for v in seen.values()]
    return dict(zip(seen, zip(*norms, sizes, strict=True), strict=True))


def skipped_losses(blocks: Blocks, ids: np.ndarray) -> dict[str, tuple[float, float]]:
    """Site → (loss without the block that makes it minus the loss, nats a token, NaN for resid.0; mean square
    of the state there, position 0 left out).

    ids: tokens of one text, two or more. A block that is left out hands on what entered it.
    """
    import torch

    model = blocks.model
    taps = sites.discover(model.model)
    selected = [taps[s] for s in sites.select(list(taps), ["resid"])]
    tokens = torch.from_numpy(np.asarray(ids, np.int64))[None].to(model.device)
    sizes: dict[str, float] = {}
    gave: list[torch.Tensor] = []

    def keep(site: str, value: "torch.Tensor") -> None:
        sizes[site] = float(value[:, 1:].double().pow(2).mean())
        if taps[site].reads == "output":
            gave.append(value)

    def loss() -> float:
        logits = model.model(input_ids=tokens, use_cache=False).logits[0, :-1].float()
        return float(torch.nn.functional.cross_entropy(logits, tokens[0, 1:]))

    with torch.inference_mode():
        with hooked(selected, keep):
            usual, gained = loss(), [float("nan")]
        for k in range(len(blocks)):
            with blocks.routed({k: ()}, gave):
                gained.append(loss() - usual)
    return {tap.site: (gain, sizes[tap.site]) for tap, gain in zip(selected, gained, strict=True)}
