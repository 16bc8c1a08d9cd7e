"""A comparison as one picture: figures and changed params above, what was painted below.

A column is an experiment. The same comparison gives the same pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from unclip.comparison.experiments import Comparison, Row
from unclip.pictures.sheets import GAP, INK, LINE, MARGIN, MUTED, PAPER, WIDE_GAP, wrap_text

if TYPE_CHECKING:
    from unclip.painting.painted import Painted

SHEET_WIDTH = 1600  # pixels; many experiments make a wider sheet
LARGEST, SMALLEST = 160, 64  # pixels, of a picture on the sheet
LABELS, NARROWEST = 240, 190  # pixels, of the column of labels and of an experiment
LINE_HEIGHT = 26


@dataclass(frozen=True)
class _Columns:
    """Where things stand from left to right, in pixels.

    Attributes:
        count: experiments.
        num: pictures beside each other in an experiment.
        cell: width and height of a picture.
    """

    count: int
    num: int
    cell: int

    @classmethod
    def of(cls, comparison: Comparison) -> "_Columns":
        count = len(comparison.experiments)
        painted = [cell for row in comparison.painted for cell in row if cell is not None]
        num = max(len(cell.images) for cell in painted)
        room = (SHEET_WIDTH - 2 * MARGIN - LABELS) // count - WIDE_GAP
        return cls(count, num, min(LARGEST, max(SMALLEST, (room + GAP) // num - GAP)))

    @property
    def width(self) -> int:
        """Of an experiment."""
        return max(NARROWEST, self.num * (self.cell + GAP) - GAP)

    @property
    def total(self) -> int:
        """Of the sheet."""
        return self.left(self.count) - WIDE_GAP + MARGIN

    def left(self, column: int) -> int:
        """Of an experiment."""
        return MARGIN + LABELS + WIDE_GAP + column * (self.width + WIDE_GAP)


def comparison_sheet(comparison: Comparison) -> Image.Image:
    """Returns the sheet, an RGB image."""
    columns = _Columns.of(comparison)
    names = [experiment.name for experiment in comparison.experiments]
    origins = [experiment.origin for experiment in comparison.experiments]
    parts = [
        _blank(columns, MARGIN),
        _line(columns, Row("", names, None), bold=True),
        _line(columns, Row("", origins, None), muted=True),
    ]
    for title, rows in (("Figures", comparison.figures), ("Changed params", comparison.params)):
        if rows:
            parts.append(_heading(columns, title))
            parts += [_line(columns, row) for row in rows]
    parts.append(_heading(columns, "Pictures"))
    for prompt, row in zip(comparison.prompts, comparison.painted, strict=True):
        parts.append(_pictures(columns, prompt, row))
    parts.append(_blank(columns, GAP))
    parts += [_remark(columns, remark) for remark in comparison.remarks]
    return _stack([*parts, _blank(columns, MARGIN - GAP)])


def _blank(columns: _Columns, height: int) -> Image.Image:
    return Image.new("RGB", (columns.total, height), PAPER)


def _stack(parts: Sequence[Image.Image]) -> Image.Image:
    sheet = Image.new("RGB", (parts[0].width, sum(part.height for part in parts)), PAPER)
    y = 0
    for part in parts:
        sheet.paste(part, (0, y))
        y += part.height
    return sheet


def _heading(columns: _Columns, title: str) -> Image.Image:
    """Returns the title of a section, above a hairline."""
    part = _blank(columns, 3 * LINE_HEIGHT)
    draw, y = ImageDraw.Draw(part), 2 * LINE_HEIGHT
    draw.text((MARGIN, y), title, fill=INK, font=_font(18, bold=True), anchor="ls")
    draw.line((MARGIN, y + 10, columns.total - MARGIN, y + 10), fill=LINE)
    return part


def _line(columns: _Columns, row: Row, *, bold: bool = False, muted: bool = False) -> Image.Image:
    """Returns a line of the table; what does not fit a column goes on below."""
    label = wrap_text(row.label, _font(16), LABELS)
    fonts = [_font(16, bold=bold or row.best == column) for column in range(columns.count)]
    cells = [wrap_text(c, font, columns.width) for c, font in zip(row.cells, fonts, strict=True)]
    part = _blank(columns, LINE_HEIGHT * max(len(lines) for lines in (label, *cells)))
    draw = ImageDraw.Draw(part)
    _text(draw, MARGIN, label, MUTED, _font(16))
    for column, lines in enumerate(cells):
        _text(draw, columns.left(column), lines, MUTED if muted else INK, fonts[column])
    return part


def _text(
    draw: ImageDraw.ImageDraw, x: int, lines: list[str], fill: str, font: ImageFont.FreeTypeFont
) -> None:
    for number, line in enumerate(lines):
        draw.text((x, 19 + LINE_HEIGHT * number), line, fill=fill, font=font, anchor="ls")


def _pictures(columns: _Columns, prompt: str, row: "Sequence[Painted | None]") -> Image.Image:
    """Returns the pictures of a prompt; an experiment that does not know it stays empty."""
    lines = wrap_text(prompt, _font(16), LABELS)
    height = max(columns.cell, LINE_HEIGHT * len(lines))
    part = _blank(columns, height + GAP)
    draw = ImageDraw.Draw(part)
    for number, line in enumerate(lines):
        y = height / 2 + LINE_HEIGHT * (number - (len(lines) - 1) / 2)
        draw.text((MARGIN, y), line, fill=INK, font=_font(16), anchor="lm")
    for column, painted in enumerate(row):
        for number, picture in enumerate(() if painted is None else painted.images):
            x = columns.left(column) + number * (columns.cell + GAP)
            _place(part, picture, x, (height - columns.cell) // 2, columns.cell)
    return part


def _place(part: Image.Image, picture: npt.NDArray[np.uint8], x: int, y: int, cell: int) -> None:
    """Pastes (C, H, W) into the middle of a square, enlarged by a whole factor: no blur."""
    rgb = np.broadcast_to(picture, (3, *picture.shape[1:])).transpose(1, 2, 0)
    scale = max(1, cell // max(rgb.shape[:2]))
    image = Image.fromarray(np.ascontiguousarray(rgb.repeat(scale, 0).repeat(scale, 1)))
    x, y = x + (cell - image.width) // 2, y + (cell - image.height) // 2
    box = (x - 1, y - 1, x + image.width, y + image.height)
    ImageDraw.Draw(part).rectangle(box, outline=LINE)
    part.paste(image, (x, y))


def _remark(columns: _Columns, remark: str) -> Image.Image:
    lines = wrap_text(remark, _font(14), columns.total - 2 * MARGIN)
    part = _blank(columns, LINE_HEIGHT * len(lines))
    _text(ImageDraw.Draw(part), MARGIN, lines, MUTED, _font(14))
    return part


@cache
def _font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    import matplotlib

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    path = Path(matplotlib.get_data_path()) / "fonts/ttf" / name
    # The basic layout, as in `figures`: the other one is not on every machine.
    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)
