"""What the judge may learn of a user's pictures: columns of the metadata, or words of captions."""

import re
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unclip.data.tokenizer import split_words

MOST_COLUMNS = 64
MOST_VALUES = 100  # of a column; with more it is a number or a name, and no class
MOST_WORDS = 32
WORD_SHARES = (0.01, 0.9)  # of the captions; rarer words are too few pictures, others say nothing
ABSENT, PRESENT = "absent", "present"
COLUMN_NAME = re.compile(r"[^\W_][\w .-]{0,39}")
TAKEN = ("joint", "judge_real")  # figures have these names already
Codes = npt.NDArray[np.int16]


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


@dataclass(frozen=True)
class Column:
    """A further column of the metadata.

    Attributes:
        name: of it.
        values: the distinct ones, sorted; empty where there are more than MOST_VALUES.
        codes: (N,) int16, index into values; -1 is unknown.
    """

    name: str
    values: list[str]
    codes: Codes


class Columns:
    """Gathers the further columns of the metadata, a picture at a time, in two bytes for each."""

    def __init__(self) -> None:
        self._codes: dict[str, array[int]] = {}
        self._values: dict[str, dict[str, int]] = {}

    def add(self, row: int, values: Mapping[str, str]) -> list[str]:
        """Takes what picture `row` has in its columns; returns what is wrong with new names."""
        complaints = []
        for name, value in values.items():
            if name not in self._codes:
                complaints += _complaints(name, len(self._codes))
                self._codes[name], self._values[name] = array("h"), {}
            known, codes = self._values[name], self._codes[name]
            if len(known) <= MOST_VALUES:
                codes.extend([-1] * (row - len(codes)))
                codes.append(known.setdefault(value, len(known)))
        return complaints

    def gathered(self, count: int) -> list[Column]:
        """Returns the columns of all `count` pictures."""
        found = []
        for name, numbers in self._codes.items():
            known = self._values[name]
            if len(known) > MOST_VALUES:
                found.append(Column(name, [], np.full(count, -1, dtype=np.int16)))
                continue
            codes = np.full(count, -1, dtype=np.int16)
            codes[: len(numbers)] = numbers
            order = {value: new for new, value in enumerate(sorted(known))}
            renumbered = np.array([*(order[value] for value in known), -1], dtype=np.int16)
            found.append(Column(name, sorted(known), renumbered[codes]))
        return found


def _complaints(name: str, count: int) -> list[str]:
    if not COLUMN_NAME.fullmatch(name):
        return [
            f"the column {name[:60]!r} can not name a figure; expected up to 40 letters, digits, "
            "spaces and _ . -; rename it"
        ]
    if name in TAKEN:
        return [f"the column {name} would take the name of another figure; rename it"]
    if count == MOST_COLUMNS:
        return [f"the column {name} is one of more than {MOST_COLUMNS}; remove some"]
    return []


def attributes_of(
    columns: Sequence[Column], captions: Sequence[str], caption_index: npt.NDArray[np.int32]
) -> tuple[Attributes, list[str]]:
    """Returns the attributes of a folder's pictures, and what the user should know of them.

    They are the columns with 2 to MOST_VALUES values. Where there are none, they are the words that
    stand in 1 to 90 % of the captions, the most frequent of them, each absent or present; and where
    there are none of these either, there are no attributes.

    Args:
        columns: of the metadata.
        captions: K distinct ones.
        caption_index: (N,), the caption of each picture.
    """
    usable, notes = [], []
    for column in columns:
        if len(column.values) > 1:
            usable.append(column)
        else:
            found = "one value" if column.values else f"more than {MOST_VALUES} values"
            notes.append(
                f"column {column.name}: has {found}, and an attribute has 2 to {MOST_VALUES}: left "
                "out"
            )
    if usable:
        return _of_columns(usable, len(captions), caption_index), notes
    words = frequent_words(captions, caption_index)
    if not words:
        notes.append(
            "no attributes: there is no column, and no word stands in 1 to 90 % of the captions; "
            "accuracy is left out, the Fréchet distance stays"
        )
    return _of_words(words, captions, caption_index), notes


def _of_columns(
    columns: Sequence[Column], num_captions: int, caption_index: npt.NDArray[np.int32]
) -> Attributes:
    """Returns columns as attributes; a caption states what all of its pictures have."""
    of_captions = np.full((num_captions, len(columns)), -1, dtype=np.int16)
    for number, column in enumerate(columns):
        low = np.full(num_captions, MOST_VALUES, dtype=np.int16)
        high = np.full(num_captions, -1, dtype=np.int16)
        np.minimum.at(low, caption_index, column.codes)
        np.maximum.at(high, caption_index, column.codes)
        of_captions[:, number] = np.where(low == high, low, -1)
    return Attributes(
        [column.name for column in columns],
        [column.values for column in columns],
        np.stack([column.codes for column in columns], axis=1),
        of_captions,
    )


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
