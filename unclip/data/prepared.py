"""The prepared folder: pictures on disk, read by memory map, and their normalisation.

Layout, written by `unclip.datasets.writer`:

    dataset.json                 everything that is not a picture
    <split>/images.npy           (N, C, H, W) uint8
    <split>/caption_index.npy    (N,) int32, index into captions
    <split>/attributes.npy       (N, A) int16, index into attribute_values[a]; -1 is unknown

Splits are train, val, test and, where the judge does not learn from train, judge.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor

from unclip.config.errors import reading
from unclip.config.strict import Strict
from unclip.core.npy import open_npy

FORMAT_VERSION = 1
STAGE = "prepare"  # makes the folder
Mean = Annotated[float, Field(ge=0.0, le=1.0)]  # of pixels in [0, 1]
Std = Annotated[float, Field(gt=0.0, le=1.0)]


class Description(Strict):
    """dataset.json, everything that is not a picture; see `Prepared`."""

    format_version: int
    name: str
    image_size: PositiveInt
    channels: Literal[1, 3]
    captions: Annotated[list[str], Field(min_length=1)]
    attribute_names: list[str]
    attribute_values: list[Annotated[list[str], Field(min_length=1)]]
    caption_attributes: list[list[int]]
    held_out_captions: list[NonNegativeInt]
    prompts: Annotated[list[str], Field(min_length=1)]
    allow_flip: bool
    judge_split: Literal["judge", "train"]
    counts: dict[str, NonNegativeInt]
    mean: list[Mean]
    std: list[Std]


@dataclass(frozen=True)
class Normalisation:
    """Pictures in [0, 255] to numbers of mean 0 and standard deviation 1, and back.

    Attributes:
        mean: of each channel over the training split, of pixels in [0, 1].
        std: likewise.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def normalise(self, images: Tensor) -> Tensor:
        """Returns (images / 255 - mean) / std, float32, from (B, C, H, W) uint8."""
        assert images.dtype == torch.uint8, f"normalise takes uint8 pictures, not {images.dtype}"
        mean, std = self._per_channel(images)
        return (images.float() / 255 - mean) / std

    def to_uint8(self, images: Tensor) -> Tensor:
        """Returns pictures (B, C, H, W) uint8, rounded and clamped: the inverse of `normalise`."""
        mean, std = self._per_channel(images)
        return ((images.float() * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)

    def value_range(self) -> tuple[Tensor, Tensor]:
        """Returns the normalised values of pixels 0 and 255, each (C, 1, 1): (low, high)."""
        ends = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1)
        low, high = self.normalise(ends.expand(2, len(self.mean), 1, 1))
        return low, high

    def _per_channel(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Returns mean and std (C, 1, 1) on the pictures' device."""
        channels = images.shape[-3]
        assert channels == len(self.mean), f"{tuple(images.shape)} for {len(self.mean)} channels"
        return _on_device(self, images.device)


@lru_cache(maxsize=16)  # copied to a device once
def _on_device(normalisation: Normalisation, device: torch.device) -> tuple[Tensor, Tensor]:
    both = torch.tensor([normalisation.mean, normalisation.std], dtype=torch.float32, device=device)
    mean, std = both[..., None, None]
    return mean, std


@dataclass(frozen=True)
class PreparedSplit:
    """One split.

    Attributes:
        images: (N, C, H, W) uint8, on disk: take what is needed by `gather`.
        caption_index: (N,) int32, on disk, index into `Prepared.captions`.
        attributes: (N, A) int16, on disk, index into `Prepared.attribute_values[a]`; -1 is unknown.
    """

    images: npt.NDArray[np.uint8]
    caption_index: Tensor
    attributes: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def gather(self, indices: Tensor | npt.NDArray[np.integer] | Sequence[int]) -> Tensor:
        """Returns pictures (B, C, H, W) uint8 at `indices` (B,), a copy in memory."""
        return torch.from_numpy(self.images[np.asarray(indices, dtype=np.int64)])


class Prepared:
    """A prepared data set, opened by its folder.

    Attributes:
        folder: where it lies.
        name: which data set it is.
        image_size: height and width in pixels.
        channels: 1 or 3.
        captions: K distinct captions.
        attribute_names: A names.
        attribute_values: for each attribute the words for its values.
        caption_attributes: (K, A) int64, what a picture painted from a caption must show; -1 is
            not stated.
        held_out_captions: indices of captions that train and val never show.
        prompts: the captions of the sample grid.
        allow_flip: whether a mirrored picture could be one of this data set.
        judge_split: the split that the judge learns from, "judge" or "train".
        counts: pictures in each split.
        normalisation: mean and std of the training split.

    Raises:
        UserError: dataset.json is missing, damaged or of another version.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        about = _read_description(self.folder / "dataset.json")
        self.name = about.name
        self.image_size = about.image_size
        self.channels = about.channels
        self.captions = about.captions
        self.attribute_names = about.attribute_names
        self.attribute_values = about.attribute_values
        rows = torch.tensor(about.caption_attributes, dtype=torch.int64)
        self.caption_attributes = rows.view(len(about.captions), len(about.attribute_names))
        self.held_out_captions = about.held_out_captions
        self.prompts = about.prompts
        self.allow_flip = about.allow_flip
        self.judge_split = about.judge_split
        self.counts = about.counts
        self.normalisation = Normalisation(tuple(about.mean), tuple(about.std))

    @property
    def mean(self) -> tuple[float, ...]:
        """Returns the mean of each channel, of pixels in [0, 1]."""
        return self.normalisation.mean

    @property
    def std(self) -> tuple[float, ...]:
        """Returns the standard deviation of each channel, of pixels in [0, 1]."""
        return self.normalisation.std

    def normalise(self, images: Tensor) -> Tensor:
        """Returns float32 pictures of mean 0 and std 1 from (B, C, H, W) uint8."""
        return self.normalisation.normalise(images)

    def to_uint8(self, images: Tensor) -> Tensor:
        """Returns uint8 pictures from normalised ones, rounded and clamped."""
        return self.normalisation.to_uint8(images)

    def value_range(self) -> tuple[Tensor, Tensor]:
        """Returns the lowest and the highest normalised value, each (C, 1, 1)."""
        return self.normalisation.value_range()

    def split(self, name: str, at_most: int | None = None) -> PreparedSplit:
        """Returns a split, memory-mapped: nothing of it is read before it is looked at.

        Args:
            name: "train", "val", "test" or "judge" (which may be "train" itself).
            at_most: takes the first so many pictures; None takes all.

        Raises:
            UserError: a file of it is missing, or not what dataset.json says.
        """
        assert name in ("train", "val", "test", "judge"), f"there is no split {name!r}"
        name = self.judge_split if name == "judge" else name
        folder, count, size = self.folder / name, self.counts[name], self.image_size
        shape = (count, self.channels, size, size)
        images = open_npy(folder / "images.npy", np.uint8, shape, made_by=STAGE)
        caption_index, attributes = (
            # Copy on write, since torch wants memory that may be written to.
            torch.from_numpy(
                open_npy(folder / f"{array}.npy", dtype, shape, made_by=STAGE, mode="c")
            )
            for array, dtype, shape in (
                ("caption_index", np.int32, (count,)),
                ("attributes", np.int16, (count, len(self.attribute_names))),
            )
        )
        return PreparedSplit(images[:at_most], caption_index[:at_most], attributes[:at_most])

    def real_pictures(self, captions: Sequence[str]) -> npt.NDArray[np.uint8] | None:
        """Returns the first test picture of each caption, (R, C, H, W), if every one has any."""
        test = self.split("test")
        found = []
        for caption in captions:
            if caption not in self.captions:
                return None
            rows = (test.caption_index == self.captions.index(caption)).nonzero()
            if len(rows) == 0:
                return None
            found.append(test.gather(rows[0]).numpy()[0])
        return np.stack(found)


def _read_description(path: Path) -> Description:
    """Returns what dataset.json says, of this version."""
    with reading(path, STAGE):
        about = Description.model_validate_json(path.read_text(encoding="utf-8"))
        if about.format_version != FORMAT_VERSION:
            raise ValueError(f"format version {about.format_version}, expected {FORMAT_VERSION}")
        return about
