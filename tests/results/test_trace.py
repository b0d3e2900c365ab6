"""Where a study comes from: the same keys for every study, and what tables say of themselves stays."""

from pathlib import Path

import numpy as np

import transect as ts
from planted import planted_store
from transect.inference.design import Design
from transect.results.study import Study
from transect.results.table import Table


def test_a_study_names_its_stores_and_options_and_keeps_what_a_table_says(tmp_path: Path) -> None:
    store = planted_store(tmp_path / "s", [np.ones((6, 3), np.float32)], [3, 3], name="run")
    table = Table([{"value": 1.0}], {"measures": {"cka": {"options": {}}}, "transect": "0"})
    for how in (Design.of({"n": 5}), {"n": 5}):
        study = Study("any", "?", {"t": table}).trace([store], how, size=2)
        assert study.provenance["transect"] == ts.__version__
        assert study.provenance["runs"][0]["content"] == store.content
        assert (study.provenance["options"]["n"], study.provenance["options"]["size"]) == (5, 2)
        assert study.tables["t"].provenance == study.provenance | {"measures": {"cka": {"options": {}}}}
