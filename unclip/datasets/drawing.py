"""Coloured shapes on a plain background, drawn from uniform numbers when they are read.

A composition, in `shapes` or `two_shapes`, says what goes where and which words describe it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from unclip.core.seeding import derive_seed
from unclip.datasets.base import Description, Split

Array = npt.NDArray[np.float64]


class Outline(NamedTuple):
    """A star with `points` tips; a regular polygon is a star whose edges happen to be straight.

    Attributes:
        points: number of tips.
        inner: radius of the valleys between the tips, relative to the radius of the tips.
        reach: radius of the tips, relative to the picture's nominal radius. It makes the areas
            similar, so that area does not give a shape away and a small star is no speck.
        turn: rotation in radians; at 0 one tip points up.
    """

    points: int
    inner: float
    reach: float
    turn: float


def _polygon(points: int, reach: float, turn: float = 0.0) -> Outline:
    return Outline(points, math.cos(math.pi / points), reach, turn)


COLOURS = {
    "red": (214, 32, 40),
    "orange": (242, 126, 18),
    "yellow": (246, 216, 12),
    "green": (34, 158, 66),
    "blue": (36, 84, 222),
    "purple": (146, 44, 186),
}
SHAPES = {
    "circle": _polygon(64, reach=1.0),  # at radius 11 it is off a circle by 0.013 pixels
    "square": _polygon(4, reach=1.2, turn=math.pi / 4),
    "triangle": _polygon(3, reach=1.25),
    "star": Outline(5, inner=0.45, reach=1.25, turn=0.0),
}
# Never in training, to measure composition; every colour and shape is seen in other pairs.
HELD_OUT = {("purple", "circle"), ("yellow", "square"), ("blue", "triangle"), ("green", "star")}

GROUND = (236, 237, 241)
GROUND_JITTER = 10.0  # brightness, of 255
COLOUR_JITTER = 12.0  # each channel, of 255
TURN_JITTER = math.radians(12)
MARGIN = 1.0  # pixels between shape and border, so that no anti-aliased edge touches it
OUTLINES = np.array(list(SHAPES.values()), dtype=np.float64)  # (S, 4)
INKS = np.array(list(COLOURS.values()))  # (6, 3)


@dataclass(frozen=True)
class Composition(Description):
    """What the pictures of a set show, and how they are drawn.

    Attributes:
        num_draws: uniform numbers for each picture; the first chooses its caption.
        draw: (draws (N, num_draws), attributes (N, A), image_size) -> (N, 3, H, W) uint8.
    """

    num_draws: int
    draw: Callable[[Array, npt.NDArray[np.int16], int], npt.NDArray[np.uint8]]

    def split(
        self, name: str, seed: int, count: int, allowed: npt.NDArray[np.int32], image_size: int
    ) -> Split:
        """Returns `count` pictures whose captions are drawn uniformly from `allowed`.

        Args:
            name: the name of the split, which has its own random numbers.
            seed: the seed of all splits.
            count: the number of pictures.
            allowed: indices of captions.
            image_size: height and width.
        """

        def captions(draws: Array) -> npt.NDArray[np.int32]:
            return allowed[(draws[:, 0] * len(allowed)).astype(np.int64)]

        def attributes(draws: Array) -> npt.NDArray[np.int16]:
            return self.caption_attributes[captions(draws)]

        def images(draws: Array) -> npt.NDArray[np.uint8]:
            parts = np.split(draws, range(128, len(draws), 128))  # small enough for the CPU's cache
            return np.concatenate([self.draw(part, attributes(part), image_size) for part in parts])

        stream, num_draws = derive_seed(seed, f"shapes {name}"), self.num_draws
        return Split(
            Drawn(stream, num_draws, (count, 3, image_size, image_size), images),
            Drawn(stream, num_draws, (count,), captions),
            Drawn(stream, num_draws, (count, len(self.attribute_names)), attributes),
        )


@dataclass(frozen=True)
class Drawn:
    """An array (N, ...) whose rows are computed from random numbers when they are read.

    Attributes:
        seed: the seed of the split's draws.
        num_draws: uniform numbers for each picture.
        shape: (N, ...).
        make: draws (n, num_draws) in [0, 1) -> n rows.
    """

    seed: int
    num_draws: int
    shape: tuple[int, ...]
    make: Callable[[Array], npt.NDArray[Any]]

    def __getitem__(self, rows: slice, /) -> npt.NDArray[Any]:
        """Returns the values of `rows`, drawn now."""
        start, stop, _ = rows.indices(self.shape[0])
        first = start - start % 4  # Philox generates four numbers at a time
        bits = np.random.Philox(self.seed).advance(first * self.num_draws // 4)
        draws = np.random.Generator(bits).random((stop - first, self.num_draws))
        return self.make(draws[start - first :])


def around_zero(uniform: Array) -> Array:
    """Returns numbers in [-1, 1) from numbers in [0, 1)."""
    return 2.0 * uniform - 1.0


def ink(colour: npt.NDArray[np.int16], uniform: Array) -> Array:
    """Returns RGB values (N, 3) near each colour (N,), varied by draws (N, 3)."""
    return INKS[colour] + COLOUR_JITTER * around_zero(uniform)


def on_ground(
    uniform: Array, inks: Sequence[Array], coverages: Sequence[Array]
) -> npt.NDArray[np.uint8]:
    """Returns pictures (N, 3, H, W) of shapes that do not touch, on a plain background.

    Args:
        uniform: (N, 1), draws for the brightness of the background.
        inks: (N, 3) for each shape.
        coverages: (N, H, W) for each shape, the share of each pixel that it covers.
    """
    ground = (np.array(GROUND) + GROUND_JITTER * around_zero(uniform))[..., None, None]
    images = ground  # (N, 3, 1, 1)
    for colour, coverage in zip(inks, coverages, strict=True):
        images = images + (colour[..., None, None] - ground) * coverage[:, None]
    return np.rint(images).clip(0, 255).astype(np.uint8)


def coverage(outlines: Array, radius: Array, turn: Array, centre: Array, image_size: int) -> Array:
    """Returns the share of each pixel that the shape covers, (N, image_size, image_size).

    The plane is folded onto half of one tip, where the outline is a single straight edge from the
    tip (radius, 0) to the valley; the signed distance to it, in pixels, gives the anti-aliasing.
    The circle through the tips bounds them, because an edge alone would blur a sharp tip beyond its
    end. float64, so that CPUs whose sines differ in the last bit still round to equal bytes.

    Args:
        outlines: (N, 4), rows of OUTLINES.
        radius: (N,), of the tips, in pixels.
        turn: (N,), rotation in radians, added to the outline's own.
        centre: (N, 2), x and y in pixels.
        image_size: height and width.
    """
    points, inner, radius, turn = (
        v[:, None, None] for v in (outlines[:, 0], outlines[:, 1], radius, outlines[:, 3] + turn)
    )
    pixels = np.arange(image_size) + 0.5
    x = pixels[None, None, :] - centre[:, 0, None, None]
    y = pixels[None, :, None] - centre[:, 1, None, None]
    half = np.pi / points
    angle = np.arctan2(x, -y) - turn  # 0 is up
    folded = np.abs((angle + half) % (2 * half) - half)
    distance = np.hypot(x, y)

    valley_x, valley_y = radius * inner * np.cos(half), radius * inner * np.sin(half)
    normal_x, normal_y = valley_y, radius - valley_x  # the edge's outward normal
    edge = (distance * np.cos(folded) - radius) * normal_x + distance * np.sin(folded) * normal_y
    outside = np.maximum(edge / np.hypot(normal_x, normal_y), distance - radius)
    return np.clip(0.5 - outside, 0.0, 1.0)
