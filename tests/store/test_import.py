"""Points that others captured: bit for bit the same in a store, the same numbers from every study, and every
misfit refused before anything is written."""

import itertools
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

import transect as ts
from crashing import STOPS, crashed_everywhere, files
from planted import planted_store
from tiny import make_texts, tiny_model, tiny_tokenizer
from transect.cli.main import cli
from transect.errors import TransectError
from transect.models.foreign import TABLE, site_of, sites_of
from transect.store import arrays, staging
from transect.store.imports import import_arrays

LENGTHS = [3 + (5 * k) % 7 for k in range(24)]
MONTHS = [k % 12 + 1 for k in range(24)]


def ragged(dtype: str = "float32", sites: int = 3, width: int = 6) -> dict[str, list[torch.Tensor]]:
    """Points of other width, scale and offset at every site."""
    rng = np.random.default_rng(0)
    return {
        f"resid.{k}": [
            torch.tensor(rng.normal(k, 1 + k, size=(n, width + k))).to(getattr(torch, dtype)) for n in LENGTHS
        ]
        for k in range(sites)
    }


def padded(points: dict[str, list[torch.Tensor]], left: bool = False) -> tuple[dict[str, Any], np.ndarray]:
    """The same as [N, T, d] with NaN in the padding, which nobody may read, and the mask."""
    most = max(LENGTHS)
    mask = np.zeros((len(LENGTHS), most), bool)
    for i, n in enumerate(LENGTHS):
        mask[i, most - n if left else 0 : most if left else n] = True
    made = {}
    for site, parts in points.items():
        made[site] = torch.full((len(parts), most, parts[0].shape[1]), torch.nan, dtype=parts[0].dtype)
        for i, part in enumerate(parts):
            made[site][i][torch.tensor(mask[i])] = part
    return made, mask


def numpy(points: dict[str, Any]) -> dict[str, Any]:
    return {k: [p.numpy() for p in v] if isinstance(v, list) else v.numpy() for k, v in points.items()}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several shards, several blocks in each."""
    monkeypatch.setattr(arrays, "SHARD_BYTES", 2_000)
    monkeypatch.setattr(staging, "BLOCK_BYTES", 300)


# the same points


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_points_are_kept_bit_for_bit(dtype: str, tmp_path: Path, small: None) -> None:
    points = ragged(dtype)
    store = ts.store_from_arrays(points, out=tmp_path / "s", labels={"month": MONTHS})
    assert len(store.plan) > 2
    assert store.verify() == []
    assert store.unsealed() == []
    assert (store.name, store.unit, store.manifest["dtype"]["store"]) == ("s", "sample", dtype)
    raw: dict[str, list[torch.Tensor]] = {site: [] for site in points}
    for k in range(len(store.plan)):
        for site, value in load_file(store.shard(k)).items():
            raw[site].append(value)
    for site, parts in points.items():
        assert torch.equal(torch.cat(raw[site]), torch.cat(parts))
        for i in (0, 7, 23):
            assert np.array_equal(store.sample(i, site), parts[i].float().numpy())
        assert store.ranges()[site] == float(torch.cat(parts).abs().max())
    assert store.text(3) == "3"
    assert store.label("month").tolist() == MONTHS
    assert "24 samples" in repr(store)


def test_equal_arrays_find_the_store_and_others_are_refused(tmp_path: Path) -> None:
    points = ragged()
    store = ts.store_from_arrays(points, out=tmp_path / "s")
    kept = files(store.path)
    assert ts.store_from_arrays(numpy(points), out=tmp_path / "s").content == store.content
    others: list[dict[str, Any]] = [
        {"points": points | {"resid.2": [p + (i == 23) for i, p in enumerate(points["resid.2"])]}},
        {"points": points, "labels": {"month": MONTHS}},
        {"points": points, "texts": ["x"] * 24},
        {"points": points, "name": "other"},
        {"points": ragged("float16")},
    ]
    for other in others:
        with pytest.raises(TransectError, match="holds another capture"):
            ts.store_from_arrays(**other, out=tmp_path / "s")
    assert files(store.path) == kept


@pytest.mark.fault(
    "bad luck",
    "an array that changes between the pass that makes a store's identity and the one that writes it",
    "refused: the shard is not what was hashed, and does not count",
    "run the same command: it resumes",
)
def test_arrays_that_change_meanwhile_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points, foresee = ragged("float32"), staging.foresee
    first = next(iter(points.values()))[0]
    kept = first.clone()
    begun = ts.store_from_arrays(points, tmp_path / "s")
    for path in (begun.shard(0), begun.receipt(0)):  # as an import leaves it that was stopped
        path.unlink()

    def then_changed(*given: Any) -> Any:
        foreseen = foresee(*given)
        first[0, 0] += 1
        return foreseen

    monkeypatch.setattr(staging, "foresee", then_changed)
    with pytest.raises(TransectError, match="not all that was written is there"):
        ts.store_from_arrays(points, tmp_path / "s")
    monkeypatch.undo()
    assert len(ts.open_store(tmp_path / "s").unfinished) == 1
    first.copy_(kept)
    assert ts.store_from_arrays(points, tmp_path / "s").verify() == []


def test_a_new_store_is_what_was_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: None) -> None:
    """Arrays that change after a shard was compared with them change nothing; before that, it is refused."""
    points, begin, foresee = ragged("float32"), arrays.begin, staging.foresee
    kept = {site: [p.numpy().copy() for p in parts] for site, parts in points.items()}

    def changed(asked: Any) -> Any:
        for parts in points.values():
            for part in parts:
                part += 1
        return asked

    monkeypatch.setattr(arrays, "begin", lambda *asked: changed(begin(*asked)))
    store = ts.store_from_arrays(points, tmp_path / "s")
    assert store.verify() == []
    assert all(np.array_equal(store.sample(i, s), kept[s][i]) for s in kept for i in (0, 23))
    monkeypatch.setattr(staging, "foresee", lambda *asked: changed(foresee(*asked)))
    with pytest.raises(TransectError, match="not all that was written is there"):
        ts.store_from_arrays(points, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_two_imports_that_begin_together_are_one_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: None
) -> None:
    points, begin = ragged("float32"), arrays.begin

    def another_first(*asked: Any) -> None:
        monkeypatch.setattr(arrays, "begin", begin)
        ts.store_from_arrays(points, tmp_path / "s")
        begin(*asked)

    monkeypatch.setattr(arrays, "begin", another_first)
    store = ts.store_from_arrays(points, tmp_path / "s")
    assert store.verify() == []
    assert not [p.name for p in (tmp_path / "s").rglob("*.partial")]


def test_a_refused_import_leaves_no_folder(tmp_path: Path, small: None) -> None:
    points = ragged("float32")
    points["resid.2"][23][-1, -1] = float("nan")
    with pytest.raises(TransectError, match="sample 23"):
        ts.store_from_arrays(points, tmp_path / "new" / "s")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("out", [None, 5, "file"])
def test_a_place_that_is_no_folder_is_refused(
    out: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("mine")
    with pytest.raises(TransectError, match=r"no path|no folder"):
        ts.store_from_arrays({"resid.0": ONE}, out=out)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert Path("file").read_text() == "mine"


def test_a_view_of_a_tensor_is_what_it_shows(tmp_path: Path) -> None:
    X = torch.tensor([[1 + 2j, 3 - 4j], [5j, 6]], dtype=torch.complex64)
    store = ts.store_from_arrays({"resid.0": [X.conj().imag]}, out=tmp_path / "s")
    assert store.points("resid.0").tolist() == [[-2, 4], [-5, 0]]


@pytest.mark.parametrize("left", [False, True])
def test_ragged_and_masked_arrays_are_one_store(left: bool, tmp_path: Path) -> None:
    """Padding holds NaN here: none of it is read."""
    points = ragged("bfloat16")
    whole, mask = padded(points, left)
    store = ts.store_from_arrays(points, out=tmp_path / "a", name="x")
    for k, given in enumerate((mask, mask.astype(int), torch.tensor(mask))):
        other = ts.store_from_arrays(whole, out=tmp_path / f"b{k}", name="x", mask=given)
        assert (other.fingerprint, other.content) == (store.fingerprint, store.content)
        assert other.index.equals(store.index)


def test_doubles_become_floats_and_mixed_halves_too(tmp_path: Path) -> None:
    rows = np.linspace(0, 1, 12).reshape(4, 3)
    store = ts.store_from_arrays({"resid.0": [rows, rows]}, out=tmp_path / "s")
    assert np.array_equal(store.sample(1, "resid.0"), rows.astype(np.float32))
    assert store.manifest["notes"] == ["stored as float32: came as float64"]
    mixed = {"resid.0": [torch.ones(2, 3).bfloat16()], "resid.1": [np.ones((2, 3), np.float16)]}
    assert ts.store_from_arrays(mixed, out=tmp_path / "m").manifest["dtype"]["store"] == "float32"


def test_one_point_a_sample_is_a_pooled_store(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(24, 5)).astype(np.float32)
    store = ts.store_from_arrays({"resid.1": rows, "final_norm": rows * 2}, tmp_path / "s", groups=MONTHS)
    assert store.sites == ["resid.1", "final_norm"]
    assert np.array_equal(store.points("resid.1"), rows)
    assert np.array_equal(store.points("final_norm", tokens="mean"), rows * 2)
    assert store.index["group"].to_pylist() == [str(m) for m in MONTHS]
    with pytest.raises(TransectError, match="one pooled point"):
        store.points("resid.1", tokens="last")


def test_texts_and_tokens_are_found_in_each_other(tmp_path: Path) -> None:
    given = {"texts": ["the cat sat", "a dog"], "tokens": [["the", " cat", " sat"], ["a", " dog"]]}
    store = ts.store_from_arrays({"resid.0": [np.ones((3, 2)), np.ones((2, 2))]}, tmp_path / "s", **given)
    assert store.tokens(0) == ["the", " cat", " sat"]
    assert store.index["offsets"][1].as_py() == [0, 1, 1, 5]
    assert (store.unit, store.text(1)) == ("text", "a dog")
    ids = ts.store_from_arrays(
        {"resid.0": [np.ones((3, 2)), np.ones((2, 2))]}, tmp_path / "i", tokens=[[5, 6, 7], [8, 9]]
    )
    assert ids.token_ids(1).tolist() == [8, 9]


# the same numbers


def twins(folder: Path, name: str, layers: list[np.ndarray], sites: list[str]) -> tuple[ts.Store, ts.Store]:
    """A captured store and one from arrays, of the same points."""
    rows = [np.split(X, np.cumsum(LENGTHS)[:-1]) for X in layers]
    labels: dict[str, list] = {"month": MONTHS, "odd": [i % 2 for i in range(24)]}
    captured = planted_store(
        folder / "captured" / name, layers, LENGTHS, name=name, labels=labels, sites=sites
    )
    tokens = [["a"] * n for n in LENGTHS]
    given = {"labels": labels, "tokens": tokens, "name": name, "texts": ["a" * n for n in LENGTHS]}
    points = dict(zip(sites, rows, strict=True))
    return captured, ts.store_from_arrays(points, folder / "arrays" / name, **given)


def layers_of(seed: int, count: int = 3, width: int = 6) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(k, 1 + k, size=(sum(LENGTHS), width)).astype(np.float32) for k in range(count)]


def test_studies_of_arrays_equal_those_of_a_capture(tmp_path: Path) -> None:
    sites = [f"resid.{k}" for k in range(3)]
    one, two = (twins(tmp_path, name, layers_of(k), sites) for k, name in enumerate(("one", "two")))
    small: dict[str, Any] = {"n": 20, "groups": 4, "workers": 1}
    shape: dict[str, Any] = {
        "label": "month",
        "period": 12,
        "tokens": ["last"],
        "permutations": 3,
        "workers": 1,
    }
    for study in (
        lambda k: ts.studies.drift(one[k], resamples=1, pca=2, **small),
        lambda k: ts.studies.compare([one[k], two[k]], **small),
        lambda k: ts.studies.manifold(one[k], **shape),
    ):
        captured, brought = study(0), study(1)
        assert captured.findings == brought.findings
        assert any(len(table) for table in captured.tables.values())
        for name, table in captured.tables.items():
            other = brought.tables[name].arrow
            odd = [c for c in table.columns if not other[c].equals(table.arrow[c])]
            assert odd in ([], ["sample"]), (brought.name, name)  # ids: t0, t1 … there, 0, 1 … here


def test_a_sweep_and_a_map_of_neurons_equal_those_of_a_capture(tmp_path: Path) -> None:
    pair = twins(tmp_path, "n", layers_of(3, 2, 12), ["mlp.0.act", "mlp.1.act"])
    maps = [ts.studies.neurons(s, dim=2, skip=(), cards=0).tables["positions"].arrow for s in pair]
    assert maps[0].equals(maps[1])
    sweep: dict[str, Any] = {"pairs": "all", "n": 12, "groups": 2, "permutations": 2, "workers": 1}
    swept = [ts.sweep("cka", s, sites=["mlp.act"], **sweep).arrow for s in pair]
    assert swept[0].equals(swept[1])


def test_points_of_a_real_capture_come_back(tmp_path: Path) -> None:
    model = ts.wrap_model(tiny_model("llama"), tiny_tokenizer(), "tiny")
    captured = ts.capture(model, make_texts(6), tmp_path / "captured")
    count = range(len(captured))
    points = {s: [captured.sample(i, s) for i in count] for s in captured.sites}
    tokens = [captured.token_ids(i) for i in count]
    texts = [captured.text(i) for i in count]
    store = ts.store_from_arrays(points, tmp_path / "s", texts=texts, tokens=tokens)
    assert store.same_tokens(captured)
    assert all(np.array_equal(store.points(s), captured.points(s)) for s in captured.sites)
    assert np.array_equal(
        store.points("resid.1", position0=False), captured.points("resid.1", position0=False)
    )


@pytest.mark.fault("bad input", "a study of arrays needs the model", "refused: `… was made from arrays`")
def test_what_needs_the_model_says_that_there_is_none(tmp_path: Path) -> None:
    _, store = twins(tmp_path, "one", layers_of(0), [f"resid.{k}" for k in range(3)])
    with pytest.raises(TransectError, match="made from arrays, without a model"):
        ts.studies.drift(store, random_weights=True, out=tmp_path / "d", workers=1)
    with pytest.raises(TransectError, match="made from arrays, without a model"):
        ts.studies.drift(store, shuffled_tokens=True, out=tmp_path / "d", workers=1)
    study = ts.studies.tokens(store, n=10, groups=4, workers=1, out=tmp_path / "t")
    assert "made from arrays" in str(study.tables["gradients"].column("status")[0])
    assert any("made from arrays" in w for w in study.warnings)


def test_a_pooled_store_goes_through_the_studies(tmp_path: Path) -> None:
    points = {f"resid.{k}": X[:24] for k, X in enumerate(layers_of(0))}
    store = ts.store_from_arrays(points, tmp_path / "s", labels={"month": MONTHS})
    study = ts.studies.manifold(store, label="month", period=12, permutations=3, workers=1)
    assert set(study.tables["map"].column("token")) == {"all"}
    words = " ".join([*study.findings, *study.warnings, *study.methods, *(f.caption for f in study.figures)])
    assert "24 samples" in words
    assert not re.search(r"\b[Tt]exts?\b", words), words
    assert len(ts.sweep("cka", store, n=12, groups=2, permutations=2, workers=1)) == 2


# bad input

ONE = [np.ones((3, 4), np.float32), np.ones((2, 4), np.float32)]
CUBE = np.ones((2, 3, 4), np.float32)
BAD: list[tuple[str, dict[str, Any], str]] = [
    ("no site", {"points": {"redis.3": ONE}}, "'redis.3' is no site.*nearest name is resid.3"),
    ("no points", {"points": {}}, "no points"),
    ("no samples", {"points": {"resid.0": []}}, "no samples"),
    ("an empty sample", {"points": {"resid.0": [ONE[0], np.ones((0, 4))]}}, "sample 1 is empty"),
    ("no mask", {"points": {"resid.0": CUBE}}, "without a mask"),
    (
        "a mask of other shape",
        {"points": {"resid.0": CUBE}, "mask": np.ones((2, 4))},
        "a mask .2, 4. for points",
    ),
    ("a mask of numbers", {"points": {"resid.0": CUBE}, "mask": CUBE[:, :, 0] * 2}, "other than 0 and 1"),
    (
        "a sample all masked",
        {"points": {"resid.0": CUBE}, "mask": [[1, 1, 1], [0, 0, 0]]},
        "sample 1 is empty",
    ),
    (
        "fewer samples",
        {"points": {"resid.0": ONE, "resid.1": ONE[:1]}},
        "resid.1 has 1 samples, resid.0 has 2",
    ),
    ("other lengths", {"points": {"resid.0": ONE, "resid.1": ONE[::-1]}}, "resid.1 has 2 points in sample 0"),
    (
        "pooled and not",
        {"points": {"resid.0": ONE, "resid.1": CUBE[:, 0]}},
        "resid.1 has 1 points in sample 0",
    ),
    ("other widths", {"points": {"resid.0": [ONE[0], np.ones((2, 5))]}}, r"sample 1 has shape \(2, 5\)"),
    ("flat samples", {"points": {"resid.0": [np.ones(4), np.ones(4)]}}, r"sample 0 has shape \(4,\)"),
    ("NaN", {"points": {"resid.0": [ONE[0], ONE[1] * np.nan]}}, "8 of 8 values of sample 1 are NaN or inf"),
    ("beyond float32", {"points": {"resid.0": [np.full((2, 2), 1e300)]}}, "beyond float32"),
    ("whole numbers", {"points": {"resid.0": [np.ones((2, 2), int)]}}, "its dtype is int64"),
    ("objects", {"points": {"resid.0": [np.array([[None, 1]])]}}, "its dtype is object"),
    (
        "labels of another count",
        {"points": {"resid.0": ONE}, "labels": {"m": [1]}},
        "label m: 1 for 2 samples",
    ),
    ("labels without names", {"points": {"resid.0": ONE}, "labels": [1, 2]}, "labels have no names"),
    ("texts of another count", {"points": {"resid.0": ONE}, "texts": ["a"]}, "texts: 1 for 2 samples"),
    ("groups of another count", {"points": {"resid.0": ONE}, "groups": [1, 2, 3]}, "groups: 3 for 2 samples"),
    (
        "tokens of another count",
        {"points": {"resid.0": ONE}, "tokens": [[1, 2], [3, 4]]},
        "2 tokens and 3 points",
    ),
    (
        "groups that some lack",
        {"points": {"resid.0": ONE}, "groups": ["a", None]},
        "1 of 2 samples have none",
    ),
    ("tokens in no lists", {"points": {"resid.0": ONE}, "tokens": [1, 2]}, "tokens are no lists"),
    ("a masked array", {"points": {"resid.0": [np.ma.array(ONE[0], mask=ONE[0] > 0)]}}, "a masked array"),
    ("a sparse tensor", {"points": {"resid.0": [torch.ones(3, 4).to_sparse()]}}, "no array of numbers"),
    ("a tensor without data", {"points": {"resid.0": [torch.ones(3, 4, device="meta")]}}, "no array of numb"),
    (
        "one site twice",
        {"points": {"resid.1": ONE, "blocks.0.hook_resid_post": [x + 1 for x in ONE]}},
        "are both",
    ),
]


@pytest.mark.fault(
    "bad input",
    "arrays that do not fit each other, are empty, masked wrongly, or hold NaN",
    "refused with site and sample; nothing is written",
)
@pytest.mark.parametrize(("given", "match"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_a_misfit_is_refused_and_nothing_is_written(
    given: dict[str, Any], match: str, tmp_path: Path
) -> None:
    with pytest.raises(TransectError, match=match) as told:
        ts.store_from_arrays(**given, out=tmp_path / "s")
    assert told.value.fix
    assert list(tmp_path.iterdir()) == []


@pytest.mark.fault("bad luck", "a writer stops before any one of its calls to the disk")
def test_an_import_stopped_before_any_call_ends_as_the_unbroken_one(tmp_path: Path, small: None) -> None:
    points, out = {k: v[:9] for k, v in ragged().items()}, tmp_path / "s"
    whole = ts.store_from_arrays(points, tmp_path / "whole", name="s")
    assert len(whole.plan) > 1

    def check(stop: int) -> None:
        again = ts.store_from_arrays(points, out)
        assert again.verify() == [], stop
        shards = range(len(whole.plan))
        assert all(again.shard(k).read_bytes() == whole.shard(k).read_bytes() for k in shards), stop
        shutil.rmtree(out)

    assert crashed_everywhere(lambda: ts.store_from_arrays(points, out), check) == STOPS["an import"]


# names of others


def test_names_of_transformer_lens() -> None:
    cache = {
        "hook_embed": "",
        "blocks.0.hook_resid_pre": "resid.0",
        "blocks.0.ln1.hook_scale": "",
        "blocks.0.ln1.hook_normalized": "",
        "blocks.0.attn.hook_q": "",
        "blocks.0.attn.hook_pattern": "",
        "blocks.0.attn.hook_z": "attn.0.head",
        "blocks.0.hook_attn_out": "attn.0.out",
        "blocks.0.hook_resid_mid": "",
        "blocks.0.mlp.hook_pre": "",
        "blocks.0.mlp.hook_post": "mlp.0.act",
        "blocks.0.hook_mlp_out": "mlp.0.out",
        "blocks.0.hook_resid_post": "resid.1",
        "blocks.11.hook_resid_post": "resid.12",
        "ln_final.hook_scale": "",
        "ln_final.hook_normalized": "final_norm",
    }
    found, left = sites_of(cache)
    assert {name: site for site, names in found.items() for name in names} == {
        k: v for k, v in cache.items() if v
    }
    assert set(left) == {k for k, v in cache.items() if not v}
    assert sites_of(["hook_embed", "blocks.0.hook_mlp_out"])[0]["resid.0"] == ["hook_embed"]
    assert sites_of(["hook_embed", "hook_pos_embed"])[1] == ["hook_embed", "hook_pos_embed"]
    twice = sites_of(["blocks.1.hook_resid_pre", "blocks.0.hook_resid_post"])[0]
    assert twice == {"resid.1": ["blocks.0.hook_resid_post", "blocks.1.hook_resid_pre"]}


@pytest.mark.parametrize(
    ("name", "site"),
    [
        ("model.layers.3", "resid.4"),
        ("model.layers.3.output", "resid.4"),
        ("model.layers.3.output.0", "resid.4"),
        ("model.layers.3.output[0]", "resid.4"),
        ("model.layers.0.input", "resid.0"),
        ("model.layers.3.self_attn.output", "attn.3.out"),
        ("model.layers.3.self_attn.o_proj.input", "attn.3.head"),
        ("model.layers.3.mlp", "mlp.3.out"),
        ("model.layers.3.mlp.down_proj.input", "mlp.3.act"),
        ("model.layers.3.mlp.down_proj", "mlp.3.out"),
        ("model.norm", "final_norm"),
        ("model.embed_tokens", "resid.0"),
        ("model.language_model.layers.3", "resid.4"),
        ("transformer.h.11.output", "resid.12"),
        ("transformer.h.11.attn.c_proj.input", "attn.11.head"),
        ("transformer.h.11.mlp.c_proj.input", "mlp.11.act"),
        ("transformer.ln_f.output", "final_norm"),
        ("transformer.wte", ""),
        ("gpt_neox.layers.2.attention.dense.input", "attn.2.head"),
        ("gpt_neox.layers.2.mlp.dense_4h_to_h.input", "mlp.2.act"),
        ("gpt_neox.final_layer_norm", "final_norm"),
        ("model.decoder.layers.5.fc2.input", "mlp.5.act"),
        ("model.decoder.layers.5", "resid.6"),
        ("encoder.layer.2", "resid.3"),
        ("encoder.layer.2.attention.output.dense", "attn.2.out"),
        ("encoder.layer.2.attention.output", ""),
        ("encoder.layer.2.output.dense.input", "mlp.2.act"),
        ("lm_head", ""),
        ("hidden_states.7", "resid.7"),
        ("mlp.3.act", "mlp.3.act"),
        ("encoder.resid.2", "encoder.resid.2"),
    ],
)
def test_names_of_hugging_face_and_nnsight(name: str, site: str) -> None:
    assert site_of(name)[0] == site


def test_two_stacks_keep_their_names_and_the_nearest_name_is_told() -> None:
    assert set(sites_of(["model.encoder.layers.0", "model.decoder.layers.0"])[0]) == {
        "encoder.resid.1",
        "decoder.resid.1",
    }
    near = {"mlp.3.acts": "mlp.3.act", "blocks.2.hook_resid_prev": r"blocks.2.hook_resid_post|resid_pre"}
    for name, wanted in (near | {"model.layer.4.x": "model.layers.4", "resid": "resid.0"}).items():
        if name.startswith("blocks"):  # a hook of theirs that we do not know is no site
            assert site_of(name)[0] == ""
            continue
        with pytest.raises(TransectError, match=f"nearest name is {wanted}"):
            site_of(name)
    assert len({pattern for pattern, _ in TABLE}) == len(TABLE)


# files of others


def run(*words: Any) -> Any:
    return CliRunner().invoke(cli, ["import", *map(str, words)])


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> ts.Store:
    """Sites of one width, as hidden states have."""
    return ts.store_from_arrays(equal(), tmp_path_factory.mktemp("wanted") / "s", name="x")


def equal() -> dict[str, list[torch.Tensor]]:
    return {k: [p[:, :6] for p in v] for k, v in ragged().items()}


def write(kind: str, folder: Path) -> tuple[Path, list[Any]]:
    """One file of every kind with the same points; what the command needs beside it."""
    points = equal()
    whole, mask = padded(points)
    flat, states = {k: torch.cat(v) for k, v in points.items()}, tuple(whole.values())
    hooks = ("blocks.0.hook_resid_pre", "blocks.0.hook_resid_post", "blocks.1.hook_resid_post")
    modules = ("model.layers.0.input", "model.layers.0.output", "model.layers.1.output")
    keep, lengths, packed = {"mask": torch.tensor(mask)}, {"lengths": torch.tensor(LENGTHS)}, {"keep": mask}
    contents: dict[str, Any] = {
        "npz": numpy(whole) | {"attention_mask": mask.astype(int)},
        "npz-packed": numpy(whole) | packed,
        "npz-lengths": numpy(flat | lengths),
        "npz-layers": {"hidden_states": torch.stack(states).numpy(), "mask": mask},
        "safetensors": whole | keep,
        "safetensors-lengths": flat | lengths,
        "pt": whole | {"attention_mask": keep["mask"].long()},
        "pt-lists": points,
        "pt-states": states,
        "pt-outputs": {"hidden_states": states} | keep,
        "pt-cache": dict(zip(hooks, states, strict=True)) | keep | {"blocks.0.attn.hook_z2": torch.ones(2)},
        "pt-modules": {n: (v,) for n, v in zip(modules, states, strict=True)} | keep,
    }
    suffix = kind.split("-")[0]
    path, content = folder / f"{kind}.{suffix}", contents[kind]
    if suffix == "npz":
        (np.savez_compressed if kind == "npz-packed" else np.savez)(path, **content)
    else:
        (save_file if suffix == "safetensors" else torch.save)(content, path)
    np.save(folder / "mask.npy", mask)
    more = {"npz-packed": ["--mask", "keep"], "pt-states": ["--mask", folder / "mask.npy"]}
    return path, more.get(kind, [])


KINDS = ["npz", "npz-packed", "npz-lengths", "npz-layers", "safetensors", "safetensors-lengths", "pt"]
KINDS += ["pt-lists", "pt-states", "pt-outputs", "pt-cache", "pt-modules"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_gives_the_same_store(kind: str, wanted: ts.Store, tmp_path: Path) -> None:
    file, more = write(kind, tmp_path)
    told = run(file, "--out", tmp_path / "s", "--name", "x", *more)
    assert told.exit_code == 0, (told.output, told.exception)
    store = ts.open_store(tmp_path / "s")
    assert store.verify() == []
    assert (store.fingerprint, store.content) == (wanted.fingerprint, wanted.content)
    assert CliRunner().invoke(cli, ["info", str(tmp_path / "s"), "--verify"]).exit_code == 0


@pytest.mark.parametrize("layers_first", [True, False])
def test_hidden_states_of_a_serving_engine(layers_first: bool, wanted: ts.Store, tmp_path: Path) -> None:
    """One prompt a file, in the order of their numbers; token ids tell which axis is which."""
    points = equal()
    folder = tmp_path / "served"
    folder.mkdir()
    for i, n in enumerate(LENGTHS):
        states = torch.stack([points[s][i] for s in points], 0 if layers_first else 1)
        save_file(
            {"hidden_states": states, "token_ids": torch.arange(n) + i}, folder / f"req-{i}.safetensors"
        )
    assert run(folder, "--out", tmp_path / "s").exit_code == 0
    store = ts.open_store(tmp_path / "s")
    assert store.ids[:3] == ["req-0", "req-1", "req-2"]
    assert store.token_ids(5).tolist() == (np.arange(LENGTHS[5]) + 5).tolist()
    assert all(np.array_equal(store.points(s), wanted.points(s)) for s in wanted.sites)
    chosen = import_arrays(folder, tmp_path / "l", layers=[4, 9, 12], sites=["resid.9"])
    assert chosen.sites == ["resid.9"]
    one = import_arrays(folder / "req-4.safetensors", tmp_path / "one")
    assert np.array_equal(one.points("resid.2"), points["resid.2"][4].numpy())


def test_texts_labels_and_choices_of_an_import(tmp_path: Path) -> None:
    whole, mask = padded(equal())
    ids = np.arange(mask.size).reshape(mask.shape)
    np.savez(tmp_path / "a.npz", **numpy(whole), mask=mask, month=MONTHS, odd_one=np.ones(3), input_ids=ids)
    lines = "".join(f'{{"text": "text {i}", "kind": "k{i % 2}"}}\n' for i in range(24))
    (tmp_path / "t.jsonl").write_text(lines)
    words = ["--out", tmp_path / "s", "--texts", tmp_path / "t.jsonl", "--label", "month,kind"]
    assert "'odd_one' is no site" in str(run(tmp_path / "a.npz", *words).exception)
    assert run(tmp_path / "a.npz", *words, "--sites", "resid.1,resid.2").exit_code == 0
    store = ts.open_store(tmp_path / "s")
    assert store.sites == ["resid.1", "resid.2"]
    assert (store.text(2), store.unit) == ("text 2", "text")
    assert store.label("month").tolist() == MONTHS
    assert store.label("kind").tolist() == [f"k{i % 2}" for i in range(24)]
    assert store.token_ids(1).tolist() == ids[1][mask[1]].tolist()
    np.save(tmp_path / "one.npy", whole["resid.0"].numpy()[:, :3])
    assert "--site" in str(run(tmp_path / "one.npy", "--out", tmp_path / "n").exception)
    assert (
        run(tmp_path / "one.npy", "--out", tmp_path / "n", "--site", "resid.7", "--mask", "all").exit_code
        == 0
    )
    assert ts.open_store(tmp_path / "n").rows.tolist() == [3] * 24


@pytest.mark.fault("bad input", "a file of arrays holds a pickle", "refused: nothing in it is run")
def test_no_pickle_is_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"resid.0": Evil()}, tmp_path / "a.pt")
    np.save(tmp_path / "b.npy", np.array([Evil(), np.ones(3)], object), allow_pickle=True)
    evil: dict[str, Any] = {"resid.0": np.array([Evil(), np.ones(3)], object)}
    np.savez(tmp_path / "c.npz", **evil)
    for file in ("a.pt", "b.npy", "c.npz"):
        with pytest.raises(TransectError, match=r"more than tensors|Python objects"):
            import_arrays(tmp_path / file, tmp_path / "s", site="resid.0")
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "s").exists()


@pytest.mark.fault("bad input", "a file of arrays is cut short or its header lies", "refused with the reason")
@pytest.mark.parametrize("kind", ["npz", "npz-packed", "safetensors", "pt"])
def test_damaged_files_are_refused(kind: str, wanted: ts.Store, tmp_path: Path) -> None:
    file, more = write(kind, tmp_path)
    data = file.read_bytes()
    keep: dict[str, Any] = {"mask": "keep"} if more else {}
    rng = np.random.default_rng(1)
    heads = [data[: len(data) // 2], b"", data[:4], b"\xff" * 8 + data[8:], b"\0" * 64 + data[64:]]
    flipped = [data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :] for at in rng.integers(0, 300, 20)]
    for k, broken in enumerate(itertools.chain(heads, flipped)):
        file.write_bytes(broken)
        out = tmp_path / f"s{k}"
        try:
            import_arrays(file, out, **keep)
            read = True
        except TransectError as error:
            read = not error.fix
        assert read == out.exists()
        if read:  # a bit of a date, or of what is not read
            assert k >= len(heads)
            assert ts.open_store(out).verify() == []
