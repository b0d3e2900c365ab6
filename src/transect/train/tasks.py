"""Tasks: examples with labels, spans or plain text, and how answers are judged. A task is named or read from
local files.

Names: mrpc · rte · sst2 · squad_v2 (the hub, or NAME@TRAIN[,VALIDATION] for local copies with its columns) ·
reviews (movie sentiment, no hub) · lm:TEXTS (causal language modelling on any text spec) · a local file:
columns text and label make a classification, context, question and answers a span task, text alone a
language-model task. FILE,FILE: train, validation. Without a validation part every tenth example, by the hash
of its content, is kept for it, whatever the seed.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transect.errors import TransectError
from transect.files import local
from transect.packages import hub_reachable
from transect.texts.datasets import HUB
from transect.texts.readers import FILES, read_file
from transect.texts.texts import open_texts

Example = dict[str, Any]
#: Name → (key in HUB, columns of the two texts)
GLUE = {
    "mrpc": ("glue/mrpc", ("sentence1", "sentence2")),
    "rte": ("glue/rte", ("sentence1", "sentence2")),
    "sst2": ("glue/sst2", ("sentence",)),
}
NAMES = "mrpc, rte, sst2, squad_v2, reviews, lm:TEXTS, or a local file"


@dataclass
class Task:
    """Examples of a task. kind: "classify" (`text`, `pair`, `label`), "span" (`question`, `context`,
    `answers`: a list of (start, text), empty where there is none) or "lm" (`text`). `headline` names the
    metric that stands for the task."""

    name: str
    kind: str
    train: list[Example]
    validation: list[Example]
    labels: list[Any] = field(default_factory=list)
    headline: str = "accuracy"

    @property
    def fingerprint(self) -> str:
        """Sixteen hex digits over all examples."""
        content = json.dumps([self.kind, self.labels, self.train, self.validation], default=str)
        return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def open_task(spec: str) -> Task:
    """The task that `spec` names (see this file's head)."""
    name, _, files = spec.partition("@")
    if spec == "reviews":
        return _reviews()
    if spec.startswith("lm:"):
        return _finished(spec, "lm", [{"text": t} for t in open_texts(spec[3:]).texts], None)
    if name in GLUE or name == "squad_v2":
        key = GLUE[name][0] if name in GLUE else name
        train, validation = _local(files) if files else (_hub(key, "train"), _hub(key, "validation"))
        return _from_rows(name, train, validation, GLUE[name][1] if name in GLUE else None)
    if Path(spec.split(",")[0]).suffix.lower() in FILES:
        train, validation = _local(spec)
        return _from_rows(Path(spec.split(",")[0]).stem, train, validation, None)
    raise TransectError(f"no task {spec!r:.80}.", f"There are {NAMES}.")


def _hub(key: str, split: str) -> list[Example]:
    known = HUB[key]
    if not hub_reachable():
        short = key.removeprefix("glue/")
        raise TransectError(
            f"task {short} is on a hub, and none can be reached.",
            f"{short}@TRAIN.parquet,VALIDATION.parquet reads local copies; reviews needs no hub.",
        )
    from datasets import load_dataset

    rows: Any = load_dataset(known.path, known.config, split=split)
    return [dict(row) for row in rows]


def _local(files: str) -> tuple[list[Example], list[Example] | None]:
    parts = [local(f) for f in files.split(",")]
    for part in parts:
        if not part.is_file():
            raise TransectError(f"no file {part}.", "Check the path.")
    if len(parts) > 2:
        raise TransectError(f"{len(parts)} files given.", "Give TRAIN or TRAIN,VALIDATION.")
    rows = []
    for part in parts:
        columns = read_file(part).columns
        rows.append(
            [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        )
    return rows[0], rows[1] if len(rows) == 2 else None


def _from_rows(
    name: str, train: list[Example], validation: list[Example] | None, texts: Sequence[str] | None
) -> Task:
    """The task that the columns of the rows say."""
    if not train:
        raise TransectError(f"task {name}: no examples.", "Check the file.")
    has = set(train[0])
    both = [train, validation]
    if {"context", "question", "answers"} <= has:
        examples = [
            None if rows is None else [_span(name, k, row) for k, row in enumerate(rows)] for rows in both
        ]
        return _finished(name, "span", examples[0] or [], examples[1], headline="f1")
    if texts is None:
        texts = ("sentence1", "sentence2") if {"sentence1", "sentence2"} <= has else ("text",)
    if missing := [c for c in texts if c not in has]:
        raise TransectError(f"task {name}: no column {missing[0]!r}.", f"Columns: {', '.join(sorted(has))}.")
    if "label" not in has:
        examples = [None if rows is None else [{"text": str(row[texts[0]])} for row in rows] for rows in both]
        return _finished(name, "lm", examples[0] or [], examples[1])
    known = _labels(name, train)
    examples = [
        None if rows is None else [_labelled(name, k, r, texts, known) for k, r in enumerate(rows)]
        for rows in both
    ]
    headline = "f1" if name == "mrpc" else "accuracy"
    return _finished(name, "classify", examples[0] or [], examples[1], labels=known, headline=headline)


def _labels(name: str, rows: list[Example]) -> list[Any]:
    labels = {row["label"] for row in rows if row["label"] is not None}
    if all(isinstance(v, int) and not isinstance(v, bool) for v in labels):
        if labels and min(labels) < 0:
            raise TransectError(
                f"task {name}: label {min(labels)}: these rows have no labels.", "Use a labelled split."
            )
        labels |= {0, 1} if name in GLUE else set()
        if name in GLUE and max(labels) > 1:
            raise TransectError(f"task {name}: label {max(labels)} outside 0 and 1.", "Check the file.")
    if not 2 <= len(labels) <= 1000:
        raise TransectError(
            f"task {name}: {len(labels)} different labels.", "A classification has 2 to 1000."
        )
    return sorted(labels, key=lambda v: (str(type(v)), v))


def _labelled(name: str, k: int, row: Example, texts: Sequence[str], known: list[Any]) -> Example:
    if row["label"] not in known:
        raise TransectError(
            f"task {name}: row {k + 1} has the label {row['label']!r}, outside of the task.",
            f"Labels: {known}.",
        )
    pair = str(row[texts[1]]) if len(texts) > 1 else None
    return {"text": str(row[texts[0]]), "pair": pair, "label": known.index(row["label"])}


def _span(name: str, k: int, row: Example) -> Example:
    try:
        gold = row["answers"]
        answers = list(zip(map(int, gold["answer_start"]), map(str, gold["text"]), strict=True))
    except (KeyError, TypeError, ValueError) as error:
        raise TransectError(
            f"task {name}: row {k + 1}: answers need text and answer_start ({error})."
        ) from error
    context = str(row["context"])
    for start, text in answers:
        if context[start : start + len(text)] != text:
            raise TransectError(
                f"task {name}: row {k + 1}: no answer {text!r} at {start}.", "Check the offsets."
            )
    return {"question": str(row["question"]).strip(), "context": context, "answers": answers}


def _reviews() -> Task:
    """Movie-review sentences whose mean rating is above 0.5 or below −0.5: positive or not."""
    opened = open_texts("reviews")
    rated = zip(opened.texts, opened.labels["rating"], strict=True)
    rows = [
        {"text": text, "pair": None, "label": int(rating > 0)} for text, rating in rated if abs(rating) > 0.5
    ]
    return _finished("reviews", "classify", rows, None, labels=[0, 1])


def _finished(
    name: str, kind: str, train: list[Example], validation: list[Example] | None, **more: Any
) -> Task:
    if validation is None:
        held = [_hash(example) % 10 == 0 for example in train]
        validation = [e for e, h in zip(train, held, strict=True) if h]
        train = [e for e, h in zip(train, held, strict=True) if not h]
    if len(train) < 2 or len(validation) < 2:
        raise TransectError(
            f"task {name}: {len(train)} examples to train on, {len(validation)} to judge by.", "Add some."
        )
    if kind == "lm":
        more["headline"] = "loss"
    return Task(name, kind, train, validation, **more)


def _hash(example: Example) -> int:
    return int(hashlib.sha256(json.dumps(example, sort_keys=True, default=str).encode()).hexdigest()[:8], 16)


def mixed(examples: list[Example], limit: int | None) -> list[Example]:
    """The examples in the order of their hashes, at most `limit`: a fixed sample, whatever order the file
    had."""
    ordered = sorted(examples, key=lambda e: hashlib.sha256(json.dumps(e, default=str).encode()).hexdigest())
    return ordered[:limit]
