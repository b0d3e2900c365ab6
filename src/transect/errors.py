"""The one error a user sees: what was asked, the limit that was met, and which option to change.

Anything else that escapes is our bug and keeps its traceback.
"""

import re
from collections.abc import Iterable
from pathlib import Path

#: Characters that drive a terminal or turn the order of what it shows.
CONTROL = dict.fromkeys(
    (
        *(c for c in range(32) if c not in (9, 10)),
        *range(127, 160),
        0x200E,
        0x200F,
        *range(0x202A, 0x202F),
        *range(0x2066, 0x206A),
    )
)


def plain(text: str) -> str:
    """Text as a terminal may have it: file names, texts and manifests hold what others wrote."""
    return text.translate(CONTROL)


def nearest(name: str, known: Iterable[str], most: int = 3) -> str:
    """A sentence that suggests the known names most like `name`, dotted parts in any order; "" for none."""
    import difflib

    names, close = list(known), []
    parts = sorted(re.split(r"[._\s-]+", name.lower()))
    close += [n for n in names if sorted(re.split(r"[._\s-]+", n.lower())) == parts]
    close += difflib.get_close_matches(name, names, most, 0.7)
    shown = list(dict.fromkeys(close))[:most]
    return f" Did you mean {' or '.join(shown)}?" if shown else ""


def near_path(path: Path) -> str:
    """A sentence with the names beside a path that is not there which are most like its own; "" for none."""
    try:
        return nearest(path.name, (p.name for p in path.parent.iterdir()))
    except OSError:
        return ""


class TransectError(Exception):
    """The user's input cannot be honoured; `fix` says what to change. The command line prints both and exits
    with 2."""

    def __init__(self, message: str, fix: str = "") -> None:
        super().__init__(f"{message} {fix}".strip())
        self.message, self.fix = message, fix

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.message, self.fix)
