"""What every training loop needs to write and read: the state to go on from, the rows of its log, and a quiet library.

State is tensors and plain values: it is read with torch's weights-only reader, which runs nothing that a file brings.
"""

import contextlib
import csv
import importlib.util
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from transect.errors import TransectError


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the progress bars of transformers: a run shows one of its own."""
    from transformers.utils import logging

    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if bars:
            logging.enable_progress_bar()


def save_state(out: Path, step: int, log: list[dict[str, Any]], **tensors: Any) -> None:
    """Write OUT/state.pt, whole or not at all."""
    import torch

    partial = out / ".state.partial"
    torch.save({"step": step, "log": json.dumps(log), **tensors}, partial)
    partial.replace(out / "state.pt")


def load_state(out: Path, device: Any) -> dict[str, Any] | None:
    """What `save_state` wrote, the log as rows again; None where there is none."""
    import torch

    file = out / "state.pt"
    if not file.is_file():
        return None
    try:
        state = torch.load(file, weights_only=True, map_location=device)
    except Exception as error:  # torch raises whatever its archive reader met
        raise TransectError(f"{file}: cut short or damaged ({error}).", "Delete it to start over.") from error
    return state | {"step": int(state["step"]), "log": json.loads(state["log"])}


def restore(parameters: dict[str, Any], optimiser: Any, schedule: Any, state: dict[str, Any]) -> None:
    """Put weights, moments and learning rate back to where `state` was saved."""
    import torch

    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(state["trained"][name])
    optimiser.load_state_dict(state["optimiser"])
    schedule.last_epoch = state["step"]
    for group, rate, shape in zip(
        optimiser.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True
    ):
        group["lr"] = rate * shape(state["step"])
    schedule._last_lr = [
        group["lr"] for group in optimiser.param_groups
    ]  # what get_last_lr tells before a first step


def check_folder(recipe: Any, out: Path) -> bool:
    """Whether `out` holds the finished run of this recipe; TransectError when it holds anything else than its beginning."""
    if not out.exists() or not any(out.iterdir()):
        return False
    if not (out / "recipe.json").is_file():
        raise TransectError(f"{out} is not empty and holds no run.", "Choose another --out.")
    if told := type(recipe).load(out / "recipe.json").differences(recipe):
        raise TransectError(f"{out} holds another run: {', '.join(told[:4])}.", "Choose another --out.")
    return (out / "result.json").is_file()


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Rows as CSV, the columns of the last one."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[-1]))
        writer.writeheader()
        writer.writerows(rows)


def write_log(out: Path, log: Sequence[dict[str, Any]]) -> None:
    """The log as OUT/metrics.csv, and its last row for TensorBoard where that is installed."""
    write_rows(out / "metrics.csv", log)
    if importlib.util.find_spec("tensorboard"):
        from torch.utils.tensorboard import SummaryWriter  # pyright: ignore[reportPrivateImportUsage]

        row = log[-1]
        with SummaryWriter(str(out / "tensorboard")) as board:
            for name, value in row.items():
                if name != "step" and value is not None:
                    board.add_scalar(name, value, row["step"])


def kept(out: Path) -> str:
    """The last checkpoint in words."""
    found = sorted(p.name for p in out.glob("checkpoint-*"))
    return found[-1] if found else "no checkpoint yet"


@contextlib.contextmanager
def whole(folder: Path, into: bool = False) -> Iterator[Path]:
    """A place to write a checkpoint, put at `folder` when all of it is there; `into`: file by file, beside what is."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    yield partial
    if into:
        for file in partial.iterdir():
            file.replace(folder / file.name)
        partial.rmdir()
        return
    shutil.rmtree(folder, ignore_errors=True)
    partial.replace(folder)
