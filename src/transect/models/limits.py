"""What a model can take: positions it has rows for, ids it has embeddings for, sizes a machine can hold."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from transect.errors import TransectError

if TYPE_CHECKING:
    from transect.models.models import Model

#: With a row per position: gpt2's wpe, BERT's position_embeddings, GPT-J's embed_positions.
POSITIONS = re.compile(
    r"(^|\.)(wpe|position_embeddings?|embed_positions|wpe_embeddings?|position_embedding_table)$"
)
#: Configuration entry → most that is believed. The largest published models have 126 layers and width 53,248.
MOST = {
    "num_hidden_layers": 1024, "n_layer": 1024, "num_layers": 1024, "n_layers": 1024,
    "num_decoder_layers": 1024,
    "encoder_layers": 1024, "decoder_layers": 1024,
    "hidden_size": 1 << 17, "n_embd": 1 << 17, "d_model": 1 << 17,
    "intermediate_size": 1 << 20, "d_ff": 1 << 20,
    "num_attention_heads": 1 << 13, "n_head": 1 << 13, "num_key_value_heads": 1 << 13, "head_dim": 1 << 14,
    "vocab_size": 1 << 24, "max_position_embeddings": 1 << 27, "n_positions": 1 << 27,
    "num_local_experts": 1 << 13, "num_experts": 1 << 13, "n_routed_experts": 1 << 13,
}  # fmt: skip


def check_sizes(config: Any, what: str) -> None:
    """TransectError for a configuration with a size that is no number, not positive, or beyond `MOST`."""
    for part in {id(c): c for c in (config, config.get_text_config())}.values():
        for name, most in MOST.items():
            value = getattr(part, name, None)
            if value is None or isinstance(value, list | tuple):
                continue
            least = -1 if "position" in name else 0  # XLNet says -1: it has no limit
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                said = f"{what}: {name} is {value!r:.60}; {least} to {most:,} is taken."
                raise TransectError(said, "Repair config.json.")


def position_limit(model: Any) -> int | None:
    """Tokens that the model's table of positions has rows for; None where positions are computed."""
    limits = []
    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if weight is not None and weight.ndim == 2 and POSITIONS.search(name):
            padding = getattr(module, "padding_idx", None)
            limits.append(
                len(weight) - (padding + 1 if padding is not None else int(getattr(module, "offset", 0)))
            )
    for name, buffer in model.named_buffers():
        if POSITIONS.search(name) and buffer.ndim == 2:
            limits.append(len(buffer))
    return min(limits, default=None)


def check_fits(model: "Model", ids: Sequence[Sequence[int]], names: Sequence[str]) -> None:
    """TransectError, with the text, for ids beyond the embedding and texts beyond the table of positions."""
    rows, limit = len(model.model.get_input_embeddings().weight), position_limit(model.base)
    for name, tokens in zip(names, ids, strict=True):
        if tokens and max(tokens) >= rows:
            token = max(tokens)
            word = model.tokenizer.convert_ids_to_tokens(token)
            raise TransectError(
                f"text {name} holds token {token} ({word!r:.60}); {model.name} has embeddings for {rows}.",
                "Use the tokenizer that belongs to the model, or leave such texts out.",
            )
        if limit is not None and len(tokens) > limit:
            raise TransectError(
                f"text {name} has {len(tokens)} tokens; {model.name} has positions for {limit}.",
                f"Give --max-length {limit} to cut it.",
            )
