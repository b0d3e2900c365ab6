"""Change layers on curves whose change is planted, by hand."""

import numpy as np
import pytest

from transect.numeric.change_points import breakpoints, candidates, detrend, mad_z


def test_a_line_has_no_trend_left_and_a_step_keeps_its_size() -> None:
    assert np.abs(detrend(np.arange(20) * 0.7 + 3)).max() < 1e-12
    curve = np.arange(21) * 0.7
    curve[[4, 11]] += [5, -2]
    assert detrend(curve)[[4, 11]] == pytest.approx([5, -2], abs=1e-9), "two outliers do not turn the line"


def test_a_candidate_is_the_first_layer_of_the_new_level() -> None:
    curve = np.random.default_rng(3).normal(size=30) * 0.05
    curve[12:] += 5
    assert [c.index for c in candidates(curve)] == [12]


def test_z_of_a_step_by_hand() -> None:
    """Differences 1, 2, 3, 4, 100: median 3, deviations 2, 1, 0, 1, 97 with a median of 1."""
    curve = np.concatenate([[0], np.cumsum([1, 2, 3, 4, 100])])
    assert mad_z(curve)[-1] == pytest.approx(97 / 1.4826, rel=1e-9)


def test_a_wander_has_fewer_breakpoints_than_its_length_suggests() -> None:
    """AR(1) curves with ρ = 0.7: without an account of it, 47 of these 60 have breakpoints."""
    rng, hits = np.random.default_rng(0), 0
    for _ in range(60):
        noise, curve = rng.normal(size=40), np.zeros(40)
        for k in range(1, 40):
            curve[k] = 0.7 * curve[k - 1] + noise[k]
        hits += bool(breakpoints(curve))
    assert hits < 44
