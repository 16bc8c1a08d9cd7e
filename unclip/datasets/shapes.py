"""The built-in data set: one coloured shape on a plain ground, and a caption that says all of it.

The truth of every word is known, so evaluation can say which word of a prompt was painted.
Shapes are large and clear on purpose: what is to be studied is the models, not the eye.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from unclip.datasets.base import DatasetSource, Split
from unclip.seeding import derive_seed

Array = npt.NDArray[np.float64]


class Outline(NamedTuple):
    """A star of `points` tips; a regular polygon is a star whose edges happen to be straight.

    Attributes:
        points: number of tips.
        inner: radius of the valleys between the tips, as a share of the tips' radius.
        reach: radius of the tips, as a share of the picture's nominal radius. It makes the areas
            alike, so that a shape can not be told by its mass and a small star is no speck.
        turn: radians from "one tip points up".
    """

    points: int
    inner: float
    reach: float
    turn: float


def _polygon(points: int, reach: float, turn: float = 0.0) -> Outline:
    return Outline(points, math.cos(math.pi / points), reach, turn)


# Nominal radii in pixels of a 32-pixel picture, from and to.
SIZES = {"small": (5.0, 6.0), "large": (10.0, 11.2)}
COLOURS = {
    "red": (214, 32, 40),
    "orange": (242, 126, 18),
    "yellow": (246, 216, 12),
    "green": (34, 158, 66),
    "blue": (36, 84, 222),
    "purple": (146, 44, 186),
}
SHAPES = {
    "circle": _polygon(64, reach=1.0),  # at radius 11 it misses the circle by 0.013 pixels
    "square": _polygon(4, reach=1.2, turn=math.pi / 4),
    "triangle": _polygon(3, reach=1.25),
    "star": Outline(5, inner=0.45, reach=1.25, turn=0.0),
}
# Never in training, to measure composition: every colour and every shape is seen in other pairs.
HELD_OUT = {("purple", "circle"), ("yellow", "square"), ("blue", "triangle"), ("green", "star")}
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

GROUND = (236, 237, 241)
GROUND_JITTER = 10.0  # brightness, of 255
COLOUR_JITTER = 12.0  # each channel, of 255
TURN_JITTER = math.radians(12)
MARGIN = 1.0  # pixels between shape and border, so that no anti-aliased edge touches it
NUM_DRAWS = 9  # uniform numbers a picture: caption, radius, x, y, turn, 3 colour channels, ground

_WORDS = list(product(SIZES, COLOURS, SHAPES))
_CAPTIONS = [" ".join(["a", *words]) for words in _WORDS]
# (48, 3): position of each word in its own list.
_CAPTION_ATTRIBUTES = np.array(
    list(np.ndindex(len(SIZES), len(COLOURS), len(SHAPES))), dtype=np.int16
)


def load(
    *, image_size: int, seed: int, raw_dir: Path, num_train: int, num_test: int, num_judge: int
) -> DatasetSource:
    """Returns the data set; a picture, its caption and attributes are drawn when they are read.

    A picture depends on (seed, split, its index) alone, so a larger split begins with the pictures
    of a smaller one. The test and judge splits hold all pairs, training all but `HELD_OUT`.

    Args:
        image_size: height and width.
        seed: of all splits; each has a stream of its own.
        raw_dir: not used, since nothing is read.
        num_train: pictures for training and validation.
        num_test: pictures for the test.
        num_judge: pictures that the judge learns from.
    """
    held_out = [i for i, (_, *pair) in enumerate(_WORDS) if tuple(pair) in HELD_OUT]
    every = np.arange(len(_CAPTIONS), dtype=np.int32)
    seen = np.setdiff1d(every, held_out)
    return DatasetSource(
        name="shapes",
        captions=list(_CAPTIONS),
        attribute_names=["size", "colour", "shape"],
        attribute_values=[list(SIZES), list(COLOURS), list(SHAPES)],
        caption_attributes=_CAPTION_ATTRIBUTES,
        held_out_captions=held_out,
        prompts=list(PROMPTS),
        allow_flip=True,
        train=_split("train", seed, num_train, seen, image_size),
        test=_split("test", seed, num_test, every, image_size),
        judge=_split("judge", seed, num_judge, every, image_size),
    )


@dataclass(frozen=True)
class Drawn:
    """An array (N, ...) whose rows are worked out of the draws of their pictures when read.

    Attributes:
        seed: of the split's draws.
        shape: (N, ...).
        make: draws (n, NUM_DRAWS) in [0, 1) -> n rows.
    """

    seed: int
    shape: tuple[int, ...]
    make: Callable[[Array], npt.NDArray[Any]]

    def __getitem__(self, rows: slice, /) -> npt.NDArray[Any]:
        """Returns `rows`, drawn now."""
        start, stop, _ = rows.indices(self.shape[0])
        first = start - start % 4  # Philox makes four numbers at a time
        bits = np.random.Philox(self.seed).advance(first * NUM_DRAWS // 4)
        draws = np.random.Generator(bits).random((stop - first, NUM_DRAWS))
        return self.make(draws[start - first :])


def _split(
    name: str, seed: int, count: int, allowed: npt.NDArray[np.int32], image_size: int
) -> Split:
    """Returns `count` pictures whose captions are drawn uniformly from `allowed`."""

    def captions(draws: Array) -> npt.NDArray[np.int32]:
        return allowed[(draws[:, 0] * len(allowed)).astype(np.int64)]

    def attributes(draws: Array) -> npt.NDArray[np.int16]:
        return _CAPTION_ATTRIBUTES[captions(draws)]

    def images(draws: Array) -> npt.NDArray[np.uint8]:
        parts = np.split(draws, range(128, len(draws), 128))  # that fit the processor's cache
        return np.concatenate([draw(part, attributes(part), image_size) for part in parts])

    stream = derive_seed(seed, f"shapes {name}")
    return Split(
        Drawn(stream, (count, 3, image_size, image_size), images),
        Drawn(stream, (count,), captions),
        Drawn(stream, (count, len(_CAPTION_ATTRIBUTES[0])), attributes),
    )


def draw(draws: Array, attributes: npt.NDArray[np.int16], image_size: int) -> npt.NDArray[np.uint8]:
    """Returns pictures (N, 3, image_size, image_size) uint8.

    Args:
        draws: (N, NUM_DRAWS) in [0, 1).
        attributes: (N, 3), index of size, colour and shape.
        image_size: height and width; lengths scale with it.
    """
    size, colour, shape = attributes.T
    outlines = np.array(list(SHAPES.values()), dtype=np.float64)[shape]  # (N, 4)
    reach, turn = outlines[:, 2], outlines[:, 3] + TURN_JITTER * _around_zero(draws[:, 4])
    low, high = np.array(list(SIZES.values())).T[:, size]
    radius = (low + (high - low) * draws[:, 1]) * reach * image_size / 32
    room = np.maximum(image_size / 2 - radius - MARGIN, 0.0)
    centre = image_size / 2 + room[:, None] * _around_zero(draws[:, 2:4])

    coverage = _coverage(outlines[:, 0], outlines[:, 1], radius, turn, centre, image_size)
    ink = np.array(list(COLOURS.values()))[colour] + COLOUR_JITTER * _around_zero(draws[:, 5:8])
    ground = np.array(GROUND) + GROUND_JITTER * _around_zero(draws[:, 8:9])
    ink, ground = ink[..., None, None], ground[..., None, None]  # (N, 3, 1, 1)
    images = ground + (ink - ground) * coverage[:, None]
    return np.rint(images).clip(0, 255).astype(np.uint8)


def _around_zero(uniform: Array) -> Array:
    return 2.0 * uniform - 1.0


def _coverage(
    points: Array, inner: Array, radius: Array, turn: Array, centre: Array, image_size: int
) -> Array:
    """Returns the share of each pixel that the shape covers, (N, image_size, image_size).

    The plane is folded onto half of one tip, where the outline is a single straight edge from the
    tip (radius, 0) to the valley; the signed distance to it, in pixels, is the anti-aliasing. The
    circle of all tips ends them, since an edge alone would blur a sharp tip beyond itself.
    float64, so that processors whose sines differ in the last bit still round to equal bytes.
    """
    points, inner, radius, turn = (v[:, None, None] for v in (points, inner, radius, turn))
    pixels = np.arange(image_size) + 0.5
    x = pixels[None, None, :] - centre[:, 0, None, None]
    y = pixels[None, :, None] - centre[:, 1, None, None]
    half = np.pi / points
    angle = np.arctan2(x, -y) - turn  # 0 is up
    folded = np.abs((angle + half) % (2 * half) - half)
    distance = np.hypot(x, y)

    valley_x, valley_y = radius * inner * np.cos(half), radius * inner * np.sin(half)
    normal_x, normal_y = valley_y, radius - valley_x  # of the edge, outward
    edge = (distance * np.cos(folded) - radius) * normal_x + distance * np.sin(folded) * normal_y
    outside = np.maximum(edge / np.hypot(normal_x, normal_y), distance - radius)
    return np.clip(0.5 - outside, 0.0, 1.0)
