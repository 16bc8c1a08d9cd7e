"""Text in pictures: in the DejaVu Sans that matplotlib ships, and for what that lacks in fonts of
the system. Only such text can look different on another machine.
"""

import re
import sys
import unicodedata
import warnings
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from matplotlib.ft2font import FT2Font

RIGHT_TO_LEFT = ("R", "AL", "AN")  # Unicode's classes of direction


def measure(text: str, size: int) -> float:
    """Returns the width of a line of text in pixels; `size` is the font's, in pixels."""
    if _is_plain(text):
        return _pillow_font(size).getlength(text)
    return _shape(text, size).get_width_height()[0] / 64


def write(
    pen: ImageDraw.ImageDraw, at: tuple[float, float], text: str, size: int, ink: str, anchor: str
) -> None:
    """Draws a line of text; `anchor` says what of it is `at`: "ls", "lm" or "ma", as in Pillow."""
    font = _pillow_font(size)
    if _is_plain(text):
        pen.text(at, text, fill=ink, font=font, anchor=anchor)
        return
    shaped = _shape(text, size)
    shaped.draw_glyphs_to_bitmap()
    mask = Image.fromarray(shaped.get_image())
    above, below = font.getmetrics()
    left = at[0] - (mask.width / 2 if anchor[0] == "m" else 0)
    baseline = at[1] + {"s": 0, "m": (above - below) / 2, "a": above}[anchor[1]]
    top = baseline + shaped.get_descent() / 64 - mask.height
    pen.bitmap((round(left), round(top)), mask, fill=ink)


def families(text: str) -> list[str]:
    """Returns what matplotlib needs to set a text: DejaVu Sans, and the system's fonts it takes."""
    return [_open(path).family_name for path in (_dejavu(), *_find_fonts(_lacking(text)))]


def _is_plain(text: str) -> bool:
    """Returns whether DejaVu Sans has all of a text, and letters follow one another to the right.

    Pillow then draws it with no library that not every machine has; otherwise matplotlib does,
    whose own raqm knows directions, joined letters and several fonts.
    """
    turns = any(unicodedata.bidirectional(letter) in RIGHT_TO_LEFT for letter in text)
    return not turns and not _lacking(text)


def _lacking(text: str) -> frozenset[str]:
    """Returns the visible characters that DejaVu Sans has not."""
    unknown = {letter for letter in text if not _open(_dejavu()).get_char_index(ord(letter))}
    return frozenset(c for c in unknown if not re.match("Z|Cc|Cf", unicodedata.category(c)))


@cache
def _find_fonts(lacking: frozenset[str]) -> list[str]:
    """Returns few font files of the system that draw these characters, known to matplotlib now."""
    if not lacking:
        return []
    from matplotlib.font_manager import fontManager

    chosen, left = [], set(lacking)
    drawn = {path: {c for c in left if _draws(path, c)} for path in _system_fonts()}
    for path in sorted(drawn, key=lambda path: len(drawn[path]), reverse=True):
        if drawn[path] & left:
            fontManager.addfont(path)
            chosen.append(path)
            left -= drawn[path]
    if left:
        _say_what_to_install()
    return chosen


def _draws(path: str, letter: str) -> bool:
    """Returns whether a font has an outline; of emoji some have only layers of colours."""
    font = _open(path)
    return bool(font.get_char_index(ord(letter)) and font.load_char(ord(letter)).width)


@cache
def _say_what_to_install() -> None:
    print(
        "warning: no font on this machine has some of the characters to draw, so boxes stand for "
        "them; on Debian and Ubuntu `apt install fonts-noto-core fonts-noto-cjk fonts-symbola` "
        "mends that, elsewhere the Noto fonts of https://fonts.google.com/noto",
        file=sys.stderr,
    )


@cache
def _system_fonts() -> list[str]:
    """Returns the files of the system's fonts of outlines, upright sans-serifs first."""
    from matplotlib.font_manager import findSystemFonts  # not its cache: fonts come and go

    found = {}
    for path in findSystemFonts():
        with suppress(OSError, RuntimeError):  # damaged, or of a kind that matplotlib cannot read
            font = _open(path)
            # macOS hides fonts with a dot, such as that of last resort, which has only boxes.
            if font.scalable and not font.family_name.startswith("."):
                found[path] = (font.style_name != "Regular", "Sans" not in font.family_name, path)
    return sorted(found, key=found.__getitem__)


def _shape(text: str, size: int) -> "FT2Font":
    from matplotlib.font_manager import get_font

    font = get_font([_dejavu(), *_find_fonts(_lacking(text))])
    font.set_size(size, 72)  # dots per inch: points are pixels
    with warnings.catch_warnings(action="ignore"):  # one for each box; `_find_fonts` says it once
        font.set_text(text)
    return font


@cache
def _open(path: str) -> "FT2Font":
    from matplotlib.ft2font import FT2Font

    return FT2Font(path)


@cache
def _pillow_font(size: int) -> ImageFont.FreeTypeFont:
    # The other layout depends on a library that not every machine has.
    return ImageFont.truetype(_dejavu(), size, layout_engine=ImageFont.Layout.BASIC)


@cache
def _dejavu() -> str:
    import matplotlib

    return str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"))
