"""What a data set is. A new one is a `Dataset` with a line in `unclip.datasets.registry`.

params.yaml is validated with it, in every process: what takes long to import, such as torch, is
imported by the functions that need it.
"""

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from unclip.config.strict import Strict


class Rows(Protocol):
    """An array (N, ...) that is read by slices: an array, a memmap, or drawn on demand.

    Slices are read in order and once each, so a source may draw or decode while it is read and
    never holds anything of all its pictures in memory.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """Returns (N, ...)."""
        ...

    def __getitem__(self, rows: slice, /) -> npt.NDArray[Any]:
        """Returns what stands in `rows`."""
        ...


@dataclass(frozen=True)
class Split:
    """Pictures, each with its caption and its attributes; all are read by slices.

    Attributes:
        images: (N, C, H, W) uint8.
        caption_index: (N,) int32, index into the source's captions.
        attributes: (N, A) int16, index into attribute_values[a]; -1 is unknown.
    """

    images: Rows
    caption_index: Rows
    attributes: Rows

    def __post_init__(self) -> None:
        n = self.images.shape[0]
        assert self.caption_index.shape == (n,), f"{self.caption_index.shape} for {n} pictures"
        found = self.attributes.shape
        assert len(found) == 2, f"attributes {found}, expected (N, A)"
        assert found[0] == n, f"{found} for {n} pictures"


@dataclass(frozen=True)
class DatasetSource:
    """A data set before it is prepared.

    Attributes:
        captions: K distinct captions.
        attribute_names: A names, for example "colour"; none is allowed.
        attribute_values: for each attribute the words for its values.
        caption_attributes: (K, A) int16, the values that a caption states, which is what a picture
            painted from it must show; -1 is not stated.
        held_out_captions: indices of captions that the training split never shows.
        prompts: the captions of the sample grid, in its order.
        allow_flip: whether the mirror image of a picture could be a picture of this data set, so
            that the decoder may learn it.
        train: also the source of the validation split.
        test: selects nothing.
        judge: what the judge learns from; None is the training split.
    """

    captions: list[str]
    attribute_names: list[str]
    attribute_values: list[list[str]]
    caption_attributes: npt.NDArray[np.int16]
    held_out_captions: list[int]
    prompts: list[str]
    allow_flip: bool
    train: Split
    test: Split
    judge: Split | None = None

    def __post_init__(self) -> None:
        expected = (len(self.captions), len(self.attribute_names))
        found = self.caption_attributes.shape
        assert found == expected, f"caption_attributes {found}, expected {expected}"
        assert len(self.attribute_values) == len(self.attribute_names), "a list for each attribute"
        assert len(set(self.captions)) == len(self.captions), "captions must be distinct"
        splits = [split for split in (self.train, self.test, self.judge) if split is not None]
        shapes = {split.images.shape[1:] for split in splits}
        assert len(shapes) == 1, f"pictures of different shapes {shapes}"
        for split in splits:
            found = (split.attributes.shape[1],)
            assert found == expected[1:], f"{found} attributes a picture, expected {expected[1:]}"


@dataclass(frozen=True)
class Context:
    """What a data set is told beside its own params.

    Attributes:
        image_size: height and width of its pictures.
        seed: of all that it draws by chance.
        text_length: tokens that a caption may have, start and end included.
        raw_dir: the machine's folder of downloads.
        root: of the workspace, where the folders that params name begin.
    """

    image_size: int
    seed: int
    text_length: int
    raw_dir: Path
    root: Path


class Dataset(Strict):
    """A data set that `data.dataset` can name.

    Its fields, if it has any, are the section `data.NAME` of params.yaml, in which every value is
    written: they have no defaults.
    """

    @abstractmethod
    def load(self, context: Context) -> DatasetSource:
        """Returns the data set.

        Raises:
            UserError: it cannot be read, or downloaded.
        """

    @abstractmethod
    def status(self, raw_dir: Path, root: Path) -> str:
        """Returns where the raw data lies, or how it will come, for `python cli.py doctor`.

        Args:
            raw_dir: as in `Context`.
            root: as in `Context`.

        Raises:
            UserError: it is not there, and prepare cannot get it.
        """
