"""Data sets of activations: what comes out of a Parquet file or a saved data set is what went in."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import transect as ts
from transect.errors import TransectError
from transect.store.imports import import_arrays

LENGTHS = [3, 1, 4, 2]


def rows(seed: int = 0) -> dict[str, Any]:
    """Two sites of four samples of unequal lengths, with text, ids, a label and a vector a sample."""
    rng = np.random.default_rng(seed)
    points = {f"resid.{k}": [rng.normal(size=(n, 5)).astype(np.float32) for n in LENGTHS] for k in (0, 1)}
    ids = [list(range(n)) for n in LENGTHS]
    return points | {"text": [f"text {n}" for n in LENGTHS], "input_ids": ids, "kind": [0, 1, 0, 1]}


def data_set(typed: bool) -> Any:
    from datasets import Array2D, Dataset, Features, Value
    from datasets import List as ListOf

    held = rows()
    if not typed:
        return Dataset.from_dict(
            {k: [v.tolist() if k[:5] == "resid" else v for v in c] for k, c in held.items()}
        )
    kinds: dict[str, Any] = {f"resid.{k}": Array2D((None, 5), "float32") for k in (0, 1)}
    kinds |= {"text": Value("string"), "input_ids": ListOf(Value("int64")), "kind": Value("int64")}
    return Dataset.from_dict(held, features=Features(kinds))


@pytest.mark.parametrize("typed", [False, True])
@pytest.mark.parametrize("form", ["parquet", "folder"])
def test_a_data_set_is_the_store_of_its_arrays(form: str, typed: bool, tmp_path: Path) -> None:
    made, at = data_set(typed), tmp_path / ("d.parquet" if form == "parquet" else "d")
    made.to_parquet(at) if form == "parquet" else made.save_to_disk(at)
    store = import_arrays(at, tmp_path / "store")
    held = rows()
    own = {k: held[k] for k in ("resid.0", "resid.1")}
    other = ts.store_from_arrays(own, tmp_path / "other", texts=held["text"], labels={"kind": held["kind"]})
    for site in own:
        assert np.allclose(store.points(site), other.points(site), rtol=1e-7)
    assert store.label("kind").tolist() == [0, 1, 0, 1]
    assert [store.token_ids(i).tolist() for i in range(4)] == held["input_ids"]
    assert store.index["text"].to_pylist() == held["text"]
    assert store.verify() == []


def test_one_point_a_sample(tmp_path: Path) -> None:
    from datasets import Dataset

    X = np.random.default_rng(1).normal(size=(6, 4))
    Dataset.from_dict({"resid.3": X.tolist(), "party": list("abcabc")}).to_parquet(tmp_path / "d.parquet")
    store = import_arrays(tmp_path / "d.parquet", tmp_path / "s")
    assert np.allclose(store.points("resid.3"), X, atol=1e-6)
    assert store.label("party").tolist() == list("abcabc")


@pytest.mark.fault(
    "bad input",
    "data sets of activations with empty cells, unequal columns, or none that is a site",
    "refused with the column's name; nothing is written",
)
@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"resid.0": [[[1.0, 2.0]], None]}, "empty cells"),
        ({"resid.0": [[[1.0, 2.0], None], [[1.0, 2.0]]]}, "empty cells"),
        ({"resid.0": [[[1.0, None]], [[1.0, 2.0]]]}, "empty cells"),
        (
            {"resid.0": [[[1.0, 2.0]], [[1.0, 2.0]]], "resid.1": [[[1.0, 2.0]] * 2, [[1.0, 2.0]]]},
            "other numbers",
        ),
        ({"text": ["a", "b"]}, "no points"),
        ({"resid.0": [[[1.0, 2.0]], [[1.0]]]}, "resid.0"),
    ],
)
def test_a_data_set_that_does_not_fit_is_refused(columns: dict, words: str, tmp_path: Path) -> None:
    from datasets import Dataset

    Dataset.from_dict(columns).to_parquet(tmp_path / "d.parquet")
    with pytest.raises(TransectError, match=words):
        import_arrays(tmp_path / "d.parquet", tmp_path / "s")
    assert not (tmp_path / "s" / "manifest.json").exists()
    (tmp_path / "e.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(TransectError, match="cannot be read"):
        import_arrays(tmp_path / "e.parquet", tmp_path / "s")
