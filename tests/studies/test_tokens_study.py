"""The token study and evolution on tiny trained arms: matched differences, controls, figures, and what is
refused."""

import json
import random

import numpy as np
import pytest
from click.testing import CliRunner

import transect as ts
from planted import planted_store
from tiny import WORDS
from transect.cli.main import cli
from transect.errors import TransectError
from transect.results.drawing import draw
from transect.results.study import Study
from transect.studies.runs import model_of
from transect.studies.tokens.runs import Arm, arms_of
from transect.studies.tokens.tables import _difference, contrasts, similarities
from transect.train.pretrain import pretrain
from transect.train.pretraining import preset

FAST = {"n": 40, "groups": 4, "gradient_texts": 4, "gradient_positions": 2, "workers": 1}


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
            assert all(r["null"] is not None for r in own), curve
            assert all(r["low"] is None or r["low"] <= r["value"] <= r["high"] for r in own)
            assert len(table.where(curve=curve, series=series, role="control")) == len(own), curve
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
        assert (row["pairs"], row["basis"]) == (1, "texts")
        assert row["low"] <= row["value"] <= row["high"]
    assert any("post − pre" in finding for finding in study.findings)
    assert any("differences between seeds" in w for w in study.warnings)
    assert any("resid is the normed state" in w for w in study.warnings)


def test_every_figure_draws_from_the_saved_tables(at, study):
    import matplotlib.pyplot as plt

    again = Study.load(at / "out")
    assert [f.name for f in again.figures][:4] == ["similarity", "updates", "gradients", "shape"]
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
    rows = [
        ({"value": v, "measure": "m"}, {"value": v + gap}) for v, gap in ((5.0, 1.0), (0.0, 2.0), (-7.0, 4.5))
    ]
    told = _difference(rows)
    half = 4.30265 * np.std([1, 2, 4.5], ddof=1) / np.sqrt(3)
    assert (told["value"], told["low"], told["high"]) == pytest.approx(
        (2.5, 2.5 - half, 2.5 + half), rel=1e-4
    )


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
    assert (out / "figures/change.png").exists()
    with pytest.raises(TransectError, match="holds no checkpoints"):
        ts.studies.evolve(at / "data", out=out)


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
