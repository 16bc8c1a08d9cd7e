"""A comparison as one picture: figures and changed params above, what was painted below.

A column is an experiment. The same comparison gives the same pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from unclip.comparison.experiments import Comparison, Painted, Row
from unclip.pictures.sheets import (
    GAP,
    INK,
    LINE,
    MARGIN,
    MUTED,
    WIDE_GAP,
    blank,
    font_of,
    place,
    wrap_text,
)

SHEET_WIDTH = 1600  # pixels; many experiments make a wider sheet
LARGEST, SMALLEST = 160, 64  # pixels, of a picture on the sheet
LABELS, NARROWEST = 240, 190  # pixels, of the column of labels and of an experiment
LINE_HEIGHT = 26


def comparison_sheet(comparison: Comparison) -> Image.Image:
    """Returns the sheet, an RGB image."""
    columns = _Columns.of(comparison)
    names = [experiment.name for experiment in comparison.experiments]
    origins = [experiment.origin for experiment in comparison.experiments]
    parts = [
        columns.blank(MARGIN),
        columns.line(Row("", names), bold=True),
        columns.line(Row("", origins), fill=MUTED),
    ]
    for title, rows in (("Figures", comparison.figures), ("Changed params", comparison.params)):
        if rows:
            parts += [columns.heading(title), *(columns.line(row) for row in rows)]
    parts.append(columns.heading("Pictures"))
    for prompt, row in zip(comparison.prompts, comparison.painted, strict=True):
        parts.append(columns.pictures(prompt, row))
    parts.append(columns.blank(GAP))
    parts += [columns.remark(remark) for remark in comparison.remarks]
    parts.append(columns.blank(MARGIN - GAP))
    sheet = blank(columns.total, sum(part.height for part in parts))
    y = 0
    for part in parts:
        sheet.paste(part, (0, y))
        y += part.height
    return sheet


@dataclass(frozen=True)
class _Columns:
    """Parts of the sheet, each as wide as all of it.

    Attributes:
        count: experiments.
        cell: width and height of a picture, in pixels.
        width: of an experiment, in pixels.
    """

    count: int
    cell: int
    width: int

    @classmethod
    def of(cls, comparison: Comparison) -> "_Columns":
        count = len(comparison.experiments)
        painted = [cell for row in comparison.painted for cell in row if cell is not None]
        num = max(len(cell.pictures) for cell in painted)
        room = (SHEET_WIDTH - 2 * MARGIN - LABELS) // count - WIDE_GAP
        cell = min(LARGEST, max(SMALLEST, (room + GAP) // num - GAP))
        return cls(count, cell, max(NARROWEST, num * (cell + GAP) - GAP))

    @property
    def total(self) -> int:
        """The width of the sheet."""
        return self.left(self.count) - WIDE_GAP + MARGIN

    def left(self, column: int) -> int:
        """Returns where an experiment begins."""
        return MARGIN + LABELS + WIDE_GAP + column * (self.width + WIDE_GAP)

    def blank(self, height: int) -> Image.Image:
        """Returns empty room."""
        return blank(self.total, height)

    def heading(self, title: str) -> Image.Image:
        """Returns the title of a section, above a hairline."""
        part = self.blank(3 * LINE_HEIGHT)
        draw, y = ImageDraw.Draw(part), 2 * LINE_HEIGHT
        draw.text((MARGIN, y), title, fill=INK, font=font_of(18, bold=True), anchor="ls")
        draw.line((MARGIN, y + 10, self.total - MARGIN, y + 10), fill=LINE)
        return part

    def line(self, row: Row, *, bold: bool = False, fill: str = INK) -> Image.Image:
        """Returns a line of the table; what does not fit a column goes on below."""
        texts = [(MARGIN, row.label, LABELS, MUTED, font_of(16))]
        for column, cell in enumerate(row.cells):
            font = font_of(16, bold=bold or row.best == column)
            texts.append((self.left(column), cell, self.width, fill, font))
        return self._texts(texts)

    def remark(self, remark: str) -> Image.Image:
        """Returns a sentence as wide as the sheet."""
        return self._texts([(MARGIN, remark, self.total - 2 * MARGIN, MUTED, font_of(14))])

    def _texts(
        self, texts: Sequence[tuple[int, str, int, str, ImageFont.FreeTypeFont]]
    ) -> Image.Image:
        """Returns texts side by side, each (left, text, width, fill, font)."""
        wrapped = [wrap_text(text, font, width) for _, text, width, _, font in texts]
        part = self.blank(LINE_HEIGHT * max(map(len, wrapped)))
        draw = ImageDraw.Draw(part)
        for (x, _, _, fill, font), lines in zip(texts, wrapped, strict=True):
            for number, line in enumerate(lines):
                draw.text((x, 19 + LINE_HEIGHT * number), line, fill=fill, font=font, anchor="ls")
        return part

    def pictures(self, prompt: str, row: Sequence[Painted | None]) -> Image.Image:
        """Returns the pictures of a prompt; an experiment that does not know it stays empty."""
        label = self._texts([(MARGIN, prompt, LABELS, INK, font_of(16))])
        height = max(self.cell, label.height)
        part = self.blank(height + GAP)
        part.paste(label, (0, (height - label.height) // 2))
        for column, painted in enumerate(row):
            for number, picture in enumerate(() if painted is None else painted.pictures):
                scale = max(1, self.cell // max(picture.shape[1:]))
                x = self.left(column) + number * (self.cell + GAP)
                x += (self.cell - picture.shape[2] * scale) // 2
                place(part, picture, x, (height - picture.shape[1] * scale) // 2, scale)
        return part
