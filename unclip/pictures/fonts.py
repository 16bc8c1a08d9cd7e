"""Text in pictures: in the DejaVu Sans that matplotlib ships, and for what that lacks in fonts of
the system. Only such text can look different on another machine.
"""

import re
import sys
import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
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
    return ["DejaVu Sans", *map(_register, _fallbacks(text))]


@contextmanager
def no_warning_for_each_glyph() -> Iterator[None]:
    """Silences matplotlib about every single box; `_fallbacks` says what to install instead."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        yield


def _is_plain(text: str) -> bool:
    """Returns whether DejaVu Sans has all of a text, and letters follow one another to the right.

    Pillow then draws it with no library that not every machine has. Otherwise matplotlib, whose
    own raqm knows directions, joined letters and several fonts.
    """
    turns = any(unicodedata.bidirectional(letter) in RIGHT_TO_LEFT for letter in text)
    return not turns and not _lacking(text)


def _lacking(text: str) -> frozenset[str]:
    """Returns the visible characters that DejaVu Sans has not."""
    has = _open(_dejavu()).get_char_index
    return frozenset(
        letter
        for letter in text
        if not has(ord(letter)) and not re.match("Z|Cc|Cf", unicodedata.category(letter))
    )


def _fallbacks(text: str) -> list[str]:
    """Returns the fewest files of fonts on this system that have what DejaVu Sans lacks.

    If some of it is in none of them, a line on stderr says once what to install.
    """
    return _search(lacking) if (lacking := _lacking(text)) else []


@cache
def _search(lacking: frozenset[str]) -> list[str]:
    chosen, left = [], set(lacking)
    has = {path: {c for c in left if _draws(font, c)} for path, font in _system_fonts()}
    while best := max(has, key=lambda path: len(has[path] & left), default=None):
        if not has[best] & left:
            break
        chosen.append(best)
        left -= has[best]
    if left:
        _say_what_to_install()
    return chosen


def _draws(font: "FT2Font", letter: str) -> bool:
    """Returns whether a font has an outline; of emoji some have only layers of colours."""
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
def _system_fonts() -> list[tuple[str, "FT2Font"]]:
    """Returns the system's fonts of outlines with their files, upright sans-serifs first."""
    from matplotlib.font_manager import findSystemFonts  # not its cache: fonts come and go

    found = []
    for path in findSystemFonts():
        try:
            found.append((path, _open(path)))
        except (OSError, RuntimeError):  # damaged, or in a format that matplotlib does not know
            continue
    # macOS hides fonts that begin with a dot, such as that of last resort, which has only boxes.
    usable = [(p, f) for p, f in found if f.scalable and not f.family_name.startswith(".")]
    return sorted(
        usable,
        key=lambda pf: (pf[1].style_name != "Regular", "Sans" not in pf[1].family_name, pf[0]),
    )


@cache
def _register(path: str) -> str:
    """Makes a font known to matplotlib, and returns the name of its family."""
    from matplotlib.font_manager import fontManager

    fontManager.addfont(path)
    return _open(path).family_name


def _shape(text: str, size: int) -> "FT2Font":
    from matplotlib.font_manager import get_font

    font = get_font([_dejavu(), *_fallbacks(text)])
    font.set_size(size, 72)  # dots per inch: points are pixels
    with no_warning_for_each_glyph():
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


def _dejavu() -> str:
    import matplotlib

    return str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"))
