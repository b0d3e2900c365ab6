"""Draws, intervals and p-values against cases with a known answer."""

import numpy as np
import pytest

from transect.errors import TransectError
from transect.inference import controls
from transect.store.selection import Selection


def ragged(sizes: list[int]) -> Selection:
    texts = np.repeat(np.arange(len(sizes)), sizes)
    return Selection(np.arange(len(texts)), texts, np.arange(len(texts)))


SIZES = [3, 40, 7, 22, 11, 90, 5, 31, 8, 17, 60, 12, 9, 28, 4, 33]


def test_halves_and_groups_never_share_a_text() -> None:
    chosen = ragged(SIZES)
    d = controls.draw(chosen, n=40, groups=4, seed=3)
    assert d.n == len(d.b) == 40
    assert not set(chosen.texts[d.a]) & set(chosen.texts[d.b])
    for rows, group in ((d.a, d.group_a), (d.b, d.group_b)):
        assert np.bincount(group).tolist() == [10] * 4, "each leave-one-out cloud has the same n"
        owners = [set(chosen.texts[rows[group == g]]) for g in range(4)]
        assert not any(owners[i] & owners[j] for i in range(4) for j in range(i))
        assert len(set(rows)) == len(rows)
    again = controls.draw(chosen, n=40, groups=4, seed=3)
    other = controls.draw(chosen, n=40, groups=4, seed=4)
    assert np.array_equal(d.a, again.a)
    assert not np.array_equal(d.a, other.a)


def test_a_design_that_the_texts_cannot_carry_is_refused() -> None:
    with pytest.raises(TransectError, match="at least 4"):
        controls.draw(ragged([9, 9, 9]))
    with pytest.raises(TransectError, match=r"Choose n from \d+ to \d+"):
        controls.draw(ragged(SIZES), n=10_000)
    few = controls.draw(ragged([5, 6, 7, 8]))
    assert few.groups == 2


def test_jackknife_of_a_mean_is_the_textbook_interval() -> None:
    from scipy.stats import t

    rng = np.random.default_rng(0)
    x = rng.gamma(2.0, 3.0, 12)
    drops = [np.delete(x, k).mean() for k in range(12)]
    low, high = controls.jackknife(x.mean(), drops)
    half = t.ppf(0.975, 11) * x.std(ddof=1) / np.sqrt(12)
    assert low == pytest.approx(x.mean() - half)
    assert high == pytest.approx(x.mean() + half)
    assert np.isnan(controls.jackknife(1.0, [1.0, np.nan])).all()


def test_jackknife_by_text_covers_where_the_one_by_token_does_not() -> None:
    """12 texts of 20 tokens, ICC 0.5: the mean's standard error is 3.2 times the one that forgets the texts."""
    rng = np.random.default_rng(1)
    hits = tokens = 0
    for _ in range(200):
        x = rng.normal(size=(12, 1)) + rng.normal(size=(12, 20))
        low, high = controls.jackknife(x.mean(), [np.delete(x, k, 0).mean() for k in range(12)])
        hits += low <= 0 <= high
        tokens += abs(x.mean()) <= 1.96 * x.std() / np.sqrt(x.size)
    assert 0.90 <= hits / 200 <= 0.99
    assert tokens / 200 < 0.6


def test_p_values() -> None:
    null = np.arange(19.0)
    assert controls.permutation_p(100.0, null) == pytest.approx(1 / 20)
    assert controls.permutation_p(17.0, null) == pytest.approx(3 / 20)
    assert controls.permutation_p(1.0, null, "less") == pytest.approx(3 / 20)
    assert controls.permutation_p(18.0, null, "two") == pytest.approx(4 / 20)
    assert np.isnan(controls.permutation_p(1.0, []))
    assert controls.holm([0.01, np.nan, 0.04, 0.03])[[0, 2, 3]].tolist() == pytest.approx([0.03, 0.06, 0.06])
    values, draws = np.array([3.0, 0.5]), np.array([[1.0, 2.0], [0.1, 4.0], [0.2, 0.3]])
    assert controls.max_t(values, draws).tolist() == [2 / 4, 3 / 4]


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


def test_column_shuffle_keeps_marginals_and_breaks_relations() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=400)
    X = np.stack([x, 2 * x + 1], 1)
    Z = controls.shuffle_columns(X, rng)
    assert np.array_equal(np.sort(Z, 0), np.sort(X, 0))
    assert abs(np.corrcoef(Z.T)[0, 1]) < 0.2
