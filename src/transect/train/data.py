"""From texts to token streams on disk: a split by document, a tokenizer, and one memory-mapped array for each
part.

    DIR/data.json        what is there: texts, split, counts of documents, tokens, words and bytes
    DIR/tokenizer/       as transformers saves one
    DIR/train.bin …      token ids, uint16 where they fit, else uint32; a document ends in the end-of-text
    token
    DIR/prompts.jsonl    excerpts of held-out documents, to look at a model with

Files TRAIN,VALIDATION have no test part: a run on them is judged by validation, and says so.

Sequences are cut from the stream when they are needed, side by side; nothing is kept in memory.
"""

import hashlib
import itertools
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from transect.errors import TransectError
from transect.files import read_json, whole_file, write_bytes, write_json
from transect.texts.datasets import HUB
from transect.texts.texts import open_texts
from transect.train.pretraining import Pretraining
from transect.train.state import checkpoint_at
from transect.train.vocabulary import tokenizer_of
from transect.work.folders import SUMS, write_sums

PARTS = ("train", "validation", "test")
GROUPS = 20  # of whole documents, behind intervals of losses
HELD = (
    0.05  # share of the documents that validation gets, and test; of few documents up to a quarter, at most 8
)


@dataclass(frozen=True)
class Stream:
    """Token ids of one part, memory-mapped [tokens], with the words and bytes of the text they came from."""

    ids: np.ndarray
    documents: int
    words: int
    bytes: int
    end: int | None = None
    group_bytes: tuple[int, ...] = ()

    def blocks(self, size: int) -> int:
        """How many sequences of `size` tokens with their next tokens lie side by side."""
        return max(0, (len(self.ids) - 1) // size)

    def sequences(self, which: Sequence[int], size: int) -> np.ndarray:
        """The sequences `which`, [count, size + 1] int64: inputs and, one further, targets."""
        return np.stack([self.ids[k * size : k * size + size + 1] for k in which]).astype(np.int64)


@dataclass(frozen=True)
class Data:
    """Streams of the parts, the tokenizer, and the identity of both."""

    folder: Path
    parts: dict[str, Stream]
    tokenizer: Any
    fingerprint: str

    @property
    def judged(self) -> str:
        """The part that a run is judged by: test, or validation where there is no test part."""
        return "test" if "test" in self.parts else "validation"


def prepare(recipe: Pretraining, folder: Path) -> Data:
    """The data of a recipe in `folder`, made there unless it is there. TransectError when the folder holds
    other data, or when a part is shorter than a block."""
    asked = {"texts": recipe.texts, "tokenizer": recipe.tokenizer}
    asked |= {"vocab": recipe.vocab} if recipe.tokenizer == "bpe" else {}
    if (folder / "data.json").is_file():
        record = read_json(folder / "data.json", "data")
        if record.get("asked") == asked and _validation_twice(folder, record):
            raise TransectError(
                f"{folder}: its test part is its validation part.", "Delete the data folder and run again."
            )
        if record.get("asked") != asked:
            raise TransectError(
                f"{folder} holds the data of {record.get('asked')}, asked {asked}.", "Choose another --data."
            )
    else:
        record = _make(asked, folder)
    return _check(_open(folder, record), recipe)


def _validation_twice(folder: Path, record: dict[str, Any]) -> bool:
    """Whether an earlier version wrote TRAIN,VALIDATION with validation as test."""
    if record["parts"].get("test") != record["parts"]["validation"]:
        return False
    files = [folder / f"{part}.bin" for part in ("validation", "test")]
    return all(f.is_file() for f in files) and files[0].read_bytes() == files[1].read_bytes()


def _open(folder: Path, record: dict[str, Any]) -> Data:
    from transect.models.checkpoints import load_tokenizer

    parts, tokenizer = {}, load_tokenizer(folder / "tokenizer", {"local_files_only": True})
    for part, counts in record["parts"].items():
        file, size = folder / f"{part}.bin", np.dtype(record["dtype"]).itemsize
        if not file.is_file() or file.stat().st_size != counts["tokens"] * size:
            raise TransectError(f"{file} is missing or cut short.", "Delete the data folder and run again.")
        ids = np.memmap(file, record["dtype"], "r", shape=(counts["tokens"],))
        sizes = tuple(counts.get("group_bytes", ()))
        parts[part] = Stream(
            ids, counts["documents"], counts["words"], counts["bytes"], tokenizer.eos_token_id, sizes
        )
    return Data(folder, parts, tokenizer, str(record["fingerprint"]))


def _check(data: Data, recipe: Pretraining) -> Data:
    for part, stream in data.parts.items():
        if stream.blocks(recipe.block) < 1:
            raise TransectError(
                (
                    f"{recipe.texts}: the {part} part has {len(stream.ids)} tokens, a block takes "
                    f"{recipe.block + 1}."
                ),
                f"Give more text, or --block {max(2, len(stream.ids) // 2)} at most.",
            )
    return data


def _make(asked: dict[str, Any], folder: Path) -> dict[str, Any]:
    documents = _documents(asked["texts"])
    tokenizer = tokenizer_of(asked["tokenizer"], asked.get("vocab", 0), documents["train"])
    kind = np.uint16 if len(tokenizer) <= 1 << 16 else np.uint32
    with checkpoint_at(folder / "tokenizer") as partial:
        tokenizer.save_pretrained(str(partial))
    digest, parts = hashlib.sha256(json.dumps(asked).encode()), {}
    for part in documents:
        parts[part] = _write(folder / f"{part}.bin", documents[part], tokenizer, kind)
        digest.update((folder / f"{part}.bin").read_bytes())
    shown = [json.dumps({"text": text}) for text in excerpts(documents.get("test", documents["validation"]))]
    write_bytes(folder / "prompts.jsonl", "\n".join(shown).encode())
    record = {"asked": asked, "dtype": np.dtype(kind).name, "vocabulary": len(tokenizer), "parts": parts}
    record |= {
        "split": (
            f"documents, {HELD:.0%} validation, {HELD:.0%} test, by hash, unless the texts bring their own"
        )
    }
    write_sums(folder, [p for p in folder.rglob("*") if p.is_file() and p.name != SUMS])
    write_json(folder / "data.json", record | {"fingerprint": digest.hexdigest()[:16]})
    return read_json(folder / "data.json", "data")


def group_sizes(documents: int, most: int = GROUPS) -> list[int]:
    """Documents in each of at most `most` groups, as equal as can be; every group has one or more."""
    count = min(most, documents)
    return [(k + 1) * documents // count - k * documents // count for k in range(count)]


def _write(file: Path, documents: list[str], tokenizer: Any, kind: Any) -> dict[str, Any]:
    """Encode documents one after the other; the end-of-text token closes each."""
    end, count = tokenizer.eos_token_id, 0
    limit = int(np.iinfo(kind).max)
    with whole_file(file) as fd, os.fdopen(fd, "wb", closefd=False) as sink:
        for ids in _encoded(documents, tokenizer):
            array = np.array([*ids, end] if end is not None else ids, dtype=np.int64)
            assert not len(array) or array.max() <= limit
            sink.write(array.astype(kind).tobytes())
            count += len(array)
    words, sizes = sum(len(d.split()) for d in documents), [len(d.encode()) for d in documents]
    cuts = np.cumsum([0, *group_sizes(len(documents))]).tolist()
    return {
        "documents": len(documents),
        "tokens": count,
        "words": words,
        "bytes": sum(sizes),
        "group_bytes": [sum(sizes[a:b]) for a, b in itertools.pairwise(cuts)],
    }


def _encoded(documents: list[str], tokenizer: Any) -> Iterator[list[int]]:
    for k in range(0, len(documents), 64):
        yield from tokenizer(documents[k : k + 64], add_special_tokens=False, verbose=False)["input_ids"]


def excerpts(documents: list[str], count: int = 60, characters: int = 400) -> list[str]:
    """At most `count` paragraphs, cut at a space before so many characters: one of each document, then
    another."""
    candidates: list[tuple[int, int, str]] = []
    for d, document in enumerate(documents):
        paragraphs = [p for p in document.split("\n\n") if len(p) >= 100] or [document]
        for k, text in enumerate(paragraphs):
            short = (
                text if len(text) <= characters else text[:characters].rpartition(" ")[0] or text[:characters]
            )
            candidates.append((k, d, short))
    return [text for _, _, text in sorted(candidates)[:count]]


# documents


def _documents(spec: str) -> dict[str, list[str]]:
    """Documents of each part, train first. Files TRAIN,VALIDATION[,TEST] and sets with their own parts keep
    those, also as SET@TRAIN,VALIDATION[,TEST]; else one document in twenty, by the hash of its content, goes
    to validation and one to test."""
    if spec == "wikitext2":
        return {part: _read_documents(f"wikitext2:{part}") for part in PARTS}
    name, at, copies = spec.partition("@")
    known = bool(at) and name in HUB
    if "," in (copies if known else spec):
        files = [f.strip() for f in (copies if known else spec).split(",")]
        if len(files) not in (2, 3) or not all(files):
            raise TransectError(
                f"{len(files)} files of text.", "Give TRAIN,VALIDATION or TRAIN,VALIDATION,TEST."
            )
        read = [f"{name}@{f}" for f in files] if known else files
        return {part: _read_documents(f) for part, f in zip(PARTS, read, strict=False)}
    documents = _read_documents(spec)
    if len(documents) < 3:
        raise TransectError(
            f"{spec}: {len(documents)} documents; train, validation and test need one each.",
            "One line of a .txt file is one document; or give TRAIN,VALIDATION,TEST.",
        )
    order = sorted(documents, key=lambda d: hashlib.sha256(d.encode("utf-8", "surrogatepass")).hexdigest())
    held = max(1, round(HELD * len(order)), min(8, len(order) // 4))  # some to look at, in a small corpus too
    return {"train": order[2 * held :], "validation": order[:held], "test": order[held : 2 * held]}


def _read_documents(spec: str) -> list[str]:
    """Documents of a spec: texts of one group (paragraphs of a speech) are one."""
    opened = open_texts(spec)
    if opened.groups is None:
        return list(opened.texts)
    joined: dict[str, list[str]] = {}
    for group, text in zip(opened.groups, opened.texts, strict=True):
        joined.setdefault(group, []).append(text)
    return ["\n\n".join(texts) for texts in joined.values()]
