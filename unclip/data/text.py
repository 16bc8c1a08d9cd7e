"""One form for what looks alike: captions, prompts, and the cells and names in metadata.

Text is lowercased, as in CLIP's tokenizer (Radford et al. 2021, §2.4).
"""

import re
from unicodedata import normalize

# Soft hyphens, zero-width spaces, marks of direction and variation selectors.
INVISIBLE = re.compile(
    r"[\u00ad\u034f\u061c\u180e\u200b\u200c\u200e\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]"
)
# A zero-width joiner is kept between symbols only: it makes one emoji of several.
STRAY_JOINER = re.compile(r"\u200d(?![^\w\s])|(?<![^\w\s])\u200d")


def clean(text: str) -> str:
    """Returns a text in Unicode's NFC, without invisible characters, single spaces between words.

    Macs decompose what others compose, and no-break spaces come with text from web pages.
    """
    shown = STRAY_JOINER.sub("", INVISIBLE.sub("", text))
    return " ".join(normalize("NFC", shown).split())


def fold(text: str) -> str:
    """Returns a text as CLIP reads it: clean, and in lower case."""
    return clean(text.lower())


def split_words(caption: str) -> list[str]:
    """Returns the folded words of a caption without surrounding punctuation."""
    stripped = (word.strip(".,;:!?\"'()[]") for word in fold(caption).split())
    return [word for word in stripped if word]
