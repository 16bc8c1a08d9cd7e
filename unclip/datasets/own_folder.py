"""A folder of captioned pictures as its metadata describe it, and all that is wrong with it.

`prepare` refuses what `python cli.py data check` finds wrong: both call the same functions.
"""

import os
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from unclip.config.errors import UserError
from unclip.config.strict import one_line, short
from unclip.core.seeding import derive_seed
from unclip.data.tokenizer import tokenize
from unclip.datasets.attributes import Attributes, Columns, attributes_of
from unclip.datasets.metadata import Entry, Problems, find_metadata, read_entries
from unclip.pictures.files import read_picture
from unclip.running.progress import track

CHANNELS = 3  # grey pictures are coloured ones whose channels agree
SPLITS = ("train", "test")
FEWEST_TEST = 20  # pictures: half of them are held against the other half, whose neighbours count
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class OwnFolder:
    """What the metadata say of N pictures.

    Attributes:
        folder: that holds them.
        metadata: the file that describes them.
        names: of the files, relative to the folder.
        captions: K distinct ones, in the order and the spelling in which they first appear; those
            that differ only in capital letters are one.
        caption_index: (N,) int32, index into captions.
        is_test: (N,) bool, which pictures the column `split` sets apart; None without that column.
        attributes: what the judge may learn of them.
        notes: what the user should know, a line each.
    """

    folder: Path
    metadata: Path
    names: list[str]
    captions: list[str]
    caption_index: npt.NDArray[np.int32]
    is_test: npt.NDArray[np.bool_] | None
    attributes: Attributes
    notes: list[str]


def read_folder(folder: Path, text_length: int, problems: Problems) -> OwnFolder:
    """Returns what the metadata say; what is wrong with them is noted, with its line and picture.

    Args:
        folder: with pictures and metadata.jsonl or metadata.csv.
        text_length: tokens that a caption may have, start and end included.
        problems: takes what is wrong.

    Raises:
        UserError: there is no metadata file, or there are two.
    """
    metadata = find_metadata(folder)
    root, columns = os.path.realpath(folder), Columns()
    names: list[str] = []
    splits: list[str] = []
    lines: dict[str, int] = {}  # of the files that were named so far
    captions: list[str] = []
    places: dict[str, int] = {}  # of captions in lower case, as CLIP reads them
    complaints: list[str] = []
    caption_index = array("i")
    for entry in read_entries(metadata, problems):
        name, caption = entry.values["file_name"], entry.values["text"]
        misnamed = _complaint_of_name(root, entry, lines)
        place = places.setdefault(caption.lower(), len(captions))
        if place == len(captions):
            captions.append(caption)
            complaints.append(_complaint_of_caption(caption, text_length))
        others = {k: v for k, v in entry.values.items() if k not in ("file_name", "text", "split")}
        for complaint in filter(
            None, (misnamed, complaints[place], *columns.add(len(names), others))
        ):
            problems.add(
                f"{one_line(str(metadata))}: line {entry.line} ({one_line(name)}): {complaint}"
            )
        if not misnamed:  # what lies outside is not even opened
            names.append(name)
            splits.append(entry.values.get("split", ""))
            caption_index.append(place)
    index = np.array(caption_index, dtype=np.int32)
    attributes, notes = attributes_of(columns.gathered(len(names)), captions, index)
    is_test = _read_splits(metadata, names, splits, problems)
    return OwnFolder(folder, metadata, names, captions, index, is_test, attributes, notes)


def _complaint_of_name(root: str, entry: Entry, lines: dict[str, int]) -> str:
    """Returns what is wrong with a file's name; a sound one is added to `lines`."""
    path = os.path.realpath(os.path.join(root, entry.values["file_name"]))
    if not path.startswith(root + os.sep):
        return "the file lies outside of the folder; expected one inside of it; copy it there"
    if path in lines:
        return (
            f"the same file as in line {lines[path]}; expected a line for each picture; remove one"
        )
    lines[path] = entry.line
    return ""


def _complaint_of_caption(caption: str, text_length: int) -> str:
    try:
        tokenize([caption], text_length)
    except UserError as error:
        return str(error)
    return ""


def _read_splits(
    metadata: Path, names: list[str], splits: list[str], problems: Problems
) -> npt.NDArray[np.bool_] | None:
    """Returns which pictures are for the test, or None where no picture says so."""
    if not any(splits):
        return None
    for name, split in zip(names, splits, strict=True):
        if split not in SPLITS:
            problems.add(
                f"{one_line(str(metadata))}: {one_line(name)}: split is {short(split)}; expected "
                "train or test, of which data.val_fraction sets a part of train apart; correct it"
            )
    return np.array([split == "test" for split in splits], dtype=np.bool_)


def choose_test(
    own: OwnFolder, test_fraction: float, seed: int, problems: Problems
) -> npt.NDArray[np.bool_]:
    """Returns which pictures are for the test, (N,) bool; that they are too few is noted.

    Each picture draws a number by its name and the lowest are taken, so that a folder which grows
    keeps nearly all of its test pictures: what was trained on some is not tested on them later.

    Args:
        own: whose column `split` decides where it has one.
        test_fraction: share of the pictures.
        seed: of the draws.
        problems: takes what is wrong.
    """
    total = len(own.names)
    if own.is_test is not None:
        chosen, cure = own.is_test, "give more pictures the split test"
    else:
        cure = "raise data.image_folder.test_fraction or take more pictures"
        order = sorted(range(total), key=lambda i: derive_seed(seed, f"test {own.names[i]}"))
        chosen = np.zeros(total, dtype=np.bool_)
        chosen[order[: round(test_fraction * total)]] = True
    count = int(chosen.sum())
    if count < FEWEST_TEST:
        problems.add(
            f"{one_line(str(own.metadata))}: {count} of {total} pictures are for the test; "
            f"expected at least {FEWEST_TEST}; {cure}"
        )
    elif count == total:
        problems.add(
            f"{one_line(str(own.metadata))}: all {total} pictures are for the test; expected most "
            "of them to train with; give these the split train"
        )
    return chosen


def check_pictures(
    own: OwnFolder,
    image_size: int,
    problems: Problems,
    look: Callable[[str, Pixels], None] = lambda name, pixels: None,
) -> None:
    """Reads every picture as prepare will, and notes those that can not be read.

    A picture may be damaged at its end, so each is decoded: what is slow is found wrong before
    anything is written.

    Args:
        own: the folder.
        image_size: height and width that they are brought to.
        problems: takes what is wrong.
        look: called with each picture's name and pixels (C, H, W).
    """
    for name in track(own.names, "checking pictures", len(own.names)):
        try:
            pixels = read_picture(own.folder / name, image_size, CHANNELS)
        except UserError as error:
            problems.add(str(error))
        else:
            look(name, pixels)
