"""The decoder's configuration: which choices there are, what each means, and which combinations make no
decoder."""

from typing import Any

from transformers.configuration_utils import PretrainedConfig

from transect.errors import TransectError

PLACEMENTS = ("pre", "post", "peri", "mix", "deepnorm", "none")
NORMS = ("rmsnorm", "layernorm")
MLPS = ("swiglu", "gelu", "none")
POSITIONS = ("rope", "learned")
INITS = ("weights", "function")
#: Update / state of every block at the start of "function": root mean squares over tokens and width.
SHARE = 0.3


class TransectConfig(PretrainedConfig):
    """Shape and choices of a decoder. Placement of the norms, with F a sublayer and N a norm:

    pre x + F(N x) · post N(x + F x) · peri x + N(F(N x)) (Kim et al. 2025, arXiv:2502.02732) · mix: post in
    the first `mix_fraction` of the blocks, pre in the others (Mix-LN, Li et al. 2024, arXiv:2412.13795) ·
    deepnorm N(αx + F x) with α = (2L)^¼ (Wang et al. 2022, arXiv:2203.00555) · none x + F x. A norm stands
    before the head where the last block is pre or peri; post and deepnorm end in one already, none has none.

    intermediate_size: 4 × hidden for GELU, two thirds of that for SwiGLU (three matrices instead of two),
    when not given. Matrices start as N(0, initializer_range), embeddings as N(0, embedding_std), the two
    projections into the stream divided by √(2L), the same in every arm and equal for equal seeds; deepnorm
    starts as its paper states (Xavier, gain β = (8L)^-¼ on values, output and MLP, 1 on queries and keys).
    GELU is the tanh form, as in GPT-2. An Adam step moves an entry by about the learning rate, whatever its
    size: small embeddings under post are carried to one direction within some tens of steps, and stay.

    init: "weights" leaves them so. "function" then scales each branch's last map (peri: the norm behind it),
    block by block and on fixed random tokens, until a block moves the stream by SHARE of its root mean
    square: arms then start alike in what they do. Where a block norms the embedding, which is small, its
    branches have that share before the norm. skip false: x becomes F x, without the sum (rank collapse, Dong
    et al. 2021, arXiv:2103.03404); with mlp "none" the stack is attention alone.
    norm_scaling: the norm before a branch of the l-th block, times 1/√l (Sun et al. 2025, arXiv:2502.05795).
    """

    model_type = "transect"
    attribute_map = {"n_positions": "max_position_embeddings"}  # noqa: RUF012  transformers reads it

    def __init__(
        self,
        vocab_size: int = 4096,
        hidden_size: int = 128,
        num_hidden_layers: int = 4,
        num_attention_heads: int = 4,
        num_key_value_heads: int | None = None,
        intermediate_size: int | None = None,
        max_position_embeddings: int = 256,
        norm_placement: str = "pre",
        mix_fraction: float = 0.25,
        norm: str = "rmsnorm",
        norm_bias: bool = False,
        norm_eps: float = 1e-5,
        mlp: str = "swiglu",
        positions: str = "rope",
        rope_theta: float = 10000.0,
        bias: bool = False,
        initializer_range: float = 0.02,
        embedding_std: float = 0.02,
        init: str = "weights",
        skip: bool = True,
        norm_scaling: bool = False,
        tie_word_embeddings: bool = True,
        use_cache: bool = True,
        **more: Any,
    ) -> None:
        wide = 4 * hidden_size
        self.vocab_size, self.hidden_size, self.num_hidden_layers = vocab_size, hidden_size, num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.num_key_value_heads = num_key_value_heads or num_attention_heads
        self.intermediate_size = intermediate_size or (round(2 * wide / 3) if mlp == "swiglu" else wide)
        self.max_position_embeddings = max_position_embeddings
        self.norm_placement, self.mix_fraction = norm_placement, mix_fraction
        self.norm, self.norm_bias, self.norm_eps = norm, norm_bias, norm_eps
        self.mlp, self.positions, self.rope_theta, self.bias = mlp, positions, rope_theta, bias
        self.initializer_range, self.embedding_std = initializer_range, embedding_std
        self.use_cache = use_cache
        self.init, self.skip, self.norm_scaling = init, skip, norm_scaling
        check(self)
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            setattr(self, name, more.pop(name, None))
        more["tie_word_embeddings"] = tie_word_embeddings
        super().__init__(**more)

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_attention_heads

    def placement(self, block: int) -> str:
        """Placement of the norms in one block: mix becomes post or pre."""
        if self.norm_placement != "mix":
            return self.norm_placement
        return "post" if block < round(self.mix_fraction * self.num_hidden_layers) else "pre"


def check(c: TransectConfig) -> None:
    """Raise TransectError for a configuration that makes no decoder."""
    for name, allowed in (
        ("norm_placement", PLACEMENTS),
        ("norm", NORMS),
        ("mlp", MLPS),
        ("positions", POSITIONS),
        ("init", INITS),
    ):
        if getattr(c, name) not in allowed:
            raise TransectError(f"{name} {getattr(c, name)!r}.", f"There are {', '.join(allowed)}.")
    sizes = (
        "vocab_size",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "max_position_embeddings",
    )
    if small := [n for n in sizes if getattr(c, n) < 1]:
        raise TransectError(f"{small[0]} = {getattr(c, small[0])}.", "Take 1 or more.")
    if c.hidden_size % c.num_attention_heads:
        raise TransectError(
            f"a width of {c.hidden_size} does not divide into {c.num_attention_heads} heads.",
            "Choose a multiple.",
        )
    if c.positions == "rope" and c.head_dim % 2:
        raise TransectError(
            f"heads of odd size {c.head_dim} ({c.hidden_size} / {c.num_attention_heads}) cannot be rotated.",
            "Choose an even head size, or learned positions.",
        )
    if c.num_attention_heads % c.num_key_value_heads:
        raise TransectError(
            f"{c.num_attention_heads} heads cannot share {c.num_key_value_heads} key-value heads.",
            "Choose a divisor.",
        )
    if not 0 <= c.mix_fraction <= 1:
        raise TransectError(f"mix_fraction = {c.mix_fraction:g}.", "Take a share from 0 to 1.")
    if c.norm_scaling and c.norm_placement not in ("pre", "peri", "mix"):
        raise TransectError(
            f"norm_scaling with norm_placement {c.norm_placement!r}: no norm stands before a branch.",
            "Take pre, peri or mix.",
        )
