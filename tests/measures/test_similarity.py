"""Similarity against analytic truths, naive float64 loops and other libraries; every hazard that peers fall
into."""

import numpy as np
import pytest
from scipy.linalg import subspace_angles as scipy_angles
from scipy.spatial.distance import pdist
from scipy.stats import pearsonr, spearmanr
from sklearn.cross_decomposition import CCA
from sklearn.neighbors import NearestNeighbors

import transect as ts
from planted import planted_store, tuples_cka
from transect.errors import TransectError
from transect.measures.neighbours import knn_overlap, rsa
from transect.measures.similarity import BLOCK, cka, cosine, procrustes
from transect.measures.subspaces import pwcca, subspace_angles, svcca

CENTRED = [cka, procrustes, rsa, knn_overlap, svcca, pwcca]


def views(n=83, d=9, e=6, seed=0):
    """Two related views of unequal widths, scales and offsets, one of them bent."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d)) * np.geomspace(5, 0.2, d) * rng.gamma(3, size=(n, 1)) + np.linspace(
        -3, 8, d
    )
    return X, np.tanh(X @ rng.standard_normal((d, e)) / 4) * 7 + rng.standard_normal((n, e)) - 2


def naive_hsic(X, Y, unbiased):
    """Song et al. 2012, equation 5, entry by entry, and Gretton's trace; in float64."""
    X, Y = (Z - Z.mean(axis=0) for Z in (np.asarray(X, float), np.asarray(Y, float)))
    n, K, L = len(X), X @ X.T, Y @ Y.T
    if not unbiased:
        H = np.eye(n) - 1 / n
        return np.trace(K @ H @ L @ H)
    K, L = K - np.diag(np.diag(K)), L - np.diag(np.diag(L))
    one = np.ones(n)
    return (
        np.trace(K @ L)
        + (one @ K @ one) * (one @ L @ one) / ((n - 1) * (n - 2))
        - 2 / (n - 2) * (one @ K @ L @ one)
    )


def naive_cka(X, Y, unbiased):
    return naive_hsic(X, Y, unbiased) / np.sqrt(naive_hsic(X, X, unbiased) * naive_hsic(Y, Y, unbiased))


# cka


@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("n", [5, 83, BLOCK, 2 * BLOCK + 7])
def test_cka_is_songs_estimator_entry_by_entry(unbiased, n):
    X, Y = views(n)
    assert cka(X, Y, unbiased=unbiased) == pytest.approx(naive_cka(X, Y, unbiased), rel=1e-10)
    single = cka(X.astype(np.float32), Y.astype(np.float32), unbiased=unbiased)
    assert single == pytest.approx(naive_cka(X, Y, unbiased), abs=2e-6)


@pytest.mark.parametrize(("texts", "k"), [(5, 3), (7, 1), (9, 2), (4, 5)])
def test_cka_of_a_sweep_multiplies_different_texts_alone(texts, k):
    """The value and every draw of its null; uncentred Gram matrices, for an offset must not matter. A text
    fewer than four is said."""
    X, Y = views(texts * k)
    rng = np.random.default_rng(texts)
    of = np.repeat(np.arange(texts), k)
    X, Y = X + 3 * rng.standard_normal((texts, 9))[of], Y + 3 * rng.standard_normal((texts, 6))[of]
    order = np.array([rng.permutation(texts) for _ in range(5)])
    rows = [(p[:, None] * k + np.arange(k)).ravel() for p in order]
    truth = [tuples_cka(X, Y[r], k) for r in (slice(None), *rows)]
    for dtype, near in ((np.float64, 1e-9), (np.float32, 1e-4)):
        clouds = [X.astype(dtype), Y.astype(dtype)]
        assert cka.values(clouds, [(0, 1)], {}, k) == pytest.approx(truth[:1], rel=near)
        assert cka.null_values(clouds, [(0, 1)], order, k)[0] == pytest.approx(truth[1:], abs=1e-5)
        assert cka.values(clouds, [(0, 0)], {}, k) == pytest.approx([1.0], rel=1e-6)
    (few,) = cka.values([X[: 3 * k], Y[: 3 * k]], [(0, 1)], {}, k)
    assert "4" in str(few)


@pytest.mark.parametrize("icc", [0.0, 0.5])
def test_cka_of_texts_is_that_of_their_population_and_zero_for_unrelated_views(icc):
    """Y is X and noise of 0.5 of its variance, both with `icc` of it their texts': 1 / √(1 · 1.5²) = 2/3.
    Twelve texts of four: pairs of one text would raise it by a tenth at an ICC of 0.5."""
    rng, related, apart, naive = np.random.default_rng(8), [], [], []
    of = np.repeat(np.arange(12), 4)

    def cloud():
        return np.sqrt(icc) * rng.normal(size=(12, 16))[of] + np.sqrt(1 - icc) * rng.normal(size=(48, 16))

    for _ in range(60):
        X, Z, U = cloud(), cloud(), cloud()
        Y = X + np.sqrt(0.5) * Z
        related.append(cka.values([X, Y], [(0, 1)], {}, 4)[0])
        apart.append(cka.values([X, U], [(0, 1)], {}, 4)[0])
        naive.append(cka(X, U))
    for values, truth in ((related, 2 / 3), (apart, 0)):
        assert abs(np.mean(values) - truth) < 3.5 * np.std(values) / np.sqrt(60) + 0.01
    assert icc == 0 or np.mean(naive) > 0.03, "the planted fault: tokens as if they were independent"


def test_cka_of_a_planted_mixture():
    """Y = [a U, b V] and X = U with U, V orthonormal and centred: biased CKA is a² / √(a⁴ + r b⁴ / p), here
    lopsided."""
    n, p, r, a, b = 40, 3, 5, 2.0, 1.3
    Q = np.linalg.qr(np.column_stack([np.ones(n), np.random.default_rng(1).standard_normal((n, p + r))]))[0][
        :, 1:
    ]
    U, V = Q[:, :p], Q[:, p:]
    truth = p * a**2 / np.sqrt(p * (p * a**4 + r * b**4))
    assert cka(U * 9 + 4, np.column_stack([a * U, b * V]) - 1, unbiased=False) == pytest.approx(
        truth, rel=1e-12
    )


def test_cka_of_unrelated_views():
    """Unbiased: centred on 0, on both sides of it. Biased: d / (n + d), 0.88 at n = 277, d = 2048."""
    rng = np.random.default_rng(2)
    drawn = [rng.standard_normal((2, 60, 400)) for _ in range(30)]
    values = np.array([cka(*pair) for pair in drawn])
    assert abs(values.mean()) < 3 * values.std() / np.sqrt(30)
    assert values.min() < 0 < values.max(), "unclamped"
    floor = np.mean([cka(*pair, unbiased=False) for pair in drawn])
    assert floor == pytest.approx(400 / 460, abs=0.02)


def test_cka_all_pairs_equal_the_naive_loop_on_mixed_sizes():
    X, Y = views(150)
    clouds = [X.astype(np.float32), Y, X[:90], Y[:90].astype(np.float32), X**3]
    which = [(0, 1), (4, 0), (2, 3), (1, 1), (4, 4), (1, 4)]
    got = cka.values(clouds, which)
    assert got == pytest.approx([naive_cka(clouds[i], clouds[j], True) for i, j in which], abs=1e-6)
    assert all(type(v) is float for v in got)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cka_of_points_equally_far_apart_is_not_a_number(dtype):
    """A regular simplex: the unbiased self-term is 0, and rounding must not make a number of it."""
    for n in (7, 30, 150):
        simplex = (np.eye(n) * 3.7 + 11).astype(dtype)
        assert np.isnan(cka(simplex, views(n)[0]))
        assert np.isnan(cka(simplex, simplex))
        assert np.isfinite(cka(simplex, simplex, unbiased=False))


# the others, each beside another implementation


def test_cosine_is_the_mean_over_pairs_with_its_sign_and_uncentred():
    """Pairs at 0°, 180° and 60°, of norms that differ a hundredfold, and a pair across: (1 − 1 + ½ + 0.6) /
    4."""
    X = np.array([[3.0, 0], [0, 20], [0.5, 0], [3, 4]])
    Y = np.array([[0.1, 0], [0, -7], [5, 5 * np.sqrt(3)], [9, 0]])
    assert cosine(X, Y) == pytest.approx(1.1 / 4, rel=1e-12)
    assert cosine(X, Y) == pytest.approx(cosine(X * 7, Y * 0.01), rel=1e-12)
    assert cosine(X + 1e6, Y + 1e6) > 0.999, "a shared mean is seen"
    assert cosine(X, Y[::-1]) != pytest.approx(1.1 / 4, abs=0.1), "the pairing counts"


def test_procrustes_is_the_angle_of_the_best_rotation():
    X, Y = views()
    A, B = (Z - Z.mean(axis=0) for Z in (X, Y))
    s = np.linalg.svd(A.T @ B, compute_uv=False).sum() / np.linalg.norm(A) / np.linalg.norm(B)
    assert procrustes(X, Y) == pytest.approx(np.arccos(s), rel=1e-9)
    assert procrustes(Y, X) == pytest.approx(np.arccos(s), rel=1e-9)


@pytest.mark.parametrize("angle", [1e-6, 3e-3, 0.04, 0.8])
@pytest.mark.parametrize("wide", [False, True])
def test_procrustes_of_a_planted_angle(angle, wide):
    """Y = cos θ X + sin θ Z with Z orthogonal to X in points: the angle is θ, small ones included; n < d as
    well."""
    n, p = 50, 4
    Q = np.linalg.qr(np.column_stack([np.ones(n), np.random.default_rng(3).standard_normal((n, 2 * p))]))[0][
        :, 1:
    ]
    scale = np.array([3.0, 2.0, 1.0, 0.2])
    X, Z = Q[:, :p] * scale, Q[:, p:] * scale
    turn = np.linalg.qr(np.random.default_rng(4).standard_normal((90, 90)))[0][:p] if wide else np.eye(p)
    Y = (np.cos(angle) * X + np.sin(angle) * Z) @ turn * 5 + 2
    assert procrustes(X, Y) == pytest.approx(angle, rel=1e-6)


def test_procrustes_obeys_the_triangle_inequality():
    rng = np.random.default_rng(5)
    for _ in range(60):
        n = int(rng.integers(8, 30))
        X, Y, Z = (
            rng.standard_normal((n, int(rng.integers(2, 40)))) * rng.gamma(0.7, size=(n, 1)) for _ in range(3)
        )
        Y = np.column_stack([X, rng.standard_normal((n, 2)) * rng.gamma(1)]) if rng.random() < 0.5 else Y
        assert procrustes(X, Z) <= procrustes(X, Y) + procrustes(Y, Z) + 1e-9


def test_rsa_beside_scipy():
    X, Y = views()
    dx, dy = pdist(X), pdist(Y)
    assert rsa(X, Y) == pytest.approx(spearmanr(dx, dy).statistic, rel=1e-9)
    assert rsa(X, Y, compare="pearson") == pytest.approx(pearsonr(dx, dy).statistic, rel=1e-9)
    cx, cy = pdist(X, "correlation"), pdist(Y, "correlation")
    assert rsa(X, Y, distance="correlation") == pytest.approx(spearmanr(cx, cy).statistic, rel=1e-7)
    got = rsa(X, Y, distance="correlation", compare="pearson")
    assert got == pytest.approx(pearsonr(cx, cy).statistic, rel=1e-7)


def test_surveys_declare_what_does_not_hold():
    """RSA over correlation distances moves under a translation, PWCCA under a rotation: neither is
    declared."""
    X, Y = views()
    moved = X + np.linspace(0, 30, X.shape[1])
    assert rsa(X, moved, distance="correlation") < 0.95 < rsa(X, moved)
    turn = np.linalg.qr(np.random.default_rng(6).standard_normal((9, 9)))[0]
    assert abs(pwcca(X @ turn, Y) - pwcca(X, Y)) > 1e-3
    assert "rotation" not in pwcca.invariant_to


def test_knn_overlap_beside_sklearn():
    X, Y = views()
    for k in (1, 4, 10):
        near = [
            NearestNeighbors(n_neighbors=k).fit(Z).kneighbors(return_distance=False) for Z in (X, Y)
        ]  # leaves out the point itself
        truth = np.mean([len(set(a) & set(b)) / k for a, b in zip(*near, strict=True)])
        assert knn_overlap(X, Y, k=k) == pytest.approx(truth, rel=1e-12)
    assert knn_overlap(X, Y, k=1) != knn_overlap(X, Y, k=10)


def test_knn_overlap_of_unrelated_views_is_chance():
    rng = np.random.default_rng(7)
    got = np.mean(
        [knn_overlap(rng.standard_normal((101, 5)), rng.standard_normal((101, 12))) for _ in range(10)]
    )
    assert got == pytest.approx(10 / 100, abs=0.012)


def test_svcca_and_pwcca_beside_sklearn():
    X, Y = views()
    few = 4
    made = CCA(n_components=few, scale=False, max_iter=20000, tol=1e-12).fit(X, Y)
    a, b = made.transform(X, Y)
    rho = np.array([np.corrcoef(a[:, k], b[:, k])[0, 1] for k in range(few)])
    assert np.sort(_correlations(X, Y))[::-1][:few] == pytest.approx(rho, abs=1e-4)
    assert svcca(X, Y, variance=1.0) == pytest.approx(_correlations(X, Y).mean(), rel=1e-9)


def _correlations(X, Y):
    """Canonical correlations by whitening with inverse roots of covariance: another route."""
    A, B = (Z - Z.mean(axis=0) for Z in (X, Y))

    def root(C):
        w, V = np.linalg.eigh(C)
        return V / np.sqrt(w) @ V.T

    return np.linalg.svd(root(A.T @ A) @ (A.T @ B) @ root(B.T @ B), compute_uv=False)


def test_pwcca_weights_by_what_a_direction_accounts_for():
    """X: a strong axis that Y copies and a weak one that Y lacks: weights 5 and 0.5 of unit directions."""
    n = 30
    Q = np.linalg.qr(np.column_stack([np.ones(n), np.random.default_rng(9).standard_normal((n, 4))]))[0][
        :, 1:
    ]
    X = Q[:, :2] * [5.0, 0.5]
    Y = np.column_stack([Q[:, 0] * 2, Q[:, 2]])  # correlations 1 and 0
    assert pwcca(X, Y) == pytest.approx(5 / 5.5, rel=1e-9)
    assert pwcca(Y, X) == pytest.approx(2 / 3, rel=1e-9)


def test_svcca_drops_the_components_below_the_share():
    n = 40
    Q = np.linalg.qr(np.column_stack([np.ones(n), np.random.default_rng(10).standard_normal((n, 5))]))[0][
        :, 1:
    ]
    X, Y = Q[:, :3] * [10, 5, 0.1], np.column_stack([Q[:, 0], Q[:, 3], Q[:, 2] * 0.01])
    assert svcca(X, Y, variance=0.99) == pytest.approx(0.5, abs=1e-9)  # one shared of two kept
    assert svcca(X, Y, variance=1.0) == pytest.approx(2 / 3, abs=1e-9)  # the small third is shared too


def test_svcca_counts_variances_and_not_their_roots():
    """Variances 100, 4, 0.01: the first alone is 0.96 of them, of the roots 0.83. Y shares the second: 0
    where it is not kept."""
    n = 40
    Q = np.linalg.qr(np.column_stack([np.ones(n), np.random.default_rng(13).standard_normal((n, 5))]))[0][
        :, 1:
    ]
    X, Y = Q[:, :3] * [10, 2, 0.1], Q[:, [1, 3]] * [3, 0.1]
    assert svcca(X, Y, variance=0.95) == pytest.approx(0, abs=1e-9)
    assert svcca(X, Y, variance=0.97) == pytest.approx(1, abs=1e-9)


def test_subspace_angles_beside_scipy_and_planted():
    X, _ = views(60, 9)
    _, Y = views(71, 9, 9, seed=11)
    tops = [np.linalg.svd(Z - Z.mean(axis=0), full_matrices=False)[2][:3].T for Z in (X, Y)]
    got, truth = subspace_angles(X, Y, k=3), scipy_angles(*tops)
    assert (got.mean, got.smallest, got.largest) == pytest.approx(
        (truth.mean(), truth.min(), truth.max()), rel=1e-7
    )
    for theta in (1e-7, 0.02, 1.1):
        turn = np.eye(6)
        turn[:2, :2] = [[np.cos(theta), -np.sin(theta)], [np.sin(theta), np.cos(theta)]]
        turn = turn[[0, 2, 3, 1, 4, 5]][
            :, [0, 2, 3, 1, 4, 5]
        ]  # turns axis 0 into axis 3, which is outside the top three
        Z = np.random.default_rng(12).standard_normal((500, 6))
        Z = np.linalg.qr(Z - Z.mean(axis=0))[0] * [9, 8, 7, 0.3, 0.2, 0.1]
        assert subspace_angles(Z, Z[:] @ turn * 3 + 5, k=3).largest == pytest.approx(theta, rel=1e-5)


# hazards


@pytest.mark.parametrize("m", CENTRED, ids=lambda m: m.name)
def test_an_offset_or_a_large_factor_changes_nothing(m):
    X, _ = views(120)
    for Y in (
        X + 1000,
        X.astype(np.float32) + np.float32(1000),
        X * 1e18,
        X.astype(np.float32) * np.float32(1e-18),
    ):
        assert m(X, Y) == pytest.approx(m.itself, abs=2e-3)


@pytest.mark.parametrize("m", CENTRED, ids=lambda m: m.name)
def test_half_precision_of_large_values_is_a_number(m):
    X = views(120)[0] * 900  # squares overflow float16
    assert m(X.astype(np.float16), X) == pytest.approx(m.itself, abs=0.02)


@pytest.mark.parametrize("m", CENTRED, ids=lambda m: m.name)
@pytest.mark.parametrize("constant", [0.0, 0.1, 12345.678])
def test_a_constant_cloud_is_not_a_number(m, constant):
    X = views()[0]
    flat = np.full((len(X), 7), constant)
    assert np.isnan(m(X, flat))
    assert np.isnan(m(flat, flat))
    assert np.isnan(m.values([X, flat.astype(np.float32)], [(0, 1)])[0])


def test_options_out_of_range_are_refused():
    X, Y = views(20, 9)
    for call in (
        lambda: knn_overlap(X, Y, k=19),
        lambda: knn_overlap(X, Y, k=0),
        lambda: svcca(X, Y, variance=0.0),
        lambda: pwcca(X[:9], Y[:9]),
        lambda: subspace_angles(X, X, k=9),
        lambda: subspace_angles(X[:, :1] * np.ones(9), X, k=3),
        lambda: cosine(X, Y),
        lambda: rsa(np.ones_like(X), X, distance="correlation"),
    ):
        with pytest.raises(TransectError):
            call()


def test_padding_would_pass_for_similarity_and_a_store_holds_none(tmp_path):
    """Rows of zeros shared by two unrelated views take CKA from 0 to nearly 1; a sweep sees real tokens
    only."""
    rng = np.random.default_rng(13)
    lengths = [7, 3, 9, 5, 8, 6, 4, 10]
    X, Y = (rng.standard_normal((sum(lengths), 6)) + 20 for _ in range(2))
    padded = [np.concatenate([Z, np.zeros((60, 6))]) for Z in (X, Y)]
    assert abs(cka(X, Y)) < 0.15
    assert cka(*padded) > 0.95
    store = planted_store(tmp_path / "s", [X, Y], lengths)
    row = next(iter(ts.sweep("cka", store, position0=True, groups=2, permutations=3)))
    assert abs(row["value"]) < 0.3


def test_one_token_rules_cka_and_not_the_neighbours():
    """The sink: one point far out, shared by unrelated views, is nearly all of CKA."""
    rng = np.random.default_rng(14)
    X, Y = rng.standard_normal((2, 80, 5))
    X[0], Y[0] = 500, -500
    assert cka(X, Y, unbiased=False) > 0.99
    assert knn_overlap(X, Y) < 0.2
