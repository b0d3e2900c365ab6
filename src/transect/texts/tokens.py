"""Texts to tokens: ids, character offsets, special-token mask, and landmarks as token indices found by offsets.

Nothing is padded here. A landmark that truncation cut is None, never the index of another token.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from transect.errors import TransectError

Span = tuple[int, int]


@dataclass
class Tokenized:
    """Per text: token ids, (start, end) characters of each token, whether it is special, the string tokenised.

    `landmarks[name][i]` is the LAST token that overlaps the landmark's span, `first_landmarks` the first; None where
    the text has no such landmark or truncation cut it. `truncated[i]`: text i was longer than max_length.
    """

    ids: list[list[int]]
    offsets: list[list[Span]]
    special: list[list[bool]]
    texts: list[str]
    landmarks: dict[str, list[int | None]] = field(default_factory=dict)
    first_landmarks: dict[str, list[int | None]] = field(default_factory=dict)
    truncated: list[bool] = field(default_factory=list)

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
) -> Tokenized:
    """Tokenise `texts`, or the conversations `messages` through the chat template (which brings its own BOS).

    max_length truncates; without it a text longer than the tokenizer's own limit raises. Each text must have at least
    two tokens of its own beside the special ones.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise TransectError("the tokenizer gives no character offsets.", "A fast tokenizer is needed.")
    if not texts:
        raise TransectError("no texts to tokenise.", "Give at least one.")
    ids = ids or [str(i) for i in range(len(texts))]
    landmarks = landmarks or {}
    if messages is not None:
        texts, landmarks = _rendered(texts, landmarks, messages, tokenizer, ids)
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
    made = _made(encoded, texts, _special_ids(tokenizer))
    _check(made, tokenizer, max_length, ids)
    for name, spans in landmarks.items():
        made.landmarks[name] = [_found(made, i, span, first=False) for i, span in enumerate(spans)]
        made.first_landmarks[name] = [_found(made, i, span, first=True) for i, span in enumerate(spans)]
    return made


def _made(encoded: Any, texts: list[str], specials: set[int]) -> Tokenized:
    tokens = [list(t) for t in encoded["input_ids"]]
    mask = [
        [bool(flag) or token in specials for flag, token in zip(flags, text, strict=True)]
        for flags, text in zip(encoded["special_tokens_mask"], tokens, strict=True)
    ]
    offsets = [[(int(a), int(b)) for a, b in spans] for spans in encoded["offset_mapping"]]
    return Tokenized(tokens, offsets, mask, texts, truncated=[bool(e.overflowing) for e in encoded.encodings])


def _found(made: Tokenized, i: int, span: Span | None, *, first: bool) -> int | None:
    last = landmark_token(made.offsets[i], span)
    if last is None or span is None:
        return None
    reached = max(end for _, end in made.offsets[i])
    if made.truncated[i] and reached < span[1]:
        return None  # the landmark's end was cut off
    return landmark_token(made.offsets[i], span, first=True) if first else last


def _special_ids(tokenizer: Any) -> set[int]:
    """Ids that are no text; the unknown token stands for text, unless it doubles as another."""
    marked = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    roles = ("bos", "eos", "pad", "cls", "sep", "mask")
    named = {getattr(tokenizer, f"{role}_token_id", None) for role in roles}
    return (marked | set(tokenizer.all_special_ids)) - ({tokenizer.unk_token_id} - named)


def _check(made: Tokenized, tokenizer: Any, max_length: int | None, ids: list[str]) -> None:
    bos, limit = tokenizer.bos_token_id, tokenizer.model_max_length
    for i, tokens in enumerate(made.ids):
        own = made.special[i].count(False)
        if own < 2:
            shown = made.texts[i][:40].encode("unicode_escape").decode()
            why = "after truncation" if made.truncated[i] else "nothing to compare"
            raise TransectError(
                f"text {ids[i]} ({shown!r}) has {own} token{'s' * (own != 1)} of its own: {why}.",
                "Raise max_length." if made.truncated[i] else "Leave out such short texts (min_chars).",
            )
        if bos is not None and tokens[:2] == [bos, bos]:
            raise TransectError(
                f"text {ids[i]} begins with {tokenizer.bos_token} twice: it holds one, the tokenizer adds another.",
                "Remove it from the text.",
            )
        if max_length is None and len(tokens) > limit:
            raise TransectError(
                f"text {ids[i]} has {len(tokens)} tokens, the model takes {limit}.",
                f"Give max_length={limit} to cut it.",
            )


def _rendered(
    texts: list[str],
    landmarks: dict[str, list[Span | None]],
    messages: list[list[dict[str, str]]],
    tokenizer: Any,
    ids: list[str],
) -> tuple[list[str], dict[str, list[Span | None]]]:
    """(conversations as strings, landmarks moved to where each text stands in its own)."""
    if not tokenizer.chat_template:
        raise TransectError("this model's tokenizer has no chat template.", "Open the texts without chat.")
    strings = [_one(conversation, tokenizer, ids[i]) for i, conversation in enumerate(messages)]
    moved: dict[str, list[Span | None]] = {name: [] for name in landmarks}
    for i, string in enumerate(strings if landmarks else []):
        at, cut = string.find(texts[i]), 0
        if at < 0:  # templates may strip a message
            bare = texts[i].strip()
            at, cut = string.find(bare), len(texts[i]) - len(texts[i].lstrip())
        if at < 0:
            raise TransectError(f"text {ids[i]} is not found in its chat rendering.", "Open the texts without chat.")
        for name, spans in landmarks.items():
            span = spans[i]
            moved[name].append(None if span is None else (span[0] + at - cut, span[1] + at - cut))
    return strings, moved


def _one(conversation: list[dict[str, str]], tokenizer: Any, where: str) -> str:
    from jinja2 import TemplateError

    try:
        return str(tokenizer.apply_chat_template(conversation, tokenize=False))
    except (TemplateError, ValueError) as error:
        raise TransectError(f"text {where} does not fit the chat template: {error}.") from error
