"""Fine-tuning on tiny models: arms learn, resume, stop and are refused as they should; scores are the
benchmarks' own."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

import transect as ts
from tiny import save_tiny
from transect.cli.main import cli
from transect.errors import TransectError
from transect.train.finetune import finetune
from transect.train.heads import Judged, Span, best_answers, best_span, encode
from transect.train.recipe import Recipe, preset
from transect.train.scores import classification, exact, learned, overlap
from transect.train.tasks import Task, open_task

GOOD, BAD = "good nice fine green", "bad poor sad late"


@pytest.fixture(scope="module")
def at(tmp_path_factory):
    """Tiny models and a sentiment file that a few steps can learn."""
    folder = tmp_path_factory.mktemp("finetune")
    for family in ("llama", "bert"):
        save_tiny(folder / family, family, wrap=family == "bert")
    rows = [{"text": f"{(GOOD if k % 2 else BAD)} number {k % 17} {k}", "label": k % 2} for k in range(480)]
    (folder / "mood.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def recipe(at, **given):
    usual = {"method": "full", "learning_rate": 3e-3, "head_rate": 1e-2, "steps": 30, "max_length": 40}
    return Recipe(
        str(at / given.pop("family", "llama")), str(at / given.pop("file", "mood.jsonl")), **(usual | given)
    )


def result(folder):
    return json.loads((folder / "result.json").read_text())


@pytest.mark.parametrize(("method", "family"), [("full", "llama"), ("lora", "llama"), ("lora", "bert")])
def test_both_methods_learn_and_what_they_save_can_be_captured(at, tmp_path, method, family):
    asked = recipe(at, method=method, family=family, steps=40, checkpoints=(20,), merge=method == "lora")
    out = finetune(asked, tmp_path / "run")
    told = result(out)
    assert told["learned"], told
    assert told["metrics"]["accuracy"] == 1.0
    assert told["headline"] == "accuracy"
    assert (out / "metrics.csv").read_text().startswith("step,train_loss,loss,accuracy,f1,mcc")
    assert Recipe.load(out / "recipe.json") == asked.settled()
    spec = str(out) if method == "full" else f"{at / family}+{out}"
    opened = ts.open_model(spec)
    texts = ts.open_texts(str(at / "mood.jsonl"), n=6)
    tuned = ts.capture(opened, texts, tmp_path / "tuned")
    before = ts.capture(ts.open_model(str(at / family)), texts, tmp_path / "base")
    assert tuned.same_tokens(before)
    top = tuned.sites[-1]
    assert np.abs(tuned.points(top) - before.points(top)).max() > 1e-2
    assert (out / "checkpoint-00020/scores.json").exists()
    if method == "lora":
        merged = ts.capture(ts.open_model(str(out / "merged")), texts, tmp_path / "merged")
        np.testing.assert_allclose(merged.points(top), tuned.points(top), atol=1e-4)
        assert np.abs(tuned.points("resid.0") - before.points("resid.0")).max() == 0, (
            "embeddings are not adapted"
        )


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_resumed_run_ends_where_an_unbroken_one_does(at, tmp_path, method, monkeypatch):
    asked = recipe(at, method=method, steps=12, checkpoints=(6,), dropout=0.1 if method == "lora" else 0.0)
    whole = finetune(asked, tmp_path / "whole")
    from transect.train import finetune as room

    taken = room._Run._step

    def stop(self, step):
        if step == 9:
            raise KeyboardInterrupt
        return taken(self, step)

    monkeypatch.setattr(room._Run, "_step", stop)
    with pytest.raises(KeyboardInterrupt):
        finetune(asked, tmp_path / "broken")
    assert not (tmp_path / "broken/result.json").exists()
    monkeypatch.setattr(room._Run, "_step", taken)
    again = finetune(asked, tmp_path / "broken")
    name = "model.safetensors" if method == "full" else "adapter_model.safetensors"
    for file in (name, "head.safetensors"):
        first, second = load_file(whole / file), load_file(again / file)
        assert all(torch.equal(first[k], second[k]) for k in first)
    assert result(whole)["metrics"] == result(again)["metrics"]
    assert not (again / "state.pt").exists()


def test_a_finished_run_is_left_alone_and_another_is_refused(at, tmp_path):
    out = finetune(recipe(at, steps=2), tmp_path / "run")
    stamp = (out / "model.safetensors").stat().st_mtime_ns
    finetune(recipe(at, steps=2), out)
    assert (out / "model.safetensors").stat().st_mtime_ns == stamp
    with pytest.raises(TransectError, match="another run: seed 0 / 1"):
        finetune(recipe(at, steps=2, seed=1), out)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/precious.txt").write_text("mine")
    with pytest.raises(TransectError, match="holds no run"):
        finetune(recipe(at, steps=2), tmp_path / "full")


def test_an_arm_that_cannot_learn_is_said(at, tmp_path):
    rows = [{"text": f"word {k * 7919 % 101} {k}", "label": int(k * 104729 % 7 > 2)} for k in range(120)]
    (at / "noise.jsonl").write_text("\n".join(map(json.dumps, rows)))
    told = result(
        finetune(recipe(at, file="noise.jsonl", steps=3, learning_rate=1e-6, head_rate=1e-6), tmp_path / "r")
    )
    assert told["learned"] is False
    assert 0.4 < told["baseline"] < 0.8


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_checkpoint(at, tmp_path, monkeypatch):
    from transect.train import heads

    forward = heads.Tuned.forward
    calls = []

    def broken(self, batch):
        loss, out = forward(self, batch)
        calls.append(self.training)
        return (loss * float("nan") if sum(calls) > 5 and self.training else loss), out

    monkeypatch.setattr(heads.Tuned, "forward", broken)
    with pytest.raises(TransectError, match=r"step 6: the loss is nan.*Kept: checkpoint-00004"):
        finetune(recipe(at, steps=10, checkpoints=(4,)), tmp_path / "run")
    assert (tmp_path / "run/checkpoint-00004/model.safetensors").exists()
    assert not (tmp_path / "run/result.json").exists()


def test_a_checkpoint_cut_short_is_refused(at, tmp_path, monkeypatch):
    from transect.train import finetune as room

    monkeypatch.setattr(room._Run, "_finish", lambda *a: None)
    asked = recipe(at, steps=4, checkpoints=(2,))
    out = finetune(asked, tmp_path / "run")
    data = (out / "state.pt").read_bytes()
    (out / "state.pt").write_bytes(data[: len(data) // 2])
    with pytest.raises(TransectError, match="cut short or damaged"):
        finetune(asked, out)


def test_early_stop_keeps_the_best_weights(at, tmp_path):
    asked = recipe(at, steps=60, evaluate_every=4, patience=2, learning_rate=0.05, head_rate=0.05)
    out = finetune(asked, tmp_path / "run")
    losses = np.genfromtxt(out / "metrics.csv", delimiter=",", names=True)
    assert losses["step"].max() < 60
    assert result(out)["metrics"]["loss"] == pytest.approx(losses["loss"].min(), rel=1e-6)


def test_lean_options_train_too(at, tmp_path):
    asked = recipe(
        at, method="lora", steps=6, accumulate=2, batch=4, precision="bfloat16", gradient_checkpointing=True
    )
    assert np.isfinite(result(finetune(asked, tmp_path / "run"))["metrics"]["loss"])
    whole = finetune(recipe(at, steps=3, batch=8), tmp_path / "a")
    parts = finetune(recipe(at, steps=3, batch=4, accumulate=2), tmp_path / "b")
    for k, v in load_file(whole / "head.safetensors").items():
        np.testing.assert_allclose(v, load_file(parts / "head.safetensors")[k], atol=2e-4)


def test_metrics_are_also_written_for_tensorboard(at, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = finetune(recipe(at, steps=4, evaluate_every=2), tmp_path / "run")
    board = EventAccumulator(str(out / "tensorboard")).Reload()
    table = np.genfromtxt(out / "metrics.csv", delimiter=",", names=True)
    assert [s.step for s in board.Scalars("loss")] == table["step"].astype(int).tolist() == [0, 2, 4]
    assert [s.value for s in board.Scalars("accuracy")] == pytest.approx(table["accuracy"].tolist())


def test_language_modelling_on_any_texts(at, tmp_path):
    (at / "lines.txt").write_text("\n".join(f"the month of March has {k} days" for k in range(80)))
    told = result(finetune(recipe(at, file="lines.txt", steps=20), tmp_path / "a"))
    assert told["kind"] == "lm"
    assert told["learned"]
    assert told["metrics"]["perplexity"] == pytest.approx(np.exp(told["metrics"]["loss"]))
    with pytest.raises(TransectError, match="needs a decoder"):
        finetune(recipe(at, file="lines.txt", family="bert"), tmp_path / "b")


def squad(at):
    rows = []
    for k in range(60):
        context = f"Anna lives in {['Berlin', 'March', 'August'][k % 3]} with number {k}."
        answer = context.split()[3]
        answers = (
            {"text": [answer], "answer_start": [context.index(answer)]}
            if k % 4
            else {"text": [], "answer_start": []}
        )
        rows.append(
            {"id": str(k), "title": "t", "context": context, "question": " Where? ", "answers": answers}
        )
    (at / "squad.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return f"squad_v2@{at / 'squad.jsonl'}"


def test_spans_on_the_columns_of_squad(at, tmp_path):
    spec = squad(at)
    told = result(
        finetune(
            Recipe(str(at / "llama"), spec, "full", steps=25, learning_rate=3e-3, head_rate=1e-2),
            tmp_path / "r",
        )
    )
    assert told["kind"] == "span"
    assert set(told["metrics"]) >= {"f1", "em"}
    assert told["headline"] == "f1"


def test_spans_are_found_back_by_offsets(at):
    task = open_task(squad(at))
    words = ts.open_model(str(at / "llama")).tokenizer
    for row in encode(task, task.train, words, 128, 16, first=False):
        out = np.zeros((len(row["ids"]), 2))
        out[row["start"], 0] = out[row["end"], 1] = 5
        gold = row["example"]["answers"][0][1] if row["example"]["answers"] else ""
        assert best_answers([0], [best_span(out, row)])[0].strip() == gold


@pytest.mark.parametrize("family", ["llama", "bert"])
def test_windows_of_a_long_context_cover_it_and_find_its_answer(at, family):
    """Every context token is in a window, neighbours share the stride, the question stands before each, and
    the answer far from the start is found in the window that holds it."""
    words = ts.open_model(str(at / family)).tokenizer
    context = " ".join(f"day {k}" for k in range(60)) + " Berlin " + " ".join(f"month {k}" for k in range(9))
    row = {
        "question": "Where?",
        "context": context,
        "answers": {"text": ["Berlin"], "answer_start": [context.index("Berlin")]},
    }
    (at / "long.jsonl").write_text("\n".join(json.dumps(row) for _ in range(40)))
    task = open_task(f"squad_v2@{at / 'long.jsonl'},{at / 'long.jsonl'}")
    whole = words(f"Where?\n{context}", return_offsets_mapping=True)["offset_mapping"]
    windows = encode(task, task.train[:1], words, 48, 10, first=family == "bert")
    assert len(windows) > 3
    assert all(len(w["ids"]) <= 48 for w in windows)
    assert {tuple(o) for w in windows for o in w["offsets"]} | {(0, 0)} == {tuple(o) for o in whole} | {
        (0, 0)
    }
    shift = len("Where?") + 1
    spans = [[tuple(o) for o in w["offsets"] if o[1] > max(o[0], shift)] for w in windows]
    assert all(len(set(a) & set(b)) == 10 for a, b in itertools.pairwise(spans))
    answered = [w for w in windows if w["start"] != w["none"]]
    assert 1 <= len(answered) < len(windows)
    logits = [np.zeros((len(w["ids"]), 2)) for w in windows]
    for out, w in zip(logits, windows, strict=True):
        out[w["start"], 0] = out[w["end"], 1] = 5
        out[w["none"]] += 1
    found = best_answers([0] * len(windows), [best_span(o, w) for o, w in zip(logits, windows, strict=True)])
    assert found[0].strip() == "Berlin"
    with pytest.raises(TransectError, match="stride of 40"):
        encode(task, task.train[:1], words, 44, 40, first=False)


def test_two_processes_end_where_one_does(at, tmp_path):
    """The same batches shared between two processes: losses agree to rounding, one folder is written."""
    (at / "rows.jsonl").write_text(
        "\n".join(json.dumps({"text": f"{(GOOD if k % 2 else BAD)} {k}", "label": k % 2}) for k in range(80))
    )
    asked = recipe(at, file="rows.jsonl", steps=6, evaluate_every=3, checkpoints=(3,))
    alone = finetune(asked, tmp_path / "alone")
    script = tmp_path / "run.py"
    script.write_text(
        "import sys\nfrom transect.train.finetune import finetune\nfrom transect.train.recipe import Recipe\n"
        "from pathlib import Path\nfinetune(Recipe.load(Path(sys.argv[1])), sys.argv[2], device='cpu')\n"
    )
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node=2",
        str(script),
    ]
    command += [str(alone / "recipe.json"), str(tmp_path / "both")]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert result(tmp_path / "both")["processes"] == 2
    one, two = (
        np.genfromtxt(f / "metrics.csv", delimiter=",", names=True) for f in (alone, tmp_path / "both")
    )
    np.testing.assert_allclose(two["loss"], one["loss"], rtol=1e-4)
    np.testing.assert_allclose(two["train_loss"][1:], one["train_loss"][1:], rtol=1e-4)
    first, second = (load_file(f / "model.safetensors") for f in (alone, tmp_path / "both"))
    assert all(torch.allclose(first[k], second[k], atol=2e-4) for k in first)


def test_scores_are_the_benchmarks_own():
    assert exact("The  Eiffel tower!", ["eiffel Tower"]) == 1
    assert exact("", []) == 1
    assert overlap("a big red dog", ["red dog", "cat"]) == pytest.approx(2 * 1 * (2 / 3) / (1 + 2 / 3))
    assert overlap("dog", []) == 0
    assert overlap("", ["dog"]) == 0
    got = classification(np.array([1, 1, 0, 1, 0]), np.array([1, 0, 0, 1, 1]))
    assert got["accuracy"] == pytest.approx(0.6)
    assert got["f1"] == pytest.approx(2 / 3)
    assert got["mcc"] == pytest.approx((2 * 1 - 1 * 1) / np.sqrt(3 * 3 * 2 * 2))
    assert classification(np.array([0, 1, 2, 2]), np.array([0, 1, 2, 1]))["f1"] == pytest.approx(
        (1 + 2 / 3 + 2 / 3) / 3
    )
    assert learned(np.ones(50), np.r_[np.ones(20), np.zeros(30)])[0]
    assert not learned(np.r_[np.ones(26), np.zeros(24)], np.r_[np.zeros(25), np.ones(25)])[0]


def test_glue_columns_and_presets(at):
    rows = [{"sentence1": f"a {k}", "sentence2": f"b {k}", "label": k % 2, "idx": k} for k in range(40)]
    (at / "mrpc.jsonl").write_text("\n".join(map(json.dumps, rows)))
    task = open_task(f"mrpc@{at / 'mrpc.jsonl'},{at / 'mrpc.jsonl'}")
    assert (task.headline, task.kind, len(task.train)) == ("f1", "classify", 40)
    assert task.train[3] == {"text": "a 3", "pair": "b 3", "label": 1}
    assert preset("m", "mrpc@x", seed=3).batch == 16
    assert preset("m", "mrpc", batch=2, rank=None).batch == 2


def test_bad_input_is_refused_before_training(at, tmp_path):
    def refused(match, **given):
        with pytest.raises(TransectError, match=match):
            finetune(recipe(at, **given), tmp_path / "never")
        assert not (tmp_path / "never").exists()

    def file(name, rows):
        (at / name).write_text("\n".join(map(json.dumps, rows)))
        return name

    refused("no file", file="lost.jsonl")
    refused("1 different labels", file=file("one.jsonl", [{"text": "a b c", "label": 0}] * 30))
    refused("label -1", file=file("minus.jsonl", [{"text": "a b c", "label": -1}] * 30))
    refused("method", method="half")
    refused("checkpoint at step 99", checkpoints=(99,))
    refused("no module 'zz_proj'", method="lora", targets="zz_proj")
    refused("no model", family="nothing")
    train = [{"text": f"a b {k}", "label": k % 2} for k in range(30)]
    file("train.jsonl", train)
    file("valid.jsonl", [{"text": "x y z", "label": 7}] * 5)
    with pytest.raises(TransectError, match="label 7, outside of the task"):
        open_task(f"{at / 'train.jsonl'},{at / 'valid.jsonl'}")
    rows = [{"sentence1": "a", "sentence2": "b", "label": k} for k in (0, 1, 7)]
    with pytest.raises(TransectError, match="label 7 outside 0 and 1"):
        open_task(f"rte@{at / file('rte.jsonl', rows)}")
    with pytest.raises(TransectError, match="no task"):
        open_task("nonsense")
    wrong = [{"question": "q", "context": "abc", "answers": {"text": ["zz"], "answer_start": [0]}}] * 9
    with pytest.raises(TransectError, match="no answer 'zz' at 0"):
        open_task(str(at / file("span.jsonl", wrong)))


def test_the_command(at, tmp_path):
    args = [
        "finetune",
        str(at / "llama"),
        "--task",
        str(at / "mood.jsonl"),
        "--method",
        "lora",
        "--seed",
        "1",
    ]
    args += ["--steps", "3", "--learning-rate", "1e-6", "--head-rate", "1e-6", "--out", str(tmp_path / "run")]
    done = CliRunner().invoke(cli, args, standalone_mode=False, catch_exceptions=False)
    assert "accuracy" in done.output
    assert "not shown to have learned" in done.output
    assert result(tmp_path / "run")["recipe"]["seed"] == 1


@pytest.mark.fault(
    "bad input",
    "a constant answer that does well on the held-out examples",
    "it is the baseline: did not learn",
)
def test_the_baseline_is_the_better_constant_on_the_judged_examples() -> None:
    """Trained on 60 / 40, judged on 35 / 65: who always says 1 is right on 65 % and has learned nothing."""
    labels = [0] * 35 + [1] * 65
    train = [{"label": k} for k in [0] * 60 + [1] * 40]
    task = Task("t", "classify", train, [])
    rows = [{"label": k} for k in labels]
    judged = Judged(task, rows, np.zeros(100), [1] * 100)
    assert (judged.baseline.mean(), judged.judged_by) == (0.65, "accuracy")
    good, gap, _ = learned(judged.scores, judged.baseline)
    assert (good, gap) == (False, 0)
    assert learned(Judged(task, rows, np.zeros(100), [0] * 30 + [1] * 70).scores, judged.baseline)[0]


def test_the_baseline_of_spans_is_the_best_of_no_answer_and_the_usual_ones() -> None:
    rows = [
        {"number": k, "example": {"answers": [(0, text)] if text else []}}
        for k, text in enumerate(["the Rhine"] * 6 + ["Bonn", "", "", ""])
    ]
    judged = Judged(Task("t", "span", [], []), rows, np.zeros(10), [Span("", 0.0, 1.0)] * 10)
    assert judged.baseline.mean() == pytest.approx(0.6), "always saying Rhine, not never answering (0.3)"
    assert judged.judged_by == "f1"


def test_learned_holds_its_level_in_small_sets() -> None:
    """Ten examples, no difference: called learned in at most 2.5 % (a normal quantile gives 4 %)."""
    draws = np.random.default_rng(0)
    gaps = draws.normal(size=(4000, 10))
    assert np.mean([learned(g, np.zeros(10))[0] for g in gaps]) == pytest.approx(0.025, abs=0.008)


GLUE_ROWS = {
    "sst2": [{"sentence": f"it 's a charming {k}", "label": k % 2, "idx": k} for k in range(6)],
    "rte": [
        {"sentence1": f"No weapons {k}.", "sentence2": f"Weapons {k}.", "label": k % 2, "idx": k}
        for k in range(6)
    ],
    "mrpc": [
        {"sentence1": f"Amrozi {k} .", "sentence2": f"Referring {k} .", "label": k % 2, "idx": k}
        for k in range(6)
    ],
}


@pytest.mark.parametrize("name", GLUE_ROWS)
def test_the_columns_of_glue_as_they_are_published(name: str, tmp_path: Path) -> None:
    """Names, pairs, labels and idx as the data sets have them; the test split's label of −1 is refused."""
    rows = GLUE_ROWS[name]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    task = open_task(f"{name}@{tmp_path / 't.jsonl'},{tmp_path / 't.jsonl'}")
    assert (task.name, task.kind, task.labels) == (name, "classify", [0, 1])
    assert task.headline == ("f1" if name == "mrpc" else "accuracy")
    first = task.train[1]
    assert first["label"] == 1
    assert first["text"] == rows[1].get("sentence", rows[1].get("sentence1"))
    assert first["pair"] == rows[1].get("sentence2")
    (tmp_path / "t.jsonl").write_text("\n".join(json.dumps(r | {"label": -1}) for r in rows))
    with pytest.raises(TransectError, match="these rows have no labels"):
        open_task(f"{name}@{tmp_path / 't.jsonl'},{tmp_path / 't.jsonl'}")


def test_a_row_of_squad_v2_with_several_answers_and_one_without(tmp_path: Path) -> None:
    context = "The Normans were the people who in the 10th and 11th centuries gave their name to Normandy."
    rows = [
        {"id": "56ddde6b", "context": context, "question": "When were the Normans there? ",
         "answers": {"text": ["10th and 11th centuries", "in the 10th and 11th centuries"],
                     "answer_start": [context.index("10th"), context.index("in the 10th")]}},
        {"id": "5ad39d53", "title": "Normans", "context": context, "question": "Who gave their name?",
         "answers": {"text": [], "answer_start": []}},
    ]  # fmt: skip
    (tmp_path / "s.jsonl").write_text("\n".join(map(json.dumps, rows)))
    task = open_task(f"squad_v2@{tmp_path / 's.jsonl'},{tmp_path / 's.jsonl'}")
    assert [len(e["answers"]) for e in task.train] == [2, 0]
    assert task.train[0]["question"] == "When were the Normans there?"
    assert overlap("the 10th century", [t for _, t in task.train[0]["answers"]]) == pytest.approx(2 / 6)
