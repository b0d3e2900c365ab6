"""Models: every spec form on tiny folders; the real SmolLM2 once, through fetch."""

import json
import shutil
import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file

from tiny import DECODERS, ENCODERS, FAMILIES, save_tiny, tiny_model, tiny_tokenizer
from transect.errors import TransectError
from transect.models import checkpoints
from transect.models.models import Model, open_model, wrap_model


@pytest.fixture(autouse=True)
def no_hub(monkeypatch):
    monkeypatch.setattr(checkpoints, "hub_reachable", lambda: False)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {family: save_tiny(root / family, family) for family in ("gpt2", "llama", "bert", "t5")}


@pytest.mark.parametrize(
    ("family", "kind"),
    [("gpt2", "decoder"), ("llama", "decoder"), ("bert", "encoder"), ("t5", "encoder-decoder")],
)
def test_a_folder_opens_by_kind_with_its_weights(folders, family, kind):
    model = open_model(str(folders[family]), device="cpu")
    assert (model.kind, model.name, model.model.training) == (kind, family, False)
    truth = tiny_model(family).state_dict()
    ours = model.model.state_dict()
    prefix = "bert." if family == "bert" else ""
    shared = [name for name in ours if prefix + name in truth]
    assert len(shared) >= 20
    assert all(torch.equal(ours[name], truth[prefix + name]) for name in shared)
    assert "fingerprint" in model.info()
    assert model.dtype == torch.float32


@pytest.mark.parametrize("family", FAMILIES)
def test_kinds_and_bases_of_every_family(family):
    kind = "encoder" if family in ENCODERS else "decoder" if family in DECODERS else "encoder-decoder"
    model = wrap_model(tiny_model(family, head=family not in ENCODERS), tiny_tokenizer(), family)
    assert model.kind == kind
    headless = model.base
    assert (headless is model.model) == (kind != "decoder")
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        out = headless(input_ids=ids, **({"decoder_input_ids": ids} if family == "t5" else {}))
    assert torch.isfinite(out[0]).all()


def test_fingerprints_tell_weights_from_configuration(folders, tmp_path):
    first, again = open_model(folders["gpt2"]), open_model(folders["gpt2"])
    assert first.fingerprint == again.fingerprint
    other = open_model(save_tiny(tmp_path / "other", "gpt2", seed=1))
    assert other.fingerprint["config"] == first.fingerprint["config"]
    assert other.fingerprint["weights"] != first.fingerprint["weights"]
    assert other.id != first.id
    first.tokenizer("one two", padding="max_length", max_length=9, truncation=True)
    assert (
        open_model(folders["gpt2"]).fingerprint["tokenizer"]
        == wrap_model(first.model, first.tokenizer).fingerprint["tokenizer"]
    )
    half = open_model(folders["gpt2"], dtype="bf16")
    assert half.dtype == torch.bfloat16
    assert half.id != first.id
    json.dumps(first.fingerprint)


def test_random_weights_follow_the_seed_and_leave_the_generator_alone(folders):
    spec = f"random:{folders['llama']}"
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    a, b, c = open_model(spec), open_model(spec), open_model(spec, seed=1)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert a.id == b.id
    assert a.fingerprint["weights"] != c.fingerprint["weights"]
    assert c.name.endswith("seed 1")
    assert a.fingerprint["config"] == open_model(folders["llama"]).fingerprint["config"]
    half = open_model(spec, dtype="bfloat16")
    assert torch.equal(half.model.lm_head.weight, a.model.lm_head.weight.bfloat16())


def test_random_needs_only_a_configuration(folders, tmp_path):
    shutil.copy(folders["gpt2"] / "config.json", tmp_path / "config.json")
    with pytest.raises(TransectError, match="no tokenizer that fits"):
        open_model(f"random:{tmp_path / 'config.json'}")
    model = open_model(f"random:{tmp_path / 'config.json'}", tokenizer=str(folders["gpt2"]))
    assert model.config.n_layer == 3
    with pytest.raises(TransectError, match="For random weights: random:FOLDER"):
        open_model(tmp_path)


def test_random_family_without_a_hub_says_so_and_borrows_a_tokenizer():
    model = open_model("random:distilbert")
    assert any("default configuration" in note for note in model.notes)
    assert any("minilm" in note for note in model.notes)
    with pytest.raises(TransectError, match="no hub can be reached"):
        open_model("random:no-such-family")


def adapter(tmp_path, base, trained_on=None):
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    with warnings.catch_warnings():  # PEFT asks transformers by an old name
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
        wrapped = get_peft_model(open_model(base).model, config)
    wrapped.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "adapter_config.json").read_text(encoding="utf-8"))
    written["base_model_name_or_path"] = str(trained_on or base)
    (tmp_path / "adapter_config.json").write_text(json.dumps(written), encoding="utf-8")
    return tmp_path


def test_an_adapter_changes_the_output_and_keeps_the_base_weights(folders, tmp_path):
    base = folders["llama"]
    lora = adapter(tmp_path / "lora", base)
    plain, adapted = open_model(base), open_model(f"{base}+{lora}")
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        a, b = plain.base(input_ids=ids)[0], adapted.base(input_ids=ids)[0]
    assert not torch.allclose(a, b)
    assert type(adapted.base) is type(plain.base)
    assert adapted.fingerprint["weights"] == plain.fingerprint["weights"]
    assert adapted.fingerprint["adapter"]
    assert plain.fingerprint["adapter"] is None
    assert adapted.name == "llama+lora"
    assert adapted.notes == []
    assert not adapted.model.training


def test_an_adapter_of_another_base_is_noted_or_refused(folders, tmp_path):
    lora = adapter(tmp_path / "lora", folders["llama"], trained_on="org/another")
    assert "trained on another" in open_model(f"{folders['llama']}+{lora}").notes[0]
    with pytest.raises(TransectError, match=r"adapter .* cannot be loaded"):
        open_model(f"{folders['gpt2']}+{lora}")  # its target modules do not exist there


def test_adapters_that_are_no_adapters(folders, tmp_path):
    base = folders["llama"]
    with pytest.raises(TransectError, match="BASE\\+ADAPTER"):
        open_model(f"{base}+")
    with pytest.raises(TransectError, match="no adapter_config"):
        open_model(f"{base}+{folders['gpt2']}")
    lora = adapter(tmp_path / "lora", base)
    with pytest.raises(TransectError, match="holds an adapter"):
        open_model(lora)
    (lora / "adapter_model.safetensors").rename(lora / "adapter_model.bin")
    with pytest.raises(TransectError, match="Pickled adapters"):
        open_model(f"{base}+{lora}")
    with pytest.raises(TransectError, match="no model"):
        open_model(f"{tmp_path / 'gone'}+{lora}")


def test_pickles_are_refused_unread(tmp_path):
    folder = save_tiny(tmp_path / "m", "gpt2")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n")
    with pytest.raises(TransectError, match="pickle only"):
        open_model(folder)


def test_damaged_weights_are_named(tmp_path):
    folder = save_tiny(tmp_path / "m", "gpt2")
    tensors = load_file(folder / "model.safetensors")
    name = "transformer.h.1.mlp.c_fc.weight"
    tensors[name][3, 4] = float("nan")
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(TransectError, match=r"h\.1\.mlp\.c_fc\.weight has NaN"):
        open_model(folder)
    del tensors[name]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(TransectError, match=r"lacks weights.*h\.1\.mlp\.c_fc\.weight"):
        open_model(folder)
    (folder / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(TransectError, match="cannot be loaded"):
        open_model(folder)
    (folder / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(TransectError, match="cannot be loaded"):
        open_model(folder)


def test_large_finite_weights_pass():
    model = tiny_model("gpt2").to(torch.float32)
    with torch.no_grad():
        model.transformer.wte.weight.fill_(3e38)
    assert isinstance(wrap_model(model, tiny_tokenizer(), "big"), Model)


@pytest.mark.parametrize(
    ("spec", "options", "says"),
    [
        ("./nowhere", {}, "no model"),
        ("a b", {}, "no model"),
        ("x.gguf", {}, "no file"),
        ("org/model@main", {}, "no hub can be reached"),
        ("smollm2", {"dtype": "int3"}, "no dtype"),
        ("smollm2", {"quantize": "3bit"}, "Choose one of 4bit, 8bit"),
        ("smollm2", {"quantize": "4bit"}, "CUDA|bitsandbytes"),
        ("random:smollm2", {"device_map": "auto"}, "random weights"),
    ],
)
def test_what_cannot_be_opened_says_why(spec, options, says):
    with pytest.raises(TransectError, match=says):
        open_model(spec, **options)


def test_tokenizers_are_made_ready(tmp_path):
    folder = save_tiny(tmp_path / "m", "gpt2", pad=False)
    tokenizer = open_model(folder).tokenizer
    assert (tokenizer.pad_token, tokenizer.padding_side) == ("</s>", "right")

    class Slow:
        is_fast = False

    with pytest.raises(TransectError, match="fast tokenizer"):
        wrap_model(tiny_model("gpt2"), Slow(), "slow")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(TransectError, match="tokenizer"):
        open_model(folder)


def test_wrapping_refuses_compiled_and_foreign_models():
    with pytest.raises(TransectError, match="compiled"):
        wrap_model(torch.compile(tiny_model("gpt2"), backend="eager"), tiny_tokenizer())
    with pytest.raises(TransectError, match="not a transformers model"):
        wrap_model(torch.nn.Linear(2, 2), tiny_tokenizer())
    with pytest.raises(TransectError, match="wrap_model"):
        open_model(tiny_model("gpt2"))


def test_the_real_smollm2_from_its_gguf():
    model = open_model("smollm2")
    assert model.config.num_hidden_layers == 30
    assert model.source["quantisation"]["Q4_1"] == 210
    assert not hasattr(model.config, "quantization_config")
    ids = model.tokenizer("The capital of France is", return_tensors="pt")
    with torch.no_grad():
        top = model.model(**ids).logits[0, -1].argmax()
    assert model.tokenizer.decode(top).strip() == "Paris"


def test_the_real_minilm_is_an_encoder():
    model = open_model("minilm")
    assert (model.kind, model.config.num_hidden_layers, model.config.hidden_size) == ("encoder", 6, 384)
