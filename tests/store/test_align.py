"""Runs of the same texts under other tokenizers: what is aligned has read the same text, nothing else."""

from pathlib import Path

import numpy as np
import pytest

import transect as ts
from tiny import make_texts, tiny_model, tiny_tokenizer
from transect.errors import TransectError
from transect.models.models import wrap_model

TEXTS = [
    "The cat sat on the mat, and purred.",
    "Don't stop: 12 birds sing in Berlin.",
    "A naïve café — résumé of days gone by.",
    "One two three four five six seven.",
    "Rain fell on the old stone roof again.",
    "He can't find his other left shoe now.",
]


def pieces(text: str, size: int) -> list[str]:
    return [text[k : k + size] for k in range(0, len(text), size)]


def read(text: str, width: int = 6) -> np.ndarray:
    """What a model that reads from left to right knows after this text: a function of it alone."""
    seed = [ord(c) for c in text]
    return np.random.default_rng(seed).standard_normal(width).astype(np.float32)


def store(out: Path, cut, name: str = "", texts=TEXTS, turn: np.ndarray | None = None) -> ts.Store:
    tokens = [cut(text) for text in texts]
    states = []
    for row in tokens:
        ends = np.cumsum([len(t) for t in row])
        X = np.stack([read("".join(row)[:end]) for end in ends])
        states.append(X if turn is None else (X @ turn).astype(np.float32))
    return ts.store_from_arrays({"resid.0": states}, out, name or out.name, texts=texts, tokens=tokens)


def test_the_same_model_under_two_tokenizations_gives_the_same_points(tmp_path: Path) -> None:
    two, three = (store(tmp_path / f"s{n}", lambda t, n=n: pieces(t, n)) for n in (2, 3))
    a, b = ts.align([two, three], tmp_path / "aligned")
    assert a.same_tokens(b)
    assert np.array_equal(a.points("resid.0"), b.points("resid.0"))
    both = [
        {min(k, len(t)) for k in range(2, len(t) + 2, 2)} & {min(k, len(t)) for k in range(3, len(t) + 3, 3)}
        for t in TEXTS
    ]
    assert a.lengths.tolist() == [len(e) for e in both]
    assert a.manifest["aligned"]["share"] == pytest.approx(sum(map(len, both)) / int(two.rows.sum()))
    assert "".join(a.tokens(0)) == TEXTS[0]
    again = ts.align([two, three], tmp_path / "aligned")[0]
    assert again.fingerprint == a.fingerprint
    assert ts.sweep("cka", [a, b], pairs="same", n=12, groups=2, permutations=0).column("value")[0] == (
        pytest.approx(1)
    )


def test_words_end_in_the_last_token_that_reads_them(tmp_path: Path) -> None:
    a, b = ts.align(
        [store(tmp_path / f"s{n}", lambda t, n=n: pieces(t, n)) for n in (1, 3)], tmp_path / "w", "word"
    )
    words = ["The", "cat", "sat", "on", "the", "mat", "and", "purred"]
    assert a.tokens(0) == words
    assert a.tokens(1)[0] == "Don't"
    at, X = 0, a.sample(0, "resid.0")
    for row, word in zip(X, words, strict=True):
        at = TEXTS[0].index(word, at) + len(word)
        assert np.array_equal(row, read(TEXTS[0][:at])), (
            "single characters: the state is that of the word's end"
        )
    end = -(-len("The cat") // 3) * 3
    assert np.array_equal(b.sample(0, "resid.0")[1], read(TEXTS[0][:end])), (
        "the token that holds the last letter"
    )


def test_a_text_is_the_mean_of_its_tokens_without_the_first(tmp_path: Path) -> None:
    runs = [store(tmp_path / f"s{n}", lambda t, n=n: pieces(t, n)) for n in (2, 5)]
    for how in ("text", "last"):
        for run, made in zip(runs, ts.align(runs, tmp_path / how, how), strict=True):
            for i in range(len(TEXTS)):
                X = run.sample(i, "resid.0")
                wanted = X[1:].mean(axis=0, dtype=np.float64) if how == "text" else X[-1]
                assert np.allclose(made.points("resid.0")[i], wanted, atol=1e-6)
            assert made.manifest["aligned"]["share"] == 1


def test_real_tokenizers_align_where_both_end_and_special_tokens_do_not_count(tmp_path: Path) -> None:
    texts = make_texts(8)
    one = ts.capture(wrap_model(tiny_model("gpt2"), tiny_tokenizer(), "a"), texts, tmp_path / "a")
    other = ts.capture(
        wrap_model(tiny_model("bert"), letters(), "b"), texts, tmp_path / "b", store_dtype="bfloat16"
    )
    a, b = ts.align([one, other], tmp_path / "both")
    assert np.array_equal(a.lengths, one.lengths), "letters end wherever a longer token does"
    assert a.manifest["aligned"]["share"] == 1
    assert b.manifest["aligned"]["share"] < 0.7
    assert np.array_equal(a.points("resid.2"), one.points("resid.2"))
    assert b.manifest["dtype"]["store"] == "bfloat16"
    end = sum(map(len, one.tokens(3)[:4]))
    assert np.array_equal(b.sample(3, "resid.2")[3], other.sample(3, "resid.2")[end]), "after one <s>"


def test_the_last_token_of_a_text_is_its_own(tmp_path: Path) -> None:
    """Not the </s> behind it, nor does the mean take that along."""
    texts, words = make_texts(6), {"a": tiny_tokenizer(wrap=True), "b": tiny_tokenizer()}
    runs = [
        ts.capture(wrap_model(tiny_model("gpt2"), tokenizer, name), texts, tmp_path / name)
        for name, tokenizer in words.items()
    ]
    last, mean = (ts.align(runs, tmp_path / how, how)[0].points("resid.2") for how in ("last", "text"))
    for i in range(len(texts)):
        own = runs[0].sample(i, "resid.2")
        assert np.array_equal(last[i], own[-2])
        assert np.allclose(mean[i], own[1:-1].mean(axis=0), atol=1e-6)


def letters():
    """A tokenizer of single characters with <s> in front."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    known = {t: k for k, t in enumerate(["<s>", "</s>", "<pad>", *map(chr, range(32, 127))])}
    made = Tokenizer(models.WordLevel(known, unk_token="<pad>"))
    made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", pad_token="<pad>")


@pytest.mark.fault(
    "bad input",
    "runs whose tokenizers do not agree, of other texts, or of unknown characters",
    "`align` refuses with the share that was found; nothing is written",
)
def test_what_cannot_be_aligned_is_refused(tmp_path: Path) -> None:
    two = store(tmp_path / "two", lambda t: pieces(t, 2))
    never = store(tmp_path / "never", lambda t: [t[:1], *pieces(t[1:-1], 2), t[-1:]])
    with pytest.raises(TransectError, match=r"% of its tokens end where"):
        ts.align([two, never], tmp_path / "out")
    with pytest.raises(TransectError, match="different texts"):
        ts.align(
            [two, store(tmp_path / "x", lambda t: pieces(t, 2), texts=["Other words."])], tmp_path / "out"
        )
    bare = ts.store_from_arrays({"resid.0": [np.ones((3, 4))] * 6}, tmp_path / "bare", texts=TEXTS)
    with pytest.raises(TransectError, match="characters of its tokens are not known"):
        ts.align([two, bare], tmp_path / "out")
    for given, how, said in (([two], "prefix", "two runs"), ([two, never], "line", "Choose one of prefix")):
        with pytest.raises(TransectError, match=said):
            ts.align(given, tmp_path / "out", how)
    assert not (tmp_path / "out").exists()
