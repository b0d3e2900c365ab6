"""Next-token losses of texts under a decoder: one pass, nothing kept."""

from typing import TYPE_CHECKING

import numpy as np

from transect.errors import TransectError
from transect.models.forward import make_batch, make_plan
from transect.texts.texts import tokenize

if TYPE_CHECKING:
    from transect.models.models import Model
    from transect.texts.texts import Texts


def perplexity(model: "Model", texts: "Texts", *, max_length: int | None = None) -> float:
    """exp of the mean next-token negative log-likelihood over all tokens but the first of each text, ≥ 1."""
    total, count = losses(model, texts, max_length=max_length)
    return float(np.exp(total.sum() / count.sum()))


def losses(model: "Model", texts: "Texts", *, max_length: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Per text the summed next-token negative log-likelihood in nats, float64 [texts], and the number of
    predicted tokens.

    The first token of a text is not predicted. TransectError for a model that predicts no next token.
    """
    import torch

    if model.kind != "decoder":
        raise TransectError(
            f"perplexity needs a decoder, {model.name} is an {model.kind}.", "Use a causal model."
        )
    if model.model.get_output_embeddings() is None:
        raise TransectError(
            f"{model.name} was saved without its head and predicts nothing.", "Use the whole model."
        )
    tokenized = tokenize(texts, model.tokenizer, max_length, strict=True)
    lengths = [len(t) for t in tokenized.ids]
    total = np.zeros(len(lengths))
    for members in make_plan(lengths, lengths, 2048, sum(lengths))[0]:
        batch = make_batch(tokenized.ids, members, [np.arange(n) for n in lengths])
        with torch.inference_mode():
            logits = model.model(
                input_ids=batch.ids, attention_mask=batch.mask, use_cache=False
            ).logits.float()
        nll = torch.nn.functional.cross_entropy(
            logits[:, :-1].transpose(1, 2), batch.ids[:, 1:], reduction="none"
        )
        total[members] = (nll.double() * batch.mask[:, 1:]).sum(1).cpu().numpy()
    return total, np.maximum(np.array(lengths) - 1, 0)
