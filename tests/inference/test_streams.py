"""Streamed measures equal the stored ones: whatever the blocks, their order, and who held which texts."""

import numpy as np
import pytest

import transect as ts
from tiny import make_texts, tiny_model, tiny_tokenizer
from transect.errors import TransectError
from transect.inference.accumulators import CKA, Sample, model_moments, spectral, stream, token_keys


def views(n: int = 157, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two views of unequal width and scale, far from the origin, partly alike."""
    rng = np.random.default_rng(seed)
    Z = rng.normal(size=(n, 5)) * [4, 2, 1, 1, 0.3]
    X = Z @ rng.normal(size=(5, 9)) + 0.5 * rng.normal(size=(n, 9)) + 30
    Y = Z[:, :3] @ rng.normal(size=(3, 6)) * 20 + rng.normal(size=(n, 6)) - 700
    return X, Y


@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("cuts", [[], [50], [1, 3, 60, 61, 150]])
def test_cka_from_blocks_is_cka(cuts: list[int], unbiased: bool) -> None:
    X, Y = views()
    sums = CKA(9, 6)
    for A, B in zip(np.split(X, cuts), np.split(Y, cuts), strict=True):
        sums.update(A, B)
    assert sums.freeze(unbiased) == pytest.approx(ts.measures.cka(X, Y, unbiased=unbiased), abs=1e-9)


def test_cka_of_two_processes_is_that_of_one() -> None:
    X, Y = views()
    first = CKA(9, 6).update(X[:70], Y[:70])
    second = first.like().update(X[70:], Y[70:])
    assert first.merge(second).freeze() == pytest.approx(ts.measures.cka(X, Y), abs=1e-9)
    with pytest.raises(TransectError, match="different points"):
        first.merge(CKA(9, 6).update(X, Y))
    with pytest.raises(TransectError, match="at least 4"):
        CKA(2, 2).update(X[:3, :2], Y[:3, :2]).freeze()
    assert np.isnan(CKA(2, 6).update(np.ones((20, 2)), Y[:20]).freeze())


def test_spectra_of_a_stream_are_those_of_a_store(tmp_path) -> None:
    model = ts.wrap_model(tiny_model("llama"), tiny_tokenizer(), "tiny")
    texts = make_texts(20)
    store = ts.capture(model, texts, tmp_path)
    for site, moments in model_moments(model, texts, ["resid"]).items():
        streamed = spectral(moments)
        assert {"participation_ratio", "effective_rank", "spectral_entropy", "stable_rank"} <= set(streamed)
        for name, value in streamed.items():
            stored = getattr(ts.measures, name)(store.points(site).astype(np.float64))
            assert value == pytest.approx(stored, rel=1e-4), (site, name)


def test_a_streamed_sample_is_that_of_the_store_and_of_its_halves(tmp_path) -> None:
    model = ts.wrap_model(tiny_model("llama"), tiny_tokenizer(), "tiny")
    texts = make_texts(20)
    store = ts.capture(model, texts, tmp_path)

    def sampled(part: ts.Texts) -> Sample:
        told = [Sample.empty(40, store.width("resid.2"))]

        def visit(rows: dict, owner: np.ndarray, position: np.ndarray) -> None:
            keys = [
                token_keys(part.ids[i], [p])[0]
                for i, p in zip(owner.tolist(), position.tolist(), strict=True)
            ]
            told[0] = told[0].update(np.array(keys, np.uint64), rows["resid.2"])

        stream(model, part, ["resid.2"], visit, batch_tokens=100)
        return told[0]

    whole = sampled(texts)
    halves = sampled(texts.subset(list(range(7)))).merge(sampled(texts.subset(list(range(7, 20)))))
    assert whole.seen == halves.seen == int(store.lengths.sum()) - len(store)
    assert np.array_equal(whole.keys, halves.keys)
    np.testing.assert_allclose(whole.points, halves.points, atol=1e-5)
    chosen = store.select("all", position0=False)
    names = [
        token_keys(store.ids[i], [p])[0]
        for i, p in zip(chosen.texts.tolist(), chosen.position.tolist(), strict=True)
    ]
    order = np.argsort(np.array(names, np.uint64))[:40]
    np.testing.assert_allclose(whole.points, store.take("resid.2", chosen.subset(order)), atol=1e-5)


def test_every_token_is_as_likely() -> None:
    """1000 tokens, samples of 100 under 400 seeds: counts scatter as a binomial does."""
    counts = np.zeros(1000)
    for seed in range(400):
        counts[np.argsort(token_keys("t", range(1000), seed))[:100]] += 1
    assert counts.mean() == 40
    assert counts.std() == pytest.approx(np.sqrt(400 * 0.1 * 0.9), rel=0.1)
