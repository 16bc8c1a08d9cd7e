"""What is varied, edited and interpolated: a picture file, an array, or a prompt."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from unclip.config.errors import UserError
from unclip.config.strict import one_line
from unclip.painting.system import Pictures, System
from unclip.pictures.files import names_picture, read_picture

Source = str | Path | Pictures  # a picture file, or a picture (C, H, W) uint8 of the system's size
Noise = Literal["fixed", "slerp"]


def is_prompt(source: Source) -> bool:
    """Returns whether a source is a prompt: a string that names no picture file."""
    return isinstance(source, str) and not names_picture(source)


def title_of(source: Source) -> str:
    """Returns the name of a picture file, or the prompt."""
    if not isinstance(source, str | Path):
        return "a picture"
    return one_line(str(source) if is_prompt(source) else Path(source).name)


def read_source(source: Source, system: System) -> Pictures:
    """Returns a picture (C, H, W) of the system's size and channels.

    Raises:
        UserError: the file cannot be read, or the array is of another size.
    """
    channels, size, _ = system.picture_shape
    if isinstance(source, str | Path):
        return read_picture(Path(source), size, channels)
    if source.shape != system.picture_shape or source.dtype != np.uint8:
        raise UserError(
            f"picture: is {source.shape} of {source.dtype}; expected {system.picture_shape} of "
            "uint8, channels first; give a file to have it brought to that"
        )
    return source


def require_fit(ends: Sequence[Source], noise: Noise | None, invert: bool) -> None:
    """Checks that one end is a picture to invert, and that the inverted noise is used.

    Raises:
        UserError: the options do not fit together.
    """
    if invert and all(is_prompt(end) for end in ends):
        raise UserError(
            "invert: finds the noise of a picture, but neither end is a picture; leave it out"
        )
    if invert and noise == "fixed":
        raise UserError(
            "invert: gives each end its own noise, but the noise 'fixed' keeps that of the start; "
            "leave one of them out"
        )
