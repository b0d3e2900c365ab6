"""Dimension and loss: planted clouds whose dimension rises and falls, losses tied to them and not, and a tiny
model's own losses."""

from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy.stats import spearmanr

import transect as ts
from planted import planted_store
from tiny import make_texts, save_tiny
from transect.errors import TransectError
from transect.measures import spectra
from transect.models.losses import losses
from transect.numeric import estimators
from transect.numeric.permute import text_permutations
from transect.results.drawing import draw
from transect.studies.dimension.cells import Window, curvature, draws, window_of
from transect.studies.dimension.tables import PEAKED, Measured, onset, peak, phases, related

TRUE = [2, 3, 9, 5, 3]  # dimensions of the layers
TEXTS, LENGTH, WIDTH = 24, 14, 16


def clouds(seed: int = 0, loud: bool = False) -> list[np.ndarray]:
    """Points of every layer in a tilted subspace of its own dimension, off the origin."""
    rng, rows = np.random.default_rng(seed), TEXTS * LENGTH
    made = [rng.normal(size=(rows, d)) @ rng.normal(size=(d, WIDTH)) / np.sqrt(d) + 1 for d in TRUE]
    for layer in made if loud else ():
        layer[5] *= 100
    return made


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> ts.Store:
    return planted_store(tmp_path_factory.mktemp("d") / "s", clouds(), [LENGTH] * TEXTS)


@pytest.fixture(scope="module")
def study(planted: ts.Store) -> ts.Study:
    given = {"each": 8, "halves": 20, "groups": 6, "permutations": 0, "workers": 1}
    return ts.studies.dimension(planted, loss=False, **given)


def test_the_planted_dimension_rises_and_falls_and_its_peak_is_found(study: ts.Study) -> None:
    for measure in ("twonn", "participation_ratio"):
        at = {r["measure"]: r for r in study.tables["phases"].where(of=measure)}
        assert (at["peak"]["site"], at["peak"]["support"]) == ("resid.2", 1)
        assert at["onset"]["site"] == "resid.2"
        assert at["peak"]["low"] <= 2 <= at["peak"]["high"]
        assert at["peak_over_last"]["low"] > 0
    shared = study.tables["dimension"].where(measure="participation_ratio")
    inside = [r["low"] <= r["value"] <= r["high"] for r in shared]
    assert all(inside)
    assert shared.column("value")[:2] == pytest.approx(TRUE[:2], rel=0.3)
    assert all(r["n"] == 8 * TEXTS for r in shared)
    assert "resid.2" in study.findings[0]


def test_numbers_are_those_of_the_estimators(planted: ts.Store, study: ts.Study) -> None:
    """All tokens of the window of every text, in other words than the study's."""
    given = {"each": 100, "halves": 2, "groups": 4, "permutations": 0, "workers": 1}
    told = ts.studies.dimension(planted, loss=False, sites="resid.3", **given).tables["dimension"]
    X = planted.take("resid.3", planted.select("all", position0=False))
    texts = np.repeat(np.arange(TEXTS), LENGTH - 1)
    assert told.where(measure="twonn").column("value")[0] == pytest.approx(estimators.twonn(X, texts))
    ratio = estimators.participation_ratio(X, texts)
    assert told.where(measure="participation_ratio").column("value")[0] == pytest.approx(ratio)
    bent = [curvature(Z) for Z in X.reshape(TEXTS, LENGTH - 1, -1)]
    assert told.where(measure="curvature").column("value")[0] == pytest.approx(np.mean(bent))


def test_curvature_is_the_angle_of_a_turn() -> None:
    """A square turns by 90°, a line by 0, a step back by 180; 120 for independent points."""
    square = np.array([[0, 0], [1, 0], [1, 3], [0.5, 3]])
    assert curvature(square) == pytest.approx(90)
    assert curvature(np.outer([0.0, 1, 5, 6], [1.0, -2.0, 0.5])) == pytest.approx(0, abs=1e-5)
    assert curvature(np.array([[0.0], [1.0], [1.0], [-3.0]])) == pytest.approx(180)
    assert np.isnan(curvature(np.zeros((4, 2))))
    assert curvature(np.random.default_rng(0).normal(size=(400, 200))) == pytest.approx(120, abs=1)


def test_peak_and_onset_are_places_of_the_curve() -> None:
    assert (peak(np.array([1.0, 4, 9, 8])), onset(np.array([1.0, 4, 9, 8]))) == (2, 2)
    assert onset(np.array([1.0, 5, 9, 8])) == 1
    assert onset(np.array([9.0, 5, 3])) == 0
    assert peak(np.array([np.nan, 2, 1])) == 1


def test_the_layer_inside_is_chosen_on_one_half_and_read_on_the_other() -> None:
    """Rising curves have no peak inside: the third of four layers is read, wherever the first half has it."""
    halves = np.array([[9.0, 1, 2, 3, 4], [9, 1, 3, 2, 4]])
    others = np.array([[9.0, 1, 2, 3, 4], [9, 1, 2, 3, 8]])
    resamples = {"all": halves[:1], "drops": halves, "halves": halves, "others": others}
    layers = [
        {"curve": {m: {n: c[:, k].tolist() for n, c in resamples.items()} for m in PEAKED}} for k in range(5)
    ]
    window = Window((0, 1), ((1, 2), (1, 2)), 0, 0)
    run = Measured("r", [f"resid.{k}" for k in range(5)], layers, window, 2, None, "r")
    (row,) = phases(run, 0).where(measure="peak_over_last", of="twonn")
    assert row["value"] == pytest.approx(np.mean(np.log([3 / 4, 2 / 8])))
    (top,) = phases(run, 0).where(measure="peak", of="twonn")
    assert top["site"] == "resid.4"  # resid.0, what enters block 0, is no layer inside


def test_halves_do_not_share_a_text() -> None:
    told = draws(11, 4, 5, 0)
    for half, other in zip(told["halves"], told["others"], strict=True):
        assert not set(half) & set(other)
        assert len(half) + len(other) == 11
    assert sorted(np.concatenate([np.setdiff1d(np.arange(11), d) for d in told["drops"]])) == list(range(11))


def test_massive_tokens_are_passed_over_in_a_run_and_its_control_alike(tmp_path: Path) -> None:
    loud = planted_store(tmp_path / "a", clouds(loud=True), [LENGTH] * TEXTS)
    calm = planted_store(tmp_path / "b", clouds(seed=1), [LENGTH] * TEXTS, name="calm")
    how = SimpleNamespace(window=6, judges=99, massive=10.0, sites="resid", seed=0)
    for stores in ([loud], [calm, loud]):
        window = window_of(stores, how)
        assert window.massive == 1
        assert window.tokens[0] == (1, 2, 3, 4, 6, 7)
        assert window.tokens[1] == tuple(range(1, 7))
    assert window_of([calm], how).massive == 0


def tied(rng: np.random.Generator, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of 30 texts at 8 layers that are alike through depth, and losses that go with them or not."""
    common, own = rng.standard_exponential(30), rng.normal(size=(8, 30))
    return common + 0.3 * np.cumsum(own, axis=0), np.exp(strength * common + rng.normal(size=30))


def test_a_loss_tied_to_the_dimension_is_found_and_its_rho_is_spearmans() -> None:
    rng = np.random.default_rng(0)
    values, _ = tied(rng, 1.0)
    parts, orders = draws(30, 10, 0, 0)["drops"], text_permutations(30, 99, rng)
    told = related(values, np.exp(values[2]) + 5, orders, parts)
    assert told[2]["value"] == pytest.approx(1)
    assert told[2]["p_max"] == pytest.approx(0.01)
    assert told[0]["value"] == pytest.approx(spearmanr(values[0], values[2]).statistic)
    assert all(r["band_low"] <= r["low"] for r in told[3:])
    assert related(-values, np.exp(values[2]), orders, parts)[2]["value"] == pytest.approx(-1)
    values[:, 3] = np.nan
    short = related(values, np.exp(values[2]), orders, parts)
    kept = np.delete(np.arange(30), 3)
    assert short[0]["value"] == pytest.approx(spearmanr(values[0, kept], values[2, kept]).statistic)


def test_a_loss_of_its_own_is_found_in_one_family_of_twenty() -> None:
    """Losses that have nothing to do with the layers, which are alike: p_max ≤ 0.05 in 5 % of families."""
    rng, parts, hits, tries = np.random.default_rng(7), draws(30, 5, 0, 0)["drops"], 0, 120
    for _ in range(tries):
        values, loss = tied(rng, 0.0)
        told = related(values, loss, text_permutations(30, 39, rng), parts)
        hits += min(r["p_max"] for r in told) <= 0.05
    assert 0.005 <= hits / tries <= 0.11


@pytest.fixture(scope="module")
def captured(tmp_path_factory: pytest.TempPathFactory) -> tuple[ts.Study, Path]:
    home = tmp_path_factory.mktemp("model")
    save_tiny(home / "model", "llama")
    given = {"halves": 4, "groups": 4, "permutations": 39, "window": 6, "judges": 10, "workers": 1}
    made = ts.studies.dimension(
        str(home / "model"), texts=make_texts(24), random_weights=True, out=home / "out", **given
    )
    return made, home


def test_losses_are_the_models_own_and_controls_are_judged_by_it(captured: tuple[ts.Study, Path]) -> None:
    study, _ = captured
    store = ts.open_store(study.provenance["runs"][0]["path"])
    how = SimpleNamespace(window=6, judges=10, massive=10.0, sites="resid", seed=0)
    runs = [ts.open_store(r["path"]) for r in study.provenance["runs"]]
    window = window_of(runs, how)
    model = ts.open_model(store.manifest["model"]["spec"])
    sums, count = losses(model, make_texts(24).subset(window.texts), max_length=7)
    assert set(count.tolist()) == {6}
    table = study.tables["loss"]
    for run in runs:
        picked = [run.sample(i, "resid.2")[list(t)] for i, t in zip(window.texts, window.tokens, strict=True)]
        alone = [spectra.participation_ratio(X) for X in picked]
        (row,) = table.where(measure="participation_ratio", site="resid.2", run=run.name)
        assert row["value"] == pytest.approx(spearmanr(alone, sums / count).statistic)
        assert row["judge"] == store.name
        assert row["n_texts"] == 10
    assert all(len(list(table.where(run=run.name, measure="twonn"))) == 4 for run in runs)


def test_figures_hold_both_runs_and_words_the_loss(captured: tuple[ts.Study, Path]) -> None:
    study, _ = captured
    assert {f.name for f in study.figures} == {"dimension", "loss"}
    for figure in study.figures:
        canvas = draw(study, figure)
        assert all(len(ax.get_lines()) <= 8 for ax in canvas.axes)
        assert len(canvas.axes) == 3
        plt.close(canvas)
    said = " ".join(study.findings)
    assert "goes with its loss most at" in said
    assert "goes with its loss of model most at" in said


@pytest.mark.fault(
    "bad input", "a dimension study of short texts or pooled points", "refused before any capture"
)
def test_bad_input_is_refused(planted: ts.Store, tmp_path: Path) -> None:
    with pytest.raises(TransectError, match="8 are needed"):
        ts.studies.dimension(planted, window=50, loss=False)
    with pytest.raises(TransectError, match="8 are needed"):
        ts.studies.dimension(str(save_tiny(tmp_path / "m", "llama")), texts=make_texts(5), out=tmp_path / "o")
    with pytest.raises(TransectError):
        ts.studies.dimension(planted, out=tmp_path / "p", workers=1)  # points without a model have no loss
