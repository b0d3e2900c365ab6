"""Designs on planted stores: nulls of whole texts, runs that lose the same tokens, stores that were captured
anew."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import transect as ts
from planted import planted_store
from transect.errors import TransectError
from transect.inference.design import Design
from transect.inference.rows import quieted
from transect.numeric.permute import inner_products, restricted, row_sums, text_permutations
from transect.random import rng as stream

TEXTS, LENGTH, WIDTH = 30, 8, 12


def clustered(seed: int, icc: float = 0.5) -> np.ndarray:
    """Tokens that share a part with their text: variance 1, of which `icc` is the text's."""
    rng = np.random.default_rng(seed)
    own = rng.normal(size=(TEXTS * LENGTH, WIDTH))
    shared = np.repeat(rng.normal(size=(TEXTS, WIDTH)), LENGTH, axis=0)
    return np.sqrt(icc) * shared + np.sqrt(1 - icc) * own


def test_unrelated_views_with_text_effects_are_not_called_related(tmp_path: Path) -> None:
    """Whole texts permuted: at most a few in 24 unrelated pairs are rejected at 5 %. Tokens permuted within
    texts ask another question, and here too nothing is found."""
    layers = [clustered(k) for k in range(48)]
    store = planted_store(tmp_path / "s", layers, [LENGTH] * TEXTS)
    pairs = [(f"resid.{2 * k}", f"resid.{2 * k + 1}") for k in range(24)]
    given = {"pairs": pairs, "n": 200, "groups": 4, "permutations": 39, "workers": 1}
    for measure in ("cka", "knn_overlap", "procrustes"):
        table = ts.sweep(measure, store, **given)
        assert (table.column("p_cell") <= 0.05).mean() <= 0.17, measure
        assert (table.column("p") <= 0.05).mean() <= 0.05, "the family's p guards all 24"
        assert table.values("control") == ["permuted texts"]
    within = ts.sweep("cka", store, null="within", **given)
    assert within.values("control") == ["tokens permuted within texts"]
    assert (within.column("p_cell") <= 0.05).mean() <= 0.17


def test_what_texts_share_is_told_from_what_tokens_share(tmp_path: Path) -> None:
    """Views that agree in their texts' part alone: related by whole texts, unrelated within them."""
    rng = np.random.default_rng(0)
    shared = np.repeat(rng.normal(size=(TEXTS, WIDTH)), LENGTH, axis=0)
    layers = [shared + rng.normal(size=(TEXTS * LENGTH, WIDTH)) for _ in range(2)]
    store = planted_store(tmp_path / "s", layers, [LENGTH] * TEXTS)
    given = {"pairs": [("resid.0", "resid.1")], "n": 200, "groups": 4, "permutations": 99, "workers": 1}
    assert ts.sweep("cka", store, **given).column("p")[0] == pytest.approx(0.01)
    assert ts.sweep("cka", store, null="within", **given).column("p")[0] > 0.05


@pytest.mark.parametrize(("T", "k"), [(7, 3), (12, 1), (5, 8)])
def test_products_under_permutations_are_those_of_permuted_matrices(T: int, k: int) -> None:
    rng = np.random.default_rng(3)
    A, B = ((M + M.T).astype(np.float32) for M in rng.normal(size=(2, T * k, T * k)))
    order = text_permutations(T, 6, stream(0, "test"))
    assert (np.sort(order, axis=1) == np.arange(T)).all(), "every text once"
    wanted = []
    for p in order:
        rows = np.concatenate([np.arange(t * k, t * k + k) for t in p])
        wanted.append(
            sum(float(A[i, j]) * float(B[rows[i], rows[j]]) for i in range(T * k) for j in range(T * k))
        )
    np.testing.assert_allclose(inner_products(A, B, order, k), wanted, rtol=1e-4, atol=1e-3)
    S = rng.normal(size=(T, T))
    np.testing.assert_allclose(row_sums(S, order), [sum(S[s, p[s]] for s in range(T)) for p in order])


def test_runs_of_the_same_tokens_lose_the_same_tokens(tmp_path: Path) -> None:
    """A token that is massive in the second run alone is dropped in both, and both say how many."""
    X = clustered(1)
    Y = X.copy()
    Y[11] *= 200
    a = planted_store(tmp_path / "a", [X], [LENGTH] * TEXTS, name="a")
    b = planted_store(tmp_path / "b", [Y], [LENGTH] * TEXTS, name="b")
    table = ts.sweep("cka", [a, b], pairs="same", n=200, groups=4, workers=1)
    assert table.column("massive_dropped").tolist() == [1]
    assert table.column("value")[0] == pytest.approx(1, abs=1e-6), "without that token the runs are equal"
    kept = ts.sweep("cka", [a, b], pairs="same", massive=0, n=210, groups=4, workers=1)
    assert kept.column("massive_dropped").tolist() == [0]
    assert ts.sweep("mean_norm", [a, b], n=200, groups=4, workers=1).column("massive_dropped").tolist() == [
        1,
        1,
    ]


def test_a_half_sample_is_half_of_the_texts(tmp_path: Path) -> None:
    """The mean norm of a half-sample varies over texts as half of them do, and the same half is drawn at
    every site."""
    norms = np.repeat(np.arange(TEXTS) + 1.0, LENGTH)[:, None] * np.eye(WIDTH)[0]
    store = planted_store(tmp_path / "s", [norms, 2 * norms], [LENGTH] * TEXTS)
    found = ts.sweep("mean_norm", store, n=200, groups=5, halves=40, permutations=0, workers=1, massive=0)
    raw = np.array([r["halves"] for r in found], float)
    spread = np.arange(1, TEXTS + 1).std(ddof=1) * np.sqrt((1 - 0.5) / (TEXTS / 2))
    assert raw[0].std() == pytest.approx(spread, rel=0.4)
    np.testing.assert_allclose(raw[1], 2 * raw[0], rtol=1e-5)


def test_swaps_move_whole_texts(tmp_path: Path) -> None:
    """Texts of one site lie at +1, of the other at −1: a swap by text leaves means that vary as coins over
    texts do."""
    one = np.ones((TEXTS * LENGTH, 1)) * np.eye(WIDTH)[0] + 1e-3 * clustered(2)
    store = planted_store(tmp_path / "s", [one, -one], [LENGTH] * TEXTS)
    given = {"design": "paired", "swaps": 99, "n": 240, "groups": 4, "workers": 1}
    row = next(iter(ts.sweep("centroid", store, **given)))
    drawn = np.array(row["null_draws"])
    assert row["p"] == pytest.approx(0.01)
    assert row["control"] == "texts swapped"
    expected = 2 * np.sqrt(2 / np.pi) / np.sqrt(row["n_texts"])
    assert drawn.mean() == pytest.approx(expected, rel=0.2), "coins over texts, not over tokens"


def test_a_store_captured_anew_is_read_anew(tmp_path: Path) -> None:
    X = clustered(4)
    given = {"pairs": [("resid.0", "resid.1")], "n": 120, "groups": 4, "permutations": 0, "workers": 1}
    first = planted_store(tmp_path / "s", [X, X], [LENGTH] * TEXTS)
    assert ts.sweep("cosine", first, out=tmp_path / "o", **given).column("value")[0] == pytest.approx(1)
    shutil.rmtree(tmp_path / "s")
    second = planted_store(tmp_path / "s", [X, -X], [LENGTH] * TEXTS)
    assert ts.sweep("cosine", second, out=tmp_path / "o", **given).column("value")[0] == pytest.approx(-1)


def test_options_are_checked_where_they_are_declared(tmp_path: Path) -> None:
    store = planted_store(tmp_path / "s", [clustered(5)], [LENGTH] * TEXTS)
    for option, words in (
        ({"groups": -1}, "groups=-1"),
        ({"seed": -1}, "seed=-1"),
        ({"n": 1}, "n=1"),
        ({"massive": -2.0}, "massive=-2"),
        ({"permutations": -1}, "permutations=-1"),
    ):
        with pytest.raises(TransectError, match=words):
            ts.sweep("mean_norm", store, workers=1, **option)
    value = Design(n=40)
    assert value.replace(seed=3) == Design(n=40, seed=3)
    with pytest.raises(AttributeError, match="frozen"):
        value.n = 3
    with pytest.raises(TransectError, match="no option nn"):
        Design(nn=3)


def test_a_restricted_permutation_keeps_the_partners_that_stay() -> None:
    order, kept = text_permutations(9, 50, stream(1, "test")), np.arange(9) % 3 != 1
    names = np.flatnonzero(kept)
    for whole, part in zip(order, restricted(order, kept), strict=True):
        assert sorted(part) == list(range(6))
        for s, t in zip(names, names[part], strict=True):
            assert t == whole[s] or not kept[whole[s]]
    assert np.array_equal(restricted(order, np.ones(9, bool)), order)


def test_scatter_of_few_draws_is_taken_out_of_replicates() -> None:
    rng = np.random.default_rng(0)
    true = rng.normal(0, 1, (400, 10))
    raw = true[..., None] + rng.normal(0, 2, (400, 10, 8)) + rng.normal(0, 5, (400, 1, 8))
    found = np.mean([quieted(r).var(ddof=1) for r in raw])
    assert found == pytest.approx(1.0, abs=0.1)  # 1.5 as they come
    assert np.allclose([quieted(r).mean() for r in raw], raw.mean(axis=(1, 2)))
    assert np.allclose(quieted(true[0][:, None]), true[0])


def test_the_interval_of_an_excess_moves_with_its_null(tmp_path: Path) -> None:
    rng, draws, texts = np.random.default_rng(3), 60, 40
    views = []
    for _ in range(draws):  # the distance of unrelated tokens is what varies from texts to texts
        X = rng.standard_t(4, (texts, 1, 6)) + 0.7 * rng.standard_normal((texts, 4, 6))
        views += [v.reshape(-1, 6) for v in (X, X + 0.3 * rng.standard_normal(X.shape))]
    store = planted_store(tmp_path / "s", views, [4] * texts)
    pairs = [(f"resid.{k}", f"resid.{k + 1}") for k in range(0, 2 * draws, 2)]
    rows = ts.sweep("paired_displacement", store, pairs=pairs, n=160, permutations=19, workers=1, massive=0)
    truth = np.mean(rows.column("corrected"))
    ends = zip(rows.column("corrected_low"), rows.column("corrected_high"), strict=True)
    assert np.mean([low <= truth <= high for low, high in ends]) > 0.8  # with the null held still: 0.2
