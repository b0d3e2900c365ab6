"""Texts from one spec string: samples, stable ids, labels, landmarks as character spans; and their tokens.

Specs: birthdays:1000 and the other template sets · template:FILE · gsm-test · gsm-symbolic:N · brown · sotu · reviews ·
gsm8k · wikitext2 · glue/mrpc|sst2|rte · squad_v2 (each also NAME@FILE, a local copy) · any hub id · FILE.jsonl|json|
csv|tsv|parquet|txt · - (standard input). Behind a spec stand :N (how many) and :SPLIT.
Texts are kept as they are. A row without text is left out while such rows are at most one in twenty, else refused.
"""

import hashlib
import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from transect.errors import TransectError
from transect.files import local
from transect.texts import datasets as sources
from transect.texts.datasets import HUB, HUBLESS, HUBLESS_SETS
from transect.texts.readers import FILES, Rows, read_file, read_stdin
from transect.texts.sets import SETS
from transect.texts.templates import Made, Span, generate, read_template
from transect.texts.tokens import Tokenized, landmark_token
from transect.texts.tokens import tokenize as _tokenize

__all__ = ["Texts", "Tokenized", "landmark_token", "open_texts", "tokenize"]
COUNT = re.compile(r"-?[0-9]{1,12}")
SPLITS = ("train", "validation", "test", "dev")


@dataclass
class Texts:
    """Samples in a stable order. `landmarks[name][i]` is a character span of text i, or None where it has none.

    `chat`: each text is a user's message, put into the model's chat template when tokenised; `messages` holds whole
    conversations instead, where the source has them. `notes` say what was left out.
    """

    texts: list[str]
    ids: list[str]
    labels: dict[str, list[Any]] = field(default_factory=dict)
    landmarks: dict[str, list[Span | None]] = field(default_factory=dict)
    name: str = "texts"
    spec: str = ""
    chat: bool = False
    groups: list[str] | None = None
    messages: list[list[dict[str, str]]] | None = None
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for what, column in self._columns().items():
            assert len(column) == len(self.texts), f"{what}: {len(column)} values for {len(self.texts)} texts"
        if len(set(self.ids)) != len(self.ids):
            raise TransectError(f"{self.name}: ids are not unique.", "Give each row its own id, or none.")
        self.hashes = [hashlib.sha256(self._content(i)).hexdigest() for i in range(len(self.texts))]

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def fingerprint(self) -> str:
        """Sixteen hex digits over ids, text hashes, labels, landmarks and the chat flag."""
        content = [self.ids, self.hashes, self.labels, self.landmarks, self.chat]
        return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]

    def subset(self, indices: Sequence[int]) -> "Texts":
        """The texts at `indices`, in that order."""
        which = [int(i) for i in indices]

        def take(column: list[Any]) -> list[Any]:
            return [column[i] for i in which]

        return replace(
            self,
            texts=take(self.texts),
            ids=take(self.ids),
            labels={k: take(v) for k, v in self.labels.items()},
            landmarks={k: take(v) for k, v in self.landmarks.items()},
            groups=None if self.groups is None else take(self.groups),
            messages=None if self.messages is None else take(self.messages),
        )

    def _columns(self) -> dict[str, list[Any]]:
        columns = {"ids": self.ids, **self.labels, **self.landmarks}
        optional = {"groups": self.groups, "messages": self.messages}
        return columns | {k: v for k, v in optional.items() if v is not None}

    def _content(self, i: int) -> bytes:
        return (json.dumps(self.messages[i]) if self.messages else self.texts[i]).encode("utf-8", "surrogatepass")


def open_texts(
    spec: str | Path | Texts,
    *,
    n: int | None = None,
    seed: int = 0,
    split: str | None = None,
    column: str | None = None,
    label: str | None = None,
    config: str | None = None,
    chat: bool = False,
    min_chars: int = 0,
) -> Texts:
    """Open the texts that `spec` names (see this file's head).

    n: a sample without replacement drawn by the seed, kept in the source's order. column: of the text (default "text").
    label: columns to keep as labels, separated by commas (default: every column of plain values). config: of a hub data
    set; "documents" for whole ones of brown and sotu. chat: put each text into the chat template as a user's message.
    min_chars: leave out shorter texts.
    """
    if isinstance(spec, Texts):
        return spec
    name, inner_n, inner_split = _parse(str(spec))
    n, split = (inner_n if n is None else n), inner_split or split
    if n is not None and n < 1:
        raise TransectError(f"{spec}: {n} texts asked.", "Ask for at least one.")
    if name in SETS or name.startswith("template:"):
        file = name.removeprefix("template:")
        made = generate(SETS[name]() if name in SETS else read_template(local(file)), n, seed)
        return _generated(made, str(spec), seed, label, chat, min_chars)
    rows = _rows(name, n, seed, split, config)
    return _selected(rows, name, str(spec), n=n, seed=seed, column=column, label=label, chat=chat, min_chars=min_chars)


def tokenize(texts: Texts, tokenizer: Any, max_length: int | None = None) -> Tokenized:
    """Token ids, character offsets, special-token mask and landmark tokens of every text; see `tokens.tokenize`."""
    messages = texts.messages or [[{"role": "user", "content": text}] for text in texts.texts] if texts.chat else None
    return _tokenize(texts.texts, tokenizer, max_length, landmarks=texts.landmarks, messages=messages, ids=texts.ids)


def _parse(spec: str) -> tuple[str, int | None, str | None]:
    """(name, n, split) of NAME[:SPLIT][:N]; colons inside a path stay in the path."""
    n = split = None
    while ":" in spec and not local(spec).exists():
        rest, _, last = spec.rpartition(":")
        if COUNT.fullmatch(last) and n is None:
            n = int(last)
        elif last in SPLITS and split is None:
            split = last
        else:
            break
        spec = rest
    return spec, n, split


def _rows(name: str, n: int | None, seed: int, split: str | None, config: str | None) -> Rows:
    if name == "-":
        return read_stdin()
    if name in HUBLESS_SETS:
        return HUBLESS_SETS[name](config)
    if name == "gsm-symbolic":
        return sources.gsm_symbolic(n or 500, seed)
    known, _, copy = name.partition("@")
    if known in HUB:
        return sources.hub_rows(known, config=config, split=split, file=local(copy) if copy else None)
    path = local(name)
    if path.suffix.lower() in FILES:
        if not path.is_file():
            raise TransectError(f"no file {name}.", "Check the path.")
        return read_file(path)
    if path.exists() or name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise TransectError(
            f"no texts {name!r:.200}.",
            f"A file ends in {', '.join(FILES)}. Sets: {', '.join(SETS)}, {', '.join(HUB)}. {HUBLESS}",
        )
    return sources.hub_rows(name, config=config, split=split)


def _generated(made: Made, spec: str, seed: int, label: str | None, chat: bool, min_chars: int) -> Texts:
    ids = [f"{made.name}-{seed}-{i:05d}" for i in range(len(made.texts))]
    labels = _only(made.labels, label, made.name)
    texts = Texts(made.texts, ids, labels, made.landmarks, made.name, spec, chat)
    return texts.subset([i for i, text in enumerate(made.texts) if len(text) >= min_chars]) if min_chars else texts


def _selected(
    rows: Rows,
    name: str,
    spec: str,
    *,
    n: int | None,
    seed: int,
    column: str | None,
    label: str | None,
    chat: bool,
    min_chars: int,
) -> Texts:
    """Texts from rows: the text column checked, the sample drawn, labels and spans taken along."""
    column, messages, values = _text_column(rows, name, column)
    present, notes = _present(values, name)
    kept = [i for i in present if len(values[i]) >= min_chars]
    if short := len(present) - len(kept):
        notes.append(f"{short} texts under {min_chars} characters left out")
    if not kept:
        raise TransectError(f"{name}: no texts.", "Check the file, --column and --min-chars.")
    if n is not None and n > len(kept):
        raise TransectError(f"{name}: {n} texts asked, there are {len(kept)}.", f"Ask for at most {len(kept)}.")
    if n is not None:
        kept = sorted(random.Random(seed).sample(kept, n))
    labels, ids = _labels(rows, column, label, name), _ids(rows, name)
    return Texts(
        [values[i] for i in kept],
        [ids[i] for i in kept],
        {key: _typed([found[i] for i in kept]) for key, found in labels.items()},
        {key: [spans[i] for i in kept] for key, spans in rows.spans.items()},
        _stem(name),
        spec,
        chat or messages is not None,
        [str(rows.columns[rows.group][i]) for i in kept] if rows.group else None,
        None if messages is None else [messages[i] for i in kept],
        notes,
    )


def _stem(name: str) -> str:
    return Path(name).stem if Path(name).suffix.lower() in FILES else name


def _ids(rows: Rows, name: str) -> list[str]:
    """The source's own ids where they are unique, else name and row number."""
    ids = [str(value) for value in rows.columns.get(rows.id or "id", [])]
    unique = ids and len(set(ids)) == len(ids)
    return ids if unique else [f"{_stem(name)}-{i:06d}" for i in range(len(rows))]


def _text_column(rows: Rows, name: str, column: str | None) -> tuple[str, list[Any] | None, list[Any]]:
    """(column, conversations or None, texts)."""
    asked = column or rows.text
    if column is None and asked not in rows.columns and "messages" in rows.columns:
        asked = "messages"
    if asked not in rows.columns:
        raise TransectError(f"{name}: no column {asked!r}.", f"Columns: {', '.join(rows.columns) or 'none'}.")
    values = rows.columns[asked]
    if values and all(isinstance(v, list) and v and all(_is_message(m) for m in v) for v in values):
        return asked, values, ["\n".join(m["content"] for m in v) for v in values]
    return asked, None, values


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("role"), str) and isinstance(value.get("content"), str)


def _present(values: list[Any], name: str) -> tuple[list[int], list[str]]:
    """(rows with a text, notes). Rows without one are left out while they are at most one in twenty."""
    for row, value in enumerate(values):
        if value is not None and not isinstance(value, str):
            raise TransectError(
                f"{name}: row {row + 1} of the text column holds {type(value).__name__}, not text.", "Choose --column."
            )
        if value and any("\ud800" <= c <= "\udfff" for c in value):
            raise TransectError(f"{name}: row {row + 1} holds half a character (a lone surrogate).", "Repair the file.")
    empty = [row for row, value in enumerate(values) if not (value or "").strip()]
    if len(empty) * 20 > len(values):
        raise TransectError(
            f"{name}: {len(empty)} of {len(values)} rows have no text (first: row {empty[0] + 1}).",
            "Choose --column, or remove those rows.",
        )
    gone = set(empty)
    return [i for i in range(len(values)) if i not in gone], [
        f"{len(empty)} rows without text left out"
    ] if empty else []


def _labels(rows: Rows, column: str, label: str | None, name: str) -> dict[str, list[Any]]:
    """Label columns: those asked, those the source is known for, or every other column of plain values."""
    if label is None and rows.labels is not None:
        return {key: rows.columns[key] for key in rows.labels}
    others = {k: v for k, v in rows.columns.items() if k not in (column, rows.id or "id")}
    if label is not None:
        return _only(others, label, name)
    plain = (str, int, float, bool, type(None))
    return {k: v for k, v in others.items() if all(isinstance(x, plain) for x in v)}


def _only(columns: dict[str, list[Any]], label: str | None, name: str) -> dict[str, list[Any]]:
    if label is None:
        return columns
    wanted = [part.strip() for part in label.split(",") if part.strip()]
    if missing := [part for part in wanted if part not in columns]:
        raise TransectError(f"{name}: no label {missing[0]!r}.", f"There are: {', '.join(columns) or 'none'}.")
    return {part: columns[part] for part in wanted}


def _typed(values: list[Any]) -> list[Any]:
    """One type a column: numbers stay numbers, a mixture becomes strings; None stays None."""
    kinds = {type(v) for v in values if v is not None}
    if len(kinds) <= 1:
        return values
    if kinds <= {int, float, bool}:
        return [None if v is None else float(v) for v in values]
    return [None if v is None else str(v) for v in values]
