"""One small decoder as a transformers model, so that capture, generation and saving work on it as on any
other.

Every architectural choice that a comparison turns is a field of `TransectConfig`: where norms stand, which
norm, which MLP, positions, grouped-query attention, biases. Arms that differ in one field share everything
else, weights included.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PreTrainedModel
from transformers import initialization as init
from transformers.cache_utils import DynamicCache
from transformers.generation.utils import GenerationMixin
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

from transect.train.decoder_config import SHARE, TransectConfig
from transect.train.decoder_layers import MLP, Attention, RoleLinear, make_norm


class Block(nn.Module):
    """Attention, then MLP. What leaves it is the stream: after a norm where the placement is post or
    deepnorm."""

    def __init__(self, c: TransectConfig, block: int) -> None:
        super().__init__()
        how = c.placement(block)
        self.scale = (2 * c.num_hidden_layers) ** 0.25 if how == "deepnorm" else 1.0
        self.shrink = (block + 1) ** -0.5 if c.norm_scaling else 1.0
        before, added, both = how in ("pre", "peri"), how == "peri", how in ("post", "deepnorm")
        self.skip, fed = c.skip, c.mlp != "none"
        if before:
            self.input_layernorm = make_norm(c)
            self.pre_feedforward_layernorm = make_norm(c) if fed else None
        if added:  # names that sites.py knows for norms of what is added
            self.post_attention_layernorm = make_norm(c)
            self.post_feedforward_layernorm = make_norm(c) if fed else None
        if both:
            self.sum_norm_attention = make_norm(c)
            self.sum_norm_mlp = make_norm(c) if fed else None
        self.before, self.added, self.whole = before, added, both
        self.attention, self.mlp = Attention(c, block), MLP(c) if fed else None

    def forward(self, x: torch.Tensor, rotation: Any, mask: Any, cache: Any) -> torch.Tensor:
        for branch, join, _ in self.steps(rotation, mask, cache):
            x = join(x, branch(x))
        return x

    def steps(self, rotation: Any, mask: Any = None, cache: Any = None) -> Iterator[tuple[Any, Any, Any]]:
        """(branch, how it joins the stream, the module that scales it) of attention, then of the MLP."""

        def attend(x: torch.Tensor) -> torch.Tensor:
            y = self.attention(self._normed(x, "input_layernorm"), rotation, mask, cache)
            return self.post_attention_layernorm(y) if self.added else y

        def feed(x: torch.Tensor) -> torch.Tensor:
            y = self.mlp(self._normed(x, "pre_feedforward_layernorm"))  # type: ignore[misc]
            return self.post_feedforward_layernorm(y) if self.added else y  # type: ignore[misc]

        last = self.post_attention_layernorm if self.added else self.attention.o_proj
        yield attend, self._joined("sum_norm_attention"), last
        if self.mlp is not None:
            last = self.post_feedforward_layernorm if self.added else self.mlp.down_proj
            yield feed, self._joined("sum_norm_mlp"), last

    def _normed(self, x: torch.Tensor, norm: str) -> torch.Tensor:
        """What a branch sees: the stream, after the norm that stands before it where one does."""
        if not self.before:
            return x
        y = getattr(self, norm)(x)
        return y * self.shrink if self.shrink != 1.0 else y

    def _joined(self, norm: str) -> Any:
        def join(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            if self.skip:
                y = self.scale * x + y if self.scale != 1.0 else x + y
            return getattr(self, norm)(y) if self.whole else y

        return join

    @torch.no_grad()
    def equalise(self, x: torch.Tensor, rotation: Any) -> torch.Tensor:
        """Scale the branches until the block moves the stream by SHARE of it; without skips, until each keeps
        its size. What leaves the block then, [texts, tokens, width] → the same."""
        entered, steps = x, list(self.steps(rotation))
        for branch, join, last in steps:
            share = self.scale * SHARE / len(steps) ** 0.5 if self.skip else 1.0
            if (size := rms(branch(x))) > 0:
                last.weight.mul_(share * rms(x) / size)
            x = join(x, branch(x))
        unnormed = rms(entered) < 0.5 and self.whole  # the embedding: the block's own norm moves it most
        for _ in range(
            6 if self.skip and not unnormed else 0
        ):  # branches are not at right angles to the stream
            moved = rms(x - entered) / rms(entered)
            for *_, last in steps:
                last.weight.mul_(SHARE / moved)
            x = self(entered, rotation, None, None)
        return x


def rms(x: torch.Tensor) -> float:
    """Root mean square over the entries of [texts, tokens, width] without position 0."""
    return float(x[:, 1:].double().pow(2).mean().sqrt())


class TransectPreTrained(PreTrainedModel):
    """What the two models share: configuration and initial weights."""

    config_class = TransectConfig
    base_model_prefix = "model"
    _no_split_modules = ["Block"]  # noqa: RUF012  transformers reads it from the class
    _supports_sdpa = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """The initial weights that `TransectConfig` states."""
        c: Any = self.config
        if isinstance(module, RoleLinear) and c.norm_placement == "deepnorm":
            gain = 1.0 if module.role == "score" else (8 * c.num_hidden_layers) ** -0.25
            init.xavier_normal_(module.weight, gain=gain)
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight, std=c.embedding_std)
        elif isinstance(module, nn.Linear):
            narrow = math.sqrt(2 * c.num_hidden_layers) if getattr(module, "role", "") == "stream" else 1.0
            init.normal_(module.weight, std=c.initializer_range / narrow)
        elif isinstance(module, nn.RMSNorm | nn.LayerNorm):
            init.ones_(module.weight)
        if isinstance(bias := getattr(module, "bias", None), nn.Parameter):
            init.zeros_(bias)


class TransectModel(TransectPreTrained):
    """The decoder without its head: token ids [texts, tokens] → states [texts, tokens, width]."""

    def __init__(self, config: TransectConfig) -> None:
        super().__init__(config)
        last = config.placement(config.num_hidden_layers - 1)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        if config.positions == "learned":
            self.embed_positions = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.layers = nn.ModuleList([Block(config, k) for k in range(config.num_hidden_layers)])
        self.norm = make_norm(config) if last in ("pre", "peri") else nn.Identity()
        self.post_init()

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool | None = None,
        **_: Any,
    ) -> BaseModelOutputWithPast:
        x = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache()
        past = past_key_values.get_seq_length() if past_key_values is not None else 0
        at = torch.arange(past, past + x.shape[1], device=x.device)
        where = at[None] if position_ids is None else position_ids
        rotation = self._rotation(where) if self.config.positions == "rope" else None
        if rotation is None:
            x = x + self.embed_positions(where)
        mask = _mask(attention_mask, at)
        seen = [x]
        for layer in self.layers:
            x = layer(x, rotation, mask, past_key_values)
            seen.append(x)
        x = self.norm(x)
        states = (*seen[:-1], x) if output_hidden_states else None
        return BaseModelOutputWithPast(
            last_hidden_state=x, past_key_values=past_key_values, hidden_states=states
        )

    @torch.no_grad()
    def equalise(self) -> None:
        """Scale the branches as `TransectConfig` states for init "function", on tokens that are always the
        same."""
        draw = torch.Generator().manual_seed(0)
        size = (32, min(33, self.config.max_position_embeddings))  # as many tokens as a study's window
        x = self.embed_tokens(torch.randint(0, self.config.vocab_size, size, generator=draw))
        at = torch.arange(size[1])[None]
        rotation = self._rotation(at) if self.config.positions == "rope" else None
        x = x if rotation is not None else x + self.embed_positions(at)
        for layer in self.layers:
            assert isinstance(layer, Block)
            x = layer.equalise(x, rotation)

    def _rotation(self, where: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        half = torch.arange(0, self.config.head_dim, 2, device=where.device, dtype=torch.int64).float()
        angles = where[:, None, :, None].float() / self.config.rope_theta ** (half / self.config.head_dim)
        angles = torch.cat((angles, angles), dim=-1)
        return angles.cos(), angles.sin()


def _mask(attention_mask: torch.Tensor | None, at: torch.Tensor) -> torch.Tensor | None:
    """Which keys each query sees, [texts, 1, queries, keys]; None where causality is all there is to say."""
    first = int(at[0])
    if attention_mask is None or bool(attention_mask.all()):
        if first == 0 or len(at) == 1:
            return None
        return torch.arange(int(at[-1]) + 1, device=at.device)[None, None, None, :] <= at[None, None, :, None]
    causal = torch.arange(attention_mask.shape[1], device=at.device)[None, :] <= at[:, None]
    seen = causal[None] & attention_mask[:, None, :].bool()
    allowed = (
        torch.arange(attention_mask.shape[1], device=at.device)[None, :] == at[:, None]
    )  # padding sees itself, not nothing
    return (seen | allowed[None])[:, None]


class TransectForCausalLM(TransectPreTrained, GenerationMixin):
    """The decoder with its head: token ids → logits over the next token, and the mean loss where labels are
    given."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012

    def __init__(self, config: TransectConfig) -> None:
        super().__init__(config)
        self.model = TransectModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def after_random(self) -> None:
        """What remains to do when all weights are drawn."""
        if self.config.init == "function":
            self.model.equalise()

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        logits_to_keep: int = 0,
        **more: Any,
    ) -> CausalLMOutputWithPast:
        out = self.model(input_ids=input_ids, attention_mask=attention_mask, **more)
        logits = self.lm_head(out.last_hidden_state[:, -logits_to_keep:])
        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten())
        return CausalLMOutputWithPast(
            loss=loss, logits=logits, past_key_values=out.past_key_values, hidden_states=out.hidden_states
        )


AutoConfig.register(TransectConfig.model_type, TransectConfig, exist_ok=True)
AutoModel.register(TransectConfig, TransectModel, exist_ok=True)
AutoModelForCausalLM.register(TransectConfig, TransectForCausalLM, exist_ok=True)
