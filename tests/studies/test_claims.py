"""Published claims by name: the file is whole, every claim is measured, and a verdict is given on the paper's
own model only."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file, save_file

import transect as ts
from planted_adapter import Q0, R, plant
from tiny import make_texts, save_tiny
from transect.cli.main import cli
from transect.errors import TransectError
from transect.measures.tokens import rank_residual
from transect.studies.reproduce.claims import claims, find, listing
from transect.studies.reproduce.entries_states import attended
from transect.studies.reproduce.study import OUTCOMES, entries, outcome


def test_every_claim_has_a_paper_a_number_and_a_function() -> None:
    assert len(claims()) >= 22
    assert sum(bool(c.arxiv) for c in claims().values()) >= 17
    assert list(entries()) == list(claims())
    assert len({c.arxiv for c in claims().values() if c.arxiv}) == sum(
        bool(c.arxiv) for c in claims().values()
    )
    for c in claims().values():
        assert c.number
        assert c.models
        assert c.scope in ("model", "formula")
        assert (c.low is None) == (c.high is None)
    assert len(listing()) == len(claims())


def test_only_its_own_model_is_a_verdict_on_a_paper() -> None:
    for claim in claims().values():
        for holds in (True, False, None):
            said = outcome(claim, "smollm2", holds)
            assert said in OUTCOMES.values()
            assert said.startswith("other model") == (claim.scope == "model")
    assert outcome(find("sun-massive"), "openai-community/gpt2", False) == "not the same"
    assert outcome(find("sun-massive"), "gpt2-large", False) != "not the same"


def test_attention_without_skips_makes_tokens_one_and_with_them_does_not() -> None:
    rng = np.random.default_rng(0)
    X, weights = rng.standard_normal((7, 24)), rng.standard_normal((6, 3, 24, 24)) / np.sqrt(24)
    assert rank_residual(attended(X, weights, skip=False)) < 0.05
    assert rank_residual(attended(X, weights, skip=True)) > 0.3


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny(tmp_path_factory.mktemp("claims") / "llama", "llama"))


OWN = ["cheng-dimension", "viswanathan-loss"]
STATES = ["gromov-angular", "sun-massive", "sun-curse", "dong-collapse", "murphy-cka"]


@pytest.mark.parametrize("name", [*STATES, "seed-phase3", "seed-tokens", "lad-stages", *OWN])
def test_a_claim_is_measured_with_interval_and_control(name: str, model: str, tmp_path: Path) -> None:
    study = ts.studies.reproduce(name, model=model, texts=make_texts(16), out=tmp_path / "o", workers=1)
    row = next(iter(study.tables["reproduced"]))
    assert row["low"] <= row["value"] <= row["high"]
    assert row["null"] is not None
    assert row["outcome"] in OUTCOMES.values()
    assert study.findings[-1] == f"Outcome: {row['outcome']}."
    if name == "seed-phase3":
        assert row["outcome"] == "not the same"
    if name == "murphy-cka":
        assert row["value"] > row["null"] + 0.1


@pytest.fixture(scope="module")
def seeds(model: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Another seed of the model, an adapter with a loud new direction, and a full fine-tune that added 3 % of
    noise to a matrix."""
    folder, rng = tmp_path_factory.mktemp("pairs"), np.random.default_rng(3)
    other = str(save_tiny(folder / "other", "llama", seed=1))
    factors = {Q0: (rng.standard_normal((32, R)), 0.05 * rng.standard_normal((R, 32)))}
    adapter = str(plant(folder / "a", model, factors))
    full = Path(shutil.copytree(model, folder / "full"))
    tensors = load_file(full / "model.safetensors")
    W = tensors[f"{Q0}.weight"]
    tensors[f"{Q0}.weight"] = W + (0.03 * W.std() * rng.standard_normal(W.shape)).astype(W.dtype)
    save_file(tensors, full / "model.safetensors", metadata={"format": "pt"})
    return {"other": other, "adapter": adapter, "full": str(full)}


PAIRS = ["gurnee-universal", "kim-peri-ln", "huh-platonic", "groger-aristotle"]


@pytest.mark.parametrize("name", [*PAIRS, "shuttleworth-intruders", "biderman-forgets"])
def test_a_pair_of_runs_is_no_sample_and_proves_no_trend(
    name: str, model: str, seeds: dict[str, str], tmp_path: Path
) -> None:
    asked = {k: seeds[k] for k in find(name).needs} | ({"full": seeds["full"]} if name[0] == "s" else {})
    study = ts.studies.reproduce(
        name, model=model, texts=make_texts(24), longest=24, out=tmp_path / "o", workers=1, **asked
    )
    row = next(iter(study.tables["reproduced"]))
    assert row["run2"] in (seeds["other"], seeds["adapter"])
    assert row["run2"] in study.findings[1]
    assert row["null"] is not None
    assert "One pair" in row["note"] or "one pair" in row["note"] or "no sample" in row["note"]
    if name in ("kim-peri-ln", "biderman-forgets", "shuttleworth-intruders"):
        assert row["outcome"] == OUTCOMES[False, None]
    if name == "gurnee-universal":
        assert ("no room" in row["note"]) == (row["outcome"] == OUTCOMES[False, None])
    if name == "huh-platonic":
        assert row["outcome"] != OUTCOMES[False, True]
    if name == "shuttleworth-intruders":
        assert row["value"] > 0
        assert row["low"] is None, "an exact count has no interval"
        assert "No texts are read" in study.methods[0]
        assert "full fine-tune: 0" in row["note"]
    else:
        assert row["low"] <= row["value"] <= row["high"]


def test_models_alike_everywhere_are_no_sign_of_neighbours_alone(model: str, tmp_path: Path) -> None:
    """A copy of a model shares neighbours and everything else: neither trend nor a contrast can be seen."""
    copy = shutil.copytree(model, tmp_path / "copy")
    for name in ("huh-platonic", "groger-aristotle"):
        study = ts.studies.reproduce(
            name, model=model, other=str(copy), texts=make_texts(24), out=tmp_path / name, workers=1
        )
        row = next(iter(study.tables["reproduced"]))
        assert row["value"] == 1
        assert row["null_high"] < 1
        assert row["outcome"] == OUTCOMES[False, None]


@pytest.mark.fault(
    "bad input", "a claim that is not known, or needs a second model", "refused, with near names"
)
def test_the_command_and_bad_input(model: str, tmp_path: Path) -> None:
    ran = CliRunner().invoke(cli, ["reproduce", "--list"])
    assert ran.exit_code == 0, ran.output
    assert "2403.17887" in ran.output
    args = [
        "reproduce",
        "dong-collapse",
        "--model",
        model,
        "--texts",
        "gsm-test:8",
        "--out",
        str(tmp_path / "o"),
    ]
    ran = CliRunner().invoke(
        cli, [*args, "--json", "--workers", "1", "--formats", "svg"], catch_exceptions=False
    )
    assert ran.exit_code == 0, ran.output
    assert '"outcome"' in ran.output
    assert (tmp_path / "o/figures/reproduced.svg").exists()
    for name, word in (("gromov", "Did you mean|no claim"), ("gurnee-universal", "needs --other")):
        with pytest.raises(TransectError, match=word):
            ts.studies.reproduce(name, model=model, out=tmp_path / "x")
