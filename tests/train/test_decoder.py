"""The decoder equals transformers' Llama and GPT-2 with copied weights, and every arm of it runs, generates
and is captured."""

import itertools

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from transect.errors import TransectError
from transect.models import sites
from transect.models.checkpoints import random_model
from transect.models.forward import hooked
from transect.train.decoder import TransectForCausalLM
from transect.train.decoder_config import MLPS, NORMS, PLACEMENTS, POSITIONS, SHARE, TransectConfig
from transect.train.state import quiet

ARMS = list(itertools.product(PLACEMENTS, NORMS, MLPS))
SHAPE = {"vocab_size": 61, "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4}
IDS = torch.randint(0, 61, (2, 11), generator=torch.Generator().manual_seed(0))


def decoder(seed: int = 0, **given):
    config = TransectConfig(**{**SHAPE, "architectures": ["TransectForCausalLM"], **given})
    return random_model(config, seed, torch.float32).eval()


def roughened(model):
    """Every parameter moved off its start, so that norms and biases count too."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn(p.shape, generator=generator) * 0.15)
    return model.eval()


def test_equals_llama_with_copied_weights() -> None:
    shape = {**SHAPE, "intermediate_size": 85, "num_key_value_heads": 2, "rms_norm_eps": 1e-5}
    peer = roughened(LlamaForCausalLM(LlamaConfig(**shape, tie_word_embeddings=False)))
    ours = decoder(num_key_value_heads=2, tie_word_embeddings=False)
    names = {"self_attn": "attention", "post_attention_layernorm": "pre_feedforward_layernorm"}
    state = {}
    for name, value in peer.state_dict().items():
        for old, new in names.items():
            name = name.replace(old, new)
        state[name] = value
    ours.load_state_dict(state)
    assert ours.config.intermediate_size == 85, "two thirds of 4 × 32"
    mask = torch.ones_like(IDS)
    mask[1, 7:] = 0
    for given in ({}, {"attention_mask": mask}):
        with torch.inference_mode():
            a, b = ours(IDS, **given).logits, peer(IDS, **given).logits
        seen = mask.bool() if given else torch.ones_like(mask).bool()
        torch.testing.assert_close(a[seen], b[seen], atol=1e-5, rtol=1e-5)


def test_equals_gpt2_with_copied_weights() -> None:
    peer = roughened(
        GPT2LMHeadModel(
            GPT2Config(vocab_size=61, n_embd=32, n_layer=4, n_head=4, n_positions=64, bos_token_id=0)
        )
    )
    ours = decoder(norm="layernorm", norm_bias=True, bias=True, mlp="gelu", positions="learned")
    theirs, state = peer.transformer.state_dict(), {}
    state["model.embed_tokens.weight"] = state["lm_head.weight"] = theirs["wte.weight"]
    state["model.embed_positions.weight"] = torch.cat([theirs["wpe.weight"], torch.zeros(256 - 64, 32)])
    for part in ("weight", "bias"):
        state[f"model.norm.{part}"] = theirs[f"ln_f.{part}"]
        for k in range(4):
            left, right = f"model.layers.{k}", f"h.{k}"
            state[f"{left}.input_layernorm.{part}"] = theirs[f"{right}.ln_1.{part}"]
            state[f"{left}.pre_feedforward_layernorm.{part}"] = theirs[f"{right}.ln_2.{part}"]
            qkv = theirs[f"{right}.attn.c_attn.{part}"].chunk(3, dim=-1)
            pairs = [(f"attention.{n}_proj", v) for n, v in zip("qkv", qkv, strict=True)]
            pairs += [("attention.o_proj", theirs[f"{right}.attn.c_proj.{part}"])]
            pairs += [("mlp.up_proj", theirs[f"{right}.mlp.c_fc.{part}"])]
            pairs += [("mlp.down_proj", theirs[f"{right}.mlp.c_proj.{part}"])]
            state |= {f"{left}.{n}.{part}": v.T if part == "weight" else v for n, v in pairs}
    ours.load_state_dict(state)
    with torch.inference_mode():
        torch.testing.assert_close(ours(IDS).logits, peer(IDS).logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("placement", "norm", "mlp"), ARMS)
def test_every_arm_runs_backward_generates_and_is_captured(placement: str, norm: str, mlp: str) -> None:
    positions = POSITIONS[len(placement) % 2]
    model = decoder(
        norm_placement=placement,
        norm=norm,
        mlp=mlp,
        positions=positions,
        num_key_value_heads=2,
        mix_fraction=0.5,
    )
    model(IDS, labels=IDS).loss.backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())
    taps, seen = sites.discover(model), {}
    with torch.inference_mode(), hooked(taps.values(), lambda s, v: seen.update({s: v.clone()})) as fired:
        out = model.model(IDS, attention_mask=torch.ones_like(IDS))
    assert set(fired.values()) == {1}
    if mlp != "none":
        assert seen["mlp.3.act"].shape == (2, 11, model.config.intermediate_size)
    assert seen["attn.0.head"].shape == (2, 11, 32)
    torch.testing.assert_close(seen["final_norm"], out.last_hidden_state)
    for k in range(4):
        error = seen[f"resid.{k + 1}"] - seen[f"resid.{k}"] - seen[f"attn.{k}.out"]
        error = error - seen[f"mlp.{k}.out"] if mlp != "none" else error
        adds = model.config.placement(k) in ("pre", "peri", "none")
        assert (float(error.norm()) < 1e-4 * float(seen[f"resid.{k}"].norm())) == adds


def states(model, ids):
    """The stream at every depth, float64 [blocks + 1, texts, tokens, width]."""
    taps, seen = sites.discover(model), {}
    chosen = [taps[s] for s in sites.select(list(taps), ["resid"])]
    with torch.inference_mode(), hooked(chosen, lambda s, v: seen.update({s: v.clone()})):
        model.model(ids)
    return torch.stack([seen[tap.site] for tap in chosen]).double()


def updates(model, ids):
    """Update / state of each block without position 0, [blocks]."""
    X = states(model, ids)[:, :, 1:].flatten(1)
    return (X[1:] - X[:-1]).norm(dim=1) / X[:-1].norm(dim=1)


def residuals(model, ids):
    """Rank residual ‖X − 1x̄ᵀ‖ / ‖X‖ at each depth, mean over texts, [blocks + 1]."""
    X = states(model, ids)
    return ((X - X.mean(dim=2, keepdim=True)).norm(dim=(2, 3)) / X.norm(dim=(2, 3))).mean(dim=1)


LONG = torch.randint(0, 61, (24, 33), generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize(("placement", "norm", "mlp"), ARMS)
def test_arms_start_alike_in_function(placement: str, norm: str, mlp: str) -> None:
    """Update / state is 0.3 in every block of every arm, on tokens that it was not set on. With equal weights
    the arms differ by 100: 0.49 (pre, GELU) and 0.004 (post, SwiGLU)."""
    shape = {"norm_placement": placement, "norm": norm, "mlp": mlp, "hidden_size": 64, "mix_fraction": 0.5}
    moved = updates(decoder(init="function", **shape), LONG)
    first = 1 if placement in ("post", "deepnorm", "mix") else 0  # there the norm moves the small embedding
    torch.testing.assert_close(moved[first:], torch.full_like(moved[first:], SHARE), rtol=0.05, atol=0)


def test_a_start_alike_in_function_is_drawn_again_from_the_configuration() -> None:
    first, again = (decoder(seed=5, init="function", mlp="gelu").state_dict() for _ in range(2))
    assert all(torch.equal(first[n], again[n]) for n in first)
    plain = decoder(seed=5, mlp="gelu").state_dict()
    changed = {n.split(".")[-2] for n in first if not torch.equal(first[n], plain[n])}
    assert changed == {"o_proj", "down_proj"}


def test_attention_alone_without_skips_collapses_to_rank_one() -> None:
    """Dong et al. 2021: without skips and MLP the residual goes to 0. Skips hold it up. Under a causal mask
    it falls by a factor a block: the first tokens see few others."""
    shape = {"num_hidden_layers": 12, "norm_placement": "none", "mlp": "none"}
    bare = residuals(decoder(skip=False, init="function", **shape), LONG)
    kept = residuals(decoder(init="function", **shape), LONG)
    assert (bare[1:] < bare[:-1]).all()
    assert bare[-1] < 0.01
    assert kept[-1] > 0.6
    assert "mlp.0.out" not in sites.discover(decoder(**shape))


def test_the_norm_before_a_branch_shrinks_with_depth() -> None:
    """LayerNorm scaling: what enters a branch of block l has a root mean square of 1 / √l."""
    seen = []
    for placement in ("pre", "peri"):
        model = decoder(norm_placement=placement, norm_scaling=True)
        for layer in model.model.layers:
            layer.attention.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        with torch.inference_mode():
            model(LONG)
    found = [float(x.pow(2).mean().sqrt()) for x in seen]
    assert found == pytest.approx([1, 2**-0.5, 3**-0.5, 0.5] * 2, rel=0.05)


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_generation_with_a_cache_is_generation_without(placement: str, positions: str) -> None:
    model = roughened(decoder(norm_placement=placement, positions=positions, num_key_value_heads=2))
    how = {"max_new_tokens": 8, "do_sample": False, "attention_mask": torch.ones_like(IDS), "pad_token_id": 0}
    assert torch.equal(
        model.generate(IDS, use_cache=True, **how), model.generate(IDS, use_cache=False, **how)
    )
    with torch.inference_mode():
        whole, first = model(IDS).logits, model(IDS[:, :4], use_cache=True)
        rest = model(IDS[:, 4:], past_key_values=first.past_key_values, use_cache=True).logits
    torch.testing.assert_close(rest, whole[:, 4:], atol=1e-5, rtol=1e-5)


def test_saved_and_opened_it_is_the_same_model(tmp_path) -> None:
    from transformers import AutoModelForCausalLM

    model = decoder(norm_placement="mix", norm="layernorm")
    with quiet():
        model.save_pretrained(tmp_path)
        again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert isinstance(again, TransectForCausalLM)
    assert torch.equal(again(IDS).logits, model(IDS).logits)
    assert again.lm_head.weight is again.model.embed_tokens.weight


def test_arms_start_equal() -> None:
    """Placement, kind of norm and seed: equal seeds give equal matrices; deepnorm has its own gains."""
    first = decoder(seed=3).state_dict()
    for placement, norm in itertools.product(("post", "peri", "mix", "none"), NORMS):
        other = decoder(seed=3, norm_placement=placement, norm=norm).state_dict()
        assert all(torch.equal(first[n], other[n]) for n in first if "proj" in n or "embed" in n)
    spread = {n: float(v.std()) for n, v in decoder(hidden_size=256).state_dict().items() if "layers.1" in n}
    assert spread["model.layers.1.attention.q_proj.weight"] == pytest.approx(0.02, rel=0.03)
    assert spread["model.layers.1.mlp.down_proj.weight"] == pytest.approx(0.02 / 8**0.5, rel=0.03)
    deep = decoder(hidden_size=256, norm_placement="deepnorm").state_dict()
    xavier = (2 / (256 + 256)) ** 0.5
    assert float(deep["model.layers.1.attention.k_proj.weight"].std()) == pytest.approx(xavier, rel=0.03)
    assert float(deep["model.layers.1.attention.o_proj.weight"].std()) == pytest.approx(
        xavier * 32**-0.25, rel=0.03
    )
    assert decoder(norm_placement="deepnorm").model.layers[0].scale == pytest.approx(8**0.25)


def test_both_mlps_have_the_same_number_of_parameters() -> None:
    count = {
        m: sum(p.numel() for p in decoder(hidden_size=96, mlp=m).model.layers.parameters())
        for m in ("swiglu", "gelu")
    }
    assert count["swiglu"] == count["gelu"]


def test_layernorm_is_one_and_rmsnorm_is_another() -> None:
    x = torch.randn(3, 32, generator=torch.Generator().manual_seed(2)) + 5
    means = {n: decoder(norm=n).model.norm(x).mean(dim=-1).abs().max() for n in NORMS}
    assert means["layernorm"] < 1e-5
    assert means["rmsnorm"] > 0.9


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"hidden_size": 36, "num_attention_heads": 5}, "does not divide into 5 heads"),
        ({"hidden_size": 36}, "odd size 9"),
        ({"num_key_value_heads": 3}, "cannot share 3"),
        ({"norm_placement": "sideways"}, "There are pre, post"),
        ({"mix_fraction": 1.5}, "share from 0 to 1"),
        ({"norm_scaling": True, "norm_placement": "post"}, "no norm stands before a branch"),
        ({"init": "zeros"}, "There are weights, function"),
    ],
)
def test_a_configuration_that_makes_no_decoder_is_refused(given, said) -> None:
    with pytest.raises(TransectError) as caught:
        TransectConfig(**{**SHAPE, **given})
    assert said in f"{caught.value.message} {caught.value.fix}"
    assert TransectConfig(**{**SHAPE, "hidden_size": 36, "positions": "learned"}).head_dim == 9
