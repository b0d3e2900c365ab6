"""Where in a model: site names, and the module that each one reads, found by structure first and by family
second.

`resid.0` enters block 0 and `resid.l` leaves the l-th block, before the final norm. In block k: `mlp.k.act`
is the input of the down-projection (the neurons), `mlp.k.out` what the MLP adds to the stream, `attn.k.head`
the input of the output projection (heads side by side), `attn.k.out` what attention adds. `final_norm` stands
by itself, `mlp.k.router` holds router logits where experts are fused and `mlp.k.experts` the weight that each
expert gets, 0 where it was not chosen. `attn.k.sink` is the share of attention that each head pays to the
first token, `attn.k.entropy` how far it spreads, in nats, and `attn.k.weights` what each head pays to the
first 64 tokens: all of it where texts are no longer. An encoder–decoder has `encoder.` or `decoder.` in
front. `module:NAME:in` and `module:NAME:out` are what enters and leaves any module (see `modules`).
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from transect.errors import TransectError, nearest

if TYPE_CHECKING:
    from torch import nn

FAMILIES = (
    "resid",
    "attn.head",
    "attn.out",
    "attn.sink",
    "attn.entropy",
    "attn.weights",
    "mlp.act",
    "mlp.out",
    "mlp.router",
    "mlp.experts",
    "final_norm",
)
#: One word for several families.
GROUPS = {"attention": ("attn.sink", "attn.entropy")}
#: What a site is of its module: what enters or leaves it, or a number made of what it returns (`readings`).
Reads = Literal["input", "output", "sink", "entropy", "weights", "experts"]
DERIVED = ("sink", "entropy", "weights", "experts")
#: A site of any module; the first number in its name is its layer.
MODULE = re.compile(r"^module:(?P<path>[^:]+):(?P<end>in|out)$")
NUMBER = re.compile(r"(?<=[.:])[0-9]+(?=[.:])")
SITE = re.compile(
    r"^(?P<stack>(?:encoder|decoder)\.)?"
    r"(?:(?P<kind>resid|mlp|attn)\.(?P<layer>\d+)(?:\.(?P<part>\w+))?|final_norm)$",
    re.ASCII,
)
#: Blocks that norm a sublayer's output before adding it: (norm after attention, norm after the MLP).
POST_NORMS = (
    ("post_attention_layernorm", "post_feedforward_layernorm"),
    ("post_self_attn_layernorm", "post_mlp_layernorm"),
)
#: Where models of text and images keep the one that reads text.
TOWERS = ("language_model", "text_model")
FINAL_NORMS = ("norm", "ln_f", "final_layer_norm", "final_layernorm", "final_norm", "norm_f")


@dataclass(frozen=True)
class Tap:
    """One site and the module whose input or output it is."""

    site: str
    module: "nn.Module"
    reads: Reads


def family(site: str) -> str:
    """The family of a site: `mlp.3.act` → `mlp.act`; an encoder–decoder's prefix stays. That of a module has
    `*` for its layer: `module:model.layers.*.mlp:out`."""
    if MODULE.match(site):
        return NUMBER.sub("*", site, count=1)
    return ".".join(part for part in site.split(".") if not re.fullmatch("[0-9]+", part))


def asked(wanted: str | Sequence[str]) -> list[str]:
    """Families and sites as options name them: one string with commas, or several."""
    return [part.strip() for part in wanted.split(",")] if isinstance(wanted, str) else list(wanted)


def stack(site: str) -> str:
    """Which of an encoder–decoder's two stacks a site is in, encoder or decoder; "" elsewhere."""
    match = SITE.match(site)
    return (match["stack"] or "").removesuffix(".") if match else ""


def layer(site: str) -> int | None:
    """The number in a site's name, None for `final_norm`; the first one in a module's."""
    if MODULE.match(site):
        digits = NUMBER.search(site)
        return int(digits[0]) if digits else None
    match = SITE.match(site)
    if not match:
        raise TransectError(
            f"{site!r} is no site.",
            f"Sites are named like resid.12, mlp.3.act; families: {', '.join(FAMILIES)}.",
        )
    return int(match["layer"]) if match["layer"] else None


def order(site: str) -> tuple[str, int, str, int]:
    """Sort key: stack, family, layer; modules stand last, by name and layer."""
    name = family(site)
    if MODULE.match(site):
        return "", len(FAMILIES), name, layer(site) or 0
    stack, _, bare = name.rpartition("coder.")
    return stack, FAMILIES.index(bare), "", layer(site) or 0


def globbed(pattern: str, name: str) -> bool:
    """Whether a dotted name fits a pattern: `*` stands for anything within one part of it, `**` for several
    parts.

    >>> globbed("model.layers.*.self_attn.?_proj", "model.layers.3.self_attn.q_proj")
    True
    """
    wild = {"**": ".*", "*": "[^.:]*", "?": "[^.:]"}
    parts = re.split(r"(\*\*|\*|\?)", pattern)
    return re.fullmatch("".join(wild.get(part, re.escape(part)) for part in parts), name) is not None


def _names(wanted: str, site: str) -> bool:
    """Whether a user's word names a site: itself, its family, a group of families, a glob of modules."""
    if wanted.startswith("module:"):
        return globbed(wanted, site)
    names = (family(site), family(site).split("coder.")[-1])
    return wanted == site or wanted in names or names[1] in GROUPS.get(wanted, ())


def select(available: Sequence[str], wanted: Iterable[str], layers: Iterable[int] | None = None) -> list[str]:
    """The sites among `available` that `wanted` names (families or single sites), optionally at `layers`
    only."""
    selected: set[str] = set()
    keep = None if layers is None else set(layers)
    for name in wanted:
        hit = [s for s in available if _names(name, s)]
        if not hit:
            there = ", ".join(dict.fromkeys(family(s) for s in available))
            like = nearest(name, [*available, *(family(s) for s in available)])
            raise TransectError(
                f"no site {name!r} here.{like}",
                f"Families here: {there}; one site is written like {available[0]}.",
            )
        selected.update(s for s in hit if keep is None or layer(s) is None or layer(s) in keep)
    if not selected:
        raise TransectError(
            f"no site left at layers {sorted(keep or ())}.",
            f"Sites run from {available[0]} to {available[-1]}.",
        )
    return sorted(selected, key=order)


def base_of(model: Any) -> Any:
    """The model that reads text, without head: inside a PEFT wrapper, and the text tower of one that also
    sees or hears."""
    model = model.get_base_model() if hasattr(model, "peft_config") else model
    base = getattr(model, "base_model", model)
    towers = (getattr(base, name, None) for name in TOWERS)
    return next((t for t in towers if hasattr(t, "config") and hasattr(t, "get_input_embeddings")), base)


def discover(model: Any, *, derived: bool = False) -> dict[str, Tap]:
    """Every site of a transformers model, in order. Works on the base model, one with a head, or a PEFT
    wrapper.

    Args:
        derived: Also the numbers that are made of what a module returns: attention and experts' choices.
    """
    if hasattr(model, "_orig_mod"):
        raise TransectError(
            "a compiled model cannot be captured.", "Pass the model from before torch.compile."
        )
    base = base_of(model)
    config = base.config.get_text_config() if hasattr(base.config, "get_text_config") else base.config
    taps: dict[str, Tap] = {}
    if getattr(base.config, "is_encoder_decoder", False) and hasattr(base, "decoder"):
        for name in ("encoder", "decoder"):
            taps |= _stack(getattr(base, name), base.config, f"{name}.")
    else:
        taps = _stack(base, config, "")
    there = {site: tap for site, tap in taps.items() if derived or tap.reads not in DERIVED}
    return dict(sorted(there.items(), key=lambda item: order(item[0])))


def _stack(root: "nn.Module", config: Any, prefix: str) -> dict[str, Tap]:
    parent, blocks = _blocks(root, config, prefix)
    hidden = config.hidden_size
    taps: list[Tap] = [Tap(f"{prefix}resid.0", blocks[0], "input")]
    for k, block in enumerate(blocks):
        taps.append(Tap(f"{prefix}resid.{k + 1}", block, "output"))
        taps += [
            Tap(f"{prefix}{kind}.{k}.{part}", m, how) for kind, part, m, how in _sublayers(block, hidden)
        ]
    for holder in (parent, root):
        norm = next((m for n in FINAL_NORMS if (m := getattr(holder, n, None)) is not None), None)
        if norm is not None:
            taps.append(Tap(f"{prefix}final_norm", norm, "output"))
            break
    return {tap.site: tap for tap in taps}


def _blocks(root: "nn.Module", config: Any, prefix: str) -> "tuple[nn.Module, Sequence[nn.Module]]":
    """The list of blocks, and the module that holds it: the shallowest ModuleList with as many members as
    layers."""
    from torch.nn import ModuleList

    names = ("num_hidden_layers", "n_layer", "num_layers", "encoder_layers")
    if prefix == "decoder.":
        names = ("num_decoder_layers", "decoder_layers", *names)
    depth = next((v for n in names if isinstance(v := getattr(config, n, None), int)), None)
    lists = [(name, m) for name, m in root.named_modules() if isinstance(m, ModuleList) and len(m) == depth]
    if not lists:
        raise TransectError(
            f"{type(root).__name__}: found no list of {depth} blocks.",
            "Only stacks of transformer blocks can be captured.",
        )
    name, blocks = min(lists, key=lambda item: item[0].count("."))
    parent = root.get_submodule(name.rpartition(".")[0])
    return parent, list(blocks)


def _sublayers(block: "nn.Module", hidden: int) -> "Iterator[tuple[str, str, nn.Module, Reads]]":
    attention = next((m for n, m in block.named_modules() if n and _is_attention(m)), None)
    post = next((pair for pair in POST_NORMS if all(hasattr(block, n) for n in pair)), None)
    if attention is not None and (out := _last(_linears(attention), hidden)) is not None:
        yield "attn", "head", out, "input"
        yield "attn", "out", getattr(block, post[0]) if post else out, "output"
        yield "attn", "sink", attention, "sink"
        yield "attn", "entropy", attention, "entropy"
        yield "attn", "weights", attention, "weights"
    experts = next((n for n, _ in block.named_modules() if n.endswith("experts")), None)
    if experts is not None:
        mixture = block.get_submodule(experts.rpartition(".")[0])
        yield "mlp", "out", getattr(block, post[1]) if post else mixture, "output"
        router = next((m for n, m in mixture.named_children() if n in ("gate", "router")), None)
        if router is not None:
            yield "mlp", "router", router, "output"
            yield "mlp", "experts", router, "experts"
    elif (down := _last(_linears(block, outside_attention=True), hidden)) is not None:
        yield "mlp", "act", down, "input"
        yield "mlp", "out", getattr(block, post[1]) if post else down, "output"


def _is_attention(module: "nn.Module") -> bool:
    return "Attention" in type(module).__name__


def _linears(module: "nn.Module", outside_attention: bool = False) -> "Iterator[nn.Module]":
    """Linear-like leaves in order; an adapter's wrapper counts as the layer it wraps."""
    for child in module.children():
        if outside_attention and _is_attention(child):
            continue
        if (
            hasattr(child, "base_layer")
            or "Linear" in type(child).__name__
            or type(child).__name__ == "Conv1D"
        ):
            yield child
        else:
            yield from _linears(child, outside_attention)


def _last(linears: "Iterator[nn.Module]", width: int) -> "nn.Module | None":
    fitting = [m for m in linears if _out_features(m) == width]
    return fitting[-1] if fitting else None


def _out_features(module: "nn.Module") -> int | None:
    return getattr(module, "out_features", getattr(module, "nf", None))
