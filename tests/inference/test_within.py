"""Numbers per text: planted clusters and paths, nulls from other texts, gradients that do not know the length
of a text."""

import numpy as np
import pytest
import torch

import transect as ts
from planted import planted_store
from tiny import tiny_model, tiny_tokenizer
from transect.errors import TransectError
from transect.inference.per_text import summary, trajectories, windows, within
from transect.models.gradients import token_gradients
from transect.models.models import wrap_model
from transect.studies.tokens.gradients import Gradients, gradient_rows

LENGTHS = [9, 14, 7, 12, 4, 11, 16, 8]


def test_windows_are_of_one_size_and_leave_out_what_is_too_short(tmp_path):
    X = np.arange(sum(LENGTHS), dtype=np.float32)[:, None] * [1, 10]
    store = planted_store(tmp_path / "s", [X], LENGTHS)
    cut = windows(store, 6)
    assert cut.rows.shape == (7, 6)
    assert cut.short == 1
    assert cut.texts.tolist() == [0, 1, 2, 3, 5, 6, 7]
    assert cut.rows[1].tolist() == list(range(10, 16)), "text 1 begins at row 9, its position 0 is left out"
    np.testing.assert_array_equal(cut.points(store, "resid.0")[1, :, 1], 10.0 * np.arange(10, 16))
    assert windows(store, position0=True, window=4).rows[4].tolist() == list(range(42, 46))
    assert windows(store).rows.shape[1] == 6, "four texts in five have as many"
    with pytest.raises(TransectError, match="2 texts have 13 tokens"):
        windows(store, 13)


def test_texts_with_a_direction_of_their_own_are_told_from_mixed_ones(tmp_path):
    """Text i lies about its own axis: cosine 36/37 within (noise 1 beside 6), near 0 when tokens are dealt to
    other texts."""
    rng = np.random.default_rng(0)
    axes = np.repeat(np.eye(8, 40), LENGTHS, axis=0) * 6
    noise = rng.standard_normal((sum(LENGTHS), 40)) / np.sqrt(40)
    store = planted_store(tmp_path / "s", [axes + noise, noise + 0.01], LENGTHS)
    asked = [
        ("anisotropy", "zero", {}),
        ("anisotropy", "mean", {}),
        ("cluster_count", "zero", {"cosine": 0.8}),
        ("rank_residual", "zero", {}),
    ]
    table = within(asked, [store], window=6)
    own = table.where(site="resid.0", measure="anisotropy", about="zero")
    assert own.column("value")[0] == pytest.approx(36 / 37, abs=0.02)
    assert own.column("null")[0] < 0.35
    assert np.isnan(own.column("p")[0]), "five draws cannot reach 0.05, so there is no p"
    many = within(asked[:1], [store], window=6, draws=39).where(site="resid.0")
    assert many.column("p")[0] == pytest.approx(2 / 40), "none of 39 draws is as extreme"
    assert own.column("low")[0] < own.column("value")[0] < own.column("high")[0]
    assert table.where(site="resid.0", measure="cluster_count").column("value")[0] == 1
    assert table.where(site="resid.0", measure="rank_residual").column("value")[0] == pytest.approx(
        np.sqrt(1 / 37 * 5 / 6), abs=0.02
    )
    flat = table.where(site="resid.1", measure="anisotropy", about="zero")
    apart = table.where(site="resid.0", measure="anisotropy", about="mean")
    assert apart.column("null")[0] == pytest.approx(-1 / 6, abs=0.05), (
        "seven axes about their mean are 1/6 apart"
    )
    assert abs(flat.column("corrected")[0]) < 0.1
    with pytest.raises(TransectError, match="no measure of one cloud"):
        within([("cka", "zero", {})], [store])


def test_paths_on_a_polygon_turn_and_lengthen_as_it_does(tmp_path):
    """Steps of 3 that turn by 40° each, in a plane of their own for every token; another token's steps are at
    random."""
    rng = np.random.default_rng(1)
    count, turn = sum(LENGTHS), np.deg2rad(40)
    planes = np.linalg.qr(rng.standard_normal((count, 30, 2)))[0]
    at, layers = np.zeros((count, 2)), []
    for k in range(5):
        layers.append(np.einsum("nij,nj->ni", planes, at) + 100)
        at = at + 3 * np.array([np.cos(k * turn), np.sin(k * turn)])
    table = trajectories([planted_store(tmp_path / "s", layers, LENGTHS)], window=5)
    angles = table.where(measure="turning_angle")
    assert angles.column("site").tolist() == ["resid.1", "resid.2", "resid.3"]
    assert angles.column("value") == pytest.approx(40, abs=1e-2)
    assert angles.column("null") == pytest.approx(90, abs=6)
    bent = table.where(measure="tortuosity")
    chord = [np.sin(m * turn / 2) / np.sin(turn / 2) for m in (1, 2, 3, 4)]
    assert bent.column("value") == pytest.approx(np.arange(1, 5) / chord, rel=1e-4)
    assert bent.column("null") == pytest.approx(np.sqrt(np.arange(1, 5)), rel=1e-5)


def test_summary_is_the_mean_with_the_interval_of_a_mean():
    values = np.array([1.0, 5, 2, 8, 4])
    told = summary(values, [1.0, 3.0], groups=5, seed=0)
    half = 2.7764451 * values.std(ddof=1) / np.sqrt(5)
    assert (told["value"], told["null"], told["corrected"]) == (4, 2, 2)
    assert (told["low"], told["high"]) == pytest.approx((4 - half, 4 + half))
    assert "NaN in 1 of 2" in summary(np.array([1.0, np.nan]), [], 2, 0)["status"]


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_gradients_are_those_of_autograd_and_do_not_know_the_length(family):
    model = wrap_model(tiny_model(family), tiny_tokenizer(), family)
    ids = np.random.default_rng(2).integers(3, 290, 19)
    at, other = np.array([2, 5, 11]), np.array([7, 9, 4])
    told = token_gradients(model, ids, at, other)
    longer = token_gradients(model, np.append(ids, [44, 45, 46]), at, other)
    alone = token_gradients(model, ids, at[1:2], other[1:2])
    assert list(told) == [f"resid.{k}" for k in range(4)]
    for site in told:
        for k in range(3):
            np.testing.assert_allclose(longer[site][k], told[site][k], rtol=1e-5)
            np.testing.assert_allclose(alone[site][k], told[site][k][1:2], rtol=1e-4)
    network = model.model
    embedded = network.get_input_embeddings()(torch.from_numpy(ids[:6])[None]).detach().requires_grad_(True)
    loss = torch.nn.functional.cross_entropy(
        network(inputs_embeds=embedded).logits[0, 5:6], torch.from_numpy(ids[6:7])
    )
    (gradient,) = torch.autograd.grad(loss, embedded)
    assert told["resid.0"][0][1] == pytest.approx(float(gradient[0, 5].norm()), rel=1e-4)
    assert all(p.requires_grad for p in network.parameters())


def test_gradient_rows_name_their_null(tmp_path):
    model = wrap_model(tiny_model("llama"), tiny_tokenizer(), "tiny")
    texts = ts.open_texts("weekdays:8", seed=1)
    store = ts.capture(model, texts, tmp_path / "s")
    asked = Gradients(str(store.path), store.content, 5, 3, 96, 10, 0)
    table = ts.Table(gradient_rows(store, model, asked))
    assert len(table) == 2 * 4
    assert set(table.column("control")) == {"another next token"}
    assert (table.column("value") > 0).all()
    assert (table.column("null") > 0).all()


def test_a_model_without_a_next_token_is_a_row_that_says_so(tmp_path):
    model = wrap_model(tiny_model("bert"), tiny_tokenizer(wrap=True), "encoder")
    store = ts.capture(model, ts.open_texts("weekdays:8", seed=1), tmp_path / "s")
    with pytest.raises(TransectError, match="no next token"):
        gradient_rows(store, model, Gradients(str(store.path), store.content, 5, 3, 96, 10, 0))
