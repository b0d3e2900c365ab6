"""Pages that are made from the code are what the code says; the site builds without a warning; links lead
somewhere."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def generator():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", generator().PAGES)
def test_reference_is_current(page: str) -> None:
    made = generator().PAGES[page]()
    assert (ROOT / "docs" / page).read_text(encoding="utf-8") == made, "run: python docs/generate.py"


def test_a_line_on_faults_is_whole_and_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = generator()
    first = ("a::b", ["bad input", "what comes", "what happens"])
    for marks in ([first, first], [("a::b", ["bad input", "alone"])], [("a::b", ["bad luck", "x", "y"])]):
        monkeypatch.setattr(made, "marks", lambda marks=marks: iter(marks))
        with pytest.raises(ValueError, match=r"a::b|alone"):
            made.faults()
    more = [first, ("c::d", ["bad input", "what comes"])]
    monkeypatch.setattr(made, "marks", lambda: iter(more))
    assert "| what comes | what happens | `a::b`<br>`c::d` |" in made.faults()


def test_every_page_is_in_the_navigation_and_links_resolve() -> None:
    nav = (ROOT / "mkdocs.yml").read_text()
    for page in (ROOT / "docs").rglob("*.md"):
        assert str(page.relative_to(ROOT / "docs")) in nav, f"{page.name} is not in mkdocs.yml"
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", (ROOT / "README.md").read_text()):
        assert (ROOT / target).exists(), target


def test_the_site_builds_and_works_offline(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "mkdocs",
        "build",
        "--quiet",
        "--strict",
        "--site-dir",
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "index.html").read_text()
    assert not re.search(r'<(?:script|link)[^>]+(?:src|href)="https?://(?!transect)', page)


def test_commands_in_the_readme_exist() -> None:
    from click.testing import CliRunner

    from transect.cli.main import cli

    for verb in set(re.findall(r"^transect (\w+)", (ROOT / "README.md").read_text(), re.M)):
        assert CliRunner().invoke(cli, [verb, "--help"]).exit_code == 0, verb
