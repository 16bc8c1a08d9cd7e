"""Charts of figures, drawn by matplotlib, which is imported only when one is drawn.

Every function returns an RGB image and writes no file. The same input gives the same pixels,
whatever the user's matplotlibrc says.
"""

import math
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from unclip.config.errors import UserError
from unclip.pictures.fonts import families
from unclip.pictures.sheets import INK, LINE, MUTED, PAPER

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Series = Sequence[tuple[int, float]]

PANEL_TITLE: dict[str, Any] = {"loc": "left", "size": 10, "color": MUTED}
# Okabe and Ito's blue, vermilion and green, which colour-blind readers can also distinguish.
SPLIT_COLOURS = {"train": "#0072B2", "val": "#D55E00", "test": "#009E73"}


def curves(history: Mapping[str, Series], title: str) -> Image.Image:
    """Returns training curves: a large panel for the loss, a small one for each other quantity.

    `val_loss` shares the panel of `loss`, and likewise for every quantity; `lr` comes last. A loss
    axis is logarithmic if its values are positive and span more than a factor of 20. More than 100
    points of training are drawn faint, with their moving average on top.

    Args:
        history: column name to (step, value) pairs, from `read_history`.
        title: stands above the panels.

    Raises:
        UserError: there is no finite value to draw.
    """
    panels: dict[str, dict[str, Series]] = {}
    for column, series in history.items():
        finite = [(step, value) for step, value in series if math.isfinite(value)]
        split, quantity = _split_name(column)
        if finite:
            assert split not in panels.get(quantity, {}), f"{column}: drawn already by another name"
            panels.setdefault(quantity, {})[split] = finite
    if not panels:
        raise UserError(f"curves of {title}: no finite value to draw; train for a step or more")
    names = sorted(panels, key=lambda name: (name == "lr", not name.endswith("loss")))
    ratios = [3.2 if name.endswith("loss") else 1.0 for name in names]
    with plain_matplotlib():
        figure = new_figure(8, 1.15 * sum(ratios) + 0.8)
        rows = figure.subplots(len(names), sharex=True, squeeze=False, height_ratios=ratios)[:, 0]
        for axes, name in zip(rows, names, strict=True):
            _draw_panel(axes, name, panels[name])
        rows[-1].set_xlabel("step")
        return render(figure, title)


def bar_accuracies(
    per_caption: Mapping[str, float], reference: Mapping[str, float], title: str
) -> Image.Image:
    """Returns horizontal bars, the judge's accuracy on painted pictures beside that on real ones.

    Args:
        per_caption: caption to accuracy in [0, 1] (NaN: not measured), the first on top; if it is
            empty, the chart says so.
        reference: caption to the judge's accuracy on real pictures, where it was measured.
        title: stands above the bars.
    """
    captions, values = list(per_caption), list(per_caption.values())
    real = [reference.get(caption, math.nan) for caption in captions]
    labels = ["\n".join(textwrap.wrap(c, 34, break_on_hyphens=False)) for c in captions]
    lines = max((label.count("\n") for label in labels), default=0) + 1.5  # sets every row
    with plain_matplotlib():
        if not captions:
            return render(new_figure(8, 0.8), f"{title}\nno accuracy was measured")
        figure = new_figure(8, 0.17 * lines * len(labels) + 1.3)
        axes = figure.subplots()
        places = range(len(captions))
        blue = SPLIT_COLOURS["train"]
        axes.barh(places, np.nan_to_num(values), height=0.58, color=blue, zorder=2)
        _draw_column(axes, 1.09, "painted", values, blue)
        axes.plot(real, places, "|", color=INK, ms=15, mew=2.2, zorder=3, clip_on=False)
        _draw_column(axes, 1.20, "❙ real", real, INK)
        axes.set_xlim(0, 1.001)
        axes.set_ylim(len(captions) - 0.4, -0.6)
        axes.set_yticks(places, labels, parse_math=False, color=INK)
        axes.xaxis.set_major_formatter(lambda x, _: f"{x:.0%}")
        axes.grid(axis="x")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        return render(figure, title)


def heat_maps(
    panels: Mapping[str, npt.NDArray[np.float64]],
    ticks: Sequence[float],
    names: tuple[str, str],
    title: str,
) -> Image.Image:
    """Returns a table of coloured cells for each figure, side by side, each cell with its value.

    Args:
        panels: name of a figure to its values, (R, C) with R = C = number of ticks.
        ticks: of rows and columns.
        names: of the rows and of the columns.
        title: stands above the panels.
    """
    with plain_matplotlib():
        figure = new_figure(4.4 * len(panels), 4.4)
        row = figure.subplots(1, len(panels), squeeze=False)[0]
        for axes, (name, values) in zip(row, panels.items(), strict=True):
            axes.imshow(values, cmap="cividis")
            middle = (values.min() + values.max()) / 2
            for (y, x), value in np.ndenumerate(values):
                ink = "white" if value < middle else "black"
                axes.text(x, y, f"{value:.3g}", ha="center", va="center", color=ink, size=9)
            for axis, label in ((axes.yaxis, names[0]), (axes.xaxis, names[1])):
                axis.set_ticks(range(len(ticks)), [f"{tick:g}" for tick in ticks])
                axis.set_label_text(label)
            axes.set_title(name, **PANEL_TITLE)
            axes.tick_params(length=0)
            axes.spines[:].set_visible(False)
        return render(figure, title)


def lines(
    panels: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]], x_name: str, title: str
) -> Image.Image:
    """Returns one panel for each figure, with a line of points for each way of doing things.

    Args:
        panels: name of a figure to name of a way to its (x, value) points; x above 0.
        x_name: of the x axis, which is logarithmic with a tick for each x.
        title: stands above the panels.
    """
    with plain_matplotlib():
        figure = new_figure(4.8 * len(panels), 4.2)
        row = figure.subplots(1, len(panels), squeeze=False)[0]
        for axes, (name, ways) in zip(row, panels.items(), strict=True):
            for number, (way, points) in enumerate(ways.items()):
                xs, values = zip(*points, strict=True)
                style = f"C{number // 2}{('-', '--')[number % 2]}"
                axes.plot(xs, values, style, marker="o", ms=4, lw=1.6, label=way)
            axes.set_xscale("log")
            axes.set_xticks(xs, [f"{x:g}" for x in xs])
            axes.minorticks_off()
            axes.set_xlabel(x_name)
            axes.set_title(name, **PANEL_TITLE)
            axes.grid()
            axes.spines[["top", "right"]].set_visible(False)
        row[0].legend(loc="best")
        return render(figure, title)


def _draw_column(axes: "Axes", x: float, heading: str, values: Sequence[float], ink: str) -> None:
    """Writes percentages under a heading, right of the bars; a dash stands for NaN."""
    style: dict[str, Any] = {"color": ink, "ha": "right", "va": "center_baseline", "size": 9}
    shown = [heading, *("–" if math.isnan(value) else f"{value:.0%}" for value in values)]
    for row, text in enumerate(shown, start=-1):
        axes.text(x, max(row, -0.85), text, transform=axes.get_yaxis_transform(), **style)


def _split_name(column: str) -> tuple[str, str]:
    """Returns ("val", "loss") of "val_loss" or "val/loss", and ("train", "lr") of "lr"."""
    for split in SPLIT_COLOURS:
        if column.startswith((f"{split}_", f"{split}/")):
            return split, column[len(split) + 1 :]
    return "train", column


def _draw_panel(axes: "Axes", quantity: str, series: Mapping[str, Series]) -> None:
    """Draws the splits of one quantity, its name above on the left, the legend on the right."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    is_loss = quantity.endswith("loss")
    noted = is_loss or len(series) > 1
    for split in sorted(series, key=list(SPLIT_COLOURS).index):
        steps, values = np.array(series[split], dtype=np.float64).T
        colour, label = SPLIT_COLOURS[split], split
        if split == "train" and quantity != "lr" and len(values) > 100:
            axes.plot(steps, values, color=colour, linewidth=0.8, alpha=0.25)
            window = len(values) // 80 * 2 + 1
            values, noted = _moving_average(values, window), True
            label = f"{split}, mean of {window} points"
        elif is_loss and split != "train":
            best = int(np.argmin(values))
            label = f"{split}, lowest {values[best]:.4g} at step {steps[best]:,.0f}"
            axes.plot(steps[best], values[best], "o", color=colour, markersize=5)
        marker = "." if len(values) < 3 else None
        axes.plot(steps, values, color=colour, linewidth=1.6, label=label, marker=marker)
    seen = [value for points in series.values() for _, value in points]
    if is_loss and min(seen) > 0 and max(seen) > 20 * min(seen):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_minor_locator(NullLocator())
    elif not is_loss:
        axes.yaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(lambda y, _: f"{y:g}")
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
    name = "learning rate" if quantity == "lr" else quantity.replace("_", " ")
    axes.set_title(name, **PANEL_TITLE, parse_math=False)
    if noted:
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, borderpad=0.25)
    axes.grid()
    axes.spines[["top", "right"]].set_visible(False)


def _moving_average(values: npt.NDArray[np.float64], window: int) -> npt.NDArray[np.float64]:
    """Returns centred means over `window` (odd) neighbours, over fewer of them near the ends."""
    ones = np.ones(window)
    return np.convolve(values, ones, "same") / np.convolve(np.ones_like(values), ones, "same")


@contextmanager
def plain_matplotlib() -> Iterator[None]:
    """Sets our style on top of matplotlib's own defaults."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rc("text", color=INK)
        matplotlib.rc("figure", facecolor=PAPER)
        matplotlib.rc("axes", facecolor=PAPER, edgecolor=LINE, labelcolor=MUTED, axisbelow=True)
        matplotlib.rc("grid", color=LINE, linewidth=0.6)
        matplotlib.rc("legend", frameon=False, fontsize=9, borderaxespad=0)
        matplotlib.rc("xtick", color=MUTED, labelsize=9)
        matplotlib.rc("ytick", color=MUTED, labelsize=9)
        yield


def new_figure(width: float, height: float) -> "Figure":
    """Returns an empty figure of (width, height) inches at 150 dots per inch."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    return Figure((width, height), dpi=150, layout=ConstrainedLayoutEngine(w_pad=0.2, h_pad=0.1))


def render(figure: "Figure", title: str) -> Image.Image:
    """Returns the drawn figure, without a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    figure.suptitle(title, x=0.025, ha="left", size=13, color=INK, parse_math=False)
    for text in figure.findobj(Text):
        text.set_fontfamily(families(text.get_text()))
    canvas = FigureCanvasAgg(figure)
    with warnings.catch_warnings(action="ignore"):  # one for each character that no font has
        canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())
