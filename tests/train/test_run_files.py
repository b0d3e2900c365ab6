"""The files of a training run: whole or not at all, each with its checksum, and a message when the disk
refuses."""

import resource
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

from crashing import DAMAGES, STOPS, crashed_everywhere, cuts, files, flips
from transect.cli.main import cli
from transect.errors import TransectError
from transect.files import write_json
from transect.train import state
from transect.train.recipe import Recipe

RECIPE = Recipe(model="m", task="t")


def checkpoint(folder: Path, into: bool = False, seed: int = 0) -> None:
    torch.manual_seed(seed)
    with state.checkpoint_at(folder, into=into) as partial:
        save_file({"w": torch.randn(8, 4)}, str(partial / "model.safetensors"))
        write_json(partial / "scores.json", {"step": 2, "loss": 1.5})


def a_run(out: Path, *, finished: bool) -> Path:
    """A run as the loops write one, without a model."""
    out.mkdir(parents=True, exist_ok=True)
    RECIPE.save(out / "recipe.json", transect="0")
    state.write_rows(out / "metrics.csv", [{"step": 0, "loss": 2.0}, {"step": 2, "loss": 1.5}])
    checkpoint(out / "checkpoint-00002")
    moments = {"state": {0: {"step": torch.tensor(2.0), "exp_avg": torch.ones(4)}}, "groups": [{"lr": 0.1}]}
    state.save_state(out, 2, [{"step": 2, "loss": 1.5}], trained={"w": torch.ones(3, 2)}, optimiser=moments)
    if finished:
        checkpoint(out, into=True)
        state.write_result(out, {"step": 2, "metrics": {"loss": 1.5}})
    return out


@pytest.mark.fault(
    "bad luck",
    "a bit flips in a checkpoint or another file of a training run",
    "`transect info DIR --verify` (or `sha256sum -c SHA256SUMS`) names the file",
    "delete the checkpoint; `state.pt` is refused when it is read",
)
@pytest.mark.parametrize("finished", [False, True])
def test_any_flipped_bit_of_a_run_is_named(tmp_path: Path, finished: bool) -> None:
    out = a_run(tmp_path / "run", finished=finished)
    assert state.verify_run(out) == ([], [])
    before = state.load_state(out, "cpu")
    missed = tried = 0
    for damage in (flips(out, 40), cuts(out)):
        for name, at in damage:
            tried += 1
            try:
                problems, bare = state.verify_run(out)
            except TransectError:
                continue
            if not problems and bare != ["recipe.json"]:  # white space, or padding of the archive
                missed += 1
                assert name.endswith((".json", ".pt")), (name, at)
                again = state.load_state(out, "cpu")
                assert repr(again) == repr(before), (name, at)
                assert state.check_folder(RECIPE, out) == finished
    assert missed < 40
    assert tried == DAMAGES["a finished training run" if finished else "a training run"]


@pytest.mark.fault("bad luck", "a bit flips in a checkpoint or another file of a training run")
def test_the_command_names_what_is_damaged(tmp_path: Path) -> None:
    out = a_run(tmp_path / "run", finished=True)
    done = CliRunner().invoke(cli, ["info", str(out), "--verify"])
    assert (done.exit_code, "a training run, finished" in done.output) == (0, True), done.output
    file = out / "checkpoint-00002" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    done = CliRunner().invoke(cli, ["info", str(out), "--verify"])
    assert isinstance(done.exception, TransectError)
    assert "model.safetensors: not as it was written" in done.exception.message
    assert done.exception.fix


@pytest.mark.fault("bad luck", "a writer stops before any one of its calls to the disk")
def test_a_checkpoint_stopped_before_any_call_is_the_old_one_or_none(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "checkpoint-00002"
    checkpoint(tmp_path / "new", seed=1)
    new = files(tmp_path / "new")

    def check(stop: int) -> None:
        if folder.is_dir():
            assert files(folder) == new, stop
        checkpoint(folder, seed=1)
        assert files(folder) == new, stop
        shutil.rmtree(tmp_path / "run")

    assert crashed_everywhere(lambda: checkpoint(folder, seed=1), check) == STOPS["a checkpoint"]


@pytest.mark.fault("bad luck", "a writer stops before any one of its calls to the disk")
def test_a_state_stopped_before_any_call_is_the_old_one(tmp_path: Path) -> None:
    state.save_state(tmp_path, 1, [], w=torch.ones(2))

    def check(stop: int) -> None:
        found = state.load_state(tmp_path, "cpu")
        assert found is not None
        assert float(found["w"].sum()) == 2 * found["step"], stop
        state.save_state(tmp_path, 1, [], w=torch.ones(2))

    tried = crashed_everywhere(lambda: state.save_state(tmp_path, 2, [], w=2 * torch.ones(2)), check)
    assert tried == STOPS["the state of a training run"]


@pytest.mark.fault("bad luck", "a writer stops before any one of its calls to the disk")
def test_rows_stopped_before_any_call_are_the_old_or_the_new_ones(tmp_path: Path) -> None:
    first, second = [{"step": 0, "loss": 2.0}], [{"step": 0, "loss": 2.0}, {"step": 1, "loss": 1.0}]

    def check(stop: int) -> None:
        assert state.verify_run(tmp_path) == ([], []), stop
        state.write_rows(tmp_path / "metrics.csv", second)
        assert state.verify_run(tmp_path) == ([], []), stop
        state.write_rows(tmp_path / "metrics.csv", first)

    state.write_rows(tmp_path / "metrics.csv", first)
    tried = crashed_everywhere(lambda: state.write_rows(tmp_path / "metrics.csv", second), check)
    assert tried == STOPS["the tables of a training run"]


def test_a_folder_whose_data_were_only_begun_is_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / "run" / "data").mkdir(parents=True)
    assert not state.check_folder(RECIPE, tmp_path / "run")
    (tmp_path / "run" / "thesis.tex").write_text("x")
    with pytest.raises(TransectError, match="holds no run"):
        state.check_folder(RECIPE, tmp_path / "run")


@pytest.fixture
def full() -> Iterator[None]:
    """No file grows beyond 20 KiB."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20 << 10, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def _weights(folder: Path) -> None:
    with state.checkpoint_at(folder / "checkpoint-00002") as partial:
        save_file({"w": torch.randn(100, 100)}, str(partial / "model.safetensors"))


def _torch(folder: Path) -> None:
    with state.checkpoint_at(folder / "checkpoint-00002") as partial:
        torch.save(torch.randn(100, 100), partial / "weights.pt")


def _state(folder: Path) -> None:
    state.save_state(folder, 1, [], w=torch.randn(100, 100))


def _rows(folder: Path) -> None:
    state.write_rows(folder / "steps.csv", [{"step": k, "loss": 0.5} for k in range(4000)])


@pytest.mark.fault("bad luck", "the disk fills up")
@pytest.mark.usefixtures("full")
@pytest.mark.parametrize("write", [_weights, _torch, _state, _rows])
def test_a_full_disk_is_a_message(tmp_path: Path, write: Any) -> None:
    with pytest.raises(TransectError, match="cannot be written") as caught:
        write(tmp_path)
    assert caught.value.fix
    assert list(tmp_path.iterdir()) == []
