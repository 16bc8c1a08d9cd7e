"""What the judge learns about a user's pictures: columns of the metadata or words of captions."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unclip.config.strict import one_line
from unclip.data.text import split_words

MOST_VALUES = 100  # a column with more holds numbers or names, not classes
MOST_WORDS = 32
WORD_SHARES = (0.01, 0.9)  # of captions; rarer words have too few pictures, others tell little
ABSENT, PRESENT = "absent", "present"
Codes = npt.NDArray[np.int16]
Columns = Mapping[str, Mapping[int, str]]  # non-empty cells by the picture's number


@dataclass(frozen=True)
class Attributes:
    """The attributes of N pictures with K captions.

    Attributes:
        names: A names.
        values: the words for the values of each attribute.
        of_pictures: (N, A) int16; -1 is unknown.
        of_captions: (K, A) int16, the values that a picture painted from each caption must show;
            -1 is not stated.
    """

    names: list[str]
    values: list[list[str]]
    of_pictures: Codes
    of_captions: Codes


def attributes_of(
    columns: Columns, captions: Sequence[str], caption_index: npt.NDArray[np.int32]
) -> tuple[Attributes, list[str]]:
    """Returns the attributes of a folder's pictures, and notes for the user about them.

    They are the columns with 2 to MOST_VALUES values. Without such columns they are the words from
    `frequent_words`, each absent or present; there may be none.

    Args:
        columns: the additional columns of the metadata.
        captions: K distinct captions.
        caption_index: (N,), the caption of each picture.
    """
    values = {name: sorted(set(cells.values())) for name, cells in columns.items()}
    usable = [name for name, found in values.items() if 1 < len(found) <= MOST_VALUES]
    notes = [
        f"column {one_line(name)}: an attribute has 2 to {MOST_VALUES} different values, and this "
        f"has {len(found)}: left out"
        for name, found in values.items()
        if name not in usable
    ]
    if usable:
        codes = np.full((len(caption_index), len(usable)), -1, dtype=np.int16)
        for number, name in enumerate(usable):
            code = {value: code for code, value in enumerate(values[name])}
            cells = columns[name]
            codes[list(cells), number] = [code[value] for value in cells.values()]
        stated = _stated_by_captions(codes, len(captions), caption_index)
        return Attributes(usable, [values[name] for name in usable], codes, stated), notes
    words = frequent_words(captions, caption_index)
    if not words:
        notes.append(
            "no attributes: there is no column for them and no word is in 1 to 90 % of the "
            "captions; accuracy is left out, the Fréchet distance is still computed"
        )
    return _of_words(words, captions, caption_index), notes


def _stated_by_captions(
    codes: Codes, num_captions: int, caption_index: npt.NDArray[np.int32]
) -> Codes:
    """Returns the values (K, A) that all pictures of a caption share, from those of each (N, A)."""
    low = np.full((num_captions, codes.shape[1]), MOST_VALUES, dtype=np.int16)
    high = np.full((num_captions, codes.shape[1]), -1, dtype=np.int16)
    np.minimum.at(low, caption_index, codes)
    np.maximum.at(high, caption_index, codes)
    return np.where(low == high, low, np.int16(-1))


def _of_words(
    words: Sequence[str], captions: Sequence[str], caption_index: npt.NDArray[np.int32]
) -> Attributes:
    """Returns words as attributes, each absent (0) or present (1) in a caption."""
    table = np.zeros((len(captions), len(words)), dtype=np.int16)
    for row, caption in enumerate(captions):
        found = set(split_words(caption))
        table[row] = [word in found for word in words]
    names = [f"word_{word}" for word in words]
    values = [[ABSENT, PRESENT] for _ in words]
    return Attributes(names, values, table[caption_index], table)


def frequent_words(captions: Sequence[str], caption_index: npt.NDArray[np.int32]) -> list[str]:
    """Returns the MOST_WORDS most frequent words in 1 to 90 % of the pictures' captions, sorted.

    Equally frequent words are taken in alphabetical order.
    """
    counts: Counter[str] = Counter()
    pictures = np.bincount(caption_index, minlength=len(captions)).tolist()
    for caption, count in zip(captions, pictures, strict=True):
        counts.update(dict.fromkeys(split_words(caption), count))
    low, high = (share * len(caption_index) for share in WORD_SHARES)
    telling = [word for word, count in counts.items() if low <= count <= high]
    return sorted(sorted(telling, key=lambda word: (-counts[word], word))[:MOST_WORDS])
