"""What a model cannot take is refused before the first pass; what is left out of a capture is said in its
manifest."""

from pathlib import Path

import pytest
import transformers as tf

import transect as ts
from tiny import VOCAB, make_texts, tiny_model, tiny_tokenizer
from transect.errors import TransectError
from transect.models.limits import check_sizes, position_limit


@pytest.mark.parametrize("family", ["gpt2", "gptj", "opt", "bert", "roberta"])
def test_texts_beyond_the_positions_are_refused_before_the_first_pass(family: str, tmp_path: Path) -> None:
    sizes = {"n_positions": 16} if family.startswith("gpt") else {"max_position_embeddings": 16}
    model = ts.wrap_model(tiny_model(family, **sizes), tiny_tokenizer(), family)
    limit = 13 if family == "roberta" else 16  # its positions begin behind the padding index
    assert position_limit(model.base) == limit
    model.tokenizer.model_max_length = 10**9
    texts = ts.Texts(["March has days", "March has thirty one days " * 9], ["a", "b"])
    with pytest.raises(TransectError, match=rf"text b has \d+ tokens; {family} has positions for {limit}"):
        ts.capture(model, texts, tmp_path / "s")
    with pytest.raises(TransectError, match=f"Give --max-length {limit}"):
        ts.capture(model, texts, tmp_path / "s", max_length=limit + 1)
    assert not (tmp_path / "s").exists()
    assert ts.capture(model, texts, tmp_path / "s", max_length=limit).lengths.max() == limit


@pytest.mark.parametrize("family", ["llama", "t5", "bloom", "modernbert"])
def test_computed_positions_have_no_limit(family: str) -> None:
    assert position_limit(tiny_model(family)) is None


def test_ids_beyond_the_embedding_are_refused(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens([f"<new{i}>" for i in range(VOCAB)])
    model = ts.wrap_model(tiny_model("llama"), tokenizer, "plus")
    with pytest.raises(
        TransectError, match=r"text b holds token \d+ \('<new299>'\); plus has embeddings for 300"
    ):
        ts.capture(model, ts.Texts(["March has", "March <new299>"], ["a", "b"]), tmp_path / "s")


@pytest.mark.parametrize(
    "options",
    [{"batch_tokens": -5}, {"workers": -2}, {"shard_bytes": 0}, {"shuffle_tokens": -1}, {"max_length": -3}],
)
def test_options_have_ranges(options: dict, tmp_path: Path) -> None:
    model = ts.wrap_model(tiny_model("llama"), tiny_tokenizer(), "m")
    with pytest.raises(TransectError, match=next(iter(options))):
        ts.capture(model, make_texts(), tmp_path / "s", **options)


def test_what_was_left_out_is_said(tmp_path: Path) -> None:
    model = ts.wrap_model(tiny_model("llama"), tiny_tokenizer(), "m")
    texts = make_texts(30)
    texts.texts[4] = "x"
    store = ts.capture(model, texts, tmp_path / "s", sites=["resid.0"])
    assert store.manifest["notes"] == ["1 texts of fewer than two tokens left out: t4"]
    assert (len(store), store.ids[4], store.label("k")[4]) == (29, "t5", 5)


@pytest.mark.parametrize(
    ("name", "value"),
    [("num_hidden_layers", 10**9), ("hidden_size", -4), ("vocab_size", "many"), ("num_layers", True)],
)
def test_sizes_of_a_configuration_have_bounds(name: str, value: object) -> None:
    config = tf.LlamaConfig(vocab_size=VOCAB)
    config.__dict__[name] = value
    with pytest.raises(TransectError, match=f"m: {name} is"):
        check_sizes(config, "m")


def test_published_sizes_are_within_the_bounds() -> None:
    for name in ("llama", "gpt2", "t5", "bert", "xlnet", "longformer", "big_bird", "gemma3", "deepseek_v3"):
        check_sizes(tf.AutoConfig.for_model(name), name)
