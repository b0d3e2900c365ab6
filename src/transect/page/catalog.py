"""What a folder holds: studies, stores, and what is wrong with them.

The page asks by id, never by path. Ids are made here from what was found; an id that was not found leads
nowhere. Damaged folders are listed with their message and the rest goes on.
"""

import functools
import json
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from transect import __version__
from transect.errors import TransectError, plain
from transect.files import local
from transect.page.estimates import estimates
from transect.page.payload import PACKED, identity, run_card, store_card
from transect.page.vocabulary import vocabulary
from transect.results.drawing import palette
from transect.results.study import Figure, Study, study_json
from transect.results.table import Table
from transect.store.store import Store, open_store

DEPTH = 3
#: What reading a damaged folder raises.
READING = (
    OSError,
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    pa.ArrowException,
)
#: What a cell of a manifold map depends on, beside its site and token.
CELL = ("label", "shapes", "group", "dimension", "alpha", "scale", "folds", "seed")
#: matplotlib draws in one thread at a time.
DRAWING = threading.Lock()
#: Folders inside a study or a store, where no other begins.
INNER = {"cells", "shards", "figures"}


class Catalog:
    """Studies and stores under some folders; `scan` looks again."""

    def __init__(self, roots: Sequence[str | Path], models: Sequence[str] = ()) -> None:
        self.roots = [local(r).resolve() for r in roots]
        for root in self.roots:
            if not root.is_dir():
                raise TransectError(f"{root}: no such folder.", "Give a study, a store, or a folder of them.")
        self.given = list(models)
        self.paths: dict[str, Path] = {}
        self.specs: dict[str, str] = {}

    def scan(self) -> dict[str, Any]:
        """Everything that is there now, as the page shows it."""
        cards: dict[str, list[dict[str, Any]]] = {"study": [], "store": []}
        problems, costs, paths = [], [], {}
        for folder, kind in self._folders():
            try:
                card = self._study(folder) if kind == "study" else self._store(folder)
                json.dumps(card, ensure_ascii=False, allow_nan=False).encode()
                costs += estimates([card]) if kind == "store" else []
            except TransectError as error:
                problems.append({"path": self._shown(folder), "message": error.message, "fix": error.fix})
            except READING as error:
                problem = f"not readable as a {kind} ({type(error).__name__}: {error!s:.300})."
                problems.append(
                    {"path": self._shown(folder), "message": plain(problem), "fix": "Run it again."}
                )
            else:
                cards[kind].append(card)
                paths[card["id"]] = folder
        studies, stores = cards["study"], cards["store"]
        models = self._models(studies, stores)
        # swapped whole: who asks meanwhile sees the last scan
        self.paths, self.specs = paths, {model["id"]: model["spec"] for model in models}
        return {
            "version": __version__,
            "root": ", ".join(r.name for r in self.roots),
            "studies": studies,
            "stores": stores,
            "problems": problems,
            "models": models,
            "estimates": costs,
            "left_out": [],
            "words": vocabulary(),
        }

    def study(self, key: str) -> Study:
        """The study with this id, tables and all."""
        return Study.load(self._path(key, "study"))

    def figure(self, key: str, name: str) -> bytes:
        """A figure of a study as SVG: the file that was drawn with it, else drawn now."""
        folder = self._path(key, "study")
        if name not in [f["name"] for f in study_json(folder)["figures"]]:
            raise TransectError(f"no figure {name!r} in this study.")
        file = folder / "figures" / f"{name}.svg"
        if file.is_file() and file.stat().st_mtime_ns >= (folder / "study.json").stat().st_mtime_ns:
            return file.read_bytes()
        return _drawn(folder, name, (folder / "study.json").stat().st_mtime_ns)

    def table(self, key: str, name: str) -> Table:
        """One table of a study, by a name that its study.json lists."""
        folder = self._path(key, "study")
        if name not in study_json(folder)["tables"]:
            raise TransectError(f"no table {name!r} in this study.")
        return Table.load(folder / f"{name}.parquet")

    def provenance(self, key: str) -> dict[str, Any]:
        """The options of a manifold study, from which one more cell can be drawn."""
        study = self.study(key)
        if study.name != "manifold":
            raise TransectError(f"a {study.name} study has no cells to draw.")
        if lacking := set(CELL) - set(study.provenance):
            raise TransectError(f"the study does not say its {', '.join(sorted(lacking))}.", "Run it again.")
        return {k: study.provenance[k] for k in CELL}

    def store(self, key: str) -> Store:
        """The store with this id."""
        folder = self._path(key, "store")
        looked = [p.stat() for p in (folder / "manifest.json", folder / "shards") if p.exists()]
        return _opened(folder, tuple((s.st_ino, s.st_size, s.st_mtime_ns) for s in looked))

    def model(self, key: str) -> str:
        """The spec of a model that the page may run."""
        if key not in self.specs:
            self.scan()
        if (spec := self.specs.get(key)) is None:
            raise TransectError("no such model in this folder.", "Start the app with --model SPEC.")
        return spec

    def _path(self, key: str, kind: str) -> Path:
        if key not in self.paths:
            self.scan()
        if (folder := self.paths.get(key)) is None or not (folder / _mark(kind)).is_file():
            raise TransectError(f"no {kind} {key!r} here.", "It may have been moved: reload the page.")
        return folder

    def _folders(self) -> Iterator[tuple[Path, str]]:
        for root in self.roots:
            yield from _walk(root, DEPTH)

    def _shown(self, folder: Path) -> str:
        for root in self.roots:
            if folder == root:
                return folder.name
            if folder.is_relative_to(root):
                return str(folder.relative_to(root))
        return folder.name

    def _study(self, folder: Path) -> dict[str, Any]:
        record = study_json(folder)
        card = {k: record[k] for k in ("name", "question", "findings", "warnings", "methods", "figures")}
        tables = []
        for name in record["tables"]:
            try:
                file = pq.ParquetFile(folder / f"{name}.parquet")
            except (OSError, ValueError) as error:
                raise TransectError(
                    f"table {name} cannot be read ({error}).", "Run the study again."
                ) from error
            with file:
                kept = list(file.schema_arrow.names)
                tables.append(
                    {"name": name, "rows": file.metadata.num_rows, "columns": kept, "packed": name in PACKED}
                )
        key = identity(card["name"], folder)
        runs = [run_card(r) for r in record["provenance"].get("runs", [])]
        origin = {k: v for k, v in record["provenance"].items() if k != "runs"}
        return card | {
            "id": key,
            "path": self._shown(folder),
            "tables": tables,
            "runs": runs,
            "colours": palette([Figure(**f) for f in record["figures"]], [r["name"] for r in runs]),
            "provenance": origin,
        }

    def _store(self, folder: Path) -> dict[str, Any]:
        return store_card(open_store(folder), identity("store", folder), self._shown(folder))

    def _models(self, studies: list[dict[str, Any]], stores: list[dict[str, Any]]) -> list[dict[str, str]]:
        runs = [*stores, *(r for s in studies for r in s["runs"])]
        runs = [r for r in runs if isinstance(r["spec"], str) and r["spec"]]
        models = {r["spec"]: r["weights"] for r in runs if r["kind"] == "decoder"}
        return [
            {"id": identity("model", spec), "spec": spec, "weights": models.get(spec, "")}
            for spec in dict.fromkeys([*self.given, *models])
        ]


def _mark(kind: str) -> str:
    return "study.json" if kind == "study" else "manifest.json"


def _walk(folder: Path, depth: int) -> Iterator[tuple[Path, str]]:
    """Studies and stores in a folder and below, links to folders not followed."""
    try:
        for kind in ("study", "store"):
            if (folder / _mark(kind)).is_file() or (kind == "store" and (folder / "plan.json").is_file()):
                yield folder, kind
        if depth == 0:
            return
        inner = sorted(p for p in folder.iterdir() if p.is_dir() and not p.is_symlink())
    except OSError:
        return
    for path in inner:
        if path.name not in INNER and not path.name.startswith("."):
            yield from _walk(path, depth - 1)


@functools.lru_cache(maxsize=8)
def _opened(path: Path, looked: tuple[tuple[int, ...], ...]) -> Store:
    """The store in a folder while manifest and shards look the same."""
    return open_store(path)


@functools.lru_cache(maxsize=32)
def _drawn(folder: Path, name: str, looked: int) -> bytes:
    """A figure of the study in a folder while its study.json looks the same; one is drawn at a time."""
    from transect.results.drawing import render

    with DRAWING:
        study = Study.load(folder)
        try:
            return render(study, next(f for f in study.figures if f.name == name), ["svg"])["svg"]
        except READING as error:
            problem = f"figure {name} cannot be drawn ({type(error).__name__}: {error!s:.300})."
            raise TransectError(plain(problem), "Run the study again.") from error
