"""A study: tables, the figures to draw from them, and the words that go with both. Saved as a folder of plain files."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from transect.errors import TransectError
from transect.files import read_json, write_json
from transect.results.table import Table


@dataclass
class Figure:
    """What to draw: a kind that `figures` knows, the table it reads, and the words on it."""

    name: str
    kind: str
    table: str
    title: str
    caption: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class Study:
    """Answers to one question. `findings` are sentences with their numbers, `warnings` what limits them."""

    name: str
    question: str
    tables: dict[str, Table]
    figures: list[Figure] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    methods: list[str] = field(default_factory=list)
    provenance: dict[str, Any] = field(default_factory=dict)

    def save(self, out: str | Path) -> Path:
        """Write every table as OUT/NAME.parquet and the rest as OUT/study.json."""
        out = Path(out)
        for name, table in self.tables.items():
            table.save(out / f"{name}.parquet")
        told = {k: v for k, v in asdict(self).items() if k != "tables"} | {"tables": list(self.tables)}
        write_json(out / "study.json", told)
        return out

    @classmethod
    def load(cls, folder: str | Path) -> "Study":
        """The study in a folder."""
        folder = Path(folder)
        told = read_json(folder / "study.json", "study")
        try:
            names = table_names(folder, told)
            tables = {name: Table.load(folder / f"{name}.parquet") for name in names}
            told = {k: v for k, v in told.items() if k != "tables"}
            figures = [Figure(**f) for f in told.pop("figures")]
            return cls(tables=tables, figures=figures, **told)
        except (KeyError, TypeError) as error:
            raise TransectError(
                f"{folder}: study.json is damaged ({error}).", "Run the study again."
            ) from error


def table_names(folder: Path, told: dict[str, Any]) -> list[str]:
    """The tables that a study.json lists; TransectError for a name that is no plain file name."""
    for name in told["tables"]:
        if not isinstance(name, str) or not name or name != Path(name).name or "\\" in name:
            raise TransectError(f"{folder}: study.json names a table {name!r:.80}.", "Run the study again.")
    return list(told["tables"])


def describe_run(store: Any) -> str:
    """One line on a store, for captions and methods: model, fingerprint, texts, counts."""
    m = store.manifest
    weights = str(m["model"]["fingerprint"].get("weights", ""))[:8]
    return f"{store.name} ({m['dtype']['compute']}, weights {weights}) on {m['texts']['spec']}, {len(store)} texts, {int(store.start[-1]):,} tokens"
