"""Checkpoints without a head, halves of models, adapters of classifiers, text towers; and damage of every
file."""

import json
import shutil
import warnings

import pytest
import torch
import transformers as tf

from tiny import VOCAB, make_texts, save_tiny, tiny_tokenizer
from transect.errors import TransectError
from transect.models import checkpoints
from transect.models.losses import losses
from transect.models.models import open_model
from transect.store.capture import capture

LLAMA = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
LLAMA |= {
    "num_key_value_heads": 2,
    "vocab_size": VOCAB,
    "pad_token_id": 2,
    "bos_token_id": 0,
    "eos_token_id": 1,
}


@pytest.fixture(autouse=True)
def no_hub(monkeypatch):
    monkeypatch.setattr(checkpoints, "hub_reachable", lambda: False)


def save(folder, model):
    model.eval().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


def made(name):
    torch.manual_seed(0)
    t5 = {"vocab_size": VOCAB, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 3, "num_heads": 4}
    bert = {k: v for k, v in LLAMA.items() if k != "num_key_value_heads"} | {"max_position_embeddings": 128}
    return {
        "base": lambda: tf.LlamaModel(tf.LlamaConfig(**LLAMA)),
        "classifier": lambda: tf.LlamaForSequenceClassification(tf.LlamaConfig(**LLAMA)),
        "bert classifier": lambda: tf.BertForSequenceClassification(tf.BertConfig(**bert)),
        "half": lambda: tf.T5EncoderModel(tf.T5Config(**t5)),
    }[name]()


@pytest.mark.parametrize("name", ["base", "classifier", "bert classifier", "half"])
def test_a_checkpoint_without_a_language_head_opens_for_capture(tmp_path, name):
    model = open_model(save(tmp_path / "m", made(name)))
    assert model.kind == ("decoder" if "llama" in str(type(model.base)).lower() else "encoder")
    truth, texts = made(name).eval(), make_texts()
    store = capture(model, texts, tmp_path / "s", batch_tokens=64)
    assert (store.sites[0], store.sites[-1]) == ("resid.0", "resid.3")
    whole = getattr(truth, truth.base_model_prefix, truth)
    for i in (0, 5):
        with torch.inference_mode():
            told = whole(torch.tensor([store.token_ids(i).tolist()]), output_hidden_states=True).hidden_states
        assert torch.allclose(torch.from_numpy(store.sample(i, "resid.2")), told[2][0], atol=2e-5)
    assert open_model(str(tmp_path / "m")).fingerprint == model.fingerprint
    if model.kind == "decoder":
        with pytest.raises(TransectError, match="without its head"):
            losses(model, texts)


def test_a_body_that_lacks_weights_is_still_damaged(tmp_path):
    from safetensors.torch import load_file, save_file

    folder = save(tmp_path / "m", made("base"))
    file = tmp_path / "m" / "model.safetensors"
    tensors = load_file(file)
    del tensors["layers.1.mlp.up_proj.weight"]
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(TransectError, match=r"lacks weights.*layers\.1\.mlp\.up_proj"):
        open_model(folder)


@pytest.mark.parametrize("name", ["bert", "llama"])
def test_an_adapter_of_a_classifier_opens_with_its_head(tmp_path, name):
    from peft import LoraConfig, get_peft_model

    base = save_tiny(tmp_path / name, name)
    torch.manual_seed(1)
    whole = tf.AutoModelForSequenceClassification.from_pretrained(base, num_labels=3)
    target = ["query"] if name == "bert" else ["q_proj"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped = get_peft_model(
            whole, LoraConfig(r=2, target_modules=target, task_type="SEQ_CLS", init_lora_weights=False)
        )
        wrapped.save_pretrained(tmp_path / "lora+3")
    model = open_model(f"{base}+{tmp_path / 'lora+3'}")
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.inference_mode():
        truth = wrapped.eval().get_base_model().base_model(ids)[0]
        assert torch.allclose(model.base(ids)[0], truth, atol=1e-5)
        if name == "llama":  # BERT's pooler was never saved
            assert torch.allclose(model.model(ids).logits, wrapped(ids).logits, atol=1e-5)
    assert model.fingerprint == open_model(f"{base}+{tmp_path / 'lora+3'}").fingerprint
    assert len(capture(model, make_texts(), tmp_path / "s").sites) == 4


def test_folders_with_a_plus_in_their_name(tmp_path):
    folder = save_tiny(tmp_path / "a+b [c] $d_" / "m+n", "llama")
    assert open_model(str(folder)).name == "m+n"
    with pytest.raises(TransectError, match="no adapter_config"):
        open_model(f"{folder}+{folder}")


def test_the_text_tower_of_a_model_that_sees(tmp_path):
    torch.manual_seed(0)
    text = {k: v for k, v in LLAMA.items() if not k.endswith("token_id")} | {"model_type": "llama"}
    sees = {
        "model_type": "clip_vision_model",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
    }
    sees |= {"num_attention_heads": 4, "image_size": 8, "patch_size": 4}
    whole = tf.LlavaForConditionalGeneration(
        tf.LlavaConfig(text_config=text, vision_config=sees, image_token_index=3)
    )
    model = open_model(save(tmp_path / "m", whole))
    assert (model.kind, type(model.base).__name__) == ("decoder", "LlamaModel")
    store = capture(model, make_texts(), tmp_path / "s")
    ids = torch.tensor([store.token_ids(0).tolist()])
    with torch.inference_mode():
        told = whole.eval().model.language_model(ids, output_hidden_states=True).hidden_states
    assert torch.allclose(torch.from_numpy(store.sample(0, "resid.2")), told[2][0], atol=2e-5)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", "[]"),
        ("config.json", '{"model_type": ["llama"]}'),
        ("config.json", '{"model_type": "llama", "num_attention_heads": 0, "hidden_size": 32}'),
        ("config.json", '{"model_type": "llama", "num_hidden_layers": 1000000000}'),
        ("config.json", '{"model_type": "llama", "hidden_size": "wide"}'),
        ("tokenizer.json", "[]"),
        ("tokenizer.json", '{"version": "1.0", "model": {"type": "BPE", "vocab": 3, "merges": {}}}'),
        ("tokenizer_config.json", "[1]"),
    ],
)
def test_damage_gives_a_message(tmp_path, name, content):
    folder = save_tiny(tmp_path / "m", "llama")
    (folder / name).write_text(content, encoding="utf-8")
    with pytest.raises(TransectError):
        open_model(str(folder))


@pytest.mark.parametrize("data", [b"", b"GGUF", b"GGUF" + b"\x03\0\0\0" + b"\xff" * 40, b"\0" * 1000])
def test_a_damaged_gguf_gives_a_message(tmp_path, data, monkeypatch):
    monkeypatch.setenv("TRANSECT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "x.gguf").write_bytes(data)
    with pytest.raises(TransectError, match=r"x\.gguf"):
        open_model(str(tmp_path / "x.gguf"))


@pytest.mark.parametrize("device", ["nope", "mps", "cpu:x", "meta", "cuda:99"])
def test_devices_that_are_not_there(tmp_path, device):
    if device == "mps" and torch.backends.mps.is_available():
        return
    with pytest.raises(TransectError, match="device"):
        open_model(str(save_tiny(tmp_path / "m", "llama")), device=device)


def test_adapter_configurations_that_are_wrong(tmp_path):
    base = save_tiny(tmp_path / "m", "llama")
    folder = tmp_path / "lora"
    folder.mkdir()
    shutil.copy(base / "model.safetensors", folder / "adapter_model.safetensors")
    for content in (
        "[]",
        "{",
        json.dumps({"peft_type": "NOPE"}),
        json.dumps({"peft_type": "LORA", "r": "x"}),
    ):
        (folder / "adapter_config.json").write_text(content)
        with pytest.raises(TransectError, match="adapter"):
            open_model(f"{base}+{folder}")


@pytest.mark.fault(
    "bad input",
    "a slip in the name of a checkpoint, of a model or an adapter",
    "refused, with the folders beside it whose names are like it",
)
def test_a_slip_in_a_folder_is_told_with_the_names_beside_it(tmp_path):
    save_tiny(tmp_path / "run" / "checkpoint-00006", "llama")
    slip = tmp_path / "run" / "checkpoint-6"
    for spec in (str(slip), f"{tmp_path}/run/checkpoint-00006+{slip}"):
        with pytest.raises(TransectError, match="Did you mean checkpoint-00006"):
            open_model(spec)
