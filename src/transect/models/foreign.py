"""Names that other tools give to places in a model, and the site that each one is: one table.

TransformerLens names its hooks, nnsight and Hugging Face name modules, with `.input` or `.output` behind
them. A name of theirs that is none of our sites (queries, patterns, scales) is known as such and left out;
one that nobody uses is refused with the nearest name.
"""

import difflib
import re
from collections.abc import Iterable, Sequence

from transect.errors import TransectError
from transect.models.sites import FAMILIES, MODULE, SITE, family

_BLOCK = r"(?:[A-Za-z_]\w*\.)*(?:layers|layer|h|blocks|block)\.(\d+)"
_ATTENTION = r"\.(?:self_attn|self_attention|attention|attn)"
_PROJECTION = r"\.(?:o_proj|c_proj|out_proj|out_lin|dense|output\.dense)"
_MLP = r"\.(?:mlp|feed_forward|ffn|block_sparse_moe)"
_DOWN = r"(?:\.(?:mlp|feed_forward|ffn))?\.(?:down_proj|c_proj|dense_4h_to_h|fc2|fc_out|w2|output\.dense)"
_IN, _OUT = r"\.input(?:\.0|\[0\])?", r"(?:\.output(?:\.0|\[0\])?)?"
_NORM = r"(?:[A-Za-z_]\w*\.)*(?:norm|ln_f|final_layer_norm|final_layernorm|final_norm|norm_f)"

#: Name → site, the first row that fits decides: {k} is the block's number, {after} the one behind it. "" is a
#: place of theirs that is no site. Of two names for one site the one that stands first here is taken.
TABLE: tuple[tuple[str, str], ...] = (
    # TransformerLens
    (r"blocks\.(\d+)\.hook_resid_post", "resid.{after}"),
    (r"blocks\.(\d+)\.hook_resid_pre", "resid.{k}"),
    (r"blocks\.(\d+)\.hook_mlp_out", "mlp.{k}.out"),
    (r"blocks\.(\d+)\.hook_attn_out", "attn.{k}.out"),
    (r"blocks\.(\d+)\.mlp\.hook_post", "mlp.{k}.act"),
    (r"blocks\.(\d+)\.attn\.hook_z", "attn.{k}.head"),
    (r"ln_final\.hook_normalized", "final_norm"),
    (r"hook_embed", "resid.0"),
    (r"(?:[A-Za-z_]\w*\.|\d+\.)*hook_\w+", ""),
    # transformers' hidden_states, one by one
    (r"hidden_states?(?:\.|\[|_)(\d+)\]?", "resid.{k}"),
    # modules of Hugging Face, as nnsight names them too
    (r"(?:[A-Za-z_]\w*\.)*layer\.(\d+)\.attention" + _OUT, ""),  # BERT's: after adding and norming
    (_BLOCK + _IN, "resid.{k}"),
    (_BLOCK + _OUT, "resid.{after}"),
    (_BLOCK + _ATTENTION + _PROJECTION + _IN, "attn.{k}.head"),
    (_BLOCK + _ATTENTION + _PROJECTION + _OUT, "attn.{k}.out"),
    (_BLOCK + _DOWN + _IN, "mlp.{k}.act"),
    (_BLOCK + r"\.(?:post_feedforward_layernorm|post_mlp_layernorm)" + _OUT, "mlp.{k}.out"),
    (_BLOCK + _DOWN + _OUT, "mlp.{k}.out"),
    (_BLOCK + _ATTENTION + _OUT, "attn.{k}.out"),
    (_BLOCK + _MLP + _OUT, "mlp.{k}.out"),
    (_BLOCK + _MLP + r"\.(?:gate|router)" + _OUT, "mlp.{k}.router"),
    (_NORM + _OUT, "final_norm"),
    (r"(?:[A-Za-z_]\w*\.)*embed_tokens" + _OUT, "resid.0"),
    (r"(?:[A-Za-z_]\w*\.)*(?:wte|wpe|lm_head|word_embeddings)" + _OUT, ""),
)
_TABLE = tuple((re.compile(pattern), site) for pattern, site in TABLE)
_STACK = re.compile(r"(?:^|\.)(encoder|decoder)\.")


def is_site(name: str) -> bool:
    """Whether `name` is one of our own sites, such as resid.12, encoder.final_norm, module:lm_head:in."""
    bare = family(name)
    return bool(MODULE.match(name)) or (
        bool(SITE.match(name)) and bare.removeprefix("encoder.").removeprefix("decoder.") in FAMILIES
    )


def site_of(name: str) -> tuple[str, int]:
    """(site, rank) of a name, ours or another tool's; the site is "" for a known place that is none.

    Of two names for one site the one of lower rank is taken. Raises: TransectError with the nearest name.

    >>> site_of("blocks.3.hook_resid_post")[0], site_of("model.layers.3.mlp.down_proj.input")[0]
    ('resid.4', 'mlp.3.act')
    """
    if is_site(name):
        return name, -1
    for rank, (pattern, site) in enumerate(_TABLE):
        if match := pattern.fullmatch(name):
            k = int(match[1]) if pattern.groups and match[1] else 0
            return site.format(k=k, after=k + 1), rank
    number = next(iter(re.findall(r"\d{1,6}", name)), "0")
    near = difflib.get_close_matches(name, _candidates(number), n=1, cutoff=0.0)[0]
    raise TransectError(
        f"{name[:80]!r} is no site.",
        f"The nearest name is {near}. Sites are named like resid.12, mlp.3.act; families: "
        f"{', '.join(FAMILIES)}; names of TransformerLens and of Hugging Face's modules are known too.",
    )


def sites_of(names: Iterable[str]) -> tuple[dict[str, list[str]], list[str]]:
    """(site → its names, the one to take first; names that are known and are no site).

    Where a model has two stacks, `encoder.` or `decoder.` stands in front. TransformerLens' hook_embed counts
    only where nothing else enters block 0: positions may be added to it. Raises: TransectError.
    """
    names = list(names)
    stacks = {m[1] for name in names if not is_site(name) and (m := _STACK.search(name))}
    ranked: dict[str, list[tuple[int, str]]] = {}
    left = []
    for name in names:
        site, rank = site_of(name)
        if site and len(stacks) == 2 and not is_site(name) and (m := _STACK.search(name)):
            site = f"{m[1]}.{site}"
        if not site or (name == "hook_embed" and {"blocks.0.hook_resid_pre", "hook_pos_embed"} & {*names}):
            left.append(name)
        else:
            ranked.setdefault(site, []).append((rank, name))
    return {site: [name for _, name in sorted(pairs)] for site, pairs in ranked.items()}, left


def _candidates(number: str) -> Sequence[str]:
    ours = [f"{f.partition('.')[0]}.{number}{'.' * ('.' in f)}{f.partition('.')[2]}" for f in FAMILIES[:-1]]
    hooks = ("hook_resid_pre", "hook_resid_post", "hook_mlp_out", "hook_attn_out", "mlp.hook_post")
    theirs = [f"blocks.{number}.{hook}" for hook in hooks]
    ends = ("", ".output", ".mlp.output", ".self_attn.output", ".mlp.down_proj.input")
    return [*ours, "final_norm", *theirs, *(f"model.layers.{number}{end}" for end in ends)]
