"""Curves whose place, length and distance are known: a circle, a straight line, a helix in six axes."""

import numpy as np
import pytest

from transect.errors import TransectError
from transect.numeric.ranks import spearman
from transect.numeric.splines import Curve

RADIUS = 3.0


def ring(k: np.ndarray, period: float = 12.0) -> np.ndarray:
    """A circle of radius 3 in six axes, off the origin and tilted."""
    angle = 2 * np.pi * np.asarray(k, float) / period
    plane = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 2)))[0].T
    return RADIUS * np.column_stack([np.cos(angle), np.sin(angle)]) @ plane + np.arange(6)


def test_a_closed_curve_through_twelve_points_is_the_circle() -> None:
    """A cubic spline of step h is off by about r h⁴ / 384: 6e-4 of the radius at h = 2π / 12."""
    curve = Curve(np.arange(12.0), ring(np.arange(12)), 12)
    between = np.array([0.5, 3.25, 11.5, 14.0])
    np.testing.assert_allclose(curve.at(between), ring(between), atol=1e-3 * RADIUS)
    quarter = np.pi / 2 * RADIUS
    found = curve.lengths(np.array([0.0, 1.0, 11.0]), np.array([3.0, 10.0, 14.0]))
    np.testing.assert_allclose(found, quarter, rtol=1e-3)  # 1 → 10 and 11 → 14 round by 12


def test_the_middle_of_a_chord_is_a_sagitta_away_from_the_circle() -> None:
    """r (1 − cos(half angle)): 0.293 r of a quarter turn; of the arc 0; of a point above the plane its
    height."""
    curve = Curve(np.arange(12.0), ring(np.arange(12)), 12)
    chord = (curve.at(np.array([1.0])) + curve.at(np.array([4.0]))) / 2
    assert curve.distances(chord)[0] == pytest.approx(RADIUS * (1 - np.cos(np.pi / 4)), rel=2e-3)
    assert curve.distances(ring(np.array([2.5])))[0] < 1e-3 * RADIUS
    plane = ring(np.arange(12)) - ring(np.arange(12)).mean(axis=0)
    off = np.linalg.svd(plane)[2][-1]
    assert curve.distances(ring(np.array([2.0])) + 5 * off)[0] == pytest.approx(5, rel=1e-3)


def test_an_open_curve_through_a_line_is_the_line() -> None:
    y = np.array([0.0, 1.0, 2.5, 4.0, 7.0])
    line = np.outer(y, [3.0, -4.0, 0.0]) + 1
    curve = Curve(y, line)
    np.testing.assert_allclose(curve.at(np.array([3.1])), np.outer([3.1], [3.0, -4.0, 0.0]) + 1, atol=1e-9)
    assert curve.lengths(np.array([1.0]), np.array([7.0]))[0] == pytest.approx(30)
    np.testing.assert_allclose(curve.distances(line + np.array([4.0, 3.0, 0.0]))[1:-1], 5)
    assert curve.distances(line[-1:] + np.array([3.0, -4.0, 0.0]))[0] == pytest.approx(5)  # past its end


@pytest.mark.fault("bad input", "a curve through values that do not rise", "refused: how many are needed")
@pytest.mark.parametrize(
    ("values", "period"), [([0.0, 1.0], 12.0), ([0.0, 0.0, 1.0], None), ([0.0, 5.0, 12.0], 12)]
)
def test_curves_that_cannot_be(values: list[float], period: float | int | None) -> None:
    with pytest.raises(TransectError, match="values"):
        Curve(np.array(values), np.eye(len(values)), period)


def test_spearman_is_of_ranks_and_nothing_where_there_is_no_order() -> None:
    a = np.array([1.0, 2.0, 2.0, 9.0])
    assert spearman(a, np.exp(a)) == pytest.approx(1)
    assert spearman(a, -a) == pytest.approx(-1)
    assert np.isnan(spearman(a, np.ones(4)))
    assert np.isnan(spearman(a, np.array([1, 2, 3, np.nan])))
