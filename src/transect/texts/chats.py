"""Conversations as strings through a chat template, within bounds: a template is a stranger's program."""

import contextlib
import ctypes
import threading
from collections.abc import Iterator
from typing import Any

from transect.errors import TransectError

Span = tuple[int, int]
#: Characters that one conversation may become, and seconds for all: 30, and a hundredth for each.
MOST_CHARACTERS = 1 << 22
SECONDS, SECONDS_EACH = 30.0, 0.01


class _TooLong(BaseException):
    """The time for rendering is over; no template can catch it."""


def rendered(
    texts: list[str],
    landmarks: dict[str, list[Span | None]],
    messages: list[list[dict[str, str]]],
    tokenizer: Any,
    ids: list[str],
) -> tuple[list[str], dict[str, list[Span | None]]]:
    """(conversations as strings, landmarks moved to where each text stands in its own)."""
    if not tokenizer.chat_template:
        raise TransectError("this model's tokenizer has no chat template.", "Open the texts without chat.")
    strings, allowed = [], SECONDS + SECONDS_EACH * len(messages)
    try:
        with _deadline(allowed):
            for i, conversation in enumerate(messages):
                strings.append(_one(conversation, tokenizer, ids[i]))
    except _TooLong:
        raise TransectError(
            f"text {ids[len(strings)]}: the chat template does not end "
            f"({allowed:.0f} s for {len(messages)} texts).",
            "Use another template, or open the texts without chat.",
        ) from None
    moved: dict[str, list[Span | None]] = {name: [] for name in landmarks}
    for i, string in enumerate(strings if landmarks else []):
        at, cut = string.find(texts[i]), 0
        if at < 0:  # templates may strip a message
            bare = texts[i].strip()
            at, cut = string.find(bare), len(texts[i]) - len(texts[i].lstrip())
        if at < 0:
            raise TransectError(
                f"text {ids[i]} is not found in its chat rendering.", "Open the texts without chat."
            )
        for name, spans in landmarks.items():
            span = spans[i]
            moved[name].append(None if span is None else (span[0] + at - cut, span[1] + at - cut))
    return strings, moved


def _one(conversation: list[dict[str, str]], tokenizer: Any, where: str) -> str:
    from jinja2 import TemplateError

    try:
        string = str(tokenizer.apply_chat_template(conversation, tokenize=False))
    except (
        TemplateError,
        ValueError,
        TypeError,
        KeyError,
        ArithmeticError,
        RecursionError,
        MemoryError,
    ) as error:
        said = " ".join(str(error).split())[:4000]
        raise TransectError(f"text {where} does not fit the chat template: {said}.") from error
    if len(string) > MOST_CHARACTERS:
        raise TransectError(
            f"text {where}: the chat template makes {len(string):,} characters of it, "
            f"at most {MOST_CHARACTERS:,} are taken.",
            "Use another template, or open the texts without chat.",
        )
    return string


@contextlib.contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    """Raise _TooLong in this thread after so many seconds, unless the body has ended by then."""
    here, lock, over = threading.get_ident(), threading.Lock(), threading.Event()

    def end() -> None:
        with lock:
            if not over.is_set():
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(here), ctypes.py_object(_TooLong))

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        with lock:
            over.set()
        timer.cancel()
