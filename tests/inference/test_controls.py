"""Draws, intervals and p-values against cases with a known answer."""

import numpy as np
import pytest

from transect.errors import TransectError
from transect.inference import controls
from transect.inference.draws import draw
from transect.inference.intervals import SCALES, _shrinkage, agreement, jackknife, simultaneous
from transect.inference.tests import draws_needed, holm, max_t, permutation_p, reachable, require, studentised
from transect.random import rng as stream
from transect.store.selection import Selection


def ragged(sizes: list[int]) -> Selection:
    texts = np.repeat(np.arange(len(sizes)), sizes)
    return Selection(np.arange(len(texts)), texts, np.arange(len(texts)))


SIZES = [3, 40, 7, 22, 11, 90, 5, 31, 8, 17, 60, 12, 9, 28, 4, 33]


@pytest.mark.parametrize("halves", [False, True])
def test_every_text_gives_as_many_tokens_and_groups_hold_whole_texts(halves: bool) -> None:
    chosen = ragged(SIZES)
    d = draw(chosen, n=40, groups=4, seed=3, halves=halves)
    assert 36 <= d.n <= 40
    assert len(set(d.texts)) == len(d.texts)
    assert (chosen.texts[d.rows] == d.texts[:, None]).all(), "a row of the draw is one text"
    assert (np.diff(d.rows, axis=1) > 0).all(), "tokens keep their order"
    for half in ("a", "b") if halves else ("all",):
        counts = np.bincount(d.group[d.members(half)])
        assert len(set(counts.tolist())) == 1, "each leave-one-out cloud has the same n"
    if halves:
        assert not set(d.members("a")) & set(d.members("b"))
    again, other = (
        draw(chosen, n=40, groups=4, seed=3, halves=halves),
        draw(chosen, n=40, groups=4, seed=4, halves=halves),
    )
    assert np.array_equal(d.rows, again.rows)
    assert not np.array_equal(d.rows, other.rows)


def test_as_many_texts_as_carry_the_points_are_drawn() -> None:
    assert draw(ragged([50] * 60), n=300, groups=10).rows.shape == (60, 5)
    few = draw(ragged([50] * 12), n=300, groups=10)
    assert (len(few.texts), few.groups) == (12, 12), "with few texts every text is a group"
    assert draw(ragged([50] * 59), n=560, groups=10).groups in range(6, 11)
    assert len(draw(ragged([50] * 59), n=560, groups=10).texts) == 56


def test_a_design_that_the_texts_cannot_carry_is_refused() -> None:
    with pytest.raises(TransectError, match="at least 4"):
        draw(ragged([9, 9, 9]))
    with pytest.raises(TransectError, match=r"Choose n up to \d+"):
        draw(ragged(SIZES), n=10_000)
    assert draw(ragged([5, 6, 7, 8]), halves=True).groups == 2


def test_jackknife_of_a_mean_is_the_textbook_interval() -> None:
    from scipy.stats import t

    rng = np.random.default_rng(0)
    x = rng.gamma(2.0, 3.0, 12)
    drops = [np.delete(x, k).mean() for k in range(12)]
    low, high = jackknife(x.mean(), drops)
    half = t.ppf(0.975, 11) * x.std(ddof=1) / np.sqrt(12)
    assert low == pytest.approx(x.mean() - half)
    assert high == pytest.approx(x.mean() + half)
    assert np.isnan(jackknife(1.0, [1.0, np.nan])).all()
    wider = jackknife(x.mean(), drops, more=x.var(ddof=1) / 12)
    assert wider[1] - x.mean() == pytest.approx(half * np.sqrt(2)), "variance from elsewhere goes in"


@pytest.mark.parametrize(
    ("scale", "value", "inside"),
    [("log", 0.02, (0, np.inf)), ("fisher", 0.98, (-1, 1)), ("logit", 0.97, (0, 1))],
)
def test_intervals_stay_where_the_number_lives(scale: str, value: float, inside: tuple[float, float]) -> None:
    drops = value + np.array([-1, 1, -1, 1, 1, -1]) * 0.009
    low, high = jackknife(value, drops, scale=scale)
    assert inside[0] < low < value < high < inside[1]
    there, back, *_ = SCALES[scale]
    assert float(back(there(np.asarray(value)))) == pytest.approx(value)
    beyond = jackknife(-2.0, drops - 2, scale=scale)
    assert np.isfinite(beyond).all(), "where a value lies outside of its scale the plain interval is given"


def test_jackknife_by_text_covers_where_the_one_by_token_does_not() -> None:
    """12 texts of 20 tokens, ICC 0.5: the mean's standard error is 3.2 times the one that forgets the
    texts."""
    rng = np.random.default_rng(1)
    hits = tokens = 0
    for _ in range(200):
        x = rng.normal(size=(12, 1)) + rng.normal(size=(12, 20))
        low, high = jackknife(x.mean(), [np.delete(x, k, 0).mean() for k in range(12)])
        hits += low <= 0 <= high
        tokens += abs(x.mean()) <= 1.96 * x.std() / np.sqrt(x.size)
    assert 0.90 <= hits / 200 <= 0.99
    assert tokens / 200 < 0.6


@pytest.mark.parametrize(("groups", "places", "alike"), [(30, 20, 0.0), (10, 30, 0.5), (10, 5, 0.9)])
def test_a_simultaneous_band_holds_the_whole_curve(groups: int, places: int, alike: float) -> None:
    """Pointwise intervals of 95 % hold 20 independent means in about a third of cases; the band in most. Ten
    groups make places look alike that are not: without shrinking the second is held in 80 %."""
    rng = np.random.default_rng(2)
    band = points = 0
    for _ in range(200):
        x = np.sqrt(alike) * rng.normal(size=groups) + np.sqrt(1 - alike) * rng.normal(size=(places, groups))
        drops = np.stack([np.delete(x, k, 1).mean(axis=1) for k in range(groups)], axis=1)
        low, high = simultaneous(x.mean(axis=1), drops, draws=500)
        band += bool(((low <= 0) & (high >= 0)).all())
        ends = [jackknife(v, d) for v, d in zip(x.mean(axis=1), drops, strict=True)]
        points += all(a <= 0 <= b for a, b in ends)
    assert 0.915 <= band / 200 <= 0.99, f"{band} of 200"
    assert points < band


def test_a_band_keeps_to_the_scale_of_a_number() -> None:
    x = np.random.default_rng(3).lognormal(size=(4, 10))
    drops = np.stack([np.delete(x, k, 1).mean(axis=1) for k in range(10)], axis=1)
    low, high = simultaneous(x.mean(axis=1), drops, scale="log", draws=500)
    assert (low > 0).all()
    assert np.log(high / x.mean(axis=1)) == pytest.approx(np.log(x.mean(axis=1) / low))


def test_p_values() -> None:
    null = np.arange(19.0)
    assert permutation_p(100.0, null) == pytest.approx(1 / 20)
    assert permutation_p(17.0, null) == pytest.approx(3 / 20)
    assert permutation_p(1.0, null, "less") == pytest.approx(3 / 20)
    assert np.isnan(permutation_p(100.0, null, "two")), "of 19 draws the least two-sided p is 0.1"
    assert permutation_p(38.0, np.arange(39.0), "two") == pytest.approx(4 / 40)
    assert np.isnan(permutation_p(1.0, []))
    assert np.isnan(permutation_p(100.0, null[1:])), "18 draws"
    assert holm([0.01, np.nan, 0.04, 0.03])[[0, 2, 3]].tolist() == pytest.approx([0.03, 0.06, 0.06])
    values, draws = np.array([18.5, 0.5]), np.stack([np.arange(20.0), np.zeros(20)], axis=1)
    assert max_t(values, draws).tolist() == [2 / 21, 20 / 21]
    assert np.isnan(max_t(values, draws[:18])).all()


def test_holm_is_that_of_statsmodels() -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    p = np.random.default_rng(3).random(40) ** 3
    np.testing.assert_allclose(holm(p), multitest.multipletests(p, method="holm")[1])


def test_no_p_where_none_can_reach_the_level() -> None:
    assert not reachable(18)
    assert reachable(19)
    assert not reachable(99, 30)
    assert reachable(599, 30)
    assert draws_needed(30) == 599
    with pytest.raises(TransectError, match="599 draws"):
        require(99, 30, "family")


def test_max_t_of_studentised_values_keeps_the_level_of_a_family() -> None:
    """12 correlated statistics of unlike spread, nothing planted: at most 5 % of families hold a p of 0.05 or
    less."""
    rng = np.random.default_rng(4)
    alarms = 0
    for _ in range(300):
        shared = rng.normal(size=(40, 1))
        draws = (0.7 * shared + rng.normal(size=(40, 12))) * np.geomspace(0.01, 100, 12)
        z, null = studentised(draws[0], draws[1:])
        alarms += bool((max_t(z, null) <= 0.05).any())
    assert alarms / 300 <= 0.08


def test_streams_are_named() -> None:
    first, second = stream(0, "halves", 1), stream(0, "halves", 1)
    assert np.array_equal(first.random(4), second.random(4))
    draws = {
        float(stream(s, *names).random()) for s in (0, 1) for names in (("a",), ("a", 1), ("b",), ("a", 2))
    }
    assert len(draws) == 8
    assert agreement([3, 3, 4, 3], 3) == 0.75


def test_design_effect_of_planted_clusters() -> None:
    rng = np.random.default_rng(2)
    sizes = rng.integers(10, 60, 300)
    texts = np.repeat(np.arange(300), sizes)
    X = 5 + rng.normal(size=(300, 3))[texts] * 0.5 + rng.normal(size=(len(texts), 3))
    icc, effect = controls.design_effect(X, texts)
    assert icc == pytest.approx(0.2, abs=0.02)
    m0 = (len(texts) - (sizes**2).sum() / len(texts)) / 299
    assert effect == pytest.approx(1 + (m0 - 1) * icc)
    free, _ = controls.design_effect(rng.normal(size=(len(texts), 3)), texts)
    assert abs(free) < 0.01


def test_column_shuffle_keeps_marginals_and_texts_and_breaks_relations() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=400)
    X = np.stack([x, 2 * x + 1], 1)
    Z = controls.shuffle_columns(X, rng)
    assert np.array_equal(np.sort(Z, 0), np.sort(X, 0))
    assert abs(np.corrcoef(Z.T)[0, 1]) < 0.2
    texts = rng.normal(size=(50, 8, 3))
    moved = controls.shuffle_columns(texts, rng)
    for column in range(3):
        whole = {tuple(t) for t in texts[:, :, column].tolist()}
        assert {tuple(t) for t in moved[:, :, column].tolist()} == whole, "a text's column stays together"
    order = controls.within_texts(5, 4, rng).reshape(5, 4)
    assert (np.sort(order, 1) == np.arange(20).reshape(5, 4)).all()


def test_correlations_of_few_groups_are_shrunk_and_true_ones_stay() -> None:
    """Unrelated places of 10 groups: the variance of a correlation is its mean square, so most goes.
    Places alike but for a tenth keep two thirds: products of ten groups vary by 0.1 to 0.3 about 1."""
    rng = np.random.default_rng(4)
    apart = rng.normal(size=(30, 10))
    alike = rng.normal(size=10) + 0.1 * rng.normal(size=(30, 10))
    own = [x - x.mean(axis=1, keepdims=True) for x in (apart, alike)]
    assert _shrinkage(own[0]) > 0.7
    assert _shrinkage(own[1]) < 1 / 3
