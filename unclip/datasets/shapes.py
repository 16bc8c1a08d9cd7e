"""The built-in data set: coloured shapes on a plain ground, and a caption that says all of it.

The truth of every word is known, so evaluation can say which word of a prompt was painted.
Shapes are large and clear on purpose: what is to be studied is the models, not the eye. A picture
shows one shape, "a large red circle", or the harder two of `two_shapes`.
"""

from itertools import product
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field

from unclip.datasets import two_shapes
from unclip.datasets.base import Context, Dataset, DatasetSource
from unclip.datasets.drawing import (
    COLOURS,
    HELD_OUT,
    MARGIN,
    OUTLINES,
    SHAPES,
    TURN_JITTER,
    Array,
    Composition,
    around_zero,
    coverage,
    ink,
    on_ground,
)

# Nominal radii in pixels of a 32-pixel picture, from and to.
SIZES = {"small": (5.0, 6.0), "large": (10.0, 11.2)}
PROMPTS = [
    "a large red circle",
    "a small blue star",
    "a large green triangle",
    "a small yellow circle",
    "a large purple star",
    "a small orange square",
    "a large yellow triangle",
    "a small red square",
]
NUM_DRAWS = 9  # uniform numbers a picture: caption, radius, x, y, turn, 3 colour channels, ground


class Shapes(Dataset):
    """The built-in set: how many shapes a picture shows, and the sizes of the splits in pictures.

    A picture depends on (seed, split, its index) alone, so a larger split begins with the pictures
    of a smaller one. The test and judge splits hold all pairs, training all but `HELD_OUT`.
    """

    num_objects: Annotated[int, Field(ge=1, le=2)]
    num_train: Annotated[int, Field(ge=64, le=10**8)]
    num_test: Annotated[int, Field(ge=64, le=10**8)]
    num_judge: Annotated[int, Field(ge=64, le=10**8)]

    def load(self, context: Context) -> DatasetSource:
        """Returns the data set; a picture, its caption and attributes are drawn when read."""
        about = composition() if self.num_objects == 1 else two_shapes.composition()
        every = np.arange(len(about.captions), dtype=np.int32)
        seen = np.setdiff1d(every, about.held_out)
        counts = {"train": self.num_train, "test": self.num_test, "judge": self.num_judge}
        splits = {
            name: about.split(
                name, context.seed, count, seen if name == "train" else every, context.image_size
            )
            for name, count in counts.items()
        }
        return DatasetSource(
            captions=about.captions,
            attribute_names=about.attribute_names,
            attribute_values=about.attribute_values,
            caption_attributes=about.caption_attributes,
            held_out_captions=about.held_out,
            prompts=about.prompts,
            allow_flip=about.allow_flip,
            **splits,
        )

    def status(self, raw_dir: Path, root: Path) -> str:
        """Returns that there is nothing to wait for."""
        return "shapes is drawn, nothing is read"


def composition() -> Composition:
    """Returns pictures of one shape: 48 captions of size, colour and shape."""
    words = list(product(SIZES, COLOURS, SHAPES))
    lengths = (len(SIZES), len(COLOURS), len(SHAPES))
    return Composition(
        captions=[" ".join(["a", *each]) for each in words],
        attribute_names=["size", "colour", "shape"],
        attribute_values=[list(SIZES), list(COLOURS), list(SHAPES)],
        caption_attributes=np.array(list(np.ndindex(lengths)), dtype=np.int16),
        held_out=[i for i, (_, *pair) in enumerate(words) if tuple(pair) in HELD_OUT],
        prompts=list(PROMPTS),
        allow_flip=True,
        num_draws=NUM_DRAWS,
        draw=draw,
    )


def draw(draws: Array, attributes: npt.NDArray[np.int16], image_size: int) -> npt.NDArray[np.uint8]:
    """Returns pictures (N, 3, image_size, image_size) uint8.

    Args:
        draws: (N, NUM_DRAWS) in [0, 1).
        attributes: (N, 3), index of size, colour and shape.
        image_size: height and width; lengths scale with it.
    """
    size, colour, shape = attributes.T
    outlines = OUTLINES[shape]  # (N, 4)
    low, high = np.array(list(SIZES.values())).T[:, size]
    radius = (low + (high - low) * draws[:, 1]) * outlines[:, 2] * image_size / 32
    room = np.maximum(image_size / 2 - radius - MARGIN, 0.0)
    centre = image_size / 2 + room[:, None] * around_zero(draws[:, 2:4])
    turn = TURN_JITTER * around_zero(draws[:, 4])
    covered = coverage(outlines, radius, turn, centre, image_size)
    return on_ground(draws[:, 8:9], [ink(colour, draws[:, 5:8])], [covered])
