"""Sentences made from templates, with labels and exact character spans: the texts of questions about known
features.

A template set is a small JSON object (`template:FILE`), and the built-in sets are written the same way:

    {"name": "birthdays",
     "templates": ["{name} was born in {month}. {name} had a party."], "slots": {"name": ["Anna", "Paul"],
               "date": [{"month": "May", "labels": {"month": 5}}, {"month": "June", "labels": {"month": 6}}]},
     "landmarks": {"party": "party"}, "repeats": false}

A slot is a list of choices. A choice is a string, the text of {slot}, or an object: each key but `labels` and
`weight` is the text of {key}, `labels` are numbers or strings. Every template uses every slot. A landmark is
made for each field (`name`; its later occurrences are `name.2`, `name.3`, …) and for each word named in
`landmarks`. Sentences are drawn without repetition, or independently with `repeats`, where `weight` of a
choice counts.
"""

import json
import random
import string
from pathlib import Path
from typing import Any, NamedTuple

from transect.errors import TransectError

Span = tuple[int, int]
DEFAULT_N = 1000


class Made(NamedTuple):
    """Generated sentences: texts, labels and landmarks, as in `Texts`; `total` different ones can be made."""

    name: str
    texts: list[str]
    labels: dict[str, list[Any]]
    landmarks: dict[str, list[Span | None]]
    total: int


def generate(made_from: dict[str, Any], n: int | None, seed: int) -> Made:
    """`n` sentences of a template set (1000, or all where there are fewer), the same ones for the same
    seed."""
    name, templates, slots = _checked(made_from)
    total = len(templates)
    for choices in slots.values():
        total *= len(choices)
    if made_from.get("repeats"):
        picks = _independent(templates, slots, DEFAULT_N if n is None else n, seed)
    else:
        picks = _distinct(templates, slots, min(DEFAULT_N, total) if n is None else n, total, seed, name)
    words = made_from.get("landmarks") or {}
    rendered = [_render(template, fields, words) for template, fields, _ in picks]
    names = sorted({key for _, spans in rendered for key in spans})
    labels: dict[str, list[Any]] = {
        key: [p[2].get(key) for p in picks] for key in sorted({k for p in picks for k in p[2]})
    }
    if len(templates) > 1:
        labels["template"] = [templates.index(p[0]) for p in picks]
    landmarks = {key: [spans.get(key) for _, spans in rendered] for key in names}
    return Made(name, [text for text, _ in rendered], labels, landmarks, total)


def read_template(file: Path) -> dict[str, Any]:
    """The template set in a JSON file."""
    try:
        value = json.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise TransectError(f"template file {file} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise TransectError(f"template file {file} is not JSON in UTF-8: {error}.") from error
    if not isinstance(value, dict):
        raise TransectError(
            f"template file {file} must hold one object.", "See `transect.texts.templates` for the format."
        )
    return {"name": file.stem, **value}


def _checked(made_from: dict[str, Any]) -> tuple[str, list[str], dict[str, list[dict[str, Any]]]]:
    """(name, templates, slots with every choice as an object); what is wrong with the set otherwise."""
    name = str(made_from.get("name", "template"))
    templates, slots = made_from.get("templates"), made_from.get("slots")
    if not isinstance(templates, list) or not templates or not all(isinstance(t, str) for t in templates):
        raise TransectError(f"{name}: `templates` must be a list of strings.")
    if not isinstance(slots, dict) or not slots or not all(isinstance(c, list) and c for c in slots.values()):
        raise TransectError(f"{name}: `slots` must name lists of choices, none empty.")
    words = made_from.get("landmarks") or {}
    if not isinstance(words, dict) or not all(isinstance(w, str) and w for w in words.values()):
        raise TransectError(f'{name}: `landmarks` must name words, as in {{"party": "party"}}.')
    full = {slot: [_choice(name, slot, choice) for choice in choices] for slot, choices in slots.items()}
    for slot, choices in full.items():
        if any(choice["fields"].keys() != choices[0]["fields"].keys() for choice in choices):
            raise TransectError(
                f"{name}: the choices of {slot!r} give different fields.", "Give each the same keys."
            )
    if made_from.get("repeats") and any(
        not sum(c["weight"] for c in choices) > 0 for choices in full.values()
    ):
        raise TransectError(f"{name}: the weights of a slot are all 0.", "Give one choice a weight above 0.")
    if any("\ud800" <= c <= "\udfff" for c in json.dumps([templates, slots, name], ensure_ascii=False)):
        raise TransectError(f"{name}: holds half a character (a lone surrogate).", "Repair the file.")
    for template in templates:
        used = {field for _, field, _, _ in _parsed(name, template) if field is not None}
        known = {key for choices in full.values() for key in choices[0]["fields"]}
        if unknown := used - known:
            raise TransectError(
                f"{name}: no slot gives {{{sorted(unknown)[0]}}}.", f"There are: {', '.join(sorted(known))}."
            )
        for slot, choices in full.items():
            if not used & set(choices[0]["fields"]):
                raise TransectError(
                    f"{name}: a template does not use the slot {slot!r}.", "Every template uses every slot."
                )
    return name, templates, full


def _choice(name: str, slot: str, choice: Any) -> dict[str, Any]:
    choice = {slot: choice} if isinstance(choice, str) else choice
    if not isinstance(choice, dict):
        raise TransectError(f"{name}: choice {choice!r:.80} of {slot!r} is neither a string nor an object.")
    fields = {key: value for key, value in choice.items() if key not in ("labels", "weight")}
    if not fields or not all(isinstance(value, str) and value for value in fields.values()):
        raise TransectError(
            f"{name}: a choice of {slot!r} has no text, or one that is no string: {choice!r:.80}."
        )
    labels, weight = choice.get("labels", {}), choice.get("weight", 1.0)
    plain = (str, int, float, type(None))
    if not isinstance(labels, dict) or not all(isinstance(v, plain) for v in labels.values()):
        raise TransectError(
            f"{name}: the labels of a choice of {slot!r} are no numbers or strings: {labels!r:.80}."
        )
    if not isinstance(weight, int | float) or not 0 <= weight < 1e300:
        raise TransectError(
            f"{name}: the weight of a choice of {slot!r} is {weight!r:.80}.", "Give a number, 0 or more."
        )
    return {"fields": fields, "labels": dict(labels), "weight": float(weight)}


def _parsed(name: str, template: str) -> list[tuple[str, str | None, str | None, str | None]]:
    try:
        return list(string.Formatter().parse(template))
    except ValueError as error:
        raise TransectError(
            f"{name}: template {template!r}: {error}.", "Write {{ and }} for braces."
        ) from error


Pick = tuple[str, dict[str, str], dict[str, Any]]


def _pick(template: str, picks: list[dict[str, Any]]) -> Pick:
    fields = {key: text for choice in picks for key, text in choice["fields"].items()}
    return template, fields, {key: value for choice in picks for key, value in choice["labels"].items()}


def _independent(
    templates: list[str], slots: dict[str, list[dict[str, Any]]], n: int, seed: int
) -> list[Pick]:
    draw = random.Random(seed)
    picks = []
    for _ in range(n):
        template = draw.choice(templates)
        picks.append(_pick(template, [draw.choices(c, [x["weight"] for x in c])[0] for c in slots.values()]))
    return picks


def _distinct(
    templates: list[str], slots: dict[str, list[dict[str, Any]]], n: int, total: int, seed: int, name: str
) -> list[Pick]:
    if n > total:
        raise TransectError(
            f"{name}: {n} sentences asked, {total} different ones can be made.", f"Ask for {total}."
        )
    picks = []
    for number in random.Random(seed).sample(range(total), n):
        number, which = divmod(number, len(templates))
        values = []
        for choices in slots.values():
            number, k = divmod(number, len(choices))
            values.append(choices[k])
        picks.append(_pick(templates[which], values))
    return picks


def _render(template: str, fields: dict[str, str], words: dict[str, str]) -> tuple[str, dict[str, Span]]:
    """The sentence and its spans: of every field, and of the first place of each word in the template's own
    text."""
    text, spans, literal = "", {}, []
    for before, field, _, _ in string.Formatter().parse(template):
        literal.append((len(text), before))
        text += before
        if field is not None:
            times = 1 + sum(key == field or key.startswith(f"{field}.") for key in spans)
            spans[field if times == 1 else f"{field}.{times}"] = (len(text), len(text) + len(fields[field]))
            text += fields[field]
    for key, word in words.items():
        at = next((start + piece.index(word) for start, piece in literal if word in piece), None)
        if at is not None:
            spans[key] = (at, at + len(word))
    return text, spans
