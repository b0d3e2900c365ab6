"""What sentences, figures and derived tables take from rows, on tables of a few numbers written by hand."""

import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy.stats import t

import transect as ts
from planted import planted_store
from transect.inference.design import Design
from transect.results.study import Figure, Study
from transect.results.table import Table
from transect.studies.adapters.changes import Change
from transect.studies.adapters.study import _layers, energy
from transect.studies.compare import figures as compare_figures
from transect.studies.compare import words as compare_words
from transect.studies.compare.arms import Arm
from transect.studies.compare.tables import difference, ranking, with_drift
from transect.studies.drift import words as drift_words
from transect.studies.drift.figures import _matrix, draw_scatter
from transect.studies.evolve.study import _change, _findings
from transect.studies.manifold.intervene import _odds, _row, plan_move
from transect.studies.manifold.plan import MapJob, Plan
from transect.work.options import Work

BASE = {"run": "r", "normalise": "unit", "status": "ok"}


def study(**tables: list[dict]) -> Study:
    return Study("s", "?", {name: Table(rows) for name, rows in tables.items()})


def adjacent() -> list[dict]:
    """Three steps: the second has the largest excess, the first the largest value; raw points differ."""
    rows = []
    for how, excess in (("unit", [1.0, 5.0, 2.0]), ("raw", [70.0, 7.0, 8.0])):
        for k, c in enumerate(excess):
            row = BASE | {"measure": "bures", "design": "disjoint", "normalise": how, "corrected": c}
            row |= {"site": f"resid.{k}", "site2": f"resid.{k + 1}", "value": 9.0 - k, "null": 0.25}
            row |= {"corrected_low": c - 0.5, "corrected_high": c + 0.5}
            rows.append(
                row | {"halves": [0.0, 0.0, 3.0, 0.0] if k == 2 else [float(k), 4.0 * k, 2.0, 1.0 * k]}
            )
    return rows


def test_the_largest_step_is_the_largest_excess_of_unit_norm_points() -> None:
    """Half-samples: step 1 is the largest in three of four."""
    (line,) = drift_words._largest(study(adjacent=adjacent()), "r", "bures")
    assert "is resid.1 → resid.2: excess 5 [4.5, 5.5]" in line or "is not settled" in line
    assert "resid.1 → resid.2: excess 5 [4.5, 5.5] over a split-half null of 0.25" in line
    assert "75% of 4 half-samples" in line


def test_steps_are_counted_by_the_p_of_their_family() -> None:
    rows = [
        BASE | {"measure": "centroid", "p": p, "p_cell": 0.01, "draws": 99} for p in (0.01, 0.05, 0.06, 0.5)
    ]
    (line,) = drift_words._tested(study(tests=rows), "r")
    assert "at 2 of 4 steps" in line


def test_the_verdict_gives_factors_low_before_high() -> None:
    row = BASE | {"verdict": "spreading", "value": np.log(2), "low": np.log(1.5), "high": np.log(3), "n": 50}
    (line,) = drift_words._verdict(study(verdict=[row]), "r", [])
    assert "by a factor 2.00 [1.50, 3.00]" in line


def test_a_jump_that_controls_have_is_said_to_be_theirs_too() -> None:
    row = BASE | {"kind": "jump", "site": "resid.3", "site2": "resid.4", "z": 5.0, "support": 0.5}
    rows = [row | {"resamples": 8, "beyond_control": beyond} for beyond in (True, False)]
    beyond, alone = drift_words._changed(study(changes=rows), "r", ["c"])
    assert "difference from every control" in beyond
    assert "no control has a jump there" in alone
    theirs = row | {"run": "c", "resamples": 8, "beyond_control": None}
    _, shared = drift_words._changed(study(changes=[*rows, theirs]), "r", ["c"])
    assert "c has it too" in shared
    assert "its misfit is 5.0 × that of the other steps" in shared


def pair(i: int, j: int, value: float) -> dict:
    row = BASE | {"site": f"resid.{i}", "site2": f"resid.{j}", "value": value, "corrected": value - 1}
    return row | {"null_site": 0.1 * (i + 1), "null_site2": 0.1 * (j + 1)}


def test_a_matrix_is_mirrored_and_has_each_layers_own_null_on_its_diagonal() -> None:
    names, M, flagged = _matrix(Table([pair(0, 1, 2.0), pair(0, 2, 3.0), pair(1, 2, 4.0)]), {})
    assert names == ["resid.0", "resid.1", "resid.2"]
    assert flagged == []
    np.testing.assert_allclose(M, [[0.1, 2, 3], [2, 0.2, 4], [3, 4, 0.3]])


def test_the_scatter_draws_the_excess_against_the_other_measure() -> None:
    rows = adjacent()
    other = [
        BASE | {"measure": "cosine", "design": "paired", "site": f"resid.{k}", "value": 0.5 + k}
        for k in range(3)
    ]
    made = study(adjacent=rows + other, companions=[BASE | {"of": "bures", "with": "cosine", "value": 0.5}])
    options = {"run": "r", "measure": "bures", "others": ["cosine"], "normalise": "unit"}
    canvas = draw_scatter(made, Figure("x", "scatter", "adjacent", "", "", options))
    points = np.asarray(canvas.axes[0].collections[0].get_offsets())
    plt.close(canvas)
    np.testing.assert_allclose(points, [[1, 1], [2, 3], [3, 2]])  # ranks


def curve(series: str, k: int, value: float) -> dict:
    row = {"series": series, "role": "run", "measure": "cka", "token": "all", "normalise": "raw", "runs": 1}
    return row | {"site": f"resid.{k}", "value": value, "low": value / 2, "high": value * 2, "status": "ok"}


def test_figures_of_a_comparison_draw_each_series_and_its_interval() -> None:
    rows = [curve("full", k, 0.1 * (k + 1)) for k in range(3)] + [
        curve("lora", k, 0.01 * (k + 1)) for k in range(3)
    ]
    common = {"token": "all", "normalise": "raw", "series": ["full", "lora"]}
    heat = Figure("h", "heat", "curves", "", "", common | {"measure": "cka"})
    canvas = compare_figures.draw_compare_heat(study(curves=rows), heat)
    image = np.asarray(canvas.axes[0].images[0].get_array(), float)
    plt.close(canvas)
    np.testing.assert_allclose(image, [[0.1, 0.2, 0.3], [0.01, 0.02, 0.03]])
    lines = Figure("c", "curves", "curves", "", "", common | {"measures": ["cka"], "controls": []})
    canvas = compare_figures.draw_compare_curves(study(curves=rows), lines)
    band = canvas.axes[0].collections[0].get_paths()[0].vertices
    plt.close(canvas)
    assert band[:, 1].min() == pytest.approx(0.05)
    assert band[:, 1].max() == pytest.approx(0.6)


def test_drift_of_a_similarity_turns_its_interval_round() -> None:
    arm = Arm("b", "run", "full", "t", 0, 60, 0.3, "accuracy", 0.8, 0.5, True, 10)
    row = {"run2": "b", "measure": "cka", "value": 0.7, "low": 0.6, "high": 0.9, "replicates": [0.7, 0.65]}
    (told,) = with_drift([row], {"b": arm})
    assert (told["drift"], told["drift_low"], told["drift_high"]) == pytest.approx((0.3, 0.1, 0.4))
    assert told["again"] == pytest.approx([0.3, 0.35])


def test_a_layers_rank_has_the_share_of_replicates_that_agree() -> None:
    """Of four layers, the third is among the first two in one of two replicates."""
    base = {
        "run2": "b",
        "measure": "cka",
        "token": "all",
        "normalise": "raw",
        "design": "paired",
        "status": "ok",
    }
    base |= {"n": 9, "n_texts": 3, "series": "s", "drift_low": 0.0, "drift_high": 1.0}
    drifts = {"resid.0": (0.1, [0.1, 0.1]), "resid.1": (0.9, [0.9, 0.8])}
    drifts |= {"resid.2": (0.5, [0.5, 0.6]), "resid.3": (0.4, [0.6, 0.4])}
    rows = [base | {"site": s, "drift": d, "again": again} for s, (d, again) in drifts.items()]
    found = {r["site"]: (r["rank"], r["top2"]) for r in ranking(rows, top=2)}
    assert found == {"resid.1": (1, 1.0), "resid.2": (2, 0.5), "resid.3": (3, 0.5), "resid.0": (4, 0.0)}


def test_the_difference_of_two_matrices_has_the_interval_of_the_difference() -> None:
    base = {"site": "resid.0", "site2": "resid.1", "measure": "cka", "token": "all", "normalise": "raw"}
    base |= {"design": "paired", "n": 9, "n_texts": 3}
    cross = Table([base | {"value": 0.5, "replicates": [0.4, 0.5, 0.6]}])
    within = Table([base | {"value": 0.8, "replicates": [0.7, 0.8, 0.9]}])
    (row,) = difference(cross, within, "b")
    assert (row["value"], row["low"], row["high"]) == pytest.approx((-0.3, -0.3, -0.3))


def test_two_seeds_are_told_from_the_base() -> None:
    rows = [
        {"contrast": "beyond second seed", "measure": "cka", "run": "a", "run2": "b", "left": v, "right": 0.1}
        for v in (0.2, 0.4)
    ]
    (line,) = compare_words._second_seeds(study(contrasts=rows))
    assert "0.3 to the base, 0.1 to b of another seed" in line


def test_methods_are_counted_by_their_corrected_p() -> None:
    rows = [{"contrast": "c", "basis": "seeds", "p": 0.01, "p_holm": q, "seeds": 3} for q in (0.02, 0.2, 0.3)]
    (line,) = compare_words._methods_compared(study(contrasts=rows))
    assert "1 of 3 layer × measure cells" in line


def test_an_evolution_tells_the_first_state_before_the_last() -> None:
    grown = [
        {"curve": "cosine in text", "layer": 2, "step": s, "value": v, "low": v - 0.1, "high": v + 0.1}
        for s, v in ((0, 0.2), (8, 0.7))
    ]
    change = [
        {"curve": "cka to last", "layer": k, "step": s, "value": v}
        for k in (0, 2)
        for s, v in ((0, 0.3), (4, 0.92), (6, 0.97))
    ]
    first, *reached = _findings(study(evolution=grown, change=change), {"a": 0, "b": 8})
    assert "0.2 [0.1, 0.3] at step 0, 0.7 [0.6, 0.8] at step 8" in first
    assert all("reaches 0.9 at step 4" in line for line in reached)


def test_change_is_against_both_ends(tmp_path: Path) -> None:
    """Three states: the second is the third; to the first they are unrelated."""
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(2, 16 * 8, 4))
    stores = [planted_store(tmp_path / n, [Z], [8] * 16, name=n) for n, Z in (("a", X), ("b", Y), ("c", Y))]
    found = _change(stores, {"a": 0, "b": 1, "c": 2}, Design(n=96, groups=4), Work(workers=1))
    at = {(r["curve"], r["step"]): r["value"] for r in found if r["measure"] == "cka"}
    assert at["cka to last", 1] == pytest.approx(1)
    assert abs(at["cka to last", 0]) < 0.3
    assert abs(at["cka to first", 2]) < 0.3


def test_energy_weighs_directions_by_their_singular_values() -> None:
    """Of ΔW = 3 u₁ v₁ᵀ + 1 u₂ v₂ᵀ, nine tenths lie along v₁; halfway between v₁ and v₂ lies a half."""
    change = Change("m", np.eye(4, 2), np.array([3.0, 1.0]), np.eye(2, 5), np.ones((4, 5)), 2)
    assert energy(change, np.eye(1, 5)) == pytest.approx(0.9)
    assert energy(change, np.array([[0.6, 0.8, 0, 0, 0]])) == pytest.approx((9 * 0.36 + 0.64) / 10)


def test_a_block_is_one_vector() -> None:
    rows = [
        {"run": "r", "layer": 1, "measure": "relative_norm", "norm": n, "base_norm": b}
        for n, b in ((3.0, 5.0), (4.0, 12.0))
    ]
    assert _layers(rows)[0]["value"] == pytest.approx(5 / 13)


def test_effects_of_moves_are_means_over_label_values() -> None:
    """Labels 1, 1, 1, 4 with effects 0, 1, 2 and 5: means 1 and 5; the controls are lopsided in the same way,
    and weigh labels alike too."""
    values, null = np.array([0.0, 1, 2, 5]), [np.array([0.0, 1, 2, 3]), np.array([3.0, 3, 3, 5])]
    row = _row(values, null, [np.array([1.0, 1, 1, 9])], np.array([1, 1, 1, 4]))
    half = t.ppf(0.975, 1) * np.std([1, 5], ddof=1) / np.sqrt(2)
    assert (row["value"], row["low"], row["high"]) == pytest.approx((3, 3 - half, 3 + half))
    assert (row["null"], row["null_low"], row["null_high"], row["corrected"]) == (3, 2, 4, 0)
    assert (row["covariance"], row["n_units"]) == (5, 2)
    same = _row(values, [values, values], [values], np.array([1, 1, 1, 4]))
    assert (same["corrected"], same["corrected_low"], same["corrected_high"]) == (0, 0, 0)
    half = t.ppf(0.975, 1) * np.std([-1, 1], ddof=1) / np.sqrt(2)
    assert (row["corrected_low"], row["corrected_high"]) == pytest.approx((-half, half))


def test_odds_are_of_the_new_word_over_the_old_one() -> None:
    logp = np.log([[0.1, 0.2, 0.7], [0.6, 0.3, 0.1]])
    odds = _odds(logp, np.array([2, 0]), np.array([1, 2]))
    np.testing.assert_allclose(odds, np.log([0.2 / 0.7, 0.1 / 0.6]))


def test_only_held_out_texts_are_moved_and_towards_their_new_label(tmp_path: Path) -> None:
    """A line along one direction, 2 a label: a shift of 3 moves by 6 along it."""
    rng, y = np.random.default_rng(1), np.repeat(np.arange(10.0), 4)
    points = 1e-3 * rng.normal(size=(40, 2, 5))
    points[:, 1, 0] += 2 * y
    store = planted_store(tmp_path / "s", [points.reshape(-1, 5)], [2] * 40, labels={"y": y.tolist()})
    job = MapJob(str(store.path), store.fingerprint, (), ("y",), None, (("line", "{}"),), permutations=0)
    move = plan_move(store, job, "resid.0", "last", 3.0)
    held = set(Plan(job, y).folds[0].test.tolist())
    assert set(move.texts.tolist()) <= held
    np.testing.assert_allclose(move.along, np.tile(6 * np.eye(5)[0], (len(move.texts), 1)), atol=0.1)
    sizes = np.linalg.norm(move.random, axis=2)
    np.testing.assert_allclose(sizes, np.broadcast_to(np.linalg.norm(move.along, axis=1), sizes.shape))


def test_counts_in_words_are_those_of_the_rows() -> None:
    """A sentence about nothing found names no layer."""
    (line,) = drift_words._changed(study(changes=[BASE | {"status": "none found", "kind": "jump"}]), "r", [])
    assert not re.search(r"resid", line)
    assert ts.Study is Study
