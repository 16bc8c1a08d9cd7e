"""A user's picture file, brought to what a model takes, or refused in one line.

A file may be anything: a photograph lying on its side, an icon with a clear ground, a text file
with another name. What has one right meaning is honoured, and nothing is guessed.
"""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from unclip.config.errors import UserError
from unclip.config.strict import one_line

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
MOST_PIXELS = 80_000_000  # a third of a GB once decoded; a small file can claim any size
GREY_16 = ("I;16", "I;16L", "I;16B", "I;16N")
EIGHT_BIT = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr")
WHITE = (255, 255, 255, 255)


def read_picture(path: Path, image_size: int, channels: int) -> npt.NDArray[np.uint8]:
    """Returns a picture file as (C, image_size, image_size) uint8.

    It is turned according to its EXIF data and laid over white where it is transparent; 16 bits
    are scaled to 8, and grey, palette and colour are converted to `channels`. Colour profiles are
    ignored. The largest square in the middle is then cut out and resized: stretching would change
    the shape of things, and a border would teach the models to paint borders. Bicubic with
    anti-aliasing, as Parmar et al. 2022 (arXiv:2104.11222) advise; a picture of the right size
    keeps every pixel.

    Args:
        path: a PNG, JPEG, WebP, BMP, GIF or TIFF file of one picture.
        image_size: height and width.
        channels: 1 for grey or 3 for red, green and blue.

    Raises:
        UserError: the file is missing, damaged, no such picture, animated, too large, or of another
            colour mode, such as CMYK.
    """
    assert channels in (1, 3), f"a picture has 1 or 3 channels, not {channels}"
    with _opened(path) as image:
        # A large JPEG is decoded at a fraction of its size, still twice what is needed.
        image.draft(None, (2 * image_size, 2 * image_size))
        upright = ImageOps.exif_transpose(image)
        flat = _over_white(upright).convert("L" if channels == 1 else "RGB")
        square = ImageOps.fit(flat, (image_size, image_size), Image.Resampling.BICUBIC)
        pixels = np.asarray(square, dtype=np.uint8).reshape(image_size, image_size, channels)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def picture_size(path: Path) -> tuple[int, int]:
    """Returns (width, height) in pixels from a file's header, without decoding the picture.

    Raises:
        UserError: as `read_picture`, as far as the header shows.
    """
    with _opened(path) as image:
        return image.size


def names_picture(word: str) -> bool:
    """Returns whether a word names a picture file, existing or not, instead of being a prompt."""
    return word.lower().endswith(SUFFIXES) or os.path.isfile(word)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Gives an open picture whose header is sound; any failure inside is the file's fault."""
    where = one_line(str(path))
    if not os.path.isfile(path):  # reading a pipe or a device would never end
        what = "is no file" if os.path.exists(path) else "no such file"
        raise UserError(f"{where}: {what}; expected a picture; check the name")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's doubts; what matters is refused below
            with Image.open(path, formats=FORMATS) as image:
                if problem := _problem(image):
                    raise UserError(f"{where}: {problem}")
                yield image
    except UserError:
        raise
    except Exception as error:  # a damaged file can fail in any way
        reason = one_line(" ".join(str(error).split())[:100] or type(error).__name__)
        raise UserError(
            f"{where}: cannot be read ({reason}); expected a whole PNG, JPEG, WebP, BMP, GIF or "
            "TIFF; replace or remove it"
        ) from None


def _problem(image: Image.Image) -> str | None:
    """Returns why a picture has no right meaning here, as far as its header says."""
    width, height = image.size
    if not 0 < width * height <= MOST_PIXELS:
        most = MOST_PIXELS // 10**6
        return f"has {width} × {height} pixels; expected 1 to {most} million; resize or remove it"
    # The second picture of a phone's JPEG (MPO) is a preview, or the other eye.
    if getattr(image, "is_animated", False) and image.format != "MPO":
        return "holds several pictures; expected one; save the one that is meant"
    if image.mode not in EIGHT_BIT + GREY_16:  # such as CMYK, whose colours depend on a printer
        return f"is {image.mode}; expected RGB or grey of 8 or 16 bits; save it as RGB"
    return None


def _over_white(image: Image.Image) -> Image.Image:
    """Returns a picture of 8 bits without transparency."""
    clear = image.info.get("transparency")  # a colour, or a palette's alpha values
    if image.mode in GREY_16:
        numbers = np.asarray(image)
        greys = np.rint(numbers / 257).astype(np.uint8)  # 65535 / 255
        return Image.fromarray(np.where(numbers == clear, np.uint8(255), greys))
    if not image.has_transparency_data:
        return image
    if image.mode == "RGB" and isinstance(clear, tuple) and max(clear) > 255:
        # Of 16 bits: Pillow has reduced the pixels to 8, so it is unknown which ones are meant.
        raise ValueError("a clear colour of 16 bits")
    return Image.alpha_composite(Image.new("RGBA", image.size, WHITE), image.convert("RGBA"))
