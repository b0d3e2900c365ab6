"""Token measures against naive loops and hand-made clouds of unequal norms."""

import numpy as np
import pytest

from transect.errors import TransectError
from transect.measures.tokens import (
    anisotropy,
    cluster_count,
    massive_tokens,
    mean_norm,
    norm_entropy,
    outlier_dimensions,
    outlier_tokens,
    rank_residual,
)
from transect.measures.updates import relative_update, update_alignment

X = np.random.default_rng(0).standard_normal((37, 6)) * np.linspace(0.2, 3, 6) + np.array(
    [2.0, 0, 0, -1, 0, 0]
)
MEASURES = [
    anisotropy,
    rank_residual,
    mean_norm,
    norm_entropy,
    outlier_dimensions,
    outlier_tokens,
    massive_tokens,
]


def mean_cosine(A):
    total, count = 0.0, 0
    for i, a in enumerate(A):
        for j, b in enumerate(A):
            if i != j:
                total, count = total + a @ b / np.linalg.norm(a) / np.linalg.norm(b), count + 1
    return total / count


def test_anisotropy_is_the_mean_off_diagonal_cosine():
    assert anisotropy(X) == pytest.approx(mean_cosine(X), rel=1e-12)
    assert anisotropy(X, centred=True) == pytest.approx(mean_cosine(X - X.mean(0)), rel=1e-10)
    assert anisotropy(X * np.linspace(1, 1e6, 37)[:, None]) == pytest.approx(anisotropy(X), rel=1e-10)
    assert anisotropy(np.eye(5)) == pytest.approx(0, abs=1e-15)
    assert anisotropy(np.eye(5), centred=True) == pytest.approx(-1 / 4, rel=1e-12)
    assert anisotropy(np.outer([1.0, 2, 7], [3.0, -4])) == pytest.approx(1, rel=1e-12)


def test_a_point_without_direction_is_refused():
    A = X.copy()
    A[[3, 8]] = 0
    with pytest.raises(TransectError, match="2 of 37 points have norm 0"):
        anisotropy(A)
    with pytest.raises(TransectError, match="9 of 9 points have norm 0"):
        anisotropy(np.full((9, 3), 0.1), centred=True)


def test_norms():
    A = np.array([[3.0, 4], [0, 0], [0, 15]])
    assert mean_norm(A) == pytest.approx(20 / 3)
    assert norm_entropy(A) == pytest.approx(-(0.25 * np.log(0.25) + 0.75 * np.log(0.75)))
    assert norm_entropy(np.eye(7)) == pytest.approx(np.log(7))


def test_outlier_dimensions():
    A = np.array([[1.0, 2, 0, 3, 1], [1, -2, 1, 3, 0]])  # column squares 2, 8, 1, 18, 1 of 30
    assert outlier_dimensions(A) == pytest.approx(28 / 30)
    assert outlier_dimensions(A, k=1) == pytest.approx(18 / 30)
    assert outlier_dimensions(A, k=5) == pytest.approx(1)
    for k in (0, 6):
        with pytest.raises(TransectError, match=rf"k ?= ?{k}\b"):
            outlier_dimensions(A, k=k)


def test_outlier_and_massive_tokens():
    """150 points of norm 1, one of 12, two of 9: 1 % of 153 is two points."""
    A = np.zeros((153, 4))
    A[np.arange(153), np.arange(153) % 4] = 1
    A[5] *= 12
    A[[70, 71]] *= -9
    assert outlier_tokens(A) == pytest.approx((144 + 81) / (150 + 144 + 162))
    assert outlier_tokens(A, top=1.0) == pytest.approx(1)
    assert outlier_tokens(np.eye(100)) == pytest.approx(0.01)
    assert outlier_tokens(np.eye(100), top=0.07) == pytest.approx(0.07), (
        "0.07 × 100 is 7.000000000000001 in floats"
    )
    assert massive_tokens(A) == pytest.approx(1 / 153)
    assert massive_tokens(A, factor=8.0) == pytest.approx(3 / 153)
    assert massive_tokens(A, factor=12.0) == 0  # strictly above
    for top in (0.0, 1.5):
        with pytest.raises(TransectError, match=r"top ?= ?"):
            outlier_tokens(A, top=top)
    with pytest.raises(TransectError, match=r"factor ?= ?0"):
        massive_tokens(A, factor=0.0)


@pytest.mark.parametrize("measure", [norm_entropy, outlier_dimensions, outlier_tokens])
def test_all_zero_points_are_refused(measure):
    with pytest.raises(TransectError, match="all points are 0"):
        measure(np.zeros((5, 4)))


@pytest.mark.parametrize("measure", MEASURES)
def test_half_precision_squares_do_not_overflow(measure):
    """Norms of 10⁴: their squares pass float16, and the sums are taken in float64."""
    A = (X * 3000).astype(np.float16)
    assert measure(A) == pytest.approx(measure(A.astype(np.float64)), rel=1e-6)


def test_rank_residual_of_a_mean_and_deviations():
    """Deviations (±3, ±4 along two axes) about a mean of norm 12 at right angles: s² = 25 of s² + m² =
    169."""
    A = np.array([[3.0, 0, 12], [-3, 0, 12], [0, 4, 12], [0, -4, 12]])
    s2 = (9 + 9 + 16 + 16) / 4
    assert rank_residual(A) == pytest.approx(np.sqrt(s2 / (s2 + 144)), rel=1e-12)
    assert rank_residual(np.tile([3.0, -1, 7], (5, 1))) == pytest.approx(0, abs=1e-12)
    assert rank_residual(A - [0, 0, 12]) == pytest.approx(1, rel=1e-12)
    with pytest.raises(TransectError, match="all points are 0"):
        rank_residual(np.zeros((4, 3)))


def test_clusters_of_directions_whatever_their_norms():
    """Three bundles of 9, 5 and 1 points, 25° wide at most, on three axes, norms over four decades; a chain
    is one."""
    rng = np.random.default_rng(3)
    axes = np.repeat(np.eye(3, 6), [9, 5, 1], axis=0)
    A = (axes + rng.uniform(-0.08, 0.08, axes.shape)) * np.geomspace(0.01, 100, 15)[:, None]
    assert cluster_count(A) == 3
    assert cluster_count(A, cosine=0.9999) > 9
    assert cluster_count(A, cosine=-0.9) == 1
    turns = np.deg2rad(np.arange(0, 181, 20))
    assert cluster_count(np.stack([np.cos(turns), np.sin(turns)], axis=1)) == 1, (
        "neighbours at 20° link a half circle"
    )
    far = A + 1000
    assert cluster_count(far) == 1
    assert cluster_count(far, centred=True) > 1
    with pytest.raises(TransectError, match=r"cosine ?= ?1"):
        cluster_count(A, cosine=1.0)


def test_updates_against_planted_ones():
    """Updates of 0.5 × the state for 30 points and −0.2 × for 10 (norms from 1 to 50): relative 0.425,
    alignment 0.5."""
    rng = np.random.default_rng(4)
    A = rng.standard_normal((40, 7)) * np.geomspace(1, 50, 40)[:, None]
    factor = np.repeat([0.5, -0.2], [30, 10])[:, None]
    assert relative_update(A, A * (1 + factor)) == pytest.approx((30 * 0.5 + 10 * 0.2) / 40, rel=1e-9)
    assert update_alignment(A, A * (1 + factor)) == pytest.approx(0.5, rel=1e-9)
    turned = np.stack([A[:, 0], A[:, 1]], axis=1)
    quarter = np.stack([-A[:, 1], A[:, 0]], axis=1)
    assert update_alignment(turned, turned + 3 * quarter) == pytest.approx(0, abs=1e-12)
    assert relative_update(turned, turned + 3 * quarter) == pytest.approx(3, rel=1e-9)
    partly = (
        A * (1 + np.where(np.arange(40) < 8, 0, factor[:, 0]))[:, None]
    )  # 8 tokens stay, 22 grow, 10 shrink
    assert update_alignment(A, partly) == pytest.approx((22 - 10) / 32, rel=1e-9), (
        "those that stay are left out"
    )
    assert np.isnan(update_alignment(A, A))
    still = A.copy()
    still[5] = 0
    for m in (relative_update, update_alignment):
        with pytest.raises(TransectError, match="1 points of X have norm 0"):
            m(still, A)
