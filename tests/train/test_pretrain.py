"""Pretraining on tiny texts: streams as they should be, exact resume, two processes as one, perplexity by its
protocol."""

import csv
import json
import math
import os
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

import transect as ts
from tiny import WORDS
from transect.cli.main import cli
from transect.errors import TransectError
from transect.train import pretrain as room
from transect.train import vocabulary
from transect.train.data import Stream, excerpts, prepare
from transect.train.data import _documents as documents
from transect.train.perplexity import Protocol, _perplexity, groups_of, perplexity, unigram, windows
from transect.train.pretrain import pretrain
from transect.train.pretraining import Pretraining, marks, preset
from transect.train.vocabulary import tokenizer_of


@pytest.fixture(scope="module")
def at(tmp_path_factory):
    """A file of 120 lines in which every word is followed by one of two, and its streams."""
    folder = tmp_path_factory.mktemp("pretrain")
    rng, lines = random.Random(0), []
    for _ in range(120):
        k, words = rng.randrange(len(WORDS)), []
        for _ in range(rng.randint(12, 30)):
            words.append(WORDS[k])
            k = (k + 1 + rng.randrange(2) * 5) % len(WORDS)
        lines.append(" ".join(words))
    (folder / "t.txt").write_text("\n".join(lines))
    return folder


def recipe(at, **given):
    usual = {"steps": 12, "texts": str(at / "t.txt"), "evaluate_every": 4, "checkpoints": (6,)}
    return preset("tiny", **(usual | given))


def rows(file):
    with file.open() as opened:
        return list(csv.DictReader(opened))


def result(folder):
    return json.loads((folder / "result.json").read_text())


# data


def test_a_stream_holds_every_document_of_its_part_once(at, tmp_path):
    data = prepare(recipe(at), tmp_path)
    lines = (at / "t.txt").read_text().split("\n")
    seen = []
    for stream in data.parts.values():
        assert isinstance(stream.ids, np.memmap)
        assert stream.ids.dtype == np.uint16
        texts = data.tokenizer.decode(stream.ids.tolist()).split("<|endoftext|>")
        assert texts.pop() == ""
        assert len(texts) == stream.documents
        assert stream.words == sum(len(t.split()) for t in texts)
        assert stream.bytes == sum(len(t) for t in texts)
        seen += texts
    assert sorted(seen) == sorted(lines)
    assert data.parts["validation"].documents == data.parts["test"].documents == 8
    block = data.parts["train"].sequences([2, 0], 32)
    np.testing.assert_array_equal(block[0], data.parts["train"].ids[64:97])
    assert prepare(recipe(at), tmp_path).fingerprint == data.fingerprint
    with pytest.raises(TransectError, match="holds the data of"):
        prepare(recipe(at, vocab=300), tmp_path)
    (tmp_path / "train.bin").write_bytes(b"ab")
    with pytest.raises(TransectError, match="missing or cut short"):
        prepare(recipe(at), tmp_path)


def test_merges_are_learned_on_the_train_part_alone(at, tmp_path):
    made = (at / "t.txt").read_text().split("\n")
    (tmp_path / "train.txt").write_text("\n".join(made[:80]))
    (tmp_path / "held.txt").write_text("\n".join(["zyzzyva zyzzyva zyzzyva quokka quokka"] * 20))
    data = prepare(recipe(at, texts=f"{tmp_path / 'train.txt'},{tmp_path / 'held.txt'}"), tmp_path / "data")
    assert "birthday" in "".join(data.tokenizer.get_vocab())
    assert not any("zyz" in token or "quo" in token for token in data.tokenizer.get_vocab())
    assert data.parts["validation"].documents == 20
    assert "test" not in data.parts
    assert data.judged == "validation"


def test_a_run_without_test_texts_is_judged_by_validation_and_says_so(at, tmp_path):
    lines = (at / "t.txt").read_text().split("\n")
    (tmp_path / "train.txt").write_text("\n".join(lines[:90]))
    (tmp_path / "held.txt").write_text("\n".join(lines[90:]))
    order = [
        "--preset",
        "tiny",
        "--texts",
        f"{tmp_path / 'train.txt'},{tmp_path / 'held.txt'}",
        "--steps",
        "8",
    ]
    done = CliRunner().invoke(cli, ["train", *order, "--out", str(tmp_path / "run")])
    assert done.exit_code == 0, done.output
    assert "  test:" not in done.output
    assert "judged by validation" in done.output
    told = result(tmp_path / "run")
    assert "test" not in told
    assert told["judged"] == "validation"
    assert told["metrics"]["loss"] == told["validation"]["loss"]


def test_a_set_is_read_from_local_copies_of_its_parts(tmp_path):
    for name, word in (("a", "one"), ("b", "two"), ("c", "three")):
        rows = [{"text": f" {word} word after another {k} . \n"} for k in range(3)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(json.dumps(r) for r in rows))
    a, b, c = (str(tmp_path / f"{name}.jsonl") for name in "abc")
    found = documents(f"wikitext2@{a},{b},{c}")
    assert {part: texts[0].split()[0] for part, texts in found.items()} == {
        "train": "one",
        "validation": "two",
        "test": "three",
    }
    assert list(documents(f"wikitext2@{a},{b}")) == ["train", "validation"]
    with pytest.raises(TransectError, match="4 files of text"):
        documents(f"wikitext2@{a},{b},{c},{a}")


def test_gpt2_files_and_ranks_are_the_tokenizer_that_they_came_from(at, tmp_path):
    lines = (at / "t.txt").read_text().split("\n")
    made = tokenizer_of("bpe", 320, lines)
    told = json.loads(made.backend_tokenizer.to_str())["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(told["vocab"]))
    merges = [m if isinstance(m, str) else " ".join(m) for m in told["merges"]]
    (tmp_path / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]))
    again = tokenizer_of(str(tmp_path), 0, [])
    text = "Berlin's birthday, über\n  two days 12"
    assert again(text)["input_ids"] == made(text)["input_ids"]
    assert again.eos_token == "<|endoftext|>"
    assert again.decode(again(text)["input_ids"]) == text
    letters = {letter: byte for byte, letter in vocabulary._letters().items()}
    names = [*sorted(letters, key=letters.get), *(m.replace(" ", "") for m in merges)]  # bytes, then merges
    ranks = {bytes(letters[c] for c in name): k for k, name in enumerate(names)}
    ranked = vocabulary.from_ranks(ranks, len(ranks))
    assert ranked.convert_ids_to_tokens(ranked(text)["input_ids"]) == made.tokenize(text)
    assert ranked.eos_token_id == len(ranks)
    (tmp_path / "merges.txt").write_text("no merge of it")
    with pytest.raises(TransectError, match="make no tokenizer"):
        tokenizer_of(str(tmp_path), 0, [])


def test_a_vocabulary_that_cannot_be_had_is_a_message(monkeypatch):
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    with pytest.raises(TransectError, match="cannot be had") as caught:
        tokenizer_of("tiktoken", 0, [])
    assert "--tokenizer gpt2" in caught.value.fix


def test_gpt2_is_there_without_a_hub():
    """Ids as tiktoken 0.14 gives them."""
    made = tokenizer_of("gpt2", 0, [])
    assert (len(made), made.eos_token_id) == (50257, 50256)
    known = {"Hello world": [15496, 995], "I'll don't 12345": [40, 1183, 836, 470, 17031, 2231]}
    known |= {"  two\n\n日本": [220, 734, 198, 198, 33768, 98, 17312, 105]}
    for text, ids in known.items():
        assert made(text)["input_ids"] == ids


def test_characters_and_tokenizers_that_are_there(at, tmp_path):
    chars = prepare(recipe(at, tokenizer="char"), tmp_path / "c")
    text = "Berlin has\ndays"
    ids = chars.tokenizer(text)["input_ids"]
    assert len(ids) == len(text)
    assert chars.tokenizer.decode(ids) == text.replace("\n", "<unk>")
    again = prepare(recipe(at, tokenizer=str(tmp_path / "c/tokenizer")), tmp_path / "again")
    assert again.tokenizer(text)["input_ids"] == ids
    assert len(again.parts["train"].ids) == len(chars.parts["train"].ids)


def test_texts_that_are_too_short_are_refused(at, tmp_path):
    with pytest.raises(TransectError, match=r"the validation part has .* tokens, a block takes 1025"):
        prepare(recipe(at, block=1024), tmp_path / "a")
    (tmp_path / "one.txt").write_text("one line is one document")
    with pytest.raises(TransectError, match="1 documents; train, validation and test need one each"):
        prepare(recipe(at, texts=str(tmp_path / "one.txt")), tmp_path / "b")
    with pytest.raises(TransectError, match="vocabulary of 100 for BPE"):
        prepare(recipe(at, vocab=100), tmp_path / "c")


def test_excerpts_take_one_paragraph_of_each_document_first():
    long = ["a" * 120 + "\n\n" + "b " * 300, "c" * 150, "short"]
    found = excerpts(long, count=3, characters=200)
    assert [t[0] for t in found] == ["a", "c", "s"]
    assert max(map(len, excerpts(long, characters=200))) <= 200


# perplexity


@pytest.mark.parametrize(
    ("tokens", "block", "stride"), [(100, 8, 8), (101, 8, 3), (9, 8, 8), (8, 8, 8), (50, 8, 1)]
)
def test_windows_predict_every_token_once(tokens, block, stride):
    found = windows(tokens, block, stride)
    counted = [k for _, first, end in found for k in range(first, end)]
    assert counted == list(range(1, tokens))
    assert all(end - start <= block + 1 and first > start for start, first, end in found)
    assert all(first - start > block - stride for start, first, _ in found[1:-1])


class Fixed(torch.nn.Module):
    """Predicts from the last token alone, by a fixed table of logits [vocabulary, vocabulary]."""

    def __init__(self, logits):
        super().__init__()
        self.logits = torch.nn.Parameter(logits)

    def forward(self, input_ids, use_cache):
        return type("Out", (), {"logits": self.logits[input_ids]})()


def test_perplexity_is_the_mean_over_tokens_words_and_bytes(at, tmp_path):
    data = prepare(recipe(at), tmp_path)
    stream, size = data.parts["test"], len(data.tokenizer)
    table = torch.randn(size, size, generator=torch.Generator().manual_seed(0)) * 2
    ids = torch.from_numpy(stream.ids.astype(np.int64))
    nll = float(-table.log_softmax(-1)[ids[:-1], ids[1:]].double().sum())
    base = unigram(data.parts["train"], size)
    assert math.exp(base[ids.numpy()[3]]) == pytest.approx(
        ((data.parts["train"].ids == ids.numpy()[3]).sum() + 1) / (len(data.parts["train"].ids) + size)
    )
    for stride in (32, 7):
        told = perplexity(Fixed(table), stream, Protocol(32, stride), baseline=base, batch=3)
        assert told.tokens == len(ids) - 1
        assert told.per_token == pytest.approx(math.exp(nll / (len(ids) - 1)), rel=1e-5)
        assert told.per_word == pytest.approx(math.exp(nll / stream.words), rel=1e-5)
        assert told.bits_per_byte == pytest.approx(nll / math.log(2) / stream.bytes, rel=1e-5)
        assert told.unigram_loss == pytest.approx(-base[ids.numpy()[1:]].mean(), rel=1e-9)
    part = perplexity(Fixed(table), stream, Protocol(32, blocks=2))
    assert part.tokens < told.tokens
    assert math.isnan(part.per_word)


def scored(at, tmp_path, seed, gap, noise):
    """Scores of a test part of 20 groups whose documents differ by `noise`, `gap` nats below the unigram."""
    draw = np.random.default_rng(seed)
    tokens = draw.integers(300, 3000, 20).astype(float)
    plain = tokens * draw.normal(5.47, 0.2, 20)
    shift = draw.normal(0, noise, 20)
    nats = plain - tokens * (gap + shift - (tokens * shift).sum() / tokens.sum())
    sums = np.stack([nats, tokens, plain, tokens / 9], axis=1)
    stream = Stream(np.zeros(1, int), 20, 0, 0)
    return _perplexity(sums, stream, 32, 32, everything=True)


def test_a_collapsed_arm_has_not_learned_and_a_trained_one_has(at, tmp_path):
    """Perplexity 234.6 against 238.4 is 0.016 nats; documents that differ by 0.08 do not tell it from 0."""
    gap = math.log(238.4 / 234.6)
    collapsed = [scored(at, tmp_path, k, gap, 0.08).over_baseline for k in range(20)]
    assert all(g.value == pytest.approx(gap) and g.low < 0 < g.high for g in collapsed)
    assert not any(g.learned for g in collapsed)
    assert all(scored(at, tmp_path, k, 0.9, 0.08).over_baseline.learned for k in range(20))


def test_groups_are_whole_documents_and_their_jackknife_covers(at, tmp_path):
    data = prepare(recipe(at), tmp_path)
    stream = data.parts["test"]
    of = groups_of(stream)
    assert of.max() + 1 == stream.documents == len(stream.group_bytes) == 8
    assert sum(stream.group_bytes) == stream.bytes
    for k in range(8):
        text = data.tokenizer.decode(stream.ids[of == k].tolist())
        assert text.count("<|endoftext|>") == 1
        assert len(text.removesuffix("<|endoftext|>")) == stream.group_bytes[k]
    draw, hits = np.random.default_rng(0), 0
    for _ in range(400):
        tokens = draw.lognormal(6, 0.7, 20)
        gap = 0.3 + draw.normal(0, 0.2, 20)
        sums = np.stack([-tokens * gap, tokens, 0 * tokens, tokens], axis=1)
        told = _perplexity(sums, stream, 32, 32, everything=True).over_baseline
        hits += told.low < 0.3 < told.high
    assert 0.91 <= hits / 400 <= 0.98


def test_a_run_that_did_not_train_says_so(at, tmp_path):
    order = ["--preset", "tiny", "--texts", str(at / "t.txt"), "--steps", "3", "--learning-rate", "1e-6"]
    done = CliRunner().invoke(cli, ["train", *order, "--out", str(tmp_path / "run")])
    assert "not shown to have learned" in done.output
    assert "nats a token" in done.output
    told = result(tmp_path / "run")
    assert told["learned"] is False
    assert told["over_baseline_low"] < told["over_baseline"] < told["over_baseline_high"]
    assert sum(told["test"]["groups"]["tokens"]) == told["test"]["tokens"]
    for words in ("preparing texts", "training: 3 of 3", "; loss", "rate", "final evaluation, test"):
        assert words in done.output, words


# runs


def test_a_run_learns_and_opens_like_any_model(at, tmp_path):
    out = pretrain(
        recipe(at, steps=60, norm_placement="post", norm="layernorm", mlp="gelu"), tmp_path / "run"
    )
    told = result(out)
    assert told["learned"]
    assert told["test"]["per_token"] < 0.8 * told["test"]["unigram_per_token"]
    assert told["validation"]["tokens"] == len(np.fromfile(out / "data/validation.bin", np.uint16)) - 1
    opened = ts.open_model(str(out))
    assert opened.kind == "decoder"
    assert opened.config.norm_placement == "post"
    store = ts.capture(
        opened, ts.open_texts(str(out / "data/prompts.jsonl")), tmp_path / "store", max_length=32
    )
    assert store.sites == ["resid.0", "resid.1", "resid.2"]
    start = load_file(out / "checkpoint-00000/model.safetensors")
    again = ts.open_model(f"random:{out}", seed=0).model.state_dict()
    assert all(torch.equal(start[k], again[k]) for k in start), (
        "random weights of the run's seed are its first step"
    )


def test_a_killed_run_goes_on_bit_for_bit(at, tmp_path, monkeypatch):
    asked = recipe(at, accumulate=2)
    whole = pretrain(asked, tmp_path / "whole")
    taken = room._Run._step

    def stop(self, step):
        if step == 9:
            raise KeyboardInterrupt
        return taken(self, step)

    monkeypatch.setattr(room._Run, "_step", stop)
    with pytest.raises(KeyboardInterrupt):
        pretrain(asked, tmp_path / "broken")
    monkeypatch.setattr(room._Run, "_step", taken)
    again = pretrain(asked, tmp_path / "broken")
    for file in ("steps.csv", "metrics.csv"):
        assert (whole / file).read_bytes() == (again / file).read_bytes()
    first, second = (load_file(f / "model.safetensors") for f in (whole, again))
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert not (again / "state.pt").exists()
    with pytest.raises(TransectError, match=r"another run: .*learning_rate"):
        pretrain(recipe(at, learning_rate=1e-4), whole)


def test_two_processes_are_one_up_to_rounding(at, tmp_path):
    flags = ["--preset", "tiny", "--texts", str(at / "t.txt"), "--steps", "8", "--accumulate", "2"]
    one = CliRunner().invoke(cli, ["train", *flags, "--out", str(tmp_path / "one"), "--json"])
    assert one.exit_code == 0, one.output
    order = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "transect",
    ]
    done = subprocess.run(
        [*order, "train", *flags, "--out", str(tmp_path / "two")],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    a, b = ([float(r["loss"]) for r in rows(tmp_path / n / "steps.csv")] for n in ("one", "two"))
    assert a == pytest.approx(b, rel=1e-4)
    first, second = (result(tmp_path / n)["test"] for n in ("one", "two"))
    assert first["tokens"] == second["tokens"]
    assert first["per_token"] == pytest.approx(second["per_token"], rel=1e-3)
    assert first["unigram_loss"] == pytest.approx(second["unigram_loss"], rel=1e-9)


def test_a_loss_that_is_not_finite_names_the_step_and_the_site(at, tmp_path, monkeypatch):
    taken = room._Run._step

    def poison(self, step):
        if step == 7:
            with torch.no_grad():  # both factors of the gate stay finite, their product does not
                for layer in (
                    self.model.model.layers[1].mlp.gate_proj,
                    self.model.model.layers[1].mlp.up_proj,
                ):
                    layer.weight.mul_(1e25)
        return taken(self, step)

    monkeypatch.setattr(room._Run, "_step", poison)
    with pytest.raises(TransectError) as caught:
        pretrain(recipe(at), tmp_path / "run")
    assert "step 8" in caught.value.message
    assert "first not finite: mlp.1.act" in caught.value.message
    assert "Kept: checkpoint-00006" in caught.value.fix
    kept = load_file(tmp_path / "run/checkpoint-00006/model.safetensors")
    assert all(bool(v.isfinite().all()) for v in kept.values())
    assert not (tmp_path / "run/result.json").exists()


def test_decay_is_on_matrices_and_the_rate_warms_up_and_falls(at, tmp_path):
    asked = recipe(at, steps=40, warmup=10).settled()
    rates = [asked.shape(k) for k in range(41)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[10] == max(rates) == 1
    assert rates[25] == pytest.approx((1 + 0.1) / 2)
    assert rates[40] == pytest.approx(0.1)
    seen = {}

    class Look(room._Run):
        def train(self, progress):
            seen["groups"] = [
                (g["weight_decay"], {p.ndim for p in g["params"]}) for g in self.optimiser.param_groups
            ]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "_Run", Look)
        pretrain(asked, tmp_path / "run")
    assert seen["groups"] == [(0.1, {2}), (0.0, {1})]


def test_bfloat16_and_grouped_heads_train_and_captures_stay_beside(at, tmp_path):
    asked = recipe(at, precision="bfloat16", kv_heads=1, steps=1, checkpoints=None, positions="learned")
    (at / "few.txt").write_text("".join((at / "t.txt").read_text().splitlines(keepends=True)[:9]))
    out = pretrain(asked, tmp_path / "run", capture=str(at / "few.txt"))
    assert math.isfinite(result(out)["test"]["loss"])
    for step in (0, 1):
        assert len(ts.open_store(out / f"stores/checkpoint-{step:05d}")) == 9


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"steps": 0}, "steps = 0"),
        ({"warmup": 12}, "warmup of 12 in 12 steps"),
        ({"stride": 40}, "stride 40 with blocks of 32"),
        ({"learning_rate": 3.0}, "learning rate 3"),
        ({"checkpoints": (99,)}, "checkpoint at step 99 of 12"),
        ({"width": 30, "heads": 2}, "heads of odd size 15"),
        ({"width": 32, "heads": 3}, "does not divide into 3 heads"),
        ({"precision": "float8"}, "float32 and bfloat16"),
    ],
)
def test_recipes_that_make_no_run_are_refused(at, tmp_path, given, said):
    with pytest.raises(TransectError) as caught:
        pretrain(recipe(at, **given), tmp_path / "run")
    assert said in f"{caught.value.message} {caught.value.fix}"
    assert not (tmp_path / "run").exists()


def test_checkpoints_are_written_as_words_or_numbers():
    assert marks("log", 20) == (1, 2, 4, 8, 16)
    assert marks("5", 20) == (5, 10, 15, 20)
    assert marks("3,7", 20) == (3, 7)
    with pytest.raises(TransectError, match="checkpoints 'often'"):
        marks("often", 20)
    assert preset("seed", texts="sotu").settled().checkpoints == (0, 200, 400, 600, 800, 1000)
    assert preset("seed", texts="sotu", steps=500).settled().checkpoints == (0, 200, 400, 500)
    assert isinstance(preset("demo", texts="sotu"), Pretraining)


def test_the_command_of_the_page_runs(at, tmp_path):
    order = [
        "--norm-placement",
        "post",
        "--norm",
        "layernorm",
        "--mlp",
        "gelu",
        "--steps",
        "30",
        "--seed",
        "0",
    ]
    done = CliRunner().invoke(
        cli,
        ["train", "--preset", "tiny", "--texts", str(at / "t.txt"), *order, "--out", str(tmp_path / "run")],
    )
    assert done.exit_code == 0, done.output
    assert "bits a byte" in done.output
    assert len(rows(tmp_path / "run/steps.csv")) == 30
