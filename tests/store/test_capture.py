"""Capture into a store: ragged, exact, resumable bit for bit, and refusing what would be wrong later."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import transect as ts
from planted import planted_store
from tiny import CAPTURED, make_texts, save_tiny, tiny_model, tiny_tokenizer
from transect.errors import TransectError
from transect.models.forward import forward, make_plan
from transect.store.shards import map_shard, widen


@pytest.fixture(scope="module")
def llama() -> ts.Model:
    return ts.wrap_model(tiny_model("llama"), tiny_tokenizer(), "tiny")


@pytest.fixture(scope="module")
def store(llama: ts.Model, tmp_path_factory: pytest.TempPathFactory) -> ts.Store:
    out = tmp_path_factory.mktemp("captures") / "all"
    everything = ["resid", "attn.head", "attn.out", "mlp.act", "mlp.out", "final_norm"]
    return ts.capture(llama, make_texts(), out, sites=everything, batch_tokens=64, shard_bytes=60_000)


def alone(model: ts.Model, text: str) -> list[torch.Tensor]:
    ids = torch.tensor([model.tokenizer(text)["input_ids"]])
    with torch.inference_mode():
        return [h[0] for h in model.base(ids, output_hidden_states=True).hidden_states]


def test_rows_are_each_texts_own_tokens_without_padding(llama: ts.Model, store: ts.Store) -> None:
    assert len(store.plan) > 2, "the test must cross shards"
    for i, text in enumerate(make_texts().texts):
        hidden = alone(llama, text)
        assert store.lengths[i] == len(hidden[0])
        for k in (0, 1, 2):
            assert np.allclose(store.sample(i, f"resid.{k}"), hidden[k].numpy(), atol=2e-5)
        assert "".join(store.tokens(i)) == text
    assert store.points("resid.2").shape == (store.lengths.sum(), 32)
    stacked = np.concatenate([store.sample(i, "mlp.1.act") for i in range(len(store))])
    assert np.array_equal(store.points("mlp.1.act"), stacked)


def test_selectors(store: ts.Store) -> None:
    X = store.points("resid.1")
    start = store.start[:-1]
    assert np.array_equal(store.points("resid.1", tokens="last"), X[store.start[1:] - 1])
    assert np.array_equal(store.points("resid.1", tokens=1), X[start + 1])
    assert np.array_equal(store.points("resid.1", tokens=-2), X[store.start[1:] - 2])
    means = np.stack([store.sample(i, "resid.1").mean(0, dtype=np.float64) for i in range(len(store))])
    assert np.allclose(store.points("resid.1", tokens="mean"), means, atol=1e-6)
    means = np.stack([store.sample(i, "resid.1")[1:].mean(0, dtype=np.float64) for i in range(len(store))])
    assert np.allclose(store.points("resid.1", tokens="mean", position0=False), means, atol=1e-6)
    rest = store.points("resid.1", position0=False)
    assert len(rest) == len(X) - len(store)
    at, after = store.select("landmark:gap"), store.select("landmark:gap+1")
    texts = make_texts()
    for row, i in enumerate(at.texts):
        last = texts.landmarks["gap"][i][1] - 1  # type: ignore[index]
        begin = sum(len(t) for t in store.tokens(i)[: at.position[row]])
        assert begin <= last < begin + len(store.tokens(i)[at.position[row]])
    assert np.array_equal(after.rows, at.rows[np.isin(at.texts, after.texts)] + 1)
    blocks = list(store.blocks("resid.1", max_bytes=30 * 32 * 4))
    assert len(blocks) > 2
    assert np.array_equal(np.concatenate(blocks), X)


def test_a_missing_token_is_refused_or_dropped_never_zero(store: ts.Store) -> None:
    far = int(store.lengths.min())
    with pytest.raises(TransectError, match=f"have no token at {far}"):
        store.points("resid.0", tokens=far)
    kept = store.select(far)
    assert (
        len(store.points("resid.0", tokens=far, missing="drop"))
        == (store.lengths > far).sum()
        == len(kept.texts)
    )
    with pytest.raises(TransectError, match="landmark:gap"):
        store.points("resid.0", tokens="landmark:month")
    with pytest.raises(TransectError, match="captured: resid"):
        store.points("attn.9.out")


def test_the_shards_open_with_safetensors(store: ts.Store) -> None:
    for k in range(len(store.plan)):
        there = load_file(store.shard(k))
        mapped = map_shard(store.shard(k)).arrays
        assert set(there) == set(store.sites)
        assert all(np.array_equal(there[s], mapped[s]) for s in there)


def test_bfloat16_and_float16_stores(llama: ts.Model, store: ts.Store, tmp_path: Path) -> None:
    half = ts.capture(
        llama, make_texts(), tmp_path / "b", sites=["resid"], store_dtype="bfloat16", batch_tokens=64
    )
    exact = torch.from_numpy(store.points("resid.2")).to(torch.bfloat16).float().numpy()
    assert np.array_equal(half.points("resid.2"), exact)
    assert widen(np.array([0x3F80, 0xC000], np.uint16)).tolist() == [1.0, -2.0]
    half = ts.capture(
        llama, make_texts(), tmp_path / "h", sites=["resid"], store_dtype="float16", batch_tokens=64
    )
    assert np.allclose(half.points("resid.2"), store.points("resid.2"), rtol=1e-3, atol=1e-4)


def test_overflow_is_refused_with_the_site(tmp_path: Path) -> None:
    big = tiny_model("llama")
    big.model.layers[1].mlp.down_proj.weight.data *= 1e9
    model = ts.wrap_model(big, tiny_tokenizer(), "big")
    with pytest.raises(TransectError, match=r"resid.2 reaches [\d,]+, more than float16 holds"):
        ts.capture(model, make_texts(), tmp_path / "f", sites=["resid"], store_dtype="float16")
    assert not list((tmp_path / "f").rglob("*.safetensors"))
    assert np.isfinite(
        ts.capture(model, make_texts(), tmp_path / "g", sites=["resid"]).points("resid.2")
    ).all()


def test_nan_on_a_later_text_keeps_what_was_finished(tmp_path: Path) -> None:
    model = ts.wrap_model(tiny_model("llama"), tiny_tokenizer(), "nan")
    texts = make_texts()
    texts.texts[4] = (
        "Qqq " + " ".join(CAPTURED * 2)[:150]
    )  # neither first nor last in the plan, with a token of its own
    token = model.tokenizer("Q")["input_ids"][0]
    texts.texts[7] = texts.texts[4] + " and the month of March"
    texts.texts[7] = texts.texts[7].replace("Qqq", "one")
    model.model.model.embed_tokens.weight.data[token] = float("nan")
    with pytest.raises(TransectError, match=r"resid.0 is not finite"):
        ts.capture(model, texts, tmp_path / "n", sites=["resid"], batch_tokens=1, shard_bytes=10_000)
    kept = ts.open_store(tmp_path / "n")
    assert kept.receipt(0).exists()
    assert np.isfinite(kept.sample(7, "resid.2")).all()
    assert not list((tmp_path / "n").rglob("*.partial"))


@pytest.mark.fault(
    "bad luck",
    "capture is killed (`kill -9`, power, a node lost)",
    "nothing; the folder lacks some shards",
    "run the same command: it goes on and ends bit for bit as the unbroken run",
)
def test_resume_after_a_kill_is_bit_identical(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "model", "llama")
    script = """
import os, signal, sys, transect as ts
from tiny import make_texts
import transect.store.shards as shards
stop = 0
finish = shards.ShardWriter.finish
done = []
def finish_then_die(self, receipt):
    if len(done) == stop:
        os.kill(os.getpid(), signal.SIGKILL)
    finish(self, receipt)
    done.append(1)
shards.ShardWriter.finish = finish_then_die
model = ts.open_model(sys.argv[2])
for stop in (1, 0, 99):
    child = os.fork()
    if not child:
        sites = ["resid", "mlp.act"]
        ts.capture(model, make_texts(), sys.argv[1], sites=sites, batch_tokens=64, shard_bytes=20_000)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", script, str(tmp_path / "killed"), str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(-signal.SIGKILL), str(-signal.SIGKILL), "0"]
    model = ts.open_model(str(folder))
    whole = ts.capture(
        model,
        make_texts(),
        tmp_path / "whole",
        sites=["resid", "mlp.act"],
        batch_tokens=64,
        shard_bytes=20_000,
    )
    killed = ts.open_store(tmp_path / "killed")
    assert len(whole.plan) > 3
    assert killed.fingerprint == whole.fingerprint
    for k in range(len(whole.plan)):
        assert whole.shard(k).read_bytes() == killed.shard(k).read_bytes()


def test_parts_make_the_whole(llama: ts.Model, tmp_path: Path) -> None:
    options = {"sites": ["resid"], "batch_tokens": 64, "shard_bytes": 5_000}
    whole = ts.capture(llama, make_texts(), tmp_path / "w", **options)
    first = ts.capture(llama, make_texts(), tmp_path / "p", shard=(2, 3), **options)
    assert first.unfinished
    with pytest.raises(TransectError, match="was not captured"):
        first.points("resid.0")
    for k in (1, 3):
        ts.capture(llama, make_texts(), tmp_path / "p", shard=(k, 3), **options)
    assert np.array_equal(ts.open_store(tmp_path / "p").points("resid.2"), whole.points("resid.2"))


@pytest.mark.fault(
    "bad luck",
    "another capture is asked into a folder",
    "`… holds another capture: …`, and what differs",
    "another `--out`; nothing was changed",
)
def test_another_capture_in_the_folder_is_refused_and_nothing_lost(
    llama: ts.Model, store: ts.Store, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(store.path, copy)
    before = {p: p.read_bytes() for p in sorted(copy.rglob("*")) if p.is_file()}
    with pytest.raises(TransectError, match="holds another capture: texts"):
        ts.capture(llama, make_texts(seed=5), copy, sites=["resid"])
    with pytest.raises(TransectError, match="holds another capture: model"):
        ts.capture(
            ts.wrap_model(tiny_model("llama", seed=3), tiny_tokenizer(), "o"),
            make_texts(),
            copy,
            sites=["resid"],
        )
    assert {p: p.read_bytes() for p in sorted(copy.rglob("*")) if p.is_file()} == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(TransectError, match="is no store"):
        ts.capture(llama, make_texts(), tmp_path / "mine")


@pytest.mark.fault("bad luck", "a bit flips in a shard")
def test_damage_is_found(store: ts.Store, tmp_path: Path) -> None:
    copy = tmp_path / "damaged"
    shutil.copytree(store.path, copy)
    assert ts.open_store(copy).verify() == []
    shard = ts.open_store(copy).shard(1)
    data = bytearray(shard.read_bytes())
    data[-100] ^= 4
    shard.write_bytes(data)
    assert any("00001.safetensors: checksum" in p for p in ts.open_store(copy).verify())
    shard.write_bytes(data[:-1000])
    with pytest.raises(TransectError, match="not a readable shard"):
        ts.open_store(copy).points("mlp.1.act")
    (copy / "manifest.json").write_text("{")
    with pytest.raises(TransectError, match="damaged"):
        ts.open_store(copy)
    with pytest.raises(TransectError, match="no such store"):
        ts.open_store(tmp_path / "nowhere")


def test_memory_running_out_halves_the_batch_and_says_so(
    llama: ts.Model, store: ts.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transect.store import capture_shard as room

    run = room.run

    def tight(model, taps, batch, put):
        if len(batch.mask) > 2:
            raise torch.OutOfMemoryError("not enough")
        run(model, taps, batch, put)

    monkeypatch.setattr(room, "run", tight)
    small = ts.capture(
        llama, make_texts(), tmp_path / "oom", sites=["resid"], batch_tokens=64, shard_bytes=60_000
    )
    splits = [json.loads(small.receipt(k).read_text())["splits"] for k in range(len(small.plan))]
    assert any(splits)
    assert np.allclose(small.points("resid.2"), store.points("resid.2"), atol=2e-5)


def test_positions_and_pooling(llama: ts.Model, store: ts.Store, tmp_path: Path) -> None:
    few = ts.capture(llama, make_texts(), tmp_path / "few", sites=["resid"], positions="0,last,landmark:gap")
    assert np.allclose(
        few.points("resid.2", tokens="last"), store.points("resid.2", tokens="last"), atol=2e-5
    )
    assert np.allclose(
        few.points("resid.2", tokens="landmark:gap"),
        store.points("resid.2", tokens="landmark:gap"),
        atol=2e-5,
    )
    assert few.start[-1] < store.start[-1]
    with pytest.raises(TransectError, match="no token at 2"):
        few.points("resid.2", tokens=2)
    pooled = ts.capture(llama, make_texts(), tmp_path / "pool", sites=["resid"], pool="mean", position0=False)
    assert np.allclose(
        pooled.points("resid.2"), store.points("resid.2", tokens="mean", position0=False), atol=2e-5
    )


@pytest.mark.fault(
    "bad luck",
    "the disk is too small from the start",
    "`the capture needs … GB, … GB are free`, before the first pass",
    "fewer sites or layers, pooling, or half precision",
)
def test_no_space_is_said_before_anything_is_captured(
    llama: ts.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(TransectError, match="GB are free"):
        ts.capture(llama, make_texts(), tmp_path / "x", sites=["resid"])


@pytest.mark.parametrize("family", ["gpt2", "bert", "t5", "mixtral", "opt", "falcon"])
def test_other_families(family: str, tmp_path: Path) -> None:
    model = ts.wrap_model(tiny_model(family), tiny_tokenizer(wrap=family == "bert"), family)
    store = ts.capture(
        model, make_texts(), tmp_path / "s", sites=["resid", "mlp.out", "attn.out"], batch_tokens=64
    )
    again = ts.capture(
        model, make_texts(), tmp_path / "single", sites=["resid", "mlp.out", "attn.out"], batch_tokens=1
    )
    last = "decoder.resid.3" if family == "t5" else "resid.3"
    assert np.allclose(store.points(last), again.points(last), atol=1e-4), (
        "padding must not reach real tokens"
    )
    if family in ("mixtral", "falcon", "gpt2", "opt"):
        delta = store.points("resid.2") - store.points("resid.1")
        assert np.allclose(delta, store.points("attn.1.out") + store.points("mlp.1.out"), atol=1e-5)
        assert store.manifest["additive_error"] < 1e-4
    if family == "bert":
        assert np.array_equal(store.select("last").position, store.lengths - 2), (
            "the last token that is not special"
        )


@pytest.mark.parametrize("spread", ["auto", "split"])
def test_a_model_laid_out_over_devices_gives_the_same_points(spread: str, tmp_path: Path) -> None:
    """As accelerate places it; "split" keeps one block and the final norm on disk, to be fetched for each
    pass."""
    folder = save_tiny(tmp_path / "model", "llama")
    plain = ts.open_model(str(folder))
    parts = {
        "model.embed_tokens": "cpu",
        "model.rotary_emb": "cpu",
        "model.layers.0": "cpu",
        "lm_head": "cpu",
    }
    parts |= {
        f"model.layers.{k}": "disk" if k == 1 else "cpu" for k in range(plain.model.config.num_hidden_layers)
    }
    spread_out = ts.open_model(
        str(folder), device_map="auto" if spread == "auto" else parts | {"model.norm": "disk"}
    )
    if spread == "split":
        assert {p.device.type for p in spread_out.model.model.layers[1].parameters()} == {"meta"}
    sites = ["resid", "mlp.act", "final_norm"]
    one, two = (
        ts.capture(m, make_texts(), tmp_path / f"s{k}", sites=sites)
        for k, m in enumerate((plain, spread_out))
    )
    assert one.manifest["model"]["fingerprint"]["weights"] == two.manifest["model"]["fingerprint"]["weights"]
    for site in one.sites:
        assert np.array_equal(one.points(site), two.points(site)), site


def test_the_same_pass_without_a_store(llama: ts.Model, store: ts.Store) -> None:
    total = np.zeros(32)
    for batch, owner, rows in forward(llama, make_texts(), ["resid.2"], batch_tokens=64):
        assert set(owner) == set(batch)
        total += rows["resid.2"].double().sum(0).numpy()
    assert np.allclose(total, store.points("resid.2").sum(0, dtype=np.float64), atol=1e-3)


def test_plan_is_sorted_and_within_budget() -> None:
    lengths = [5, 40, 7, 7, 90, 3, 12]
    plan = make_plan(lengths, lengths, 50, 100)
    flat = [i for shard in plan for batch in shard for i in batch]
    assert sorted(flat) == list(range(7))
    assert [lengths[i] for i in flat] == sorted(lengths, reverse=True)
    assert all(len(b) * lengths[b[0]] <= 50 or len(b) == 1 for shard in plan for b in shard)
    assert plan == make_plan(lengths, lengths, 50, 100)


def test_shuffled_tokens_keep_the_words_and_lose_the_order(
    llama: ts.Model, store: ts.Store, tmp_path: Path
) -> None:
    from transect.store.capture import recapture

    mixed = recapture(store, llama, tmp_path / "mixed", shuffle_tokens=1)
    again = recapture(store, llama, tmp_path / "again")
    assert np.array_equal(again.points("resid.3"), store.points("resid.3"))
    assert mixed.landmarks == []
    changed = 0
    for i in range(len(store)):
        assert sorted(mixed.token_ids(i)) == sorted(store.token_ids(i))
        changed += not np.array_equal(mixed.token_ids(i), store.token_ids(i))
    assert changed > len(store) // 2
    assert not mixed.same_tokens(store)


@pytest.mark.fault("bad luck", "the disk fills up")
def test_a_disk_that_fills_up_keeps_finished_shards(
    llama: ts.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, left = os.pwrite, [60_000]

    def full(fd: int, data: memoryview, offset: int) -> int:
        left[0] -= len(data)
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        return write(fd, data, offset)

    options = {"sites": ["resid"], "batch_tokens": 64, "shard_bytes": 20_000}
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(TransectError, match="No space left on device"):
        ts.capture(llama, make_texts(), tmp_path / "s", **options)
    monkeypatch.setattr(os, "pwrite", write)
    kept = ts.open_store(tmp_path / "s")
    assert 0 < len(kept.unfinished) < len(kept.plan)
    assert not list((tmp_path / "s").rglob("*.partial"))
    assert ts.capture(llama, make_texts(), tmp_path / "s", **options).verify() == []


def test_a_landmark_that_a_text_lacks_is_missing_there_and_not_its_first_token(tmp_path: Path) -> None:
    X = np.arange(24.0).reshape(12, 2)
    marks: dict = {"verb": [2, None, 0]}
    made = planted_store(tmp_path / "s", [X], [5, 3, 4], landmarks=marks)
    chosen = made.select("landmark:verb")
    assert (chosen.texts.tolist(), chosen.position.tolist(), chosen.missing) == ([0, 2], [2, 0], (1,))
    assert made.points("resid.0", "landmark:verb", missing="drop").tolist() == X[[2, 8]].tolist()
    assert made.select("landmark:verb+1").missing == (1,)
    with pytest.raises(TransectError, match="1 of 3 texts have no token"):
        made.points("resid.0", "landmark:verb")


def test_points_leave_out_what_studies_leave_out(tmp_path: Path) -> None:
    """Without sinks and massive tokens the points are those that a sweep draws from."""
    from planted import planted_store

    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 8)).astype(np.float32)
    X[::10, 0] += 300  # position 0 of every text
    X[5] *= 50
    store = planted_store(tmp_path / "s", [X], [10] * 12)
    kept = store.points("resid.0", position0=False, massive=10)
    assert len(kept) == 120 - 12 - 1
    assert len(store.points("resid.0")) == 120
    (row,) = ts.sweep("participation_ratio", store, n=84, workers=1, groups=4, permutations=0)
    assert row["massive_dropped"] == 1
    assert ts.measures.participation_ratio(kept) == pytest.approx(row["value"], rel=0.25)
    assert ts.measures.participation_ratio(store.points("resid.0")) < 0.6 * row["value"]
