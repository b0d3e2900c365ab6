"""Where a run that stopped being finite did so first: at which site of the forward pass, or in which weight's
gradient."""

from typing import Any

from transect.models import sites
from transect.models.forward import hooked


def first_bad_site(model: Any, ids: Any) -> str | None:
    """The first site, in the order of computing, that is not finite for token ids [texts, tokens]; None where
    all are."""
    import torch

    taps, bad = sites.discover(model), []

    def look(site: str, value: Any) -> None:
        if not bool(value.isfinite().all()):
            bad.append(site)

    with torch.no_grad(), hooked(taps.values(), look):
        out = model(input_ids=ids, use_cache=False)
    return bad[0] if bad else None if bool(out.logits.isfinite().all()) else "the logits"


def first_bad_gradient(model: Any) -> str | None:
    """The weight nearest to the loss whose gradient is not finite: gradients are computed from the head
    down."""
    bad = [n for n, p in model.named_parameters() if p.grad is not None and not bool(p.grad.isfinite().all())]
    return bad[-1] if bad else None


def first_bad_weight(model: Any) -> str | None:
    """The first weight that is not finite."""
    return next((n for n, p in model.named_parameters() if not bool(p.isfinite().all())), None)


def reason(model: Any, ids: Any) -> str:
    """In words, where the numbers stopped being finite."""
    if weight := first_bad_weight(model):
        return f"the weight {weight} is not finite"
    if site := first_bad_site(model, ids):
        return f"first not finite: {site}"
    if weight := first_bad_gradient(model):
        return f"the activations are finite; first gradient that is not, from the loss down: {weight}"
    return "activations and gradients are finite where this process looks"
