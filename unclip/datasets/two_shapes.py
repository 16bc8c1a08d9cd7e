"""The harder pictures of the built-in set: two shapes, "a red circle above a blue square".

A model must bind each colour to its shape and put each shape in its place. The two always differ in
colour and in shape, so every caption requires both, and its words alone, without their order, never
tell which picture is meant.

A picture has one caption, which names the upper or left shape first. "Below" and "right of" would
be second captions of the same pictures, with no way to tell which one applies. Mirrored pictures do
not belong to this set either, because mirroring exchanges left and right.
"""

from itertools import product

import numpy as np
import numpy.typing as npt

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

RELATIONS = ("above", "left of")
RADII = (4.6, 5.6)  # nominal, in a picture of 32 pixels: the widest tips just fit into half of it
TILT = 2.5  # pixels, of 32, by which a shape strays from the line through both
PROMPTS = [
    "a red circle above a blue square",
    "a blue square above a red circle",
    "a red circle left of a blue square",
    "a blue square left of a red circle",
    "a red square above a blue circle",
    "a yellow star above a purple triangle",
    "a green triangle left of an orange star",
    "a purple square left of a yellow circle",
]
# Caption, background, position of both across their line; then for each shape: radius, position
# along the line, position across it, turn, 3 colour channels.
NUM_OWN_DRAWS = 7
NUM_DRAWS = 3 + 2 * NUM_OWN_DRAWS


def composition() -> Composition:
    """Returns the pictures of two shapes: 720 captions, 216 of them with a held-out pair."""
    things = list(product(range(len(COLOURS)), range(len(SHAPES))))
    rows = [
        (*first, relation, *second)
        for first, relation, second in product(things, range(len(RELATIONS)), things)
        if first[0] != second[0] and first[1] != second[1]
    ]
    colours, shapes = list(COLOURS), list(SHAPES)
    held_out = {(colours.index(colour), shapes.index(shape)) for colour, shape in HELD_OUT}
    return Composition(
        captions=[
            f"{_named(colours[c1], shapes[s1])} {RELATIONS[r]} {_named(colours[c2], shapes[s2])}"
            for c1, s1, r, c2, s2 in rows
        ],
        attribute_names=["colour_1", "shape_1", "relation", "colour_2", "shape_2"],
        attribute_values=[colours, shapes, list(RELATIONS), colours, shapes],
        caption_attributes=np.array(rows, dtype=np.int16),
        held_out_captions=[i for i, row in enumerate(rows) if {row[:2], row[3:]} & held_out],
        prompts=list(PROMPTS),
        allow_flip=False,
        num_draws=NUM_DRAWS,
        draw=draw,
    )


def _named(colour: str, shape: str) -> str:
    return f"{'an' if colour == 'orange' else 'a'} {colour} {shape}"


def draw(draws: Array, attributes: npt.NDArray[np.int16], image_size: int) -> npt.NDArray[np.uint8]:
    """Returns pictures (N, 3, image_size, image_size) uint8, each shape in its half.

    Args:
        draws: (N, NUM_DRAWS) in [0, 1).
        attributes: (N, 5), index of colour, shape, relation, colour and shape.
        image_size: height and width; lengths scale with it.
    """
    colour, shape, is_above = attributes[:, [0, 3]], attributes[:, [1, 4]], attributes[:, 2] == 0
    own = draws[:, 3:].reshape(len(draws), 2, NUM_OWN_DRAWS)  # for each shape
    outlines, half, tilt = OUTLINES[shape], image_size / 2, TILT * image_size / 32
    low, high = RADII
    radius = (low + (high - low) * own[..., 0]) * outlines[..., 2] * image_size / 32
    radius = np.minimum(radius, half / 2 - MARGIN)  # (N, 2); only the margin does not scale

    room = np.maximum(half / 2 - radius - MARGIN, 0.0)
    along = half * np.array([0.5, 1.5]) + room * around_zero(own[..., 1])
    room = np.maximum(half - radius.max(axis=1, keepdims=True) - MARGIN - tilt, 0.0)
    across = half + room * around_zero(draws[:, 2:3]) + tilt * around_zero(own[..., 2])
    # The line is vertical for "above" and horizontal for "left of".
    x, y = np.where(is_above[:, None], (across, along), (along, across))  # each (N, 2)
    turn = TURN_JITTER * around_zero(own[..., 3])

    inks, coverages = [], []
    for i in range(2):
        centre = np.stack([x[:, i], y[:, i]], axis=1)
        inks.append(ink(colour[:, i], own[:, i, 4:]))
        coverages.append(coverage(outlines[:, i], radius[:, i], turn[:, i], centre, image_size))
    return on_ground(draws[:, 1:2], inks, coverages)
