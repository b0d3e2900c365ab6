"""SupervisedMDS against its formulas written out naively, its optimality conditions, and scikit-learn's own
checks."""

import warnings

import numpy as np
import pytest
from sklearn.utils.estimator_checks import check_estimator

import transect as ts
from transect.errors import TransectError
from transect.numeric.scaling import classical, smacof
from transect.numeric.shape import straight
from transect.numeric.shapes import find_shape
from transect.numeric.smds import SupervisedMDS


def cloud(n=57, d=9, seed=0):
    """Points of unequal spread and offset, and labels 1 … 12 of unequal counts."""
    rng = np.random.default_rng(seed)
    y = rng.choice(np.arange(1, 13), n, p=np.arange(1, 13) / 78)
    X = rng.standard_normal((n, d)) * np.arange(1, d + 1) + 50 * rng.standard_normal(d)
    X[:, :2] += 3 * np.column_stack([np.cos(np.pi * y / 6), 2 * np.sin(np.pi * y / 6)])
    return X, y


def naive(X, D, k, alpha):
    """The formulas of the docstring, with full matrices and explicit inverses, all in float64."""
    n, d = X.shape
    H = np.eye(n) - 1 / n
    values, vectors = np.linalg.eigh(-0.5 * H @ D**2 @ H)
    top = np.argsort(values)[::-1][:k]
    Y = vectors[:, top] * np.sqrt(np.maximum(values[top], 0))
    Xc = H @ X
    if alpha == 0:
        return Y, Y.T @ np.linalg.pinv(Xc).T
    return Y, Y.T @ Xc @ np.linalg.inv(Xc.T @ Xc + alpha * np.eye(d))


def naive_score(D, Z):
    num = den = size = 0.0
    for i in range(len(Z)):
        for j in range(i):
            gap = np.sqrt(((Z[i] - Z[j]) ** 2).sum())
            num, den, size = num + D[i, j] * gap, den + gap**2, size + D[i, j] ** 2
    s = num / den
    total = sum(
        (D[i, j] - s * np.sqrt(((Z[i] - Z[j]) ** 2).sum())) ** 2 for i in range(len(Z)) for j in range(i)
    )
    return 1 - np.sqrt(total / size)


@pytest.mark.parametrize("alpha", [0, 0.1, 30.0])
@pytest.mark.parametrize("d", [9, 80])  # fewer dimensions than points, and more
@pytest.mark.parametrize(("shape", "k"), [("circle", 2), ("discrete_circle", 3), ("clusters", 4)])
def test_equals_the_formulas(shape, k, d, alpha):
    X, y = cloud(d=d)
    fitted = SupervisedMDS(shape, period=12, n_components=k, alpha=alpha).fit(X, y)
    kind = find_shape(shape)
    D = kind.distances(y, **({} if shape == "clusters" else {"period": 12}))
    Y, W = naive(X, D, k, alpha)
    assert np.allclose(straight(fitted.Y_), straight(Y), atol=1e-8), "targets, up to a rotation"
    turn = fitted.Y_.T @ Y @ np.linalg.inv(Y.T @ Y)
    assert np.allclose(fitted.W_, turn @ W, rtol=1e-6, atol=1e-9)
    assert np.allclose(fitted.mean_, X.mean(0))
    Z = (X - X.mean(0)) @ W.T
    assert fitted.score(X, y) == pytest.approx(naive_score(D, Z), abs=1e-9)


def test_counts_stand_for_repeated_rows():
    D = find_shape("discrete_circle").distances(np.arange(7), period=7)
    counts = np.array([1, 5, 2, 9, 1, 3, 4])
    Y, values = classical(D, 4, counts)
    rows = np.repeat(np.arange(7), counts)
    full, same = classical(D[np.ix_(rows, rows)], 4)
    assert np.allclose(values, same)
    assert np.allclose(Y[rows], full)
    assert np.allclose(counts @ Y, 0)


def test_orthonormal_fit_is_the_best_rotation():
    X, y = cloud(d=9)
    fitted = SupervisedMDS(period=12, orthonormal=True).fit(X, y)
    assert np.allclose(fitted.W_ @ fitted.W_.T, np.eye(2))
    Xc = X - X.mean(0)
    best = ((fitted.Y_ - Xc @ fitted.W_.T) ** 2).sum() + (Xc**2).sum() - ((Xc @ fitted.W_.T) ** 2).sum()
    rng = np.random.default_rng(1)
    for _ in range(50):
        W = np.linalg.qr(rng.standard_normal((9, 2)))[0].T
        inner = (fitted.Y_ * (Xc @ W.T)).sum()
        assert inner <= (fitted.Y_ * (Xc @ fitted.W_.T)).sum() + 1e-9
    assert np.isfinite(best)
    far = SupervisedMDS(period=12, orthonormal=True).fit(1000 * X + 7, y)
    assert np.allclose(far.W_, fitted.W_)


def test_no_months_are_merged_or_stretched():
    """A perfect ring of 12 months scores 1, and so does its part; labels scaled min–max would make December
    January."""
    y = np.array([1, 2, 3, 5, 8, 12, 12, 11, 6])
    X = 4.0 * find_shape("circle")(y, period=12) @ np.array([[0.6, 0, 0.8], [0, 1, 0]]) + 3
    fitted = SupervisedMDS(period=12, alpha=0).fit(X, y)
    assert fitted.score(X, y) == pytest.approx(1.0)
    assert fitted.score(X[:4], y[:4]) == pytest.approx(1.0)
    assert straight(fitted.transform(X[[0, 5]]))[0, 1] == pytest.approx(2 * np.sin(np.pi / 12))


def test_inverse_transform_and_place():
    X, y = cloud(d=5)
    fitted = SupervisedMDS(period=12).fit(X, y)
    Z = np.array([[1.0, -2.0], [0.3, 0.1]])
    assert np.allclose(fitted.transform(fitted.inverse_transform(Z)), Z)
    assert np.allclose(fitted.place(y), fitted.Y_)
    half = fitted.place(np.array([6.5, 12.25]))
    assert np.allclose(straight(half), find_shape("circle").distances([6.5, 12.25], period=12)), (
        "labels never seen"
    )
    both = np.concatenate([fitted.place([3]), half[:1]])
    assert straight(both)[0, 1] == pytest.approx(2 * np.sin(np.pi * 3.5 / 12))


def chained(seed=0):
    """A bent row of 9 places of unequal steps in 6 dimensions."""
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(9), [3, 1, 4, 1, 5, 2, 6, 3, 5])
    steps = np.cumsum([[np.cos(a), np.sin(a)] for a in np.linspace(0, 2.5, 9)], axis=0)
    return steps[y] @ rng.standard_normal((2, 6)) + 0.01 * rng.standard_normal((30, 6)) + 5, y


def test_undefined_distances_are_fitted_by_optimisation():
    """Only neighbours have a distance; a bent chain keeps them all, and the closed form of a straight one
    does not."""
    X, y = chained()
    chain = SupervisedMDS("chain", parameters={"reach": 1}, alpha=1e-6).fit(X, y)
    straight_line = SupervisedMDS("line", alpha=1e-6).fit(X, y)
    assert chain.score(X, y) > 0.97
    D = find_shape("chain").distances(y, reach=1)

    def loss(W):
        d = straight((X - X.mean(0)) @ W.T)
        return np.nansum((D - d) ** 2) / 2 + len(X) * 1e-6 * (W**2).sum()

    assert loss(chain.W_) < 0.2 * loss(straight_line.W_)
    rng = np.random.default_rng(0)
    base = loss(chain.W_)
    for _ in range(20):
        assert (
            loss(chain.W_ + 1e-3 * np.abs(chain.W_).max() * rng.standard_normal((2, 6))) > base - 1e-6 * base
        )


def test_optimised_targets_meet_the_defined_distances():
    corner = np.array([[0, 0], [3, 0], [3, 4], [9, 4.0]])
    D = straight(corner)
    D[0, 3] = D[3, 0] = np.nan
    Y = smacof(D, corner + 0.5 * np.random.default_rng(0).standard_normal((4, 2)), 4000, 1e-14)
    known = np.isfinite(D)
    assert np.allclose(straight(Y)[known], D[known], atol=1e-3)
    whole = SupervisedMDS("precomputed", alpha=0).fit(corner, D)
    assert whole.score(corner, D) > 0.999


def test_coordinates_and_distances_of_the_user():
    X, _ = cloud(d=6)
    target = X[:, :3] @ np.array([[1, 0.2], [0, 1], [0.5, 0]]) + 4
    fitted = SupervisedMDS("coordinates", alpha=0).fit(X, target)
    assert np.allclose(fitted.Y_, target - target.mean(0)), "coordinates are kept as they are, centred"
    assert fitted.score(X, target) == pytest.approx(1.0)
    assert SupervisedMDS("precomputed", alpha=0).fit(X, straight(target)).score(
        X, straight(target)
    ) == pytest.approx(1)
    one = SupervisedMDS("coordinates", n_components=1).fit(X, target[:, 0])
    assert one.transform(X).shape == (len(X), 1)


def test_stresses_of_two_pairs_by_hand():
    """Targets 3 and 4, fitted 0 and 5: residuals 3 and −1 over ΣD² = 25; the best scale is 20 / 25, its
    residuals 3 and 0."""
    from transect.numeric import stress

    assert stress.normalised([3.0, 4.0], [0.0, 5.0]) == pytest.approx(np.sqrt(10 / 25), rel=1e-12)
    assert stress.normalised([3.0, 4.0], [0.0, 2.0]) == pytest.approx(np.sqrt(13 / 25), rel=1e-12)
    assert stress.scale_normalised([3.0, 4.0], [0.0, 5.0]) == pytest.approx(3 / 5, rel=1e-12)
    assert stress.scale_normalised([3.0, 4.0], [0.0, 0.5]) == pytest.approx(3 / 5, rel=1e-12)


def test_every_stress_as_score():
    X, y = cloud()
    values = {m: SupervisedMDS(period=12, metric=m).fit(X, y).score(X, y) for m in ts.SupervisedMDS.metrics()}
    assert len(values) == 5
    assert all(0 < v <= 1 for v in values.values())
    with pytest.raises(TransectError, match="no stress"):
        SupervisedMDS(period=12, metric="r2").fit(X, y).score(X, y)


def test_save_and_load(tmp_path):
    X, y = cloud()
    words = np.array([f"month {v}" for v in y])
    for made in (SupervisedMDS(period=12, alpha=0.5), SupervisedMDS("polytope", n_components=3)):
        labels = words if made.shape == "polytope" else y
        path = made.fit(X, labels).save(tmp_path / "m.safetensors")
        again = SupervisedMDS.load(path)
        assert again.get_params() == made.get_params()
        assert np.array_equal(again.transform(X), made.transform(X))
        assert again.score(X, labels) == made.score(X, labels)
    (tmp_path / "bad").write_bytes(b"no")
    with pytest.raises(TransectError, match="not a saved SupervisedMDS"):
        SupervisedMDS.load(tmp_path / "bad")


@pytest.mark.parametrize(
    ("made", "labels", "told"),
    [
        (SupervisedMDS(), [4.0] * 57, "fall on one point"),
        (SupervisedMDS(period=1), "y", "whole number of periods apart"),
        (SupervisedMDS("line"), [1.0] * 56 + [np.nan], "NaN"),
        (SupervisedMDS("sphere"), "y", "needs labels with 2 columns"),
        (SupervisedMDS("spiralx"), "y", "no shape 'spiralx'"),
        (SupervisedMDS(period=12), [1, 2], "57 points and labels"),
        (SupervisedMDS(period=12, alpha=-1), "y", "alpha -1"),
        (SupervisedMDS("coordinates", n_components=3), "y", "1 target coordinates"),
        (SupervisedMDS("precomputed"), "y", "must be symmetric"),
        (SupervisedMDS("discrete_circle", period=12), np.arange(57) / 2, "no whole number"),
    ],
)
def test_bad_input(made, labels, told):
    X, y = cloud()
    with pytest.raises(TransectError, match=told):
        made.fit(X, y if isinstance(labels, str) else labels)


@pytest.mark.parametrize(
    "made",
    [
        SupervisedMDS("line", n_components=1),
        SupervisedMDS("circle", period=7.3),
        SupervisedMDS("clusters", alpha=0),
    ],
    ids=str,
)
def test_scikit_learn_checks(made):
    """No check is left out; circles need a period that their test labels (whole numbers) are no multiple
    of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(made, on_fail=None)
    failed = {r["check_name"]: str(r["exception"])[:200] for r in results if r["status"] == "failed"}
    assert not failed, failed
    assert sum(r["status"] == "passed" for r in results) >= 40


def test_it_is_public():
    assert ts.SupervisedMDS is SupervisedMDS
