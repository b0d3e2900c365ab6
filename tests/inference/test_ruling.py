"""A few tokens between 3 and 10 median norms that hold most of the variance are found, and said."""

from pathlib import Path

import numpy as np
import pytest

import transect as ts
from planted import planted_store
from transect.inference.design import Design
from transect.inference.ruling import ruled, ruling_tokens


def planted(folder: Path, size: float, every: int = 30) -> ts.Store:
    """Two unrelated layers of 24 texts × 25 tokens; one token in `every` is `size` norms long."""
    rng = np.random.default_rng(0)
    layers = [rng.normal(size=(600, 16)).astype(np.float32) for _ in range(2)]
    axis = np.float32(4 * size) * np.eye(16, dtype=np.float32)[3]
    for X in layers:
        X[7::every] += axis * rng.choice([-1, 1], size=(len(X[7::every]), 1))
    layers[1][7::every] = layers[0][7::every]
    return planted_store(folder, layers, [25] * 24)


@pytest.mark.fault(
    "bad input",
    "a few tokens of 3 to 10 median norms that rule a number",
    "said, with the number without them",
)
def test_tokens_that_rule_are_found_and_the_number_is_shown_without_them(tmp_path: Path) -> None:
    store = planted(tmp_path / "s", 8.0)
    design = Design(n=480)
    rows = ruling_tokens([store], design)
    assert [r["site"] for r in rows] == ["resid.0", "resid.1"]
    assert rows[0]["count"] == pytest.approx(20, abs=1)
    assert rows[0]["value"] > 0.5
    given = {"n": 480, "workers": 1, "groups": 6, "permutations": 0}
    kept = list(ts.sweep("cka", store, **given))
    dropped = list(ts.sweep("cka", store, **given, massive=3.0))
    assert kept[0]["value"] > 0.5
    assert abs(dropped[0]["value"]) < 0.2
    (line, *_) = ruled(rows, kept, dropped)
    assert f"{kept[0]['value']:.4g} with them and {dropped[0]['value']:.4g} without" in line
    study = ts.studies.compare([store, planted_copy(tmp_path)], n=240, groups=4, workers=1, matrices=False,
                               measures="cka")  # fmt: skip
    assert any("hold" in w and "of the variance" in w for w in study.warnings) or "ruled" in study.tables


def planted_copy(folder: Path) -> ts.Store:
    """The same texts through another model, whose own layers are unrelated but for the long tokens."""
    rng, first = np.random.default_rng(5), ts.open_store(folder / "s")
    layers = [rng.normal(size=(600, 16)).astype(np.float32) for _ in range(2)]
    for X in layers:
        X[7::30] = first.points("resid.0")[7::30]
    return planted_store(folder / "t", layers, [25] * 24, name="other")


def test_nothing_rules_an_ordinary_cloud_and_many_large_tokens_are_no_few(tmp_path: Path) -> None:
    assert ruling_tokens([planted(tmp_path / "a", 0.0)], Design(n=480)) == []
    assert ruling_tokens([planted(tmp_path / "b", 8.0, every=4)], Design(n=480)) == []
    assert ruling_tokens([planted(tmp_path / "c", 60.0)], Design(n=480)) == [], (
        "those are massive, and dropped"
    )


def test_runs_without_a_residual_stream_are_read_where_a_sweep_reads_them(tmp_path: Path) -> None:
    """Only neurons were captured: the default sites are then all there are, for the sweep and here alike."""
    rng = np.random.default_rng(0)
    layers = [rng.normal(size=(240, 8)).astype(np.float32) for _ in range(2)]
    sites = ["mlp.0.act", "mlp.1.act"]
    runs = [planted_store(tmp_path / n, layers, [10] * 24, name=n, sites=sites) for n in ("a", "b")]
    assert ruling_tokens(runs, Design(n=96)) == []
    given = {"n": 96, "groups": 4, "workers": 1, "matrices": False, "measures": "cosine"}
    assert ts.studies.compare(runs, **given).tables["layers"].values("site") == sites
    from transect.studies.drift.tables import diagnostics

    assert diagnostics(runs, Design(n=96)).values("site") == sites
    assert diagnostics(runs, Design(n=96, sites="mlp.0.act,mlp.1.act")).values("site") == sites


def test_a_number_that_stays_within_its_interval_is_not_told() -> None:
    base = {"measure": "cka", "run": "a", "run2": "a", "site": "resid.1", "site2": "resid.2", "status": "ok"}
    ruling = [base | {"count": 2, "n": 100, "token": "x", "value": 0.9}]
    kept = [base | {"value": 0.5, "low": 0.4, "high": 0.6}]
    assert ruled(ruling, kept, [base | {"value": 0.55}]) == []
    assert len(ruled(ruling, kept, [base | {"value": 0.7}])) == 1
    assert len(ruled(ruling, kept, [base | {"value": 0.3}])) == 1
