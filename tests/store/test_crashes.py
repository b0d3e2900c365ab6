"""Simulated crashes: each writer is stopped before every call to the disk, and every file has bits flipped in
it.

Afterwards the same command ends as if nothing had been, or is refused with a remedy that works; no damage
goes unnamed.
"""

import functools
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import transect as ts
from crashing import DAMAGES, STOPS, crashed_everywhere, cuts, files, flips
from planted import planted_store
from tiny import make_texts, tiny_model, tiny_tokenizer
from transect.errors import TransectError
from transect.results.study import Figure, Study, verify_study
from transect.results.table import Table
from transect.store.manifest import begin
from transect.store.store import Store

SMALL: dict[str, Any] = {"sites": ["resid"], "layers": [1, 2], "batch_tokens": 64, "shard_bytes": 16_000}
SWEEP: dict[str, Any] = {"pairs": "all", "n": 12, "groups": 2, "permutations": 2, "workers": 1}


def opened() -> ts.Model:
    return ts.wrap_model(tiny_model("llama"), tiny_tokenizer(), "tiny")


@pytest.fixture(scope="module")
def model() -> ts.Model:
    return opened()


@pytest.fixture(scope="module")
def whole(model: ts.Model, tmp_path_factory: pytest.TempPathFactory) -> ts.Store:
    made = ts.capture(model, make_texts(6), tmp_path_factory.mktemp("whole") / "s", **SMALL)
    assert len(made.plan) > 1, "the test must cross shards"
    return made


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> ts.Store:
    rng = np.random.default_rng(0)
    lengths = [4 + k % 3 for k in range(8)]
    layers = [rng.normal(size=(sum(lengths), 4)).astype(np.float32) for _ in range(2)]
    return planted_store(tmp_path_factory.mktemp("grown") / "s", layers, lengths)


def same_shards(one: Store, two: Store) -> bool:
    return all(one.shard(k).read_bytes() == two.shard(k).read_bytes() for k in range(len(one.plan)))


def a_study(value: float) -> Study:
    tables = {name: Table([{"measure": name, "value": value}] * 3, {"seed": 1}) for name in ("one", "two")}
    figures = [Figure("curve", "layers", "one", "title", "caption")]
    return Study("drift", "what?", tables, figures, [f"it is {value}"], provenance={"seed": 1})


def remedied(error: TransectError, where: Any) -> None:
    """A refusal says what to do."""
    assert error.fix, where


# stopped


@pytest.mark.fault(
    "bad luck",
    "a writer stops before any one of its calls to the disk",
    "a partial file that nothing reads",
    "run the same command: the same bytes as from the unbroken run",
)
def test_a_capture_stopped_before_any_call_ends_as_the_unbroken_one(
    model: ts.Model, whole: ts.Store, tmp_path: Path
) -> None:
    out = tmp_path / "s"

    def check(stop: int) -> None:
        again = ts.capture(model, make_texts(6), out, **SMALL)
        assert again.verify() == [], stop
        assert same_shards(again, whole), stop
        shutil.rmtree(out)

    assert (
        crashed_everywhere(lambda: ts.capture(model, make_texts(6), out, **SMALL), check)
        == STOPS["a capture"]
    )


@pytest.mark.fault("bad luck", "a writer stops before any one of its calls to the disk")
def test_a_sweep_stopped_before_any_call_ends_as_the_unbroken_one(grown: ts.Store, tmp_path: Path) -> None:
    table = ts.sweep("cka", grown, out=tmp_path / "whole", **SWEEP)
    out = tmp_path / "s"

    def check(stop: int) -> None:
        assert ts.sweep("cka", grown, out=out, **SWEEP).arrow.equals(table.arrow), stop
        assert files(out) == files(tmp_path / "whole"), stop
        shutil.rmtree(out)

    tried = crashed_everywhere(lambda: ts.sweep("cka", grown, out=out, **SWEEP), check)
    assert tried == STOPS["a sweep"]


@pytest.mark.fault("bad luck", "a writer stops before any one of its calls to the disk")
@pytest.mark.parametrize("held", [False, True])
def test_a_study_stopped_as_it_is_saved_is_the_old_one_or_the_new_one_or_refused(
    tmp_path: Path, held: bool
) -> None:
    out = tmp_path / "s"
    old, new = (files(a_study(v).save(tmp_path / f"{v}")) for v in (1.0, 2.0))

    def write() -> None:
        if held and not (out / "study.json").exists():
            shutil.copytree(tmp_path / "1.0", out)
        a_study(2.0).save(out)

    def check(stop: int) -> None:
        try:
            found = Study.load(out)
            assert found.tables["one"].values("value") == found.tables["two"].values("value"), stop
            assert found.findings == [f"it is {found.tables['one'].values('value')[0]}"], stop
        except TransectError as error:
            remedied(error, stop)
        a_study(2.0).save(out)
        assert files(out) == new, stop
        shutil.rmtree(out)
        if held:
            shutil.copytree(tmp_path / "1.0", out)

    if held:
        shutil.copytree(tmp_path / "1.0", out)
    assert old != new
    assert crashed_everywhere(write, check) == STOPS["a study over an old one" if held else "a study"]


# two at once


def together(*calls: Callable[[], Any]) -> list[BaseException | None]:
    """Calls that start at the same moment; what each raised."""
    ready, raised = threading.Barrier(len(calls)), [None] * len(calls)

    def run(k: int, call: Callable[[], Any]) -> None:
        ready.wait()
        try:
            call()
        except BaseException as error:
            raised[k] = error  # type: ignore[call-overload]

    threads = [threading.Thread(target=run, args=(k, call)) for k, call in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


@pytest.mark.fault(
    "bad luck",
    "several processes begin one folder at once",
    "nothing: one lays it out, the others go on with it",
    "nothing",
)
def test_many_that_begin_one_folder_at_once_all_end_well(whole: ts.Store, tmp_path: Path) -> None:
    for k in range(10):
        out = tmp_path / f"{k}"
        start = functools.partial(begin, out, whole.manifest, whole.plan, whole.index)
        assert together(*[start] * 5) == [None] * 5
        assert len(ts.open_store(out).unfinished) == len(whole.plan)


@pytest.mark.fault("bad luck", "two captures write one shard, whatever their shares")
@pytest.mark.parametrize("shares", [((1, 1), (1, 2)), ((1, 1), (1, 1)), ((1, 2), (2, 2))])
def test_two_captures_of_one_folder_lose_nothing(
    whole: ts.Store, model: ts.Model, tmp_path: Path, shares: tuple[tuple[int, int], ...]
) -> None:
    models = [opened(), opened()]
    for k in range(3):
        out = tmp_path / f"{k}"
        calls = [
            functools.partial(ts.capture, m, make_texts(6), out, shard=share, **SMALL)
            for m, share in zip(models, shares, strict=True)
        ]
        for error in together(*calls):
            assert error is None or (isinstance(error, TransectError) and "is capturing" in str(error)), error
        again = ts.capture(model, make_texts(6), out, **SMALL)
        assert again.verify() == []
        assert same_shards(again, whole)


# damaged


def held(store: Store) -> list[Any]:
    """All that anybody reads from a store."""
    ranges = store.ranges()
    return [
        *(store.points(s).tobytes() for s in store.sites),
        *(store.ids, store.index, store.plan, store.manifest, store.fingerprint, store.content, ranges),
    ]


@pytest.mark.fault(
    "bad luck",
    "a bit flips in a manifest, plan, receipt, study.json or recipe",
    "refused: `… damaged (its checksum is another)`",
    "what the message says: another folder, or delete the shard with its receipt, or run the study again",
)
def test_any_flipped_bit_of_a_store_is_refused_named_or_harmless(whole: ts.Store, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(whole.path, tmp_path / "s"))
    wanted, told = held(ts.open_store(copy)), {"refused": 0, "named": 0, "harmless": 0}
    for damage in (flips(copy, 40), cuts(copy)):
        for name, at in damage:
            try:
                found = ts.open_store(copy)
                problems = found.verify()
                kind = "named" if problems else "harmless"
                assert not problems or any(Path(name).stem in p for p in problems), (name, problems)
                assert problems or held(found) == wanted, (name, at)
            except TransectError as error:
                remedied(error, (name, at))
                kind = "refused"
            told[kind] += 1
    assert told["harmless"] < told["refused"] + told["named"], told
    assert sum(told.values()) == DAMAGES["a store"]
    assert ts.open_store(copy).verify() == []


@pytest.mark.fault("bad luck", "a bit flips in a manifest, plan, receipt, study.json or recipe")
def test_a_resume_does_not_go_on_from_a_damaged_frame(
    model: ts.Model, whole: ts.Store, tmp_path: Path
) -> None:
    """Manifest, plan, index and receipts: refused, or the shards that are missing come as they would have
    been."""
    copy = Path(shutil.copytree(whole.path, tmp_path / "s"))
    for path in (whole.shard(1), whole.receipt(1)):
        (copy / path.relative_to(whole.path)).unlink()
    tried = 0
    for name, at in flips(copy, 12, seed=1):
        if name.endswith(".safetensors"):
            continue
        tried += 1
        try:
            again = ts.capture(model, make_texts(6), copy, **SMALL)
        except TransectError as error:
            remedied(error, (name, at))
            continue
        assert np.array_equal(again.points("resid.2"), whole.points("resid.2")), (name, at)
        for path in (again.shard(1), again.receipt(1)):
            path.unlink()
    assert tried == DAMAGES["a store that is gone on with"]


def test_files_of_another_capture_are_refused(model: ts.Model, whole: ts.Store, tmp_path: Path) -> None:
    other = ts.capture(model, make_texts(6, seed=3), tmp_path / "other", **SMALL)
    for name, data in files(other.path).items():
        copy = Path(shutil.copytree(whole.path, tmp_path / name.replace("/", "-")))
        if not (copy / name).exists() or (copy / name).read_bytes() == data:
            continue
        (copy / name).write_bytes(data)
        try:
            problems = ts.open_store(copy).verify()
        except TransectError:
            continue
        assert problems, name
    copy = Path(shutil.copytree(whole.path, tmp_path / "pair"))
    for name in ("shards/00000.safetensors", "shards/00000.json"):
        (copy / name).write_bytes((other.path / name).read_bytes())
    with pytest.raises(TransectError, match="not the one that was written here"):
        ts.open_store(copy).points("resid.1")
    with pytest.raises(TransectError, match="not the one that was written here"):
        ts.capture(model, make_texts(6), copy, **SMALL)


@pytest.mark.fault("bad luck", "a bit flips in a manifest, plan, receipt, study.json or recipe")
@pytest.mark.fault("bad luck", "a bit flips in `texts.parquet` or a table")
def test_any_flipped_bit_of_a_study_is_refused_named_or_harmless(tmp_path: Path) -> None:
    study = a_study(1.5)
    study.save(tmp_path)
    found = {"refused": 0, "harmless": 0}
    for damage in (flips(tmp_path, 200), cuts(tmp_path)):
        for name, at in damage:
            try:
                problems, _ = verify_study(tmp_path)
                again = Study.load(tmp_path)
            except TransectError as error:
                remedied(error, (name, at))
                found["refused"] += 1
                continue
            assert problems == [], (name, at)
            found["harmless"] += 1
            assert all(again.tables[k].arrow.equals(t.arrow) for k, t in study.tables.items()), (name, at)
            assert again.tables["one"].provenance == {"seed": 1}, (name, at)
            assert (again.findings, again.figures, again.provenance) == (
                study.findings,
                study.figures,
                study.provenance,
            )
    assert found["refused"] > 10 * found["harmless"], found
    assert sum(found.values()) == DAMAGES["a study"]


@pytest.mark.fault(
    "bad luck",
    "a bit flips in a finished block of a sweep",
    "nothing: the block is computed again",
    "nothing",
)
def test_any_flipped_bit_of_a_cell_is_computed_again(grown: ts.Store, tmp_path: Path) -> None:
    table = ts.sweep("cka", grown, out=tmp_path, **SWEEP)
    tried = 0
    for name, at in flips(tmp_path, 8):
        assert ts.sweep("cka", grown, out=tmp_path, **SWEEP).arrow.equals(table.arrow), (name, at)
        tried += 1
    assert tried == DAMAGES["the blocks of a sweep"]


@pytest.mark.fault(
    "bad luck",
    "a store, study or run was written before there were checksums",
    "opens; `--verify` says `no checksum` and which files",
    "nothing, or make it again",
)
def test_what_an_earlier_version_wrote_without_checksums_still_opens(
    whole: ts.Store, grown: ts.Store, tmp_path: Path
) -> None:
    import json

    def bare(file: Path, *fields: str) -> None:
        told = json.loads(file.read_text())
        file.write_text(json.dumps({k: v for k, v in told.items() if k not in ("checksum", *fields)}))

    copy = Path(shutil.copytree(whole.path, tmp_path / "s"))
    bare(copy / "manifest.json", "plan_hash")
    for k in range(len(whole.plan)):
        bare(copy / "shards" / f"{k:05d}.json", "capture")
    store = ts.open_store(copy)
    assert (store.verify(), len(store.unsealed())) == ([], 2 + len(store.plan))
    assert np.array_equal(store.points("resid.1"), whole.points("resid.1"))
    a_study(1.0).save(tmp_path / "study")
    bare(tmp_path / "study" / "study.json", "sha256")
    assert Study.load(tmp_path / "study").findings == ["it is 1.0"]
    assert verify_study(tmp_path / "study") == ([], ["study.json"])
    table = ts.sweep("cka", grown, out=tmp_path / "sweep", **SWEEP)
    for cell in (tmp_path / "sweep" / "cells").glob("*.json"):
        cell.write_text(json.dumps(json.loads(cell.read_text())["value"]))
    kept = files(tmp_path / "sweep")
    assert ts.sweep("cka", grown, out=tmp_path / "sweep", **SWEEP).arrow.equals(table.arrow)
    assert files(tmp_path / "sweep") == kept


@pytest.mark.fault(
    "bad luck",
    "a study is saved where a store, a run or another study is",
    "`… holds a store; a study is not written over it`",
    "another `--out`; nothing was changed",
)
def test_nothing_is_written_over_another_kind(model: ts.Model, whole: ts.Store, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(whole.path, tmp_path / "s"))
    before = files(copy)
    with pytest.raises(TransectError, match="holds a store; a study is not written over it"):
        a_study(1.0).save(copy)
    assert files(copy) == before
    a_study(1.0).save(tmp_path / "study")
    with pytest.raises(TransectError, match="holds a study; a store is not written over it"):
        ts.capture(model, make_texts(6), tmp_path / "study", **SMALL)
    other = a_study(1.0)
    other.name = "compare"
    with pytest.raises(TransectError, match="holds the study drift"):
        other.save(tmp_path / "study")
    (copy / "manifest.json").unlink()
    with pytest.raises(TransectError, match="holds shards and no manifest"):
        ts.capture(model, make_texts(6), copy, **SMALL)
