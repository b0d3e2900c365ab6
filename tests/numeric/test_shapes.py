"""Every shape against a distance worked out by hand, on labels of unequal spacing; every stress against a
closed form."""

import numpy as np
import pytest

from transect.errors import TransectError
from transect.numeric import shapes, stress
from transect.numeric.shapes import SHAPES, find_shape

SQRT = np.sqrt

#: shape, parameters, two labels, their distance
TRUTHS = [
    ("circle", {"period": 12, "radius": 3}, 1, 4, 3 * SQRT(2)),  # a quarter turn
    ("circle", {"period": 12}, 12, 1, 2 * np.sin(np.pi / 12)),  # December is next to January
    ("circle", {"period": 7}, -3, 11, 0.0),
    ("semicircle", {"span": 90, "start": 10, "radius": 2}, 10, 100, 4.0),  # the ends are a diameter apart
    ("semicircle", {"span": 90, "start": 10, "radius": 2}, 10, 40, 2.0),  # a sixth of a turn: the radius
    ("line", {}, -3.5, 8, 11.5),
    ("log_line", {}, 5, 40, np.log(8)),
    ("log_line", {"offset": 1}, 0, 7, np.log(8)),
    ("spiral", {"period": 4, "inner": 0.5, "growth": 2}, 0, 4, 2.0),  # one turn on, straight outwards
    (
        "spiral",
        {"period": 4, "inner": 0.5, "growth": 2},
        0,
        2,
        2.0,
    ),  # half a turn: 0.5 and 1.5 on opposite sides
    ("helix", {"period": 24, "radius": 3, "pitch": 5}, 2, 26, 5.0),
    ("helix", {"period": 24, "radius": 3, "pitch": 5}, 2, 14, SQRT(36 + 6.25)),
    ("discrete_circle", {"period": 7}, 6, 1, 2.0),
    ("discrete_circle", {"period": 12}, 12, 1, 1.0),
    ("discrete_circle", {"period": 12}, 3, 9, 6.0),
    ("chain", {"reach": 2}, 3, 5, 2.0),
    ("chain", {"reach": 2}, 3, 5.5, np.nan),
    ("chain", {"reach": 1}, 1, 12, np.nan),
    ("closed_chain", {"period": 12, "reach": 1}, 1, 12, 1.0),
    ("closed_chain", {"period": 12, "reach": 1}, 1, 7, np.nan),
    ("clusters", {}, 4, 9, 1.0),
    ("clusters", {}, "aunt", "aunt", 0.0),
    ("hierarchy", {"levels": (9, 4, 1)}, [1, 2, 3], [1, 2, 8], 1.0),
    ("hierarchy", {"levels": (9, 4, 1)}, [1, 2, 3], [1, 5, 3], 4.0),
    ("hierarchy", {"levels": (9, 4, 1)}, [1, 2, 3], [7, 2, 3], 9.0),
    ("hierarchy", {}, [1, 2, 3], [1, 2, 4], 1.0),
    ("polytope", {"values": [3, 8]}, 3, 8, 2.0),  # two vertices repel to opposite ends
    ("cylinder", {"period": 360, "radius": 2}, [1, 10], [4, 190], 5.0),  # height 3, across 4
    ("sphere", {"radius": 2}, [90, 17], [-90, 40], 4.0),  # pole to pole; longitude means nothing there
    ("sphere", {"radius": 2}, [0, -90], [0, 0], 2 * SQRT(2)),
    ("geodesic", {"radius": 2}, [0, -90], [0, 0], np.pi),
    ("geodesic", {}, [90, 17], [-90, 40], np.pi),
    ("torus", {"periods": (12, 7), "radii": (3, 1)}, [1, 2], [7, 2], 6.0),
    ("torus", {"periods": (12, 7), "radii": (3, 1)}, [1, 2], [13, 9], 0.0),
    ("torus", {"periods": (1, 1), "radii": (3, 4)}, [0.1, 0.2], [0.6, 0.7], 10.0),
    ("torus", {}, [0.95, 0.2], [0.05, 0.8], 2 * SQRT(np.sin(np.pi * 0.1) ** 2 + np.sin(np.pi * 0.4) ** 2)),
    ("klein_bottle", {}, [0.95, 0.2], [0.05, 0.8], 0.1),  # over the seam, turned over
    ("klein_bottle", {}, [0.95, 0.2], [0.05, 0.2], SQRT(0.1**2 + 0.4**2)),
    ("klein_bottle", {"periods": (10, 4)}, [1, 3.9], [1, 0.1], 0.2),
    ("klein_bottle", {}, [0.3, 0.2], [1.3, 0.8], 0.0),
]


@pytest.mark.parametrize(("name", "given", "a", "b", "truth"), TRUTHS)
def test_distance_by_hand(name, given, a, b, truth):
    D = find_shape(name).distances(np.array([a, b, a]), **given)
    assert D[0, 1] == pytest.approx(truth, abs=1e-9, nan_ok=True)
    assert D[0, 2] == pytest.approx(0, abs=1e-9)
    assert np.allclose(D, D.T, equal_nan=True)


def test_graph_walks_along_a_bent_row_of_labels():
    """A right angle of unit steps: with two neighbours each, the way from end to end goes round the
    corner."""
    corner = np.array([[0, 0], [1, 0], [2, 0], [3, 0], [3, 1], [3, 2.0]])
    D = find_shape("graph").distances(corner, neighbours=1)
    assert D[0, 5] == pytest.approx(5)
    assert D[0, 3] == pytest.approx(3)
    far = find_shape("graph").distances([0.0, 1, 2, 50, 51, 52], neighbours=2)
    assert np.isnan(far[0, 3])
    assert far[3, 5] == pytest.approx(2)
    held_out = find_shape("graph").distances(corner[[0, 5]], neighbours=1, values=corner)
    assert held_out[0, 1] == pytest.approx(5), "paths run over all values, also those not asked for"


def test_polytope_vertices():
    """Four vertices in three dimensions repel to a regular tetrahedron, edge √(8/3); the seed turns it, not
    more."""
    first, other = (find_shape("polytope").distances([5, 1, 1, 9, 30], seed=s) for s in (0, 1))
    off = first[np.ix_([0, 1, 3, 4], [0, 1, 3, 4])][np.triu_indices(4, 1)]
    assert off == pytest.approx(np.full(6, SQRT(8 / 3)), abs=1e-4)
    assert np.allclose(first, other, atol=1e-4)
    assert first[1, 2] == pytest.approx(0, abs=1e-6)
    with pytest.raises(TransectError, match=r"label 7.0 has no vertex"):
        find_shape("polytope").distances([5, 7], values=[1, 5, 9])


def test_labels_are_never_rescaled():
    """A subset of labels has the same distances as it has among all labels."""
    rng = np.random.default_rng(0)
    y, pair = rng.integers(1, 12, 9).astype(float), rng.uniform(0, 5, (9, 2))
    for kind in SHAPES.values():
        if not kind.of_set:
            labels = pair if kind.columns == 2 else y
            given = {"span": 20} if kind.name == "semicircle" else {}
            whole = kind.distances(labels, **given)
            assert np.allclose(kind.distances(labels[3:7], **given), whole[3:7, 3:7], equal_nan=True), (
                kind.name
            )


@pytest.mark.parametrize(
    ("name", "labels", "given", "told"),
    [
        ("ring", [1], {}, "no shape 'ring'"),
        ("circle", [1, 2], {"perod": 3}, "no parameter perod"),
        ("circle", [1, 2], {"period": 0}, "period is 0"),
        ("circle", ["a", "b"], {}, "needs numbers as labels"),
        ("circle", [[1, 2]], {}, "got shape"),
        ("sphere", [1, 2], {}, "needs labels with 2 columns"),
        ("sphere", [[95, 2]], {}, "1 of 1 labels are off its domain"),
        ("semicircle", [0, 0.5, 3], {}, "1 of 3 labels are off its domain .first: 3"),
        ("log_line", [0, 1], {}, "1 of 2 labels are off its domain"),
        ("spiral", [-5.0], {}, "off its domain"),
        ("discrete_circle", [1.5, 2], {}, "no whole number"),
        ("hierarchy", [[1, 2]], {"levels": (1, 2)}, "none greater than"),
        ("line", [1.0, np.nan], {}, "1 labels are not finite"),
    ],
)
def test_bad_labels_and_parameters(name, labels, given, told):
    with pytest.raises(TransectError, match=told):
        find_shape(name).distances(np.array(labels), **given)


# stress

D = np.array([3.0, 4.0, 12.0])  # ΣD² = 169


def test_scale_normalised_stress_is_the_sine_of_the_angle():
    assert stress.scale_normalised(D, 7 * D) == pytest.approx(0, abs=1e-12)
    assert stress.scale_normalised([3.0, 4.0], [4.0, 3.0]) == pytest.approx(SQRT(1 - (24 / 25) ** 2))
    assert stress.scale_normalised(D, 0 * D) == 1.0
    assert stress.normalised(D, 0.5 * D) == pytest.approx(0.5)
    assert stress.normalised(D, [3.0, 4.0, 25.0]) == pytest.approx(1.0)


def test_tilted_ring():
    """A ring in 6 axes has two equal variances t/2 of a trace t; a ridge of r times the mean variance shrinks
    the fit to 1 / (1 + r/3), so the stress without a fitted scale is (r/3) / (1 + r/3): 1/4 at r = 1."""
    from transect.numeric.smds import SupervisedMDS

    y = np.arange(60) % 12
    ring = np.column_stack([np.cos(np.pi * y / 6), np.sin(np.pi * y / 6)])
    tilt = np.linalg.qr(np.random.default_rng(3).standard_normal((6, 6)))[0][:2]
    X = 5.0 * ring @ tilt + np.array([9.0, -2, 0, 30, 1, 4])
    mean_variance = ((X - X.mean(0)) ** 2).sum() / 6
    fitted = SupervisedMDS("circle", period=12, alpha=mean_variance, metric="normalised").fit(X, y)
    assert fitted.score(X, y) == pytest.approx(1 - 0.25)
    assert fitted.set_params(metric="scale_normalised").score(X, y) == pytest.approx(1.0)


def test_rank_stresses_see_only_order():
    assert stress.non_metric(D, D**3) == pytest.approx(0, abs=1e-12)
    # order 1 2 3 4, fitted 1 4 2 4: the best monotone curve pools 4, 2 to 3: √(2 / 37)
    assert stress.non_metric([1, 2, 3, 4.0], [1, 4, 2, 4.0]) == pytest.approx(SQRT(2 / 37))
    assert stress.shepard(D, np.exp(D)) == pytest.approx(1.0)
    assert stress.shepard([1, 2, 3, 4.0], [1, 3, 2, 9.0]) == pytest.approx(1 - 6 * 2 / (4 * 15))


def test_kl_by_hand():
    """Three points: each has two neighbours, so each row is a logistic in (d₁² − d₂²)/2σ²."""

    def share(a, b):
        return 1 / (1 + np.exp((a**2 - b**2) / 2))

    A = np.array([[0, 1, 2.0], [1, 0, 1.5], [2, 1.5, 0]])
    B = np.array([[0, 1, 1.0], [1, 0, 2.5], [1, 2.5, 0]])
    truth = 0.0
    for i in range(3):
        j, k = [m for m in range(3) if m != i]
        p, q = share(A[i, j], A[i, k]), share(B[i, j], B[i, k])
        truth += (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))) / 3
    assert stress.kl(A, B) == pytest.approx(truth)
    assert stress.kl(A, A) == pytest.approx(0, abs=1e-12)
    assert stress.kl(A, B, sigma=100) < 1e-6


def test_undefined_pairs_do_not_count():
    matrix = np.array([[0, 3, np.nan], [3, 0, 4], [np.nan, 4, 0.0]])
    fitted = np.array([[0, 6, 77], [6, 0, 8], [77, 8, 0.0]])
    for name, (measure, _) in stress.STRESS.items():
        if name not in ("normalised", "kl"):
            assert stress.score(name, matrix, fitted) == pytest.approx(1.0), name
        assert np.isfinite(measure(matrix, fitted)), name


def test_stress_that_is_not_defined_says_so():
    with pytest.raises(TransectError, match="no pair has a target"):
        stress.scale_normalised(np.zeros((3, 3)), np.ones((3, 3)))
    with pytest.raises(TransectError, match="not defined"):
        stress.shepard([1.0, 2.0], [3.0, 3.0])
    with pytest.raises(TransectError, match="no stress"):
        stress.score("R2", D, D)
    with pytest.raises(TransectError, match="same pairs"):
        stress.normalised(D, D[:2])


def test_aliases_and_help():
    assert find_shape("euclidean") is SHAPES["line"]
    assert all(kind.summary.endswith((".", ";")) or len(kind.summary) > 20 for kind in SHAPES.values())
    assert shapes.find_shape("torus").parameters == {"periods": (1.0, 1.0), "radii": (1.0, 1.0)}
