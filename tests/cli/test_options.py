"""Every option of every command with values that nobody means: a message and exit 2, or a value in its range.

Work is stopped where a command would begin it; the options of measures, and paths, are tried for real.
"""

import functools
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner

from planted import planted_store
from transect.cli.main import cli, message
from transect.errors import TransectError
from transect.measures.registry import registry
from transect.studies import names

#: Numbers of either sign without an end.
SIGNED = ("shift",)
#: What no number is, and what none may be.
ODD = ("", "nan", "inf", "-inf", "x", "1e9999", "😀", "0x10", "1,2", "\0")
LARGE = str(10**30)
#: What commands call when their options are read: module, name.
WORK = {
    "adapters": ("transect.studies.adapters.study", "adapters"),
    "app": ("transect.cli.app", "serve"),
    "capture": ("transect.texts.texts", "open_texts"),
    "demo": ("transect.texts.texts", "open_texts"),
    "finetune": ("transect.train.finetune", "finetune"),
    "measure": ("transect.studies.runs", "open_runs"),
    "report": ("transect.page.report", "report"),
    "train": ("transect.train.pretrain", "pretrain"),
}
#: What a command needs beside its arguments.
NEEDED = {"finetune": {"--task": "t"}, "train": {"--texts": "t"}, "adapters": {"--base": "b"}}


class BegunError(Exception):
    """The options were read: the work would begin now."""


def leaves(
    command: Any, path: tuple[str, ...] = (), above: Any = None
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that is no group, with its words."""
    context = click.Context(command, parent=above, info_name=path[-1] if path else "transect")
    if not isinstance(command, click.Group):
        yield path, command
        return
    for name in command.list_commands(context):
        yield from leaves(command.get_command(context, name), (*path, name), context)


def made(path: tuple[str, ...]) -> click.Command:
    """The command of these words, made anew: it calls what stands in its module now."""
    found: Any = cli
    for word in path:
        found = found.get_command(click.Context(found), word)
    return found


COMMANDS = dict(leaves(cli))
#: All of them, and of those of measures, which share the options of the sweep, two.
ONCE = [path for path in COMMANDS if path[0] != "measure" or path[1] in ("cka", "twonn")]


def told(arguments: list[str], command: click.Command = cli) -> str:
    """ "begun", "done", or the message of a refusal; anything else is a bug of ours."""
    done = CliRunner().invoke(command, arguments, **cli.context_settings)
    if isinstance(done.exception, BegunError):
        return "begun"
    if isinstance(done.exception, TransectError):
        assert done.exception.fix, arguments
        assert len(message(done.exception).splitlines()) < 12, arguments
        return message(done.exception)
    assert "Traceback" not in done.output, arguments
    if done.exit_code == 2:
        assert "Error: " in done.output, arguments
        return done.output[done.output.index("Error: ") :].strip()
    assert done.exit_code == 0, (arguments, done.exit_code, repr(done.exception))
    return "done"


def valid(path: tuple[str, ...], command: click.Command, folder: Path, but: str = "") -> list[str]:
    """A command with what it needs, without the option `but`."""
    words = []
    for p in command.params:
        if isinstance(p, click.Argument):
            words.append(str(folder / "s"))
        elif p.required and p.opts[0] != but:
            given = {"--label": "odd", "--out": str(folder / "out")} | NEEDED.get(path[0], {})
            words += [p.opts[0], given.get(p.opts[0], "x")]
    return words


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("options")
    rng = np.random.default_rng(0)
    layers = [rng.normal(size=(72, 6)).astype(np.float32) for _ in range(2)]
    planted_store(folder / "s", layers, [6] * 12)
    return folder


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """No command begins its work; recipes are settled first, as their loops do."""
    places = dict(WORK)
    places |= {name: tuple(where.split(":")) for name, where in names().items()}  # type: ignore[misc]
    for room, name in places.values():
        before = getattr(importlib.import_module(room), name)

        @functools.wraps(before)
        def begin(*given: Any, **_more: Any) -> Any:
            for value in given:
                if hasattr(value, "settled"):
                    value.settled()
            raise BegunError

        monkeypatch.setattr(importlib.import_module(room), name, begin)


def numbers(command: click.Command) -> list[click.Option]:
    """The options that take one number."""
    kinds = (click.types.IntParamType, click.types.FloatParamType)
    return [p for p in command.params if isinstance(p, click.Option) and isinstance(p.type, kinds)]


@pytest.mark.usefixtures("stopped")
@pytest.mark.parametrize("path", ONCE, ids=" ".join)
def test_a_number_is_in_its_range_or_refused_by_name(path: tuple[str, ...], home: Path) -> None:
    command = made(path)
    for option in numbers(command):
        assert hasattr(option.type, "min"), f"{path} {option.name} has no range"
        words = [*valid(path, command, home, option.opts[0]), option.opts[0]]
        for value in ODD:
            if value == "1,2" and option.name == "checkpoints":
                continue
            said = told([*words, value], command)
            assert option.opts[0] in said, (path, option.name, value, said)
        least, most = (getattr(option.type, end) for end in ("min", "max"))
        whole = isinstance(option.type, click.types.IntParamType)
        for value in ("-1", "0", LARGE):
            said = told([*words, value], command)
            below = least is not None and (
                float(value) < least or (option.type.min_open and float(value) == least)
            )
            beyond = (whole and value == LARGE) or (most is not None and float(value) > most)
            assert said != "done", (path, option.name, value)
            assert (option.opts[0] in said) >= (below or beyond), (path, option.name, value, said)
        assert least is not None or option.name in SIGNED, (
            path,
            option.name,
            "a number without a least value",
        )


@pytest.mark.usefixtures("stopped")
@pytest.mark.parametrize("path", ONCE, ids=" ".join)
def test_a_word_is_taken_or_refused(path: tuple[str, ...], home: Path) -> None:
    command = made(path)
    for option in command.params:
        if not isinstance(option, click.Option) or option.is_flag or option in numbers(command):
            continue
        words = [*valid(path, command, home, option.opts[0]), option.opts[0]]
        for value in ("", "\0", "😀", "-1", LARGE, str(home), str(home / "missing")):
            said = told([*words, value], command)
            if isinstance(option.type, click.Choice) and value not in option.type.choices:
                assert option.opts[0] in said, (path, option.name, value, said)


@pytest.mark.parametrize("name", [n for n, m in registry().items() if m.options])
def test_options_of_measures_work_wherever_they_are_taken(name: str, home: Path) -> None:
    m, path = registry()[name], ("measure", name)
    words = [*valid(path, COMMANDS[path], home), "--n", "20", "--groups", "2", "--permutations", "1"]
    words += ["--workers", "1", "--sites", "resid.0,resid.1"]
    for option in numbers(COMMANDS[path]):
        if option.name not in m.options:
            continue
        for value in ("-1", "0", "1", "3", LARGE):
            told([*words, option.opts[0], value], COMMANDS[path])


PATHS = {
    "empty": "",
    "missing": "{home}/missing",
    "a folder": "{home}/empty",
    "no name": "a\0b",
    "too long": "x" * 5000,
    "a file": "{home}/file.txt",
}


@pytest.mark.parametrize("kind", PATHS)
@pytest.mark.parametrize(
    "words",
    [
        "info PATH",
        "info PATH --verify",
        "app PATH --no-browser",
        "report PATH --out HOME/r.html",
        "measure cka PATH",
        "drift PATH --out HOME/d",
        "compare PATH PATH --out HOME/d",
        "evolve PATH --out HOME/d",
        "manifold PATH --label odd --out HOME/d",
        "tokens PATH --out HOME/d",
        "neurons map PATH --out HOME/d",
        "neurons prune PATH --texts HOME/file.txt --out HOME/d",
        "adapters PATH --base HOME/empty --out HOME/d",
        "capture HOME/empty PATH --out HOME/c",
        "drift HOME/empty --texts PATH --out HOME/d",
        "compare HOME/empty HOME/empty --texts PATH --out HOME/d",
        "tokens HOME/empty --texts PATH --out HOME/d",
        "evolve HOME/empty --texts PATH --out HOME/d",
        "manifold HOME/empty --texts PATH --label odd --out HOME/d",
        "neurons map HOME/empty --texts PATH --out HOME/d",
        "neurons prune HOME/empty --texts PATH --out HOME/d",
        "train --texts PATH --preset tiny --steps 1 --out HOME/t",
        "import PATH --out HOME/i",
        "finetune HOME/empty --task PATH --out HOME/f",
        "measure cka HOME/s --n 20 --groups 2 --permutations 1 --workers 1 --out PATH",
    ],
)
def test_a_path_that_leads_nowhere_is_refused(
    words: str, kind: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "a folder" and words.startswith("app"):  # just what it takes
        return
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("uvicorn.Server.run", lambda _, sockets: [s.close() for s in sockets])
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").write_text("one two three\nfour five six\n")
    (tmp_path / "s").symlink_to(home / "s")
    path = PATHS[kind].format(home=tmp_path)
    given = [path if w == "PATH" else w.replace("HOME", str(tmp_path)) for w in words.split()]
    said = told(given)
    if "--out PATH" not in words and kind != "a file":
        assert said != "done", given


@pytest.mark.parametrize(("name", "needed"), [("train", {"texts": "t"}), ("finetune", {"task": "t"})])
def test_what_is_not_given_to_a_training_stays_as_the_recipe_has_it(
    name: str, needed: dict[str, str], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flags above all: a decoder without skips was trained where nobody had said so."""
    taken: list[Any] = []

    def begun(recipe: Any, *given: Any, **more: Any) -> None:
        taken.append(recipe)
        raise BegunError

    monkeypatch.setattr(importlib.import_module(WORK[name][0]), WORK[name][1], begun)
    arguments = [name, *(["m"] if name == "finetune" else []), "--out", str(home / f"{name}-new")]
    arguments += [word for k, v in needed.items() for word in (f"--{k}", v)]
    assert told(arguments, cli) == "begun"
    if name == "train":
        from transect.train.pretraining import preset as demo

        assert taken == [demo("demo", **needed)]
    else:
        from transect.train.recipe import preset

        assert taken == [preset("m", "t")]
