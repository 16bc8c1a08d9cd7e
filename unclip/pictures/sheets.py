"""Sheets of pictures for people to look at.

Pictures are uint8, channels first, with one channel (grey) or three (RGB). Every function returns
an RGB image and writes no file. The same input gives the same pixels, as far as `fonts` can.
"""

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from unclip.pictures.fonts import measure, write

Images = npt.NDArray[np.uint8]

PAPER, INK, MUTED, LINE = "#FAFAF7", "#1F2328", "#6E7074", "#D8D8D2"

SHEET_WIDTH = 1600  # pixels; a sheet is enlarged up to this width
LARGEST_CELL = 192  # pixels; few pictures make a narrower sheet, not a wall of squares
MARGIN, GAP, WIDE_GAP = 40, 8, 28
PROMPT_WIDTH = 256
CAPTION, SMALL, PROMPT = 15, 16, 20  # pixels, the sizes of the font


def grid(
    images: Images,
    prompts: Sequence[str],
    real: Images | None = None,
    headings: Sequence[str] | None = None,
) -> Image.Image:
    """Returns the sample sheet: a row for each prompt, a column for each seed, a real one first.

    Args:
        images: (R, N, C, H, W), N painted pictures of each prompt.
        prompts: R prompts, beside their rows.
        real: (R, C, H, W), a real picture of each prompt.
        headings: N of them, if the columns are not seeds; without `real` only.
    """
    assert images.ndim == 5, f"images: expected (R, N, C, H, W), got {images.shape}"
    if real is None:
        return _sheet(images, prompts, dict(enumerate(headings or ["painted"])))
    wanted = (images.shape[0], *images.shape[2:])
    assert real.shape == wanted, f"real: expected {wanted}, got {real.shape}"
    both = np.concatenate([real[:, None], images], axis=1)
    return _sheet(both, prompts, {0: "real", 1: "painted"}, breaks=[1])


def trajectory(frames: Images, prompts: Sequence[str], timesteps: Sequence[int]) -> Image.Image:
    """Returns the reverse diffusion: a row for each prompt, from noise to picture.

    Args:
        frames: (R, M, C, H, W), M moments of each prompt.
        prompts: R prompts.
        timesteps: the M values of t above the columns.
    """
    assert frames.ndim == 5, f"frames: expected (R, M, C, H, W), got {frames.shape}"
    assert frames.shape[1] == len(timesteps), f"{frames.shape} but {len(timesteps)} timesteps"
    headings = {column: f"{int(t)}" for column, t in enumerate(timesteps)}
    headings[0] = f"t = {headings[0]}"
    return _sheet(frames, prompts, headings)


def strip(
    images: Images,
    label: str,
    headings: Sequence[str],
    given: tuple[Images | None, Images | None] = (None, None),
) -> Image.Image:
    """Returns one row of painted pictures, set apart from those that they were made from.

    Args:
        images: (N, C, H, W), painted.
        label: beside the row.
        headings: N of them, above the pictures.
        given: pictures (C, H, W) to show before and after the painted ones, or None.
    """
    assert len(images) == len(headings), f"{images.shape} but {len(headings)} headings"
    before, after = given
    row, above, breaks = list(images), list(headings), []
    if before is not None:
        row, above, breaks = [before, *row], ["given", *above], [1]
    if after is not None:
        row, above, breaks = [*row, after], [*above, "given"], [*breaks, len(row)]
    return _sheet(np.stack(row)[None], [label], dict(enumerate(above)), breaks)


def film(images: Images, captions: Sequence[str], headings: Sequence[str]) -> list[Image.Image]:
    """Returns the frames of a film, all of one size, with N pictures side by side.

    Args:
        images: (F, N, C, H, W), F moments of N pictures.
        captions: N of them, beneath the pictures.
        headings: F of them, each in the corner of its frame.
    """
    assert images.ndim == 5, f"images: expected (F, N, C, H, W), got {images.shape}"
    frames = [preview(moment, captions, columns=5) for moment in images]
    for frame, heading in zip(frames, headings, strict=True):
        write(ImageDraw.Draw(frame), (MARGIN, MARGIN - 11), heading, SMALL, MUTED, "ls")
    return frames


def neighbours(images: Images) -> Image.Image:
    """Returns pictures above the training pictures nearest to them, the nearest pairs first.

    Args:
        images: (4, K, C, H, W): painted pictures, their neighbours, real ones, their neighbours.
    """
    assert images.ndim == 5, f"images: expected (4, K, C, H, W), got {images.shape}"
    nearest = "nearest training picture"
    labels = ["painted, nearest first", nearest, "real test picture, nearest first", nearest]
    return _sheet(images, labels, {})


def preview(images: Images, captions: Sequence[str], columns: int = 8) -> Image.Image:
    """Returns pictures (N, C, H, W) in rows, each with its caption in small print below."""
    assert images.ndim == 4, f"images: expected (N, C, H, W), got {images.shape}"
    assert 0 < len(images) == len(captions), f"{images.shape} but {len(captions)} captions"
    columns = min(columns, len(images))
    gap = 2 * GAP
    width = images.shape[-1]
    scale = _fit(width, SHEET_WIDTH - 2 * MARGIN - (columns - 1) * gap, columns)
    cell, height = width * scale, images.shape[-2] * scale
    lines = [wrap_text(caption, CAPTION, cell) for caption in captions]
    rows = [lines[start : start + columns] for start in range(0, len(lines), columns)]
    heights = [height + 6 + 20 * max(len(entry) for entry in row) for row in rows]
    size = (columns * (cell + gap) - gap, sum(heights) + gap * (len(rows) - 1))
    sheet = Image.new("RGB", (2 * MARGIN + size[0], 2 * MARGIN + size[1]), PAPER)
    draw, y = ImageDraw.Draw(sheet), MARGIN
    for row, (entries, row_height) in enumerate(zip(rows, heights, strict=True)):
        for column, entry in enumerate(entries):
            x = MARGIN + column * (cell + gap)
            _place(sheet, images[row * columns + column], x, y, scale)
            for number, line in enumerate(entry):
                at = (x + cell / 2, y + height + 6 + 20 * number)
                write(draw, at, line, CAPTION, MUTED, "ma")
        y += row_height + gap
    return sheet


def wrap_text(text: str, size: int, width: int) -> list[str]:
    """Returns lines of at most `width` pixels, `size` being the font's; nothing is lost.

    A wider word is broken after a hyphen or underscore if that suffices, else anywhere.
    """
    lines = [""]
    for word in text.split():
        joined = f"{lines[-1]} {word}".strip()
        if measure(joined, size) <= width:
            lines[-1] = joined
            continue
        if lines[-1]:
            lines.append("")
        for part in re.split(r"(?<=[-_])", word):
            is_too_wide = measure(part, size) > width
            for piece in part if is_too_wide else [part]:
                if lines[-1] and measure(lines[-1] + piece, size) > width:
                    lines.append("")
                lines[-1] += piece
    return lines


def _sheet(
    images: Images,
    prompts: Sequence[str],
    headings: Mapping[int, str],
    breaks: Sequence[int] = (),
) -> Image.Image:
    """Returns rows of (R, K, C, H, W) beside their prompts, a wide gap before columns `breaks`.

    A heading is left out if the one before it leaves no room.
    """
    count, columns, _, height, width = images.shape
    assert 0 < count == len(prompts), f"{images.shape} but {len(prompts)} prompts"
    lines = [wrap_text(prompt, PROMPT, PROMPT_WIDTH) for prompt in prompts]
    text_width = math.ceil(max(measure(line, PROMPT) for entry in lines for line in entry))
    left = MARGIN + text_width + WIDE_GAP
    gaps = (columns - 1) * GAP + (WIDE_GAP - GAP) * len(breaks)
    scale = _fit(width, SHEET_WIDTH - left - MARGIN - gaps, columns)
    lefts = [
        left + c * (width * scale + GAP) + (WIDE_GAP - GAP) * sum(c >= b for b in breaks)
        for c in range(columns)
    ]
    heights = [max(height * scale, 27 * len(entry)) for entry in lines]
    top = MARGIN + 28
    size = (lefts[-1] + width * scale + MARGIN, top + sum(heights) + GAP * (count - 1) + MARGIN)
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    free = 0.0
    for column, heading in headings.items():
        if lefts[column] >= free:
            write(draw, (lefts[column], top - 11), heading, SMALL, MUTED, "ls")
            free = lefts[column] + measure(heading, SMALL) + GAP
    for row, (entry, row_height) in enumerate(zip(lines, heights, strict=True)):
        y = top + sum(heights[:row]) + GAP * row
        for number, line in enumerate(entry):
            middle = y + row_height / 2 + 27 * (number - (len(entry) - 1) / 2)
            write(draw, (MARGIN, middle), line, PROMPT, INK, "lm")
        for column, x in enumerate(lefts):
            _place(sheet, images[row, column], x, y + (row_height - height * scale) // 2, scale)
    return sheet


def _fit(width: int, room: int, columns: int) -> int:
    """Returns the integer factor, at least 1, that enlarges pictures to fill `room`."""
    return max(1, min(room // (columns * width), LARGEST_CELL // width))


def _place(sheet: Image.Image, image: Images, x: int, y: int, scale: int) -> None:
    """Pastes an enlarged picture, with a hairline around it for white pictures on white paper."""
    picture = _enlarge(image, scale)
    box = (x - 1, y - 1, x + picture.width, y + picture.height)
    ImageDraw.Draw(sheet).rectangle(box, outline=LINE)
    sheet.paste(picture, (x, y))


def _enlarge(image: Images, scale: int) -> Image.Image:
    """Returns (C, H, W) as RGB, every pixel a block of scale × scale (no blur)."""
    assert image.dtype == np.uint8, f"pictures are uint8, not {image.dtype}"
    assert image.shape[0] in (1, 3), f"expected 1 or 3 channels first, got {image.shape}"
    rgb = np.broadcast_to(image, (3, *image.shape[1:])).transpose(1, 2, 0)
    return Image.fromarray(np.ascontiguousarray(rgb.repeat(scale, 0).repeat(scale, 1)))
