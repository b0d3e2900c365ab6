"""Texts to tokens: ids, character offsets, special-token mask, and landmarks as token indices.

Nothing is padded here. A landmark that truncation cut is None, never the index of another token.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from transect.errors import TransectError
from transect.texts.chats import rendered
from transect.texts.columns import MOST_LEFT_OUT

Span = tuple[int, int]


@dataclass
class Tokenized:
    """Per text: token ids, (start, end) characters of each token, whether it is special, the string.

    `landmarks[name][i]` is the LAST token that overlaps the landmark's span, `first_landmarks` the first;
    None where the text has no such landmark or truncation cut it. `truncated[i]`: text i was longer than
    max_length. `kept` are the numbers of the given texts that these are; `notes` say which were left out.
    `pieces`: the tokens as strings, where they are not what stands at their offsets.
    """

    ids: list[list[int]]
    offsets: list[list[Span]]
    special: list[list[bool]]
    texts: list[str]
    landmarks: dict[str, list[int | None]] = field(default_factory=dict)
    first_landmarks: dict[str, list[int | None]] = field(default_factory=dict)
    truncated: list[bool] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    pieces: list[list[str]] | None = None

    def __len__(self) -> int:
        return len(self.ids)


def landmark_token(offsets: Sequence[Span], span: Span | None, *, first: bool = False) -> int | None:
    """Index of the last (or first) token that overlaps the characters span[0]:span[1]; None where none does.

    >>> landmark_token([(0, 4), (4, 6), (6, 9), (9, 10)], (5, 9))
    2
    """
    if span is None:
        return None
    hits = (i for i, (start, end) in enumerate(offsets) if start < span[1] and end > span[0])
    return min(hits, default=None) if first else max(hits, default=None)


def tokenize(
    texts: list[str],
    tokenizer: Any,
    max_length: int | None = None,
    *,
    landmarks: dict[str, list[Span | None]] | None = None,
    messages: list[list[dict[str, str]]] | None = None,
    ids: list[str] | None = None,
    strict: bool = False,
) -> Tokenized:
    """Tokenise `texts`, or the conversations `messages` through the chat template (which brings its own BOS).

    Args:
        max_length: truncates; without it a text longer than the tokenizer's own limit raises. strict: refuse
        a text of fewer than two tokens of its own beside the special ones. Without it such texts are
            left out while they are at most one in twenty.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise TransectError("the tokenizer gives no character offsets.", "A fast tokenizer is needed.")
    if not texts:
        raise TransectError("no texts to tokenise.", "Give at least one.")
    if max_length is not None and not 2 <= max_length < 1 << 31:
        raise TransectError(f"max_length={max_length} leaves no two tokens of a text.", "Give 2 or more.")
    ids = ids or [str(i) for i in range(len(texts))]
    landmarks = landmarks or {}
    if messages is not None:
        texts, landmarks = rendered(texts, landmarks, messages, tokenizer, ids)
    encoded = tokenizer(
        texts,
        add_special_tokens=messages is None,
        truncation=max_length is not None,
        max_length=max_length,
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
        padding=False,
        verbose=False,
    )
    tokenized = _tokenized(encoded, texts, _special_ids(tokenizer))
    short = _short(tokenized, ids, strict)
    _check(tokenized, tokenizer, max_length, ids)
    for name, spans in landmarks.items():
        tokenized.landmarks[name] = [
            _landmark(tokenized, i, span, first=False) for i, span in enumerate(spans)
        ]
        tokenized.first_landmarks[name] = [
            _landmark(tokenized, i, span, first=True) for i, span in enumerate(spans)
        ]
    return _without(tokenized, short, ids)


def _tokenized(encoded: Any, texts: list[str], specials: set[int]) -> Tokenized:
    tokens = [list(t) for t in encoded["input_ids"]]
    mask = [
        [bool(flag) or token in specials for flag, token in zip(flags, text, strict=True)]
        for flags, text in zip(encoded["special_tokens_mask"], tokens, strict=True)
    ]
    offsets = [[(int(a), int(b)) for a, b in spans] for spans in encoded["offset_mapping"]]
    return Tokenized(tokens, offsets, mask, texts, truncated=[bool(e.overflowing) for e in encoded.encodings])


def _landmark(tokenized: Tokenized, i: int, span: Span | None, *, first: bool) -> int | None:
    last = landmark_token(tokenized.offsets[i], span)
    if last is None or span is None:
        return None
    reached = max(end for _, end in tokenized.offsets[i])
    if tokenized.truncated[i] and reached < span[1]:
        return None  # the landmark's end was cut off
    return landmark_token(tokenized.offsets[i], span, first=True) if first else last


def _special_ids(tokenizer: Any) -> set[int]:
    """Ids that are no text; the unknown token stands for text, unless it doubles as another."""
    marked = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    roles = ("bos", "eos", "pad", "cls", "sep", "mask")
    named = {getattr(tokenizer, f"{role}_token_id", None) for role in roles}
    return (marked | set(tokenizer.all_special_ids)) - ({tokenizer.unk_token_id} - named)


def _short(tokenized: Tokenized, ids: list[str], strict: bool) -> set[int]:
    """Texts of fewer than two tokens of their own; TransectError where there are too many of them."""
    lengths = [special.count(False) for special in tokenized.special]
    short = [i for i, count in enumerate(lengths) if count < 2]
    if len(short) > (0 if strict else len(lengths) * MOST_LEFT_OUT):
        i, cut = short[0], tokenized.truncated[short[0]]
        shown = tokenized.texts[i][:40].encode("unicode_escape").decode()
        others = f" ({len(short)} such texts of {len(lengths)})" if len(short) > 1 else ""
        raise TransectError(
            f"text {ids[i]} ({shown!r}) has {lengths[i]} token{'s' * (lengths[i] != 1)} of its own: "
            f"{'after truncation' if cut else 'nothing to compare'}{others}.",
            "Raise max_length." if cut else "Leave out such short texts (min_chars).",
        )
    return set(short)


def _without(tokenized: Tokenized, short: set[int], ids: list[str]) -> Tokenized:
    """The tokens without those of the texts `short`, which the notes list (twenty of them)."""
    tokenized.kept = [i for i in range(len(tokenized)) if i not in short]
    if not short:
        return tokenized

    def take(column: list[Any]) -> list[Any]:
        return [column[i] for i in tokenized.kept]

    listed = ", ".join(ids[i] for i in sorted(short)[:20]) + (", …" if len(short) > 20 else "")
    return Tokenized(
        take(tokenized.ids),
        take(tokenized.offsets),
        take(tokenized.special),
        take(tokenized.texts),
        {name: take(values) for name, values in tokenized.landmarks.items()},
        {name: take(values) for name, values in tokenized.first_landmarks.items()},
        take(tokenized.truncated),
        tokenized.kept,
        [f"{len(short)} texts of fewer than two tokens left out: {listed}"],
    )


def _check(tokenized: Tokenized, tokenizer: Any, max_length: int | None, ids: list[str]) -> None:
    bos, limit = tokenizer.bos_token_id, tokenizer.model_max_length
    for i, tokens in enumerate(tokenized.ids):
        if bos is not None and tokens[:2] == [bos, bos]:
            raise TransectError(
                f"text {ids[i]} begins with {tokenizer.bos_token} twice: "
                "it holds one, the tokenizer adds another.",
                "Remove it from the text.",
            )
        if max_length is None and len(tokens) > limit:
            raise TransectError(
                f"text {ids[i]} has {len(tokens)} tokens, the model takes {limit}.",
                f"Give max_length={limit} to cut it.",
            )
