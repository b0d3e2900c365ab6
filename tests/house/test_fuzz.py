"""Bytes, headers, templates and specs of any kind: a TransectError, or what was asked for, and nothing
else."""

import functools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

import transect as ts
from hostile import changed, modest, small_store, told_briefly
from transect.errors import TransectError
from transect.files import CHECKSUM
from transect.measures.registry import find
from transect.numeric.shapes import find_shape
from transect.store.shards import map_shard
from transect.texts.templates import generate, read_template


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ts.Store:
    return small_store(tmp_path_factory.mktemp("attacks") / "store")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


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
def test_shards_with_changed_bytes(
    store: ts.Store, edits: list[tuple[int, int]], kept: float, tmp_path: Path
) -> None:
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


@pytest.mark.fault("bad input", "a manifest, plan, index or shard header that lies about sizes or places")
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
    assert not np.asarray(found).view(np.uint8).any(), (
        "zeros behind the header, and nothing of the header itself"
    )


@modest(max_examples=120)
@given(
    file=some.sampled_from(["manifest.json", "plan.json", "texts.parquet", "shards/00000.json"]),
    edits=EDITS,
    kept=KEPT,
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
        del told[CHECKSUM]
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
    slots=some.dictionaries(
        some.sampled_from(["a", "b", ""]), some.lists(CHOICE, max_size=3) | ENTRY, max_size=2
    )
    | ENTRY,
    landmarks=some.dictionaries(some.text(max_size=3), some.text(max_size=3) | ENTRY, max_size=2) | ENTRY,
    repeats=some.booleans() | ENTRY,
)
def test_templates_of_any_kind(
    templates: Any, slots: Any, landmarks: Any, repeats: Any, tmp_path: Path
) -> None:
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
    ["a" * 5000, "~nobody/x.txt", "template:" + "x" * 300, "birthdays:²", "birthdays:--5", "brown:0",
     "birthdays:" + "9" * 5000,
     "random:", "random:random:", "+", "a+", "+a", "x.gguf", "\0.gguf", ".", "/", "/dev/null", "..", "@",
     "template:/", "squad_v2@", "-:3:x"]
)  # fmt: skip


@modest(max_examples=150)
@given(spec=SPEC)
def test_specs_of_any_kind(spec: str, store: ts.Store) -> None:
    calls = [
        find,
        find_shape,
        functools.partial(store.points, "resid.0"),
        store.check_site,
        store.label,
        store.select,
    ]
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
    from transect.work.parts import part_of
    from transect.work.pool import run_blocks

    try:
        k, n = part_of(text)
        assert 1 <= k <= n
    except TransectError:
        pass
    with pytest.raises(TransectError):
        list(run_blocks(abs, [1], engine=f"nowhere{text}"))
