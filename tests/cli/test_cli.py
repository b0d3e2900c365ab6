"""The commands as a user types them: exit codes, messages, and the files they leave."""

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import transect as ts
from tiny import WORDS, save_tiny
from transect.cli.main import main, message
from transect.errors import TransectError
from transect.results.drawing import save_all
from transect.results.study import Study

ROOT = Path(__file__).parents[2]


def process(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own."""
    command = [sys.executable, "-c", "from transect.cli.main import main; main()", *map(str, arguments)]
    environment = os.environ | {"TRANSECT_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "120"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def run(*arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """The same entry point in this process, which has imported torch already."""
    out, err = io.StringIO(), io.StringIO()
    given = io.TextIOWrapper(io.BytesIO(stdin.encode()), encoding="utf-8")
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.setattr(sys, "argv", ["transect", *map(str, arguments)])
        patch.setattr(sys, "stdin", given)
        for name, value in {"TRANSECT_THREADS": "1", "COLUMNS": "120"}.items():
            patch.setenv(name, value)
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with ten layers, 24 texts, and their store."""
    home = tmp_path_factory.mktemp("cli")
    save_tiny(home / "model", "llama")
    words = WORDS[:13]
    rows = [{"text": " ".join(words[i % 5 : i % 5 + 5 + i % 4] * 2), "kind": i % 2} for i in range(24)]
    (home / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    done = run(
        "capture",
        home / "model",
        home / "t.jsonl",
        "--out",
        home / "store",
        "--sites",
        "resid,mlp.act",
        "--name",
        "tiny",
    )
    assert done.returncode == 0, done.stderr
    return home


def test_capture_left_a_sound_store(folder: Path) -> None:
    store = ts.open_store(folder / "store")
    assert (len(store), store.name) == (24, "tiny")
    assert store.label("kind").tolist() == [i % 2 for i in range(24)]
    done = run("info", folder / "store", "--verify")
    assert done.returncode == 0
    assert "mlp.act        3 sites × 48" in done.stdout
    assert json.loads(run("info", folder / "store", "--json").stdout)["problems"] == []


def test_measure_prints_a_table_or_json(folder: Path) -> None:
    done = run("measure", "centroid", folder / "store", "--n", "40", "--design", "disjoint", "--groups", "4")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].split()[:2] == ["site", "site2"]
    rows = json.loads(
        run("measure", "twonn", folder / "store", "--n", "40", "--json", "--sites", "mlp.act").stdout
    )
    assert len(rows) == 3
    assert {"value", "low", "high", "null", "n", "status"} <= set(rows[0])


def test_capture_reads_stdin_layers_and_shards(folder: Path, tmp_path: Path) -> None:
    text = "a birthday in the month of March\nthirty one days in Berlin and March\n" * 3
    done = run("capture", folder / "model", "-", "--out", tmp_path / "s", "--layers", "0,2-3", stdin=text)
    assert done.returncode == 0, done.stderr
    assert ts.open_store(tmp_path / "s").sites == ["resid.0", "resid.2", "resid.3"]
    assert (
        run(
            "capture", folder / "model", "-", "--out", tmp_path / "x", "--shard", "3/2", stdin=text
        ).returncode
        == 2
    )


def test_drift_leaves_tables_figures_and_a_page(folder: Path, tmp_path: Path) -> None:
    done = run(
        "drift",
        folder / "store",
        "--out",
        tmp_path / "d",
        "--n",
        "20",
        "--groups",
        "4",
        "--resamples",
        "2",
        "--random-weights",
        "--shuffled-tokens",
        "--workers",
        "1",
        "--formats",
        "svg",
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "d" / "report.html").stat().st_size > 10_000
    assert {p.suffix for p in (tmp_path / "d" / "figures").iterdir()} == {".svg"}
    assert "tiny, shuffled tokens" in ts.Table.load(tmp_path / "d" / "adjacent.parquet").values("run")
    study = Study.load(tmp_path / "d")
    study.figures = [f for f in study.figures if f.name == "drift"]
    study.save(tmp_path / "one")
    assert {f.suffix for f in save_all(study, tmp_path / "one")} == {".pdf", ".svg", ".png"}
    done = run("report", tmp_path / "one", "--out", tmp_path / "one.html")
    assert (done.returncode, done.stdout.strip()) == (0, str(tmp_path / "one.html"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["capture", "no-such-model", "{texts}", "--out", "{tmp}/a"], "no-such-model"),
        (["capture", "{model}", "no-such.jsonl", "--out", "{tmp}/a"], "no-such.jsonl"),
        (["capture", "{model}", "{texts}", "--out", "{tmp}/a", "--column", "body"], "body"),
        (["capture", "{model}", "{texts}", "--out", "{tmp}/a", "--sites", "neurons"], "no site 'neurons'"),
        (["capture", "{model}", "{texts}", "--out", "{store}"], "holds another capture"),
        (["capture", "{model}", "{texts}", "--out", "/proc/nowhere"], "cannot be written"),
        (["info", "{tmp}/nothing"], "no such store"),
        (["measure", "cosine", "{store}", "--n", "99999"], "Choose n up to"),
        (["measure", "nonsense", "{store}"], "nonsense"),
        (["drift", "{store}", "{store}", "--out", "{tmp}/d"], "share a name"),
        (["drift", "--out", "{tmp}/d"], "no run given"),
        (["drift", "{store}", "--out", "{tmp}/d", "--formats", "svg,jpg"], "written as 'jpg'"),
        (["report", "{tmp}", "--out", "{tmp}/r.html"], "no study here"),
    ],
)
def test_mistakes_get_a_message_and_exit_2(
    folder: Path, tmp_path: Path, arguments: list[str], words: str
) -> None:
    named = {
        "model": folder / "model",
        "texts": folder / "t.jsonl",
        "store": folder / "store",
        "tmp": tmp_path,
    }
    done = run(*(a.format(**named) for a in arguments))
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_mistake_ends_a_process_with_2(tmp_path: Path) -> None:
    done = process("info", tmp_path / "nothing")
    assert (done.returncode, "no such store" in done.stderr, "Traceback" in done.stderr) == (2, True, False)


def test_a_message_is_wrapped_and_cannot_drive_the_terminal() -> None:
    text = message(TransectError("bad \x1b[31mname\x07 " + "long " * 40, "Change it."))
    assert text.startswith("transect: bad ")
    assert "\x1b" not in text
    assert "\x07" not in text
    assert text.splitlines()[-1] == "          Change it."


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["drfit", "s"], "Did you mean drift?"),
        (["measure", "sinkorn", "s"], "Did you mean sinkhorn?"),
        (["measure", "cka", "{store}", "--sites", "mlp.act.1"], "Did you mean mlp.1.act"),
        (["measure", "cka", "{store}", "--sites", "resid,resdi.1"], "Did you mean resid.1"),
    ],
)
def test_near_names_are_suggested(words: list[str], said: str, folder: Path) -> None:
    done = run(*(w.format(store=folder / "store") for w in words))
    assert said in done.stderr
    assert done.returncode == 2


def test_the_default_that_help_names_is_the_one_that_is_used() -> None:
    from transect.inference import draws
    from transect.studies.compare import study as compare
    from transect.studies.tokens import tables as tokens

    for command, points in (("drift", draws.POINTS), ("compare", compare.POINTS), ("tokens", tokens.POINTS)):
        shown = run(command, "--help").stdout
        assert f"by default {points}" in " ".join(shown.split()), command


def test_a_step_is_named_as_it_begins_and_reaches_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    from transect.cli.shared import plain_lines

    now = [0.0]
    told = plain_lines(lambda: now[0])
    for seconds, done in ((0, 0), (3, 1), (11, 2), (12, 3), (40, 10)):
        now[0] = float(seconds)
        told("capture x", done, 10)
    lines = capsys.readouterr().err.splitlines()
    assert len({line.partition(": ")[2].partition(": ")[0] for line in lines}) == 1
    assert [line.removeprefix("transect: capture x: ") for line in lines] == [
        "0 of 10",
        "2 of 10, 11 s, about 44 s left",
        "10 of 10, 40 s",
    ]
