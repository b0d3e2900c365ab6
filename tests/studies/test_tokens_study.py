"""The token study and evolution on tiny trained arms: matched differences, controls, figures, and what is
refused."""

import json
import random
from dataclasses import fields, replace

import numpy as np
import pytest
from click.testing import CliRunner
from transformers import BertConfig, BertModel, LlamaConfig, LlamaModel

import transect as ts
from planted import planted_store
from tiny import WORDS
from transect.cli.main import cli
from transect.errors import TransectError
from transect.models.edit import Blocks
from transect.models.gradients import skipped_losses
from transect.results.drawing import colours, draw
from transect.results.study import Study
from transect.results.table import Table
from transect.studies.evolve.steps import chosen_steps
from transect.studies.runs import model_of, shortened
from transect.studies.tokens.contrasts import between, combined, contrasts, differences
from transect.studies.tokens.losses import losses
from transect.studies.tokens.pictures import _grid, pictures
from transect.studies.tokens.runs import CHOICES, RECIPE, Arm, arms_of
from transect.studies.tokens.tables import _mean, similarities
from transect.studies.tokens.words import _findings
from transect.train.pretrain import pretrain
from transect.train.pretraining import Pretraining, preset
from transect.train.state import quiet

FAST = {"n": 40, "groups": 4, "gradient_texts": 4, "gradient_positions": 2, "workers": 1}
SHORT = {"n": 40, "groups": 4, "workers": 1}


@pytest.fixture(scope="module")
def at(tmp_path_factory):
    """Two arms of one seed on one corpus, with a checkpoint on the way."""
    folder = tmp_path_factory.mktemp("tokens")
    rng = random.Random(1)
    (folder / "t.txt").write_text(
        "\n".join(" ".join(rng.choices(WORDS, k=rng.randint(16, 24))) for _ in range(60))
    )
    for placement in ("pre", "post"):
        made = preset(
            "tiny", texts=str(folder / "t.txt"), steps=8, norm_placement=placement, checkpoints=(4,)
        )
        pretrain(made, folder / placement, data=folder / "data")
    return folder


@pytest.fixture(scope="module")
def study(at):
    out = at / "out"
    made = ts.studies.tokens([str(at / "pre"), at / "post"], at / "t.txt", out=out, prompts=1, **FAST)
    made.save(out)
    return made


def test_every_curve_has_its_null_its_interval_and_its_control(study):
    table = study.tables["curves"]
    from transect.studies.tokens.names import CURVES

    for curve in CURVES:
        for series in ("pre", "post"):
            own = list(table.where(curve=curve, series=series, role="run"))
            assert own, curve
            assert all(np.isfinite(r["value"]) for r in own)
            assert all(r["null"] is not None for r in own) != (curve in ("variance", "block skipped")), curve
            assert all(r["low"] is None or r["low"] <= r["value"] <= r["high"] for r in own)
            assert len(table.where(curve=curve, series=series, role="control")) == len(own), curve
    left_out = [(r["series"], r["curve"], r["layer"]) for r in table if not r["comparable"]]
    assert {(s, layer) for s, _, layer in left_out} == {("post", 0)}
    assert {c for _, c, _ in left_out} == {"update norm", "relative update", "alignment", "neighbours"}
    assert not any("final_norm" in s for s in table.values("site"))
    assert set(study.tables["within"].column("position0")) == {"dropped"}


def test_the_control_of_our_runs_is_where_they_started(at, study):
    store = ts.open_store(at / "out/stores/pre_random_weights")
    start = ts.capture(
        ts.open_model(str(at / "pre/checkpoint-00000")),
        ts.open_texts(at / "t.txt"),
        at / "start",
        max_length=32,
    )
    np.testing.assert_array_equal(store.points("resid.2"), start.points("resid.2"))


def test_differences_are_of_runs_that_differ_in_one_choice(study):
    table = study.tables["differences"]
    assert table.values("contrast") == ["post − pre"]
    at = {(r["run"], r["site"]): r["value"] for r in study.tables["within"].where(measure="rank_residual")}
    for row in table.where(curve="rank residual"):
        assert row["value"] == pytest.approx(at["post", row["site"]] - at["pre", row["site"]])
        assert (row["pairs"], row["seeds"], row["basis"]) == (1, 1, "texts")
        assert row["low"] <= row["value"] <= row["high"]
    assert any("post − pre" in finding for finding in study.findings)
    assert any("differences between seeds" in w for w in study.warnings)
    assert any("resid is the normed state" in w for w in study.warnings)
    assert any("do not start alike in function" in w for w in study.warnings)
    row = next(iter(study.tables["losses"]))
    assert (row["contrast"], row["unit"], row["pairs"]) == ("post − pre", "nats a token", 1)
    assert row["low"] < row["value"] < row["high"]
    assert any("post − pre, loss on test" in finding for finding in study.findings)


def test_every_figure_draws_from_the_saved_tables(at, study):
    import matplotlib.pyplot as plt

    again = Study.load(at / "out")
    assert [f.name for f in again.figures][:5] == ["similarity", "updates", "gradients", "depth", "shape"]
    for figure in again.figures:
        canvas = draw(again, figure)
        assert canvas.axes
        if figure.kind == "token_heatmap":
            shown = [t.get_text() for t in canvas.axes[0].get_yticklabels()]
            assert "·birthday" in shown or any(w.strip("·") in " ".join(WORDS) for w in shown)
        plt.close(canvas)


def test_matched_pairs_are_found_and_averaged():
    def arm(placement, mlp, seed):
        choices = {"placement": placement, "mlp": mlp}
        return Arm(f"{placement}{mlp}{seed}", "run", f"{placement} {mlp}", seed, None, choices)

    arms = [arm(p, m, s) for p in ("pre", "post") for m in ("gelu", "swiglu") for s in (0, 1)][:-1]
    found = dict(contrasts(arms))
    assert found["post − pre"] == [
        ("pregelu0", "postgelu0"),
        ("pregelu1", "postgelu1"),
        ("preswiglu0", "postswiglu0"),
    ]
    assert len(found["swiglu − gelu"]) == 3


def gap(value, replicates=(), site="resid.1"):
    told = {"site": site, "layer": 1, "depth": 0.5, "measure": "m", "value": value}
    return [told | {"replicates": np.array(replicates)}]


def test_the_unit_of_a_difference_is_the_seed():
    """Eight pairs of a 2 × 2 × 2 grid under two seeds are two units; under four they are four."""
    gaps = np.random.default_rng(0).normal(0, 0.05, (4, 4)) + np.array([[1.0], [2.0], [4.5], [1.5]])
    two = combined({k: [gap(v) for v in gaps[k]] for k in range(2)})[0]
    assert (two["pairs"], two["seeds"], two["basis"]) == (8, 2, "two seeds: none")
    assert np.isnan([two["low"], two["band_low"]]).all()
    assert (two["seed_low"], two["seed_high"]) == pytest.approx(tuple(sorted(gaps[:2].mean(axis=1))))
    four = combined({k: [gap(v) for v in gaps[k]] for k in range(4)})[0]
    half = 3.18245 * gaps.mean(axis=1).std(ddof=1) / 2
    assert (four["value"], four["low"], four["high"]) == pytest.approx(
        (gaps.mean(), gaps.mean() - half, gaps.mean() + half), rel=1e-4
    )
    one = combined({0: [gap(1.0, [0.9, 1.0, 1.1])]})[0]
    assert one["basis"] == "texts"
    assert one["low"] < 1 < one["high"]


def test_seeds_stand_in_the_interval_of_a_curve():
    """0.79 and 0.99 have no interval of half a percent; three seeds have one as wide as they are apart."""

    def row(value):
        replicates = (value + np.linspace(-0.002, 0.002, 10)).tolist()
        told = {"value": value, "low": value - 0.002, "high": value + 0.002, "site": "resid.1", "null": None}
        return told | {"replicates": replicates, "measure": "anisotropy"}

    two, three = _mean([row(0.79), row(0.99)]), _mean([row(0.79), row(0.99), row(0.9)])
    assert np.isnan([two["low"], two["high"]]).all()
    assert (two["seed_low"], two["seed_high"]) == (0.79, 0.99)
    assert three["low"] < 0.7
    assert three["high"] > 0.98
    assert (_mean([row(0.79)])["low"], _mean([row(0.79)])["high"]) == (0.788, 0.792)


def run(name, seed=0, **choices):
    return Arm(name, "run", name, seed, None, {"placement": "pre", "norm": "rmsnorm"} | choices)


def test_stacks_of_different_depth_are_compared_at_shares_of_depth():
    """A curve that is the square of depth in both: no difference at the depths that both have."""
    rows = []
    for name, blocks in (("a", 4), ("b", 8)):
        for k in range(blocks + 1):
            base = {"run": name, "site": f"resid.{k}", "measure": "anisotropy", "status": "ok", "null": 0.0}
            value = (k / blocks) ** 2 + (0.5 if name == "b" else 0)
            rows.append(base | {"normalise": "raw", "value": value, "replicates": [value - 0.1, value + 0.1]})
    arms = [run("a", layers="layers 4"), run("b", layers="layers 8")]
    table = differences({"layers": Table(rows)}, arms).where(curve="cosine")
    assert table.values("contrast") == ["layers 8 − layers 4"]
    assert table.column("depth").tolist() == [0, 0.25, 0.5, 0.75, 1]
    np.testing.assert_allclose(table.column("value"), 0.5, atol=1e-12)
    told = between({f"resid.{k}": {"value": float(k)} for k in range(4)}, "resid", 0.5, 3)
    assert told["value"] == pytest.approx(1.5)


def test_a_rate_for_each_placement_is_part_of_the_contrast():
    rate = {"pre": "learning rate 0.002", "post": "learning rate 0.0005"}
    arms = [
        run(f"{p}{n}{s}", s, placement=p, norm=n, **{"learning rate": rate[p]})
        for p in rate
        for n in ("rmsnorm", "layernorm")
        for s in (0, 1)
    ]
    found = dict(contrasts(arms))
    assert set(found) == {
        "post − pre (with learning rate 0.0005 − learning rate 0.002)",
        "layernorm − rmsnorm",
    }
    assert len(found["layernorm − rmsnorm"]) == 4
    cells = _grid(arms, {"series": [a.series for a in arms]}, "")[0].options["cells"]
    assert {(c["column"], c["line"]) for c in cells} == {
        (p, n) for p in rate for n in ("rmsnorm", "layernorm")
    }


def test_runs_that_differ_in_their_recipe_are_no_seeds(at, tmp_path):
    """Every field of a recipe is a choice, or does not change what a run becomes."""
    made = {}
    for name, given in (("slow", {"learning_rate": 1e-4}), ("fast", {}), ("again", {"seed": 1})):
        usual = {"texts": str(at / "t.txt"), "steps": 2, "checkpoints": ()} | given
        folder = pretrain(preset("tiny", **usual), tmp_path / name, data=at / "data")
        made[name] = ts.capture(
            ts.open_model(str(folder)), ts.open_texts(at / "t.txt"), tmp_path / "s" / name, max_length=32
        )
    arms = arms_of(list(made.values()), [])
    assert [a.series for a in arms] == ["learning rate 0.0001", "learning rate 0.003", "learning rate 0.003"]
    assert [a.seed for a in arms] == [0, 0, 1]
    assert [name for name, _ in contrasts(arms)] == ["learning rate 0.003 − learning rate 0.0001"]
    covered = {"layers", "heads", "kv_heads", "width", "block", "tied", "vocab", "weight_std"} | set(CHOICES)
    unchanging = {"seed", "checkpoints", "evaluate_every", "evaluate_blocks", "stride", "compile"}
    assert {f.name for f in fields(Pretraining)} - covered - unchanging == set(RECIPE)


def judged(nats, tokens, data="d", size=None):
    groups = {"nats": list(nats), "tokens": list(tokens), "bytes": list(tokens * 4 if size is None else size)}
    return {"groups": groups, "data_fingerprint": data, "task": "lm:t", "judged": "test"}


def test_the_gap_in_loss_is_paired_by_documents():
    """Documents differ by 0.5 nats, the arms by 0.03 on each: paired, the interval does not hold 0."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(100, 900, 20).astype(float)
    hard = rng.normal(4, 0.5, 20)
    arms = [run("a"), run("b", norm="layernorm")]
    told = [judged(tokens * hard, tokens), judged(tokens * (hard + 0.03 + rng.normal(0, 0.02, 20)), tokens)]
    row = next(iter(losses([replace(a, judged=t) for a, t in zip(arms, told, strict=True)])))
    assert row["unit"] == "nats a token"
    assert 0 < row["low"] < row["value"] < row["high"] < 0.06
    other = judged(tokens * hard, tokens * 2, "e", tokens * 4)
    row = next(iter(losses([replace(arms[0], judged=told[0]), replace(arms[1], judged=other)])))
    assert (row["unit"], row["value"]) == ("bits a byte", pytest.approx(0))
    row = next(iter(losses([arms[0], replace(arms[1], judged=other)])))
    assert row["status"] == "a run without a final evaluation"


def test_checkpoints_have_their_own_verdict(at, tmp_path):
    stores = [
        ts.capture(
            ts.open_model(str(at / "pre" / name)), ts.open_texts(at / "t.txt"), tmp_path / name, max_length=32
        )
        for name in ("checkpoint-00000", "checkpoint-00004", "checkpoint-00008")
    ]
    arms = arms_of(stores, [])
    assert [a.step for a in arms] == [0, 4, 8]
    assert arms[0].learned is False
    assert all(a.over is not None and a.over[1] < a.over[0] < a.over[2] for a in arms)
    assert arms[2].over[0] == json.loads((at / "pre/result.json").read_text())["over_baseline"]
    assert arms[2].judged is not None


@pytest.mark.parametrize("kind", ["encoder", "decoder without its head"])
def test_what_predicts_nothing_is_a_row_that_says_why(at, tmp_path, kind):
    texts = at / "t.txt"
    if kind == "encoder":
        folder = at / "pre"
        model = ts.open_model(str(folder))
        config = BertConfig(
            vocab_size=len(model.tokenizer), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=32, max_position_embeddings=64, pad_token_id=0,
        )  # fmt: skip
        made = BertModel(config)
    else:
        model = ts.open_model(str(at / "pre"))
        config = LlamaConfig(
            vocab_size=len(model.tokenizer), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=32, max_position_embeddings=64,
        )  # fmt: skip
        made = LlamaModel(config)
    with quiet():
        made.save_pretrained(tmp_path / "m")
    model.tokenizer.save_pretrained(tmp_path / "m")
    study = ts.studies.tokens(str(tmp_path / "m"), texts, out=tmp_path / "o", random_weights=False, **FAST)
    for table in ("gradients", "skips"):
        row = next(iter(study.tables[table]))
        assert "no next token" in row["status"] or "without its head" in row["status"]
    assert len(study.tables["curves"].where(curve="cosine"))
    assert any("no next token" in w or "without its head" in w for w in study.warnings)


def test_the_worth_of_a_block_is_the_loss_without_it(at, study):
    """By hand: the loss of one text with the block's output put back to its input."""
    import torch

    model, store = ts.open_model(str(at / "pre")), ts.open_store(at / "out/stores/pre")
    ids = np.asarray(store.token_ids(3))
    told = skipped_losses(Blocks(model), ids)
    given = torch.from_numpy(ids.astype(np.int64))[None]

    def loss():
        with torch.inference_mode():
            return float(model.model(input_ids=given, labels=given).loss)

    usual = loss()
    for proj in (
        "attention.o_proj",
        "mlp.down_proj",
    ):  # a pre-norm block without its branches is the identity
        model.model.model.layers[1].get_submodule(proj).weight.data.zero_()
    assert told["resid.2"][0] == pytest.approx(loss() - usual, abs=1e-5)
    size = store.sample(3, "resid.1")[1:].astype(float)
    assert told["resid.1"][1] == pytest.approx((size**2).mean(), rel=1e-3)
    assert any("curse of depth" in f for f in study.findings)


def test_eight_series_all_have_their_sentence_and_panels_hold_eight_lines():
    arms, rows = [], []
    for k in range(18):
        name = f"arm {k}"
        arms.append(Arm(name, "run", name, 0, None, {}))
        for layer in range(3):
            base = {"series": name, "role": "run", "site": f"resid.{layer}", "layer": layer, "status": "ok"}
            base |= {"value": 0.1 * layer + 0.01, "low": None, "high": None, "null": 0.0, "runs": 1}
            base |= {"measure": "anisotropy", "comparable": True, "seed_low": 0.0, "seed_high": 1.0}
            rows.append(base | {"curve": "cosine in text"})
    for count in (8, 18):
        some = arms[:count]
        table = Table([r for r in rows if r["series"] in {a.series for a in some}])
        made = Study("tokens", "?", {"curves": table, "similarity": Table([{"prompt": None}])})
        findings = _findings(made)
        assert all(any(f.startswith(f"{a.series}:") for f in findings) for a in some)
        figures = [f for f in pictures(made, some, "") if f.kind == "token_curves"]
        assert len(figures) == {8: 1, 18: 3}[count]
        assert sum(len(f.options["series"]) for f in figures) == count
        assert all(len(set(colours(f.options["series"]).values())) <= 8 for f in figures)
        assert all(
            len(set(colours(f.options["series"]).values())) == len(f.options["series"]) for f in figures
        )


def test_names_beside_bars_keep_both_ends():
    names = [f"runs/token-grid/post-layernorm-swiglu-with-a-long-name-{k}" for k in (0, 1)]
    short = [shortened(n) for n in names]
    assert len(set(short)) == 2
    assert all(len(s) == 40 and s.startswith("runs/") for s in short)


def test_similarity_of_tokens_is_their_cosine(tmp_path):
    rng = np.random.default_rng(5)
    lengths = [12, 9, 14, 10, 11]
    X = rng.standard_normal((sum(lengths), 6)) + 4 * np.eye(6)[0]
    store = planted_store(tmp_path / "s", [X, 2 * X], lengths)
    table = similarities([store], "resid", 1, False)
    assert table.values("site") == ["resid.0", "resid.1"]
    M = table.where(site="resid.0").column("value").reshape(13, 13)
    own = X[21 + 1 : 21 + 14].astype(np.float32)
    own = own / np.linalg.norm(own, axis=1, keepdims=True)
    np.testing.assert_allclose(M, own @ own.T, atol=1e-5)
    assert table.column("null")[0] == pytest.approx(16 / 22, abs=0.15), (
        "mean of norm 4, deviations of 6 dimensions"
    )
    assert abs(table.column("null_centred")[0]) < 0.35


def test_tokens_of_other_texts_are_compared_as_those_of_one_are():
    """Points are one of two directions by their position: tokens of different texts at different positions
    have the cosines of a text's own, tokens at one position have 1."""
    from transect.studies.tokens.tables import _across, _off_diagonal

    X = np.tile(np.repeat(np.eye(2), 3, axis=0), (5, 1, 1))
    assert _across(X) == pytest.approx(_off_diagonal(X[0] @ X[0].T)) == pytest.approx(12 / 30)
    Y = np.random.default_rng(0).normal(size=(4, 3, 6))
    Y /= np.linalg.norm(Y, axis=-1, keepdims=True)
    cosines = np.einsum("aid,bjd->abij", Y, Y)
    wanted = [
        cosines[a, b, i, j] for a in range(4) for b in range(4) for i in range(3) for j in range(3)
        if a != b and i != j
    ]  # fmt: skip
    assert _across(Y) == pytest.approx(np.mean(wanted))


def test_an_encoder_and_its_decoder_are_two_series(tmp_path):
    rng = np.random.default_rng(0)
    names = [f"{stack}.resid.{k}" for stack in ("encoder", "decoder") for k in range(3)]
    points = [rng.normal(size=(64, 6)) + k * 2 for k in (0, 1, 2, 0, 4, 8)]
    store = planted_store(tmp_path / "s", points, [8] * 8, sites=names)
    options = SHORT | {"n": 20, "gradients": False, "random_weights": False}
    study = ts.studies.tokens(store, **options)
    curves = study.tables["curves"].where(curve="cosine in text")
    assert curves.values("series") == ["planted, decoder", "planted, encoder"]
    for series in curves.values("series"):
        assert sorted(r["depth"] for r in curves.where(series=series)) == [0, 0.5, 1]
    assert [line.partition(":")[0] for line in study.findings[::2]] == curves.values("series")
    paths = study.tables["paths"].where(measure="tortuosity")
    assert sorted(paths.values("site")) == sorted(s for s in names if s[-1] != "0")
    own = planted_store(tmp_path / "t", points[:3], [8] * 8, name="own")
    alone = ts.studies.tokens(own, **options).tables["paths"].where(measure="tortuosity", site="resid.2")
    assert paths.where(site="encoder.resid.2").column("value") == pytest.approx(alone.column("value"))
    with pytest.raises(TransectError, match=r"one layer of planted, encoder\.resid\.2"):
        ts.studies.tokens(store, sites="encoder.resid.2", **options)
    with pytest.raises(TransectError, match="prompts=0"):
        ts.studies.tokens(store, prompts=0, **options)
    with pytest.raises(TransectError, match="two stacks"):
        ts.studies.evolve([store, own], **SHORT)


def test_evolution_runs_from_the_start_to_the_end(at):
    out = at / "evolve"
    done = CliRunner().invoke(
        cli,
        [
            "evolve",
            str(at / "pre"),
            "--out",
            str(out),
            "--n",
            "20",
            "--groups",
            "4",
            "--gradient-texts",
            "4",
            "--workers",
            "1",
            "--formats",
            "svg",
        ],
    )
    assert done.exit_code == 0, (done.output, done.exception)
    made = Study.load(out)
    assert sorted(made.tables["evolution"].values("step")) == [0, 4, 8]
    change = made.tables["change"]
    assert set(change.values("curve")) == {
        "cka to first",
        "cka to last",
        "sinkhorn to first",
        "sinkhorn to last",
    }
    near = change.where(curve="cka to last", site="resid.1")
    at_step = dict(zip(near.column("step"), near.column("value"), strict=True))
    assert at_step[4] > at_step[0]
    assert (out / "figures/change.svg").exists()
    heatmaps = [f for f in made.figures if f.kind == "token_heatmap"]
    assert {f.options["run"] for f in heatmaps} == {"pre/checkpoint-00000", "pre/checkpoint-00008"}
    with pytest.raises(TransectError, match="holds no checkpoints"):
        ts.studies.evolve(at / "data", out=out)


def test_steps_are_chosen_afterwards_among_those_kept(at):
    made = ts.studies.evolve(at / "pre", out=at / "some", steps="0,8", gradients=False, prompts=1, **SHORT)
    assert sorted(made.tables["evolution"].values("step")) == [0, 8]
    kept = [0, 1, 2, 3, 4, 6, 8, 10, 16, 20]
    assert chosen_steps("log", kept) == [0, 1, 2, 4, 8, 16, 20]
    assert chosen_steps("3", kept) == [0, 4, 20]
    assert chosen_steps("99", kept) == kept
    assert chosen_steps(None, kept) == kept
    assert chosen_steps("20, 3", kept) == [3, 20]
    with pytest.raises(TransectError, match="no checkpoint at step 5") as caught:
        chosen_steps("0,5", kept)
    assert "0, 1, 2, 3, 4, 6, 8, 10, 16, 20" in caught.value.fix
    with pytest.raises(TransectError, match="steps 'some'"):
        chosen_steps("some", kept)


def test_what_cannot_be_compared_is_said(at, tmp_path):
    with pytest.raises(TransectError, match="is no store"):
        ts.studies.tokens(str(at / "pre"), out=tmp_path)
    with pytest.raises(TransectError, match="no run given"):
        ts.studies.tokens([])
    store = ts.open_store(at / "out/stores/pre")
    manifest = json.loads((at / "out/stores/pre/manifest.json").read_text())
    assert arms_of([store], [])[0].series == "pre"
    manifest["model"]["spec"] = str(at / "post")
    store.manifest = manifest
    with pytest.raises(TransectError, match="other weights than"):
        model_of(store)
