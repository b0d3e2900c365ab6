"""Jumps and block boundaries: planted by hand, absent from smooth curves, rare on noise, found in it."""

import numpy as np
import pytest

from transect.errors import TransectError
from transect.numeric import change_points
from transect.numeric.change_points import blocks, jumps, signed_log

DEPTH = np.arange(30.0)
SMOOTH = {
    "exponential up": np.exp(0.3 * DEPTH),
    "exponential down": np.exp(-0.3 * DEPTH),
    "power law": (DEPTH + 1) ** -1.2,
    "power law from 3": (DEPTH + 3) ** -2.0,
    "line": 5 * DEPTH + 3,
    "level": np.full(30, 7.0),
    "bowl": (DEPTH - 14) ** 2 + 3,
    "both ends": np.exp(-DEPTH / 2) + np.exp((DEPTH - 29) / 3) + 0.05,
    "wave": np.sin(DEPTH / 4) + 2,
    "sigmoid": 1 / (1 + np.exp((15 - DEPTH) / 2)),
}


def ar1(rng, n, rho=0.6):
    e = rng.normal(size=n)
    for k in range(1, n):
        e[k] = rho * e[k - 1] + np.sqrt(1 - rho**2) * e[k]
    return e


LAWS = {
    "white": lambda rng, n: rng.normal(size=n),
    "AR(1)": ar1,
    "t3": lambda rng, n: 20 + rng.standard_t(3, size=n) / np.sqrt(3),
    "trend": lambda rng, n: 0.3 * np.arange(n) + rng.normal(size=n),
    "exponential": lambda rng, n: np.exp(0.3 * np.arange(n) + 0.1 * rng.normal(size=n)),
    "power law": lambda rng, n: np.arange(1, n + 1) ** -1.2 + 0.01 * rng.normal(size=n),
}


def found(curve, **options):
    return [j.index for j in jumps(curve, **options)]


@pytest.mark.parametrize("name", SMOOTH)
def test_a_smooth_curve_has_no_jump(name):
    assert jumps(SMOOTH[name]) == []
    assert jumps(SMOOTH[name][:12]) == []


@pytest.mark.parametrize("name", ["white", "AR(1)", "t3", "trend", "exponential", "power law"])
def test_alarms_on_noise_are_rare(name):
    """Nominal 5 %: of 120 curves 13 or more have a probability of 1 %."""
    rng = np.random.default_rng(11)
    alarms = sum(bool(jumps(LAWS[name](rng, n))) for n in (12, 30) for _ in range(60))
    assert alarms <= 12, f"{alarms} of 120"


@pytest.mark.parametrize("at", [0, 1, 2, 13, 27, 28, 29])
def test_a_spike_is_found_at_its_index_at_both_ends_too(at):
    """A factor e^1.5 on a decay of 6 % a step with 5 % noise. Its size by the signed log of the decay itself,
    within five units of noise: 0.05 of the step, as much again of the fit."""
    rng, right = np.random.default_rng(at), 0
    for _ in range(10):
        decay = np.exp(-0.06 * DEPTH)
        curve = decay * np.exp(0.05 * rng.normal(size=30) + 1.5 * (at == DEPTH))
        here = jumps(curve)
        right += [j.index for j in here] == [at]
        scale = signed_log(curve)[1]
        truth = np.arcsinh(decay[at] * np.exp(1.5) / scale) - np.arcsinh(decay[at] / scale)
        assert all(abs(j.size - truth) < 0.4 and j.z > 2 and j.p <= 0.05 for j in here if j.index == at)
    assert right >= 8, f"{right} of 10"


@pytest.mark.parametrize("n", [12, 30])
def test_power_at_10_sigma_is_near_that_of_a_line_fitted_by_one_who_knows(n):
    """Every step in turn, first and last too. The floor: Student's t of a line through the other steps, which
    knows that noise is white and the curve straight, at the critical values that t₃ noise asks for.
    Standard errors of a share of 120 draws: 3 %."""
    rng, hits, knows = np.random.default_rng(12), [], []

    def largest(Y):
        """|t| of each step against a line through the others, [curves, n]."""
        M = np.column_stack([np.ones(n), np.arange(n)])
        H = M @ np.linalg.pinv(M)
        left = (Y - Y @ H) / (1 - np.diag(H))
        free = (((Y - Y @ H) ** 2).sum(axis=1, keepdims=True) - left**2 * (1 - np.diag(H))) / (n - 3)
        return np.abs(left) / np.sqrt(free / (1 - np.diag(H)))

    critical = np.quantile(largest(rng.standard_t(3, size=(4000, n))).max(axis=1), 0.95)
    for k in range(120):
        curve = 20 + rng.normal(size=n) + 10 * (np.arange(n) == k % n)
        hits.append(k % n in found(curve))
        knows.append(largest(curve[None])[0, k % n] > critical)
    assert np.mean(hits) >= np.mean(knows) - 0.09, f"{np.mean(hits):.2f}, knowing {np.mean(knows):.2f}"
    assert np.mean(hits) >= 0.8


def test_a_small_step_down_is_negative_and_the_other_direction_positive():
    curve = np.exp(0.1 * DEPTH + 0.02 * np.random.default_rng(0).normal(size=30))
    curve[17] *= 0.25
    (only,) = jumps(curve)
    assert only.index == 17
    assert only.size == pytest.approx(np.log(0.25), abs=0.15)
    curve[17] *= 16
    assert jumps(curve)[0].size == pytest.approx(np.log(4), abs=0.15)


@pytest.mark.parametrize("two", [(5, 6), (0, 29), (0, 1), (9, 20), (12, 14)])
def test_two_jumps_do_not_hide_each_other(two):
    rng, both = np.random.default_rng(1), 0
    for _ in range(10):
        curve = 30 + rng.normal(size=30)
        curve[list(two)] += [60, 45]
        both += found(curve) == list(two)
    assert both >= 8, f"{both} of 10"


def test_many_jumps_do_not_hide_each_other_in_a_long_curve():
    """Six of 30 steps out of line, four up by factors of 5 to 20 and two halved: where at most three
    are looked for, the others count as noise."""
    rng, planted = np.random.default_rng(3), {0: 20, 1: 8, 24: 7, 25: 0.4, 26: 0.4, 29: 5}
    for _ in range(5):
        curve = 0.03 * np.exp(0.02 * DEPTH + 0.1 * rng.normal(size=30))
        for at, factor in planted.items():
            curve[at] *= factor
        here = {j.index: j.size for j in jumps(curve)}
        assert {0, 1, 24, 29} <= set(here) <= set(planted)
        assert all((size > 0) == (planted[at] > 1) for at, size in here.items())


def test_a_jump_of_the_control_cancels_and_one_of_the_curve_alone_stays():
    rng = np.random.default_rng(2)
    control = np.exp(-0.05 * DEPTH + 0.05 * rng.normal(size=30))
    curve = 8 * np.exp(0.02 * DEPTH + 0.05 * rng.normal(size=30))
    control[21] *= 3
    curve[[7, 21]] *= [4, 3]
    assert found(curve) == [7, 21]
    assert found(curve, reference=control) == [7]


def test_a_step_within_its_sampling_error_is_no_jump():
    curve = np.exp(0.03 * np.random.default_rng(3).normal(size=30))
    curve[10] *= 2
    small, large = np.full(30, 0.02), np.where(DEPTH == 10, 0.9, 0.02)
    assert found(curve, errors=small) == [10]
    assert found(curve, errors=large) == []


def test_support_is_the_share_of_resamples_with_a_jump_at_the_same_index():
    rng = np.random.default_rng(4)
    flat = [np.exp(0.05 * rng.normal(size=30)) for _ in range(4)]
    spiked = np.where(DEPTH == 12, 4.0, 1.0)
    moved = np.where(DEPTH == 13, 4.0, 1.0)
    (only,) = jumps(flat[0] * spiked, resampled=[flat[1] * spiked, flat[2], flat[3] * moved])
    assert only.support == pytest.approx(1 / 3)
    assert np.isnan(jumps(flat[0] * spiked)[0].support)


def test_a_scale_does_not_matter_and_a_call_repeats_itself():
    curve = np.random.default_rng(5).normal(size=20)
    curve[19] += 25
    assert found(curve) == found(curve * 1e-9) == found(-curve) == [19]
    assert jumps(curve) == jumps(curve)


def test_the_signed_log_is_a_log_far_above_the_noise_and_a_line_within():
    rng = np.random.default_rng(6)
    up, _ = signed_log(np.exp(0.3 * DEPTH))
    assert np.diff(up)[10:] == pytest.approx(0.3, abs=0.01)
    noise = rng.normal(size=300)
    flat, scale = signed_log(noise)
    assert 6 < scale < 14
    assert flat * scale == pytest.approx(noise, abs=0.05 * 3)


def lagged(n=24, power=0.7):
    return np.abs(np.arange(n)[:, None] - np.arange(n)) ** power


def noisy(D, sigma, rng):
    e = np.triu(sigma * rng.normal(size=D.shape), 1)
    return D + e + e.T


def parted(n, borders):
    block = np.searchsorted(borders, np.arange(n), side="right").astype(float)
    return np.abs(block[:, None] - block)


def test_a_border_is_the_first_layer_of_the_new_block():
    rng, right = np.random.default_rng(7), 0
    for border in (1, 2, 9, 22, 23):
        D = noisy(0.3 * lagged() + 1.0 * parted(24, [border]), 0.1, rng)
        half = [noisy(D, 0.1, rng), noisy(0.3 * lagged(), 0.1, rng)]
        here = blocks(D, half)
        right += [b.index for b in here] == [border]
        assert all(b.support in (0.5, 0.0) and b.size > 0 for b in here if b.index == border)
    assert right == 5


def test_smooth_paths_have_no_border():
    """Of 60 matrices 8 or more have a probability of 2 % at the nominal 5 %."""
    rng, alarms = np.random.default_rng(8), 0
    for k in range(60):
        walk = np.cumsum(rng.normal(size=(24, 16)), axis=0) / 4
        arc = 10 * np.sin(np.abs(np.arange(24)[:, None] - np.arange(24)) / 12)
        D = (lagged(), ((walk[:, None] - walk) ** 2).sum(-1), arc)[k % 3]
        alarms += bool(blocks(noisy(D, 0.1, rng)))
    assert alarms <= 7, f"{alarms} of 60"


def test_a_layer_that_lies_apart_is_no_border():
    rng, D = np.random.default_rng(9), 0.3 * lagged()
    D[11] += 3
    D[:, 11] += 3
    assert blocks(noisy(D, 0.05, rng)) == []


def test_what_is_not_fit_is_refused_by_name():
    with pytest.raises(TransectError, match="at least 6"):
        jumps(np.arange(5.0))
    with pytest.raises(TransectError, match="at least 6 finite"):
        jumps(np.array([1, 2, np.nan, 3, 4, 5, 6]))
    with pytest.raises(TransectError, match="finite standard errors"):
        jumps(DEPTH, -np.ones(30))
    with pytest.raises(TransectError, match="reference of 29"):
        jumps(DEPTH, reference=DEPTH[:29])
    with pytest.raises(TransectError, match="1 resampled"):
        jumps(DEPTH, resampled=[DEPTH[:20]])
    with pytest.raises(TransectError, match="7 layers"):
        blocks(np.ones((6, 6)))
    with pytest.raises(TransectError, match="symmetric"):
        blocks(np.arange(64.0).reshape(8, 8))


@pytest.mark.parametrize("fault", ["sign", "one off", "no ends"])
def test_a_planted_fault_would_be_seen(fault, monkeypatch):
    """Each fault changes what the tests above pin: index, direction, or the last step."""
    curve = np.exp(0.05 * np.random.default_rng(10).normal(size=30))
    curve[29] *= 5
    good = [(j.index, j.size > 0) for j in jumps(curve)]
    real = change_points.outlying

    def broken(*given, **how):
        out = real(*given, **how)
        if fault == "sign":
            return [(k, z, p, -size) for k, z, p, size in out]
        if fault == "one off":
            return [(k - 1, z, p, size) for k, z, p, size in out]
        return [hit for hit in out if 0 < hit[0] < 29]

    monkeypatch.setattr(change_points, "outlying", broken)
    assert good == [(29, True)]
    assert [(j.index, j.size > 0) for j in jumps(curve)] != good
