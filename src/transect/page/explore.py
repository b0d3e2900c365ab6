"""The interactive part of a report: the page's own bundle with its data inside, for a file that opens
offline.

The script is named by its hash in the Content-Security-Policy; data is JSON that no markup can end. What did
not fit into the budget is said, in the file and on the page.
"""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

from transect.errors import TransectError
from transect.page.payload import inlined
from transect.results.study import Study

#: Where the built page lies: the server's own files.
PAGE = Path(__file__).parent / "built"
#: Bytes of data that go into one report beside its figures.
BUDGET = 8 << 20


def bundle() -> tuple[str, str]:
    """(script, style sheet) of the built page."""
    try:
        return (PAGE / "page.js").read_text(encoding="utf-8"), (PAGE / "page.css").read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise TransectError(
            "the interactive page was not built.",
            "Run: make page (Node 20 or newer), or write the report with --static.",
        ) from error


def explore(studies: list[Study], budget: int = BUDGET) -> dict[str, Any]:
    """Parts for the report's template: script, its hash, style, data, and what was left out."""
    script, style = bundle()
    script = script.replace("</script", "<\\/script").replace("<!--", "<\\!--")
    data, left = inlined(studies, budget)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return {"script": script, "hash": digest, "style": style, "data": safe_json(data), "left": left}


def safe_json(value: Any) -> str:
    """JSON that stays inside its script element whatever texts it holds."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
