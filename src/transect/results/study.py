"""A study: tables, the figures to draw from them, and the words that go with both. Saved as a folder of plain
files."""

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from html import escape
from pathlib import Path
from typing import Any

from transect import __version__
from transect.errors import TransectError
from transect.files import file_hash, is_sealed, plain_name, read_json, write_json
from transect.results.table import WITHIN, Table, has_checksum
from transect.work.folders import ELSEWHERE, check_kind, clear_partials, replacing
from transect.work.shown import html, listed


@dataclass
class Figure:
    """What to draw: a kind that `figures` knows, the table it reads, and the words on it."""

    name: str
    kind: str
    table: str
    title: str
    caption: str
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        plain_name(self.name, "the figure")
        words = (self.kind, self.table, self.title, self.caption)
        if not all(isinstance(word, str) for word in words) or not isinstance(self.options, dict):
            raise TransectError(f"figure {self.name}: its words are no text.", "Run the study again.")


#: The word for what a point belongs to, where it is no text.
SAMPLES = {"text": "sample", "texts": "samples", "Text": "Sample", "Texts": "Samples"}
WORD = re.compile(r"\b[Tt]exts?\b")
#: Tables whose intervals calibration measured as such (docs/calibration.md, Studies), not measure by measure.
STUDIES = {"probe": ("probe",), "dimension": ("loss",)}


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

    def __repr__(self) -> str:
        rows = sum(len(table) for table in self.tables.values())
        counts = f"{len(self.tables)} tables, {rows} rows, {len(self.figures)} figures"
        return f"<study {self.name}: {counts}, {len(self.findings)} findings>"

    def _repr_html_(self) -> str:
        from transect.results.drawing import render

        shown = ""
        if self.figures:
            raw = base64.b64encode(render(self, self.figures[0], ("png",))["png"]).decode()
            words = escape(self.figures[0].caption)
            shown = f'<figure><img width="640" alt="{words}" src="data:image/png;base64,{raw}">'
            shown += f"<figcaption>{words}</figcaption></figure>"
        rows = [(name, len(table)) for name, table in self.tables.items()]
        parts = [listed("Findings", self.findings), listed("Warnings", self.warnings)]
        return f"<h3>{escape(self.question)}</h3>{shown}{''.join(parts)}{html(('table', 'rows'), rows)}"

    def marked(self) -> "Study":
        """This study, whose warnings and captions name the intervals outside of their band."""
        if warning := _uncalibrated(self.tables.values()):
            self.warnings.append(
                f"Intervals that calibration does not vouch for (docs/calibration.md): {warning}."
            )
        self.warnings += [] if self.name == "probe" else _dependent(self.provenance.get("runs", []))
        vouched = STUDIES.get(self.name, ())
        if bare := [n for n, table in self.tables.items() if n not in vouched and _unmarked(table)]:
            self.warnings.append(f"Intervals of these tables are not calibrated: {', '.join(bare)}.")
        for k, figure in enumerate(self.figures):
            table = self.tables.get(figure.table, Table())
            shown = figure.options.get("measures") or [figure.options.get("measure")]
            table = table.where(measure=shown) if any(shown) else table
            if said := _uncalibrated([table]):
                self.figures[k] = replace(figure, caption=f"{figure.caption} Intervals: {said}.")
        return self

    def trace(self, stores: Iterable[Any], how: Any, **more: Any) -> "Study":
        """This study and its tables, saying which stores and options they come from; `more` are options too.

        What a table says of itself, its measures, it keeps. Where the work was done is no part of it.

        Args:
            stores: The runs, controls too.
            how: Options as a mapping, or a value that has them as `items()`.
        """
        left = ("out", "progress", "engine", "texts")
        options = {k: v for k, v in dict(how.items()).items() if k not in left}
        runs = [s.manifest | {"path": str(s.path), "content": s.content} | _documents(s) for s in stores]
        self.provenance = {"transect": __version__, "runs": runs, "options": options | more}
        for table in self.tables.values():
            table.provenance = table.provenance | self.provenance
        return self

    def in_units_of(self, stores: Iterable[Any]) -> "Study":
        """This study, saying "samples" for "texts" where every store holds samples that are no texts."""
        stores = list(stores)
        if any(store.unit != "sample" for store in stores):
            return self
        names = {n for s in stores for n in (s.name, str(s.path), *s.labels) if WORD.search(n)}
        pattern = re.compile("|".join([*map(re.escape, sorted(names)), WORD.pattern]))

        def said(sentence: str) -> str:
            return pattern.sub(lambda m: m[0] if m[0] in names else SAMPLES[m[0]], sentence)

        self.findings, self.warnings, self.methods = (
            [said(s) for s in part] for part in (self.findings, self.warnings, self.methods)
        )
        self.figures = [replace(f, title=said(f.title), caption=said(f.caption)) for f in self.figures]
        return self

    def save(self, out: str | Path, *, overwrite: bool = False) -> Path:
        """Write every table as OUT/NAME.parquet, then the rest, with their checksums, as OUT/study.json.

        Args:
            overwrite: Replace the store, study or run that OUT holds.

        Raises: TransectError when OUT holds a store, a run or another study, or cannot be written.
        """
        out = Path(out)
        with replacing(out, overwrite):
            check_study(out, self.name)
            return self._write(out)

    def _write(self, out: Path) -> Path:
        clear_partials(out)
        sums = {}
        for name, table in self.tables.items():
            sums[name] = file_hash(table.save(out / f"{plain_name(name, 'the table')}.parquet"))
        record = {k: getattr(self, k) for k in FIELDS} | {"figures": [asdict(f) for f in self.figures]}
        write_json(out / "study.json", record | {"tables": list(self.tables), "sha256": sums})
        return out

    @classmethod
    def load(cls, folder: str | Path) -> "Study":
        """The study in a folder."""
        folder = Path(folder)
        record = study_json(folder)
        tables = {name: Table.load(folder / f"{name}.parquet") for name in record["tables"]}
        for name, digest in record.get("sha256", {}).items():
            if name in tables and file_hash(folder / f"{name}.parquet") != digest:
                raise TransectError(
                    f"{folder}: table {name} is not the one that was saved with this study.", AGAIN
                )
        figures = [Figure(**figure) for figure in record["figures"]]
        return cls(tables=tables, figures=figures, **{k: record[k] for k in FIELDS})


def _documents(store: Any) -> dict[str, int]:
    """How many documents the texts of a store are parts of, where it knows and these are fewer."""
    known = "group" in store.index.column_names
    count = len(set(store.index["group"].to_pylist())) if known else len(store)
    return {"documents": count} if count < len(store) else {}


def _dependent(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """A warning for every choice of texts that share documents."""
    lines = [
        f"{r['texts']['spec']}: {r['texts']['count']} texts are parts of {r['documents']} documents. "
        "Sweeps, probes, neurons and texts that judge take documents whole; shapes, adapters, pruning "
        "and calibrations take texts as independent: their intervals are too narrow where parts are alike."
        for r in runs
        if "documents" in r
    ]
    return list(dict.fromkeys(lines))


def _uncalibrated(tables: Iterable[Table]) -> str:
    """What the rows' marks say, each with its measures; "" where every interval is within its band."""
    measures: dict[str, dict[str, None]] = {}
    for table in tables:
        for row in table.where(lambda r: r.get("calibration") not in (None, WITHIN)):
            for part in row["calibration"].split("; "):
                measures.setdefault(part, {})[row["measure"]] = None
    return "; ".join(f"{mark}: {_first(list(names))}" for mark, names in measures.items())


def _first(names: list[str], most: int = 6) -> str:
    """The first names of a list, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _unmarked(table: Table) -> bool:
    """Whether a table has intervals that no calibration was made of."""
    return any(r["calibration"] is None and r["low"] is not None for r in table)


def check_study(out: Path, name: str) -> None:
    """TransectError when a folder holds anything but an earlier run of the study `name`."""
    check_kind(out, "study")
    try:
        held = read_json(out / "study.json", "study").get("name", name)
    except TransectError:  # none, or a damaged one, which this mends
        return
    if held != name:
        raise TransectError(f"{out} holds the study {held!s:.80}; {name} is not written over it.", ELSEWHERE)


#: What study.json holds as it is.
FIELDS = ("name", "question", "findings", "warnings", "methods", "provenance")
AGAIN = "Run the study again."


def study_json(folder: Path) -> dict[str, Any]:
    """What a study.json says, every field of its kind, every name a plain one. Raises: TransectError."""
    record = read_json(folder / "study.json", "study", AGAIN)
    kinds = dict.fromkeys(("name", "question"), str) | {"provenance": dict}
    kinds |= dict.fromkeys(("findings", "warnings", "methods", "figures", "tables"), list)
    for name, kind in kinds.items():
        if not isinstance(record.get(name), kind):
            raise TransectError(f"{folder}: study.json is damaged ({name} is no {kind.__name__}).", AGAIN)
    for name in record["tables"]:
        plain_name(name, f"{folder}: study.json is damaged: the table")
    try:
        for figure in record["figures"]:
            Figure(**figure)
    except TypeError as error:
        raise TransectError(f"{folder}: study.json is damaged ({error}).", AGAIN) from error
    if not all(isinstance(s, str) for k in ("findings", "warnings", "methods") for s in record[k]):
        raise TransectError(f"{folder}: study.json is damaged (a sentence is no text).", AGAIN)
    if not isinstance(record.get("sha256", {}), dict):
        raise TransectError(f"{folder}: study.json is damaged (its checksums are none).", AGAIN)
    return record


def verify_study(folder: Path) -> tuple[list[str], list[str]]:
    """(problems of a study's files, files without a checksum). Raises: TransectError for its study.json."""
    record = study_json(folder)
    problems, bare = [], [] if is_sealed(folder / "study.json") else ["study.json"]
    for name in record["tables"]:
        file = folder / f"{name}.parquet"
        try:
            Table.load(file)
            if file_hash(file) != record.get("sha256", {}).get(name, file_hash(file)):
                problems.append(f"{file.name}: not the one that was saved with this study")
            bare += [] if has_checksum(file) else [file.name]
        except TransectError as error:
            problems.append(f"{file.name}: {error.message}")
    return problems, bare


def describe_run(store: Any) -> str:
    """One line on a store, for captions and methods: model, fingerprint, texts, counts."""
    m = store.manifest
    weights = str(m["model"]["fingerprint"].get("weights", ""))[:8]
    opened = f"{store.name} ({m['dtype']['compute']}, weights {weights})"
    return f"{opened} on {m['texts']['spec']}, {len(store)} {store.unit}s, {int(store.start[-1]):,} tokens"
