"""Spectra with a known answer, and intrinsic dimension of manifolds whose dimension is known."""

import numpy as np
import pytest
import skdim

from transect.errors import TransectError
from transect.measures.spectra import (
    condition_number,
    effective_rank,
    gride,
    isoscore,
    participation_ratio,
    spectral_entropy,
    stable_rank,
    top_variance,
    twonn,
)

LAMBDA = np.array([9.0, 4.0, 1.0, 0.5, 0.01])
P = LAMBDA / LAMBDA.sum()
SPECTRAL = [
    participation_ratio,
    effective_rank,
    spectral_entropy,
    stable_rank,
    condition_number,
    top_variance,
]


def known(n, variances=LAMBDA, seed=0, mean=30.0):
    """n points whose covariance has exactly these eigenvalues, turned, far from the origin."""
    rng = np.random.default_rng(seed)
    d = len(variances)
    Z = rng.standard_normal((n, d))
    Z = np.linalg.qr(Z - Z.mean(axis=0))[0] * np.sqrt(n)
    return Z * np.sqrt(variances) @ np.linalg.qr(rng.standard_normal((d, d)))[0] + mean * np.arange(1, d + 1)


@pytest.mark.parametrize("wide", [False, True])
def test_a_known_spectrum(wide):
    """Also through the n × n side: the same points in 40 dimensions, of which 35 are empty."""
    X = known(23)
    X = np.concatenate([X, np.full((23, 35), 7.0)], axis=1) if wide else X
    entropy = -(P * np.log(P)).sum()
    assert participation_ratio(X) == pytest.approx(1 / (P**2).sum(), rel=1e-9)
    assert spectral_entropy(X) == pytest.approx(entropy, rel=1e-9)
    assert effective_rank(X) == pytest.approx(np.exp(entropy), rel=1e-9)
    assert stable_rank(X) == pytest.approx(LAMBDA.sum() / 9, rel=1e-9)
    assert condition_number(X) == pytest.approx(900, rel=1e-8)
    assert condition_number(X, floor=0.1) == pytest.approx(9, rel=1e-9)
    assert top_variance(X) == pytest.approx(P[0], rel=1e-9)
    assert top_variance(X, k=3) == pytest.approx(P[:3].sum(), rel=1e-9)


def test_uncentred_the_mean_is_a_direction():
    X = known(50, mean=1e3)
    for measure in (participation_ratio, effective_rank, stable_rank):
        assert measure(X, centred=False) == pytest.approx(1, abs=1e-2)
        assert measure(X) > 1.5
    values = np.linalg.svd(X, compute_uv=False) ** 2
    assert stable_rank(X, centred=False) == pytest.approx(values.sum() / values[0], rel=1e-9)
    assert participation_ratio(X, centred=False) == pytest.approx(
        values.sum() ** 2 / (values**2).sum(), rel=1e-9
    )


@pytest.mark.parametrize(("n", "d"), [(300, 120), (90, 400)])
def test_isotropic_gaussian_reads_nd_over_n_plus_d(n, d):
    X = np.random.default_rng(1).standard_normal((n, d)) + 5
    assert participation_ratio(X) == pytest.approx(n * d / (n + d), rel=0.03)


def test_one_heavy_token_brings_every_rank_to_one():
    """Position 0 kept: participation ratio 1.00, whatever the other points do."""
    X = np.random.default_rng(2).standard_normal((200, 30))
    assert participation_ratio(X) > 20
    X[0] *= 1e4
    for measure in (participation_ratio, stable_rank, effective_rank):
        assert measure(X) == pytest.approx(1, abs=1e-2)


@pytest.mark.parametrize("measure", SPECTRAL)
def test_extreme_units_do_not_matter(measure):
    X = known(40)
    for factor in (1e-160, 1e160):
        assert measure(X * factor) == pytest.approx(measure(X), rel=1e-7)


@pytest.mark.parametrize("measure", SPECTRAL)
def test_equal_points_have_no_spectrum(measure):
    with pytest.raises(TransectError, match="all 9 points are equal"):
        measure(np.full((9, 4), 0.1))
    with pytest.raises(TransectError, match="all 9 points are equal"):
        measure(np.zeros((9, 4)), centred=False)


def test_options_out_of_range():
    X = known(20)
    for k in (0, 6):
        with pytest.raises(TransectError, match=rf"k ?= ?{k}\b"):
            top_variance(X, k=k)
    for floor in (0.0, 1.0, 1e-16):
        with pytest.raises(TransectError, match=r"floor ?= ?"):
            condition_number(X, floor=floor)


def swiss(n, seed):
    """A sheet of dimension 2, rolled and turned into 9 dimensions."""
    rng = np.random.default_rng(seed)
    t, h = 4 + 8 * rng.random(n), 12 * rng.random(n)
    sheet = np.stack([t * np.cos(t), h, t * np.sin(t)], axis=1)
    return sheet @ np.linalg.qr(rng.standard_normal((9, 9)))[0][:3] + 50


@pytest.mark.parametrize(
    ("make", "d"), [(swiss, 2), (lambda n, s: np.random.default_rng(s).random((n, 4)) @ np.eye(4, 11), 4)]
)
def test_intrinsic_dimension_of_a_manifold(make, d):
    X = make(1500, 0)
    assert twonn(X) == pytest.approx(d, rel=0.1)  # error of an estimate: 1 / √1500 = 0.026, and the edges
    assert gride(X) == pytest.approx(twonn(X) * 1500 / 1499, rel=1e-12)
    for scale in (2, 4):
        assert gride(X, scale=scale) == pytest.approx(d, rel=0.1)


def test_twonn_is_skdim_s():
    """skdim fits a line after cutting a tenth of the ratios; both estimate the same exponent."""
    X = swiss(1200, 3)
    assert twonn(X) == pytest.approx(skdim.id.TwoNN().fit(X).dimension_, rel=0.05)


def test_neighbours_against_the_naive_loop():
    """300 points pass one block of 256; a far offset must not blur the distances; a repeat must not be a
    neighbour."""
    rng = np.random.default_rng(4)
    X = rng.standard_normal((300, 5)) * [1, 1, 1, 9, 0.1] + 1e7
    D = np.sort(np.linalg.norm(X[:, None] - X[None], axis=2), axis=1)[:, 1:]
    logs = np.log(D[:, 1] / D[:, 0])
    assert twonn(X) == pytest.approx(299 / logs.sum(), rel=1e-6)
    assert twonn(np.concatenate([X, X[:120]])) == pytest.approx(twonn(X), rel=1e-9)
    for scale in (3, 8):  # log f: n log d + (s − 1) Σ log(μ^d − 1) − ((2 s − 1) d + 1) Σ log μ
        logs, grid = np.log(D[:, 2 * scale - 1] / D[:, scale - 1]), np.linspace(1, 12, 110001)
        likelihood = 300 * np.log(grid) - (2 * scale - 1) * grid * logs.sum()
        likelihood += (scale - 1) * sum(np.log(np.expm1(grid * one)) for one in logs)
        assert gride(X, scale=scale) == pytest.approx(grid[likelihood.argmax()], abs=2e-4)


def test_noise_shows_at_small_scale_only():
    """A line with noise of 0.01 in 6 dimensions: many dimensions near, one far."""
    rng = np.random.default_rng(5)
    X = np.concatenate([np.linspace(0, 10, 1500)[:, None], np.zeros((1500, 5))], axis=1)
    X = X + 0.01 * rng.standard_normal(X.shape)
    curve = [gride(X, scale=s) for s in (1, 4, 16, 64)]
    assert curve[0] > 2
    assert curve[-1] == pytest.approx(1, rel=0.1)
    assert curve[0] > curve[1] > curve[2]


def test_copies_count_once_wherever_they_stand():
    """Products of equal rows differ in their last bits by place, which must not make two points of them."""
    for seed in range(30):
        A = np.random.default_rng(seed).normal(size=(9, 65))
        for copies in ([0], [0, 1, 0]):
            assert twonn(A[[*range(9), *copies]]) == pytest.approx(twonn(A))


def test_too_few_distinct_points_and_lattices():
    X = known(6)
    with pytest.raises(TransectError, match="3 distinct points"):
        twonn(np.repeat(X[:3], 4, axis=0))
    with pytest.raises(TransectError, match="6 distinct points, needs 7"):
        gride(X, scale=3)
    with pytest.raises(TransectError, match=r"scale ?= ?0"):
        gride(X, scale=0)
    with pytest.raises(TransectError, match="equally far"):
        twonn(np.stack([np.arange(9.0) % 3, np.arange(9.0) // 3], axis=1))


def test_isoscore_is_the_published_construction():
    """Rudman et al. 2022, section 4: normalised PCA variances against the diagonal of ones, rescaled twice; d
    = 5, n = 70."""
    X = np.random.default_rng(8).standard_normal((70, 5)) * [5, 3, 1, 0.5, 0.2] + [1, 2, 3, 4, 5]
    d, variances = 5, np.linalg.eigvalsh(np.cov(X.T))
    scaled = np.sqrt(d) * variances / np.linalg.norm(variances)
    defect = np.linalg.norm(scaled - 1) / np.sqrt(2 * (d - np.sqrt(d)))
    share = (d - defect**2 * (d - np.sqrt(d))) ** 2 / d**2
    assert isoscore(X) == pytest.approx((d * share - 1) / (d - 1), rel=1e-9)
    corners = np.array([[s * (k == j) * 3.0 for j in range(4)] for k in range(4) for s in (1, -1)])
    assert isoscore(corners + 7) == pytest.approx(1, rel=1e-9)
    assert isoscore(np.outer(np.arange(9.0), [1, 2, 3])) == pytest.approx(0, abs=1e-9)
    with pytest.raises(TransectError, match="one dimension"):
        isoscore(X[:, :1])
