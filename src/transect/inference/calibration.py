"""How often intervals hold what they are to hold, as `make calibrate` found; and the mark of those that do
not."""

import functools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transect.results.table import WITHIN

#: What bench/calibrate.py keeps: for value and excess, by measure and number of texts, hits under each law.
KEPT = Path(__file__).with_suffix(".json")
#: Coverage that a 95 % interval is to have.
BAND = (0.92, 0.98)
#: Chance of a mark where the coverage is at the edge of the band.
CHANCE = 0.025


@functools.lru_cache(maxsize=1)
def kept() -> dict[str, Any]:
    """The calibration that this version ships with."""
    return json.loads(KEPT.read_text())


def outside(hits: Sequence[int], draws: int) -> tuple[float, int | None] | None:
    """(coverage, law) of what lies outside of BAND beyond chance: over all laws (None), or under the worst.

    Args:
        hits: Intervals that held the truth, under each law.
        draws: Intervals under each law.

    Returns: None where all lies within the band by exact binomial tests, Bonferroni over laws.
    """
    if _beyond(sum(hits), draws * len(hits)) <= CHANCE:
        return sum(hits) / (draws * len(hits)), None
    worst = min(range(len(hits)), key=lambda law: _beyond(hits[law], draws))
    if _beyond(hits[worst], draws) <= CHANCE / len(hits):
        return hits[worst] / draws, worst
    return None


#: Every row of a sweep asks for one of a few: two milliseconds each, unless they are kept.
_known = functools.lru_cache(maxsize=1024)(outside)


def _beyond(hits: int, draws: int) -> float:
    """Probability of so few hits at the lower edge of the band, or of so many at the upper."""
    from scipy.stats import binom

    return float(min(binom.cdf(hits, draws, BAND[0]), binom.sf(hits - 1, draws, BAND[1])))


def mark(measure: str, texts: int, what: str = "value", table: Mapping[str, Any] | None = None) -> str:
    """Words for an interval whose coverage is outside of its band or is not known; "" for one within it.

    Args:
        texts: Texts behind the interval. The largest calibrated number that is not larger counts.
        what: "value" or "excess".
        found: A calibration; that of this version without.
    """
    table = kept() if table is None else table
    grid = table["texts"]
    if texts < min(grid):
        return f"not calibrated below {min(grid)} texts"
    if measure not in table[what]:
        return "not calibrated"
    at = max(t for t in grid if t <= texts)
    odd = _known(tuple(table[what][measure][grid.index(at)]), table["draws"])
    if odd is None:
        return ""
    law = "" if odd[1] is None else f" of {table['laws'][odd[1]]} points"
    return f"covers {odd[0]:.0%}{law} at {at} texts"


def marks(row: Mapping[str, Any], measure: str) -> str | None:
    """The mark of a row of a sweep, of its value's interval and its excess's; None for a row without any."""
    sentences: list[str] = []
    for what, low in (("value", "low"), ("excess", "corrected_low")):
        if math.isfinite(row.get(low, math.nan)):
            said = mark(measure, row["n_texts"], what)
            sentences.append(f"{what} {said}" if said else "")
    return "; ".join(filter(None, sentences)) or WITHIN if sentences else None
