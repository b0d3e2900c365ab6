"""What every training loop needs to write and read: the state to go on from, the rows of its log, and a quiet
library.

State is tensors and plain values: it is read with torch's weights-only reader, which runs nothing that a file
brings.
"""

import contextlib
import csv
import hashlib
import importlib.util
import io
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from transect.errors import TransectError
from transect.files import (
    CHECKSUM,
    discard,
    dumps,
    file_hash,
    is_sealed,
    loads,
    make_folder,
    partial_of,
    publish,
    read_json,
    unwritable,
    whole_file,
    write_bytes,
    write_json,
    writing,
)
from transect.work.folders import (
    ELSEWHERE,
    SUMS,
    check_kind,
    check_sums,
    clear_partials,
    sync_file,
    write_sums,
)


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
    """Write OUT/state.pt with its checksum, whole or not at all."""
    import torch

    state = {"step": step, "log": dumps(log), **tensors}
    with refused(out), whole_file(out / "state.pt") as fd, os.fdopen(fd, "wb", closefd=False) as file:
        torch.save(state | {CHECKSUM: _digest(state)}, file)


def load_state(out: Path, device: Any) -> dict[str, Any] | None:
    """What `save_state` wrote, the log as rows again; None where there is none."""
    import torch

    file = out / "state.pt"
    if not file.is_file():
        return None
    try:
        state = torch.load(file, weights_only=True, map_location=device)
        if state.pop(CHECKSUM, digest := _digest(state)) != digest:
            raise ValueError("its checksum is another")
        return state | {"step": int(state["step"]), "log": loads(state["log"], constants=True)}
    except Exception as error:  # torch raises whatever its archive reader met
        raise TransectError(f"{file}: cut short or damaged ({error}).", "Delete it to start over.") from error


def _digest(value: Any) -> str:
    """sha256 of tensors and plain values, nested, without the checksum at the top."""
    import torch

    sha = hashlib.sha256()

    def add(part: Any) -> None:
        if isinstance(part, torch.Tensor):
            flat = part.detach().cpu().contiguous().reshape(-1)
            sha.update(f"{part.dtype}{tuple(part.shape)}".encode())
            sha.update(flat.view(torch.uint8).numpy().data if flat.numel() else b"")
        elif isinstance(part, Mapping):
            for key, inner in part.items():
                sha.update(repr(key).encode())
                add(inner)
        elif isinstance(part, list | tuple):
            sha.update(b"[%d" % len(part))
            for inner in part:
                add(inner)
        else:
            sha.update(repr(part).encode())

    add({k: v for k, v in value.items() if k != CHECKSUM})
    return sha.hexdigest()


@contextlib.contextmanager
def refused(path: Path) -> Iterator[None]:
    """What the disk refuses to the libraries that write weights becomes a message. Raises: TransectError."""
    from safetensors import SafetensorError

    try:
        with writing(path):
            yield
    except (SafetensorError, RuntimeError) as error:
        words = ("I/O error", "IoError", "os error", "file write", "PytorchStream", "inline_container")
        if not any(word in str(error) for word in words):
            raise
        met = error.__context__ if isinstance(error.__context__, OSError) else OSError(f"{error!s:.160}")
        raise unwritable(path, met) from error


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
    """Whether `out` holds the finished run of this recipe; TransectError when it holds anything else than its
    beginning."""
    if not out.exists():
        return False
    clear_partials(out)
    if not (out / "recipe.json").is_file():
        if any(p.name != "data" and not p.name.startswith(".") for p in out.iterdir()):
            check_kind(out, "run")
            raise TransectError(f"{out} is not empty and holds no run.", "Choose another --out.")
        return False
    if differences := type(recipe).load(out / "recipe.json").differences(recipe):
        raise TransectError(f"{out} holds another run: {', '.join(differences[:4])}.", ELSEWHERE)
    return (out / "result.json").is_file()


#: Checksums of the tables of a run that is not finished: of each the one to come and the one before it.
LOGS = "logs.json"


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Rows as CSV, the columns of the last one; their checksum first, in LOGS beside it."""
    sink = io.StringIO(newline="")
    writer = csv.DictWriter(sink, fieldnames=list(rows[-1]))
    writer.writeheader()
    writer.writerows(rows)
    data = sink.getvalue().encode()
    try:
        known = read_json(path.parent / LOGS, "run")
        held = [file_hash(path)] if path.is_file() else []
    except TransectError:  # none yet, or damaged: this mends it
        known, held = {}, []
    write_json(path.parent / LOGS, known | {path.name: [hashlib.sha256(data).hexdigest(), *held]})
    try:
        write_bytes(path, data)
    except TransectError:
        if not known:
            discard(path.parent / LOGS)
        raise


def write_log(out: Path, log: Sequence[dict[str, Any]]) -> None:
    """The log as OUT/metrics.csv, and its last row for TensorBoard where that is installed."""
    write_rows(out / "metrics.csv", log)
    if importlib.util.find_spec("tensorboard"):
        from torch.utils.tensorboard import SummaryWriter  # pyright: ignore[reportPrivateImportUsage]

        row = log[-1]
        with writing(out / "tensorboard"), SummaryWriter(str(out / "tensorboard")) as board:
            for name, value in row.items():
                if name != "step" and value is not None:
                    board.add_scalar(name, value, row["step"])


def write_result(out: Path, result: dict[str, Any]) -> None:
    """The end of a run: checksums of its files, then OUT/result.json, which says that all is there."""
    moving = (SUMS, LOGS, "state.pt", "capture.log", "result.json")
    write_sums(out, (p for p in out.iterdir() if p.is_file() and p.name not in moving and p.name[0] != "."))
    write_json(out / "result.json", result)
    for name in ("state.pt", LOGS):
        (out / name).unlink(missing_ok=True)


def verify_run(out: Path) -> tuple[list[str], list[str]]:
    """(problems of a run's files, what has no checksum); TransectError when recipe or result are damaged."""
    bare = []
    for file in (out / "recipe.json", out / "result.json"):
        if file.is_file():
            read_json(file, "run", "Choose another --out.")
            bare += [] if is_sealed(file) else [file.name]
    inner = sorted(p for p in out.glob("checkpoint-*") if p.is_dir())
    inner += [p for p in (out / "data", out / "merged") if p.is_dir()]
    finished = [out] if (out / "result.json").is_file() else []
    problems = [p for folder in (*finished, *inner) if (folder / SUMS).is_file() for p in check_sums(folder)]
    bare += [f"{folder.name}/" for folder in (*finished, *inner) if not (folder / SUMS).is_file()]
    if not finished:
        record = read_json(out / LOGS, "run", "Delete it.") if (out / LOGS).is_file() else {}
        for file in (p for p in (out / "metrics.csv", out / "steps.csv") if p.is_file()):
            bare += [] if file.name in record else [file.name]
            if file_hash(file) not in record.get(file.name, [file_hash(file)]):
                problems.append(f"{file}: not as it was written")
    try:
        load_state(out, "cpu")
    except TransectError as error:
        problems.append(error.message)
    return problems, bare


def kept(out: Path) -> str:
    """The last checkpoint in words."""
    folders = sorted(p.name for p in out.glob("checkpoint-*"))
    return folders[-1] if folders else "no checkpoint yet"


@contextlib.contextmanager
def checkpoint_at(folder: Path, into: bool = False) -> Iterator[Path]:
    """A place to write a checkpoint, put at `folder` when all is there; `into`: file by file, beside what is.

    Raises: TransectError when it cannot be written.
    """
    with refused(folder):
        make_folder(folder.parent)
        partial = partial_of(folder)
        partial.mkdir()
        try:
            yield partial
            if not into:
                write_sums(partial, [p for p in partial.rglob("*") if p.is_file()])
            for file in (p for p in partial.rglob("*") if p.is_file()):
                sync_file(file)
            if into:
                for file in partial.iterdir():
                    publish(file, folder / file.name)
            else:
                shutil.rmtree(folder, ignore_errors=True)
                publish(partial, folder)
        finally:
            discard(partial)
