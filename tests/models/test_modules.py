"""Any module by its name, attention as numbers per head, and the experts that a router chose."""

from pathlib import Path

import numpy as np
import pytest
import torch

import transect as ts
from tiny import FAMILIES, HEADS, LAYERS, make_texts, save_tiny, tiny_model, tiny_tokenizer
from transect.errors import TransectError
from transect.models import sites
from transect.models.readings import SEEN
from transect.store.capture_shard import opening_of, write_shard

QUERIES = "module:model.layers.*.self_attn.q_proj"


def wrapped(family: str, name: str = "tiny") -> ts.Model:
    return ts.wrap_model(tiny_model(family), tiny_tokenizer(), name)


def test_names_of_modules_are_sites_in_the_order_of_their_layers() -> None:
    named = [f"module:model.layers.{k}.mlp:out" for k in (10, 2)]
    assert sites.family(named[0]) == "module:model.layers.*.mlp:out"
    assert sites.layer(named[0]) == 10
    assert sites.layer("module:model.norm:in") is None
    assert sorted([*named, "resid.3"], key=sites.order) == ["resid.3", *reversed(named)]
    assert sites.select(named, ["module:model.layers.*.mlp:out"], [2]) == [named[1]]
    assert sites.globbed("model.**.q_proj", "model.layers.3.self_attn.q_proj")
    assert not sites.globbed("model.*.q_proj", "model.layers.3.self_attn.q_proj")
    assert not sites.globbed("model.layers.*", "model.layers.3.mlp")


def test_a_module_is_captured_as_it_computes_and_used_like_any_site(tmp_path: Path) -> None:
    model = wrapped("llama")
    asked = [f"{QUERIES}:in", f"{QUERIES}:out", "resid"]
    store = ts.capture(model, make_texts(20), tmp_path / "s", sites=asked, batch_tokens=64)
    block = model.base.layers[1]
    with torch.inference_mode():
        entered = block.input_layernorm(torch.from_numpy(store.points("resid.1")))
        for end, wanted in (("in", entered), ("out", block.self_attn.q_proj(entered))):
            found = store.points(f"module:model.layers.1.self_attn.q_proj:{end}")
            assert np.allclose(found, wanted.numpy(), atol=1e-5)
    rows = ts.sweep("cka", store, sites=f"{QUERIES}:out", n=60, groups=4, permutations=0)
    assert len(rows) == LAYERS - 1
    assert set(rows.column("status")) == {"ok"}
    with pytest.raises(TransectError, match=r"Did you mean module:model.layers.2.self_attn.q_proj:out"):
        store.points("module:model.layers.2.self_attn.q_prj:out")


def test_workers_find_the_same_modules(tmp_path: Path) -> None:
    model = ts.open_model(str(save_tiny(tmp_path / "m", "llama")))
    asked = {"sites": [f"{QUERIES}:out", "attention"], "batch_tokens": 40, "shard_bytes": 9000}
    here = ts.capture(model, make_texts(6), tmp_path / "a", **asked)
    there = ts.capture(model, make_texts(6), tmp_path / "b", shard=(len(here.plan), len(here.plan)), **asked)
    for k in there.unfinished:  # what a worker runs
        write_shard(opening_of(model), (str(tmp_path / "b"), k))
    assert len(here.plan) > 1
    assert here.content == ts.open_store(tmp_path / "b").content


@pytest.mark.fault(
    "bad input",
    "a module that is not there, or whose rows are no tokens",
    "refused by name, with the nearest names; nothing is written",
)
def test_modules_that_cannot_be_captured_are_refused_by_name(tmp_path: Path) -> None:
    model = wrapped("llama")
    for asked, said in {
        "module:model.layers.*.self_attn.q_prj:out": r"Did you mean module:model.layers.\*.self_attn.q_proj",
        "module:model.layers.0.mlp": "no site",
        "module:model.rotary_emb:out": "rotary_emb",
        "module:lm_head:out": "did not fire",
    }.items():
        with pytest.raises(TransectError, match=said):
            ts.capture(model, make_texts(6), tmp_path / "s", sites=[asked])
        assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("family", ["llama", "gpt2", "bert", "gptneox", "opt", "t5"])
def test_attention_is_two_numbers_a_head_and_the_model_stays_as_it_was(family: str, tmp_path: Path) -> None:
    model, texts = wrapped(family), make_texts(5)
    before = model.base.config._attn_implementation
    asked = ["attention", "attn.weights"]
    store = ts.capture(model, texts, tmp_path / "s", sites=asked, batch_tokens=64)
    assert model.base.config._attn_implementation == before
    assert store.manifest["attention"] == "eager"
    stack = "encoder." if family == "t5" else ""
    assert store.width(f"{stack}attn.0.sink") == HEADS
    eager = tiny_model(family, attn_implementation="eager")
    for i, text in enumerate(texts.texts):
        ids = torch.tensor([model.tokenizer(text)["input_ids"]])
        given = {"decoder_input_ids": ids} if family == "t5" else {}
        with torch.inference_mode():
            out = eager(ids, output_attentions=True, **given)
        weights = (out.encoder_attentions if family == "t5" else out.attentions)[1][0].double()
        entropy = -(weights * weights.clamp_min(1e-300).log()).sum(-1)
        assert np.allclose(store.sample(i, f"{stack}attn.1.sink"), weights[..., 0].T.numpy(), atol=1e-5)
        assert np.allclose(store.sample(i, f"{stack}attn.1.entropy"), entropy.T.numpy(), atol=1e-4)
        kept = store.sample(i, f"{stack}attn.1.weights").reshape(-1, HEADS, SEEN)
        n = min(SEEN, weights.shape[-1])
        assert np.allclose(kept[..., :n], weights.transpose(0, 1)[..., :n].numpy(), atol=1e-5)
        assert not kept[..., n:].any()


@pytest.mark.parametrize("family", ["mixtral", "qwen2moe"])
def test_experts_are_what_the_router_chose(family: str, tmp_path: Path) -> None:
    store = ts.capture(wrapped(family), make_texts(5), tmp_path / "s", sites=["mlp.router", "mlp.experts"])
    logits = torch.from_numpy(store.points("mlp.1.router")).double()
    top = logits.softmax(-1).topk(2, -1)
    share = top.values / top.values.sum(-1, keepdim=True) if family == "mixtral" else top.values
    wanted = torch.zeros_like(logits).scatter(1, top.indices, share)
    assert np.allclose(store.points("mlp.1.experts"), wanted.numpy(), atol=1e-5)
    assert family in FAMILIES


def test_the_text_tower_of_a_model_of_text_and_images_is_captured(tmp_path: Path) -> None:
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    eyes = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=8,
        patch_size=4,
    )
    words = LlamaConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, vocab_size=300
    )
    whole = LlavaForConditionalGeneration(
        LlavaConfig(vision_config=eyes, text_config=words, image_token_index=299)
    )
    whole.save_pretrained(tmp_path / "m")
    tiny_tokenizer().save_pretrained(tmp_path / "m")
    model, texts = ts.open_model(str(tmp_path / "m")), make_texts(3)
    store = ts.capture(model, texts, tmp_path / "s", sites=["resid", "mlp.act"])
    assert store.sites == ["resid.0", "resid.1", "resid.2", "mlp.0.act", "mlp.1.act"]
    with torch.inference_mode():
        ids = torch.tensor([model.tokenizer(texts.texts[1])["input_ids"]])
        hidden = whole.eval().model.language_model(ids, output_hidden_states=True).hidden_states
    assert np.allclose(store.sample(1, "resid.1"), hidden[1][0].numpy(), atol=1e-6)
