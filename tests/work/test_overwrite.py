"""What a folder holds is replaced only where that was asked for, and is put back where that fails."""

import importlib
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import transect as ts
from planted import planted_store
from transect.cli.main import cli
from transect.errors import TransectError
from transect.files import file_hash
from transect.results.study import Study
from transect.results.table import Table
from transect.work.folders import replacing

ASKED = ["--n", "20", "--groups", "2", "--permutations", "1", "--workers", "1"]


def files_of(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): file_hash(p) for p in folder.rglob("*") if p.is_file()}


def run(words: list[str]) -> str:
    """What a command that is refused says."""
    done = CliRunner().invoke(cli, words)
    assert done.exception is not None, words
    return str(done.exception) + done.output


@pytest.fixture
def stores(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        planted_store(
            tmp_path / name,
            [rng.normal(size=(72, 6)).astype(np.float32) for _ in range(3)],
            [6] * 12,
            name=name,
        )
    return tmp_path


def drift_of(store: Path, out: Path, *more: str) -> list[str]:
    words = ["drift", str(store), "--out", str(out), "--n", "20", "--groups", "4", "--resamples", "0"]
    return [*words, "--workers", "1", "--formats", "svg", *more]


@pytest.mark.fault(
    "bad input", "a study begun in another kind's folder", "refused before any work, with --overwrite named"
)
def test_a_study_is_refused_before_its_work_and_replaces_where_asked(
    stores: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("work began")

    before = files_of(stores / "b")
    with monkeypatch.context() as patch:
        patch.setattr(importlib.import_module("transect.studies.drift.study"), "open_runs", never)
        said = run(drift_of(stores / "a", stores / "b"))
    assert "holds a store" in said
    assert "--overwrite" in said
    assert files_of(stores / "b") == before
    done = CliRunner().invoke(cli, drift_of(stores / "a", stores / "b", "--overwrite"))
    assert done.exit_code == 0, done.output
    assert Study.load(stores / "b").name == "drift"
    assert not (stores / "b" / "manifest.json").exists()
    assert not (stores / "b.replaced").exists()


@pytest.mark.fault(
    "bad input", "--overwrite and a command that fails", "what stood there is put back, bit for bit"
)
def test_a_refusal_on_the_way_puts_back_what_stood_there(stores: Path) -> None:
    before = files_of(stores / "b")
    said = run(drift_of(stores / "a", stores / "b", "--overwrite", "--sites", "mlp.act"))
    assert "mlp.act" in said
    assert files_of(stores / "b") == before
    assert not (stores / "b.replaced").exists()


@pytest.mark.parametrize("spec", ["{}", "random:{}", "x+{}", "x,{}"])
def test_what_is_needed_is_never_replaced(stores: Path, spec: str) -> None:
    before = files_of(stores)
    with (
        pytest.raises(TransectError, match="is needed"),
        replacing(stores / "a", True, [spec.format(stores / "a")]),
    ):
        raise AssertionError
    assert files_of(stores) == before


def test_only_what_the_program_wrote_is_replaced(stores: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (stores / "mine").mkdir()
    (stores / "mine" / "thesis.tex").write_text("years")
    for folder, why in (("mine", "no store"), ("a", "an earlier --overwrite")):
        (stores / "a.replaced").mkdir(exist_ok=True)
        with pytest.raises(TransectError, match=why), replacing(stores / folder, True):
            raise AssertionError
    (stores / "a.replaced").rmdir()
    monkeypatch.chdir(stores / "a")
    with pytest.raises(TransectError, match="started"), replacing(stores / "a", True):
        raise AssertionError
    assert (stores / "mine" / "thesis.tex").read_text() == "years"


def test_a_study_of_another_name_and_a_table_keep_out(stores: Path) -> None:
    rows = [{"measure": "cka", "run": "r", "site": "resid.0", "value": 1.0, "status": "ok"}]
    Study("tokens", "How alike?", {"layers": Table(rows)}).save(stores / "t")
    with pytest.raises(TransectError, match="holds the study tokens"):
        Study("drift", "How far?", {"adjacent": Table(rows)}).save(stores / "t")
    Study("drift", "How far?", {"adjacent": Table(rows)}).save(stores / "t", overwrite=True)
    assert sorted(p.name for p in (stores / "t").iterdir()) == ["adjacent.parquet", "study.json"]
    said = run(["measure", "cka", str(stores / "a"), *ASKED, "--out", str(stores / "b")])
    assert "holds a store; a table is not written over it" in said


def test_a_capture_and_a_run_are_replaced(stores: Path, tmp_path: Path) -> None:
    from tiny import save_tiny

    model, texts = str(save_tiny(tmp_path / "m", "llama")), tmp_path / "t.txt"
    texts.write_text("one two three\nfour five six\n")
    told = ["capture", model, str(texts), "--out", str(stores / "b"), "--workers", "1"]
    assert "another capture" in run(told)
    assert CliRunner().invoke(cli, [*told, "--overwrite"]).exit_code == 0
    assert len(ts.open_store(stores / "b")) == 2
    said = CliRunner().invoke(cli, [*told, "--overwrite", "--shard", "1/2"])
    assert said.exit_code == 2
    assert "several processes" in said.output
    words = ["train", "--texts", str(texts), "--out", str(stores / "b"), "--preset", "tiny", "--steps", "0"]
    before = files_of(stores / "b")
    assert "--overwrite" in run([*words[:-2], "--steps", "1"])
    assert CliRunner().invoke(cli, [*words, "--overwrite"]).exit_code == 2
    assert files_of(stores / "b") == before
