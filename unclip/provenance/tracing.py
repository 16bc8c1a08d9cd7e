"""The note of a saved picture: read, checked and put into words."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from unclip.config.errors import UserError
from unclip.config.layout import KINDS
from unclip.config.strict import one_line
from unclip.pictures.png import read_png_text

Pixels = npt.NDArray[np.uint8]

CHECKPOINT = "checkpoint."
LONGEST = 400  # characters of a value that are shown
FIRST = ("command", "description", "prompt", "seed", "prompts", "seeds")
PACKED = ("image_embed", "x_T")  # base64
SINGLE = ("index", "image_embed")  # what the note of a picture that can be painted again has


@dataclass(frozen=True)
class Traced:
    """A saved picture and its note."""

    path: Path
    pixels: Pixels  # (C, H, W)
    note: dict[str, str]
    hashes: dict[str, str]  # kind of network → SHA-256 of its weights, CLIP first

    @property
    def is_single(self) -> bool:
        """Whether it is a single picture, which can be painted again, and not a sheet."""
        return any(key in self.note for key in SINGLE)


def read_traced(path: Path) -> Traced:
    """Returns a picture with its note.

    Raises:
        UserError: it is no PNG, or was not painted by this project.
    """
    try:
        note = read_png_text(path)
        with Image.open(path, formats=["PNG"]) as image:
            pixels = np.atleast_3d(np.asarray(image)).transpose(2, 0, 1)
    except (Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise UserError(
            f"{path}: not a readable PNG ({one_line(str(error))}); expected a picture painted here"
        ) from None
    hashes = {kind: note[CHECKPOINT + kind] for kind in KINDS if CHECKPOINT + kind in note}
    if "decoder" not in hashes:
        raise UserError(
            f"{path}: carries no note of how it was painted; expected a PNG that this project "
            "painted and no other program has saved again"
        )
    for kind, value in hashes.items():
        if not re.fullmatch(r"[0-9a-f]{64}", value):
            raise UserError(
                f"{path}: {CHECKPOINT}{kind}: {one_line(value)[:80]} is no SHA-256; the note is "
                "damaged"
            )
    return Traced(path, pixels, note, hashes)


def describe_note(note: Mapping[str, str]) -> dict[str, str]:
    """Returns a note without its checkpoints, name → text, what was asked for first.

    Keys such as prior.steps are joined under prior; what does not print is escaped.
    """
    rest = {key: value for key, value in note.items() if not key.startswith(CHECKPOINT)}
    first = [key for key in FIRST if key in rest]
    lines: dict[str, str] = {}
    for key in [*first, *sorted(rest.keys() - set(first))]:
        name, _, part = key.partition(".")
        value = _shown(key, rest[key])
        value = f"{part} {value}" if part else value
        lines[name] = f"{lines[name]}, {value}" if name in lines else value
    return {one_line(name): value for name, value in lines.items()}


def _shown(key: str, value: str) -> str:
    if key in PACKED:
        return f"{len(value)} characters of packed numbers"
    shown = "; ".join(one_line(line) for line in value.split("\n"))
    return shown if len(shown) <= LONGEST else f"{shown[:LONGEST]}… ({len(value)} characters)"


def compare_pixels(before: Pixels, after: Pixels) -> str:
    """Returns in words how two pictures (C, H, W) differ; "" if they do not."""
    if before.shape != after.shape:
        shapes = (" × ".join(map(str, picture.shape)) for picture in (before, after))
        return "channels, height and width were {} and are {}".format(*shapes)
    distance = np.abs(before.astype(int) - after.astype(int))
    if not distance.any():
        return ""
    count, most = np.count_nonzero(distance), distance.max()
    return f"{count} of {distance.size} values differ, by at most {most} of 255"
