"""What the page takes from Python and never spells itself: colours, marks, terms, labels of measures."""

import functools
from typing import Any

from transect.results.drawing import COLOURS, GREY, MARKS, NULLS
from transect.results.terms import terms


@functools.cache
def vocabulary() -> dict[str, Any]:
    """Colours of runs in order, what marks mean, names of nulls, terms, and measures as they declare
    themselves."""
    from transect.measures.registry import registry

    measures = {
        name: {
            "label": f"{m.label} ({m.unit})" if m.unit and m.unit not in ("share", "clusters") else m.label,
            "more": m.more,
            "source": m.source,
            "about": (m.__doc__ or "").split("\n\n")[0].replace("\n", " "),
        }
        for name, m in registry().items()
    }
    words = {"colours": list(COLOURS), "grey": GREY, "marks": MARKS, "nulls": NULLS}
    return words | {"terms": terms(), "measures": measures}
