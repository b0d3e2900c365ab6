"""Hostile folders, files and words: a TransectError that says what to do, or a result, and nothing else."""

import hashlib
import io
import json
import os
import pickle
import shutil
import stat
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as some
from starlette.testclient import TestClient

import transect as ts
from hostile import HOST, TOKEN, changed, modest, small_store, told_briefly
from tiny import save_tiny
from transect.cli.main import message
from transect.errors import TransectError
from transect.files import write_json
from transect.page.report import to_csv
from transect.page.server import make_app
from transect.results.study import Study
from transect.results.table import Table

ESCAPE = "\x1b]0;owned\x07\x1b[2J\u202eevil"
LONG = 1_000_000


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ts.Store:
    return small_store(tmp_path_factory.mktemp("attacks") / "store")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def first_points(folder: Path) -> np.ndarray:
    opened = ts.open_store(folder)
    return opened.points(opened.sites[0])


# folders


class Bomb:
    """What a pickle may do when it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.fault(
    "bad input",
    "a model folder with pickles (`.bin`, `.pt`)",
    "they are never read; a folder with nothing else is refused, with the way to convert it",
)
@pytest.mark.parametrize("name", ["pytorch_model.bin", "adapter_model.bin", "model.pt", "training_args.bin"])
def test_no_pickle_of_a_model_folder_is_read(tmp_path: Path, name: str) -> None:
    folder = save_tiny(tmp_path / "model", "llama")
    (folder / name).write_bytes(pickle.dumps(Bomb(tmp_path / "ran")))
    ts.open_model(str(folder))  # the safetensors beside it
    (folder / "model.safetensors").unlink()
    with pytest.raises(TransectError, match=r"safetensors|pickle"):
        ts.open_model(str(folder))
    if name == "adapter_model.bin":
        base = save_tiny(tmp_path / "base", "llama")
        (folder / "adapter_config.json").write_text(
            json.dumps({"peft_type": "LORA", "r": 2, "target_modules": ["q_proj"]})
        )
        with pytest.raises(TransectError):
            ts.open_model(f"{base}+{folder}")
    assert not (tmp_path / "ran").exists()


@pytest.mark.fault(
    "bad input", "a `state.pt` that would run something as it is read", "refused; nothing of it runs"
)
def test_a_training_state_that_is_a_pickle_is_not_run(tmp_path: Path) -> None:
    import torch

    from transect.train.state import load_state

    torch.save({"step": 1, "log": "[]", "trained": Bomb(tmp_path / "ran")}, tmp_path / "state.pt")
    with pytest.raises(TransectError, match="damaged"):
        load_state(tmp_path, "cpu")
    assert not (tmp_path / "ran").exists()


@pytest.mark.fault(
    "bad input",
    "a manifest, plan, index or shard header that lies about sizes or places",
    "refused before anything of it is believed; rows cannot be read outside of their shard",
)
@pytest.mark.parametrize(
    ("file", "change", "says"),
    [
        ("manifest.json", {"sites": {"../../x": {"width": 6}}}, "does not hold|was not"),
        ("manifest.json", {"sites": {"resid.0": {"width": 1 << 60}}}, "width"),
        ("manifest.json", {"sites": {"resid.0": {"width": -6}}}, "width"),
        ("manifest.json", {"sites": {}}, "no sites"),
        ("manifest.json", {"model": "x"}, "model"),
        ("manifest.json", {"fingerprint": None}, "fingerprint is missing"),
        ("plan.json", {"../../x": 1}, "list of shards"),
        ("plan.json", [], "outside"),
    ],
)
def test_a_manifest_or_plan_that_lies_is_refused(
    store: ts.Store, tmp_path: Path, file: str, change: Any, says: str
) -> None:
    copy = changed(store, tmp_path)
    told = json.loads((copy / file).read_text())
    write_json(copy / file, told | change if isinstance(told, dict) else change)
    with pytest.raises(TransectError, match=says) as caught:
        first_points(copy)
    assert caught.value.fix


@pytest.mark.fault("bad input", "a manifest, plan, index or shard header that lies about sizes or places")
@pytest.mark.parametrize(
    ("column", "value"),
    [("row", 10**12), ("row", -1), ("rows", 10**15), ("shard", 7), ("shard", -1), ("length", 3)],
)
def test_an_index_cannot_lead_outside_of_a_shard(
    store: ts.Store, tmp_path: Path, column: str, value: int
) -> None:
    import pyarrow as pa

    copy = changed(store, tmp_path)
    table = pq.read_table(copy / "texts.parquet")
    values = table[column].to_pylist()
    values[2] = value
    table = table.set_column(table.column_names.index(column), column, pa.array(values, pa.int64()))
    pq.write_table(table, copy / "texts.parquet")
    with pytest.raises(TransectError, match=r"texts\.parquet is damaged"):
        ts.open_store(copy)


@pytest.mark.fault("bad input", "a study that names tables in other folders", "refused")
def test_a_study_cannot_name_tables_outside_of_its_folder(tmp_path: Path) -> None:
    Table([{"measure": "secret", "value": 1.0}]).save(tmp_path / "secret.parquet")
    study = Study("drift", "?", {"adjacent": Table([{"measure": "cka", "value": 0.5}])})
    study.save(tmp_path / "home" / "study")
    told = json.loads((tmp_path / "home" / "study" / "study.json").read_text())
    for name in ("../../secret", str(tmp_path / "secret"), "..\\secret", "", 3):
        write_json(tmp_path / "home" / "study" / "study.json", told | {"tables": [name]})
        with pytest.raises(TransectError, match="table"):
            Study.load(tmp_path / "home" / "study")
        with TestClient(make_app([tmp_path / "home"], TOKEN, {HOST}), base_url=f"http://{HOST}") as client:
            card = client.get(f"/api/catalog?token={TOKEN}").json()
        assert not card["studies"]
        assert len(card["problems"]) == 1


# words


@pytest.mark.fault(
    "bad input",
    "cells that a spreadsheet would run (`=`, `+`, `-`, `@`)",
    "an apostrophe in front, in the CSV of reports",
)
def test_cells_that_a_spreadsheet_would_run_are_text() -> None:
    run = ["=1+1", "+1", "-1+cmd|' /C calc'!A0", "@SUM(1)", "\t=1", "\r=1", "\n=1", " =1", "＝1", "a=1"]
    table = Table(
        [{"measure": "m", "run": cell, "status": "ok", "=head": "x", "value": -1.5} for cell in run]
    )
    lines = to_csv(table)
    for cell in run[:-1]:
        assert f"'{cell}" in lines, repr(cell)
    assert "'a=1" not in lines
    assert "'=head" in lines.splitlines()[0]
    assert ",-1.5," in lines, "numbers stay numbers"


@pytest.mark.fault(
    "bad input",
    "texts, labels and names with HTML or scripts",
    "shown as the characters they are; the report's policy forbids scripts but its own",
)
def test_words_of_a_study_do_not_become_markup(tmp_path: Path) -> None:
    nasty = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'`{{7*7}}{% x %}]]></style>"
    table = Table(
        [{"measure": "cka", "run": nasty, "site": nasty, "site2": nasty, "value": 0.5, "status": nasty}]
    )
    study = Study(
        nasty,
        nasty,
        {nasty.replace("/", ""): table},
        [],
        [nasty],
        [nasty],
        [nasty],
        {"runs": [], nasty: nasty},
    )
    page = ts.report(study, tmp_path / "r.html", static=True).read_text()
    assert "<script" not in page
    assert "<img src=x" not in page
    assert "&lt;script&gt;" in page
    assert "49" not in page.split("</style>")[1].replace("Transect 0", "")


@pytest.mark.fault(
    "bad input",
    "terminal escapes, characters that turn the reading order",
    "left out of everything that is printed",
)
def test_nothing_drives_the_terminal(store: ts.Store, tmp_path: Path) -> None:
    from click.testing import CliRunner

    from transect.cli.main import cli

    copy = changed(store, tmp_path)
    told = json.loads((copy / "manifest.json").read_text())
    told["model"] |= {"spec": ESCAPE, "name": ESCAPE}
    told["texts"]["spec"] = told["created"] = told["attention"] = ESCAPE
    told["origin"] = {ESCAPE: ESCAPE}
    write_json(copy / "manifest.json", told)
    for order in (["info", str(copy)], ["measure", "mean_norm", str(copy), "--groups", "2"]):
        done = CliRunner().invoke(cli, order)
        assert done.exit_code == 0, done.output
        assert not {"\x1b", "\x07", "\u202e"} & set(done.output), order
    shown = message(TransectError(ESCAPE * 3, ESCAPE))
    assert not {"\x1b", "\x07", "\u202e"} & set(shown)
    assert len(message(TransectError("x" * LONG, "y"))) < 10_000


# files


def wheel(files: dict[str, bytes], mode: int = 0) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, data in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr, info.compress_type = mode << 16, zipfile.ZIP_DEFLATED
            opened.writestr(info, data)
    return out.getvalue()


def unpacked(
    monkeypatch: pytest.MonkeyPatch, cache: Path, data: bytes, members: tuple[str, ...] = (r".*",)
) -> Path:
    """What `fetch` makes of an archive whose own hash is right."""
    from transect.packages import PACKAGES, Package, fetch

    monkeypatch.setenv("TRANSECT_CACHE", str(cache))
    (cache / "archives").mkdir(parents=True, exist_ok=True)
    (cache / "archives" / "fake-1.whl").write_bytes(data)
    line = f"{hashlib.sha256(b'A').hexdigest()}  a.txt\n"
    tree = hashlib.sha256(line.encode()).hexdigest()
    made = Package("pypi", "1", "fake-1.whl", hashlib.sha256(data).hexdigest(), members, tree, "none")
    monkeypatch.setitem(PACKAGES, "fake", made)
    return fetch("fake")


@pytest.mark.fault(
    "bad input",
    "archives that grow a thousandfold, with links or absolute names",
    "nothing beyond the limit is unpacked; files keep their own name only, and every hash is checked",
)
def test_an_archive_that_grows_a_thousandfold_is_not_unpacked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import transect.packages as room

    monkeypatch.setattr(room, "MEMBER_LIMIT", 1 << 20)
    data = wheel({"p/a.txt": bytes(64 << 20)})
    assert len(data) < 100_000
    tracemalloc.start()
    with pytest.raises(TransectError, match="more than"):
        unpacked(monkeypatch, tmp_path, data)
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()
    assert not list((tmp_path / "packages").glob("*"))


@pytest.mark.fault("bad input", "archives that grow a thousandfold, with links or absolute names")
@pytest.mark.parametrize("name", ["/etc/a.txt", "../../../a.txt", "p/./a.txt"])
def test_names_of_an_archive_lead_nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    folder = unpacked(monkeypatch, tmp_path / "cache", wheel({name: b"A"}, stat.S_IFLNK | 0o777))
    assert [p.name for p in folder.iterdir()] == ["a.txt"]
    assert not (folder / "a.txt").is_symlink(), "a link is the text it holds"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cache"]


@pytest.mark.fault("bad input", "archives that grow a thousandfold, with links or absolute names")
@modest(max_examples=60)
@given(cuts=some.lists(some.tuples(some.integers(0, 400), some.integers(0, 255)), min_size=1, max_size=4))
def test_archives_with_changed_bytes(cuts: list[tuple[int, int]], tmp_path: Path) -> None:
    data = bytearray(wheel({"p/a.txt": b"A", "p/b.txt": b"B" * 300}))
    for at, value in cuts:
        data[at % len(data)] = value
    with pytest.MonkeyPatch.context() as patch:
        try:
            assert (unpacked(patch, tmp_path, bytes(data), (r"p/a\.txt",)) / "a.txt").read_bytes() == b"A"
        except TransectError:
            pass
        finally:
            shutil.rmtree(tmp_path / "packages", ignore_errors=True)


@pytest.mark.fault(
    "bad input",
    "lines of a million characters, JSON nested without end",
    "read as they are, or refused with the line",
)
@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "tsv", "txt"])
def test_a_line_of_a_million_characters_is_a_text(tmp_path: Path, kind: str) -> None:
    text, file = ("ab " * LONG)[:LONG].rstrip() + ".", tmp_path / f"long.{kind}"
    rows = [{"text": text, "y": 1}, {"text": "short", "y": 2}]
    separator = "\t" if kind == "tsv" else ","
    content = {
        "jsonl": "\n".join(json.dumps(r) for r in rows),
        "json": json.dumps(rows),
        "txt": "\n".join(r["text"] for r in rows),
    }.get(kind, "\n".join([f"text{separator}y", *(f"{r['text']}{separator}{r['y']}" for r in rows)]))
    file.write_text(content)
    opened = ts.open_texts(str(file))
    assert opened.texts == [text, "short"]


@pytest.mark.fault("bad input", "lines of a million characters, JSON nested without end")
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("deep.jsonl", '{"text": ' + "[" * 100_000 + "]" * 100_000 + "}"),
        ("deep.json", "[" * 100_000),
        ("long.jsonl", '{"text": "' + "x" * LONG),
        ("long.csv", 'text\n"' + "x" * LONG),
        ("wide.csv", "text\n" + "a," * 100_000),
        ("number.jsonl", '{"text": "a", "y": ' + "9" * 10_000 + "}"),
        ("nul.csv", "text\n\0a\0"),
        ("half.json", '[{"text": "\\ud800"}]'),
    ],
)
def test_files_made_to_break_a_reader(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    opened = told_briefly(ts.open_texts, str(tmp_path / name))
    assert opened is None or opened.texts
