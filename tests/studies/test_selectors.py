"""Every token selector with every study that takes one: tables, words and figures, or a message."""

from pathlib import Path

import numpy as np
import pytest

import transect as ts
from planted import planted_store
from tiny import make_texts, save_tiny
from transect.results.drawing import save_all

GIVEN = {"groups": 4, "workers": 1}


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> list[ts.Store]:
    """A base and a run of 24 texts of 6 tokens, four layers; a landmark at the fourth token."""
    home, rng = tmp_path_factory.mktemp("selectors"), np.random.default_rng(0)
    layers = [rng.normal(size=(144, 8)).astype(np.float32)]
    for _ in range(3):
        layers.append(layers[-1] + 0.5 * rng.normal(size=(144, 8)).astype(np.float32))
    other = [layers[0], *(X + 0.1 * rng.normal(size=X.shape).astype(np.float32) for X in layers[1:])]
    return [
        planted_store(home / name, points, [6] * 24, name=name, landmarks={"name": [3] * 24})
        for name, points in (("base", layers), ("run", other))
    ]


@pytest.mark.parametrize(
    ("study", "tokens"),
    [("drift", "last"), ("compare", "last"), ("compare", "mean"), ("tokens", "landmark:name+1")],
)
def test_every_selector_goes_through_to_the_figures(
    study: str, tokens: str, stores: list[ts.Store], tmp_path: Path
) -> None:
    given = GIVEN | {"tokens": tokens}
    if study == "drift":
        made = ts.studies.drift(stores[0], controls=stores[1:], resamples=2, **given)
    elif study == "compare":
        made = ts.studies.compare(stores, measures="cka,sinkhorn", matrices=False, **given)
    else:
        made = ts.studies.tokens(stores, gradients=False, **given)
    assert made.findings
    assert save_all(made, tmp_path, ("svg",))
    made.save(tmp_path / "out")


def test_models_are_captured_at_the_sites_that_are_asked_for(tmp_path: Path) -> None:
    """`sites` is not for stores alone; a control has the sites of the run, so that its steps are the same
    steps."""
    spec = str(save_tiny(tmp_path / "llama", "llama"))
    made = ts.studies.drift(
        spec, texts=make_texts(12), sites="mlp.0.out,mlp.2.out", random_weights=True, resamples=0,
        out=tmp_path / "out", **GIVEN,
    )  # fmt: skip
    kept = {p.name: ts.open_store(p).sites for p in (tmp_path / "out" / "stores").iterdir()}
    assert len(kept) == 2
    assert all(names == ["mlp.0.out", "mlp.2.out"] for names in kept.values()), kept
    assert {(r["site"], r["site2"]) for r in made.tables["adjacent"]} == {("mlp.0.out", "mlp.2.out")}
