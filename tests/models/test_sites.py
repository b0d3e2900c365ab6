"""Every family's sites: each fires once, is what its name says, and adds up where the architecture adds."""

from types import SimpleNamespace

import pytest
import torch

from tiny import ENCODER_DECODERS, FAMILIES, LAYERS, WIDTH, tiny_model
from transect.errors import TransectError
from transect.models import sites
from transect.models.forward import hooked

#: Blocks in which resid + attn.out + mlp.out is the next resid; BERT norms the sum, T5's decoder has
#: cross-attention.
ADDITIVE = set(FAMILIES) - {"bert", "roberta", "t5"}
#: Fused experts have no single matrix of neurons.
MIXTURES = {"mixtral", "qwen2moe"}


def run(family: str) -> tuple[dict[str, sites.Tap], dict[str, int], dict[str, torch.Tensor]]:
    model = tiny_model(family)
    taps, seen = sites.discover(model), {}
    ids = torch.randint(3, 290, (2, 7), generator=torch.Generator().manual_seed(0))
    given = {"decoder_input_ids": ids} if family in ENCODER_DECODERS else {}
    base = model if family in ENCODER_DECODERS else model.base_model
    with torch.inference_mode(), hooked(taps.values(), lambda s, v: seen.update({s: v.clone()})) as fired:
        base(ids, attention_mask=torch.ones_like(ids), **given)
    return taps, fired, seen


@pytest.mark.parametrize("family", FAMILIES)
def test_every_site_fires_once_with_its_width(family: str) -> None:
    taps, fired, seen = run(family)
    assert set(fired.values()) == {1}
    stacks = ["encoder.", "decoder."] if family in ENCODER_DECODERS else [""]
    for stack in stacks:
        assert [s for s in taps if s.startswith(f"{stack}resid")] == [
            f"{stack}resid.{k}" for k in range(LAYERS + 1)
        ]
        for k in range(LAYERS):
            head, out = seen[f"{stack}attn.{k}.head"], seen[f"{stack}attn.{k}.out"]
            assert out.reshape(14, -1).shape[1] == WIDTH
            assert head.reshape(14, -1).shape[1] in (WIDTH, 64)
            assert seen[f"{stack}mlp.{k}.out"].reshape(14, -1).shape[1] == WIDTH
            if family in MIXTURES:
                assert f"mlp.{k}.act" not in taps
                assert seen[f"mlp.{k}.router"].shape[-1] == 4
            else:
                assert seen[f"{stack}mlp.{k}.act"].reshape(14, -1).shape[1] > WIDTH


@pytest.mark.parametrize("family", sorted(ADDITIVE))
def test_sublayers_add_up_to_the_block(family: str) -> None:
    _, _, seen = run(family)
    for k in range(LAYERS):
        delta = seen[f"resid.{k + 1}"] - seen[f"resid.{k}"]
        parts = seen[f"attn.{k}.out"] + seen[f"mlp.{k}.out"].reshape(delta.shape)
        assert float((delta - parts).norm() / delta.norm()) < 1e-4


@pytest.mark.parametrize("family", ["llama", "gpt2", "gptneox"])
def test_neurons_and_heads_are_what_the_projections_read(family: str) -> None:
    taps, _, seen = run(family)
    for kind, part in (("mlp", "act"), ("attn", "head")):
        tap = taps[f"{kind}.1.{part}"]
        with torch.inference_mode():
            assert torch.allclose(tap.module(seen[tap.site]), seen[f"{kind}.1.out"], atol=1e-6)


def test_last_resid_is_before_the_final_norm() -> None:
    model = tiny_model("llama")
    ids = torch.arange(3, 12)[None]
    seen: dict[str, torch.Tensor] = {}
    with (
        torch.inference_mode(),
        hooked(sites.discover(model).values(), lambda s, v: seen.update({s: v.clone()})),
    ):
        out = model.base_model(ids, output_hidden_states=True)
    assert torch.allclose(seen["final_norm"], out.last_hidden_state)
    assert not torch.allclose(seen[f"resid.{LAYERS}"], out.last_hidden_state, atol=0.1)
    assert torch.allclose(seen["resid.1"], out.hidden_states[1])
    assert torch.allclose(seen["resid.0"], model.get_input_embeddings()(ids))


def test_an_adapters_sites_are_the_wrapped_ones() -> None:
    from peft import LoraConfig, get_peft_model

    base = tiny_model("llama")
    plain = set(sites.discover(base))
    wrapped = get_peft_model(base, LoraConfig(r=2, target_modules=["down_proj", "o_proj", "q_proj"]))
    taps = sites.discover(wrapped)
    assert set(taps) == plain
    assert hasattr(taps["mlp.0.act"].module, "base_layer")


def test_digits_of_other_scripts_name_no_layer() -> None:
    assert sites.family("resid.٣") == "resid.٣"
    assert not sites.SITE.match("mlp.³.act")


def test_names() -> None:
    assert sites.family("encoder.mlp.12.act") == "encoder.mlp.act"
    assert sites.layer("resid.30") == 30
    assert sites.layer("final_norm") is None
    available = ["resid.0", "resid.1", "resid.2", "mlp.0.act", "mlp.1.act", "final_norm"]
    assert sites.select(available, ["mlp.act", "resid.2"]) == ["resid.2", "mlp.0.act", "mlp.1.act"]
    assert sites.select(available, ["resid"], layers=[0, 2]) == ["resid.0", "resid.2"]
    both = ["encoder.resid.0", "decoder.resid.0"]
    assert sites.select(both, ["resid"]) == ["decoder.resid.0", "encoder.resid.0"]
    assert sites.select(both, ["decoder.resid"]) == ["decoder.resid.0"]
    with pytest.raises(TransectError, match="no site 'neurons'"):
        sites.select(available, ["neurons"])
    with pytest.raises(TransectError, match="no site left at layers"):
        sites.select(available, ["resid"], layers=[9])


def test_a_compiled_model_is_refused() -> None:
    with pytest.raises(TransectError, match="compiled"):
        sites.discover(SimpleNamespace(_orig_mod=tiny_model("llama")))
