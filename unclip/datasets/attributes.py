"""What the judge may learn of a user's pictures: columns of the metadata, or words of captions."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unclip.config.strict import one_line
from unclip.data.tokenizer import split_words

MOST_VALUES = 100  # of a column; with more it is a number or a name, and no class
MOST_WORDS = 32
WORD_SHARES = (0.01, 0.9)  # of the captions; rarer words are too few pictures, others say nothing
ABSENT, PRESENT = "absent", "present"
Codes = npt.NDArray[np.int16]
Columns = Mapping[str, Mapping[int, str]]  # the cells that are not empty, by the picture's number


@dataclass(frozen=True)
class Attributes:
    """What is known of N pictures with K captions.

    Attributes:
        names: A of them.
        values: for each the words for its values.
        of_pictures: (N, A) int16; -1 is unknown.
        of_captions: (K, A) int16, what a picture painted from the caption must show; -1 is not
            stated.
    """

    names: list[str]
    values: list[list[str]]
    of_pictures: Codes
    of_captions: Codes


def attributes_of(
    columns: Columns, captions: Sequence[str], caption_index: npt.NDArray[np.int32]
) -> tuple[Attributes, list[str]]:
    """Returns the attributes of a folder's pictures, and what the user should know of them.

    They are the columns with 2 to MOST_VALUES values. Where there are none, they are the words that
    stand in 1 to 90 % of the captions, the most frequent of them, each absent or present; and where
    there are none of these either, there are no attributes.

    Args:
        columns: the further columns of the metadata.
        captions: K distinct ones.
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
            "no attributes: there is no column, and no word stands in 1 to 90 % of the captions; "
            "accuracy is left out, the Fréchet distance stays"
        )
    return _of_words(words, captions, caption_index), notes


def _stated_by_captions(
    codes: Codes, num_captions: int, caption_index: npt.NDArray[np.int32]
) -> Codes:
    """Returns (K, A) what all pictures of a caption have, from what each picture has (N, A)."""
    low = np.full((num_captions, codes.shape[1]), MOST_VALUES, dtype=np.int16)
    high = np.full((num_captions, codes.shape[1]), -1, dtype=np.int16)
    np.minimum.at(low, caption_index, codes)
    np.maximum.at(high, caption_index, codes)
    return np.where(low == high, low, np.int16(-1))


def _of_words(
    words: Sequence[str], captions: Sequence[str], caption_index: npt.NDArray[np.int32]
) -> Attributes:
    """Returns words as attributes, each absent (0) or present (1) in a caption."""
    places = {word: place for place, word in enumerate(words)}
    table = np.zeros((len(captions), len(words)), dtype=np.int16)
    for row, caption in enumerate(captions):
        table[row, [places[word] for word in set(split_words(caption)) if word in places]] = 1
    names = [f"word_{word}" for word in words]
    values = [[ABSENT, PRESENT] for _ in words]
    return Attributes(names, values, table[caption_index], table)


def frequent_words(captions: Sequence[str], caption_index: npt.NDArray[np.int32]) -> list[str]:
    """Returns the words that stand in 1 to 90 % of the pictures' captions, at most MOST_WORDS.

    The most frequent ones, of equal ones the first of the alphabet, in the order of the alphabet.
    """
    counts: Counter[str] = Counter()
    pictures = np.bincount(caption_index, minlength=len(captions)).tolist()
    for caption, count in zip(captions, pictures, strict=True):
        counts.update(dict.fromkeys(split_words(caption), count))
    low, high = (share * len(caption_index) for share in WORD_SHARES)
    telling = [word for word, count in counts.items() if low <= count <= high]
    return sorted(sorted(telling, key=lambda word: (-counts[word], word))[:MOST_WORDS])
