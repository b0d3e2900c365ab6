"""Means over seeds: intervals cover when seeds and texts both vary, and there is none of two seeds."""

import numpy as np
import pytest

from transect.inference.seeds import seeds_band, seeds_interval

GROUPS = 10


def drawn(rng, seeds, seed_sd, text_sd, own_sd, sites=1):
    """(values [sites, seeds], replicates of the mean [sites, groups]) of a truth of 0: every group of texts
    has an effect that all seeds share and one of its own under each seed; every seed has one."""
    shape = (sites, seeds, GROUPS)
    cells = rng.normal(0, text_sd, (sites, 1, GROUPS)) + rng.normal(0, own_sd, shape)
    cells = cells + rng.normal(0, seed_sd, (sites, seeds, 1))
    mean = cells.mean(axis=1)
    return cells.mean(axis=2), (mean.sum(axis=1, keepdims=True) - mean) / (GROUPS - 1)


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize(
    ("seed_sd", "text_sd", "own_sd"), [(1, 0, 0), (1, 1, 0), (0.1, 1, 0.5), (1, 3, 1), (0, 1, 0)]
)
def test_the_interval_covers_the_mean_over_seeds_and_texts(seeds, seed_sd, text_sd, own_sd):
    """Nominal 95 %. It may be wider: two t's are added, and what texts do under one seed counts twice."""
    rng, hits, tries = np.random.default_rng(1), 0, 1500
    for _ in range(tries):
        values, replicates = drawn(rng, seeds, seed_sd, text_sd, own_sd)
        low, high = seeds_interval(values[0], replicates[0])
        hits += low <= 0 <= high
    print(f"{seeds} seeds, sd {seed_sd} of seeds, {text_sd} of texts, {own_sd} of both: {hits / tries:.3f}")
    assert 0.935 <= hits / tries <= 0.995


def test_two_seeds_have_no_interval():
    assert np.isnan(seeds_interval(np.array([0.79, 1.0]), np.full(10, 0.895))).all()
    band = seeds_band(np.array([[0.79, 1.0], [0.2, 0.3]]), np.ones((2, 10)))
    assert np.isnan(band.low).all()
    low, high = seeds_interval(np.array([0.79, 1.0, 0.9]), np.full(10, 0.8967))
    half = 4.30265 * np.std([0.79, 1.0, 0.9], ddof=1) / 3**0.5
    assert (low, high) == pytest.approx((0.89667 - half, 0.89667 + half), rel=1e-3)


def test_intervals_keep_to_the_scale_of_a_number():
    values, replicates = np.array([0.008, 0.012, 0.02]), np.array([0.013, 0.0135, 0.0138])
    plain, log = seeds_interval(values, replicates), seeds_interval(values, replicates, scale="log")
    assert plain[0] < 0 < log[0] < values.mean() < log[1]
    assert seeds_interval(-values, -replicates, scale="log") == seeds_interval(-values, -replicates)


@pytest.mark.parametrize("seeds", [1, 3, 5])
def test_the_band_holds_the_whole_curve(seeds):
    rng, hits, tries = np.random.default_rng(2), 0, 250
    for _ in range(tries):
        values, replicates = drawn(rng, seeds, 0.0 if seeds == 1 else 1.0, 1.0, 0.3, sites=6)
        band = seeds_band(values, replicates, draws=400)
        hits += bool(((band.low <= 0) & (band.high >= 0)).all())
    assert hits / tries >= 0.92


def test_resamples_agree_on_what_stands_out_alone():
    rng = np.random.default_rng(3)
    values, replicates = drawn(rng, 5, 0.1, 0.1, 0.1, sites=5)
    values[2], replicates[2] = values[2] + 3, replicates[2] + 3
    band = seeds_band(values, replicates)
    assert band.agreement == 1.0
    assert [k for k in range(5) if band.low[k] > 0] == [2]
    assert seeds_band(*drawn(rng, 5, 1, 1, 1, sites=5)).agreement < 0.9
