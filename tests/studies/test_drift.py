"""The drift study on planted stores: what it must find, what it must not, and what the published formulas
would say."""

import re
from pathlib import Path

import numpy as np
import pytest

import transect as ts
from planted import planted_store
from tiny import tiny_model, tiny_tokenizer
from transect.errors import TransectError
from transect.studies.drift.changes import changes
from transect.studies.drift.published import rolling_z
from transect.studies.drift.tables import verdict

LAYERS, TEXTS, LENGTH, WIDTH = 11, 24, 16, 6
STEP = 6


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> tuple[ts.Store, ts.Store]:
    """Each layer turns points a little; from layer 6 to 7 every point jumps by (6, 0, …). The control never
    jumps."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("drift")
    made = []
    for name, jump in (("trained", 6.0), ("control", 0.0)):
        X = rng.normal(size=(TEXTS * LENGTH, WIDTH)) * [3, 2, 1, 1, 1, 0.5] + [1, -1, 2, 0, 0, 3]
        layers = [X]
        for k in range(1, LAYERS):
            X = X + 0.05 * rng.normal(size=X.shape)
            layers.append(X + jump * np.eye(WIDTH)[0] * (k > STEP))
        made.append(planted_store(folder / name, layers, [LENGTH] * TEXTS, name=name))
    return made[0], made[1]


@pytest.fixture(scope="module")
def study(
    stores: tuple[ts.Store, ts.Store], tmp_path_factory: pytest.TempPathFactory
) -> tuple[ts.Study, Path]:
    out = tmp_path_factory.mktemp("out")
    made = ts.studies.drift(
        stores[0], controls=[stores[1]], n=60, groups=5, resamples=4, as_published=True, workers=1, out=out
    )
    made.save(out)
    return made, out


def test_the_planted_jump_is_the_largest_excess(study: tuple[ts.Study, Path]) -> None:
    adjacent = study[0].tables["adjacent"]
    for measure in ("sinkhorn", "wasserstein", "bures", "max_sliced"):
        part = adjacent.where(run="trained", measure=measure, design="disjoint", normalise="raw")
        assert part.column("site")[part.column("corrected").argmax()] == f"resid.{STEP}"
        at = part.where(site=f"resid.{STEP}")
        assert at.column("corrected")[0] == pytest.approx(36, rel=0.5)
        others = part.where(lambda r: r["site"] != f"resid.{STEP}").column("corrected")
        assert (np.abs(others) < 4).all(), "no drift: the excess over the split-half null is about 0"


def test_the_matrix_has_every_pair_and_its_floor(study: tuple[ts.Study, Path]) -> None:
    pairs = study[0].tables["pairs"].where(run="trained", normalise="raw")
    assert len(pairs) == LAYERS * (LAYERS - 1) // 2
    assert all(
        r["null_site"] > 0 and r["null_site2"] > 0 and r["low"] <= r["value"] <= r["high"] for r in pairs
    )


def test_no_trend_in_rank_is_called_stable_and_compression_is_found(
    stores: tuple[ts.Store, ts.Store], study: tuple[ts.Study, Path], tmp_path: Path
) -> None:
    raw = study[0].tables["verdict"].where(normalise="raw")
    assert raw.column("verdict")[0] in ("stable", "undecided")
    rng = np.random.default_rng(1)
    base = rng.normal(size=(TEXTS * LENGTH, WIDTH))
    shrinking = [base * np.geomspace(1, 1 - 0.07 * k, WIDTH) ** 2 for k in range(12)]
    store = planted_store(tmp_path / "shrink", shrinking, [LENGTH] * TEXTS, name="shrink")
    layers = ts.sweep("effective_rank", store, n=100, groups=5, permutations=0, workers=1)
    told = next(iter(verdict(layers)))
    assert told["verdict"] == "compression"
    ranks = [r["value"] for r in layers.where(normalise="raw")]
    assert told["value"] == pytest.approx(np.log(ranks[8:]).mean() - np.log(ranks[:4]).mean(), rel=1e-6)
    assert told["low"] < told["value"] < told["high"] < np.log(0.9)


def test_a_jump_that_the_null_has_too_is_no_change_layer() -> None:
    """Value and null step up together at one layer, the excess alone at another: only the latter is a
    jump."""
    rng = np.random.default_rng(0)
    null = np.where(np.arange(24) < 8, 1.0, 9.0)
    excess = np.where(np.arange(24) == 16, 3.0, 1.0) + 0.02 * rng.normal(size=24)
    halves = excess[:, None] + 0.02 * rng.normal(size=(24, 40))
    drops = excess[:, None] + 0.005 * rng.normal(size=(24, 10))

    def rows(run: str, curve: np.ndarray) -> list[dict]:
        return [
            {
                "measure": "sinkhorn",
                "run": run,
                "design": "disjoint",
                "normalise": "raw",
                "site": f"resid.{k}",
            }
            | {"site2": f"resid.{k + 1}", "value": null[k] + curve[k], "null": null[k], "corrected": curve[k]}
            | {
                "halves": halves[k].tolist(),
                "corrected_replicates": drops[k].tolist(),
                "n": 60,
                "n_texts": 20,
            }
            | {"status": "ok"}
            for k in range(24)
        ]

    found = changes(ts.Table(rows("r", excess)), ts.Table(), "sinkhorn", [])
    assert [(r["kind"], r["site"]) for r in found] == [("jump", "resid.16")]
    assert next(iter(found))["support"] > 0.9
    both = changes(ts.Table(rows("r", excess) + rows("control", excess)), ts.Table(), "sinkhorn", ["control"])
    told = {r["run"]: r["beyond_control"] for r in both}
    assert told == {"r": False, "control": None}, "what a control does too is not what training added"


def test_one_law_is_rejected_where_points_jump_and_only_there(study: tuple[ts.Study, Path]) -> None:
    tests = study[0].tables["tests"].where(measure="centroid")
    jump = tests.where(site=f"resid.{STEP}")
    assert jump.column("p")[0] <= 0.01 + 1e-9
    assert (tests.column("p") >= tests.column("p_cell") - 1e-9).all()
    assert (tests.where(lambda r: r["site"] != f"resid.{STEP}").column("p") > 0.05).mean() > 0.7
    rows = list(tests)
    drawn = np.array([[r["value"], *r["null_draws"]] for r in rows])
    z = (drawn - drawn.mean(axis=1, keepdims=True)) / drawn.std(axis=1, keepdims=True)
    joint = [(z[:, 1:].max(axis=0) >= own).mean() for own in z[:, 0]]
    np.testing.assert_allclose([(1 + 99 * share) / 100 for share in joint], [r["p"] for r in rows])


def test_words_carry_numbers_controls_and_design(study: tuple[ts.Study, Path]) -> None:
    made = study[0]
    assert any(
        f"resid.{STEP} → resid.{STEP + 1}: excess" in f and "split-half null" in f for f in made.findings
    )
    assert all("position 0 dropped" in f.caption and "tokens per cloud" in f.caption for f in made.figures)
    assert "Feydy" in " ".join(made.methods)


def test_published_formulas_side_by_side(study: tuple[ts.Study, Path]) -> None:
    table = study[0].tables["as_published"]
    assert len(table) == LAYERS - 1
    assert not any(table.column("transition")), "the published rule cannot fire"
    assert np.allclose(table.column("norm_entropy"), table.column("log_n"), rtol=0.1)
    rng = np.random.default_rng(0)
    spike = np.zeros(30)
    spike[15] = 1e6
    assert (
        max(np.abs(rolling_z(v)).max() for v in (spike, rng.normal(size=30), rng.standard_cauchy(30)))
        <= 2.0 + 1e-9
    )


def test_report_and_figures(study: tuple[ts.Study, Path]) -> None:
    made, out = study
    from transect.results.drawing import save_all

    files = save_all(made, out, formats=("svg",))
    assert len(files) == len(made.figures)
    page = ts.report(out, out / "report.html", figures=out / "figures").read_text()
    assert "default-src 'none'" in page
    markup = re.sub(r"<script.*?</script>", "", page, flags=re.S)  # the policy keeps scripts from asking
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", markup), "the page asks nobody for anything"
    plain = ts.report(out, out / "plain.html", static=True, figures=out / "figures").read_text()
    assert plain.count("<img alt=") == len(made.figures)
    assert "<script" not in plain
    again = ts.Study.load(out)
    assert again.tables["adjacent"].arrow.equals(made.tables["adjacent"].arrow)
    with pytest.raises(TransectError, match="no study here"):
        ts.report(out / "cells", out / "x.html")


def test_hostile_text_does_not_run(tmp_path: Path) -> None:
    from transect.results.study import Study
    from transect.results.table import Table

    evil = '<script>alert(1)</script>"><img src=x onerror=alert(1)>'
    rows = [{"measure": "=cmd|' /C calc'!A0", "run": evil, "site": "resid.0", "value": 1.0, "status": evil}]
    study = Study(evil, evil, {"t": Table(rows)}, findings=[evil], warnings=[evil], methods=[evil])
    for static in (True, False):  # the second holds the page's own scripts, and the study's words as data
        text = ts.report(study, tmp_path / "r.html", static=static).read_text()
        assert "<script>alert" not in text
        assert "<img src=x" not in text
        assert ("<script" in text) is not static
    from transect.page.report import to_csv

    assert to_csv(Table(rows)).splitlines()[1].startswith("'=cmd")


def test_runs_that_share_a_name_are_refused_and_a_capture_gives_another(
    stores: tuple[ts.Store, ts.Store], tmp_path: Path
) -> None:
    with pytest.raises(TransectError, match=r"share a name.*name=… of ts\.capture"):
        ts.studies.drift([stores[0], stores[0]])
    model, texts = (
        ts.wrap_model(tiny_model("llama"), tiny_tokenizer(), name="tiny"),
        ts.open_texts(["a b c"] * 3),
    )
    runs = [ts.capture(model, texts, tmp_path / name, name=name) for name in ("one", "other")]
    assert [s.name for s in runs] == ["one", "other"]
    assert model.name == "tiny"


def test_a_projected_study_names_its_basis_and_flags_a_short_curve(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    layers = [rng.normal(size=(TEXTS * LENGTH, WIDTH)) + k for k in range(3)]
    store = planted_store(tmp_path / "s", layers, [LENGTH] * TEXTS)
    study = ts.studies.drift(store, n=40, groups=4, resamples=1, pca=2, workers=1)
    assert study.tables["adjacent"].where(measure="sinkhorn").values("pca") == [2]
    assert "at least 6" in study.tables["changes"].column("status")[0]
