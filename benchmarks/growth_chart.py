"""The figure of growth: a small panel for each question, in the look of the project's charts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image

# The look is one for all figures of the project.
from unclip.pictures.charts import SPLIT_COLOURS, new_figure, plain_matplotlib, render
from unclip.pictures.sheets import MUTED

if TYPE_CHECKING:
    from matplotlib.axes import Axes

from benchmarks.report import Row

PANELS_A_ROW = 3
PANEL_WIDTH, PANEL_HEIGHT = 3.0, 2.4  # inches


@dataclass(frozen=True)
class Panel:
    """One line: a figure against what grows.

    Attributes:
        heading: what grows, with its unit.
        rows: `at` is how far it has grown.
        key: of the rows, what is drawn.
        quantity: what that is, with its unit.
    """

    heading: str
    rows: Sequence[Row]
    key: str
    quantity: str


def draw_growth(panels: Sequence[Panel], title: str) -> Image.Image:
    """Returns all panels on one sheet; both axes are logarithmic, so a straight line is a power."""
    count = -(-len(panels) // PANELS_A_ROW)
    with plain_matplotlib():
        figure = new_figure(PANELS_A_ROW * PANEL_WIDTH, count * PANEL_HEIGHT + 0.5)
        grid = figure.subplots(count, PANELS_A_ROW, squeeze=False)
        for axes, panel in zip(grid.flat, panels, strict=False):
            _draw_panel(axes, panel)
        for axes in grid.flat[len(panels) :]:
            axes.set_axis_off()
        return render(figure, title)


def _draw_panel(axes: "Axes", panel: Panel) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    known = [row for row in panel.rows if row[panel.key] is not None]
    places = [row["at"] for row in known]
    values = [row[panel.key] for row in known]
    axes.plot(places, values, "o-", color=SPLIT_COLOURS["train"], linewidth=1.6, ms=4.5)
    axes.set_xscale("log")
    axes.set_yscale("log")
    if values:
        axes.set_ylim(min(values) / 2, max(values) * 2)
    axes.set_xticks(places, [_short(place) for place in places])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(lambda y, _: f"{y:,g}")
    axes.set_xlabel(panel.heading, size=9)
    axes.set_title(panel.quantity, loc="left", size=10, color=MUTED, parse_math=False)
    axes.grid()
    axes.spines[["top", "right"]].set_visible(False)


def _short(number: int) -> str:
    """Returns 100 k for 100,000 and 1 M for 1,000,000: labels side by side need the room."""
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if number >= size:
            return f"{number / size:g} {letter}"
    return str(number)
