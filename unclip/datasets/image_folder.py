"""The user's own pictures: a folder of them with metadata.jsonl or metadata.csv beside them."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from unclip.core.seeding import derive_seed
from unclip.datasets.base import DatasetSource, Split
from unclip.datasets.metadata import Problems
from unclip.datasets.own_folder import (
    CHANNELS,
    OwnFolder,
    Pixels,
    check_pictures,
    choose_test,
    read_folder,
)
from unclip.pictures.files import read_picture

MOST_PROMPTS = 8  # rows of the sample grid
Chosen = npt.NDArray[np.bool_]


def load(
    *,
    image_size: int,
    seed: int,
    raw_dir: Path,
    folder: Path,
    text_length: int,
    test_fraction: float,
    allow_flip: bool,
) -> DatasetSource:
    """Returns the data set; all of it is checked first, and a picture is decoded when it is read.

    No caption is held out: which of them training never shows depends on how many there are, and
    is nothing that was set up to be measured.

    Args:
        image_size: height and width that pictures are brought to.
        seed: of the order of the pictures, and of the choice of the test split, where the metadata
            do not choose it.
        raw_dir: not used, since the folder is part of the experiment.
        folder: with pictures and metadata.
        text_length: tokens that a caption may have, start and end included.
        test_fraction: share of the pictures that is set apart for the test.
        allow_flip: whether a mirrored picture could be one of these; text or a left hand could not.

    Raises:
        UserError: a line for each thing that is wrong with the folder.
    """
    problems = Problems()
    own = read_folder(folder, text_length, problems)
    test = choose_test(own, test_fraction, seed, problems)
    check_pictures(own, image_size, problems)
    problems.stop_if_any(folder)
    for note in own.notes:
        print(f"{own.metadata}: {note}", file=sys.stderr)
    return DatasetSource(
        name="image_folder",
        captions=own.captions,
        attribute_names=own.attributes.names,
        attribute_values=own.attributes.values,
        caption_attributes=own.attributes.of_captions,
        held_out_captions=[],
        prompts=default_prompts(own, test),
        allow_flip=allow_flip,
        train=_split(own, ~test, image_size, seed),
        test=_split(own, test, image_size, seed),
    )


def default_prompts(own: OwnFolder, test: Chosen) -> list[str]:
    """Returns the most frequent captions; of equal ones, those that a test picture has come first.

    A test picture is what the sample grid shows beside the painted ones.
    """
    counts = np.bincount(own.caption_index, minlength=len(own.captions))
    tested = np.bincount(own.caption_index[test], minlength=len(own.captions)) > 0
    order = sorted(range(len(own.captions)), key=lambda i: (-counts[i], not tested[i], i))
    return [own.captions[i] for i in order[:MOST_PROMPTS]]


@dataclass(frozen=True)
class PictureFiles:
    """Pictures (N, C, H, W) that are decoded when they are read.

    Attributes:
        folder: that holds them.
        names: N files, relative to it.
        image_size: height and width.
    """

    folder: Path
    names: Sequence[str]
    image_size: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Returns (N, C, H, W)."""
        return len(self.names), CHANNELS, self.image_size, self.image_size

    def __getitem__(self, rows: slice, /) -> Pixels:
        """Returns `rows`, decoded now."""
        names = self.names[rows]
        found = np.empty((len(names), *self.shape[1:]), dtype=np.uint8)
        for place, name in enumerate(names):
            found[place] = read_picture(self.folder / name, self.image_size, CHANNELS)
        return found


def _split(own: OwnFolder, chosen: Chosen, image_size: int, seed: int) -> Split:
    """Returns the chosen pictures, shuffled.

    Metadata are often sorted, and the first pictures of a split are to be like all of it, as are
    the batches in which CLIP is validated.
    """
    draws = np.random.default_rng(derive_seed(seed, "order of pictures"))
    rows = draws.permutation(chosen.nonzero()[0])
    return Split(
        PictureFiles(own.folder, [own.names[row] for row in rows], image_size),
        own.caption_index[rows],
        own.attributes.of_pictures[rows],
    )
