"""A folder for the page tests: real studies of small planted stores, one damaged study, and text that is
markup."""

import json
from pathlib import Path

import numpy as np
from starlette.testclient import TestClient

import transect as ts
from planted import planted_store
from transect.files import read_json, write_json
from transect.results.study import Study

NASTY = "<img src=x onerror=alert(1)>"
MARKUP = f"</script>{NASTY}"
LENGTHS = [6] * 24
LAYERS = 5


def walk(seed: int, layers: int, width: int) -> list[np.ndarray]:
    """Layers that drift: each is the one before with some noise."""
    rng = np.random.default_rng(seed)
    out = [rng.normal(size=(sum(LENGTHS), width)).astype(np.float32)]
    for _ in range(layers - 1):
        out.append(
            out[-1]
            + 0.4 * rng.normal(size=out[0].shape).astype(np.float32) * np.linspace(1, 2, width, dtype="f4")
        )
    return out


def build(home: Path) -> Path:
    """Two runs with drift, comparison and map, and the neurons of a third; returns `home`."""
    stores = []
    for seed, name in ((1, "plain"), (2, "tuned")):
        labels = {"month": [i % 12 for i in range(len(LENGTHS))]}
        made = planted_store(
            home / "stores" / name,
            walk(seed, LAYERS, 8),
            LENGTHS,
            name=name,
            labels=labels,
            landmarks={"word": [2] * 24},
        )
        stores.append(made)
    common = {"groups": 3, "workers": 1}
    ts.studies.drift(stores, n=20, resamples=2, **common).save(home / "drift")
    ts.studies.compare(stores, n=30, measures="cka,cosine", **common).save(home / "compare")
    ts.studies.manifold(stores[0], label="month", permutations=10, repeats=1, workers=1).save(home / "map")
    sites = [f"mlp.{k}.act" for k in range(4)]
    wide = planted_store(home / "stores" / "wide", walk(3, 4, 40), LENGTHS, name="plain", sites=sites)
    ts.studies.neurons(wide, dim=3, cards=3).save(home / "neurons")
    poison(home / "map")
    plant(home / "drift")
    (home / NASTY.replace("/", "")).mkdir()
    (home / NASTY.replace("/", "") / "study.json").write_text("{")
    return home


def poison(folder: Path) -> None:
    """Markup among the findings: what a text or a model's name may hold."""
    told = read_json(folder / "study.json", "study")
    told["findings"].insert(0, f"label {NASTY} </script><script>alert(2)</script>")
    write_json(folder / "study.json", told)


def plant(folder: Path) -> None:
    """One pair of layers that was not computed, and one that is exactly zero."""
    study = Study.load(folder)
    table = study.tables["pairs"]
    rows = list(table)
    for row in rows:
        if {row["site"], row["site2"]} == {"resid.0", "resid.4"}:
            row |= {"value": None, "low": None, "high": None, "status": "not converged: planted"}
        if {row["site"], row["site2"]} == {"resid.0", "resid.1"}:
            row["value"] = 0.0
    study.tables["pairs"] = ts.Table(rows, table.provenance)
    study.save(folder)


def small_study() -> Study:
    """A study of two rows and six neurons, with markup wherever it holds text."""
    rows = [
        {
            "measure": "sinkhorn",
            "run": "plain",
            "site": "resid.0",
            "site2": "resid.1",
            "value": 0.0,
            "status": "ok",
        },
        {"measure": "sinkhorn", "run": "plain", "site": "resid.1", "site2": "resid.2", "status": MARKUP},
    ]
    spots = [
        {"run": "plain", "site": f"mlp.{k}.act", "neuron": i, "x": i + k / 2, "y": -1.0}
        for k in (0, 1)
        for i in (0, 1, 2)
    ]
    study = Study(
        "drift", MARKUP, {"adjacent": ts.Table(rows), "positions": ts.Table(spots)}, findings=[MARKUP]
    )
    study.provenance = {"seed": 0, "runs": []}
    return study


def events(client: TestClient, job: str, start: int = -1) -> list[dict]:
    """All events of a job, read as a page would: until it ends."""
    told = []
    with client.stream("GET", f"/api/jobs/{job}/events?from={start}") as stream:
        for line in stream.iter_lines():
            if line.startswith("data: "):
                told.append(json.loads(line[6:]))
    return told


def shortened(folder: Path) -> Study:
    """A study with its first two figures: printing all takes most of a report's time."""
    study = Study.load(folder)
    study.figures = study.figures[:2]
    return study
