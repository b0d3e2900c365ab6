"""Marks of intervals whose coverage is not what they say: in rows, captions and warnings."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import transect as ts
from planted import planted_store
from transect.inference import calibration
from transect.inference.calibration import kept, mark, outside
from transect.measures.registry import registry
from transect.results.study import Figure, Study
from transect.results.table import WITHIN, Table

#: 40 draws a law, of three laws.
FOUND: dict[str, Any] = {
    "texts": [60, 20, 12],
    "laws": ["equal", "lopsided", "heavy-tailed"],
    "draws": 40,
    "value": {"bures": [[38, 38, 38], [38, 38, 29], [34, 34, 35]], "cka": [[40] * 3, [39] * 3, [37] * 3]},
    "excess": {"bures": [[38, 38, 38], [38, 38, 38], [38, 38, 38]]},
}


@pytest.mark.parametrize(
    ("measure", "texts", "what", "said"),
    [
        ("bures", 60, "value", ""),
        ("bures", 500, "value", ""),
        ("bures", 59, "value", "covers 72% of heavy-tailed points at 20 texts"),
        ("bures", 12, "value", "covers 86% at 12 texts"),
        ("bures", 19, "excess", ""),
        ("bures", 11, "excess", "not calibrated below 12 texts"),
        ("cka", 20, "value", ""),
        ("cka", 60, "excess", "not calibrated"),
        ("sliced", 60, "value", "not calibrated"),
    ],
)
def test_an_interval_outside_of_its_band_is_marked(measure: str, texts: int, what: str, said: str) -> None:
    assert mark(measure, texts, what, FOUND) == said


@pytest.mark.parametrize("rate", [0.92, 0.95, 0.98])
def test_coverage_within_the_band_is_rarely_marked_and_less_is(rate: float) -> None:
    """Nine laws of 40 draws: at the band's edge at most 5 % + 2 SE of 300 tables; at 0.80 nearly all."""
    rng = np.random.default_rng(round(100 * rate))
    tables = rng.binomial(40, rate, size=(300, 9))
    assert np.mean([outside(t.tolist(), 40) is not None for t in tables]) <= 0.05 + 2 * 0.013
    worse = rng.binomial(40, rate - 0.15, size=(100, 9))
    assert np.mean([outside(t.tolist(), 40) is not None for t in worse]) >= 0.95
    assert outside([40] * 9, 40) == (1.0, None), "intervals that always hold are too wide"


def test_what_is_kept_is_of_measures_that_there_are() -> None:
    found = kept()
    own = [m for m in registry().values() if m.__module__.startswith("transect.")]
    names = {m.name for m in own if "y" not in m.data}
    assert set(found["excess"]) <= set(found["value"]) <= names
    assert len(found["value"]) >= 16
    for hits in [*found["value"].values(), *found["excess"].values()]:
        assert np.shape(hits) == (len(found["texts"]), len(found["laws"]))
        assert 0 <= np.min(hits) <= np.max(hits) <= found["draws"]


def test_rows_captions_and_warnings_carry_the_mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    store = planted_store(tmp_path / "s", [rng.normal(size=(12 * 8, 6)) for _ in range(2)], [8] * 12)
    monkeypatch.setattr(calibration, "kept", lambda: FOUND)
    table = ts.sweep(["bures", "cka"], store, n=24, groups=4, workers=1, massive=0, permutations=19)
    own, other = table
    assert own["calibration"] == "value covers 86% at 12 texts"
    assert other["calibration"] == "excess not calibrated"
    drawn = [Figure(m, "depth", "steps", m, f"{m} by layer.", {"measures": [m]}) for m in ("bures", "cosine")]
    bare = Table([{"measure": "gap", "value": 1.0, "low": 0.0, "high": 2.0, "status": "ok"}])
    study = Study("s", "?", {"steps": table, "gaps": bare}, drawn).marked()
    assert study.figures[0].caption == "bures by layer. Intervals: value covers 86% at 12 texts: bures."
    assert study.figures[1].caption == "cosine by layer."
    assert study.warnings == [
        "Intervals that calibration does not vouch for (docs/calibration.md): "
        "value covers 86% at 12 texts: bures; excess not calibrated: cka.",
        "Intervals of these tables are not calibrated: gaps.",
    ]
    monkeypatch.setattr(calibration, "kept", lambda: FOUND | {"excess": FOUND["value"]})
    (again,) = ts.sweep("cka", store, n=24, groups=4, workers=1, massive=0, permutations=19)
    assert again["calibration"] == WITHIN


def test_a_family_too_large_for_its_draws_has_no_p_and_says_how_many_it_needs(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    store = planted_store(tmp_path / "s", [rng.normal(size=(12 * 8, 6)) for _ in range(3)], [8] * 12)
    given: dict[str, Any] = {"n": 24, "groups": 4, "workers": 1, "massive": 0}
    few = ts.sweep("cka", store, permutations=18, **given)
    assert [r["untested"] for r in few] == ["18 draws cannot give a p of 0.05; 19 can"] * 2
    assert all(r["p"] is None for r in few)
    assert not {"p_cell"} & set(few.columns)
    enough = ts.sweep("cka", store, permutations=19, **given)
    assert "untested" not in enough.columns
    assert all(r["p"] >= 0.05 for r in enough)
