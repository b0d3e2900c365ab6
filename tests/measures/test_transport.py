"""Transport against closed forms, naive float64 loops, POT and scipy, on clouds of unequal size, spread and
offset."""

import numpy as np
import ot
import pytest
from scipy.optimize import linprog
from scipy.special import logsumexp
from threadpoolctl import threadpool_limits

import transect.numeric.sinkhorn as room
from transect.errors import TransectError
from transect.measures.distances import (
    bures,
    centroid,
    euclidean,
    max_sliced,
    paired_displacement,
    shared_basis,
    sliced,
)
from transect.measures.transport import _debiased, _solved, plan, sinkhorn, wasserstein

RNG = np.random.default_rng


def cloud(n, d, seed, shift=0.0, tail=4.0):
    rng = RNG(seed)
    return (
        rng.standard_normal((n, d)) * np.linspace(0.3, 2.5, d) * rng.gamma(tail, size=(n, 1)) / tail + shift
    )


def naive_costs(X, Y):
    return ((X[:, None, :].astype(np.float64) - Y[None]) ** 2).sum(-1)


def naive_entropic(C, eps, iterations=20000, tol=1e-9):
    """Log-domain Sinkhorn in float64: the primal value with its entropy, <P, C>, the plan. Averaged on a
    symmetric C."""
    n, m = C.shape
    symmetric = n == m and np.array_equal(C, C.T)
    f, g = np.zeros(n), np.zeros(m)
    for _ in range(iterations):
        f = -eps * (logsumexp((g - C) / eps, axis=1) - np.log(m))
        new = (f + g) / 2 if symmetric else -eps * (logsumexp((f[:, None] - C) / eps, axis=0) - np.log(n))
        done, g = np.abs(new - g).max() < tol * eps, new
        if done:
            break
    P = np.exp((f[:, None] + g - C) / eps) / (n * m)
    entropy = (P * np.log(np.maximum(P * n * m, 1e-300))).sum()
    return (P * C).sum() + eps * entropy, (P * C).sum(), P


# ---------------------------------------------------------------- exact


@pytest.mark.parametrize(("n", "m"), [(40, 40), (37, 53), (60, 11)])
def test_wasserstein_is_the_optimum(n, m):
    X, Y = cloud(n, 5, 0, shift=2.0), cloud(m, 5, 1)
    assert wasserstein(X, Y) == pytest.approx(ot.emd2([], [], naive_costs(X, Y)), rel=1e-10)


def test_wasserstein_by_linear_programme():
    X, Y = cloud(6, 3, 0), cloud(4, 3, 1, shift=1.0)
    rows = np.concatenate([np.kron(np.eye(6), np.ones(4)), np.kron(np.ones(6), np.eye(4))])
    best = linprog(naive_costs(X, Y).ravel(), A_eq=rows, b_eq=np.r_[np.full(6, 1 / 6), np.full(4, 1 / 4)])
    assert wasserstein(X, Y) == pytest.approx(best.fun, rel=1e-9)


def test_wasserstein_of_a_translate_is_the_squared_shift():
    X, t = cloud(50, 6, 2), np.linspace(-1, 3, 6)
    assert wasserstein(X, X[::-1] + t) == pytest.approx(t @ t, rel=1e-10)


def test_wasserstein_on_a_line_is_the_sorted_one():
    x, y = cloud(31, 1, 3), cloud(31, 1, 4, shift=5)
    assert wasserstein(x, y) == pytest.approx(((np.sort(x, 0) - np.sort(y, 0)) ** 2).mean(), rel=1e-12)


def test_repeated_points_weigh_as_often_as_they_stand():
    """Three points against one: all mass goes to it; doubling every row of X changes nothing."""
    X, y = np.array([[0.0, 0], [1, 0], [5, 2]]), np.array([[1.0, 1], [1, 1]])
    assert wasserstein(X, y) == pytest.approx((2 + 1 + 17) / 3, rel=1e-12)
    Y = cloud(5, 2, 0)
    assert wasserstein(np.repeat(X, 2, axis=0), Y) == pytest.approx(wasserstein(X, Y), rel=1e-10)


@pytest.mark.parametrize(
    "measure", [wasserstein, bures, sliced, max_sliced, centroid, paired_displacement, euclidean]
)
def test_a_common_offset_and_heavy_norms_do_not_cancel(measure):
    """float32 |x|² + |y|² - 2xy reads 2.30 for 0.058 here; the offset is exact in float32, so nothing may
    change."""
    X = np.round(cloud(60, 8, 5) * 64) / 64
    Y = X + np.round(RNG(6).standard_normal(X.shape) * 8) / 64
    offset = np.r_[4096.0, np.zeros(6), -2048.0]
    far = [(Z + offset).astype(np.float32) for Z in (X, Y)]
    assert measure(*far) == pytest.approx(measure(X, Y), rel=1e-7)


def test_sinkhorn_takes_float64_where_float32_cannot_hold_it():
    """One token of norm 10⁴ among points of norm 1: the bound on float32's rounding passes eps."""
    X, Y = cloud(60, 8, 5), cloud(50, 8, 6)
    X[3] *= 1e4
    C = naive_costs(X, Y)
    made, eps = room.costs(room.prepare_cloud(X), room.prepare_cloud(Y), 0.05, 1e-3)
    assert made.dtype == np.float64
    np.testing.assert_allclose(made, C, rtol=1e-7)
    assert eps == pytest.approx(0.05 * np.median(C), rel=1e-9)
    assert room.costs(room.prepare_cloud(X[4:]), room.prepare_cloud(Y), 0.05, 1e-3)[0].dtype == np.float32


def test_the_bound_on_float32_rounding_holds():
    for shift in (0.0, 30.0):
        X, Y = room.prepare_cloud(cloud(80, 40, 7, shift)), room.prepare_cloud(cloud(70, 40, 8))
        off = np.abs(room.squared_distances(X, Y, np.float32) - naive_costs(X.points, Y.points)).max()
        assert 0 < off < room.rounding(X, Y)


# ---------------------------------------------------------------- entropic


@pytest.mark.parametrize(
    ("epsilon", "n", "m", "d"), [(0.05, 25, 40, 6), (0.5, 30, 31, 2), (0.02, 30, 18, 20)]
)
def test_sinkhorn_equals_the_log_domain_loop(epsilon, n, m, d):
    X, Y = cloud(n, d, 0, shift=0.7), cloud(m, d, 1)
    C = naive_costs(X, Y)
    eps = epsilon * np.median(C)
    value, cost, _ = naive_entropic(C, eps)
    own = [naive_entropic(naive_costs(Z, Z), eps)[0] for Z in (X, Y)]
    got = sinkhorn(X, Y, epsilon=epsilon, tol=1e-7, max_iter=5000)
    assert got.converged
    assert got.error < 1e-7
    assert got.epsilon == pytest.approx(eps, rel=1e-6)
    assert got.cost == pytest.approx(cost, rel=1e-5)
    assert got.divergence == pytest.approx(value - own[0] / 2 - own[1] / 2, rel=1e-6)
    loose = sinkhorn(X, Y, epsilon=epsilon)
    assert loose.converged
    assert loose.error < 1e-3
    assert loose.divergence == pytest.approx(
        got.divergence, rel=1e-4
    )  # dual: second order in the marginal error
    assert loose.cost == pytest.approx(cost, rel=2e-2)


def test_sinkhorn_cost_is_pot_s():
    X, Y = cloud(40, 4, 2), cloud(55, 4, 3, shift=1)
    C = naive_costs(X, Y)
    got = sinkhorn(X, Y, epsilon=0.1, tol=1e-6)
    pot = ot.sinkhorn2([], [], C, got.epsilon, stopThr=1e-12, numItermax=20000)
    assert got.cost == pytest.approx(float(pot), rel=1e-4)


def test_divergence_of_a_translate_is_the_squared_shift_whatever_epsilon():
    """For the squared distance entropic OT splits off the shift: OT_eps(X, X + t) = OT_eps(X, X) + |t|²."""
    X, t = cloud(60, 5, 4), np.linspace(-0.5, 1.0, 5)
    for epsilon in (0.02, 0.2, 2.0):
        got = sinkhorn(X, X[::-1] + t, epsilon=epsilon, tol=1e-6, max_iter=5000)
        assert got.divergence == pytest.approx(t @ t, rel=1e-4)


def test_limits_of_epsilon():
    """eps → 0 gives the exact distance; eps → ∞ gives |mean difference|² and the independent plan's cost."""
    X, Y = cloud(30, 4, 5), cloud(30, 4, 6, shift=1.5)
    small = sinkhorn(X, Y, epsilon=2e-3, tol=1e-4, max_iter=20000)
    assert small.converged
    assert small.divergence == pytest.approx(wasserstein(X, Y), rel=2e-3)
    large = sinkhorn(X, Y, epsilon=1e3, tol=1e-8)
    assert large.divergence == pytest.approx(centroid(X, Y) ** 2, rel=1e-2)
    assert large.cost == pytest.approx(naive_costs(X, Y).mean(), rel=1e-2)


def test_unconverged_says_so_and_keeps_its_error():
    X, Y = cloud(50, 2, 7), cloud(40, 2, 8, shift=3)
    got = sinkhorn(X, Y, epsilon=1e-3, max_iter=7)
    assert not got.converged
    assert got.iterations == 7
    assert got.error > 1e-3
    assert sinkhorn(X, Y, epsilon=1e-3, max_iter=30).iterations == 30
    C, eps = room.costs(room.prepare_cloud(X), room.prepare_cloud(Y), 1e-3, 1e-3)
    solved = room.couple(C, eps, 1e-3, 7)
    P = solved.left[:, None].astype(float) * solved.kernel * solved.right
    assert np.abs(P.sum(0) - 1 / 40).sum() + np.abs(P.sum(1) - 1 / 50).sum() == pytest.approx(
        got.error, rel=1e-3
    )


def test_a_self_term_that_has_not_converged_shows():
    own = room.own_values(room.prepare_cloud(cloud(90, 3, 1)), [0.5], 1e-3, 1)[0.5]
    assert own[1] > 1e-3
    for errors in ((1e-4, 2e-3, 1e-5), (1e-4, 1e-5, 2e-3), (2e-3, 1e-5, 1e-5)):
        got = _debiased((1.0, 2.0, 0.5, 3, errors[0]), (1.0, errors[1]), (1.5, errors[2]), 1e-3)
        assert (got.error, got.converged) == (2e-3, False)
        assert np.isnan([got.divergence, got.cost]).all()
    good = _debiased((1.0, 2.0, 0.5, 3, 1e-4), (1.0, 1e-5), (1.5, 1e-5), 1e-3)
    assert (good.converged, good.divergence, good.cost) == (True, 0.75, 1.0)


def test_a_self_term_takes_few_averaged_steps(monkeypatch):
    """Without the average the two halves of a self-problem swing about each other; here without acceleration
    too."""
    real = room.accelerate
    monkeypatch.setattr(room, "accelerate", lambda step, x, tol, most: real(step, x, tol, most, depth=0))
    for eps in (0.1, 1.0, 10.0):
        assert room.own_values(room.prepare_cloud(cloud(90, 3, 1)), [eps], 1e-3, 12)[eps][1] < 1e-3


def sinks(seed: int, count: int, norm: float, n: int = 300) -> np.ndarray:
    """A cloud of which `count` tokens stand far out on one axis, as attention sinks do."""
    rng = RNG(seed)
    X = rng.normal(size=(n, 576))
    X[:count, 3] += norm * (1 + 0.02 * rng.normal(size=count))
    return X


@pytest.mark.parametrize(("norm", "shrunk", "n"), [(3000, 1.05, 300), (3000, 1.0, 280), (1e5, 1.05, 300)])
def test_a_few_tokens_of_huge_norm_are_solved_by_annealing(norm: float, shrunk: float, n: int, monkeypatch):
    """The first try moves mass one eps a step and gave −7·10⁷ here; exact W2² bounds the divergence from
    above, and the noise of the other axes is all that lies between."""
    X, Y = sinks(1, 8, norm), sinks(2, 8, shrunk * norm, n)
    got, exact = sinkhorn(X, Y), wasserstein(X, Y)
    assert got.converged
    assert exact - 300 < got.divergence < exact
    monkeypatch.setattr(
        room, "_anneal", lambda C, eps, tol, turns: (_ for _ in ()).throw(KeyError("annealed"))
    )
    with pytest.raises(KeyError, match="annealed"):
        sinkhorn(X, Y)


def test_what_does_not_converge_is_never_a_number():
    """Unequal shares of sinks: mass must travel 10⁷ eps, or 5 steps must do."""
    for X, Y, turns in (
        (sinks(1, 3, 1e6, 60), sinks(2, 3, 1e6, 53), 200),
        (cloud(50, 2, 7), cloud(50, 2, 8, shift=3), 5),
    ):
        got = sinkhorn(X, Y, epsilon=1e-3, max_iter=turns)
        assert got.converged or np.isnan([got.cost, got.divergence]).all()
        assert not got.converged
    few = plan(cloud(50, 2, 7), cloud(50, 2, 8, shift=3), epsilon=1e-3, max_iter=5)
    assert not few.converged
    assert np.isnan([few.identity, few.entropy, few.concentration]).all()


def test_potentials_that_travel_far_are_absorbed():
    """Clusters 10⁴ eps apart need potentials far beyond float32's exponents."""
    X = np.concatenate([cloud(30, 2, 0), cloud(10, 2, 1, shift=40.0)])
    Y = np.concatenate([cloud(20, 2, 2), cloud(28, 2, 3, shift=-25.0)])
    C = naive_costs(X, Y)
    got = sinkhorn(X, Y, epsilon=0.01, max_iter=5000)
    assert got.converged
    value = naive_entropic(C, got.epsilon, tol=1e-8)[0]
    own = [naive_entropic(naive_costs(Z, Z), got.epsilon, tol=1e-8)[0] for Z in (X, Y)]
    assert got.divergence == pytest.approx(value - sum(own) / 2, rel=1e-5)


def test_acceleration_recovers_from_a_bad_direction():
    """A step that lies now and then (an error of 10, a NaN) is dropped, and the fixed point is still
    found."""
    A = np.diag(np.linspace(0.1, 0.97, 30))
    calls = []

    def step(x):
        calls.append(1)
        after = A @ x + 1
        error = np.abs(after - x).sum()
        if len(calls) == 6:
            return after * np.nan, float("nan")
        return after, 10.0 * error if len(calls) in (4, 9) else error

    x, iterations, error = room.accelerate(step, np.zeros(30), 1e-6, 400)
    assert error < 1e-6
    assert iterations == len(calls) < 100  # plain steps need about 500
    np.testing.assert_allclose(x, 1 / (1 - np.diag(A)), rtol=1e-4)


def test_equal_points_and_bad_options_are_refused():
    X = np.tile([0.1, 1e3 / 7, -1e-3 / 3], (20, 1))
    for measure in (sinkhorn, plan):
        for Y in (X, np.nextafter(X, np.inf)):  # equal to the last digit but one
            with pytest.raises(TransectError, match="median squared distance of 20 × 20 points is 0"):
                measure(X, Y)
        for options in (
            {"epsilon": 0.0},
            {"epsilon": -1.0},
            {"tol": 0.0},
            {"max_iter": 0},
            {"epsilon": np.nan},
        ):
            with pytest.raises(TransectError, match=f"{next(iter(options))}=.* Give "):
                measure(cloud(20, 3, 0), cloud(20, 3, 1), **options)
    results = sinkhorn.values([X[:, :3], cloud(20, 3, 0)], [(0, 0), (0, 1)])
    assert isinstance(results[0], TransectError)
    assert results[1].converged


@pytest.mark.parametrize("measure", [wasserstein, sinkhorn, bures])
def test_threads_give_what_one_thread_gives(measure):
    clouds = [cloud(30 + 7 * (k % 2), 6, k, shift=k) for k in range(5)]
    which = [(i, j) for i in range(5) for j in range(i)]
    with threadpool_limits(1):
        one = measure.values(clouds, which)
    with threadpool_limits(2):
        two = measure.values(clouds, which)
    np.testing.assert_allclose(np.array(two, dtype=float), np.array(one, dtype=float), rtol=1e-9, atol=1e-12)


def test_batches_on_torch_equal_the_definition():
    clouds = dict(
        enumerate(
            map(
                room.prepare_cloud, [cloud(40, 5, 0), cloud(40, 5, 1, 1.0), cloud(28, 5, 2), np.ones((40, 5))]
            )
        )
    )
    which = [(0, 1), (2, 0), (1, 0), (3, 3), (1, 2), (1, 1)]
    results = _solved(clouds, which, 0.05, 1e-4, 5000, "cpu")
    for pair, got in zip(which, results, strict=True):
        if pair == (3, 3):
            assert isinstance(got, TransectError)
            continue
        expected = sinkhorn(*(clouds[k].points for k in pair), epsilon=0.05, tol=1e-4, max_iter=5000)
        assert got.converged
        assert got.epsilon == pytest.approx(expected.epsilon, rel=1e-6)
        assert got.divergence == pytest.approx(expected.divergence, rel=1e-5, abs=1e-5)
        assert got.cost == pytest.approx(expected.cost, rel=2e-3)
        assert 0.7 < got.iterations / expected.iterations < 1.4
    together = _solved(clouds, which, 0.05, 1e-6, 5000, "cpu")
    for k in (0, 2, 5):  # a pair does not depend on its batch
        alone = _solved(clouds, [which[k]], 0.05, 1e-6, 5000, "cpu")[0]
        assert alone == pytest.approx(together[k], rel=1e-9, abs=1e-12)
    few = _solved(clouds, [(0, 1)], 0.01, 1e-6, 3, "cpu")[0]
    assert not few.converged
    assert few.iterations == 3


@pytest.mark.parametrize("tol", [1e-3, 1e-7])
def test_batches_agree_where_potentials_leave_their_kernels_and_in_float64(tol):
    rng = RNG(5)
    clouds = {k: room.prepare_cloud(cloud(60, 8, k, 2.0 * k, tail=0.6).astype(np.float32)) for k in range(6)}
    clouds[6] = room.prepare_cloud(1e-18 * rng.standard_normal((60, 8)))  # float32 holds no such squares
    which = [(i, j) for i in range(7) for j in range(i + 1, 7)]
    mine, theirs = (_solved(clouds, which, 0.02, tol, 4000, on) for on in ("cpu", None))
    for got, expected in zip(mine, theirs, strict=True):
        assert got.converged == expected.converged
        assert got.divergence == pytest.approx(expected.divergence, rel=30 * tol, abs=30 * tol * got.epsilon)
    assert sum(got.converged for got in mine) == len(which)


# ---------------------------------------------------------------- the plan


def test_plan_of_points_that_stay_is_the_identity():
    X = cloud(50, 30, 0)
    got = plan(X, X + 1e-3, epsilon=0.01)
    assert got.identity > 0.99
    assert got.entropy == pytest.approx(0, abs=0.01)
    assert got.concentration > 0.99


def test_plan_of_a_permutation_is_concentrated_but_not_the_identity():
    X = cloud(50, 30, 1)
    got = plan(X, np.roll(X, 1, axis=0), epsilon=0.01)
    assert got.identity < 0.01
    assert got.concentration > 0.99


def test_plan_at_large_epsilon_is_independent():
    got = plan(cloud(40, 5, 2), cloud(40, 5, 3), epsilon=1e4)
    assert got.entropy == pytest.approx(1, abs=1e-3)
    assert got.identity == pytest.approx(1 / 40, rel=1e-2)
    assert got.concentration == pytest.approx(1 / 40, rel=2e-2)


def test_plan_fields_are_those_of_the_naive_plan():
    X = cloud(40, 6, 4)
    Y = X + cloud(40, 6, 5, shift=0.3) * 0.6
    C = naive_costs(X, Y)
    P = naive_entropic(C, 0.2 * np.median(C), tol=1e-7)[2]
    got = plan(X, Y, epsilon=0.2, tol=1e-7, max_iter=10000)
    assert got.identity == pytest.approx(np.trace(P), rel=1e-4)
    assert got.entropy == pytest.approx(-(P * np.log(P)).sum() / np.log(40) - 1, rel=1e-4)
    assert got.concentration == pytest.approx((P.max(1) * 40).mean(), rel=1e-4)
    assert plan(X, Y, epsilon=1e-3, max_iter=3).marginal_error > 1e-3


# ---------------------------------------------------------------- companions


def test_bures_between_known_gaussians():
    """Points whose covariance is exact: commuting covariances give |Δmean|² + Σ (√a - √b)²."""
    a, b = np.array([4.0, 1.0, 0.25]), np.array([1.0, 9.0, 0.01])

    def exact(n, variances, mean, seed):
        Z = RNG(seed).standard_normal((n, 3))
        Z = np.linalg.qr(Z - Z.mean(0))[0] * np.sqrt(n)
        return Z * np.sqrt(variances) + mean

    t = np.array([1.0, -2.0, 0.5])
    got = bures(exact(20, a, 0.0, 0), exact(33, b, t, 1))
    assert got == pytest.approx(t @ t + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum(), rel=1e-10)


@pytest.mark.parametrize(("n", "m", "d"), [(60, 45, 7), (9, 30, 20), (50, 10, 20)])
def test_bures_equals_pot_and_bounds_wasserstein(n, m, d):
    X, Y = cloud(n, d, 0, shift=0.4), cloud(m, d, 1)
    got = bures(X, Y)
    covariances = [np.cov(Z.T, bias=True) + 1e-8 * np.eye(d) for Z in (X, Y)]  # POT takes no singular ones
    pot = ot.gaussian.bures_wasserstein_distance(X.mean(0), Y.mean(0), *covariances) ** 2
    assert got == pytest.approx(pot, rel=1e-3 if min(n, m) <= d else 1e-7)
    assert centroid(X, Y) ** 2 <= got <= wasserstein(X, Y)


def test_wasserstein_nears_the_gaussian_value_in_one_dimension():
    """N(0, 1) against N(3, 4): 9 + (1 - 2)² = 10; quantile grids of unequal length approach it."""
    from scipy.stats import norm

    x, y = (
        norm.ppf((np.arange(400) + 0.5) / 400)[:, None],
        3 + 2 * norm.ppf((np.arange(301) + 0.5) / 301)[:, None],
    )
    for measure in (wasserstein, sliced, max_sliced):
        assert measure(x, y) == pytest.approx(10, rel=1e-2)
    assert bures(x, y) == pytest.approx(10, rel=1e-2)


@pytest.mark.parametrize(("n", "m"), [(40, 40), (24, 36), (17, 40)])
def test_sliced_equals_pot_on_the_same_directions(n, m):
    X, Y = cloud(n, 5, 0, shift=1), cloud(m, 5, 1)
    drawn = RNG(3).standard_normal((5, 200))
    drawn /= np.linalg.norm(drawn, axis=0)
    pot = ot.sliced_wasserstein_distance(X, Y, projections=drawn) ** 2
    assert sliced(X, Y, projections=200, seed=3) == pytest.approx(float(pot), rel=1e-9)
    assert sliced(X, Y, seed=3) != sliced(X, Y, seed=4)


def test_sliced_of_a_translate_is_a_dth_of_the_squared_shift():
    X, t = cloud(50, 8, 0), np.linspace(0, 2, 8)
    assert sliced(X, X + t, projections=20000) == pytest.approx(t @ t / 8, rel=0.05)
    assert max_sliced(X, X + t) == pytest.approx(t @ t, rel=1e-6)


def test_max_sliced_climbs_and_stays_below_wasserstein():
    """Only one axis of 30 differs: random directions hardly see it, the ascent finds it."""
    X, Y = RNG(0).standard_normal((150, 30)), RNG(1).standard_normal((110, 30))
    Y[:, 4] = 6 * Y[:, 4] + 1
    start, reached = max_sliced(X, Y, steps=0), max_sliced(X, Y)
    axis = sliced(X[:, 4:5], Y[:, 4:5])
    assert sliced(X, Y) < start < reached <= wasserstein(X, Y)
    assert reached >= axis
    assert start < 0.7 * axis


@pytest.mark.parametrize("options", [{"projections": 0}, {"projections": -3}])
def test_projections_are_checked(options):
    for measure in (sliced, max_sliced):
        with pytest.raises(TransectError, match=r"projections ?= ?"):
            measure(cloud(9, 3, 0), cloud(8, 3, 1), **options)
    with pytest.raises(TransectError, match=r"steps ?= ?-1"):
        max_sliced(cloud(9, 3, 0), cloud(8, 3, 1), steps=-1)


def test_paired_distances():
    X, Y = np.array([[0.0, 0], [1, 1], [2, 5]]), np.array([[3.0, 4], [1, 1], [2, 4]])
    assert paired_displacement(X, Y) == pytest.approx((25 + 0 + 1) / 3)
    assert euclidean(X, Y) == pytest.approx((5 + 0 + 1) / 3)
    assert centroid(X, Y) == pytest.approx(np.hypot(3, 3) / 3)
    A, B = cloud(40, 4, 0), cloud(40, 4, 1, shift=1)
    assert wasserstein(A, B) < paired_displacement(A, B)
    assert euclidean(A, B) ** 2 < paired_displacement(A, B)


def test_one_basis_for_all_clouds():
    """Two clouds along different axes: the shared basis holds both, and in it their distance is the true
    one."""
    X = np.outer(RNG(0).standard_normal(80), [3.0, 0, 0, 0]) + 100
    Y = np.outer(RNG(1).standard_normal(30), [0.0, 0, 2, 0]) + 100
    basis = shared_basis([X, Y.astype(np.float32)], 2)
    stacked = np.concatenate([X, Y])
    expected = np.linalg.svd(stacked - stacked.mean(0))[1] ** 2
    np.testing.assert_allclose(basis.share, expected[:2] / expected.sum(), rtol=1e-5)
    np.testing.assert_allclose(basis.axes.T @ basis.axes, np.eye(2), atol=1e-12)
    assert basis.share.sum() == pytest.approx(1, rel=1e-9)
    assert wasserstein(basis.project(X), basis.project(Y)) == pytest.approx(wasserstein(X, Y), rel=1e-5)
    for k in (0, 5):
        with pytest.raises(TransectError, match=f"k = {k}"):
            shared_basis([X, Y], k)
    with pytest.raises(TransectError, match=r"\[3, 4\]"):
        shared_basis([X, Y[:, :3]], 2)
