"""Hostile folders, files, words and requests: a TransectError that says what to do, or a result, and nothing else."""

import functools
import hashlib
import io
import json
import os
import pickle
import shutil
import stat
import tempfile
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from starlette.testclient import TestClient

import transect as ts
from planted import planted_store
from tiny import save_tiny
from transect.app.server import make_app
from transect.cli import message
from transect.errors import TransectError
from transect.measure import find
from transect.report import to_csv
from transect.shapes import find_shape
from transect.shards import map_shard
from transect.study import Study
from transect.table import Table
from transect.templates import generate, read_template

HOST, TOKEN = "127.0.0.1:4000", "sesame"
ESCAPE = "\x1b]0;owned\x07\x1b[2J\u202eevil"
LONG = 1_000_000
modest = functools.partial(
    settings, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ts.Store:
    rng = np.random.default_rng(0)
    lengths = [7, 5, 9, 6]
    layers = [rng.normal(size=(27, 6)) + 3, rng.normal(size=(27, 4))]
    out = tmp_path_factory.mktemp("attacks") / "store"
    return planted_store(out, layers, lengths, landmarks={"verb": [1, 2, 0, 3]})


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def changed(store: ts.Store, tmp_path: Path) -> Path:
    copy = Path(tempfile.mkdtemp(dir=tmp_path)) / "store"
    shutil.copytree(store.path, copy)
    return copy


def used(folder: Path) -> ts.Store | None:
    """Everything a study reads of a store: TransectErrors are answers, anything else is a fault."""
    try:
        opened = ts.open_store(folder)
    except TransectError:
        return None
    repr(opened), opened.labels, opened.landmarks, opened.unfinished, opened.same_tokens(opened)
    for tokens in ("all", "last", "mean", "landmark:verb", -1):
        for site in opened.sites:
            try:
                assert opened.points(site, tokens).shape[1] == opened.width(site)
            except TransectError:
                continue
    for call in (opened.ranges, opened.verify):
        try:
            call()
        except TransectError:
            continue
    return opened


def first_points(folder: Path) -> np.ndarray:
    opened = ts.open_store(folder)
    return opened.points(opened.sites[0])


def told_briefly(call: Any, *given: Any) -> Any:
    """The result, or None where a TransectError came that fits a screen."""
    try:
        return call(*given)
    except TransectError as error:
        shown = message(error)
    assert len(shown) < 10_000
    return None


# folders


class Bomb:
    """What a pickle may do when it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.mark),)


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


def test_a_training_state_that_is_a_pickle_is_not_run(tmp_path: Path) -> None:
    import torch

    from transect.train.state import load_state

    torch.save({"step": 1, "log": "[]", "trained": Bomb(tmp_path / "ran")}, tmp_path / "state.pt")
    with pytest.raises(TransectError, match="damaged"):
        load_state(tmp_path, "cpu")
    assert not (tmp_path / "ran").exists()


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
    (copy / file).write_text(json.dumps(told | change if isinstance(told, dict) else change))
    with pytest.raises(TransectError, match=says) as caught:
        first_points(copy)
    assert caught.value.fix


@pytest.mark.parametrize(
    ("column", "value"), [("row", 10**12), ("row", -1), ("rows", 10**15), ("shard", 7), ("shard", -1), ("length", 3)]
)
def test_an_index_cannot_lead_outside_of_a_shard(store: ts.Store, tmp_path: Path, column: str, value: int) -> None:
    import pyarrow as pa

    copy = changed(store, tmp_path)
    table = pq.read_table(copy / "texts.parquet")
    values = table[column].to_pylist()
    values[2] = value
    table = table.set_column(table.column_names.index(column), column, pa.array(values, pa.int64()))
    pq.write_table(table, copy / "texts.parquet")
    with pytest.raises(TransectError, match=r"texts\.parquet is damaged"):
        ts.open_store(copy)


def test_a_study_cannot_name_tables_outside_of_its_folder(tmp_path: Path) -> None:
    Table([{"measure": "secret", "value": 1.0}]).save(tmp_path / "secret.parquet")
    study = Study("drift", "?", {"adjacent": Table([{"measure": "cka", "value": 0.5}])})
    study.save(tmp_path / "home" / "study")
    told = json.loads((tmp_path / "home" / "study" / "study.json").read_text())
    for name in ("../../secret", str(tmp_path / "secret"), "..\\secret", "", 3):
        (tmp_path / "home" / "study" / "study.json").write_text(json.dumps(told | {"tables": [name]}))
        with pytest.raises(TransectError, match="table"):
            Study.load(tmp_path / "home" / "study")
        with TestClient(make_app([tmp_path / "home"], TOKEN, {HOST}), base_url=f"http://{HOST}") as client:
            card = client.get(f"/api/catalog?token={TOKEN}").json()
        assert not card["studies"]
        assert len(card["problems"]) == 1


# words


def test_cells_that_a_spreadsheet_would_run_are_text() -> None:
    run = ["=1+1", "+1", "-1+cmd|' /C calc'!A0", "@SUM(1)", "\t=1", "\r=1", "\n=1", " =1", "＝1", "a=1"]
    table = Table([{"measure": "m", "run": cell, "status": "ok", "=head": "x", "value": -1.5} for cell in run])
    lines = to_csv(table)
    for cell in run[:-1]:
        assert f"'{cell}" in lines, repr(cell)
    assert "'a=1" not in lines
    assert "'=head" in lines.splitlines()[0]
    assert ",-1.5," in lines, "numbers stay numbers"


def test_words_of_a_study_do_not_become_markup(tmp_path: Path) -> None:
    nasty = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'`{{7*7}}{% x %}]]></style>"
    table = Table([{"measure": "cka", "run": nasty, "site": nasty, "site2": nasty, "value": 0.5, "status": nasty}])
    study = Study(
        nasty, nasty, {nasty.replace("/", ""): table}, [], [nasty], [nasty], [nasty], {"runs": [], nasty: nasty}
    )
    page = ts.report(study, tmp_path / "r.html", static=True).read_text()
    assert "<script" not in page
    assert "<img src=x" not in page
    assert "&lt;script&gt;" in page
    assert "49" not in page.split("</style>")[1].replace("Transect 0", "")


def test_nothing_drives_the_terminal(store: ts.Store, tmp_path: Path) -> None:
    from click.testing import CliRunner

    from transect.cli import cli

    copy = changed(store, tmp_path)
    told = json.loads((copy / "manifest.json").read_text())
    told["model"] |= {"spec": ESCAPE, "name": ESCAPE}
    told["texts"]["spec"] = told["created"] = told["attention"] = ESCAPE
    told["origin"] = {ESCAPE: ESCAPE}
    (copy / "manifest.json").write_text(json.dumps(told))
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


def unpacked(monkeypatch: pytest.MonkeyPatch, cache: Path, data: bytes, members: tuple[str, ...] = (r".*",)) -> Path:
    """What `fetch` makes of an archive whose own hash is right."""
    from transect.fetch import PACKAGES, Package, fetch

    monkeypatch.setenv("TRANSECT_CACHE", str(cache))
    (cache / "archives").mkdir(parents=True, exist_ok=True)
    (cache / "archives" / "fake-1.whl").write_bytes(data)
    line = f"{hashlib.sha256(b'A').hexdigest()}  a.txt\n"
    tree = hashlib.sha256(line.encode()).hexdigest()
    made = Package("pypi", "1", "fake-1.whl", hashlib.sha256(data).hexdigest(), members, tree, "none")
    monkeypatch.setitem(PACKAGES, "fake", made)
    return fetch("fake")


def test_an_archive_that_grows_a_thousandfold_is_not_unpacked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import transect.fetch as room

    monkeypatch.setattr(room, "MEMBER_LIMIT", 1 << 20)
    data = wheel({"p/a.txt": bytes(64 << 20)})
    assert len(data) < 100_000
    tracemalloc.start()
    with pytest.raises(TransectError, match="more than"):
        unpacked(monkeypatch, tmp_path, data)
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()
    assert not list((tmp_path / "packages").glob("*"))


@pytest.mark.parametrize("name", ["/etc/a.txt", "../../../a.txt", "p/./a.txt"])
def test_names_of_an_archive_lead_nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    folder = unpacked(monkeypatch, tmp_path / "cache", wheel({name: b"A"}, stat.S_IFLNK | 0o777))
    assert [p.name for p in folder.iterdir()] == ["a.txt"]
    assert not (folder / "a.txt").is_symlink(), "a link is the text it holds"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cache"]


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


# fuzz


def spoilt(data: bytes, edits: list[tuple[int, int]], length: float) -> bytes:
    """Bytes with some changed and the end cut off."""
    changed = bytearray(data[: max(1, int(len(data) * length))])
    for at, value in edits:
        changed[at % len(changed)] = value
    return bytes(changed)


EDITS = some.lists(some.tuples(some.integers(0, 1 << 20), some.integers(0, 255)), max_size=6)
KEPT = some.sampled_from([1.0, 1.0, 1.0, 0.97, 0.5, 0.01])


@modest(max_examples=150)
@given(edits=EDITS, kept=KEPT)
def test_shards_with_changed_bytes(store: ts.Store, edits: list[tuple[int, int]], kept: float, tmp_path: Path) -> None:
    data = store.shard(0).read_bytes()
    length = int.from_bytes(data[:8], "little")
    head = spoilt(data[: 8 + length], edits, kept)
    (tmp_path / "s.safetensors").write_bytes(head + (data[8 + length :] if kept == 1.0 else b""))
    try:
        shard = map_shard(tmp_path / "s.safetensors")
    except TransectError:
        return
    for array in shard.arrays.values():
        assert array.ndim == 2
        np.asarray(array).sum(dtype=np.float64)


ENTRY = some.recursive(
    some.none() | some.booleans() | some.integers(-(2**70), 2**70) | some.floats() | some.text(max_size=6),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@modest(max_examples=150)
@given(
    dtype=some.sampled_from(["F32", "F16", "BF16", "F64", "U8", None, []]) | ENTRY,
    shape=some.lists(some.integers(-3, 40), max_size=3) | ENTRY,
    offsets=some.lists(some.integers(-64, 600), max_size=3) | ENTRY,
)
def test_headers_that_lie(dtype: Any, shape: Any, offsets: Any, tmp_path: Path) -> None:
    text = json.dumps({"resid.0": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}).encode()
    (tmp_path / "s.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(512))
    try:
        found = map_shard(tmp_path / "s.safetensors").arrays["resid.0"]
    except TransectError:
        return
    assert list(found.shape) == shape
    assert found.nbytes == offsets[1] - offsets[0] <= 512
    assert not np.asarray(found).view(np.uint8).any(), "zeros behind the header, and nothing of the header itself"


@modest(max_examples=120)
@given(
    file=some.sampled_from(["manifest.json", "plan.json", "texts.parquet", "shards/00000.json"]), edits=EDITS, kept=KEPT
)
def test_stores_with_changed_bytes(
    store: ts.Store, file: str, edits: list[tuple[int, int]], kept: float, tmp_path: Path
) -> None:
    copy = changed(store, tmp_path)
    (copy / file).write_bytes(spoilt((copy / file).read_bytes(), edits, kept))
    used(copy)
    shutil.rmtree(copy.parent)


@modest(max_examples=120)
@given(
    where=some.sampled_from(
        [
            "sites",
            "model",
            "texts",
            "dtype",
            "pool",
            "positions",
            "fingerprint",
            "tokens_hash",
            "origin",
            "format",
            "plan",
        ]
    ),
    value=ENTRY,
)
def test_manifests_of_other_kinds(store: ts.Store, where: str, value: Any, tmp_path: Path) -> None:
    copy = changed(store, tmp_path)
    if where == "plan":
        (copy / "plan.json").write_text(json.dumps(value))
    else:
        told = json.loads((copy / "manifest.json").read_text())
        (copy / "manifest.json").write_text(json.dumps(told | {where: value}))
    used(copy)
    shutil.rmtree(copy.parent)


FIELD = some.sampled_from(
    ["{a}", "{b}", "{a}{a}", "{", "}", "{}", "{a.b}", "{a[0]}", "{a!r:>{b}}", "{{", " word ", "\ud800"]
)
CHOICE = (
    some.text(max_size=4)
    | some.dictionaries(
        some.sampled_from(["a", "b", "labels", "weight", ""]), some.text(max_size=3) | ENTRY, max_size=3
    )
    | ENTRY
)


@modest(max_examples=300)
@given(
    templates=some.lists(some.lists(FIELD, min_size=1, max_size=4).map("".join), max_size=3) | ENTRY,
    slots=some.dictionaries(some.sampled_from(["a", "b", ""]), some.lists(CHOICE, max_size=3) | ENTRY, max_size=2)
    | ENTRY,
    landmarks=some.dictionaries(some.text(max_size=3), some.text(max_size=3) | ENTRY, max_size=2) | ENTRY,
    repeats=some.booleans() | ENTRY,
)
def test_templates_of_any_kind(templates: Any, slots: Any, landmarks: Any, repeats: Any, tmp_path: Path) -> None:
    told = {"templates": templates, "slots": slots, "landmarks": landmarks, "repeats": repeats}
    (tmp_path / "t.json").write_text(json.dumps(told))
    try:
        made = generate(read_template(tmp_path / "t.json"), None if not repeats else 5, seed=0)
    except TransectError:
        return
    for i, text in enumerate(made.texts):
        text.encode()
        for spans in made.landmarks.values():
            assert spans[i] is None or 0 <= spans[i][0] < spans[i][1] <= len(text)


@modest(max_examples=60)
@given(data=some.binary(max_size=60) | some.text(alphabet='{}[]":,a\\', max_size=40).map(str.encode))
def test_template_files_of_any_bytes(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "t.json").write_bytes(data)
    with pytest.raises(TransectError):
        ts.open_texts(f"template:{tmp_path / 't.json'}")


SPEC = some.text(alphabet="ab1²-:.@+~\0\n\ud800é ,{}%*=", max_size=30) | some.sampled_from(
    ["a" * 5000, "~nobody/x.txt", "template:" + "x" * 300, "birthdays:²", "birthdays:--5", "brown:0", "birthdays:" + "9" * 5000,
     "random:", "random:random:", "+", "a+", "+a", "x.gguf", "\0.gguf", ".", "/", "/dev/null", "..", "@", "template:/", "squad_v2@", "-:3:x"]
)  # fmt: skip


@modest(max_examples=150)
@given(spec=SPEC)
def test_specs_of_any_kind(spec: str, store: ts.Store) -> None:
    calls = [find, find_shape, functools.partial(store.points, "resid.0"), store.check_site, store.label, store.select]
    if not spec.startswith("-"):
        calls.append(ts.open_texts)
    for call in calls:
        told_briefly(call, spec)


@modest(max_examples=40)
@given(spec=SPEC)
def test_model_specs_of_any_kind(spec: str) -> None:
    with pytest.raises(TransectError):
        ts.open_model(spec)


@modest(max_examples=60)
@given(text=some.text(alphabet="0123456789²/-x: ", max_size=12))
def test_parts_and_engines_of_any_kind(text: str) -> None:
    from transect.engine import part_of, run_blocks

    try:
        k, n = part_of(text)
        assert 1 <= k <= n
    except TransectError:
        pass
    with pytest.raises(TransectError):
        list(run_blocks(abs, [1], engine=f"nowhere{text}"))


# requests


@pytest.fixture(scope="module")
def client(store: ts.Store) -> Iterator[TestClient]:
    home = store.path.parent
    Study("drift", "?", {"adjacent": Table([{"measure": "cka", "value": 0.5}])}).save(home / "study")
    with TestClient(
        make_app([home], TOKEN, {HOST}),
        base_url=f"http://{HOST}",
        headers={"x-transect-token": TOKEN},
        raise_server_exceptions=False,
    ) as made:
        yield made


PIECE = some.text(alphabet="ab0.%2f\\?#;&=\x7f é", max_size=12) | some.sampled_from(
    [
        "..",
        "api",
        "catalog",
        "study",
        "store",
        "jobs",
        "texts",
        "events",
        "values",
        "assets",
        "job-1",
        "%00",
        "a" * 3000,
    ]
)
NUMBER = some.sampled_from(["", "-1", "0", "x", "²", "1e9", "9" * 30, "-" + "9" * 5000, "NaN", "1.5", "\0"])


@modest(max_examples=150)
@given(
    pieces=some.lists(PIECE, max_size=6), query=some.tuples(some.sampled_from(["start", "step", "from", "x"]), NUMBER)
)
def test_addresses_of_any_kind(client: TestClient, pieces: list[str], query: tuple[str, str]) -> None:
    from urllib.parse import quote

    path = "/" + "/".join(quote(p, safe="%") for p in pieces)
    for method in ("GET", "POST", "DELETE"):
        answer = client.request(method, path, params=dict([query]))
        assert answer.status_code < 500, (method, path, answer.text)


@modest(max_examples=60)
@given(number=NUMBER)
def test_numbers_of_any_kind(client: TestClient, number: str) -> None:
    told = client.get("/api/catalog").json()
    key, study = told["stores"][0]["id"], told["studies"][0]["id"]
    for path in (f"/api/store/{key}/texts", f"/api/study/{study}/table/adjacent", "/api/jobs/job-1/values"):
        for name in ("start", "step", "from"):
            assert client.get(path, params={name: number}).status_code < 500


@modest(max_examples=120)
@given(
    body=some.dictionaries(
        some.sampled_from(["kind", "store", "study", "site", "neuron", "text", "model", "prompt"]), ENTRY
    )
    | ENTRY,
    kind=some.sampled_from(["live", "neuron", "similarity", "scatter", "shell"]),
)
def test_jobs_of_any_kind_that_name_nothing(client: TestClient, body: Any, kind: str) -> None:
    """Nothing here names a store or a model that is there, so that no job may start."""
    asked = body | {"kind": kind} if isinstance(body, dict) else body
    data = json.dumps(asked).encode("utf-8", "surrogatepass")
    assert client.post("/api/jobs", content=data).status_code == 400
    assert client.get("/api/jobs").json() == []


@pytest.mark.parametrize("data", [b"[" * 100_000, b"\xff\xfe", b"", b'{"kind":' + b"9" * 10_000 + b"}"])
def test_bodies_made_to_break_a_reader(client: TestClient, data: bytes) -> None:
    assert client.post("/api/jobs", content=data).status_code == 400


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example:4000"},
        {"host": "127.0.0.1.evil.example:4000"},
        {"host": "127.0.0.1"},
        {"host": "[::1]:4000"},
        {"host": f"{HOST}, evil.example"},
        {"origin": f"http://{HOST}.evil.example"},
        {"origin": f"https://{HOST}"},
        {"origin": ""},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_a_page_of_another_name_changes_nothing(client: TestClient, headers: dict[str, str], method: str) -> None:
    """A name that was pointed at this machine after the page had loaded, with the token it cannot have."""
    for path in ("/api/jobs", "/api/catalog", "/api/jobs/job-1"):
        answer = client.request(method, path, headers=headers, json={"kind": "live"})
        assert answer.status_code in (403, 421), (path, answer.status_code)
        assert "access-control-allow-origin" not in answer.headers
