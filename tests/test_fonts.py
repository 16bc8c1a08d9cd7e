"""Captions in any script: in a font that has them, in reading order, or with one line of advice."""

import matplotlib
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from unclip.pictures import charts, fonts, sheets

PICTURES = np.full((1, 1, 1, 8, 8), 250, dtype=np.uint8)
STIX = f"{matplotlib.get_data_path()}/fonts/ttf/STIXGeneral.ttf"  # has ℊ, DejaVu Sans has not


@pytest.fixture
def install(monkeypatch):
    """Gives a function that makes files the only fonts of the system, as in a new process."""
    cached = [function for function in vars(fonts).values() if hasattr(function, "cache_clear")]

    def only(*files: str) -> None:
        monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", lambda: list(files))
        for function in cached:
            function.cache_clear()

    yield only
    for function in cached:
        function.cache_clear()


def label(text: str) -> np.ndarray:
    """Returns where there is ink, (H, W), in the text beside a row of a sheet, cut to the text."""
    sheet = sheets.grid(PICTURES, [text]).convert("L")
    return cut(np.asarray(sheet)[:, : sheet.width - 192 - sheets.MARGIN - 2] < 128)


def cut(ink: np.ndarray) -> np.ndarray:
    ys, xs = np.nonzero(ink)
    return ink[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]


def draw_all(text: str) -> list[Image.Image]:
    """Returns every kind of sheet and chart that holds a user's words."""
    return [
        sheets.grid(PICTURES, [text], headings=[text]),
        sheets.preview(PICTURES[0], [text]),
        *sheets.film(PICTURES, [text], [text]),
        charts.bar_accuracies({text: 0.5}, {}, text),
        charts.curves({"loss": [(1, 1.0)]}, text),
    ]


def test_hebrew_runs_to_the_left_and_arabic_letters_join():
    highest = np.nonzero(label("לוווווו")[0])[0]  # lamed, the first letter, is the tallest
    assert highest.min() > label("לוווווו").shape[1] / 2
    highest = np.nonzero(label("arc לוווווו")[0])[0]  # words of one line keep their own directions
    assert highest.min() > label("arc").shape[1]
    assert label("بببب").any(0).all()  # four letters without a gap between them
    assert not label("دددد").any(0).all()  # these never join


@pytest.mark.filterwarnings("error")
def test_what_no_font_has_is_boxes_and_one_line_that_says_what_to_install(install, capsys):
    install()
    assert len({image.tobytes() for text in ("猫", "猫" * 9) for image in draw_all(text)}) == 10
    for text in ("แมวสีแดง", "लाल बिल्ली", "빨간 猫 🥷🏽 red"):
        draw_all(text)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "install" in said
    assert "fonts-noto" in said
    draw_all("rötlich – красный кот ❤ ❙ \u200fקטן\u2066 a\ufe0f")
    install()
    draw_all("rötlich – красный кот ❤ ❙ \u200fקטן\u2066 a\ufe0f")
    assert capsys.readouterr().err == ""


@pytest.mark.filterwarnings("error")
def test_what_dejavu_lacks_is_set_in_a_font_of_the_system(install, capsys, tmp_path):
    install()
    boxes, plain = draw_all("ℊ"), draw_all("g")
    damaged = tmp_path / "damaged.ttf"
    damaged.write_bytes(b"no font")
    capsys.readouterr()
    install(str(damaged), STIX)
    found = draw_all("ℊ")
    assert all(a.tobytes() != b.tobytes() for a, b in zip(found, boxes, strict=True))
    assert [image.tobytes() for image in draw_all("g")] == [image.tobytes() for image in plain]
    assert capsys.readouterr().err == ""
    page = Image.new("L", (80, 80))
    ImageDraw.Draw(page).text((9, 9), "ℊ", fill=255, font=ImageFont.truetype(STIX, 20))
    expected = cut(np.asarray(page) > 128)
    assert np.abs(np.subtract(label("ℊ").shape, expected.shape)).max() <= 2
    assert label("a ℊ").shape[1] > label("a").shape[1] + expected.shape[1]
