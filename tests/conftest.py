"""Shapes written in signatures are checked in every test: the hook is installed before anything of ours is
imported."""

import os
from functools import cache
from pathlib import Path
from typing import Any

os.environ.setdefault("TRANSECT_THREADS", "1")  # workers are started where a test asks for them
os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # before NumPy and torch read it; two cores are shared by the workers

import checked

SRC = Path(__file__).parent.parent / "src"
#: Inner loops, called a hundred thousand times by a study: checking their arguments would take most of the
#: tests' time. They declare no shapes; what calls them does.
INNER = {
    "files", "random", "inference.draws", "inference.evaluate", "inference.intervals", "inference.per_text",
    "inference.rows", "measures.arrays", "measures.contract", "measures.registry", "models.sites",
    "numeric.change_points", "numeric.estimators", "numeric.outlying", "numeric.permute", "numeric.sinkhorn",
    "results.table", "store.shards", "store.store",
}  # fmt: skip


def checked_modules() -> list[str]:
    """Every module of ours but the inner loops."""
    files = (p.relative_to(SRC / "transect").with_suffix("") for p in (SRC / "transect").rglob("*.py"))
    names = sorted(".".join(p.parts) for p in files if p.name != "__init__")
    assert set(names) >= INNER, INNER - set(names)
    return [f"transect.{name}" for name in names if name not in INNER]


checked.install(checked_modules())


#: Files that take longest, begun first after the page's: one of them at the end would leave a worker idle.
LONG = (
    "studies/test_tokens_study.py", "house/test_notebooks.py", "studies/test_drift.py",
    "train/test_pretrain.py", "cli/test_cli.py", "studies/test_neurons.py", "store/test_crashes.py",
    "train/test_finetune.py", "train/test_decoder.py", "work/test_engine.py", "page/test_jobs.py",
    "house/test_faults.py", "store/test_remote.py", "studies/test_selectors.py", "studies/test_compare.py",
    "studies/test_manifold.py", "store/test_capture.py", "store/test_import.py", "cli/test_options.py",
    "work/test_overwrite.py",
)  # fmt: skip


def pytest_xdist_make_scheduler(config: Any, log: Any) -> Any:
    """A file's tests share one worker, and with it what they set up; so do all files that need a browser."""
    from xdist.scheduler.loadfile import LoadFileScheduling

    class Files(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group(nodeid)

    return Files(config, log)


@cache
def _in_browser(file: str) -> bool:
    return "mark.browser" in (SRC.parent / file).read_text("utf-8")


def group(nodeid: str) -> str:
    """Under which name tests go to one worker."""
    file = nodeid.split("::", 1)[0]
    return "page" if _in_browser(file) else file


def _place(item: Any) -> int:
    if group(item.nodeid) == "page":
        return -1
    name = "/".join(item.path.parts[-2:])
    return LONG.index(name) if name in LONG else len(LONG)


def pytest_collection_modifyitems(config: Any, items: list[Any]) -> None:
    """Long files come first, each in one worker. Without a browser the page tests are left out and the last
    line says so; in CI they run, and fail."""
    from browser import lacking

    items.sort(key=_place)
    if not lacking() or os.environ.get("CI"):
        return
    left = [item for item in items if item.get_closest_marker("browser")]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in left]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The last word says what was not tested."""
    from browser import lacking

    if lacking() and not os.environ.get("CI"):
        terminalreporter.write_line(
            f"NOT TESTED: the page in a browser. It needs {lacking()}; then: make test", yellow=True
        )
