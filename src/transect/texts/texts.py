"""Texts from one spec string: samples, stable ids, labels, landmarks as character spans; and their tokens.

Specs: birthdays:1000 and the other template sets · template:FILE · gsm-test · gsm-symbolic:N · brown · sotu ·
reviews · gsm8k · wikitext2 · glue/mrpc|sst2|rte · squad_v2 (each also NAME@FILE, a local copy) · any hub id ·
FILE.jsonl|json| csv|tsv|parquet|txt · a folder of Parquet files · - (standard input). Behind a spec stand :N
(how many) and :SPLIT. Texts are kept as they are. A row without text, or of fewer than two tokens, is left
out while such rows are at most one in twenty, else refused; `strict` refuses any.
"""

import hashlib
import importlib.metadata
import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, TypedDict, Unpack

from transect.errors import TransectError
from transect.files import local
from transect.texts import datasets as sources
from transect.texts.columns import ids_of, label_columns, only, present_rows, stem_of, text_column, typed
from transect.texts.datasets import HUB, HUBLESS, HUBLESS_SETS
from transect.texts.readers import FILES, Rows, read_file, read_stdin
from transect.texts.sets import SETS
from transect.texts.templates import Made, Span, generate, read_template
from transect.texts.tokens import Tokenized, landmark_token
from transect.texts.tokens import tokenize as _tokenize
from transect.work.options import Option, Values

__all__ = ["Texts", "Tokenized", "landmark_token", "open_texts", "tokenize"]
COUNT = re.compile(r"-?[0-9]{1,12}")
SPLITS = ("train", "validation", "test", "dev")


@dataclass
class Texts:
    """Samples in a stable order. `landmarks[name][i]` is a character span of text i, or None where it has
    none.

    `chat`: each text is a user's message, put into the model's chat template when tokenised; `messages` holds
    whole conversations instead, where the source has them. `notes` say what was left out; `strict` leaves
    nothing out.
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
    strict: bool = False

    def __repr__(self) -> str:
        held = [f"labels {', '.join(self.labels)}"] if self.labels else []
        held += [f"landmarks {', '.join(self.landmarks)}"] if self.landmarks else []
        return f"<texts {self.name}: {'; '.join([f'{len(self.texts)} texts', *held])}>"

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
        return (json.dumps(self.messages[i]) if self.messages else self.texts[i]).encode(
            "utf-8", "surrogatepass"
        )


class TextOptions(TypedDict, total=False):
    """Which texts of a source are taken, and what is read of each."""

    n: Annotated[
        int | None,
        Option(None, "A sample without replacement by the seed, kept in the source's order.", least=1),
    ]
    seed: Annotated[int, Option(0, "Seed of every random choice.", least=0)]
    split: Annotated[str | None, Option(None, "Split of a data set, such as train or test.")]
    column: Annotated[str | None, Option(None, "Column that holds the text; by default text.")]
    label: Annotated[
        str | None,
        Option(None, "Columns to keep as labels, with commas; by default every column of plain values."),
    ]
    config: Annotated[
        str | None, Option(None, 'Of a hub data set; "documents" for whole ones of brown and sotu.')
    ]
    chat: Annotated[bool, Option(False, "Put each text into the chat template as a user's message.")]
    min_chars: Annotated[int, Option(0, "Leave out texts of fewer characters.", least=0)]
    stream: Annotated[
        bool, Option(False, "Of a hub data set read about as many rows as are asked for, not all of it.")
    ]
    strict: Annotated[bool, Option(False, "Refuse rows without text and texts of fewer than two tokens.")]


class Taken(Values):
    """Frozen value of TextOptions."""

    group = TextOptions


def open_texts(spec: str | Path | list[str] | Texts, **options: Unpack[TextOptions]) -> Texts:
    """Open the texts that `spec` names (see this file's head).

    Args:
        spec: A name with a count, a file, a list of texts, or texts that are open already.
        **options: `TextOptions`: sample, seed, split, columns, chat template.
    """
    o = Taken(**options)
    if isinstance(spec, Texts):
        return replace(spec, strict=True) if o.strict and not spec.strict else spec
    if isinstance(spec, list):
        return _selected(Rows({"text": spec}), "texts", "a list in memory", o.n, o)
    name, inner_n, inner_split = _parse(str(spec))
    n, split = (inner_n if o.n is None else o.n), inner_split or o.split
    if n is not None and n < 1:
        raise TransectError(f"{spec}: {n} texts asked.", "Ask for at least one.")
    if name in SETS or name.startswith("template:"):
        file = name.removeprefix("template:")
        texts = generate(SETS[name]() if name in SETS else read_template(local(file)), n, o.seed)
        return replace(_generated(texts, str(spec), o.seed, o.label, o.chat, o.min_chars), strict=o.strict)
    if o.stream and n is None:
        raise TransectError(f"{spec}: a streamed data set has no end.", "Ask for so many texts: NAME:1000.")
    stream = (2 * n + 100, o.seed) if o.stream and n is not None else None  # some rows hold no text
    rows = _rows(name, n, o.seed, split, o.config, stream)
    return _selected(rows, name, str(spec), n, o)


def tokenize(
    texts: Texts, tokenizer: Any, max_length: int | None = None, *, strict: bool = False
) -> Tokenized:
    """Token ids, character offsets, special-token mask and landmark tokens of the texts `Tokenized.kept`.

    Args:
        strict: refuse texts that are too short instead of leaving them out; see `tokens.tokenize`.
    """
    messages = (
        texts.messages or [[{"role": "user", "content": text}] for text in texts.texts]
        if texts.chat
        else None
    )
    options = {
        "landmarks": texts.landmarks,
        "messages": messages,
        "ids": texts.ids,
        "strict": strict or texts.strict,
    }
    return _tokenize(texts.texts, tokenizer, max_length, **options)


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


def _rows(
    name: str,
    n: int | None,
    seed: int,
    split: str | None,
    config: str | None,
    stream: tuple[int, int] | None,
) -> Rows:
    known, _, copy = name.partition("@")
    if stream and (copy or known not in HUB) and (name.count("/") != 1 or local(name).exists()):
        raise TransectError(f"{name} is not streamed: it is no data set on a hub.", "Leave out stream.")
    if name == "-":
        return read_stdin()
    if name in HUBLESS_SETS:
        return HUBLESS_SETS[name](config)
    for entry in importlib.metadata.entry_points(group="transect.texts", name=name):
        return entry.load()(config)
    if name == "gsm-symbolic":
        return sources.gsm_symbolic(n or 500, seed)
    if known in HUB:
        file = local(copy) if copy else None
        return sources.hub_rows(known, config=config, split=split, file=file, stream=stream)
    path = local(name)
    if path.is_dir() and any(path.glob("*.parquet")):
        return read_file(path)
    if path.suffix.lower() in FILES:
        if not path.is_file():
            raise TransectError(f"no file {name}.", "Check the path.")
        return read_file(path)
    if path.exists() or name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise TransectError(
            f"no texts {name!r:.200}.",
            (
                f"A file ends in {', '.join(FILES)}; a folder holds .parquet files. Sets: {', '.join(SETS)}, "
                f"{', '.join(HUB)}. {HUBLESS}"
            ),
        )
    return sources.hub_rows(name, config=config, split=split, stream=stream)


def _generated(generated: Made, spec: str, seed: int, label: str | None, chat: bool, min_chars: int) -> Texts:
    ids = [f"{generated.name}-{seed}-{i:05d}" for i in range(len(generated.texts))]
    labels = {
        key: typed(values, key) for key, values in only(generated.labels, label, generated.name).items()
    }
    texts = Texts(generated.texts, ids, labels, generated.landmarks, generated.name, spec, chat)
    return (
        texts.subset([i for i, text in enumerate(generated.texts) if len(text) >= min_chars])
        if min_chars
        else texts
    )


def _selected(rows: Rows, name: str, spec: str, n: int | None, o: Taken) -> Texts:
    """Texts from rows: the text column checked, the sample drawn, labels and spans taken along."""
    column, messages, values = text_column(rows, name, o.column)
    present, notes = present_rows(values, name, o.strict)
    kept = [i for i in present if len(values[i]) >= o.min_chars]
    if short := len(present) - len(kept):
        notes.append(f"{short} texts under {o.min_chars} characters left out")
    if not kept:
        raise TransectError(f"{name}: no texts.", "Check the file, --column and --min-chars.")
    if n is not None and n > len(kept):
        raise TransectError(
            f"{name}: {n} texts asked, there are {len(kept)}.", f"Ask for at most {len(kept)}."
        )
    if n is not None:
        kept = sorted(random.Random(o.seed).sample(kept, n))
    labels, ids = label_columns(rows, column, o.label, name), ids_of(rows, stem_of(name))
    return Texts(
        [values[i] for i in kept],
        [ids[i] for i in kept],
        {key: typed([per_text[i] for i in kept], key) for key, per_text in labels.items()},
        {key: [spans[i] for i in kept] for key, spans in rows.spans.items()},
        stem_of(name),
        spec,
        o.chat or messages is not None,
        [str(rows.columns[rows.group][i]) for i in kept] if rows.group else None,
        None if messages is None else [messages[i] for i in kept],
        notes,
        o.strict,
    )
