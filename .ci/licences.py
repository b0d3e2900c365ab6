"""Licences of everything that is installed with Transect: `python .ci/licences.py [--write]`.

Compares docs/licences.md with the installed packages that transect needs at run time, with its extras
but `dev`. Exit 1 where the list is out of date or a licence is none of ALLOWED.
"""

import re
import sys
from importlib.metadata import PackageNotFoundError, distribution, metadata
from pathlib import Path

from packaging.requirements import Requirement

LIST = Path(__file__).parents[1] / "docs" / "licences.md"
#: Licences that let the package be used and passed on without conditions on the code of others.
ALLOWED = re.compile(
    r"MIT|BSD|Apache|ISC|PSF|Python Software Foundation|MPL|Mozilla|Unlicense|HPND|CC0|zlib|CNRI|NCSA|BSL"
)
#: What the metadata of a package leaves out, from its own licence file.
STATED = {"antlr4-python3-runtime": "BSD-3-Clause", "triton": "MIT"}


def licence(name: str) -> str:
    """Licence expression, classifiers, or first line of the licence field."""
    about = metadata(name)
    if name in STATED:
        return STATED[name]
    if about.get("License-Expression"):
        return about["License-Expression"]
    said = [c.rsplit(" :: ", 1)[1] for c in about.get_all("Classifier") or [] if c.startswith("License")]
    said = [s for s in said if s != "OSI Approved"]
    first = (about.get("License") or "").strip().split("\n")[0]
    return " / ".join(said) or first or "unknown"


def closure() -> dict[str, str]:
    """Name → licence of what transect needs, extras but `dev` included; only what is installed."""
    extras = [e for e in distribution("transect").metadata.get_all("Provides-Extra") or [] if e != "dev"]
    todo = [("transect", e) for e in ("", *extras)]
    done: set[tuple[str, str]] = set()
    while todo:
        name, extra = todo.pop()
        if (name, extra) in done:
            continue
        done.add((name, extra))
        for line in distribution(name).requires or []:
            need = Requirement(line)
            if need.marker and not need.marker.evaluate({"extra": extra}):
                continue
            key = re.sub(r"[-_.]+", "-", need.name).lower()
            try:
                distribution(key)
            except PackageNotFoundError:
                continue
            todo += [(key, e) for e in ("", *need.extras)]
    names = sorted({name for name, _ in done} - {"transect"})
    # what an accelerator's build of torch brings is the vendor's, on its terms, and not part of this list
    return {name: licence(name) for name in names if not name.startswith(("nvidia-", "cuda-"))}


def main() -> None:
    """Write the list, or compare it."""
    found = closure()
    rows = [f"| {name} | {said} |" for name, said in found.items()]
    text = "# Licences\n\nTransect is under Apache-2.0. It needs, with its extras:\n\n"
    text += "| package | licence |\n|---|---|\n" + "\n".join(rows) + "\n"
    if bad := [f"{name}: {said}" for name, said in found.items() if not ALLOWED.search(said)]:
        sys.exit("not an allowed licence:\n" + "\n".join(bad))
    if "--write" in sys.argv:
        LIST.write_text(text)
    elif not LIST.exists() or LIST.read_text() != text:
        sys.exit(f"{LIST.name} is out of date: run python .ci/licences.py --write")


if __name__ == "__main__":
    main()
