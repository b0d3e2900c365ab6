"""Power on planted texts: false alarms, effects found as often as theory says, and what is asked in vain."""

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ncf

import transect as ts
from planted import planted_store
from transect.errors import TransectError
from transect.studies.calibrate import planted
from transect.studies.calibrate.planted import Planting, ladder, plant
from transect.studies.calibrate.study import _needed

TEXTS, WIDTH = 36, 4
LENGTHS = [6 + k % 5 for k in range(TEXTS)]
FAST = {"workers": 1, "massive": 0, "draws": 60}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ts.Store:
    """Round clouds, at resid.1 without anything that texts share, at resid.2 of an ICC of 0.5."""
    rng, rows = np.random.default_rng(0), sum(LENGTHS)
    shared = np.repeat(rng.normal(size=(TEXTS, WIDTH)), LENGTHS, axis=0)
    layers = [rng.normal(size=(rows, WIDTH)) for _ in range(3)]
    layers[2] = np.sqrt(0.5) * (layers[2] + shared)
    return planted_store(tmp_path_factory.mktemp("calibrate") / "s", layers, LENGTHS)


@pytest.fixture(scope="module")
def study(store: ts.Store):
    return ts.studies.calibrate(store, sizes=(0.3, 0.8), depths=2, power=0.8, **FAST)


def test_nothing_planted_is_found_at_the_level_and_larger_effects_more_often(study) -> None:
    """720 draws and more of each test at 5 %: a standard error of 0.8 %, twice that as texts are shared."""
    table = study.tables["power"]
    for test in planted.TESTS:
        rows = [r for r in table if r["test"] == test]
        share = {s: np.mean([r["value"] for r in rows if r["size"] == s]) for s in (0, 0.3, 0.8)}
        assert 0.02 <= share[0] <= 0.08, f"{test}: {share[0]:.3f}"
        assert share[0] < share[0.3] < share[0.8]
        assert all(r["low"] <= r["value"] <= r["high"] for r in rows)
        assert all(r["n"] == r["n_texts"] * r["tokens_a_text"] for r in rows)


def test_power_of_a_shift_is_that_of_hotellings_t(study) -> None:
    """Two groups of round clouds whose means lie s √d apart: F with d and T − d − 1 degrees of freedom and
    non-centrality s² d T / 4 (one token a text). The distance of the means is as good a statistic."""
    rows = [r for r in study.tables["power"] if r["test"] == "different groups" and r["site"] == "resid.1"]
    for r in (r for r in rows if r["tokens_a_text"] == 1 and r["size"] == 0.3 and r["n_texts"] >= 18):
        T, d = r["n_texts"], WIDTH
        critical = ncf.isf(0.05, d, T - d - 1, 0)
        theory = ncf.sf(critical, d, T - d - 1, 0.3**2 * d * T / 4)
        assert abs(r["value"] - theory) < 0.2, f"{T} texts: {r['value']:.2f}, in theory {theory:.2f}"


def test_what_texts_share_is_estimated_and_asks_for_more_of_them(study) -> None:
    icc = {r["site"]: r["value"] for r in study.tables["texts"]}
    assert icc["resid.1"] == pytest.approx(0, abs=0.08)
    assert icc["resid.2"] == pytest.approx(0.5, abs=0.15)
    rows = [r for r in study.tables["power"] if r["test"] == "different groups" and r["size"] == 0.3]
    at = {s: np.mean([r["value"] for r in rows if r["site"] == s and r["tokens_a_text"] > 1]) for s in icc}
    assert at["resid.1"] > at["resid.2"] + 0.1


def test_needed_is_where_power_is_reached_and_stays() -> None:
    def row(texts: int, value: float) -> dict:
        base = {"run": "a", "site": "resid.1", "test": "related views", "size": 0.1, "tokens_a_text": 4}
        return base | {"n_texts": texts, "n": 4 * texts, "value": value, "low": 0.0, "high": 1.0}

    (one,) = _needed([row(8, 0.9), row(12, 0.7), row(18, 0.8), row(27, 0.95)], 0.8)
    assert (one["value"], one["n"], one["status"]) == (18, 72, "ok")
    (none,) = _needed([row(8, 0.2), row(12, 0.7)], 0.8)
    assert np.isnan(none["value"])
    assert none["status"] == "more than 12 texts: power 70% with all of them"
    assert ladder(60) == [8, 12, 18, 27, 40, 60]
    assert ladder(8) == [8]


def test_every_sentence_has_its_numbers(study, tmp_path: Path) -> None:
    assert len(study.findings) == 2 + 2 * 2 + 2
    assert any("power needs" in f for f in study.findings)
    assert sum("at a nominal 5%" in f for f in study.findings) == 2
    study.save(tmp_path / "c")
    from transect.results.drawing import draw

    (figure,) = study.figures
    lines = [line.get_label() for line in draw(study, figure).axes[0].lines]
    assert lines[:3] == ["nothing", "0.3", "0.8"]


def test_a_planted_fault_would_be_seen(store: ts.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups whose labels are permuted but once: what is found has nothing to do with the level."""
    task = Planting(str(store.path), store.content, "resid.2", "all", False, (), (3,), 60, 19, 0)

    def alarms() -> float:
        return float(np.mean([r["value"] for r in plant(task)["power"]]))

    right = alarms()
    monkeypatch.setattr(
        planted, "permutation_p", lambda value, null: 1 / (1 + len(null)) if value > null[0] else 1
    )
    assert right < 0.1 < 0.3 < alarms()


@pytest.mark.fault(
    "bad input",
    "calibrate: sizes that cannot be planted, too few draws, too few texts",
    "refused with what to give, before anything is written",
)
def test_what_is_not_fit_is_refused(store: ts.Store, tmp_path: Path) -> None:
    with pytest.raises(TransectError, match="between 0 and 1"):
        ts.studies.calibrate(store, sizes=(1.5,), **FAST)
    with pytest.raises(TransectError, match="19 or more"):
        ts.studies.calibrate(store, permutations=9, workers=1)
    few = planted_store(tmp_path / "few", [np.random.default_rng(1).normal(size=(20, 3))] * 2, [4] * 5)
    with pytest.raises(TransectError, match="fewer than 8 texts"):
        ts.studies.calibrate(few, **FAST)
