"""Population estimates against loops over texts, closed forms and drawn populations of lopsided clusters."""

import itertools

import numpy as np
import pytest
from scipy.stats import t as student

from transect.errors import TransectError
from transect.numeric import estimators
from transect.numeric.estimators import extrapolated, participation_ratio, stable_rank, top_variance, twonn

SIX = np.array([0, 0, 0, 0, 1, 1, 2, 3, 3, 3, 4, 4, 5])


def lopsided(rng, texts, d, icc, mean=7, decay=0.85):
    """Tokens, their texts and axis variances; text lengths geometric, `icc` of all variance between texts."""
    of = np.repeat(np.arange(texts), np.maximum(1, rng.geometric(1 / mean, size=texts)))
    sd = 3 * np.sqrt(decay ** np.arange(d))
    between, within = rng.normal(size=(texts, d)), rng.normal(size=(len(of), d))
    return (np.sqrt(icc) * between[of] + np.sqrt(1 - icc) * within) * sd + 4, of, sd**2


def kernels(X, texts):
    """K_ab of every two different texts, by loops over tokens."""
    out = {}
    for a, b in itertools.permutations(sorted(set(texts)), 2):
        out[a, b] = sum(np.outer(x - y, x - y) for x in X[texts == a] for y in X[texts == b]) / 2
    return out


def test_participation_ratio_equals_the_loop_over_four_texts():
    X = np.random.default_rng(0).normal(size=(13, 3)) @ np.diag([3, 1, 0.5]) + [5, -2, 1]
    K, top, below = kernels(X, SIX), 0.0, 0.0
    for a, b, c, d in itertools.permutations(range(6), 4):
        top += np.trace(K[a, b]) * np.trace(K[c, d])
        below += np.trace(K[a, b] @ K[c, d])
    assert participation_ratio(X, SIX) == pytest.approx(top / below, rel=1e-10)
    labels = np.array(["z", "b", "q", "a", "m", "c"])[SIX]
    order = np.random.default_rng(1).permutation(13)
    assert participation_ratio(X[order] * 7 - 3, labels[order]) == pytest.approx(top / below, rel=1e-10)


def test_variance_of_different_texts_equals_the_loop():
    X = np.random.default_rng(2).normal(size=(13, 3)) + 9
    assert estimators._variance(*estimators._sums(X, SIX, 6)) == pytest.approx(
        sum(np.trace(k) for k in kernels(X, SIX).values()), rel=1e-10
    )


@pytest.mark.parametrize(("texts", "mean", "icc"), [(60, 7, 0.5), (20, 20, 0.5), (60, 7, 0.0)])
def test_participation_ratio_is_unbiased_and_its_interval_covers(texts, mean, icc):
    """Truth 12.2 at 32 axes. Of 60 draws, coverage 95 % has a standard error of 2.8 %: 85 % is 3.5 away."""
    rng, logs, covered = np.random.default_rng(3), [], []
    for _ in range(60):
        X, of, axes = lopsided(rng, texts, 32, icc, mean)
        truth = np.log(axes.sum() ** 2 / (axes**2).sum())
        fold = rng.permutation(texts)[of] % 10
        again = np.log([participation_ratio(X[fold != k], of[fold != k]) for k in range(10)])
        half = student.ppf(0.975, 9) * np.sqrt(0.9 * ((again - again.mean()) ** 2).sum())
        logs.append(np.log(participation_ratio(X, of)) - truth)
        covered.append(abs(logs[-1]) <= half)
    error = np.std(logs) / np.sqrt(len(logs))
    assert abs(np.mean(logs)) < 3.5 * error + 0.02, f"bias {np.mean(logs):.3f} ± {error:.3f}"
    assert np.mean(covered) >= 0.85, f"coverage {np.mean(covered):.2f}"


def test_pairs_within_a_text_would_pull_the_ratio_down():
    """The planted fault: at half the variance between 20 texts the plug-in ratio reads a fifth too low."""
    rng, own, plain = np.random.default_rng(4), [], []
    for _ in range(20):
        X, of, axes = lopsided(rng, 20, 32, 0.5, 20)
        values = np.linalg.eigvalsh(np.cov(X.T))
        plain.append(values.sum() ** 2 / (values**2).sum())
        own.append(participation_ratio(X, of))
    truth = axes.sum() ** 2 / (axes**2).sum()
    assert np.mean(plain) < 0.85 * truth
    assert np.mean(own) == pytest.approx(truth, rel=0.08)


def test_top_variance_of_a_direction_that_stands_apart():
    """Variances 30 and 0.5 on 20 axes: shares 30 / 39.5, stable rank 39.5 / 30, tokens alike."""
    rng = np.random.default_rng(5)
    shares, ranks = [], []
    for _ in range(20):
        of = np.repeat(np.arange(40), rng.integers(1, 20, 40))
        sd = np.sqrt(np.r_[30, np.full(19, 0.5)])
        X = (
            np.sqrt(0.3) * rng.normal(size=(40, 20))[of] + np.sqrt(0.7) * rng.normal(size=(len(of), 20))
        ) * sd
        shares.append(top_variance(X, of))
        ranks.append(stable_rank(X, of, splits=2))
    assert np.mean(shares) == pytest.approx(30 / 39.5, abs=0.02)
    assert np.mean(ranks) == pytest.approx(39.5 / 30, rel=0.05)


def test_top_variance_of_a_round_cloud_is_no_more_than_its_share():
    """Truth 1/64; the plug-in reads 0.042 here, the largest of noisy eigenvalues."""
    rng = np.random.default_rng(6)
    of = np.repeat(np.arange(50), 6)
    own = [top_variance(rng.normal(size=(300, 64)), of) for _ in range(10)]
    assert np.mean(own) == pytest.approx(1 / 64, abs=0.002)


def test_a_limit_in_n_by_hand():
    """118.5 − 40 / n at unequal n."""
    ns = np.array([50, 80, 200, 390])
    assert extrapolated(118.5 - 40 / ns, ns) == pytest.approx(118.5, rel=1e-12)


def test_entropy_extrapolates_towards_its_population():
    """A Gaussian of 12 axes: the entropy at 400 points is 0.014 low; nested subsamples bring it nearer."""
    rng, near, far = np.random.default_rng(7), [], []
    sd = np.sqrt(0.7 ** np.arange(12))
    p = sd**2 / (sd**2).sum()
    truth = -(p * np.log(p)).sum()
    for _ in range(40):
        X = rng.normal(size=(400, 12)) * sd
        ns = np.array([100, 150, 200, 300, 400])
        read = []
        for n in ns:
            q = np.linalg.eigvalsh(np.cov(X[:n].T))
            q = q / q.sum()
            read.append(-(q * np.log(q)).sum())
        near.append(extrapolated(np.array(read), ns) - truth)
        far.append(read[-1] - truth)
    assert abs(np.mean(near)) < 0.6 * abs(np.mean(far)), f"{np.mean(near):.4f} against {np.mean(far):.4f}"


def test_twonn_equals_the_loop_over_other_texts():
    rng = np.random.default_rng(8)
    of = np.repeat([3, 1, 9, 4], [30, 11, 7, 20])
    X = rng.normal(size=(68, 5)) + 2
    total = 0.0
    for i in range(68):
        r = sorted(min(np.linalg.norm(X[i] - x) for x in X[of == t]) for t in {1, 3, 4, 9} - {of[i]})
        total += np.log(r[1] / r[0])
    assert twonn(X, of) == pytest.approx(67 / total, rel=1e-9)


def test_tokens_crowded_in_their_text_do_not_lower_the_dimension():
    """Texts uniform in a square, tokens on short lines about them: inside a text 1, among texts 2."""
    rng = np.random.default_rng(9)
    of = np.repeat(np.arange(300), 4)
    X = rng.uniform(size=(300, 2))[of] + np.outer(rng.normal(size=1200) * 1e-4, [1, 0])
    assert twonn(X, np.arange(1200)) < 1.3
    assert twonn(X, of) == pytest.approx(2, abs=0.35), "300 ratios of standard error 6 %"


def test_what_is_not_fit_is_refused_by_name():
    X = np.random.default_rng(0).normal(size=(13, 3))
    with pytest.raises(TransectError, match="3 texts, needs 4"):
        participation_ratio(X, np.arange(13) % 3)
    with pytest.raises(TransectError, match="k = 9"):
        top_variance(X, SIX, k=9)
    with pytest.raises(TransectError, match="Pass 3 different n"):
        extrapolated(np.array([1.0, 2, 3]), np.array([5, 5, 9]))
    with pytest.raises(TransectError, match="one text for each"):
        twonn(X, SIX[:5])
    with pytest.raises(TransectError, match="different distances"):
        twonn(np.ones((13, 3)), SIX)


@pytest.mark.parametrize("k", [1, 3])
def test_dimensions_without_variance_change_nothing(k):
    """40 points in 5 dimensions go through the covariance, in 60 dimensions through inner products."""
    X = np.random.default_rng(4).normal(size=(40, 5)) @ np.diag([3, 2, 1, 0.5, 0.2]) + [5, 0, -2, 1, 0]
    texts = np.arange(40) // 4
    wide = np.hstack([X, np.zeros((40, 55))])
    assert top_variance(wide, texts, k=k) == pytest.approx(top_variance(X, texts, k=k), rel=1e-10)
    assert stable_rank(wide, texts) == pytest.approx(1 / top_variance(X, texts), rel=1e-10)
