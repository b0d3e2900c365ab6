"""From a form to a command: what the page may start, with which options, at what cost.

Forms come from the command line itself (`python -m transect.cli.forms`), and the command is what a reader
could type. Folders lie inside the app's own; nothing is overwritten and nothing is fetched.
"""

import functools
import json
import re
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from transect.errors import TransectError
from transect.page.estimates import capture_cost, listed_as_typed, study_cost
from transect.page.tasks import Tasks, shell

#: The command line is asked by one request at a time.
ASKING = threading.Lock()
#: Texts that need no hub.
TEXTS = ("gsm-test:60", "brown:300", "sotu:50", "reviews:300", "birthdays:200")


def forms() -> dict[str, dict[str, Any]]:
    """Form of every command that the page may start, by name; asked for once, however many pages ask."""
    with ASKING:
        return _forms()


@functools.cache
def _forms() -> dict[str, dict[str, Any]]:
    forms = subprocess.run(
        [sys.executable, "-m", "transect.cli.forms"], capture_output=True, text=True, check=False, timeout=120
    )
    if forms.returncode:
        raise TransectError("the forms of commands cannot be read.", forms.stderr.strip()[-300:])
    return {form["name"]: form for form in json.loads(forms.stdout)}


def arguments(form: Mapping[str, Any], values: Mapping[str, Any], out: str) -> list[str]:
    """A command's words and options from the values of a form; what equals its default is left out.

    Raises: TransectError for a field that the form lacks, and for a value out of its range.
    """
    fields = {f["name"]: f for f in form["fields"]}
    if unknown := sorted(set(values) - set(fields)):
        raise TransectError(f"{form['name']} has no option {', '.join(unknown)}.")
    options, places = [f"--out={inside(out)}"], []
    for name, f in fields.items():
        several = listed_as_typed(values.get(name))
        if f["flag"] and several and several != [str(f["default"])]:
            options += _option(f, several)
        elif not f["flag"]:
            if not several:
                raise TransectError(f"{form['name']} needs {name}.", "Choose it in the form.")
            if not f["several"] and len(several) > 1:
                raise TransectError(f"{form['name']} takes one {name}.", "Choose one.")
            if "-" in several:
                raise TransectError("the page has no stdin to read texts from.", "Name a file.")
            places += several
    return [*form["words"], *options, "--", *places]


def _option(f: Mapping[str, Any], values: list[str]) -> list[str]:
    if f["shape"] == "flag":
        on = values[0].lower() == "true"
        return [f["flag"]] if on else [f["off"]] if f["off"] else []
    if f["shape"] == "choice" and values[0] not in f["choices"]:
        raise TransectError(f"{f['name']}={values[0]!r:.80}.", f"Choose one of {', '.join(f['choices'])}.")
    if f["shape"] in ("whole", "number"):
        _in_range(f, values[0])
    return [f"{f['flag']}={v}" for v in (values if f["several"] else values[:1])]


def _in_range(f: Mapping[str, Any], text: str) -> None:
    try:
        number = float(text)
        if f["shape"] == "whole":
            int(text)
    except ValueError as error:
        raise TransectError(f"{f['name']}={text!r:.80} is no number.", "Write digits.") from error
    low, high = f["least"], f["most"]
    if not (low is None or number >= low) or not (high is None or number <= high):
        raise TransectError(
            f"{f['name']}={text}.", f"Give {'…'.join(str(e) for e in (low, high) if e is not None)}."
        )


def inside(out: str) -> str:
    """A folder of the app's own folder, as it was named. Raises: TransectError for any other."""
    path = PurePosixPath(out)
    parts = path.parts
    if (
        not parts
        or path.is_absolute()
        or "\\" in out
        or ":" in out
        or any(p.startswith((".", "-")) for p in parts)
    ):
        raise TransectError(f"{out!r:.80} is no folder inside of this one.", "Write a name like runs/drift.")
    return out


def plan(wanted: Mapping[str, Any], catalog: Mapping[str, Any], tasks: Tasks) -> list[dict[str, Any]]:
    """The commands that a request asks for, in order: a capture where new points are needed, then the study.

    Returns: name, arguments, out, command, seconds, bytes and why of each.
    """
    known, steps = forms(), []
    name, values = str(wanted.get("form", "")), dict(_object(wanted.get("values")))
    if name not in known:
        raise TransectError(f"no command {name!r:.80}.", f"There are: {', '.join(known)}.")
    first = _object(wanted.get("capture"))
    if first and name != "capture":
        out = str(first.pop("out", "") or folder_name(first))
        command = arguments(known["capture"], first, out)
        cost = capture_cost(first, catalog)
        steps.append({"name": "capture", "arguments": command, "out": out} | cost)
        place = next(f["name"] for f in known[name]["fields"] if not f["flag"])
        values[place] = [*listed_as_typed(values.get(place)), out]
    places = [
        v for f in known[name]["fields"] if not f["flag"] for v in listed_as_typed(values.get(f["name"]))
    ]
    usual = folder_name(values) if name == "capture" else f"{slug(places)}-{name}"
    out = str(wanted.get("out", "") or usual)
    command = arguments(known[name], values, out)
    before = steps[0].pop("made", None) if steps else None
    cost = (
        capture_cost(values, catalog)
        if name == "capture"
        else study_cost(name, places, catalog, before, values)
    )
    cost.pop("made", None)
    steps.append({"name": name, "arguments": command, "out": out} | cost)
    for step in steps:
        took = tasks.took(known[step["name"]]["words"]) if step["seconds"] is None else None
        step |= {"seconds": took, "why": "the last one here took so long"} if took else {}
    return [step | {"command": shell(step["arguments"])} for step in steps]


def start(wanted: Mapping[str, Any], catalog: Mapping[str, Any], tasks: Tasks) -> list[str]:
    """Puts the commands of a request in line; ids of their tasks."""
    problems: list[str] = []
    for step in plan(wanted, catalog, tasks):
        title = f"{step['name']} → {step['out']}"
        after = problems[-1] if problems else ""
        task = tasks.submit(title, step["arguments"], step["out"], after=after, seconds=step["seconds"])
        problems.append(task.id)
    return problems


def _object(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise TransectError("a form's values are an object.")
    return value


def folder_name(values: Mapping[str, Any]) -> str:
    """A folder for a capture: stores/MODEL-TEXTS."""
    named = [v[0] for k in ("model", "texts") if (v := listed_as_typed(values.get(k)))]
    return f"stores/{slug(['-'.join(Path(n).name for n in named)])}"


def slug(places: Sequence[str]) -> str:
    """The first of some places as the beginning of a folder's name."""
    words = re.sub(r"[^\w./-]+", "-", places[0] if places else "work")
    return "/".join(p.strip("-.") for p in words.split("/") if p.strip("-.")) or "work"


def offered(catalog: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """What the form offers: commands, models and texts that are known here, and the folder."""
    seen = [*catalog["stores"], *(r for s in catalog["studies"] for r in s["runs"])]
    texts = [r["texts"] for r in seen if r["texts"]]
    models = [*(m["spec"] for m in catalog["models"]), "smollm2", "random:smollm2"]
    return {
        "forms": list(forms().values()),
        "models": list(dict.fromkeys(models)),
        "texts": list(dict.fromkeys([*texts, *TEXTS])),
        "folder": str(root),
    }
