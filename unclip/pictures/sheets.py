"""Sheets of pictures for people to look at.

Pictures come as uint8, channels first, one channel (grey) or three (RGB); every function returns
an RGB image and writes no file, so that tests, stages and notebooks share them. Same input, same
pixels: all text is set in the DejaVu Sans that matplotlib ships, whatever fonts a machine has.
"""

import math
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

Images = npt.NDArray[np.uint8]

PAPER, INK, MUTED, LINE = "#FAFAF7", "#1F2328", "#6E7074", "#D8D8D2"

SHEET_WIDTH = 1600  # pixels; a sheet is enlarged up to this width
LARGEST_CELL = 192  # pixels; few pictures make a narrower sheet, not a wall of squares
MARGIN, GAP, WIDE_GAP = 40, 8, 28
PROMPT_WIDTH = 256


def grid(
    images: Images,
    prompts: Sequence[str],
    real: Images | None = None,
    headings: Sequence[str] | None = None,
) -> Image.Image:
    """Returns the sample sheet: one row a prompt, one column a seed, a real picture first.

    Args:
        images: (R, N, C, H, W), N painted pictures of each prompt.
        prompts: R prompts, wrapped beside their rows.
        real: (R, C, H, W), a real picture of each prompt, or None.
        headings: N of them, above the columns, where these are no seeds; without `real` only.
    """
    assert images.ndim == 5, f"images: expected (R, N, C, H, W), got {images.shape}"
    if real is None:
        return _sheet(images, prompts, dict(enumerate(headings or ["painted"])))
    wanted = (images.shape[0], *images.shape[2:])
    assert real.shape == wanted, f"real: expected {wanted}, got {real.shape}"
    both = np.concatenate([real[:, None], images], axis=1)
    return _sheet(both, prompts, {0: "real", 1: "painted"}, breaks=[1])


def trajectory(frames: Images, prompts: Sequence[str], timesteps: Sequence[int]) -> Image.Image:
    """Returns the reverse diffusion: one row a prompt, one column a moment, from noise to picture.

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
    """Returns one row of pictures, set apart from those that they were made of.

    Args:
        images: (N, C, H, W), painted.
        label: stands beside the row.
        headings: N of them, above the pictures.
        given: (C, H, W), the pictures that stand before and after the painted ones, or None.
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
    """Returns the frames of a film, N pictures side by side in each, all frames of one size.

    Args:
        images: (F, N, C, H, W), F moments of N pictures.
        captions: N of them, beneath the pictures.
        headings: F of them, each in the corner of its frame.
    """
    assert images.ndim == 5, f"images: expected (F, N, C, H, W), got {images.shape}"
    frames = [preview(moment, captions, columns=5) for moment in images]
    for frame, heading in zip(frames, headings, strict=True):
        at = (MARGIN, MARGIN - 11)
        ImageDraw.Draw(frame).text(at, heading, fill=MUTED, font=_font(16), anchor="ls")
    return frames


def neighbours(images: Images) -> Image.Image:
    """Returns pictures above the training pictures nearest to them, the nearest pairs first.

    Args:
        images: (4, K, C, H, W): painted pictures, their neighbours, real ones, their neighbours.
    """
    assert images.ndim == 5, f"images: expected (4, K, C, H, W), got {images.shape}"
    labels = ["painted, nearest first", "nearest training picture"]
    labels += ["real test picture, nearest first", "nearest training picture"]
    return _sheet(images, labels, {})


def preview(images: Images, captions: Sequence[str], columns: int = 8) -> Image.Image:
    """Returns training pictures, each with its caption small beneath.

    Args:
        images: (N, C, H, W).
        captions: N captions.
        columns: pictures in a row.
    """
    assert images.ndim == 4, f"images: expected (N, C, H, W), got {images.shape}"
    assert 0 < len(images) == len(captions), f"{images.shape} but {len(captions)} captions"
    columns = min(columns, len(images))
    gap = 2 * GAP
    width = images.shape[-1]
    scale = _fit(width, SHEET_WIDTH - 2 * MARGIN - (columns - 1) * gap, columns)
    font, cell, height = _font(15), width * scale, images.shape[-2] * scale
    lines = [wrap_text(caption, font, cell) for caption in captions]
    rows = [lines[start : start + columns] for start in range(0, len(lines), columns)]
    heights = [height + 6 + 20 * max(len(entry) for entry in row) for row in rows]
    sheet = _blank(
        2 * MARGIN + columns * (cell + gap) - gap, 2 * MARGIN + sum(heights) + gap * (len(rows) - 1)
    )
    draw, y = ImageDraw.Draw(sheet), MARGIN
    for row, (entries, row_height) in enumerate(zip(rows, heights, strict=True)):
        for column, entry in enumerate(entries):
            x = MARGIN + column * (cell + gap)
            _place(sheet, images[row * columns + column], x, y, scale)
            for number, line in enumerate(entry):
                at = (x + cell / 2, y + height + 6 + 20 * number)
                draw.text(at, line, fill=MUTED, font=font, anchor="ma")
        y += row_height + gap
    return sheet


def wrap_text(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Returns lines of at most `width` pixels; a wider word is broken, and nothing is lost.

    It is broken after a hyphen or underscore, as file names have them, where that suffices.
    """
    lines = [""]
    for word in text.split():
        joined = f"{lines[-1]} {word}".strip()
        if font.getlength(joined) <= width:
            lines[-1] = joined
            continue
        if lines[-1]:
            lines.append("")
        for part in re.split(r"(?<=[-_])", word):
            if lines[-1] and font.getlength(lines[-1] + part) > width:
                lines.append("")
            lines = _broken(lines, part, font, width)
    return lines


def _broken(lines: list[str], part: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Returns lines to which a part of a word is added, letter by letter where it is too wide."""
    lines = list(lines)
    for letter in part:
        if lines[-1] and font.getlength(lines[-1] + letter) > width:
            lines.append("")
        lines[-1] += letter
    return lines


def _sheet(
    images: Images,
    prompts: Sequence[str],
    headings: Mapping[int, str],
    breaks: Sequence[int] = (),
) -> Image.Image:
    """Returns rows of (R, K, C, H, W) beside their prompts, a wide gap before columns `breaks`.

    A heading that the one before it leaves no room for is left out.
    """
    count, columns, _, height, width = images.shape
    assert 0 < count == len(prompts), f"{images.shape} but {len(prompts)} prompts"
    font, small = _font(20), _font(16)
    lines = [wrap_text(prompt, font, PROMPT_WIDTH) for prompt in prompts]
    text_width = math.ceil(max(font.getlength(line) for entry in lines for line in entry))
    left = MARGIN + text_width + WIDE_GAP
    gaps = (columns - 1) * GAP + (WIDE_GAP - GAP) * len(breaks)
    scale = _fit(width, SHEET_WIDTH - left - MARGIN - gaps, columns)
    lefts = [
        left + c * (width * scale + GAP) + (WIDE_GAP - GAP) * sum(c >= b for b in breaks)
        for c in range(columns)
    ]
    heights = [max(height * scale, 27 * len(entry)) for entry in lines]
    top = MARGIN + 28
    sheet = _blank(
        lefts[-1] + width * scale + MARGIN, top + sum(heights) + GAP * (count - 1) + MARGIN
    )
    draw = ImageDraw.Draw(sheet)
    free = 0.0
    for column, heading in headings.items():
        if lefts[column] >= free:
            draw.text((lefts[column], top - 11), heading, fill=MUTED, font=small, anchor="ls")
            free = lefts[column] + small.getlength(heading) + GAP
    for row, (entry, row_height) in enumerate(zip(lines, heights, strict=True)):
        y = top + sum(heights[:row]) + GAP * row
        for number, line in enumerate(entry):
            middle = y + row_height / 2 + 27 * (number - (len(entry) - 1) / 2)
            draw.text((MARGIN, middle), line, fill=INK, font=font, anchor="lm")
        for column, x in enumerate(lefts):
            _place(sheet, images[row, column], x, y + (row_height - height * scale) // 2, scale)
    return sheet


def _fit(width: int, room: int, columns: int) -> int:
    """Returns the whole factor, at least 1, by which pictures are enlarged to fill `room`."""
    return max(1, min(room // (columns * width), LARGEST_CELL // width))


def _place(sheet: Image.Image, image: Images, x: int, y: int, scale: int) -> None:
    """Pastes an enlarged picture; a hairline around it holds a white picture on white paper."""
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


def _blank(width: int, height: int) -> Image.Image:
    """Returns an empty sheet of that many pixels."""
    return Image.new("RGB", (width, height), PAPER)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """Returns the font of every sheet, of `size` pixels."""
    import matplotlib

    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    # The basic layout: the other one depends on a library that not every machine has.
    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)
