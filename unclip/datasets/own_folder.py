"""A folder of captioned pictures: what it says of them, and every mistake in that.

`prepare` and `python cli.py data check` call the same functions, so they find the same mistakes.
"""

import re
import shlex
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from unclip.config.errors import UserError
from unclip.config.strict import one_line
from unclip.core.seeding import derive_seed
from unclip.data.text import clean, fold
from unclip.datasets.attributes import Attributes, attributes_of
from unclip.datasets.base import Split
from unclip.datasets.entries import sound_entries
from unclip.datasets.metadata import find_metadata, read_entries
from unclip.datasets.splits import FEWEST, Chosen, hold_out
from unclip.datasets.writer import choose_validation
from unclip.pictures.files import read_picture

CHANNELS = 3  # grey pictures are read as RGB
SHOWN = 20  # problems in an error
FIGURE = re.compile(r"[^\W_][\w .-]{0,39}")  # allowed by MLflow in the name of a metric
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class OwnFolder:
    """What a folder says about its N pictures.

    Attributes:
        folder: the folder of the pictures.
        metadata: the file that describes them, or the folder.
        convention: the name of that file, or how the folder describes them.
        names: the names of the files as the disk has them, relative to the folder.
        captions: K captions that CLIP can tell apart, in order and spelling of their first
            appearance.
        caption_index: (N,) int32, index into captions.
        is_test: (N,) bool, the test pictures from the column `split`; None without that column.
        attributes: what the judge can learn.
        notes: lines for the user.
    """

    folder: Path
    metadata: Path
    convention: str
    names: list[str]
    captions: list[str]
    caption_index: npt.NDArray[np.int32]
    is_test: Chosen | None
    attributes: Attributes
    notes: list[str]

    def split(self, chosen: Chosen, image_size: int, seed: int) -> Split:
        """Returns the chosen pictures, shuffled; each is decoded when it is read.

        Metadata are often sorted, but the first pictures of a split, and the batches in which CLIP
        is validated, should be representative.
        """
        rows = _shuffled(chosen, seed)
        return Split(
            PictureFiles(self.folder, [self.names[row] for row in rows], image_size),
            self.caption_index[rows],
            self.attributes.of_pictures[rows],
        )


@dataclass(frozen=True)
class PictureFiles:
    """Pictures (N, C, H, W) that are decoded when they are read."""

    folder: Path
    names: Sequence[str]
    image_size: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Returns (N, C, H, W)."""
        return len(self.names), CHANNELS, self.image_size, self.image_size

    def __getitem__(self, rows: slice, /) -> Pixels:
        """Returns the pictures of `rows`, decoded now."""
        names = self.names[rows]
        found = np.empty((len(names), *self.shape[1:]), dtype=np.uint8)
        for place, name in enumerate(names):
            try:
                found[place] = read_picture(self.folder / name, self.image_size, CHANNELS)
            except UserError as error:
                raise UserError(f"{error}; {_check_lists_all(self.folder)}") from None
        return found


def read_folder(
    folder: Path, text_length: int, problems: list[str], caption: str = "{}"
) -> OwnFolder:
    """Returns what a folder says about its pictures.

    Args:
        folder: contains pictures, described in a convention of `unclip.datasets.metadata`.
        text_length: the most tokens of a caption, including start and end.
        problems: receives one line for each mistake.
        caption: the template of class folders; {} becomes the name of the class.

    Raises:
        UserError: the folder follows no convention, or two.
    """
    metadata, convention = find_metadata(folder)
    entries = read_entries(metadata, problems, convention, caption)
    sound = sound_entries(folder, one_line(str(metadata)), entries, text_length, problems)
    names = [name for name, _ in sound]
    captions: list[str] = []
    numbers: dict[str, int] = {}  # of captions as CLIP reads them
    caption_index: list[int] = []
    columns: defaultdict[str, dict[int, str]] = defaultdict(dict)
    for row, (_, entry) in enumerate(sound):
        for column, cell in (entry.model_extra or {}).items():
            if cell:
                columns[column][row] = cell
        number = numbers.setdefault(fold(entry.text), len(captions))
        if number == len(captions):
            captions.append(entry.text)
        caption_index.append(number)
    index = np.array(caption_index, dtype=np.int32)
    attributes, notes = attributes_of(columns, captions, index)
    problems += [
        f"{one_line(str(metadata))}: the column {one_line(name)} cannot name a figure; expected up "
        "to 40 letters, digits, spaces and _ . -; rename it"
        for name in attributes.names
        if name in columns and not FIGURE.fullmatch(name)
    ]
    is_test = _is_test(metadata, names, [entry.split for _, entry in sound], problems)
    return OwnFolder(
        folder, metadata, convention, names, captions, index, is_test, attributes, notes
    )


def _is_test(
    metadata: Path, names: list[str], splits: list[str | None], problems: list[str]
) -> Chosen | None:
    """Returns which pictures are for the test, or None without the column `split`."""
    if not any(splits):
        return None
    problems += [
        f"{one_line(str(metadata))}: {one_line(name)}: has no split, but others do; expected "
        "train or test (data.val_fraction takes part of train for validation); write it"
        for name, split in zip(names, splits, strict=True)
        if split is None
    ]
    return np.array([split == "test" for split in splits], dtype=np.bool_)


def choose_test(own: OwnFolder, test_fraction: float, seed: int, problems: list[str]) -> Chosen:
    """Returns which pictures are for the test, (N,) bool.

    Without a column `split`, each picture draws a number from its name, for `hold_out`. A folder
    that grows thus keeps nearly all its test pictures, so they are not trained on later.

    Args:
        own: the folder.
        test_fraction: see `hold_out`.
        seed: the seed of the draws.
        problems: receives a line if the test pictures are too few or too many, unless it has some:
            mended lines may bring more pictures.
    """
    total = len(own.names)
    if own.is_test is not None:
        chosen, cure = own.is_test, "give more pictures the split test"
    else:
        cure = "raise data.image_folder.test_fraction or add pictures"
        draws = [float(derive_seed(seed, f"test {clean(name)}")) for name in own.names]
        chosen = hold_out(draws, own.caption_index, test_fraction)
    count = int(chosen.sum())
    where = one_line(str(own.metadata))
    if problems:
        return chosen
    if count < FEWEST:
        problems.append(
            f"{where}: {count} of {total} pictures are for the test; expected at least "
            f"{FEWEST}; {cure}"
        )
    elif count == total:
        problems.append(
            f"{where}: all {total} pictures are for the test; give most the split train"
        )
    return chosen


def choose_trained(
    own: OwnFolder, test: Chosen, val_fraction: float, seed: int, problems: list[str]
) -> Chosen:
    """Returns which pictures are for neither test nor validation, (N,) bool.

    Args:
        own: the folder.
        test: (N,) bool, the test pictures.
        val_fraction: see `hold_out`.
        seed: the seed of the data set.
        problems: receives a line if validation would have none or all of the others, unless it
            has some.
    """
    rows, trained = _shuffled(~test, seed), ~test  # in the order that `write_prepared` is given
    try:
        validation = choose_validation(own.caption_index[rows], val_fraction, seed)
        trained[rows[validation]] = False
    except UserError as error:
        problems += [] if problems else [str(error)]
    return trained


def _shuffled(chosen: Chosen, seed: int) -> npt.NDArray[np.int64]:
    """Returns the chosen rows in the order of their split."""
    draws = np.random.default_rng(derive_seed(seed, "order of pictures"))
    return draws.permutation(chosen.nonzero()[0])


def stop_if_any(problems: list[str], folder: Path) -> None:
    """Raises UserError with the first problems, if there are any."""
    lines = problems[:SHOWN]
    if len(problems) > SHOWN:
        lines.append(
            f"{one_line(str(folder))}: {len(problems)} problems; {_check_lists_all(folder)}"
        )
    if lines:
        raise UserError("\n".join(lines))


def _check_lists_all(folder: Path) -> str:
    return f"`python cli.py data check {shlex.quote(str(folder))}` lists all that is wrong"
