"""Coloured shapes on a plain ground, drawn from uniform numbers when they are read.

What stands where, and which words tell of it, is the composition's: `shapes` or `two_shapes`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from unclip.core.seeding import derive_seed
from unclip.datasets.base import Split

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

GROUND = (236, 237, 241)
GROUND_JITTER = 10.0  # brightness, of 255
COLOUR_JITTER = 12.0  # each channel, of 255
TURN_JITTER = math.radians(12)
MARGIN = 1.0  # pixels between shape and border, so that no anti-aliased edge touches it
OUTLINES = np.array(list(SHAPES.values()), dtype=np.float64)  # (S, 4)
INKS = np.array(list(COLOURS.values()))  # (6, 3)


@dataclass(frozen=True)
class Composition:
    """What the pictures of a set show, and the words for it.

    Attributes:
        captions: K distinct captions.
        attribute_names: A names.
        attribute_values: for each attribute the words for its values.
        caption_attributes: (K, A) int16, what each caption states.
        held_out: indices of captions that training never shows.
        prompts: the captions of the sample grid.
        allow_flip: whether a mirrored picture keeps its caption.
        num_draws: uniform numbers a picture; the first chooses its caption.
        draw: (draws (N, num_draws), attributes (N, A), image_size) -> (N, 3, H, W) uint8.
    """

    captions: list[str]
    attribute_names: list[str]
    attribute_values: list[list[str]]
    caption_attributes: npt.NDArray[np.int16]
    held_out: list[int]
    prompts: list[str]
    allow_flip: bool
    num_draws: int
    draw: Callable[[Array, npt.NDArray[np.int16], int], npt.NDArray[np.uint8]]

    def split(
        self, name: str, seed: int, count: int, allowed: npt.NDArray[np.int32], image_size: int
    ) -> Split:
        """Returns `count` pictures whose captions are drawn uniformly from `allowed`.

        Args:
            name: of the split, which has a stream of random numbers of its own.
            seed: of all splits.
            count: pictures.
            allowed: indices of captions.
            image_size: height and width.
        """

        def captions(draws: Array) -> npt.NDArray[np.int32]:
            return allowed[(draws[:, 0] * len(allowed)).astype(np.int64)]

        def attributes(draws: Array) -> npt.NDArray[np.int16]:
            return self.caption_attributes[captions(draws)]

        def images(draws: Array) -> npt.NDArray[np.uint8]:
            parts = np.split(draws, range(128, len(draws), 128))  # that fit the processor's cache
            return np.concatenate([self.draw(part, attributes(part), image_size) for part in parts])

        stream, num_draws = derive_seed(seed, f"shapes {name}"), self.num_draws
        return Split(
            Drawn(stream, num_draws, (count, 3, image_size, image_size), images),
            Drawn(stream, num_draws, (count,), captions),
            Drawn(stream, num_draws, (count, len(self.attribute_names)), attributes),
        )


@dataclass(frozen=True)
class Drawn:
    """An array (N, ...) whose rows are worked out of the draws of their pictures when read.

    Attributes:
        seed: of the split's draws.
        num_draws: uniform numbers a picture.
        shape: (N, ...).
        make: draws (n, num_draws) in [0, 1) -> n rows.
    """

    seed: int
    num_draws: int
    shape: tuple[int, ...]
    make: Callable[[Array], npt.NDArray[Any]]

    def __getitem__(self, rows: slice, /) -> npt.NDArray[Any]:
        """Returns `rows`, drawn now."""
        start, stop, _ = rows.indices(self.shape[0])
        first = start - start % 4  # Philox makes four numbers at a time
        bits = np.random.Philox(self.seed).advance(first * self.num_draws // 4)
        draws = np.random.Generator(bits).random((stop - first, self.num_draws))
        return self.make(draws[start - first :])


def around_zero(uniform: Array) -> Array:
    """Returns numbers of [0, 1) spread over [-1, 1)."""
    return 2.0 * uniform - 1.0


def ink(colour: npt.NDArray[np.int16], uniform: Array) -> Array:
    """Returns RGB (N, 3) near each colour (N,), by draws (N, 3)."""
    return INKS[colour] + COLOUR_JITTER * around_zero(uniform)


def on_ground(
    uniform: Array, inks: Sequence[Array], coverages: Sequence[Array]
) -> npt.NDArray[np.uint8]:
    """Returns pictures (N, 3, H, W) of shapes that do not touch, on a ground by draws (N, 1).

    Args:
        uniform: of the brightness of the ground.
        inks: for each shape (N, 3).
        coverages: for each shape (N, H, W), the share of each pixel that it covers.
    """
    ground = (np.array(GROUND) + GROUND_JITTER * around_zero(uniform))[..., None, None]
    images = ground  # (N, 3, 1, 1)
    for colour, coverage in zip(inks, coverages, strict=True):
        images = images + (colour[..., None, None] - ground) * coverage[:, None]
    return np.rint(images).clip(0, 255).astype(np.uint8)


def coverage(outlines: Array, radius: Array, turn: Array, centre: Array, image_size: int) -> Array:
    """Returns the share of each pixel that the shape covers, (N, image_size, image_size).

    The plane is folded onto half of one tip, where the outline is a single straight edge from the
    tip (radius, 0) to the valley; the signed distance to it, in pixels, is the anti-aliasing. The
    circle of all tips ends them, since an edge alone would blur a sharp tip beyond itself.
    float64, so that processors whose sines differ in the last bit still round to equal bytes.

    Args:
        outlines: (N, 4), rows of OUTLINES.
        radius: (N,), of the tips, in pixels.
        turn: (N,), radians from where the outline points by itself.
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
    normal_x, normal_y = valley_y, radius - valley_x  # of the edge, outward
    edge = (distance * np.cos(folded) - radius) * normal_x + distance * np.sin(folded) * normal_y
    outside = np.maximum(edge / np.hypot(normal_x, normal_y), distance - radius)
    return np.clip(0.5 - outside, 0.0, 1.0)
