"""Stores of one point a text: studies that need no more run on them, the others say why they do not."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import transect as ts
from planted import planted_store
from transect.errors import TransectError
from transect.results.drawing import save_all

SMALL: dict[str, Any] = {"workers": 1}


def arrays(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(40, 6)).astype(np.float32)
    return {"resid.0": X, "resid.1": X + 0.3 * rng.normal(size=X.shape).astype(np.float32)}


@pytest.fixture(scope="module", params=["one array", "samples of one row"])
def store(request: Any, tmp_path_factory: pytest.TempPathFactory) -> ts.Store:
    points: dict[str, Any] = arrays(0)
    labels = {"y": points["resid.0"][:, 0].tolist(), "kind": ["a", "b"] * 20}
    if request.param != "one array":
        points = {site: [row[None] for row in X] for site, X in points.items()}
    return ts.store_from_arrays(points, tmp_path_factory.mktemp("one") / "s", labels=labels)


def test_a_probe_reads_the_one_point(store: ts.Store) -> None:
    table = ts.studies.probe(store, label="y", permutations=39, **SMALL).tables["probe"]
    assert [r["token"] for r in table] == ["all", "all"]
    assert table.column("value")[0] > 0.9
    assert table.column("p_max")[0] == pytest.approx(1 / 40)
    assert [r["control_task"] for r in table] == [None, None], "no one token stands there"
    with pytest.raises(TransectError, match="has no position"):
        ts.studies.probe(store, label="position", **SMALL)


def test_a_sweep_a_map_and_a_study_of_power_run(store: ts.Store) -> None:
    assert ts.sweep("cka", store, n=30, groups=4, permutations=19, **SMALL).values("status") == ["ok"]
    mapped = ts.studies.manifold(store, label="y", shape="line", permutations=19, repeats=1, **SMALL)
    assert mapped.tables["map"].column("value")[0] > 0.5
    power = ts.studies.calibrate(store, draws=10, permutations=19, **SMALL)
    assert "40 samples of one token: nothing inside a sample is alike." in power.findings[0]


def test_the_name_of_a_label_may_hold_a_comma(tmp_path: Path) -> None:
    points = arrays(0)
    labels = {"height, m": points["resid.0"][:, 0].tolist(), "height": [0] * 40}
    store = ts.store_from_arrays(points, tmp_path / "s", labels=labels)
    mapped = ts.studies.manifold(store, label="height, m", shape="line", permutations=19, repeats=1, **SMALL)
    assert mapped.tables["map"].column("value")[0] > 0.5


def test_figures_without_a_control_task_are_drawn(store: ts.Store, tmp_path: Path) -> None:
    """No one token stands there: the column is empty, and left out of the figure."""
    study = ts.studies.probe(store, label="y", permutations=19, **SMALL)
    drawn = {path.name for path in save_all(study, tmp_path, ("svg",))}
    assert drawn == {f"{figure.name}.svg" for figure in study.figures}


def test_arrays_of_tokens_have_dimensions_and_no_loss(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    points = {f"resid.{k}": [rng.normal(size=(12, 5)) for _ in range(24)] for k in range(2)}
    study = ts.studies.dimension(ts.store_from_arrays(points, tmp_path / "s"), halves=8, groups=4, **SMALL)
    assert "loss" not in study.tables
    assert len(study.tables["dimension"].where(status="ok")) == 6
    assert any("without its model there is no loss" in w for w in study.warnings)


@pytest.mark.parametrize("study", ["tokens", "dimension", "evolve"])
def test_what_looks_inside_texts_says_so(study: str, store: ts.Store, tmp_path: Path) -> None:
    asked: Any = [store, ts.store_from_arrays(arrays(1), tmp_path / "t")] if study == "evolve" else store
    with pytest.raises(TransectError) as refused:
        getattr(ts.studies, study)(asked, **SMALL)
    assert "arrays of all tokens" in refused.value.fix


@pytest.mark.fault(
    "bad input",
    "texts of one token, with position 0 left out as usual",
    "refused: nothing would be left; --position0 keeps it",
)
def test_texts_of_one_token_leave_nothing_without_position_0(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    layers = [rng.normal(size=(20, 4)) for _ in range(2)]
    store = planted_store(tmp_path / "s", layers, [1] * 20)
    for asked in (
        lambda: ts.sweep("cka", store, **SMALL),
        lambda: ts.studies.calibrate(store, **SMALL),
        lambda: store.points("resid.0", position0=False),
    ):
        with pytest.raises(TransectError, match="every text has one token"):
            asked()
    assert ts.sweep("cka", store, n=16, groups=4, permutations=0, position0=True, **SMALL).values(
        "status"
    ) == ["ok"]


def test_texts_of_one_document_are_warned_of(tmp_path: Path) -> None:
    points = arrays(0)
    store = ts.store_from_arrays(points, tmp_path / "s", groups=[k // 2 for k in range(40)])
    study = ts.studies.calibrate(store, draws=10, permutations=19, **SMALL)
    assert any("40 samples are parts of 20 documents" in w for w in study.warnings)
    alone = ts.store_from_arrays(points, tmp_path / "t", groups=list(range(40)))
    study = ts.studies.calibrate(alone, draws=10, permutations=19, **SMALL)
    assert not any("documents" in w for w in study.warnings)
