"""Which checkpoints of a run evolution looks at: chosen afterwards, as far as they were kept."""

from collections.abc import Sequence

from transect.errors import TransectError


def chosen_steps(asked: str | None, kept: Sequence[int]) -> list[int]:
    """The steps asked for, in order, among those `kept`.

    Args:
        asked: Steps like 0,64,200; log (powers of two, with the first and the last); or how many, spread
            evenly over those kept. None takes all.
        kept: Steps of the checkpoints that are there.

    Raises: TransectError for a step that was not kept, with those that were.
    """
    there = sorted(set(kept))
    if asked is None:
        return there
    words = str(asked).strip()
    if words == "log":
        return [s for s in there if s in (there[0], there[-1]) or (s > 0 and s & (s - 1) == 0)]
    parts = [p.strip() for p in words.split(",")]
    if not all(p.isdecimal() for p in parts):
        raise TransectError(f"steps {words!r}.", "Write steps like 0,64,200, log, or how many.")
    if len(parts) == 1:
        count = min(max(int(parts[0]), 2), len(there))
        places = [round(k * (len(there) - 1) / max(1, count - 1)) for k in range(count)]
        return [there[k] for k in dict.fromkeys(places)]
    if missing := [p for p in parts if int(p) not in there]:
        raise TransectError(
            f"no checkpoint at step {missing[0]}.", f"Kept: {', '.join(map(str, there))}. Choose among them."
        )
    return sorted({int(p) for p in parts})
