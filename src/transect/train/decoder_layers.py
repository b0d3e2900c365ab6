"""Parts of the decoder's blocks: norms, attention with rotary positions, MLPs."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from transect.train.decoder_config import TransectConfig


class RMSNorm(nn.RMSNorm):
    """Root-mean-square norm (Zhang & Sennrich 2019, arXiv:1910.07467), computed in the precision of its
    weight."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.to(self.weight.dtype))


def make_norm(c: TransectConfig) -> nn.Module:
    """A norm over the width: RMSNorm, or LayerNorm with its mean taken out and, where asked, a bias."""
    if c.norm == "rmsnorm":
        return RMSNorm(c.hidden_size, eps=c.norm_eps)
    return nn.LayerNorm(c.hidden_size, eps=c.norm_eps, bias=c.norm_bias)


class RoleLinear(nn.Linear):
    """A linear map that knows what it is for: "score" (queries, keys), "value" (values, into the MLP),
    "stream"."""

    def __init__(self, role: str, ins: int, outs: int, bias: bool) -> None:
        super().__init__(ins, outs, bias=bias)
        self.role = role


class Attention(nn.Module):
    """Causal self-attention with grouped key-value heads. [texts, tokens, width] → the same."""

    def __init__(self, c: TransectConfig, block: int) -> None:
        super().__init__()
        self.block, self.head_dim, self.groups = (
            block,
            c.head_dim,
            c.num_attention_heads // c.num_key_value_heads,
        )
        narrow = c.num_key_value_heads * c.head_dim
        self.q_proj = RoleLinear("score", c.hidden_size, c.hidden_size, c.bias)
        self.k_proj = RoleLinear("score", c.hidden_size, narrow, c.bias)
        self.v_proj = RoleLinear("value", c.hidden_size, narrow, c.bias)
        self.o_proj = RoleLinear("stream", c.hidden_size, c.hidden_size, c.bias)

    def forward(
        self, x: torch.Tensor, rotation: tuple[torch.Tensor, torch.Tensor] | None, mask: Any, cache: Any
    ) -> torch.Tensor:
        shape = (*x.shape[:2], -1, self.head_dim)
        q, k, v = (p(x).view(shape).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj))
        if rotation is not None:
            q, k = rotate(q, rotation), rotate(k, rotation)
        if cache is not None:
            k, v = cache.update(k, v, self.block)
        causal = mask is None and q.shape[2] > 1
        heads = F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=causal, enable_gqa=self.groups > 1
        )
        return self.o_proj(heads.transpose(1, 2).reshape(x.shape))


def rotate(x: torch.Tensor, rotation: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Rotary positions (Su et al. 2021, arXiv:2104.09864), halves of a head as pairs: [texts, heads, tokens,
    head]."""
    cos, sin = (part.to(x.dtype) for part in rotation)
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


class MLP(nn.Module):
    """SwiGLU (Shazeer 2020, arXiv:2002.05202) or GELU. [texts, tokens, width] → the same."""

    def __init__(self, c: TransectConfig) -> None:
        super().__init__()
        d, wide = c.hidden_size, c.intermediate_size
        self.gate_proj = RoleLinear("value", d, wide, c.bias) if c.mlp == "swiglu" else None
        self.up_proj = RoleLinear("value", d, wide, c.bias)
        self.down_proj = RoleLinear("stream", wide, d, c.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.gate_proj is None:
            return self.down_proj(F.gelu(self.up_proj(x), approximate="tanh"))
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
