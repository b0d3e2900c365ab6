"""Probes on planted stores: what is there, what is not, and what any label could be read from."""

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression, Ridge

import transect as ts
from planted import planted_store
from transect.errors import TransectError
from transect.studies.probe.cells import interval
from transect.studies.probe.fit import held_out, score, targets, without
from transect.studies.probe.logistic import STRENGTHS, logistic

TEXTS, LENGTH, WIDTH = 60, 6, 8


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ts.Store:
    """resid.0 is noise; resid.1 holds a number and a class of the text; resid.2 the position."""
    rng = np.random.default_rng(0)
    number, kind = rng.normal(size=TEXTS) * 3 + 1, rng.integers(0, 3, TEXTS)
    noise = [rng.normal(size=(TEXTS * LENGTH, WIDTH)) for _ in range(3)]
    text, place = np.repeat(np.arange(TEXTS), LENGTH), np.tile(np.arange(LENGTH), TEXTS)
    noise[1] = noise[1] * 0.3 + np.outer(number[text], np.arange(WIDTH)) / 6
    noise[1][np.arange(len(text)), kind[text]] += 4
    noise[2] += np.outer(place, np.ones(WIDTH))
    labels = {"number": number.tolist(), "kind": [f"k{k}" for k in kind], "same": [1] * TEXTS}
    labels |= {"some": [None, *number[1:].tolist()], "few": [None, *"ab" * 29, "a"]}
    return planted_store(tmp_path_factory.mktemp("probe") / "s", noise, [LENGTH] * TEXTS, labels=labels)


def probe(store: ts.Store, label: str, **given: object) -> ts.Table:
    return ts.studies.probe(store, label=label, permutations=19, workers=1, **given).tables["probe"]


def test_what_is_there_is_read_and_noise_is_not(store: ts.Store) -> None:
    for label, kind, most in (
        ("number", "ridge", 0.9),
        ("kind", "classes", 0.95),
        ("number", "ordinal", 0.9),
    ):
        table = probe(store, label, kind=kind)
        noise, there, _ = table.column("value")
        assert there > most
        assert noise < 0.55
        assert table.column("p_max")[1] == pytest.approx(0.05)
        assert table.column("p_max")[0] > 0.05
        assert table.column("low")[1] <= there <= table.column("high")[1]


def test_position_is_a_label_that_every_store_has(store: ts.Store) -> None:
    table = probe(store, "position")
    assert table.column("value")[2] > 0.8
    assert abs(table.column("value")[0]) < 0.2
    assert table.column("n")[0] == TEXTS * (LENGTH - 1)
    assert table.column("n_texts")[0] == TEXTS


def test_copies_of_a_text_leak_unless_they_are_one_group(tmp_path: Path) -> None:
    """States are a random vector of the group, labels a random number of it: only leaks can be read."""
    rng = np.random.default_rng(1)
    group = np.repeat(np.arange(15), 4)
    states, number = rng.normal(size=(15, 40))[group], rng.normal(size=15)[group]
    X = np.repeat(states + 0.01 * rng.normal(size=states.shape), 2, axis=0)
    labels = {"number": number.tolist(), "g": [f"g{k}" for k in group]}
    store = planted_store(tmp_path / "s", [X], [2] * 60, labels=labels)
    assert probe(store, "number").column("value")[0] > 0.8
    table = probe(store, "number", hold_out="g")
    assert table.column("value")[0] < 0.3
    assert table.column("p_max")[0] > 0.05


def test_texts_of_one_document_are_held_out_together(tmp_path: Path) -> None:
    """States are a random vector of the document, labels a random number of it: only leaks can be read."""
    rng = np.random.default_rng(7)
    document = np.repeat(np.arange(15), [2, 6] * 7 + [4])
    states, number = rng.normal(size=(15, 40))[document], rng.normal(size=15)[document]
    X = states + 0.01 * rng.normal(size=states.shape)
    options = {"labels": {"number": number}, "tokens": [[int(k) + 3, 5] for k in document]}
    X = np.repeat(X, 2, axis=0).reshape(-1, 2, 40)
    texts = {"groups": [f"d{k}" for k in document]}, {}
    with_documents, without = (
        ts.store_from_arrays({"resid.0": list(X)}, tmp_path / f"s{k}", **options, **t)
        for k, t in enumerate(texts)
    )
    assert probe(without, "number").column("value")[0] > 0.8
    table = probe(with_documents, "number")
    assert table.column("value")[0] < 0.3
    assert table.column("n_texts")[0] == 15


def test_predictions_are_those_of_ridge_regression() -> None:
    rng = np.random.default_rng(2)
    X, y = rng.normal(size=(50, 6)) * [3, 1, 1, 2, 1, 0.2] + 5, rng.normal(size=50)
    y += X[:, 0]
    folds = [np.arange(0, 50, 2), np.arange(1, 50, 2)]
    found = held_out(X, y[:, None, None], folds, np.arange(50) // 2)
    errors = []
    for alpha in 10.0 ** np.arange(-6, 7):
        train = folds[1]
        s = np.linalg.svd(X[train] - X[train].mean(axis=0), compute_uv=False)
        told = Ridge(alpha=alpha * float((s**2).mean())).fit(X[train], y[train]).predict(X[folds[0]])
        errors.append(np.abs(told - found.predicted[folds[0], 0, 0]).max())
    assert min(errors) < 1e-8
    assert 0 < found.share < 1


@pytest.mark.parametrize("width", [6, 70])
def test_a_group_left_out_is_neither_trained_on_nor_judged(width: int) -> None:
    """Nobody left out: the probe's own predictions, on either Gram side; labels that are left out change
    nothing."""
    rng = np.random.default_rng(4)
    X, y = rng.normal(size=(50, width)) * 2 + 5, rng.normal(size=50)
    folds = [np.arange(0, 50, 2), np.arange(1, 50, 2)]
    made = held_out(X, y[:, None, None], folds, np.arange(50) // 2)
    whole = without(X, y[:, None], folds, made.ridges, np.ones(50, bool))
    np.testing.assert_allclose(whole, made.predicted[:, 0], rtol=1e-9)
    kept = np.arange(50) >= 10
    other = np.where(kept, y, 99.0)
    one, two = (without(X, values[:, None], folds, made.ridges, kept) for values in (y, other))
    np.testing.assert_array_equal(one, two)
    assert np.abs(one - whole[kept]).max() > 1e-6


def test_the_interval_holds_what_probes_of_other_texts_score(tmp_path: Path) -> None:
    """40 draws of 24 texts with half the variance read: nominal 95 %; leaving texts out of the judging alone
    gives 80 %."""
    rng = np.random.default_rng(5)
    layers = [rng.normal(size=(24, 8)) for _ in range(40)]
    labels = {f"y{k}": (X[:, 0] + rng.normal(size=24)).tolist() for k, X in enumerate(layers)}
    store = planted_store(tmp_path / "s", [np.repeat(X, 2, axis=0) for X in layers], [2] * 24, labels=labels)
    rows = []
    for k in range(40):
        asked = {"sites": f"resid.{k}", "permutations": 0, "workers": 1}
        rows += list(ts.studies.probe(store, label=f"y{k}", **asked).tables["probe"])
    mean = np.mean([r["value"] for r in rows])
    assert sum(r["low"] <= mean <= r["high"] for r in rows) >= 35


def test_scores_are_those_of_the_formulas() -> None:
    rng = np.random.default_rng(3)
    P, y = rng.normal(size=(30, 1, 1)), rng.normal(size=(30, 1))
    assert score(P, targets(y, "ordinal"), "ordinal")[0] == pytest.approx(
        spearmanr(P[:, 0, 0], y[:, 0]).statistic
    )
    expected = 1 - ((y - P[:, 0]) ** 2).sum() / ((y - y.mean()) ** 2).sum()
    assert score(P, targets(y, "ridge"), "ridge")[0] == pytest.approx(expected)
    code = np.array([[0], [0], [0], [1]])
    told = np.array([[[1.0, 0]], [[1, 0]], [[0, 1]], [[0, 1]]])
    assert score(told, targets(code, "classes"), "classes")[0] == pytest.approx((2 / 3 + 1) / 2)


def test_a_control_task_has_one_label_a_token_and_permutations_keep_the_labels(tmp_path: Path) -> None:
    """With one kind of token there is no control task, and none is reported."""
    from transect.studies.probe.cells import Probe, labellings, units_of

    rng = np.random.default_rng(4)
    store = planted_store(
        tmp_path / "s", [rng.normal(size=(120, 5))], [4] * 30, labels={"x": list(range(30))}
    )
    given = (str(store.path), store.content, "resid.0", "last", "x", "ridge", None, 5, 9, 10, 0)
    table = labellings(units_of(store, Probe(*given)), Probe(*given))
    assert table.shape == (30, 11)
    assert len(set(table[:, 1])) == 1, "one kind of token has one random label"
    assert all(sorted(table[:, k]) == sorted(table[:, 0]) for k in range(2, 11))
    assert probe(store, "x").where(status="ok").values("control_task") == []


def test_a_logistic_probe_is_scikit_learns_and_reads_classes(store: ts.Store) -> None:
    """On the axes of the training states it is the regression on the states themselves, of three lopsided
    classes, but for rounding."""
    rng = np.random.default_rng(5)
    y = np.repeat([0, 1, 2], [60, 30, 15])
    X = rng.standard_normal((105, 9)) * np.geomspace(0.2, 3, 9) + 1.5 * np.eye(3, 9)[y] + 4
    groups, folds = (
        rng.permutation(105) // 3,
        [np.arange(0, 105, 3), np.arange(1, 105, 3), np.arange(2, 105, 3)],
    )
    got = logistic(X, targets(y[:, None], "classes"), folds, groups).predicted[:, 0]
    train = np.setdiff1d(np.arange(105), folds[0])
    scale = np.sqrt(((X[train] - X[train].mean(0)) ** 2).sum(1).mean())
    there = []
    for C in STRENGTHS:
        made = LogisticRegression(C=C, class_weight="balanced", max_iter=2000, tol=1e-8)
        there.append(
            made.fit((X[train] - X[train].mean(0)) / scale, y[train]).predict_proba(
                (X[folds[0]] - X[train].mean(0)) / scale
            )
        )
    assert min(abs(p - got[folds[0]]).max() for p in there) < 2e-3
    few = {"groups": 3, "folds": 3}
    noise, read, _ = probe(store, "kind", kind="classes", classifier="logistic", **few).column("value")
    assert read > 0.95
    assert noise < 0.55
    with pytest.raises(TransectError, match="which is ridge"):
        probe(store, "number", kind="ridge", classifier="logistic")


@pytest.mark.parametrize(
    ("kind", "least", "most"), [("classes", 0, 1), ("ordinal", -1, 1), ("ridge", -99, 1)]
)
@pytest.mark.parametrize("value", [-1.0, 0.0, 0.06, 0.97, 1.0])
def test_an_interval_keeps_to_the_range_of_its_score(kind: str, least: int, most: int, value: float) -> None:
    low, high = interval(value, [value, min(value + 0.2, 1.0), max(value - 0.2, -1.0), value], kind)
    assert (max(least, value - 5) <= low <= value <= high <= most) or value < least


def test_four_texts_of_two_classes_have_no_p(tmp_path: Path) -> None:
    """Their labels can be put in six orders: no p is below one in six."""
    points = [np.repeat(np.eye(4) * 9, 3, axis=0)]
    few = planted_store(tmp_path / "s", points, [3] * 4, labels={"kind": ["a", "b", "a", "b"]})
    row = probe(few, "kind", folds=2)
    assert row.column("status") == ["ok"]
    assert [p is None or np.isnan(p) for p in (*row.column("p"), *row.column("p_max"))] == [True, True]


@pytest.mark.fault("bad input", "labels that no probe can learn", "refused, with what to change")
def test_bad_input_is_refused(store: ts.Store) -> None:
    for label, given, word in (
        ("same", {}, "one value"),
        ("nothing", {}, "label"),
        ("kind", {"kind": "ridge"}, "no number"),
        ("number", {"tokens": ["mean"]}, "tokens, not means"),
        ("number", {"folds": 99}, "folds"),
        ("some", {}, "1 of 60 texts have none"),
        ("few", {}, "1 of 60 texts have none"),
        ("number", {"hold_out": "few"}, "1 of 60 texts have none"),
    ):
        with pytest.raises(TransectError, match=word):
            probe(store, label, **given)
