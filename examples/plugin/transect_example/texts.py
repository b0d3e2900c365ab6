"""A text source: rows with a text and a label."""

from transect.texts.readers import Rows

PROVERBS = {
    "time": ["Time and tide wait for no man.", "Better late than never.", "A stitch in time saves nine."],
    "work": ["Many hands make light work.", "Rome was not built in a day.", "Practice makes perfect."],
}


def proverbs(config: str | None = None) -> Rows:
    """Six proverbs; label theme."""
    pairs = [(text, theme) for theme, texts in PROVERBS.items() for text in texts]
    return Rows({"text": [t for t, _ in pairs], "theme": [k for _, k in pairs]}, labels=("theme",))
