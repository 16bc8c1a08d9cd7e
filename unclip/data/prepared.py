"""Reads the prepared folder: memory-mapped pictures and their normalisation.

Layout, written by `unclip.datasets.writer`:

    dataset.json                 everything that is not a picture
    <split>/images.npy           (N, C, H, W) uint8
    <split>/caption_index.npy    (N,) int32, index into captions
    <split>/attributes.npy       (N, A) int16, index into attribute_values[a]; -1 is unknown

Splits are train, val, test and, where the judge does not learn from train, judge.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BeforeValidator, ConfigDict, Field, NonNegativeInt, PositiveInt
from torch import Tensor

from unclip.config.errors import reading
from unclip.config.strict import Strict
from unclip.core.npy import Mode, open_npy

FORMAT_VERSION = 1
STAGE = "prepare"  # which makes the folder
Mean = Annotated[float, Field(ge=0.0, le=1.0)]  # of pixels in [0, 1]
Std = Annotated[float, Field(gt=0.0, le=1.0)]
Table = Annotated[Tensor, BeforeValidator(lambda rows: torch.tensor(rows, dtype=torch.int64))]


@dataclass(frozen=True)
class Normalisation:
    """Maps pixels in [0, 255] to numbers of mean 0 and standard deviation 1, and back.

    Attributes:
        mean: the mean of each channel over the training split, for pixels in [0, 1].
        std: their standard deviation.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def normalise(self, images: Tensor) -> Tensor:
        """Returns (images / 255 - mean) / std, float32, from (B, C, H, W) uint8."""
        assert images.dtype == torch.uint8, f"normalise takes uint8 pictures, not {images.dtype}"
        mean, std = _on_device(self, images.device)
        return (images.float() / 255 - mean) / std

    def to_uint8(self, images: Tensor) -> Tensor:
        """Returns pictures (B, C, H, W) uint8, rounded and clamped: the inverse of `normalise`."""
        mean, std = _on_device(self, images.device)
        return ((images.float() * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)

    def value_range(self) -> tuple[Tensor, Tensor]:
        """Returns the normalised values of pixels 0 and 255, each (C, 1, 1): (low, high)."""
        ends = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1)
        low, high = self.normalise(ends.expand(2, len(self.mean), 1, 1))
        return low, high


@lru_cache(maxsize=16)  # copied to a device once
def _on_device(normalisation: Normalisation, device: torch.device) -> tuple[Tensor, Tensor]:
    """Returns mean and std, (C, 1, 1) each."""
    both = torch.tensor([normalisation.mean, normalisation.std], dtype=torch.float32, device=device)
    mean, std = both[..., None, None]
    return mean, std


@dataclass(frozen=True)
class PreparedSplit:
    """One split.

    Attributes:
        images: (N, C, H, W) uint8, on disk; `gather` reads the ones that are needed.
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


class Prepared(Strict):
    """A prepared data set: dataset.json, read from its folder.

    Attributes:
        folder: the prepared folder.
        name: the name of the data set.
        image_size: height and width in pixels.
        channels: the channels of a picture.
        captions: K distinct captions.
        attribute_names: A names.
        attribute_values: the words for the values of each attribute.
        caption_attributes: (K, A) int64, the values that a picture painted from each caption must
            show; -1 is not stated.
        held_out_captions: indices of captions that train and val never show.
        prompts: the captions of the sample grid.
        allow_flip: whether a mirrored picture could belong to this data set.
        judge_split: the split that the judge learns from.
        counts: the number of pictures in each split.
        mean: see `Normalisation`.
        std: see `Normalisation`.

    Raises:
        UserError: dataset.json is missing, damaged or of another version.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    folder: Path
    format_version: Literal[1]
    name: str
    image_size: PositiveInt
    channels: Literal[1, 3]
    captions: Annotated[list[str], Field(min_length=1)]
    attribute_names: list[str]
    attribute_values: list[Annotated[list[str], Field(min_length=1)]]
    caption_attributes: Table
    held_out_captions: list[NonNegativeInt]
    prompts: Annotated[list[str], Field(min_length=1)]
    allow_flip: bool
    judge_split: Literal["judge", "train"]
    counts: dict[str, NonNegativeInt]
    mean: list[Mean]
    std: list[Std]

    def __init__(self, folder: Path) -> None:
        path = folder / "dataset.json"
        with reading(path, STAGE):
            super().__init__(**json.loads(path.read_text(encoding="utf-8")) | {"folder": folder})

    @property
    def normalisation(self) -> Normalisation:
        """The normalisation of this data set's pictures."""
        return Normalisation(tuple(self.mean), tuple(self.std))

    def split(self, name: str, at_most: int | None = None) -> PreparedSplit:
        """Returns a memory-mapped split.

        Args:
            name: "train", "val", "test" or "judge", which may be "train" itself.
            at_most: the number of pictures to keep, from the beginning; None keeps all.

        Raises:
            UserError: a file is missing or does not match dataset.json.
        """
        assert name in ("train", "val", "test", "judge"), f"there is no split {name!r}"
        name = self.judge_split if name == "judge" else name

        def read(array: str, dtype: npt.DTypeLike, *row: int, mode: Mode = "r") -> npt.NDArray[Any]:
            path, shape = self.folder / name / f"{array}.npy", (self.counts[name], *row)
            return open_npy(path, dtype, shape, made_by=STAGE, mode=mode)[:at_most]

        images = read("images", np.uint8, self.channels, self.image_size, self.image_size)
        # Torch wants memory that may be written to, so these are copied on write.
        captions = read("caption_index", np.int32, mode="c")
        attributes = read("attributes", np.int16, len(self.attribute_names), mode="c")
        return PreparedSplit(images, torch.from_numpy(captions), torch.from_numpy(attributes))

    def real_pictures(self, captions: Sequence[str]) -> npt.NDArray[np.uint8] | None:
        """Returns the first test picture of each caption, (R, C, H, W); None if one has no picture.

        Where no test picture has a caption, it is the first of training, or else of validation.
        """
        place = {caption: index for index, caption in enumerate(self.captions)}
        found: dict[str, Tensor] = {}
        for split in map(self.split, ("val", "train", "test")):
            for caption in captions:
                rows = (split.caption_index == place.get(caption, -1)).nonzero()[:1, 0]
                found |= {caption: split.gather(rows)} if len(rows) else {}
        if not found.keys() >= set(captions):
            return None
        return torch.cat([found[caption] for caption in captions]).numpy()
