"""A text's points are those of the text alone: whatever axes a model uses, whatever ran before, in any batch
or worker."""

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as tf

import transect as ts
from tiny import VOCAB, make_texts, save_tiny, tiny_model, tiny_tokenizer
from transect.errors import TransectError
from transect.models.layout import aligned
from transect.models.state import unchanged
from transect.store.recapture import reopen, stored_texts

SIZES = {"vocab_size": VOCAB, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
SIZES |= {"intermediate_size": 48, "pad_token_id": 2}


def odd_model(family: str) -> tf.PreTrainedModel:
    torch.manual_seed(0)
    if family == "xlnet":
        return tf.XLNetModel(
            tf.XLNetConfig(vocab_size=VOCAB, d_model=32, n_layer=3, n_head=4, d_inner=48)
        ).eval()
    if family == "longformer":
        config = tf.LongformerConfig(**SIZES, attention_window=16, max_position_embeddings=258)
        return tf.LongformerModel(config).eval()
    config = tf.BigBirdConfig(**SIZES, block_size=4, num_random_blocks=1, max_position_embeddings=512)
    made = tf.BigBirdModel(config).eval()
    for name, weight in made.named_parameters():
        weight.data *= 20 if "query" in name or "key" in name else 1  # attention that is not uniform
    return made


def texts_of(*words: int) -> ts.Texts:
    rng = np.random.default_rng(0)
    made = [" ".join(rng.choice(["March", "has", "thirty", "days", "in", "Berlin"], n)) for n in words]
    return ts.Texts(made, [f"t{i}" for i in range(len(made))])


@pytest.mark.parametrize("family", ["xlnet", "longformer", "bigbird"])
@pytest.mark.parametrize("batch_tokens", [1, 600])
def test_each_text_is_what_it_is_alone(family: str, batch_tokens: int, tmp_path: Path) -> None:
    model, texts = ts.wrap_model(odd_model(family), tiny_tokenizer(), family), texts_of(2, 15, 25, 3, 9, 4)
    store = ts.capture(model, texts, tmp_path / "s", sites=["resid"], batch_tokens=batch_tokens)
    assert store.width("resid.1") == 32
    assert bool(store.manifest["texts_apart"]) == (family == "bigbird" and batch_tokens == 600)
    for i in range(len(texts)):
        with torch.inference_mode():
            told = odd_model(family)(torch.tensor([store.token_ids(i).tolist()]), output_hidden_states=True)
        for k in range(3):
            rows = told.hidden_states[k][0, : store.lengths[i]].numpy()
            assert np.allclose(store.sample(i, f"resid.{k}"), rows, atol=2e-5), (family, i, k)


def test_a_batch_as_long_as_it_is_wide_is_read_by_the_models_own_layout(tmp_path: Path) -> None:
    """Six texts of six tokens, tokens first: the shape alone would not say."""
    tokenizer = tiny_tokenizer()
    words = [
        w for w in (f"March{i}{i}{i}{i}{i}{i}{i}{i}" for i in range(10)) if len(tokenizer(w)["input_ids"]) > 5
    ]
    texts = ts.Texts(words[:6], [str(i) for i in range(6)])
    many, one = (
        ts.capture(
            ts.wrap_model(odd_model("xlnet"), tokenizer, "x"),
            texts,
            tmp_path / n,
            max_length=6,
            batch_tokens=size,
        )
        for n, size in (("many", 36), ("one", 1))
    )
    assert [len(b) for b in many.plan[0]] == [6]
    assert np.allclose(many.points("resid.2"), one.points("resid.2"), atol=2e-5)


@pytest.mark.parametrize(
    ("shape", "layout", "first"),
    [
        ((2, 3, 5), None, 0.0), ((3, 2, 5), None, 0.0), ((6, 5), None, 0.0), ((2, 4, 5), None, 0.0),
        ((2, 3, 5, 1), None, 0.0), ((2, 2, 5), "bad", None), ((3, 4, 5), "bad", None), ((7, 5), "bad", None),
        ((2, 1, 5), "bad", None), ((6,), "bad", None),
    ],
)  # fmt: skip
def test_shapes_are_read_or_refused(shape: tuple, layout: str | None, first: float | None) -> None:
    value = torch.arange(float(np.prod(shape))).reshape(shape)
    if layout == "bad":
        with pytest.raises(TransectError, match=r"m: resid.1 has shape"):
            aligned(value, 2, 3, None, "m: resid.1")
    else:
        assert tuple(aligned(value, 2, 3, None, "m: resid.1").shape) == (2, 3, 5)


def test_state_is_put_back_or_refused(tmp_path: Path) -> None:
    model = tiny_model("llama")
    block = model.model.layers[1]
    block.register_buffer("seen", torch.zeros(1), persistent=False)
    norm, forward = block.input_layernorm, type(block).forward

    class Keeps(type(block)):
        def forward(self, hidden_states, *args, **kwargs):
            self.seen, self.calls, self.input_layernorm = self.seen + 1, 1, torch.nn.Identity()
            return forward(self, hidden_states * (1 + self.seen), *args, **kwargs)

    class Writes(Keeps):
        def forward(self, hidden_states, *args, **kwargs):
            self.seen += 1
            return forward(self, hidden_states, *args, **kwargs)

    block.__class__ = Keeps
    wrapped = ts.wrap_model(model, tiny_tokenizer(), "keeps")
    ts.capture(wrapped, make_texts(), tmp_path / "k", batch_tokens=64)
    assert (float(block.seen), block.input_layernorm is norm, hasattr(block, "calls")) == (0.0, True, False)
    block.__class__ = Writes
    with pytest.raises(TransectError, match="keeps writes into its buffers"):
        ts.capture(wrapped, make_texts(), tmp_path / "w")
    with pytest.raises(TransectError, match="x writes"), unchanged(model, "x"):
        block.seen += 1


def test_a_model_that_draws_is_refused(tmp_path: Path) -> None:
    model = ts.wrap_model(tiny_model("llama"), tiny_tokenizer(), "draws")
    model.model.model.layers[0].mlp.register_forward_hook(lambda _m, _a, out: out + torch.randn_like(out))
    with pytest.raises(TransectError, match=r"draws: resid.\d .* differs by .* from one pass to the next"):
        ts.capture(model, make_texts(), tmp_path / "d")


@pytest.mark.parametrize("options", [{"pool": "mean", "positions": "last"}, {"positions": "last,0"}])
def test_workers_keep_the_same_selection(options: dict, tmp_path: Path) -> None:
    model = ts.open_model(str(save_tiny(tmp_path / "model", "llama")))
    options |= {"layers": [1], "batch_tokens": 64, "shard_bytes": 500}
    one, two = (ts.capture(model, make_texts(), tmp_path / f"w{n}", workers=n, **options) for n in (1, 2))
    assert np.array_equal(one.points("resid.1"), two.points("resid.1"))


def chats() -> ts.Texts:
    talk = [
        [{"role": "system", "content": "be brief"}, {"role": "user", "content": f"March has {i} days"}]
        for i in range(4)
    ]
    return ts.Texts(
        ["\n".join(m["content"] for m in one) for one in talk], [str(i) for i in range(4)],
        labels={"n": [1, None, 3, 4]}, chat=True, messages=talk, groups=["a", "a", "b", "b"],
    )  # fmt: skip


def test_a_recapture_is_of_the_same_texts_tokens_and_dtypes(tmp_path: Path) -> None:
    from transect.store.capture import recapture

    folder = save_tiny(tmp_path / "model", "llama", chat=True)
    model = ts.open_model(str(folder), dtype="bfloat16")
    store = ts.capture(model, chats(), tmp_path / "s", shuffle_tokens=3, store_dtype="float32")
    again = recapture(store, reopen(store, random=True, seed=5), tmp_path / "random")
    for key in ("tokens_hash", "dtype", "shuffle_tokens"):
        assert again.manifest[key] == store.manifest[key]
    assert again.name == "random:model seed 5"
    back = stored_texts(store)
    assert (back.messages, back.groups, back.labels) == (chats().messages, chats().groups, chats().labels)
    same = recapture(store, ts.open_model(str(folder)), tmp_path / "same")  # float32: opened again
    assert np.array_equal(same.points("resid.3"), store.points("resid.3"))
    other = ts.open_model(str(save_tiny(tmp_path / "other", "llama", chat=True, bos=True)), dtype="bfloat16")
    other.tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    with pytest.raises(TransectError, match="do not give its tokens with this tokenizer"):
        recapture(store, other, tmp_path / "refused")


def test_landmarks_come_along(tmp_path: Path) -> None:
    from transect.store.capture import recapture

    model = ts.wrap_model(tiny_model("llama"), tiny_tokenizer(), "m")
    store = ts.capture(model, make_texts(), tmp_path / "s", positions="landmark:gap")
    again = recapture(store, model, tmp_path / "again")
    assert again.fingerprint == store.fingerprint
    assert np.array_equal(again.points("resid.1"), store.points("resid.1"))
