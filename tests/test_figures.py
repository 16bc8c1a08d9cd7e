"""Sheets and charts: what is drawn is all there, exact, and the same every time."""

import io
import math
import os
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from unclip.config.errors import UserError
from unclip.pictures import charts
from unclip.pictures import sheets as figures
from unclip.pictures.charts import bar_accuracies, curves
from unclip.pictures.gif import save_gif
from unclip.pictures.history import read_history
from unclip.pictures.png import as_image, read_png_text, save_png
from unclip.pictures.sheets import film, grid, preview, strip, trajectory, wrap_text

PAPER = (250, 250, 247)
ENLARGED = 6  # times, a picture of 32 pixels on a sheet that it has room on
LONG = "a caption with aworthlesslylongwordthatnocolumnofthesheetcouldeverholdinoneline and an end"


def draw_shapes(*lead: int, channels: int = 3, size: int = 32) -> np.ndarray:
    """Returns (*lead, channels, size, size) uint8: discs and squares, no two alike."""
    generator = np.random.default_rng(7)
    pictures = []
    for _ in range(math.prod(lead)):
        ground, ink = (tuple(generator.integers(0, 256, 3).tolist()) for _ in range(2))
        picture = Image.new("RGB", (size, size), ground)
        left, top, side = generator.integers(2, size // 2, 3).tolist()
        pen = ImageDraw.Draw(picture)
        draw = pen.ellipse if generator.random() < 0.5 else pen.rectangle
        draw((left, top, left + side, top + side), fill=ink)
        picture = picture.convert("RGB" if channels == 3 else "L")
        pictures.append(np.asarray(picture).reshape(size, size, channels).transpose(2, 0, 1))
    return np.stack(pictures).reshape(*lead, channels, size, size)


def blocks(image: np.ndarray, scale: int) -> np.ndarray:
    """Returns (C, H, W) enlarged to (H·scale, W·scale, 3), written out pixel by pixel."""
    channels, height, width = image.shape
    enlarged = np.zeros((height * scale, width * scale, 3), dtype=np.uint8)
    for y in range(height):
        for x in range(width):
            block = enlarged[y * scale : (y + 1) * scale, x * scale : (x + 1) * scale]
            block[:] = image[:, y, x] if channels == 3 else image[0, y, x]
    return enlarged


def places(sheet: Image.Image, wanted: np.ndarray) -> list[tuple[int, int]]:
    """Returns every (x, y) at which `wanted` stands in the sheet, pixel for pixel."""
    pixels = np.asarray(sheet)
    height, width, _ = wanted.shape
    inner = pixels[: pixels.shape[0] - height + 1, : pixels.shape[1] - width + 1]
    hits = np.ones(inner.shape[:2], dtype=bool)
    for y, x in ((0, 0), (0, width - 1), (height - 1, 0), (height // 2, width // 2)):
        shifted = pixels[y : y + inner.shape[0], x : x + inner.shape[1]]
        hits &= (shifted == wanted[y, x]).all(-1)
    candidates = zip(*np.nonzero(hits), strict=True)
    return [
        (int(x), int(y))
        for y, x in candidates
        if np.array_equal(pixels[y : y + height, x : x + width], wanted)
    ]


def is_paper(pixels: np.ndarray) -> bool:
    return bool((pixels == PAPER).all())


def has_colour(sheet: Image.Image, colour: tuple[int, int, int]) -> bool:
    return bool((np.asarray(sheet) == colour).all(-1).any())


def a_font(size: int = 20) -> ImageFont.FreeTypeFont:
    path = f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf"
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)


def every_figure(channels: int = 3) -> dict[str, Image.Image]:
    history = {"loss": [(s, 2.0 / s) for s in range(1, 200)], "lr": [(1, 1e-3), (200, 1e-5)]}
    images = draw_shapes(2, 3, channels=channels)
    return {
        "grid": grid(images, ["a disc", LONG], images[:, 0]),
        "trajectory": trajectory(images, ["a disc", LONG], [999, 500, 0]),
        "preview": preview(images[0], ["a disc", LONG, "é"]),
        "curves": curves(history, "prior"),
        "bars": bar_accuracies({"a disc": 0.5, LONG: 1.0}, {"a disc": 0.9}, "accuracy"),
    }


# ---------------------------------------------------------------------------------- the sheets


@pytest.mark.parametrize("channels", [1, 3])
def test_every_pixel_of_the_grid_becomes_a_block_and_no_picture_is_missing(channels):
    images = draw_shapes(2, 3, channels=channels)
    real = draw_shapes(4, channels=channels)[2:] // 2
    sheet = grid(images, ["a disc", "a square"], real)
    for image in [*images.reshape(-1, *images.shape[2:]), *real]:
        assert len(places(sheet, blocks(image, ENLARGED))) == 1


def test_the_grid_keeps_prompts_in_rows_and_seeds_in_columns():
    images = draw_shapes(3, 4)
    sheet = grid(images, ["a", "b", "c"])
    at = np.array([[places(sheet, blocks(image, ENLARGED))[0] for image in row] for row in images])
    assert (at[:, :, 0] == at[0, :, 0]).all()
    assert (at[:, :, 1] == at[:, :1, 1]).all()
    assert (np.diff(at[:, :, 0], axis=1) > 32 * ENLARGED).all()
    assert (np.diff(at[:, :, 1], axis=0) > 32 * ENLARGED).all()


def test_the_real_picture_stands_first_and_further_from_the_painted_than_they_from_each_other():
    images, real = draw_shapes(1, 2), draw_shapes(3)[2:]
    sheet = grid(images, ["a"], real)
    (first,), (second,), (third,) = (
        places(sheet, blocks(picture, ENLARGED)) for picture in (real[0], *images[0])
    )
    assert second[0] - first[0] > third[0] - second[0] + 10


@pytest.mark.parametrize(("size", "seeds"), [(32, 8), (28, 8), (32, 6), (64, 4), (16, 12)])
def test_the_grid_is_enlarged_to_about_1200_to_1600_pixels(size, seeds):
    images = draw_shapes(2, seeds, size=size)
    prompts = ["An image of a t-shirt/top", "An image of trousers"]
    assert 1150 <= grid(images, prompts, images[:, 0]).width <= 1600


def test_a_grid_too_wide_to_enlarge_shows_each_picture_in_its_own_size():
    images = draw_shapes(1, 50, size=40)
    sheet = grid(images, ["many"])
    assert all(places(sheet, blocks(image, 1)) for image in images[0, ::24])


@pytest.mark.parametrize("prompt", [LONG, "W" * 300, "two words " * 40, "é漢 ∑" * 20])
def test_a_long_prompt_stays_within_its_column_and_its_row(prompt):
    images = draw_shapes(3, 40)  # so many in a row that text is higher than they are
    sheet = grid(images, ["", prompt, ""])
    pixels = np.asarray(sheet)
    left = places(sheet, blocks(images[1, 0], 1))[0][0]
    above = places(sheet, blocks(images[0, 0], 1))[0][1] + 32
    below = places(sheet, blocks(images[2, 0], 1))[0][1]
    text_rows, text_columns = np.nonzero((pixels[:, : left - 1] != PAPER).any(-1))
    assert text_columns.min() >= 30
    assert text_columns.max() < left - 10
    assert text_rows.min() > above
    assert text_rows.max() < below


def test_a_longer_prompt_draws_more_ink():
    images = draw_shapes(1, 2)
    inks = []
    for prompt in ("word", "word " * 30, "word " * 60):
        sheet = grid(images, [prompt])
        left = places(sheet, blocks(images[0, 0], ENLARGED))[0][0]
        inks.append(int((255 - np.asarray(sheet)[:, : left - 1].astype(int) > 100).sum()))
    assert inks[1] == pytest.approx(30 * inks[0], rel=0.05)
    assert inks[2] == pytest.approx(60 * inks[0], rel=0.05)


@pytest.mark.parametrize(
    "text", ["a large red circle", LONG, "W" * 99, " spaced\n out\tlines ", ""]
)
def test_wrapping_loses_no_letter_and_keeps_every_line_within_the_width(text):
    for width in range(30, 250, 7):
        lines = wrap_text(text, 20, width)
        assert "".join(lines).replace(" ", "") == "".join(text.split())
        assert all(a_font().getlength(line) <= width for line in lines)


def test_wrapping_breaks_only_words_wider_than_the_line():
    assert wrap_text("a small orange triangle", 20, 170) == ["a small orange", "triangle"]


def test_a_file_name_breaks_after_its_hyphens_and_underscores():
    name = "an-image-of-a-sneaker_seed0.png"
    lines = wrap_text(f"like {name}", 20, 200)
    assert lines == ["like", "an-image-of-a-", "sneaker_seed0.png"]


def test_the_trajectory_has_a_heading_over_every_column_and_none_elsewhere():
    frames = draw_shapes(1, 4)
    sheet = trajectory(frames, ["a disc"], [999, 666, 333, 0])
    pixels = np.asarray(sheet)
    at = [places(sheet, blocks(frame, ENLARGED))[0] for frame in frames[0]]
    for x, y in at:
        assert not is_paper(pixels[y - 35 : y - 2, x : x + 32 * ENLARGED])
    assert is_paper(pixels[: at[0][1] - 2, : at[0][0] - 2])


def test_the_trajectory_shows_the_timesteps_it_was_given():
    frames = draw_shapes(1, 2)
    first, second = (trajectory(frames, ["a"], steps) for steps in ([999, 0], [999, 7]))
    assert first.tobytes() != second.tobytes()


@pytest.mark.parametrize("channels", [1, 3])
def test_the_preview_shows_every_picture_with_its_caption_beneath(channels):
    images = draw_shapes(5, channels=channels)
    captions = ["a disc", LONG, "W" * 80, "é", "last"]
    sheet = preview(images, captions, columns=3)
    pixels = np.asarray(sheet)
    for image in images:
        ((x, y),), side = places(sheet, blocks(image, ENLARGED)), 32 * ENLARGED
        assert not is_paper(pixels[y + side + 3 : y + side + 24, x : x + side])


def test_the_text_of_a_preview_stays_clear_of_the_edges():
    pixels = np.asarray(preview(draw_shapes(3, size=8), [LONG, "W" * 200, "x"], columns=3))
    for edge in (pixels[:30], pixels[-30:], pixels[:, :30], pixels[:, -30:]):
        assert is_paper(edge)


def test_pictures_that_are_not_uint8_are_refused():
    with pytest.raises(AssertionError, match="uint8"):
        preview(draw_shapes(2).astype(np.float32), ["a", "b"])


def test_channels_last_are_refused():
    with pytest.raises(AssertionError, match="channels first"):
        preview(draw_shapes(2).transpose(0, 2, 3, 1), ["a", "b"])


def test_a_real_picture_for_every_prompt_is_demanded():
    with pytest.raises(AssertionError, match="real"):
        grid(draw_shapes(2, 2), ["a", "b"], draw_shapes(1))


# ---------------------------------------------------------------------------------- the charts

TRAIN_BLUE, VAL_VERMILION = (0, 114, 178), (213, 94, 0)


@pytest.fixture
def drawn(monkeypatch):
    """Collects the matplotlib figures behind the charts."""
    found, render = [], charts.render
    monkeypatch.setattr(charts, "render", lambda f, title: found.append(f) or render(f, title))
    return found


def test_a_csv_with_empty_cells_gives_each_column_its_own_steps(tmp_path):
    path = tmp_path / "clip.csv"
    path.write_text("step,loss,val_loss,lr\n1,4.5,,0.1\n2,3.5,3.75,0.2\n3,nan,,\n\n4,,2.5\n")
    history = read_history(path)
    assert math.isnan(history["loss"].pop()[1])
    assert history == {
        "loss": [(1, 4.5), (2, 3.5)],
        "val_loss": [(2, 3.75), (4, 2.5)],
        "lr": [(1, 0.1), (2, 0.2)],
    }


def test_curves_from_a_csv_equal_curves_from_its_values(tmp_path):
    path = tmp_path / "clip.csv"
    path.write_text("step,loss,val_loss\n1,4.5,\n2,3.5,3.75\n3,2,\n4,inf,2.5\n")
    history = {"loss": [(1, 4.5), (2, 3.5), (3, 2.0)], "val_loss": [(2, 3.75), (4, 2.5)]}
    assert curves(read_history(path), "CLIP").tobytes() == curves(history, "CLIP").tobytes()


def test_train_and_val_have_their_own_colours():
    train = {"loss": [(1, 4.0), (9, 2.0)]}
    both = curves({**train, "val_loss": [(1, 4.0), (9, 3.0)]}, "both")
    assert has_colour(both, TRAIN_BLUE)
    assert has_colour(both, VAL_VERMILION)
    assert not has_colour(curves(train, "train only"), VAL_VERMILION)


def test_each_quantity_besides_the_loss_adds_a_small_panel():
    loss = {"loss": [(1, 4.0), (9, 2.0)]}
    one = curves(loss, "x").height
    two = curves({**loss, "lr": [(1, 0.1), (9, 0.0)]}, "x").height
    shared = curves({**loss, "val_loss": [(1, 4.0), (9, 2.0)]}, "x").height
    assert one == shared
    assert one < two < 1.5 * one


@pytest.mark.parametrize(
    ("values", "scale"),
    [((21.0, 1.0), "log"), ((19.0, 1.0), "linear"), ((21.0, 0.0), "linear"), ((21, -1), "linear")],
)
def test_the_loss_axis_is_logarithmic_only_when_positive_over_a_factor_of_20(values, scale, drawn):
    curves({"loss": list(enumerate(values)), "lr": [(0, 1.0), (1, 0.001)]}, "x")
    assert [axes.get_yscale() for axes in drawn[0].axes] == [scale, "linear"]


def test_the_loss_is_on_top_the_learning_rate_at_the_bottom_above_the_steps(drawn):
    series = [(1, 1.0), (2, 0.5)]
    curves({"lr": series, "grad_norm": series, "val_loss": series, "train_loss": series}, "x")
    panels = drawn[0].axes
    names = [axes.get_title(loc="left") for axes in panels]
    assert names == ["loss", "grad norm", "learning rate"]
    assert [axes.get_xlabel() for axes in panels] == ["", "", "step"]


def test_many_points_of_training_are_drawn_faint_under_their_average(drawn):
    values = np.random.default_rng(0).random(200)
    curves({"loss": list(enumerate(values.tolist()))}, "x")
    faint, average = drawn[0].axes[0].get_lines()
    assert faint.get_alpha() < 0.5
    np.testing.assert_array_equal(faint.get_ydata(), values)
    assert average.get_label() == "train, mean of 5 points"
    assert average.get_ydata()[50] == pytest.approx(values[48:53].mean())


def test_the_legend_names_the_lowest_validation_loss_and_its_step(drawn):
    curves({"loss": [(1, 0.1)], "val_loss": [(1000, 4.0), (2000, 0.25), (3000, 0.5)]}, "x")
    labels = [text.get_text() for text in drawn[0].axes[0].get_legend().get_texts()]
    assert labels == ["train", "val, lowest 0.25 at step 2,000"]


def test_the_moving_average_equals_a_naive_loop():
    values = np.random.default_rng(0).normal(size=30)
    naive = [values[max(0, i - 3) : i + 4].mean() for i in range(30)]
    np.testing.assert_allclose(charts._moving_average(values, 7), naive, atol=1e-12)


def test_a_history_with_one_point_can_be_drawn():
    assert has_colour(curves({"loss": [(1, 0.5)]}, "x"), TRAIN_BLUE)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("epoch,loss\n1,2\n", "step"),
        ("", "no finite value"),
        ("step,loss\n1,abc\n", "abc"),
        ("step,loss\n1,2\n,3\n", "damaged"),
        ("step,loss\n1,\n2,nan\n", "no finite value"),
    ],
)
def test_a_broken_history_is_named_in_one_line(tmp_path, content, message):
    path = tmp_path / "broken.csv"
    path.write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        curves(read_history(path), "broken.csv")
    assert "broken.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_history_is_a_users_mistake(tmp_path):
    with pytest.raises(UserError, match=r"none\.csv"):
        read_history(tmp_path / "none.csv")


def blue_lengths(image: Image.Image) -> list[int]:
    """Returns the length in pixels of every bar, from top to bottom."""
    # Text is blue too, but never for a hundred pixels on end.
    blue = (np.asarray(image)[:, :1000] == TRAIN_BLUE).all(-1).sum(1)
    starts = [y for y in range(1, len(blue)) if blue[y] > 100 and blue[y - 1] <= 100]
    return [int(blue[y + 5]) for y in starts]


def test_bars_are_as_long_as_their_accuracies_in_the_order_given():
    lengths = blue_lengths(bar_accuracies({"a": 0.8, "b": 0.4, "c": 0.6}, {}, "x"))
    np.testing.assert_allclose(np.array(lengths) / lengths[0], [1, 0.5, 0.75], atol=0.01)


def test_the_accuracy_on_real_pictures_is_shown_beside():
    painted = {"a": 0.8, "b": 0.4}
    charts = [bar_accuracies(painted, real, "x") for real in ({}, {"a": 0.9}, {"a": 0.7})]
    assert len({chart.tobytes() for chart in charts}) == 3


def test_an_accuracy_that_was_not_measured_has_no_bar():
    assert len(blue_lengths(bar_accuracies({"a": 0.8, "b": math.nan}, {"a": 0.9}, "x"))) == 1


def test_no_accuracies_at_all_still_give_a_chart_that_says_so(drawn):
    bar_accuracies({}, {}, "x")
    assert drawn[0].get_suptitle() == "x\nno accuracy was measured"


def test_dollars_and_backslashes_in_captions_are_no_mathematics():
    painted = bar_accuracies({r"$\frac$ of a shirt": 0.5}, {}, r"$\nope$")
    assert painted.size != bar_accuracies({"a": 0.5, "b": 0.5}, {}, "x").size


def test_no_text_of_a_chart_is_cut_at_an_edge():
    history = {"loss": [(s, 2.0 / s) for s in range(1, 200)], "val_loss": [(100_000, 1e-7)]}
    bars = bar_accuracies({LONG * 3: 1.0, "a": 0}, {"a": 1.0}, "x")
    for chart in (curves(history, "decoder"), bars):
        pixels = np.asarray(chart)
        for edge in (pixels[:5], pixels[-5:], pixels[:, :5], pixels[:, -5:]):
            assert is_paper(edge)


# ------------------------------------------------------------------------------ same in, same out


@pytest.mark.parametrize("channels", [1, 3])
def test_every_figure_is_rgb_and_the_same_twice(channels):
    first, second = every_figure(channels), every_figure(channels)
    for name, image in first.items():
        assert image.mode == "RGB", name
        assert image.tobytes() == second[name].tobytes(), name


def test_a_users_matplotlibrc_changes_nothing_and_stays_as_it_was():
    history = {"loss": [(1, 4.0), (9, 2.0)]}
    plain = curves(history, "x").tobytes()
    own = {"font.size": 30, "lines.linewidth": 9, "axes.facecolor": "pink"}
    with matplotlib.rc_context(own):
        assert curves(history, "x").tobytes() == plain
        assert {key: matplotlib.rcParams[key] for key in own} == own


def test_importing_figures_imports_neither_torch_nor_matplotlib():
    code = (
        "import sys, unclip.pictures.sheets\n"
        "sys.exit({'torch', 'matplotlib'} & set(sys.modules) != set())"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ------------------------------------------------------------------------------------- png files


def test_png_text_survives_with_unicode(tmp_path):
    text = {
        "prompt": "ein großer roter Kreis → 大きな赤い円\nzweite Zeile",
        "plain": "a disc",
        "e": "",
    }
    save_png(as_image(draw_shapes(1)[0]), tmp_path / "a.png", text)
    assert read_png_text(tmp_path / "a.png") == text
    assert all(type(value) is str for value in read_png_text(tmp_path / "a.png").values())


def test_the_bytes_of_a_png_depend_on_picture_and_text_only(tmp_path):
    image = as_image(draw_shapes(1)[0])
    save_png(image, tmp_path / "a.png", {"a": "1", "b": "ü→"})
    image.info = {"icc_profile": b"a profile", "transparency": (1, 2, 3), "date": "today"}
    save_png(image, tmp_path / "other name.png", {"b": "ü→", "a": "1"})
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "other name.png").read_bytes()


def test_a_png_holds_no_chunks_but_the_text_it_was_given(tmp_path):
    save_png(as_image(draw_shapes(1)[0]), tmp_path / "a.png", {"a": "1", "b": "→"})
    stream, kinds = (
        PngImagePlugin.ChunkStream(io.BytesIO((tmp_path / "a.png").read_bytes()[8:])),
        [],
    )
    while not kinds or kinds[-1] != b"IEND":
        kind, _, length = stream.read()
        stream.fp.seek(length + 4, os.SEEK_CUR)
        kinds.append(kind)
    assert kinds == [b"IHDR", b"tEXt", b"iTXt", b"IDAT", b"IEND"]


def test_a_saved_png_has_the_pixels_of_the_picture(tmp_path):
    image = as_image(draw_shapes(1)[0])
    save_png(image, tmp_path / "new" / "folder" / "a.png")
    with Image.open(tmp_path / "new" / "folder" / "a.png") as saved:
        assert saved.tobytes() == image.tobytes()
    assert read_png_text(tmp_path / "new" / "folder" / "a.png") == {}


def test_a_failed_save_leaves_the_old_picture_and_no_scraps(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    save_png(as_image(draw_shapes(1)[0]), path, {"is": "old"})

    def fail(self, content):
        with self.open("wb") as file:
            file.write(content[:20])
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="disk full"):
        save_png(as_image(draw_shapes(1)[0]), path, {"is": "new"})
    assert read_png_text(path) == {"is": "old"}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", [None, b"", b"\x89PNG\r\n\x1a\nhalf", b"GIF89a"])
def test_what_is_no_png_is_named_in_one_line(tmp_path, content):
    path = tmp_path / "odd.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"odd\.png") as caught:
        read_png_text(path)
    assert "\n" not in str(caught.value)


def test_a_damaged_png_is_read_or_named_but_never_crashes(tmp_path):
    path = tmp_path / "odd.png"
    save_png(as_image(draw_shapes(1, size=8)[0]), path, {"a": "1", "b": "→"})
    whole = path.read_bytes()
    refused = 0
    for place in range(len(whole)):
        flipped = whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :]
        for damaged in (whole[:place], flipped):
            path.write_bytes(damaged)
            try:
                assert read_png_text(path) == {"a": "1", "b": "→"}
            except UserError:
                refused += 1
    assert refused > len(whole)


# What evaluate and sweep draw


def test_neighbours_stand_in_four_rows():
    four = np.zeros((4, 3, 3, 8, 8), dtype=np.uint8)
    sheet = figures.neighbours(four)
    assert sheet.width > sheet.height
    with pytest.raises(AssertionError, match="expected \\(4, K, C, H, W\\)"):
        figures.neighbours(four[0])


def test_columns_of_a_grid_may_have_headings_of_their_own():
    images = np.zeros((2, 3, 1, 8, 8), dtype=np.uint8)
    plain = figures.grid(images, ["one", "two"])
    headed = figures.grid(images, ["one", "two"], headings=["2 steps", "4 steps", "8 steps"])
    assert plain.size == headed.size
    assert plain.tobytes() != headed.tobytes()


def test_a_heat_map_shows_every_figure_and_changes_with_it():
    values = np.array([[1.0, 2.0], [3.0, 4.0]])
    names = ("rows", "columns")
    one, same, other = (
        charts.heat_maps({"distance": v, "accuracy": values}, [1.0, 2.0], names, "title")
        for v in (values, values.copy(), values.T)
    )
    assert one.tobytes() == same.tobytes() != other.tobytes()


def test_lines_show_every_way_and_change_with_it():
    ways = {"ddim": [(2, 1.0), (4, 0.5)], "ddpm": [(2, 2.0), (4, 0.7)]}
    fewer = {"ddim": ways["ddim"]}
    one, same, other = (
        charts.lines({"distance": w}, "steps", "title") for w in (ways, dict(ways), fewer)
    )
    assert one.tobytes() == same.tobytes() != other.tobytes()


def test_a_strip_sets_apart_what_the_pictures_were_made_of():
    images, (before, after) = draw_shapes(3), draw_shapes(5)[3:]
    sheet = strip(images, "a way", ["0", "1", "2"], (before, after))
    (scale,) = [s for s in range(1, 9) if places(sheet, blocks(before, s))]
    row = [places(sheet, blocks(image, scale))[0] for image in (before, *images, after)]
    assert len({y for _, y in row}) == 1
    gaps = np.diff([x for x, _ in row])
    assert gaps[0] == gaps[3] > gaps[1] == gaps[2] > 32 * scale
    assert gaps[0] - gaps[1] >= 15


@pytest.mark.parametrize("given", [(True, False), (False, True), (False, False)])
def test_a_strip_shows_only_what_is_given(given):
    images, ends = draw_shapes(3), draw_shapes(5)[3:]
    before, after = (end if there else None for end, there in zip(ends, given, strict=True))
    sheet = strip(images, "a way", ["0", "1", "2"], (before, after))
    for image, is_there in [*((image, True) for image in images), *zip(ends, given, strict=True)]:
        assert any(places(sheet, blocks(image, s)) for s in range(1, 9)) == is_there


def test_a_strip_has_a_heading_for_each_picture():
    with pytest.raises(AssertionError, match="but 2 headings"):
        strip(draw_shapes(3), "a way", ["0", "1"])


def test_a_heading_that_would_run_into_the_one_before_is_left_out():
    images = draw_shapes(20)
    sheet = strip(images, "a way", [f"seed {100_000 + i}" for i in range(20)])
    shown = [f"seed {100_000 + i}" if i % 2 == 0 else "" for i in range(20)]
    assert sheet.tobytes() == strip(images, "a way", shown).tobytes()


def test_a_film_moves_pictures_and_headings_and_nothing_else():
    images = draw_shapes(3, 2)
    frames = film(images, ["a disc", LONG], ["t = 2", "t = 1", "t = 0"])
    assert len({frame.size for frame in frames}) == 1
    at = None
    for frame, moment in zip(frames, images, strict=True):
        (scale,) = [s for s in range(1, 9) if places(frame, blocks(moment[0], s))]
        found = [places(frame, blocks(image, scale)) for image in moment]
        at = at or found
        assert found == at
    below = max(y for places_ in at for _, y in places_) + 32 * scale + 2
    first, *others = (np.asarray(frame)[below:] for frame in frames)
    assert not is_paper(first)
    assert all(np.array_equal(first, other) for other in others)
    tops = [np.asarray(frame)[:39].tobytes() for frame in frames]
    assert len(set(tops)) == 3


def test_a_film_of_many_pictures_breaks_into_rows_of_five():
    (frame,) = film(draw_shapes(1, 7), list("abcdefg"), ["now"])
    assert frame.height > 2 * 192
    assert frame.width < 6 * 192 + 2 * 40


def gif_frames(path):
    with Image.open(path) as gif:
        for i in range(gif.n_frames):
            gif.seek(i)
            yield np.asarray(gif.convert("RGB")), gif.info["duration"]


def test_a_gif_plays_its_frames_in_order_for_as_long_as_told(tmp_path):
    images = draw_shapes(3)
    frames = [Image.fromarray(blocks(image, 4)) for image in images]
    save_gif(frames, tmp_path / "deep" / "a.gif", [100, 200, 900])
    found = list(gif_frames(tmp_path / "deep" / "a.gif"))
    assert [duration for _, duration in found] == [100, 200, 900]
    for (pixels, _), frame in zip(found, frames, strict=True):
        assert np.array_equal(pixels, np.asarray(frame))  # few colours: all are kept
    with Image.open(tmp_path / "deep" / "a.gif") as gif:
        assert gif.info["loop"] == 0


def test_blocks_of_a_gif_stay_blocks_where_colours_are_many(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (3, 32, 32), dtype=np.uint8)
    save_gif([Image.fromarray(blocks(noise, 4))], tmp_path / "a.gif", [100])
    ((pixels, _),) = gif_frames(tmp_path / "a.gif")
    corners = pixels[::4, ::4]
    assert np.array_equal(pixels, corners.repeat(4, 0).repeat(4, 1))
    assert np.abs(corners.astype(int) - noise.transpose(1, 2, 0)).mean() < 20


def test_a_gif_is_the_same_bytes_twice_and_a_failed_one_leaves_no_scraps(tmp_path, monkeypatch):
    frames = [Image.fromarray(blocks(image, 2)) for image in draw_shapes(2)]
    for name in ("a.gif", "b.gif"):
        save_gif(frames, tmp_path / name, [100, 100])
    assert (tmp_path / "a.gif").read_bytes() == (tmp_path / "b.gif").read_bytes()
    before = (tmp_path / "a.gif").read_bytes()
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        save_gif(frames[:1], tmp_path / "a.gif", [100])
    assert (tmp_path / "a.gif").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.gif", "b.gif"]
