"""Words that every study uses: a number with its interval, a share, what is flagged. Sentences are built from
rows."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from transect.results.table import Table


def interval(row: Mapping[str, Any], name: str = "value", digits: int = 4) -> str:
    """A row's number with its interval: 0.96 [0.93, 1.00]; the number alone where there is none."""
    ends = ("low", "high") if name == "value" else (f"{name}_low", f"{name}_high")
    value, low, high = (row.get(k) for k in (name, *ends))
    if value is None:
        return "not computed"
    if low is None or high is None or not math.isfinite(low) or not math.isfinite(high):
        return f"{value:.{digits}g}"
    return f"{value:.{digits}g} [{low:.{digits}g}, {high:.{digits}g}]"


def share(value: float | None) -> str:
    """A share in per cent, or a dash."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.0%}"


def other_texts(stores: Sequence[Any]) -> list[str]:
    """A warning for runs that stand side by side and hold other texts."""
    first, *rest = [s.manifest for s in stores]
    odd = [m for m in rest if m["texts"]["fingerprint"] != first["texts"]["fingerprint"]]
    return [
        f"{m['model']['name']} holds other texts ({m['texts']['spec']}) than {first['model']['name']} "
        f"({first['texts']['spec']}): a difference between them may be one of texts."
        for m in odd
    ]


def flagged(
    tables: Mapping[str, Table], good: Sequence[str] = ("ok",), skip: Sequence[str] = ()
) -> list[str]:
    """A warning for every table that has rows without a value: how many, and the first with its reason."""
    sentences = []
    for name, table in tables.items():
        bad = (
            [r for r in table if r["status"] is not None and r["status"] not in good]
            if name not in skip
            else []
        )
        if bad:
            first = bad[0]
            where = " ".join(str(first[k]) for k in ("run", "measure", "site") if first.get(k))
            sentences.append(
                f"{name}: {len(bad)} of {len(table)} rows are flagged; first: {where}: {first['status']}"
            )
    return sentences
