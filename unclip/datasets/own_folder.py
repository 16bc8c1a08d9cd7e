"""A folder of captioned pictures: what its metadata say, and every mistake in them.

`prepare` and `python cli.py data check` call the same functions, so they find the same mistakes.
"""

import os
import re
import shlex
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from unclip.config.errors import UserError
from unclip.config.strict import one_line
from unclip.core.seeding import derive_seed
from unclip.data.text import clean, fold
from unclip.data.tokenizer import tokenize
from unclip.datasets.attributes import Attributes, attributes_of
from unclip.datasets.base import Split
from unclip.datasets.metadata import find_metadata, read_entries
from unclip.datasets.writer import choose_validation
from unclip.pictures.files import read_picture

CHANNELS = 3  # grey pictures are read as RGB
FEWEST_TEST = 20  # pictures: evaluation compares one half with the neighbours in the other
SHOWN = 20  # problems in an error
FIGURE = re.compile(r"[^\W_][\w .-]{0,39}")  # allowed by MLflow in the name of a metric
Chosen = npt.NDArray[np.bool_]
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class OwnFolder:
    """What the metadata say about N pictures.

    Attributes:
        folder: the folder of the pictures.
        metadata: the file that describes them.
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


def read_folder(folder: Path, text_length: int, problems: list[str]) -> OwnFolder:
    """Returns what the metadata say.

    Args:
        folder: contains pictures and metadata.jsonl or metadata.csv.
        text_length: the most tokens of a caption, including start and end.
        problems: receives one line for each mistake.

    Raises:
        UserError: there is no metadata file, or there are two.
    """
    metadata = find_metadata(folder)
    on_disk = {clean(name): name for name in files_in(folder)}
    lines: dict[str, int] = {}  # where each file was named
    names: list[str] = []
    captions: list[str] = []
    places: dict[str, int] = {}  # of captions as CLIP reads them
    caption_index: list[int] = []
    splits: list[str | None] = []
    columns: defaultdict[str, dict[int, str]] = defaultdict(dict)
    for line, entry in read_entries(metadata, problems):
        name = _find(folder, entry.file_name, on_disk)
        wrong = (
            _complaint_of_name(name, line, lines),
            _complaint_of_caption(entry.text, text_length),
        )
        problems += [
            f"{one_line(str(metadata))}: line {line} ({one_line(entry.file_name)}): {complaint}"
            for complaint in wrong
            if complaint
        ]
        if any(wrong):
            continue
        for column, cell in (entry.model_extra or {}).items():
            if cell:
                columns[column][len(names)] = cell
        names.append(name)
        splits.append(entry.split)
        place = places.setdefault(fold(entry.text), len(captions))
        if place == len(captions):
            captions.append(entry.text)
        caption_index.append(place)
    index = np.array(caption_index, dtype=np.int32)
    attributes, notes = attributes_of(columns, captions, index)
    problems += [
        f"{one_line(str(metadata))}: the column {one_line(name)} cannot name a figure; expected up "
        "to 40 letters, digits, spaces and _ . -; rename it"
        for name in attributes.names
        if name in columns and not FIGURE.fullmatch(name)
    ]
    is_test = _is_test(metadata, names, splits, problems)
    return OwnFolder(folder, metadata, names, captions, index, is_test, attributes, notes)


def files_in(folder: Path) -> list[str]:
    """Returns the names of all files below a folder, relative to it, sorted."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def _find(folder: Path, written: str, on_disk: Mapping[str, str]) -> str:
    """Returns a file's name relative to the folder, as the disk has it; "" if there is none.

    Links are not followed: where DVC has put links to its cache, the pictures still lie here.

    Args:
        folder: the folder.
        written: the name in the metadata.
        on_disk: clean name → name of each file.
    """
    plain = os.path.normpath(written)
    for name in (plain, on_disk.get(clean(plain), "")):
        if os.path.isfile(folder / name):  # False for invalid names too
            return os.path.relpath(folder / name, folder)
    return ""


def _complaint_of_name(name: str, line: int, lines: dict[str, int]) -> str:
    """Returns what is wrong with a file's name, or adds it to `lines`."""
    if not name:
        return "no such file; expected a picture; check the name"
    if Path(name).parts[0] == os.pardir:
        return "the file lies outside of the folder; expected one inside of it; copy it there"
    if (first := lines.setdefault(name, line)) != line:
        return f"the same file as in line {first}; expected a line for each picture; remove one"
    return ""


def _complaint_of_caption(caption: str, text_length: int) -> str:
    try:
        tokenize([caption], text_length)
    except UserError as error:
        return str(error)
    return ""


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

    Without a column `split`, each picture draws a number from its name and the lowest are taken. A
    folder that grows thus keeps nearly all its test pictures, so they are not trained on later.

    Args:
        own: the folder.
        test_fraction: share of the pictures.
        seed: the seed of the draws.
        problems: receives a line if the test pictures are too few or too many, unless it has some:
            mended lines may bring more pictures.
    """
    total = len(own.names)
    if own.is_test is not None:
        chosen, cure = own.is_test, "give more pictures the split test"
    else:
        cure = "raise data.image_folder.test_fraction or add pictures"
        order = sorted(range(total), key=lambda i: derive_seed(seed, f"test {clean(own.names[i])}"))
        chosen = np.zeros(total, dtype=np.bool_)
        chosen[order[: round(test_fraction * total)]] = True
    count = int(chosen.sum())
    where = one_line(str(own.metadata))
    if problems:
        return chosen
    if count < FEWEST_TEST:
        problems.append(
            f"{where}: {count} of {total} pictures are for the test; expected at least "
            f"{FEWEST_TEST}; {cure}"
        )
    elif count == total:
        problems.append(
            f"{where}: all {total} pictures are for the test; give most the split train"
        )
    return chosen


def choose_trained(test: Chosen, val_fraction: float, seed: int, problems: list[str]) -> Chosen:
    """Returns which pictures are for neither test nor validation, (N,) bool.

    Args:
        test: (N,) bool, the test pictures.
        val_fraction: share of the others for validation.
        seed: the seed of the data set.
        problems: receives a line if validation would have none or all of them.
    """
    rows, trained = _shuffled(~test, seed), ~test
    try:
        trained[rows[choose_validation(len(rows), val_fraction, seed)]] = False
    except UserError as error:
        problems.append(str(error))
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
