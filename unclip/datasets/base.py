"""What a data set is. To add one, write a `Dataset` and list it in `unclip.datasets.registry`.

Every process imports this to validate params.yaml, so a data set imports what takes long to load,
such as torch, inside the functions that need it.
"""

from abc import abstractmethod
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from unclip.config.strict import Strict


class Rows(Protocol):
    """An array (N, ...) that is read by slices: an array, a memory map, or drawn on demand.

    Slices are read in order, of pictures once each, so a source may draw or decode rows as they are
    read.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """Returns (N, ...)."""
        ...

    def __getitem__(self, rows: slice, /) -> npt.NDArray[Any]:
        """Returns the values of `rows`."""
        ...


@dataclass(frozen=True)
class Split:
    """Pictures with their captions and attributes.

    Attributes:
        images: (N, C, H, W) uint8.
        caption_index: (N,) int32, index into the source's captions.
        attributes: (N, A) int16, index into attribute_values[a]; -1 is unknown.
    """

    images: Rows
    caption_index: Rows
    attributes: Rows

    def __post_init__(self) -> None:
        lengths = {array.shape[0] for array in (self.images, self.caption_index, self.attributes)}
        assert len(lengths) == 1, f"arrays of different lengths {lengths}"


@dataclass(frozen=True)
class Description:
    """What is known of a data set apart from its pictures.

    Attributes:
        captions: K distinct captions.
        attribute_names: A names, for example "colour"; may be empty.
        attribute_values: the words for the values of each attribute.
        caption_attributes: (K, A) int16, the values that a picture painted from each caption must
            show; -1 is not stated.
        held_out_captions: indices of captions that the training split never shows.
        prompts: the captions of the sample grid, in order.
        allow_flip: whether a mirrored picture could belong to this data set, so that the decoder
            may learn it.
    """

    captions: list[str]
    attribute_names: list[str]
    attribute_values: list[list[str]]
    caption_attributes: npt.NDArray[np.int16]
    held_out_captions: list[int]
    prompts: list[str]
    allow_flip: bool

    def described(self) -> dict[str, Any]:
        """Returns these attributes by name."""
        return {field.name: getattr(self, field.name) for field in fields(Description)}


@dataclass(frozen=True)
class DatasetSource(Description):
    """A data set before it is prepared.

    Attributes:
        train: also the source of the validation split.
        test: never used to choose anything.
        judge: what the judge learns from; None is the training split.
    """

    train: Split
    test: Split
    judge: Split | None = None

    def __post_init__(self) -> None:
        assert self.caption_attributes.shape == (len(self.captions), len(self.attribute_names))
        assert len(self.attribute_values) == len(self.attribute_names)
        assert len(set(self.captions)) == len(self.captions), "captions must be distinct"


@dataclass(frozen=True)
class Context:
    """What a data set is given besides its own params.

    Attributes:
        image_size: height and width of its pictures.
        seed: the only source of its randomness.
        val_fraction: share of the training pictures that becomes the validation split.
        text_length: the most tokens of a caption, including start and end.
        raw_dir: the machine's folder of downloads.
        root: the workspace, to which folders in params.yaml are relative.
    """

    image_size: int
    seed: int
    val_fraction: float
    text_length: int
    raw_dir: Path
    root: Path


class Dataset(Strict):
    """A data set that `data.dataset` can name.

    Its fields, if any, are the section `data.NAME` of params.yaml. They have no defaults: every
    value is written in params.yaml.
    """

    @abstractmethod
    def load(self, context: Context) -> DatasetSource:
        """Returns the data set.

        Raises:
            UserError: it cannot be read or downloaded.
        """

    @abstractmethod
    def status(self, raw_dir: Path, root: Path) -> str:
        """Returns where the raw data is, or how it is obtained, for `python cli.py doctor`.

        Args:
            raw_dir: see `Context`.
            root: see `Context`.

        Raises:
            UserError: it is missing, and prepare cannot obtain it.
        """
