"""What is drawn, permuted and left out as one: texts, groups of texts, and copies of a text."""

import itertools
from pathlib import Path

import numpy as np
import pytest

import transect as ts
from planted import planted_store
from tiny import make_texts, tiny_model, tiny_tokenizer
from transect.errors import TransectError
from transect.inference.accumulators import text_halves
from transect.inference.draws import draw
from transect.inference.tests import arrangements
from transect.random import rng
from transect.store.selection import Selection
from transect.store.units import apart, families_of
from transect.studies.neurons.blocks import equal_rows

MEASURES = ("cka", "rsa", "knn_overlap")


def grouped(out: Path, seed: int, texts: int = 30, groups: int = 6) -> ts.Store:
    """Two unrelated views; what the texts of a group share is three fifths of either."""
    random, group = np.random.default_rng(seed), np.arange(texts) % groups
    points = {}
    for site in ("resid.0", "resid.1"):
        shared = random.normal(size=(groups, 8)) * 0.6**0.5
        points[site] = [shared[g] + random.normal(size=(4, 8)) * 0.4**0.5 for g in group]
    return ts.store_from_arrays(points, out, groups=group.tolist())


def test_unrelated_views_with_group_effects_are_not_called_related(tmp_path: Path) -> None:
    """Texts permuted alone reject in 19 of 20 tries at a nominal 5 %."""
    small = []
    for seed in range(10):
        store = grouped(tmp_path / str(seed), seed)
        table = ts.sweep(MEASURES, store, position0=True, permutations=39, seed=seed, workers=1)
        small += [p <= 0.05 for p in table.column("p")]
        assert set(table.column("n_texts")) == {6}
    assert np.mean(small) < 0.2


def test_a_draw_holds_whole_units_and_no_copy() -> None:
    texts = np.repeat(np.arange(10), [3, 4, 5, 6, 3, 4, 5, 6, 3, 4])
    units = np.array([0, 0, 2, 2, 4, 4, 6, 6, -1, -1])
    selection = Selection(np.arange(len(texts)), texts, np.arange(len(texts)))
    drawn = draw(selection, units=units, groups=2, halves=True)
    of_row = units[texts[drawn.rows]]
    assert (of_row == of_row[:, :1]).all()
    assert sorted(of_row[:, 0]) == [0, 2, 4, 6]
    assert sorted(units[drawn.texts]) == [0, 2, 4, 6]
    with pytest.raises(TransectError, match="3 groups of texts or different texts among 10 texts"):
        draw(selection, units=np.minimum(units, 4))


def test_copies_of_a_text_count_once_wherever_texts_are_counted(tmp_path: Path) -> None:
    texts = make_texts(12)
    twice = ts.Texts(texts.texts * 2, [f"t{i}" for i in range(24)], labels={"k": [*range(12)] * 2})
    model = ts.wrap_model(tiny_model("llama"), tiny_tokenizer())
    single, double = ts.capture(model, texts, tmp_path / "a"), ts.capture(model, twice, tmp_path / "b")
    assert double.units.tolist() == [*range(12), *[-1] * 12]
    assert single.units.tolist() == [*range(12)]
    tables = [ts.sweep("cka", s, permutations=19, groups=4, workers=1) for s in (single, double)]
    for column in ("value", "low", "high", "p", "n", "n_texts"):
        assert tables[0].column(column) == pytest.approx(tables[1].column(column), rel=1e-4)


def test_one_text_of_each_unit(tmp_path: Path) -> None:
    store = grouped(tmp_path / "s", 0)
    every = np.arange(30)
    picked = apart(store, every, rng(0, "units"))
    assert sorted(store.units[picked]) == [0, 1, 2, 3, 4, 5]
    assert (np.diff(picked) > 0).all()
    alone = planted_store(tmp_path / "p", [np.ones((30, 2))], [1] * 30)
    assert (apart(alone, every, rng(0, "units")) == every).all()


def test_runs_of_the_same_tokens_draw_the_same_rows_whatever_their_groups(tmp_path: Path) -> None:
    X = [np.random.default_rng(i).normal(size=(4, 5)) for i in range(12)]
    one = ts.store_from_arrays({"resid.0": X}, tmp_path / "one", groups=[i // 2 for i in range(12)])
    two = ts.store_from_arrays({"resid.0": X}, tmp_path / "two")
    table = ts.sweep("paired_displacement", [one, two], pairs="same", groups=3, workers=1)
    assert table.column("value") == [0.0]


def test_a_test_of_too_few_units_has_no_p(tmp_path: Path) -> None:
    """Five texts are swapped between two clouds in 16 ways that differ: no p is below 1/16."""
    random = np.random.default_rng(0)
    for count, tested in ((5, False), (6, True)):
        points = {
            f"resid.{k}": [random.normal(9 * k, 1, size=(3, 4)) for _ in range(count)] for k in range(2)
        }
        store = ts.store_from_arrays(points, tmp_path / str(count))
        table = ts.sweep(
            "centroid", store, design="paired", swaps=99, groups=count, position0=True, workers=1
        )
        (p,) = table.column("p")
        assert np.isfinite(p) == tested, (count, p)
        assert tested or "16 different draws" in table.column("untested")[0]


def test_arrangements_are_counted_without_those_that_are_the_same() -> None:
    for values in ([1, 1, 2, 2], ["a", "b", "c"], [5, 5, 5], [1, 2, 2, 3]):
        assert arrangements(values) == pytest.approx(len(set(itertools.permutations(values))))


def test_neurons_take_groups_of_texts_whole(tmp_path: Path) -> None:
    """Halves keep a group together; equally many tokens come from each group, not from each text."""
    store = grouped(tmp_path / "s", 3)
    group = np.array(store.index["group"].to_pylist())
    half = text_halves(store, 0)
    assert sorted(half[group == g].mean() for g in np.unique(group)) == [0, 0, 0, 1, 1, 1]
    rows = equal_rows(store, True, 0)
    assert rows.shape == (6, 20)  # five texts of four tokens each
    of = group[np.searchsorted(store.start, rows, side="right") - 1]
    assert (of == of[:, :1]).all()


def test_a_copy_of_a_text_is_in_its_half_and_gives_no_rows(tmp_path: Path) -> None:
    model = ts.wrap_model(tiny_model("llama"), tiny_tokenizer(), name="tiny")
    plain = make_texts(6)
    texts = ts.open_texts([*plain.texts, plain.texts[2], plain.texts[5]])
    store = ts.capture(model, texts, tmp_path / "s")
    half = text_halves(store, 0)
    assert families_of(store).tolist() == [0, 1, 2, 3, 4, 5, 2, 5]
    for i, family in enumerate(families_of(store).tolist()):
        assert half[i] == half[family]
    rows = equal_rows(store, True, 0)
    assert (store.units[np.searchsorted(store.start, rows, side="right") - 1] >= 0).all()
