"""What a folder holds: studies, stores, and what is wrong with them. The page asks by id; paths never come from it.

Ids are made here from what was found; an id that was not found leads nowhere. Damaged folders are listed with their
message and the rest goes on.
"""

import functools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from transect import __version__
from transect.errors import TransectError
from transect.files import read_json
from transect.page.estimates import estimates
from transect.page.payload import PACKED, identity, run_card, store_card
from transect.results.study import Study, table_names
from transect.results.table import Table
from transect.store.store import Store, open_store

DEPTH = 3
#: Folders inside a study or a store, where no other begins.
INNER = {"cells", "shards", "figures"}


class Catalog:
    """Studies and stores under some folders; `scan` looks again."""

    def __init__(self, roots: Sequence[str | Path], models: Sequence[str] = ()) -> None:
        self.roots = [Path(r).expanduser().resolve() for r in roots]
        for root in self.roots:
            if not root.is_dir():
                raise TransectError(f"{root}: no such folder.", "Give a study, a store, or a folder of them.")
        self.given = list(models)
        self.paths: dict[str, Path] = {}
        self.specs: dict[str, str] = {}

    def scan(self) -> dict[str, Any]:
        """Everything that is there now, as the page shows it."""
        studies, stores, problems = [], [], []
        self.paths = {}
        for folder, kind in self._folders():
            try:
                if kind == "study":
                    studies.append(self._study(folder))
                else:
                    stores.append(self._store(folder))
            except TransectError as error:
                problems.append({"path": self._shown(folder), "message": error.message, "fix": error.fix})
            except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
                told = f"not readable as a {kind} ({type(error).__name__}: {error})."
                problems.append({"path": self._shown(folder), "message": told, "fix": "Run it again."})
        return {
            "version": __version__,
            "root": ", ".join(r.name for r in self.roots),
            "studies": studies,
            "stores": stores,
            "problems": problems,
            "models": self._models(studies, stores),
            "estimates": estimates(stores),
            "left_out": [],
        }

    def study(self, key: str) -> Study:
        """The study with this id, tables and all."""
        return Study.load(self._path(key, "study"))

    def table(self, key: str, name: str) -> Table:
        """One table of a study, by a name that its study.json lists."""
        folder = self._path(key, "study")
        if name not in table_names(folder, read_json(folder / "study.json", "study")):
            raise TransectError(f"no table {name!r} in this study.")
        return Table.load(folder / f"{name}.parquet")

    def provenance(self, key: str) -> dict[str, Any]:
        """The options of a manifold study, from which one more cell can be drawn."""
        study = self.study(key)
        if study.name != "manifold":
            raise TransectError(f"a {study.name} study has no cells to draw.")
        design = re.search(r"folds by (.+) × ", str(study.tables["map"].values("design")[0]))
        group = design[1] if design and design[1] != "label" else None
        return {k: v for k, v in study.provenance.items() if k != "runs"} | {"group": group}

    def store(self, key: str) -> Store:
        """The store with this id."""
        return _opened(self._path(key, "store"))

    def model(self, key: str) -> str:
        """The spec of a model that the page may run."""
        if key not in self.specs:
            self.scan()
        if key not in self.specs:
            raise TransectError("no such model in this folder.", "Start the app with --model SPEC.")
        return self.specs[key]

    def _path(self, key: str, kind: str) -> Path:
        if key not in self.paths:
            self.scan()
        if key not in self.paths or not (self.paths[key] / _mark(kind)).is_file():
            raise TransectError(f"no {kind} {key!r} here.", "It may have been moved: reload the page.")
        return self.paths[key]

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
        told = read_json(folder / "study.json", "study")
        card = {k: told[k] for k in ("name", "question", "findings", "warnings", "methods", "figures")}
        tables = []
        for name in table_names(folder, told):
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
        self.paths[key] = folder
        runs = [run_card(r) for r in told["provenance"].get("runs", [])]
        origin = {k: v for k, v in told["provenance"].items() if k != "runs"}
        return card | {
            "id": key,
            "path": self._shown(folder),
            "tables": tables,
            "runs": runs,
            "provenance": origin,
        }

    def _store(self, folder: Path) -> dict[str, Any]:
        key = identity("store", folder)
        card = store_card(open_store(folder), key, self._shown(folder))
        self.paths[key] = folder
        return card

    def _models(self, studies: list[dict[str, Any]], stores: list[dict[str, Any]]) -> list[dict[str, str]]:
        runs = [*stores, *(r for s in studies for r in s["runs"])]
        found = {r["spec"]: r for r in runs if r["kind"] == "decoder" and r["spec"] and not r["shuffled"]}
        specs = dict.fromkeys([*self.given, *found])
        self.specs = {identity("model", spec): spec for spec in specs}
        return [
            {"id": key, "spec": spec, "weights": found[spec]["weights"] if spec in found else ""}
            for key, spec in self.specs.items()
        ]


def _mark(kind: str) -> str:
    return "study.json" if kind == "study" else "manifest.json"


def _walk(folder: Path, depth: int) -> Iterator[tuple[Path, str]]:
    """Studies and stores in a folder and below, links to folders not followed."""
    for kind in ("study", "store"):
        if (folder / _mark(kind)).is_file() or (kind == "store" and (folder / "plan.json").is_file()):
            yield folder, kind
    if depth == 0:
        return
    try:
        inner = sorted(p for p in folder.iterdir() if p.is_dir() and not p.is_symlink())
    except OSError:
        return
    for path in inner:
        if path.name not in INNER and not path.name.startswith("."):
            yield from _walk(path, depth - 1)


@functools.lru_cache(maxsize=8)
def _opened(path: Path) -> Store:
    return open_store(path)
