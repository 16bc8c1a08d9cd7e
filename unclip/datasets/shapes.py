"""The built-in data set: coloured shapes on a plain background, with complete captions.

The truth of every word is known, so evaluation can tell which words of a prompt were painted.
Shapes are large and clear on purpose: the models are what is studied. A picture shows one shape, "a
large red circle", or two, which is harder (see `two_shapes`).
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

# Lowest and highest nominal radius in a picture of 32 pixels.
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
NUM_DRAWS = 9  # caption, radius, x, y, turn, 3 colour channels, background


class Shapes(Dataset):
    """The built-in set: the shapes in a picture, and the pictures in each split.

    A picture depends only on the seed, its split and its index, so a larger split begins with the
    pictures of a smaller one. The test and judge splits show all pairs of colour and shape, the
    training split all except `HELD_OUT`.
    """

    num_objects: Annotated[int, Field(ge=1, le=2)]
    num_train: Annotated[int, Field(ge=64, le=10**8)]
    num_test: Annotated[int, Field(ge=64, le=10**8)]
    num_judge: Annotated[int, Field(ge=64, le=10**8)]

    def load(self, context: Context) -> DatasetSource:
        """Returns the data set, whose pictures are drawn when they are read."""
        about = composition() if self.num_objects == 1 else two_shapes.composition()
        every = np.arange(len(about.captions), dtype=np.int32)
        seen = np.setdiff1d(every, about.held_out_captions)
        seed, size = context.seed, context.image_size
        return DatasetSource(
            **about.described(),
            train=about.split("train", seed, self.num_train, seen, size),
            test=about.split("test", seed, self.num_test, every, size),
            judge=about.split("judge", seed, self.num_judge, every, size),
        )

    def status(self, raw_dir: Path, root: Path) -> str:
        """Returns that the pictures need no files."""
        return "shapes is drawn, nothing is read"


def composition() -> Composition:
    """Returns the pictures of one shape: 48 captions of size, colour and shape."""
    words = list(product(SIZES, COLOURS, SHAPES))
    lengths = (len(SIZES), len(COLOURS), len(SHAPES))
    return Composition(
        captions=[" ".join(["a", *each]) for each in words],
        attribute_names=["size", "colour", "shape"],
        attribute_values=[list(SIZES), list(COLOURS), list(SHAPES)],
        caption_attributes=np.array(list(np.ndindex(lengths)), dtype=np.int16),
        held_out_captions=[i for i, (_, *pair) in enumerate(words) if tuple(pair) in HELD_OUT],
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
