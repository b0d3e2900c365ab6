"""The formulas of the replaced programs, as `bench/reproduce.py` has them, are wrong in the way that its page
says."""

import sys
from pathlib import Path

import numpy as np
import pytest

import transect as ts
from transect.studies.drift.published import WINDOW, rolling_z

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))

import reproduce_formulas as theirs
import reproduce_parts as parts

sys.path.pop(0)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def lopsided(rng: np.random.Generator, n: int = 90, d: int = 7) -> np.ndarray:
    """Points of unequal scales about a far mean."""
    return rng.standard_normal((n, d)) * np.arange(1, d + 1) ** 1.5 + np.arange(d) * 4 - 9


def test_its_cka_of_a_cloud_with_itself_is_one_over_the_participation_ratio(rng: np.random.Generator) -> None:
    X = lopsided(rng)
    assert theirs.overlap(X, X) == pytest.approx(1 / ts.measures.participation_ratio(X), rel=1e-9)
    assert theirs.overlap(X, X) < 0.6
    assert ts.measures.cka(X, X) == pytest.approx(1)
    two = (
        np.diag([3.0, 1.0, 0])[[0, 0, 1, 1]] * np.array([1, -1, 1, -1])[:, None]
    )  # eigenvalues 9 : 1, by hand
    assert theirs.overlap(two, two) == pytest.approx((81 + 1) / 100)


def test_biased_cka_of_unrelated_clouds_is_far_from_zero(rng: np.random.Generator) -> None:
    X, Y = rng.standard_normal((40, 200)), rng.standard_normal((40, 130)) + 3
    floor = 1 / np.sqrt((1 + 40 / 200) * (1 + 40 / 130))  # the root of both floors d / (n + d)
    assert ts.measures.cka(X, Y, unbiased=False) == pytest.approx(floor, abs=0.05)
    assert abs(ts.measures.cka(X, Y)) < 0.15


def test_means_over_padding_make_unrelated_models_alike(rng: np.random.Generator) -> None:
    lengths = rng.integers(3, 30, 50)
    mask = (np.arange(30) < lengths[:, None]).astype(int)
    X, Y = rng.standard_normal((2, 50, 30, 12))
    for states, pad in ((X, 4.0), (Y, -2.0)):
        states[mask == 0] = pad  # each model has one state for padding
    counted = ts.measures.cka(theirs.padded_means(X), theirs.padded_means(Y))
    real = ts.measures.cka(theirs.masked_means(X, mask), theirs.masked_means(Y, mask))
    assert counted > 0.9
    assert abs(real) < 0.3
    assert theirs.masked_means(X, mask)[0] == pytest.approx(X[0, : lengths[0]].mean(axis=0))


def test_the_rolling_z_never_passes_two(rng: np.random.Generator) -> None:
    jump = np.r_[np.full(12, 1e-3), 1e6, np.full(20, 5e-3)]
    curves = [jump, np.cumsum(jump), rng.standard_cauchy(200), rng.exponential(size=31) ** 9]
    largest = max(np.abs(rolling_z(c)).max() for c in curves)
    assert largest <= np.sqrt(WINDOW - 1) + 1e-9
    assert largest == pytest.approx(2, abs=1e-3), "and the bound is reached"


def test_two_bases_make_a_distance_of_the_same_points(rng: np.random.Generator) -> None:
    X = lopsided(rng, 60, 9)
    Y = X + 0.05 * rng.standard_normal(X.shape)
    turn = np.linalg.qr(rng.standard_normal((9, 9)))[0]
    assert theirs.emd(X, X) == pytest.approx(0, abs=1e-9)
    unit, unit2 = (Z / np.linalg.norm(Z, axis=1, keepdims=True) for Z in (X, Y))
    assert theirs.emd(unit, unit2) == pytest.approx(ts.measures.wasserstein(unit, unit2), rel=1e-6)
    own = theirs.own_basis(X, 9), theirs.own_basis(X @ turn, 9)
    assert theirs.own_basis(X, 3).shape == (60, 3)
    assert abs(np.corrcoef(own[0][:, 0], own[1][:, 0])[0, 1]) == pytest.approx(1), (
        "a rotation is invisible to it"
    )
    assert ts.measures.wasserstein(unit, unit @ turn) > 0.1


def test_its_cosine_sees_the_shared_mean(rng: np.random.Generator) -> None:
    X = rng.standard_normal((33, 20)) + 6
    assert theirs.raw_cosine(X) > 0.9
    assert theirs.raw_cosine(X) == pytest.approx(ts.measures.anisotropy(X))
    assert ts.measures.anisotropy(X, centred=True) == pytest.approx(-1 / 32, abs=0.02)


def test_its_loss_on_a_line_falls_by_shrinking(rng: np.random.Generator) -> None:
    base = rng.standard_normal((120, 3))
    X = base @ rng.standard_normal((3, 24)) + 0.5 * rng.standard_normal((120, 24))
    found = theirs.sort_by_descent([X[:70], X[70:]], epochs=60, lr=0.05)
    assert found.last < 0.2 * found.first
    assert np.ptp(found.positions) < 0.4 * np.sqrt(24)
    start = np.linspace(0, np.sqrt(24), 24)
    C = (1 - np.corrcoef(X[:70], rowvar=False)) / 2
    by_hand = sum(abs(start[i] - start[j]) * C[i, j] for i in range(24) for j in range(i))
    assert found.first == pytest.approx(by_hand, rel=1e-5)


def test_min_max_labels_join_december_to_january() -> None:
    months = np.arange(1.0, 13)
    D = theirs.min_max_circle(months)
    assert D[0, 11] == pytest.approx(0, abs=1e-12)
    turn = 2 * np.pi * months / 12
    ring = 3 * np.column_stack([np.cos(turn), np.sin(turn)]) + [5, -2]
    wrong = theirs.score_circle(theirs.fit_circle(ring, months, alpha=0), ring, months)
    assert wrong < 0.95
    assert ts.SupervisedMDS("circle", period=12, alpha=0).fit(ring, months).score(
        ring, months
    ) == pytest.approx(1)


def test_its_circle_is_ours_where_the_labels_span_the_period(rng: np.random.Generator) -> None:
    y = np.r_[0, np.sort(rng.random(40)), 1]
    X = np.column_stack(
        [np.cos(2 * np.pi * y), np.sin(2 * np.pi * y), rng.standard_normal((2, 42)).T.ravel()[:42]]
    )
    ours = ts.SupervisedMDS("circle", period=1, alpha=1.0).fit(X, y)
    assert theirs.score_circle(theirs.fit_circle(X, y), X, y) == pytest.approx(ours.score(X, y), rel=1e-9)


def test_its_folds_leak_dates_and_ours_do_not(rng: np.random.Generator) -> None:
    y = rng.integers(0, 30, 90) / 30
    assert theirs.leaked(y) > 0.8
    for train, test in theirs.date_folds(y):
        assert not np.isin(y[test], y[train]).any()
    codes = rng.standard_normal((30, 200))  # a random code for each date: an identity, no circle
    X = codes[(y * 30).round().astype(int)] + 0.1 * rng.standard_normal((90, 200))
    assert theirs.circle_score(X, y) > theirs.circle_score(X, y, theirs.date_folds) + 0.2


def test_numbers_are_written_with_three_figures() -> None:
    assert [parts.num(x) for x in (0.5, 0.01234, 12.345, 123456, 0.0, -0.25)] == [
        "0.500", "0.0123", "12.3", "123,456", "0", "-0.250",
    ]  # fmt: skip
