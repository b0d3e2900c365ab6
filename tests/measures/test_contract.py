"""The contract every measure inherits: what it declares holds on lopsided data, for whatever is in the
registry."""

import inspect
import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from transect.errors import TransectError
from transect.measures.arrays import as_points
from transect.measures.registry import find, registry

MEASURES = registry()
CLOUDS = [m for m in MEASURES.values() if "y" not in m.data]
TWO = [m for m in MEASURES.values() if m.data == ("X", "Y")]
FAST = [m for m in MEASURES.values() if m._pairs is not None]
DECLARED = [(m, what) for m in MEASURES.values() for what in sorted(m.invariant_to)]


def lopsided(n, d, seed, shift=0.0):
    """Unequal scales, a heavy tail, an offset of its own: no symmetry that could hide a fault."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d)) @ rng.standard_normal((d, d)) * rng.gamma(1.0, size=d)
    return X * rng.gamma(4.0, size=(n, 1)) / 4 + np.linspace(-1, 2, d) + shift


def data_for(measure, seed=0):
    """Arrays for the measure's signature: unequal n where rows are not paired, unequal widths where they may
    differ."""
    n, d = 61, 7
    X = lopsided(n, d, seed)
    if "y" in measure.data:
        return [X, np.linspace(0.0, 0.9, n) ** 2]
    if "Y" not in measure.data:
        return [X]
    if not measure.one_space:
        return [X, np.tanh(X @ lopsided(d, 5, seed + 1)) + lopsided(n, 5, seed + 2) / 9]
    Y = X * 0.8 + lopsided(n, d, seed + 2, shift=0.3) / 2
    return [X, Y if measure.paired else np.concatenate([Y, lopsided(13, d, seed + 3)])]


def numbers(result):
    return np.array([float(v) for v in (result if isinstance(result, tuple) else [result])])


def scale_of(*clouds):
    """Largest squared size of the data about its mean: rounding and solver tolerances are relative to it."""
    return max(float(((X - X.mean(axis=0)) ** 2).sum(axis=1).mean()) for X in clouds)


def transformed(what, arrays, seed=5):
    """The data after a map under which `what` says nothing changes; labels stay as they are."""
    rng = np.random.default_rng(seed)
    out, shared = [], {}
    for k, X in enumerate(arrays):
        if k and X.ndim == 1:
            return [*out, X]
        d = X.shape[1]
        key = d if what.startswith("common") else (k, d)
        if key not in shared:
            turn = np.linalg.qr(rng.standard_normal((d, d)))[0]
            shared[key] = (
                turn,
                1.7 + k * 0.9,
                rng.standard_normal(d) * 40,
                rng.standard_normal((d, d)) + 2 * turn,
            )
        turn, factor, offset, full = shared[key]
        kind = what.removeprefix("common ")
        out.append(
            {
                "rotation": lambda X=X, a=turn: X @ a,
                "isotropic scaling": lambda X=X, a=factor: X * a,
                "scaling": lambda X=X, a=factor: X * a,
                "translation": lambda X=X, a=offset: X + a,
                "linear": lambda X=X, a=full: X @ a,
                "feature scaling": lambda X=X, d=d: X * np.linspace(0.3, 4.0, d),
                "row order": lambda X=X: X[rng.permutation(len(X))],
            }[kind]()
        )
    return out


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
def test_says_what_it_is(measure):
    assert measure.summary.endswith("."), "line 1: what, units, range"
    assert len(measure.summary) > 20
    assert len(inspect.cleandoc(measure.__doc__).split("\n")) >= 3, "then bias, assumption, what raises"
    assert any(ch.isdigit() for ch in measure.source), "authors, year, identifier"
    assert find(measure.name) is measure


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
def test_options_have_defaults_and_unknown_ones_are_refused(measure):
    assert all(option.default is not inspect.Parameter.empty for option in measure.options.values())
    assert set(measure.defaults({})) == set(measure.options)
    with pytest.raises(TransectError, match="no option"):
        measure(*data_for(measure), not_an_option=1)


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
def test_returns_plain_finite_numbers_and_repeats_itself(measure):
    result = measure(*data_for(measure))
    values = list(result) if isinstance(result, tuple) else [result]
    assert all(type(v) in (float, int, bool) for v in values), [type(v) for v in values]
    assert math.isfinite(measure.headline_of(result))
    assert numbers(measure(*data_for(measure))).tolist() == numbers(result).tolist()


@pytest.mark.parametrize("measure", [m for m in TWO if m.itself is not None], ids=lambda m: m.name)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_value_on_itself(measure, dtype):
    X = data_for(measure)[0].astype(dtype)
    got = measure.headline_of(measure(X, X.copy()))
    size = scale_of(X) if measure.itself == 0 else 1.0
    assert abs(got - measure.itself) < 1e-5 * size, f"{measure.name}(X, X) = {got}, declared {measure.itself}"


@pytest.mark.parametrize(("measure", "what"), DECLARED, ids=[f"{m.name}-{w}" for m, w in DECLARED])
def test_declared_invariance(measure, what):
    data = data_for(measure, seed=3)
    expected = measure.headline_of(measure(*data))
    got = measure.headline_of(measure(*transformed(what, data)))
    assert got == pytest.approx(expected, rel=2e-4, abs=1e-7), (
        f"{measure.name} under {what}: {expected} became {got}"
    )


@pytest.mark.parametrize("measure", TWO, ids=lambda m: m.name)
def test_undeclared_frame_changes_count(measure):
    """A distance in one frame must see that one cloud alone was moved; otherwise the declaration is
    incomplete."""
    if not measure.one_space or "translation" in measure.invariant_to:
        return
    X, Y = data_for(measure, seed=4)
    before, after = (measure.headline_of(measure(X, Z)) for Z in (Y, Y + np.linspace(2, 9, Y.shape[1])))
    assert abs(after - before) > 1e-3 * abs(before)


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
def test_every_kind_of_array_gives_the_same_value(measure):
    data = [
        np.round(X * 8) / 8 if k == 0 or X.ndim == 2 else X for k, X in enumerate(data_for(measure, seed=6))
    ]
    data = [
        np.clip(X, -15, 15) if X.ndim == 2 else X for X in data
    ]  # multiples of 1/8 up to 15: exact in bfloat16

    def value(convert, factor=1):
        return measure.headline_of(measure(*(convert(X * factor) if X.ndim == 2 else X for X in data)))

    expected = value(np.asarray)
    for convert in (
        np.float32,
        np.float16,
        np.asfortranarray,
        torch.from_numpy,
        lambda X: torch.from_numpy(X).half(),
        lambda X: torch.from_numpy(X).bfloat16().requires_grad_(),
        lambda X: X.tolist(),
    ):
        np.testing.assert_allclose(value(convert), expected, rtol=2e-4, atol=2e-5)
    whole = value(np.asarray, 8)
    np.testing.assert_allclose(value(lambda X: X.astype(np.int32), 8), whole, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
def test_bad_arrays_are_the_users_error(measure):
    data = data_for(measure)
    rest = data[1:]
    for bad in (np.nan, np.inf):
        X = data[0].copy()
        X[4, 2] = bad
        with pytest.raises(TransectError, match="not finite in 1 of"):
            measure(X, *rest)
    with pytest.raises(TransectError, match="must be"):
        measure(data[0][:, 0], *rest)
    with pytest.raises(TransectError, match="must hold real"):
        measure(data[0] + 1j, *rest)
    with pytest.raises(TransectError, match="must be"):
        measure(data[0][:0], *(Z[:0] for Z in rest))
    if measure.min_points > 1:
        few = measure.min_points - 1
        with pytest.raises(TransectError, match=f"at least {measure.min_points} points"):
            measure(*(Z[:few] for Z in data))
    with pytest.raises(TransectError, match="takes"):
        measure(*data, data[0])


@pytest.mark.parametrize("measure", TWO, ids=lambda m: m.name)
def test_clouds_that_do_not_belong_together_are_refused(measure):
    X, Y = data_for(measure)
    if measure.paired:
        with pytest.raises(TransectError, match="same points"):
            measure(X[:-1], Y)
        assert isinstance(measure.values([X[:-1], Y], [(0, 1)])[0], TransectError)
    if measure.one_space:
        with pytest.raises(TransectError, match="one space"):
            measure(X, Y[:, :-1])
        assert isinstance(measure.values([X, Y[:, :-1]], [(0, 1)])[0], TransectError)


@pytest.mark.parametrize("measure", CLOUDS, ids=lambda m: m.name)
def test_values_equal_the_definition(measure):
    """`values`, by the fast path where there is one, on clouds of unequal size, offset and scale; an error
    stands alone."""
    X = data_for(measure, seed=8)[0]
    clouds = [X.astype(np.float32), X * 0.7 + 3, lopsided(61, 7, 9, shift=1.0), np.full((61, 7), np.nan)]
    if not measure.paired:
        clouds[1] = clouds[1][:37]
        clouds.append(lopsided(29, 7, 10))
    if measure.data == ("X",):
        which = [(2,), (0,), (1,), (3,)]
    else:
        which = [(0, 1), (2, 0), (1, 1), (2, 1), (0, 3)] + ([] if measure.paired else [(4, 2)])
    results = measure.values(clouds, which)
    assert len(results) == len(which)
    for pair, result in zip(which, results, strict=True):
        if 3 in pair:
            assert isinstance(result, TransectError)
        else:
            definition = numbers(measure.func(*(as_points(clouds[k]) for k in pair)))
            np.testing.assert_allclose(numbers(result), definition, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("measure", FAST, ids=lambda m: m.name)
def test_a_pair_does_not_depend_on_the_other_pairs(measure):
    """Resuming a sweep must not change a cell."""
    if measure.data != ("X", "Y"):
        return
    clouds = [lopsided(41, 7, seed, shift=seed) for seed in range(4)]
    which = [(0, 1), (2, 3), (1, 3), (0, 0)]
    together = measure.values(clouds, which)
    alone = [measure.values(clouds, [pair])[0] for pair in which]
    np.testing.assert_allclose(
        [numbers(r) for r in together], [numbers(r) for r in alone], rtol=1e-7, atol=1e-9
    )


@pytest.mark.parametrize("module", ["similarity", "subspaces", "contract"])
def test_a_file_of_measures_can_be_imported_first(module: str) -> None:
    code = f"import transect.measures.{module} as m, transect as ts; ts.measures.cka; print(m.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == f"transect.measures.{module}", done.stderr


@pytest.mark.parametrize("m", [m for m in TWO if m.cheap_null], ids=lambda m: m.name)
@pytest.mark.parametrize("per_text", [1, 4])
def test_draws_of_the_null_are_values_of_permuted_texts(m, per_text):
    """What re-uses Gram matrices and neighbours equals the value on rows that are moved text by text."""
    clouds = [A[:60] for A in data_for(m)]
    order = np.array([np.random.default_rng(k).permutation(60 // per_text) for k in range(4)])
    rows = [(p[:, None] * per_text + np.arange(per_text)).ravel() for p in order]
    wanted = [m.values([clouds[0], clouds[1][r]], [(0, 1)], {}, per_text)[0] for r in rows]
    assert m.null_values(clouds, [(0, 1)], order, per_text)[0] == pytest.approx(wanted, abs=2e-6)
