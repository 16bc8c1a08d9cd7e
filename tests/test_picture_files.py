import struct
from pathlib import Path

import numpy as np
import pytest
from hostile_pictures import REFUSED, encoded, png, random_rgb
from PIL import Image

from unclip.config.errors import UserError
from unclip.pictures.files import MOST_PIXELS, picture_size, read_picture

SIDE = 12


def noise(*shape: int, seed: int = 0, high: int = 256, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, high, shape, dtype=dtype)


def saved(folder: Path, image: Image.Image, kind: str = "PNG", **options: object) -> Path:
    path = folder / "picture"  # what a file is called says nothing of what it is
    image.save(path, kind, **options)
    return path


def read(path: Path, channels: int = 3, size: int = SIDE) -> np.ndarray:
    """The picture with its channels last, as numpy and Pillow have them."""
    found = read_picture(path, size, channels)
    assert found.dtype == np.uint8
    assert found.flags.c_contiguous
    assert found.shape == (channels, size, size)
    return found.transpose(1, 2, 0)


# What is honoured


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_a_picture_of_the_right_size_keeps_every_pixel(tmp_path, kind):
    pixels = noise(SIDE, SIDE, 3)
    assert (read(saved(tmp_path, Image.fromarray(pixels), kind)) == pixels).all()


@pytest.mark.parametrize("kind", ["WEBP", "JPEG"])
def test_a_lossy_picture_is_what_was_saved_but_for_its_loss(tmp_path, kind):
    ramp = np.repeat(np.linspace(20, 230, SIDE).astype(np.uint8)[:, None], SIDE, axis=1)
    pixels = np.stack([ramp, ramp.T, 255 - ramp], axis=2)
    found = read(saved(tmp_path, Image.fromarray(pixels), kind, quality=100))
    assert np.abs(found.astype(int) - pixels).mean() < 8


def test_grey_becomes_three_equal_channels_or_stays_one(tmp_path):
    pixels = noise(SIDE, SIDE)
    path = saved(tmp_path, Image.fromarray(pixels))
    assert (read(path) == pixels[..., None]).all()
    assert (read(path, channels=1)[..., 0] == pixels).all()


def test_colour_becomes_grey_by_its_brightness(tmp_path):
    pixels = noise(SIDE, SIDE, 3)
    found = read(saved(tmp_path, Image.fromarray(pixels)), channels=1)[..., 0]
    assert np.abs(found - pixels @ np.array([0.299, 0.587, 0.114])).max() <= 1


def test_a_bitmap_is_black_and_white(tmp_path):
    bits = noise(SIDE, SIDE, high=2).astype(bool)
    assert (read(saved(tmp_path, Image.fromarray(bits)))[..., 0] == 255 * bits).all()


def paletted(index: np.ndarray, table: np.ndarray) -> Image.Image:
    image = Image.fromarray(index, mode="L")
    image.putpalette(table.tobytes())
    return image


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_palette_is_looked_up(tmp_path, kind):
    index, table = noise(SIDE, SIDE, high=256), noise(256, 3, seed=1)
    assert (read(saved(tmp_path, paletted(index, table), kind)) == table[index]).all()


def over_white(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None] / 255
    return pixels * share + 255 * (1 - share)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_a_transparent_picture_is_laid_over_white(tmp_path, kind):
    pixels = noise(SIDE, SIDE, 4)
    options = {} if kind == "PNG" else {"lossless": True, "exact": True}
    found = read(saved(tmp_path, Image.fromarray(pixels), kind, **options))
    assert np.abs(found - over_white(pixels[..., :3], pixels[..., 3])).max() <= 1


def test_transparent_grey_is_laid_over_white(tmp_path):
    pixels = noise(SIDE, SIDE, 2)
    found = read(saved(tmp_path, Image.fromarray(pixels, mode="LA")), channels=1)
    assert np.abs(found - over_white(pixels[..., :1], pixels[..., 1])).max() <= 1


def test_a_palette_with_transparent_colours_is_laid_over_white(tmp_path):
    index, table, alpha = noise(SIDE, SIDE), noise(256, 3, seed=1), noise(256, seed=2)
    path = saved(tmp_path, paletted(index, table), transparency=alpha.tobytes())
    assert np.abs(read(path) - over_white(table[index], alpha[index])).max() <= 1


@pytest.mark.parametrize("channels", [1, 3])
def test_one_transparent_colour_is_white(tmp_path, channels):
    shape = (SIDE, SIDE) if channels == 1 else (SIDE, SIDE, 3)
    pixels = noise(*shape, high=2) * 90
    clear = 90 if channels == 1 else (90, 0, 90)
    path = saved(tmp_path, Image.fromarray(pixels), transparency=clear)
    pixels = pixels.reshape(SIDE, SIDE, channels)
    expected = np.where((pixels == clear).all(axis=2, keepdims=True), 255, pixels)
    assert (read(path, channels) == expected).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_greys_of_16_bits_are_scaled_and_not_cut(tmp_path, kind):
    pixels = noise(SIDE, SIDE, high=65536, dtype=np.uint16)
    found = read(saved(tmp_path, Image.fromarray(pixels), kind), channels=1)[..., 0]
    assert np.abs(found - pixels / 65535 * 255).max() <= 0.5


def test_the_transparent_grey_of_16_bits_is_white(tmp_path):
    pixels = np.full((SIDE, SIDE), 1000, dtype=np.uint16)
    pixels[2:5] = 1001  # one more, and 8 bits would not tell
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    path = tmp_path / "p.png"
    path.write_bytes(png(SIDE, SIDE, rows, depth=16, colour=0, clear=struct.pack(">H", 1001)))
    expected = np.where(pixels == 1001, 255, round(1000 / 257))
    assert (read(path, channels=1)[..., 0] == expected).all()


def test_colours_of_16_bits_are_scaled(tmp_path):
    pixels = noise(SIDE, SIDE, 3, high=65536, dtype=np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    path = tmp_path / "p.png"
    path.write_bytes(png(SIDE, SIDE, rows, depth=16))
    assert np.abs(read(path) - pixels / 65535 * 255).max() <= 1


UPRIGHT = {  # EXIF 2.32, tag 274: what to do with the stored picture
    1: lambda p: p,
    2: np.fliplr,
    3: lambda p: np.rot90(p, 2),
    4: np.flipud,
    5: lambda p: np.flipud(np.rot90(p)),
    6: lambda p: np.rot90(p, -1),
    7: lambda p: np.fliplr(np.rot90(p)),
    8: np.rot90,
}


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_a_picture_is_turned_as_its_exif_data_say(tmp_path, orientation, kind):
    pixels = noise(SIDE, SIDE, 3)
    exif = Image.Exif()
    exif[274] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    path = saved(tmp_path, Image.fromarray(pixels), kind, exif=exif, **options)
    assert (read(path) == UPRIGHT[orientation](pixels)).all()


def test_a_phones_jpeg_of_two_pictures_is_its_first(tmp_path):
    first, second = (Image.new("RGB", (SIDE, SIDE), colour) for colour in ("red", "blue"))
    path = saved(tmp_path, first, "MPO", save_all=True, append_images=[second], quality=100)
    assert np.abs(read(path).reshape(-1, 3).mean(axis=0) - (254, 0, 0)).max() < 3


@pytest.mark.parametrize("is_wide", [True, False])
def test_the_middle_square_is_kept(tmp_path, is_wide):
    strip = np.zeros((SIDE, 3 * SIDE, 3), dtype=np.uint8)
    strip[:, :SIDE, 0] = strip[:, 2 * SIDE :, 2] = 255
    middle = noise(SIDE, SIDE, 3)
    strip[:, SIDE : 2 * SIDE] = middle
    pixels = strip if is_wide else strip.transpose(1, 0, 2)
    found = read(saved(tmp_path, Image.fromarray(np.ascontiguousarray(pixels))))
    assert (found == (middle if is_wide else middle.transpose(1, 0, 2))).all()


def test_a_large_picture_is_averaged_and_not_picked_from(tmp_path):
    board = np.indices((8 * SIDE, 8 * SIDE)).sum(axis=0) % 2 * 255  # its mean is grey
    found = read(saved(tmp_path, Image.fromarray(board.astype(np.uint8))))
    assert np.abs(found.astype(int) - 127).max() <= 3


def test_a_small_picture_is_enlarged(tmp_path):
    found = read(saved(tmp_path, Image.new("RGB", (1, 2), (10, 20, 30))))
    assert (found == (10, 20, 30)).all()


def test_a_large_jpeg_comes_out_as_if_it_were_decoded_whole(tmp_path):
    y, x = np.mgrid[:600, :900] / 900
    pixels = np.stack([x * 255, y * 255, 127 + 127 * np.sin(9 * x * y)], axis=2).astype(np.uint8)
    path = saved(tmp_path, Image.fromarray(pixels), "JPEG", quality=95)
    block = pixels[:, 150:750].reshape(SIDE, 50, SIDE, 50, 3).mean(axis=(1, 3))
    assert np.abs(read(path) - block).max() < 6


def test_a_header_tells_the_size_without_the_picture(tmp_path):
    path = tmp_path / "p.png"
    path.write_bytes(encoded(random_rgb(np.random.default_rng(0), 31, 17), "PNG"))
    assert picture_size(path) == (31, 17)


# What is refused


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_picture(path, SIDE, 3)
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert line.isprintable()
    return line.removeprefix(f"{path}: ")


WORDS = {
    "truncated": "cannot be read (",
    "moving": "several pictures; expected one",
    "CMYK": "CMYK; expected RGB or grey",
    "F ": "is F; expected RGB or grey",
    "I ": "is I; expected RGB or grey",
    "LAB": "is LAB; expected RGB or grey",
    **dict.fromkeys(("text", "page", "PDF", "EPS", "empty"), "PNG, JPEG, WebP, BMP, GIF or TIFF"),
    "bomb": "has 9500 × 950",
    "huge bomb": "pixels",
    "bit flipped": "cannot be read (",
    "without pixels": "",
    "clear colour": "16 bits",
    "garbage": "",
    "folder": "is no file; expected a picture",
    "pipe": "is no file; expected a picture",
    "missing": "no such file; expected a picture",
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", REFUSED)
def test_what_can_not_be_honoured_is_refused_in_one_line(tmp_path, kind, seed):
    path = tmp_path / "picture.png"
    REFUSED[kind](path, np.random.default_rng(seed))
    line = refusal(path)
    words = next(words for start, words in WORDS.items() if kind.startswith(start))
    assert words in line


def test_as_many_pixels_as_are_allowed_are_allowed(tmp_path):
    height = MOST_PIXELS // 10_000
    path = saved(tmp_path, Image.new("1", (10_000, height), 1))
    assert (read(path) == 255).all()
    assert "has 10000 × 8001 pixels" in refusal(
        saved(tmp_path, Image.new("1", (10_000, height + 1)))
    )


def test_a_file_that_may_not_be_read_is_one_line(tmp_path, monkeypatch):
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = saved(tmp_path, Image.new("RGB", (4, 4)))
    monkeypatch.setattr(Image, "open", denied)
    assert "Permission denied" in refusal(path)


def test_a_name_that_does_not_show_is_quoted(tmp_path):
    with pytest.raises(UserError) as caught:
        read_picture(tmp_path / "a\nb.png", SIDE, 3)
    assert str(caught.value).isprintable()
