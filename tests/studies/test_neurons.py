"""Neurons: exact correlations, maps with known answers, orders, repetition, pruning that costs nothing where
it should."""

import os
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

import transect as ts
from planted import planted_store
from tiny import make_texts, tiny_model, tiny_tokenizer
from transect.errors import TransectError
from transect.inference.accumulators import model_moments, store_moments
from transect.models.generate import activations
from transect.models.losses import losses, perplexity
from transect.numeric.moments import Accumulator
from transect.results.drawing import draw
from transect.studies.neurons import maps as neurons
from transect.studies.neurons.minibatch import project_batches
from transect.studies.pruning.cut import METHODS, compensation, prune, removal
from transect.studies.pruning.study import curve

LENGTHS = [7, 31, 12, 50, 5, 23, 40, 17, 9, 28]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ts.Store:
    """24 neurons: a large mean, heavy scales, two that are one (0, 1), one that is its opposite (2), one
    constant (3)."""
    rng = np.random.default_rng(0)
    n = sum(LENGTHS)
    X = rng.normal(size=(n, 24)) @ rng.normal(size=(24, 24)) * np.geomspace(
        0.01, 100, 24
    ) + 1000 * rng.normal(size=24)
    X[:, 1], X[:, 2], X[:, 3] = 3 * X[:, 0] + 5, 10 - X[:, 0], 4.25
    Y = np.concatenate([X[:, ::-1][:, :10], rng.normal(size=(n, 6))], axis=1)
    sites = ["mlp.0.act", "mlp.1.act"]
    return planted_store(tmp_path_factory.mktemp("n") / "s", [X, Y], LENGTHS, sites=sites)


def test_correlation_is_exact_pearson(store: ts.Store) -> None:
    X = store.points("mlp.0.act").astype(np.float64)
    rho = ts.neurons.correlation(store, "mlp.0.act")
    alive = [i for i in range(24) if i != 3]
    assert np.allclose(rho[np.ix_(alive, alive)], np.corrcoef(X[:, alive].T), atol=2e-5)
    assert rho[0, 1] == pytest.approx(1, abs=1e-5)
    assert rho[0, 2] == pytest.approx(-1, abs=1e-5)
    assert (rho[3, alive] == 0).all()
    assert rho[3, 3] == 1
    assert neurons.constant(store, "mlp.0.act").tolist() == [3]
    first = np.cumsum([0, *LENGTHS])[:-1]
    rest = np.corrcoef(np.delete(X, first, axis=0)[:, alive].T)
    assert np.allclose(
        neurons.correlation(store, "mlp.0.act", position0=False)[np.ix_(alive, alive)], rest, atol=2e-5
    )


def test_other_kinds(store: ts.Store) -> None:
    X, Y = (store.points(s).astype(np.float64) for s in store.sites)
    alive = [i for i in range(24) if i != 3]
    ranks = neurons.correlation(store, "mlp.0.act", kind="spearman")
    assert np.allclose(ranks[np.ix_(alive, alive)], spearmanr(X[:, alive]).statistic, atol=1e-4)
    assert neurons.correlation(store, "mlp.0.act", kind="absolute")[0, 2] == pytest.approx(1, abs=1e-5)
    between = neurons.correlation(store, "mlp.0.act", "mlp.1.act")
    assert between.shape == (24, 16)
    assert between[23, 0] == pytest.approx(1, abs=1e-5)
    assert between[5, 12] == pytest.approx(np.corrcoef(X[:, 5], Y[:, 12])[0, 1], abs=2e-5)
    prompts = [
        np.corrcoef(store.sample(i, "mlp.0.act").astype(float)[:, [5, 9]].T)[0, 1]
        for i in range(len(LENGTHS))
    ]
    assert neurons.correlation(store, "mlp.0.act", kind="prompt")[5, 9] == pytest.approx(
        np.mean(prompts), abs=1e-4
    )


def test_streamed_is_all_at_once_whatever_the_blocks() -> None:
    rng = np.random.default_rng(1)
    X = (rng.normal(size=(301, 7)) * [1, 5, 0.1, 1, 1, 2, 3] + 50).astype(np.float32)
    whole = Accumulator(7).update(X).freeze()
    parts = Accumulator(7)
    for begin, end in ((0, 1), (1, 90), (90, 91), (91, 301)):
        parts.update(X[begin:end])
    assert np.allclose(parts.freeze().correlation, whole.correlation, atol=1e-5)
    assert np.allclose(whole.correlation, np.corrcoef(X.T.astype(float)), atol=1e-5)
    assert np.allclose(parts.freeze().mean_x, X.mean(0), rtol=1e-5)
    with pytest.raises(TransectError, match="at least 2 tokens, got 1"):
        Accumulator(7).update(X[:1]).freeze()


def test_without_a_store_it_is_the_same(tmp_path: Path) -> None:
    model = ts.wrap_model(tiny_model("llama"), tiny_tokenizer(), "tiny")
    kept = ts.capture(model, make_texts(), tmp_path / "s", sites=["mlp.act"])
    straight = model_moments(model, make_texts(), ["mlp.1.act"], position0=False)["mlp.1.act"]
    stored = store_moments(kept, "mlp.1.act", position0=False)
    assert straight.n == stored.n == kept.start[-1] - len(kept)
    assert np.allclose(straight.correlation, stored.correlation, atol=1e-4)


def test_classical_scaling_alone_finds_distances_that_exist() -> None:
    """Points of a lopsided plane: Torgerson's solution is exact up to the little noise that is added, 0.001
    of the mean."""
    P = np.random.default_rng(7).normal(size=(50, 2)) * [4, 1]
    D = np.linalg.norm(P[:, None] - P, axis=2)
    D /= D.max()
    assert neurons.project(1 - D, 2, method="classical").stress < 0.005


def test_a_turned_mirrored_and_stretched_map_is_laid_on_its_original() -> None:
    """A turn by 40° and a reflection are not their own inverse: a transposed map would miss."""
    P = np.random.default_rng(8).normal(size=(30, 2)) * [3, 1]
    turn = np.array([[np.cos(0.7), -np.sin(0.7)], [np.sin(0.7), np.cos(0.7)]])
    for frame in (turn, turn @ np.diag([1, -1])):
        laid, agreement = neurons.align(P @ frame * 2.5 + 7, P)
        np.testing.assert_allclose(laid, P, atol=1e-9)
        assert agreement == pytest.approx(1, rel=1e-12)


def test_a_map_that_exists_is_found_and_noise_is_not_one() -> None:
    rng = np.random.default_rng(2)
    P = rng.normal(size=(60, 3)) * [3, 1, 0.5]
    D = np.linalg.norm(P[:, None] - P, axis=2)
    D /= D.max()
    made = ts.neurons.project(1 - D, dim=3, seed=0)
    assert made.positions.shape == (60, 3)
    assert made.stress < 0.01
    assert made.control_stress > 0.3
    assert neurons.align(made.positions, P)[1] > 0.999
    again = ts.neurons.project(1 - D, dim=3, seed=0)
    assert np.array_equal(again.positions, made.positions)
    noise = np.corrcoef(rng.normal(size=(400, 5000)))
    assert neurons.project(noise, 3).stress == pytest.approx(0.33, abs=0.01), "a hollow ball"
    flat = neurons.project(1 - D, dim=2)
    assert made.stress < flat.stress < flat.control_stress


def test_stress_is_no_worse_than_a_peer() -> None:
    from sklearn.manifold import MDS

    rng = np.random.default_rng(3)
    rho = np.corrcoef(rng.normal(size=(80, 6)) @ rng.normal(size=(6, 300)) + rng.normal(size=(80, 300)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        peer = MDS(2, dissimilarity="precomputed", n_init=4, random_state=0).fit_transform(1 - rho)
    assert (
        neurons.project(rho, 2).stress
        <= neurons.stress(peer.astype(np.float32), (1 - rho).astype(np.float32)) * 1.01
    )


def test_copies_of_a_neuron_stay_together() -> None:
    """4, 5 and 6 near-copies of three unrelated neurons: a triangle. Distances that float32 rounds to 0 once
    threw copies apart."""
    rng = np.random.default_rng(9)
    X = np.concatenate([rng.normal(size=(900, 1)) @ (0.5 + rng.random((1, k))) for k in (4, 5, 6)], axis=1)
    rho = np.corrcoef((X + 0.01 * rng.normal(size=X.shape)).T)
    made = neurons.project(rho, 3)
    kind = np.repeat([0, 1, 2], [4, 5, 6])
    assert max(made.positions[kind == k].std(axis=0).max() for k in range(3)) < 5e-3
    assert made.stress < 0.01 < 0.3 < made.control_stress


def test_a_line_is_put_in_order() -> None:
    place = np.random.default_rng(4).permutation(40)
    rho = 1 - np.abs(place[:, None] - place) / 39 * 1.8
    for method in ("spectral", "leaf"):
        order = neurons.seriate(rho, method)
        assert np.array_equal(place[order], np.arange(40)) or np.array_equal(
            place[order], np.arange(40)[::-1]
        )
        assert neurons.order_cost(order, rho) > neurons.order_cost(np.arange(40), rho), (
            "the loss pulls apart what is alike"
        )


def test_mistakes() -> None:
    rho = np.eye(5)
    with pytest.raises(TransectError, match="dim = 5 for 5 neurons"):
        neurons.project(rho, 5)
    bad = np.eye(5)
    bad[2, 2] = np.nan
    with pytest.raises(TransectError, match="not finite for 1 neurons"):
        neurons.project(bad, 2)
    with pytest.raises(TransectError, match="not symmetric"):
        neurons.project(np.triu(np.ones((5, 5))), 2)
    with pytest.raises(TransectError, match="cannot be aligned"):
        neurons.align(np.ones((3, 2)), np.ones((4, 2)))


def test_positions_file(store: ts.Store, tmp_path: Path) -> None:
    path = neurons.save_positions(
        tmp_path / "p.safetensors", {"mlp.0.act": np.arange(48.0).reshape(24, 2)}, run="x"
    )
    assert np.array_equal(neurons.load_positions(path, store)["mlp.0.act"], np.arange(48.0).reshape(24, 2))
    from safetensors.numpy import save_file

    save_file({"projections.layers.3.mlp": np.ones((8, 3), np.float32)}, tmp_path / "seed.safetensors")
    assert list(neurons.load_positions(tmp_path / "seed.safetensors")) == ["mlp.3.out"]
    neurons.save_positions(tmp_path / "q.safetensors", {"mlp.0.act": np.ones((9, 2))})
    with pytest.raises(TransectError, match="9 neurons, the store 24"):
        neurons.load_positions(tmp_path / "q.safetensors", store)


def test_study_finds_the_repeated_block(store: ts.Store, tmp_path: Path) -> None:
    study = ts.studies.neurons(store, dim=2, skip=(1,), cards=2, out=tmp_path)
    maps = study.tables["maps"]
    assert maps.column("constant").tolist() == [1, 0]
    assert all(r["null"] > 0 and 0 <= r["reproducibility"] <= 1 for r in maps)
    repeat = next(iter(study.tables["repeats"]))
    assert repeat["value"] > repeat["null"]
    assert repeat["repeated"] >= 10, "ten neurons were copied"
    assert "«" in study.tables["cards"].column("context")[0]
    from transect.results.drawing import save_all

    assert len(save_all(study, tmp_path, formats=("svg",))) == 4


def test_a_line_is_drawn_and_none_is_refused(store: ts.Store, tmp_path: Path) -> None:
    from transect.results.drawing import save_all

    study = ts.studies.neurons(store, dim=1, skip=(1,), cards=0, seed=3)
    assert "y" not in study.tables["positions"].columns
    assert len(save_all(study, tmp_path, formats=("png",))) == 4
    with pytest.raises(TransectError, match="dim=0"):
        ts.studies.neurons(store, dim=0)


def test_maps_carry_stress_and_halves_and_stand_beside_their_control(store: ts.Store) -> None:
    import matplotlib.pyplot as plt

    from transect.results.drawing import draw

    study = ts.studies.neurons(store, dim=2, skip=(), cards=0)
    rows = {row["site"]: row for row in study.tables["maps"]}
    figures = {figure.name: draw(study, figure) for figure in study.figures}
    titles = [ax.get_title() for ax in figures["maps"].axes]
    for site, row in rows.items():
        assert f"{site}\nstress {row['value']:.2f}, halves {row['reproducibility']:.2f}" in titles
        assert f"control\nstress {row['null']:.2f}, halves {row['reproducibility_null']:.2f}" in titles
    labels = {ax.get_xlabel() for ax in figures["maps"].axes} | {
        ax.get_ylabel() for ax in figures["maps"].axes
    }
    assert labels == {"", "position 1", "position 2"}
    shown = [np.asarray(ax.collections[0].get_offsets()) for ax in figures["maps"].axes]
    for k, name in enumerate(("positions", "control_positions")):
        part = study.tables[name].where(site="mlp.0.act")
        np.testing.assert_allclose(shown[k], np.stack([part.column("x"), part.column("y")], axis=1))
    assert rows["mlp.0.act"]["reproducibility"] > rows["mlp.0.act"]["reproducibility_null"]
    heat = figures["sorted"].axes[1].images[0]
    assert tuple(heat.get_extent()) == (0, 24, 24, 0), "the axes count neurons"
    for canvas in figures.values():
        assert canvas.get_figwidth() <= 6.75
        plt.close(canvas)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"method": "minibatch", "init": "line", "order": "loss"}, "mini-batches from line"),
        ({"layout": "classical", "order": "spectral"}, "classical scaling"),
        ({"order": "loss", "init": "uniform"}, "SMACOF"),
    ],
)
def test_ways_are_named_as_used_and_part_of_the_key(
    store: ts.Store, given: dict, words: str, tmp_path: Path
) -> None:
    study = ts.studies.neurons(store, dim=2, skip=(), cards=0, sites="mlp.1.act", out=tmp_path, **given)
    row = next(iter(study.tables["maps"]))
    assert row["method"] == given.get("method", "exact")
    assert row["order"] == given["order"]
    assert row["value"] < 1
    assert words in study.figures[1].caption
    assert given["order"] in study.figures[2].caption
    before = len(list((tmp_path / "cells").iterdir()))
    ts.studies.neurons(store, dim=2, skip=(), cards=0, sites="mlp.1.act", out=tmp_path)
    assert len(list((tmp_path / "cells").iterdir())) == before + 1, "another way is another cell"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"order": "best"}, "order='best'"),
        ({"layout": "umap", "method": "minibatch"}, "by mini-batches"),
        ({"init": "line"}, "where nothing descends"),
    ],
)
def test_ways_that_do_not_go_together_are_refused(store: ts.Store, given: dict, message: str) -> None:
    with pytest.raises(TransectError, match=message):
        ts.studies.neurons(store, **given)


def test_a_layout_that_is_not_installed_is_refused_before_any_work(
    store: ts.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pacmap", None)
    with pytest.raises(TransectError, match=r"transect\[maps\]"):
        ts.studies.neurons(store, layout="pacmap")


def test_one_run_at_a_time_and_a_model_where_a_store_is(store: ts.Store, tmp_path: Path) -> None:
    from click.testing import CliRunner

    from tiny import save_tiny
    from transect.cli.main import cli

    with pytest.raises(TransectError, match="2 runs"):
        ts.studies.neurons([store, store])
    model = save_tiny(tmp_path / "model", "llama")
    (tmp_path / "t.txt").write_text("\n".join(make_texts(6).texts))
    asked = ["neurons", str(model), "--texts", str(tmp_path / "t.txt"), "--out", str(tmp_path / "out")]
    told = CliRunner().invoke(
        cli, [*asked, *["--dim", "1", "--workers", "1", "--skip", "1", "--cards", "1", "--formats", "png"]]
    )
    assert told.exit_code == 0, told.output
    study = ts.Study.load(tmp_path / "out")
    assert study.tables["maps"].values("site") == ["mlp.0.act", "mlp.1.act", "mlp.2.act"]
    refused = CliRunner().invoke(cli, [*asked, "--dim", "0"])
    assert refused.exit_code == 2
    assert "--dim" in refused.output


def test_one_pass_gives_the_whole_and_both_halves(store: ts.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values equal, to rounding, those of a pass over all tokens and of the tokens of each half."""
    from transect.inference import accumulators

    reads: list[int] = []
    read = type(store).read

    def counted(self: ts.Store, site: str, rows: np.ndarray) -> np.ndarray:
        reads.append(len(rows))
        return read(self, site, rows)

    monkeypatch.setattr(type(store), "read", counted)
    split = accumulators.split_moments(store, "mlp.0.act", seed=5)
    assert sum(reads) == sum(LENGTHS), "each token is read once"
    whole = store_moments(store, "mlp.0.act")
    np.testing.assert_allclose(split.whole.correlation, whole.correlation, atol=1e-6)
    np.testing.assert_allclose(split.whole.var_x, whole.var_x, rtol=1e-4, atol=1e-6)
    X, text = store.points("mlp.0.act").astype(np.float64), np.repeat(np.arange(len(LENGTHS)), LENGTHS)
    member = accumulators.text_halves(store, 5)
    assert member.tolist() != [0, 1] * 5, "drawn, not every other text"
    alive = [i for i in range(24) if i != 3]
    for k in (0, 1):
        told = split.halves[k]
        assert told.n == int((member[text] == k).sum())
        expected = np.corrcoef(X[member[text] == k][:, alive].T)
        np.testing.assert_allclose(told.correlation[np.ix_(alive, alive)], expected, atol=5e-5)
    assert abs(split.control.correlation[0, 1]) < 0.5, "twins are parted"
    np.testing.assert_allclose(split.control.var_x, split.whole.var_x, rtol=1e-4, atol=1e-6)


def test_accumulators_merge_about_one_point_only() -> None:
    rng = np.random.default_rng(3)
    X, Y = rng.normal(size=(90, 4)).astype(np.float32) + 50, rng.normal(size=(90, 3)).astype(np.float32)
    parts = [Accumulator(4, 3).about(X[:7], Y[:7]).update(X[a:b], Y[a:b]) for a, b in ((0, 30), (30, 90))]
    parts[0].freeze()
    joined, whole = parts[0].merge(parts[1]).freeze(), Accumulator(4, 3).update(X, Y).freeze()
    np.testing.assert_allclose(joined.correlation, whole.correlation, atol=1e-5)
    np.testing.assert_allclose(joined.mean_x, whole.mean_x, rtol=1e-6)
    with pytest.raises(TransectError, match="different points"):
        Accumulator(4).update(X).merge(Accumulator(4).update(X + 1))


def test_the_control_keeps_texts_whole() -> None:
    """Tokens that are equal within a text stay side by side: chance correlations of clustered neurons stay as
    large as they are, and single tokens shuffled would make them small."""
    from transect.numeric.permute import columns_by_text

    rng = np.random.default_rng(4)
    lengths = np.array([30, 50, 40, 20, 60, 30, 40, 30])
    X = np.repeat(rng.normal(size=(8, 40)), lengths, axis=0)
    Y = columns_by_text(X, lengths, np.random.default_rng(5))
    np.testing.assert_allclose(np.sort(Y, axis=0), np.sort(X, axis=0))
    assert ((np.diff(Y, axis=0) != 0).sum(axis=0) <= 8).all(), "runs of one text stay runs"
    upper = np.triu_indices(40, 1)
    kept, shuffled = (np.abs(np.corrcoef(Z.T)[upper]).mean() for Z in (Y, rng.permuted(X, axis=0)))
    assert kept > 3 * shuffled
    one = columns_by_text(X[:30] + np.arange(30)[:, None], np.array([30]), np.random.default_rng(6))
    assert len({tuple(column - column.min()) for column in one.T.round(6)}) > 5, "one text is turned"


def test_the_lanczos_order_is_the_dense_one() -> None:
    from scipy.linalg import eigh

    rng = np.random.default_rng(11)
    for size in (3, 5, 120):
        rho = np.corrcoef(
            rng.normal(size=(400, 6)) @ rng.normal(size=(6, size)) + rng.normal(size=(400, size)),
            rowvar=False,
        )
        weights = (1 + rho) / 2
        np.fill_diagonal(weights, 0)
        root = 1 / np.sqrt(weights.sum(axis=1))
        _, vectors = eigh(np.eye(size) - root[:, None] * weights * root, subset_by_index=[1, 1])
        dense = np.argsort(vectors[:, 0] * root, kind="stable").tolist()
        assert neurons.seriate(rho, "spectral").tolist() in (dense, dense[::-1])


def test_leaves_sort_no_worse_than_optimal_leaf_ordering_of_scipy() -> None:
    from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
    from scipy.spatial.distance import squareform

    rng = np.random.default_rng(12)
    rho = np.corrcoef(
        rng.normal(size=(500, 8)) @ rng.normal(size=(8, 90)) ** 3 + rng.normal(size=(500, 90)), rowvar=False
    )
    condensed = squareform(1 - rho, checks=False)
    peer = leaves_list(optimal_leaf_ordering(linkage(condensed, "average"), condensed))
    order = neurons.seriate(rho)
    assert sorted(order) == list(range(90))
    assert neurons.neighbour_rho(rho, order) > 0.98 * neurons.neighbour_rho(rho, peer)
    assert neurons.neighbour_rho(rho, order) > neurons.neighbour_rho(rho, neurons.seriate(rho, "spectral"))


def test_the_order_loss_sorts_and_the_published_one_says_that_it_does_not() -> None:
    """Neurons along a line, each alike to its neighbours: sorted as the Fiedler vector does."""
    rng = np.random.default_rng(13)
    t = rng.random(60) * 3
    root = np.linalg.cholesky(np.exp(-((t[:, None] - t) ** 2) / 2) + 0.05 * np.eye(60))
    batches = [(rng.normal(size=(60, 60)) @ root.T).astype(np.float32) for _ in range(200)]
    rho = np.corrcoef(np.concatenate(batches).T)
    sorted_ = np.argsort(project_batches(batches, 1, loss="order").positions[:, 0])
    told = neurons.neighbour_rho(rho, sorted_)
    spectral = neurons.neighbour_rho(rho, neurons.seriate(rho, "spectral"))
    chance = [neurons.neighbour_rho(rho, rng.permutation(60)) for _ in range(50)]
    assert told > max(chance)
    assert told > 0.9 * spectral
    with pytest.warns(UserWarning, match="uncorrelated pairs"):
        published = project_batches(batches, 1, loss="published").positions[:, 0]
    assert neurons.neighbour_rho(rho, np.argsort(published)) < told


def test_mini_batches_report_stress_in_the_norm_they_fit() -> None:
    """Neurons whose 1 − ρ are city-block distances of a planted plane: fitted by that norm, the stress is a
    few percent, and reading the same positions by Euclidean distances is far off."""
    rng = np.random.default_rng(14)
    P = rng.random((30, 2)) * [1, 0.6]
    D = np.abs(P[:, None] - P).sum(axis=2)
    values, vectors = np.linalg.eigh(1 - D)
    root = vectors * np.sqrt(np.maximum(values, 0))
    batches = [(rng.normal(size=(400, 30)) @ root.T).astype(np.float32) for _ in range(300)]
    made = project_batches(batches, 2, norm=1.0, lr=0.02)
    assert made.stress < 0.1
    assert np.sqrt((made.per_neuron**2).mean()) == pytest.approx(made.stress, rel=0.2)
    rho = np.corrcoef(np.concatenate(batches).T)
    assert neurons.stress(made.positions, (1 - rho).astype(np.float32)) > 2 * made.stress


def test_poles_are_read_in_the_other_half_beside_random_sets() -> None:
    """Two bundles at the ends of a line in both halves: alike within, opposed between; noise is neither."""
    from transect.studies.neurons.tables import poles

    rng = np.random.default_rng(15)
    side = np.repeat([1.0, 0.0, -1.0], [6, 40, 7])
    for gain, bundled in ((side, True), (0 * side, False)):
        X = [rng.normal(size=(300, 1)) * gain + rng.normal(size=(300, 53)) for _ in range(2)]
        rho = {"whole": np.corrcoef(np.concatenate(X).T)} | {f"half {k}": np.corrcoef(X[k].T) for k in (0, 1)}
        laid = {name: neurons.project(r, 2).positions for name, r in rho.items()}
        low, high = poles("mlp.0.act", laid, rho, np.random.default_rng(0))
        inside = [row["value"] > row["null_high"] for row in (low, high)]
        assert all(inside) == bundled
        assert (low["between"] < low["between_null_low"]) == bundled
        if bundled:
            assert {side[i] for i in low["neurons"]} | {side[i] for i in high["neurons"]} == {1.0, -1.0}


def test_unrelated_blocks_of_clustered_texts_repeat_no_neuron(tmp_path: Path) -> None:
    """Every neuron moves with its text: chance matches are large, and so is a null that keeps texts whole."""
    rng = np.random.default_rng(16)
    blocks = [
        np.repeat(rng.normal(size=(10, 12)), LENGTHS, axis=0) + 0.5 * rng.normal(size=(sum(LENGTHS), 12))
        for _ in range(2)
    ]
    sites = ["mlp.0.act", "mlp.1.act"]
    kept = planted_store(tmp_path / "s", blocks, LENGTHS, sites=sites)
    row = next(iter(ts.studies.neurons(kept, dim=2, skip=(1,), cards=0).tables["repeats"]))
    assert row["value"] == pytest.approx(row["null"], abs=0.15)
    assert row["null"] > 0.4, "shuffled tokens would give about 0.15"
    assert row["n"] == row["n_texts"] * row["tokens_a_text"]


def test_heatmaps_are_whole_or_means_over_different_neurons(monkeypatch: pytest.MonkeyPatch) -> None:
    from transect.studies.neurons import tables

    rho = np.full((10, 10), 0.25)
    np.fill_diagonal(rho, 1.0)
    lines = tables.heat("mlp.0.act", "before", rho)
    assert [line["values"][k] for k, line in enumerate(lines)] == [None] * 10
    monkeypatch.setattr(tables, "CELLS", 4)
    lines = tables.heat("mlp.0.act", "before", rho)
    assert {v for line in lines for v in line["values"]} == {0.25}, "a neuron with itself is in no mean"
    assert [(line["first"], line["last"]) for line in lines] == [(0, 1), (2, 4), (5, 6), (7, 9)]


def test_projections_of_one_layer_stay_apart(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    held = {
        "model.layers.3.mlp.up_proj": np.ones((8, 3), np.float32),
        "model.layers.3.mlp.down_proj": np.zeros((5, 3), np.float32),
        "model.layers.3.self_attn.q_proj": np.zeros((4, 3), np.float32),
        "model.layers.3.self_attn.o_proj": np.zeros((5, 3), np.float32),
    }
    save_file(held, tmp_path / "p.safetensors")
    found = neurons.load_positions(tmp_path / "p.safetensors")
    assert {site: len(P) for site, P in found.items()} == {
        "mlp.3.act": 8,
        "mlp.3.out": 5,
        "model.layers.3.self_attn.q_proj": 4,
        "attn.3.out": 5,
    }
    save_file(
        held | {"model.layers.3.mlp.gate_proj": np.ones((8, 3), np.float32)}, tmp_path / "q.safetensors"
    )
    with pytest.raises(TransectError, match=r"are both mlp\.3\.act"):
        neurons.load_positions(tmp_path / "q.safetensors")


def test_redundant_neurons_cost_nothing_to_remove(tmp_path: Path) -> None:
    """Half the neurons repeat the other half: pruned by redundancy with compensation the model says what it
    said."""
    twin = tiny_model("llama")
    for block in twin.model.layers:
        mlp = block.mlp
        for linear in (mlp.gate_proj, mlp.up_proj):
            linear.weight.data[24:] = linear.weight.data[:24]
        mlp.down_proj.weight.data *= 20
    model = ts.wrap_model(twin, tiny_tokenizer(), "twin")
    texts = make_texts(24)
    moments = model_moments(model, texts, ["mlp.act"])
    ids = torch.arange(3, 40)[None]
    with torch.inference_mode():
        before = model.model(ids).logits
        small = prune(model, moments, 0.5)
        after = small.model(ids).logits
        crude = prune(model, moments, 0.5, method="random", compensate=False).model(ids).logits
    assert (after - before).abs().max() < 1e-3 * (crude - before).abs().max()
    assert perplexity(small, texts) == pytest.approx(perplexity(model, texts), rel=1e-4)
    small.model.save_pretrained(tmp_path / "m")
    small.tokenizer.save_pretrained(tmp_path / "m")
    again = ts.open_model(str(tmp_path / "m"))
    assert again.config.intermediate_size == 24
    with torch.inference_mode():
        assert torch.allclose(again.model(ids).logits, after, atol=1e-5)


def test_each_way_keeps_what_it_should() -> None:
    rng = np.random.default_rng(5)
    X = rng.normal(size=(500, 6)).astype(np.float32) * [1, 1, 5, 0.1, 1, 1]
    X[:, 1] = X[:, 0] * 0.5
    m = Accumulator(6).update(X).freeze()
    columns = np.diag([1.0, 1, 1, 1, 9, 0.01])
    assert removal(m, columns, "redundancy", rng)[0][0] == 1
    assert removal(m, columns, "magnitude", rng)[0][0] == 5
    assert removal(m, columns, "activation", rng)[0][:2].tolist() == [5, 3]
    assert sorted(removal(m, columns, "random", rng)[0]) == list(range(6))
    assert all((np.diff(removal(m, columns, way, rng)[1]) >= 0).all() for way in METHODS)
    fold = compensation(m, np.array([0, 2, 3, 4, 5]))
    assert fold[0, 0] == pytest.approx(0.5, abs=1e-3)
    assert np.abs(fold[0, 1:]).max() < 1e-2
    with pytest.raises(TransectError, match=r"fraction 1\.5"):
        prune(ts.wrap_model(tiny_model("llama"), tiny_tokenizer(), "t"), {}, 1.5)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_curve_judges_every_text_by_a_model_that_never_saw_it(family: str, tmp_path: Path) -> None:
    model = ts.wrap_model(tiny_model(family), tiny_tokenizer(), family)
    texts = make_texts(16)
    rows = curve(model, texts, [0.0, 0.5], methods=["redundancy", "clusters", "random"], groups=8)
    assert len(rows) == 6
    assert all(r["low"] <= r["value"] <= r["high"] and r["n_texts"] == 16 for r in rows)
    assert all(r["null"] == pytest.approx(perplexity(model, texts), rel=1e-6) for r in rows)
    whole = [r for r in rows if r["fraction"] == 0]
    assert all(
        r["ratio"] == pytest.approx(1, abs=1e-4) and r["ratio_high"] - r["ratio_low"] < 1e-3 for r in whole
    )
    assert all(r["value"] == pytest.approx(r["null"] * r["ratio"], rel=1e-6) for r in rows)
    with pytest.raises(TransectError, match="folds=1"):
        curve(model, texts, [0.5], folds=1)
    (tmp_path / "twice.jsonl").write_text('{"text": "March and May"}\n' * 3)
    with pytest.raises(TransectError, match="occur twice"):
        curve(model, ts.open_texts(str(tmp_path / "twice.jsonl")), [0.5])


@pytest.mark.parametrize(
    ("family", "scope", "method", "compensation"),
    [
        ("llama", "layer", "activation", True),
        ("gpt2", "layer", "magnitude", False),
        ("llama", "global", "redundancy", True),
        ("gpt2", "global", "random", False),
    ],
)
def test_the_saved_model_is_the_one_that_was_asked_for(
    family: str, scope: str, method: str, compensation: bool, tmp_path: Path
) -> None:
    """Opened again it says what prune() says, and another scope, method or compensation does not."""
    model = ts.wrap_model(tiny_model(family), tiny_tokenizer(), family)
    texts = make_texts(16)
    given = {"scope": scope, "compensation": compensation, "seed": 4}
    study = ts.studies.pruning(
        model, texts, fractions=[0.25], methods=[method], save=0.5, out=tmp_path, **given
    )
    saved = ts.open_model(str(tmp_path / "model"))
    moments = model_moments(model, texts, ["mlp.act"], max_length=256)

    def told(method: str, scope: str, compensate: bool) -> float:
        return perplexity(
            prune(model, moments, 0.5, method=method, scope=scope, compensate=compensate, seed=4), texts
        )

    assert perplexity(saved, texts) == pytest.approx(told(method, scope, compensation), rel=1e-5)
    other = "random" if method != "random" else "magnitude"
    for wrong in ((other, scope, compensation), (method, scope, not compensation)):
        assert abs(perplexity(saved, texts) / told(*wrong) - 1) > 1e-6
    blocks = saved.model.model.layers if family == "llama" else saved.model.transformer.h
    down = blocks[0].mlp.down_proj.weight.T if family == "llama" else blocks[0].mlp.c_proj.weight
    whole = 48 if family == "llama" else 128
    assert len(down) == (whole // 2 if scope == "layer" else whole)
    assert study.methods
    assert study.provenance["options"]["scope"] == scope
    assert "calibration_tokens" in study.tables["pruning"].columns


@pytest.mark.fault(
    "bad input",
    "a way or a share of pruning that there is not, or a pruned model that no configuration can describe",
    "refused before the work",
)
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"fractions": [0.1, 1.5]}, "fraction 1.5"),
        ({"methods": ["redundancy", "clustres"]}, "no method 'clustres'"),
        ({"methods": []}, "no methods"),
        ({"engine": "part:1/2"}, "one process"),
        ({"save": 0.5}, "no entry for MLPs"),
    ],
)
def test_pruning_is_refused_before_the_work(
    given: dict, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ts.wrap_model(tiny_model("llama"), tiny_tokenizer(), "llama")
    room = sys.modules[curve.__module__]
    monkeypatch.setattr(room, "model_moments", lambda *_, **__: pytest.fail("work"))
    if "save" in given:
        monkeypatch.setattr(sys.modules[prune.__module__], "SIZES", ())
    with pytest.raises(TransectError, match=message):
        ts.studies.pruning(model, make_texts(6), out=tmp_path / "o", **given)
    assert not (tmp_path / "o").exists()


def test_one_neuron_of_a_block_always_stays() -> None:
    model = ts.wrap_model(tiny_model("llama"), tiny_tokenizer(), "llama")
    small = prune(model, {}, 0.999, method="magnitude", compensate=False)
    assert {len(c.mlp.down_proj.weight.T) for c in small.model.model.layers} == {1}


def test_losses_are_those_of_a_loop_over_single_texts() -> None:
    model, texts = ts.wrap_model(tiny_model("llama"), tiny_tokenizer(), "t"), make_texts(5)
    total, count = losses(model, texts)
    for text, summed, tokens in zip(texts.texts, total, count, strict=True):
        ids = model.tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            told = model.model(ids, labels=ids).loss
        assert summed / tokens == pytest.approx(float(told), rel=1e-5)
        assert tokens == ids.shape[1] - 1


def test_pruning_ranks_once_a_fold_warns_and_draws_ratios(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import matplotlib.pyplot as plt

    from transect.results.drawing import draw
    from transect.studies.pruning import cut

    calls: list[str] = []
    inner = cut.removal
    monkeypatch.setattr(
        cut, "removal", lambda m, c, method, rng: calls.append(method) or inner(m, c, method, rng)
    )
    model = ts.wrap_model(tiny_model("llama"), tiny_tokenizer(), "t")
    study = ts.studies.pruning(model, make_texts(6), fractions=[0.1, 0.5], methods=["clusters", "random"])
    assert sorted(calls) == sorted(["clusters", "random"] * 6), "3 blocks, 2 folds, whatever the fractions"
    rows = list(study.tables["pruning"])
    assert {r["kept"] for r in rows} == {43, 24}
    assert all(0 < r["calibration_tokens"] < 4 * 43 * 20 for r in rows)
    short = [r for r in rows if r["calibration_tokens"] < 4 * r["kept"]]
    assert bool(short) == any("Few calibration tokens" in w for w in study.warnings)
    canvas = draw(study, study.figures[0])
    ax = canvas.axes[0]
    shown = {round(float(y), 6) for line in ax.lines for y in np.atleast_1d(line.get_ydata())}
    assert {round(r["ratio"], 6) for r in rows} <= shown
    assert 1.0 in shown
    plt.close(canvas)


@pytest.mark.fault(
    "bad luck",
    "pruning stops between two ways of choosing neurons",
    "`out` holds the losses of the folds and ways that are done",
    "run it again: they are not judged again",
)
def test_pruned_folds_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last way of the last fold fails; a second call judges that one alone, to the same table."""
    from transect.studies.pruning import folds

    model = ts.wrap_model(tiny_model("llama"), tiny_tokenizer(), name="tiny")
    given: dict[str, Any] = {"fractions": [0.1, 0.5], "methods": ["redundancy", "random"]}
    plain, asked = folds.ranked, []

    def counted(*args: Any) -> Any:
        asked.append(args[2])
        if len(asked) == 4:
            raise KeyboardInterrupt
        return plain(*args)

    monkeypatch.setattr(folds, "ranked", counted)
    with pytest.raises(KeyboardInterrupt):
        ts.studies.pruning(model, make_texts(6), out=tmp_path, **given)
    study = ts.studies.pruning(model, make_texts(6), out=tmp_path, **given)
    assert asked == ["redundancy", "random", "redundancy", "random", "random"]
    assert not folds._WHOLE
    fresh = ts.studies.pruning(model, make_texts(6), **given)
    for name in ("value", "low", "high", "ratio", "null", "calibration_tokens"):
        one, other = (s.tables["pruning"].column(name) for s in (study, fresh))
        np.testing.assert_array_equal(one, other)


def test_every_text_is_judged_once_by_a_model_calibrated_on_the_others() -> None:
    from transect.studies.pruning.folds import Fold

    model = ts.wrap_model(tiny_model("llama"), tiny_tokenizer(), name="tiny")
    how = SimpleNamespace(seed=0, folds=3)
    parts = [Fold(model, make_texts(7), k, "random", (0.1,), how).split() for k in range(3)]
    assert sorted(i for judged, _ in parts for i in judged) == [*range(7)]
    assert all(sorted([*judged, *rest]) == [*range(7)] for judged, rest in parts)


def test_pruning_says_before_the_work_what_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil

    from transect.studies.pruning.words import _short_calibration

    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Free", (), {"available": 1000})())
    model = ts.wrap_model(tiny_model("llama"), tiny_tokenizer(), "t")
    with pytest.raises(TransectError, match="3 blocks of 48 neurons"):
        curve(model, make_texts(6), [0.5], methods=["random"])
    rows = curve(model, make_texts(6), [0.5], methods=["magnitude", "random"], compensation=False)
    assert all(r["calibration_tokens"] is None for r in rows)
    told = ts.Table([{"calibration_tokens": 151, "kept": 1152}, {"calibration_tokens": 9000, "kept": 24}])
    assert "151 for up to 1,152" in _short_calibration(told)[0]


def test_clusters_of_the_map_keep_their_most_active_neuron() -> None:
    """Three bundles of 4, 5 and 6 copies with unequal gains: when three are left, they are the loudest of
    each."""
    rng = np.random.default_rng(9)
    X = np.concatenate([rng.normal(size=(900, 1)) @ (0.5 + rng.random((1, k))) for k in (4, 5, 6)], axis=1)
    X = (X + 0.01 * rng.normal(size=X.shape)) @ np.eye(15, 16)  # the sixteenth never moves
    m = Accumulator(16).update(X.astype(np.float32)).freeze()
    columns = np.eye(16) * rng.uniform(0.5, 2, 16)[:, None]
    order, score = removal(m, columns, "clusters", rng)
    assert order[0] == 15
    assert sorted(order) == list(range(16))
    loud = np.linalg.norm(columns, axis=1) * np.sqrt(m.var_x + m.mean_x**2)
    best = {int(k[0] + np.argmax(loud[k])) for k in (np.arange(4), np.arange(4, 9), np.arange(9, 15))}
    assert set(order[-3:].tolist()) == best
    assert score[-4] < 0.1 < score[-3], "merging two bundles costs far more than merging copies"


def test_global_pruning_takes_what_is_redundant_wherever_it_is() -> None:
    """Only block 1 repeats itself: pruned globally by a sixth, only block 1 loses neurons, and nothing is
    lost."""
    model = tiny_model("llama")
    mlp = model.model.layers[1].mlp
    for linear in (mlp.gate_proj, mlp.up_proj):
        linear.weight.data[24:] = linear.weight.data[:24]
    wrapped = ts.wrap_model(model, tiny_tokenizer(), "t")
    moments = model_moments(wrapped, make_texts(24), ["mlp.act"])
    small = prune(wrapped, moments, 1 / 6, scope="global")
    gone = [int((b.mlp.down_proj.weight == 0).all(0).sum()) for b in small.model.model.layers]
    assert gone[1] >= 22
    assert gone[0] <= 1
    ids = torch.arange(3, 40)[None]
    with torch.inference_mode():
        assert torch.allclose(small.model(ids).logits, model(ids).logits, atol=1e-3)
    by_rho = prune(wrapped, moments, 0.0, scope="global", threshold=0.9999)
    gone = [int((b.mlp.down_proj.weight == 0).all(0).sum()) for b in by_rho.model.model.layers]
    assert gone[1] == 24, "every twin, and nothing else"
    with pytest.raises(TransectError, match=r"threshold 0\.9"):
        prune(wrapped, moments, 0.0, threshold=0.9)


@pytest.mark.parametrize("init", ["line", "normal", "point", "uniform"])
def test_the_mini_batch_way_moves_towards_the_exact_one(init: str) -> None:
    rng = np.random.default_rng(6)
    latent = rng.normal(size=(12, 2))
    batches = [
        (rng.normal(size=(60, 2)) @ latent.T + 0.1 * rng.normal(size=(60, 12))).astype(np.float32)
        for _ in range(150)
    ]
    made = project_batches(batches, 2, init=init)
    exact = neurons.project(np.corrcoef(np.concatenate(batches).T), 2)
    assert exact.stress <= made.stress + 1e-3
    assert made.stress < 0.75 * made.control_stress, "it left its beginning and found structure"
    with pytest.raises(TransectError, match="init='zero'"):
        project_batches(batches, 2, init="zero")


def test_activations_of_a_prompt_are_those_of_one_whole_pass() -> None:
    model = ts.wrap_model(tiny_model("llama"), tiny_tokenizer(), "tiny")
    steps = list(activations(model, "the month of March", ["mlp.act", "resid"], max_new_tokens=4))
    prompt = [s for s in steps if not s.generated]
    assert "".join(s.token for s in prompt) == "the month of March"
    assert [s.position for s in steps] == list(range(len(steps)))
    assert 0 < len(steps) - len(prompt) <= 4
    ids = torch.tensor([[s.id for s in steps]])
    with torch.inference_mode():
        whole = model.model(ids, output_hidden_states=True)
    assert np.allclose(steps[-1].values["resid.1"], whole.hidden_states[1][0, -1].numpy(), atol=1e-5)
    assert [int(t) for t in whole.logits[0, len(prompt) - 1 : -1].argmax(-1)] == [
        s.id for s in steps if s.generated
    ]
    assert steps[0].values["mlp.2.act"].shape == (48,)
    with pytest.raises(TransectError, match="Shorten it"):
        next(activations(model, "the month " * 300, max_new_tokens=9000))


def test_maps_of_two_runs_are_laid_on_each_other(store: ts.Store, tmp_path: Path) -> None:
    first = ts.studies.neurons(store, dim=2, skip=(), out=tmp_path, seed=0)
    again = ts.studies.neurons(store, dim=2, skip=(), reference=tmp_path / "positions.safetensors", seed=1)
    assert all(a > 0.98 for a in again.tables["maps"].column("aligned"))
    x = [t.tables["positions"].where(site="mlp.0.act").column("x") for t in (first, again)]
    assert np.corrcoef(*x)[0, 1] > 0.95
    assert set(first.tables["poles"].column("pole")) == {"low", "high"}


@pytest.mark.parametrize("method", ["umap", "pacmap"])
def test_neighbour_maps_are_an_extra_and_say_so(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, method, None)
    with pytest.raises(TransectError, match=r"transect\[maps\]"):
        neurons.project(np.eye(9), 2, method=method)


#: One map, in a process whose numba interprets: compiling takes ten times as long as running.
BUNDLES = """
import sys, warnings
import numpy as np
from transect.studies.neurons import maps
warnings.simplefilter("ignore")  # what the libraries say of each other
rng, kind = np.random.default_rng(10), np.repeat([0, 1], [12, 18])
X = rng.normal(size=(600, 2))[:, kind] + 0.7 * rng.normal(size=(600, 30))
np.save(sys.argv[2], maps.project(np.corrcoef(X.T), 2, method=sys.argv[1]).positions)
"""


@pytest.mark.parametrize("method", ["umap", "pacmap"])
def test_neighbour_maps_keep_bundles_together(method: str, tmp_path: Path) -> None:
    """Two bundles of 12 and 18 correlated neurons: most of a neuron's neighbours on the map are of its own
    bundle."""
    env = os.environ | {"NUMBA_DISABLE_JIT": "1"}
    subprocess.run([sys.executable, "-c", BUNDLES, method, str(tmp_path / "map.npy")], check=True, env=env)
    positions, kind = np.load(tmp_path / "map.npy"), np.repeat([0, 1], [12, 18])
    assert positions.shape == (30, 2)
    assert np.isfinite(positions).all()
    D = np.linalg.norm(positions[:, None] - positions, axis=2)
    np.fill_diagonal(D, np.inf)
    near = np.argsort(D, axis=1)[:, :5]
    assert (kind[near] == kind[:, None]).mean() > 0.95


def test_positions_in_the_layout_of_transformer_projector(store: ts.Store, tmp_path: Path) -> None:
    """Its checkpoints also hold correlation matrices, which are no positions; its names carry a prefix of the
    wrapper."""
    from safetensors.numpy import load_file, save_file

    P = {"mlp.0.out": np.ones((8, 3), np.float32), "attn.12.out": np.zeros((8, 3), np.float32)}
    path = neurons.save_positions(tmp_path / "model.safetensors", P, layout="modules", run="x")
    assert set(load_file(path)) == {
        "model.layers.0.mlp.neuron_projections",
        "model.layers.12.self_attn.neuron_projections",
    }
    told = {f"hf_model.{k}": v for k, v in load_file(path).items()}
    told |= {k.replace("neuron_projections", "correlation_matrix"): np.eye(8, dtype=np.float32) for k in told}
    save_file(told, tmp_path / "theirs.safetensors")
    back = neurons.load_positions(tmp_path / "theirs.safetensors")
    assert set(back) == set(P)
    assert all(np.array_equal(back[s], P[s]) for s in P)
    with pytest.raises(TransectError, match=r"mlp\.0\.act is not the output"):
        neurons.save_positions(path, {"mlp.0.act": np.ones((4, 2))}, layout="modules")


def blocks_of_arrays(out: Path, blocks: dict[str, np.ndarray], texts: int = 6) -> ts.Store:
    """A store of arrays: `texts` texts of equal length at every site."""
    return ts.store_from_arrays({s: np.split(X.astype(np.float32), texts) for s, X in blocks.items()}, out)


@pytest.mark.fault(
    "bad input",
    "as many neurons as a map can always place, one text, or repetition in the same block",
    "a message with the numbers: fewer dimensions, more texts, steps of 1 or more",
)
@pytest.mark.parametrize(
    ("neurons_of", "texts", "given", "message"),
    [
        (1, 6, {"dim": 1}, "1 of 1 neurons change; dim = 1 needs 3"),
        (2, 6, {"dim": 1}, "2 of 2 neurons change; dim = 1 needs 3"),
        (4, 6, {"dim": 3}, "4 of 4 neurons change; dim = 3 needs 5"),
        (8, 1, {}, r"half of its texts \(1\) holds 0 tokens"),
        (8, 6, {"skip": (1, 0)}, "skip=0. Give 1 or more"),
        (8, 6, {"cards": -1}, "cards=-1"),
    ],
)
def test_what_says_nothing_is_no_map(
    neurons_of: int, texts: int, given: dict, message: str, tmp_path: Path
) -> None:
    X = np.random.default_rng(0).normal(size=(60, neurons_of))
    store = blocks_of_arrays(tmp_path / "s", {"mlp.0.act": X}, texts)
    with pytest.raises(TransectError, match=message):
        ts.studies.neurons(store, workers=1, **given)


def test_neurons_that_are_all_one_are_one_point(tmp_path: Path) -> None:
    X = np.repeat(np.random.default_rng(0).normal(size=(60, 1)), 7, axis=1)
    store = blocks_of_arrays(tmp_path / "s", {"mlp.0.act": X, "mlp.1.act": -X}, 6)
    study = ts.studies.neurons(store, workers=1, dim=1, cards=0)
    for row in study.tables["maps"]:
        assert row["value"] == 0
        assert row["reproducibility"] == 1
        assert row["neighbour_rho"] == pytest.approx(1, abs=1e-6)
        assert row["null"] > 0.2
    assert "maps in 1 dimension have" in study.findings[0]
    assert [r["value"] for r in study.tables["repeats"]] == pytest.approx([1.0], abs=1e-6)


def test_two_families_are_two_lines_and_one_layer_is_seen(tmp_path: Path) -> None:
    import matplotlib.pyplot as plt

    rng = np.random.default_rng(0)
    sites = [f"mlp.{k}.{part}" for k in range(3) for part in ("act", "out")]
    wide = {s: rng.normal(size=(60, 9 if s.endswith("act") else 6)) for s in sites}
    store = blocks_of_arrays(tmp_path / "s", wide)
    study = ts.studies.neurons(store, sites="mlp.act,mlp.out", workers=1, dim=2, skip=(1,), cards=0)
    assert {(r["site"][6:], r["site2"][6:]) for r in study.tables["repeats"]} == {
        ("act", "act"),
        ("out", "out"),
    }
    canvas = draw(study, study.figures[0])
    assert [ax.get_title() for ax in canvas.axes] == ["mlp.act", "mlp.out"]
    for ax in canvas.axes:
        assert all((np.diff(line.get_xdata()) > 0).all() for line in ax.lines)
    study = ts.studies.neurons(store, sites="mlp.1.act", workers=1, dim=2, cards=0)
    (ax,) = draw(study, study.figures[0]).axes
    assert all(line.get_marker() != "None" for line in ax.lines)
    assert [t for t in ax.get_xticks() if t % 1] == []
    plt.close("all")
    assert not any("most structured" in line for line in study.findings)
