"""Every link between the project's own files leads somewhere, headings included: `python .ci/links.py`."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]+))?\)")


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as its readers make them."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    plain = (re.sub(r"[^\w\- ]", "", head.lower()).strip() for head in heads)
    return {re.sub(r"[ ]+", "-", head) for head in plain}


def broken() -> list[str]:
    """Links that lead nowhere, as FILE: TARGET."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "paper").glob("*.md")]
    found = []
    for page in pages:
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
        for target, anchor in LINK.findall(text):
            file = page.parent / target if target else page
            if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
                found.append(f"{page.relative_to(ROOT)}: {target}{'#' * bool(anchor)}{anchor}")
    return found


if __name__ == "__main__":
    lost = broken()
    print("\n".join(lost) or "links: all lead somewhere")
    sys.exit(bool(lost))
