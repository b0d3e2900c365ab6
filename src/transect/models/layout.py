"""Which axes of a site's tensor are texts and tokens: decided by its shape, or refused by name.

Most models write [texts, tokens, width], some flatten both, XLNet puts tokens first, and Longformer pads on
the right to a multiple of its window. Everything leaves here as [texts, tokens, width].
"""

from typing import TYPE_CHECKING, Literal

from transect.errors import TransectError

if TYPE_CHECKING:
    import torch

Layout = Literal["texts first", "tokens first", "flat"]


def layouts(shape: tuple[int, ...], texts: int, tokens: int) -> list[Layout]:
    """Every reading of `shape` as a batch of texts × tokens: one, two in a square, or none."""
    if len(shape) == 2:
        return ["flat"] if shape[0] == texts * tokens else []
    candidates: list[Layout] = []
    if len(shape) == 3 and shape[0] == texts and shape[1] >= tokens:
        candidates.append("texts first")
    if len(shape) > 3 and shape[:2] == (texts, tokens):  # a longer second axis could be heads
        candidates.append("texts first")
    if len(shape) == 3 and shape[1] == texts and shape[0] >= tokens:
        candidates.append("tokens first")
    return candidates


def aligned(
    value: "torch.Tensor", texts: int, tokens: int, layout: Layout | None, where: str
) -> "torch.Tensor":
    """`value` as [texts, tokens, width] without what the model padded on the right.

    Args:
        layout: which reading holds where the shape allows two.
    Raises: TransectError, naming the site, where no reading is certain.
    """
    shape = tuple(value.shape)
    matching = layouts(shape, texts, tokens)
    if layout in matching or shape[:2] == (1, 1):
        matching = [layout or matching[0]]
    if len(matching) != 1:
        raise TransectError(
            f"{where} has shape {list(shape)}, which is not {texts} texts of {tokens} tokens.",
            "Its rows are not the texts' tokens: leave the site out with --sites.",
        )
    if matching[0] == "flat":
        return value.reshape(texts, tokens, -1)
    if matching[0] == "tokens first":
        value = value.transpose(0, 1)
    return value[:, :tokens].reshape(texts, tokens, -1)
