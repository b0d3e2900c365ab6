"""Letters on figures: names are drawn as they are, in fonts that hold them, and never read as formulas.

matplotlib takes each letter from the first of the fonts that has it. A letter that no installed font has is
drawn as its code point, U+4E2D: install one of `FONTS` to see it.
"""

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.text import Text
from matplotlib.ticker import FixedFormatter, LogFormatterSciNotation

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

#: The first comes with matplotlib; the others are asked in this order where they are installed.
FONTS = (
    "DejaVu Sans",
    *(f"Noto Sans CJK {where}" for where in ("SC", "JP", "TC", "KR")),
    *("Source Han Sans", "WenQuanYi Zen Hei", "Hiragino Sans", "PingFang SC", "Apple SD Gothic Neo"),
    *("Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "Nirmala UI", "Arial Unicode MS", "Noto Sans"),
    *(f"Noto Sans {script}" for script in ("Arabic", "Hebrew", "Devanagari", "Bengali", "Tamil", "Thai")),
    *("Noto Emoji", "Segoe UI Symbol", "Noto Sans Symbols", "Noto Sans Symbols 2", "Symbola", "Unifont"),
)
SUPERSCRIPT = str.maketrans("-0123456789−", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


@lru_cache(maxsize=1)
def family() -> tuple[str, ...]:
    """Those of `FONTS` that are installed, in their order."""
    there = {font.name for font in fontManager.ttflist}
    return tuple(name for name in FONTS if name in there)


@lru_cache(maxsize=1)
def _letters() -> frozenset[int]:
    """Code points of all letters of those fonts."""
    fonts = (get_font(findfont(FontProperties(family=[name]))) for name in family())
    return frozenset(code for font in fonts for code in font.get_charmap())


def legible(text: str) -> str:
    """`text` with every letter that no font has as its code point; marks that draw nothing stay."""
    has = _letters()
    return "".join(c if ord(c) in has or not c.isprintable() else f"U+{ord(c):04X}" for c in text)


class LogLabels(LogFormatterSciNotation):
    """Powers in Unicode superscripts: a label needs no formula."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        label = super().__call__(x, pos)
        label = re.sub(r"\^\{([^}]*)\}", lambda m: m[1].translate(SUPERSCRIPT), label)
        return re.sub(r"\\mathdefault|\\times|[${}]", lambda m: "×" if "times" in m[0] else "", label)


def plain(canvas: "Canvas") -> "Canvas":
    """Make every text of a figure plain and legible. Call it after drawing, before layout."""
    for ax in canvas.axes:
        for axis in (ax.xaxis, ax.yaxis):
            for which in ("major", "minor"):
                formatter = getattr(axis, f"get_{which}_formatter")()
                if isinstance(formatter, FixedFormatter):
                    formatter.seq = [legible(str(label)) for label in formatter.seq]
                elif type(formatter) is LogFormatterSciNotation:
                    formatter.__class__ = LogLabels
    for text in canvas.findobj(Text):
        assert isinstance(text, Text)
        text.set_text(legible(text.get_text().removeprefix("\u200b")))
        text.set_parse_math(False)
    return canvas
