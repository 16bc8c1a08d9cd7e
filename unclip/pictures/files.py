"""A user's picture file brought to what a model takes; what cannot be is refused, in one line.

A file may be anything: a photograph lying on its side, an icon with a clear ground, a text file
with another name. Whatever has one right meaning is honoured, and nothing is guessed.
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
MOST_PIXELS = 80_000_000  # decoded it takes a third of a GB; a small file can claim any size
GREY_16 = ("I;16", "I;16L", "I;16B", "I;16N")
EIGHT_BIT = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr")
WHITE = (255, 255, 255, 255)


def read_picture(path: Path, image_size: int, channels: int) -> npt.NDArray[np.uint8]:
    """Returns a picture file as (C, image_size, image_size) uint8.

    It is turned as its EXIF data say, laid over white where it is transparent, 16 bits are scaled
    to 8, and grey, palette and colour are brought to `channels`. Colour profiles are left unread.
    Then the largest square in the middle is cut out and resized: stretching would change the shape
    of things, and a border would teach the models to paint borders. Bicubic with anti-aliasing, as
    Parmar et al. 2022 (arXiv:2104.11222) advise; a picture of the right size keeps every pixel.

    Args:
        path: a PNG, JPEG, WebP, BMP, GIF or TIFF file of one picture.
        image_size: height and width.
        channels: 1 for grey or 3 for red, green and blue.

    Raises:
        UserError: the file is missing, damaged, no such picture, moving, too large, CMYK or of
            numbers that are no colours.
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
    """Returns (width, height) in pixels as a file's header has them, without decoding the picture.

    Raises:
        UserError: as `read_picture`, as far as the header tells.
    """
    with _opened(path) as image:
        return image.size


def names_picture(word: str) -> bool:
    """Returns whether a word names a picture file, there or not, rather than being a prompt."""
    path = Path(word)
    return path.suffix.lower() in SUFFIXES or _is_file(path)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # longer than a name may be, or with a zero byte
        return False


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Gives an open picture whose header is sound; any failure inside is the file's own."""
    where = one_line(str(path))
    if not os.path.isfile(path):  # a pipe or a device would keep us waiting for ever
        what = "is no file" if os.path.exists(path) else "no such file"
        raise UserError(f"{where}: {what}; expected a picture; check the name")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's doubts; what matters is refused below
            with Image.open(path, formats=FORMATS) as image:
                _require_sound(image, where)
                yield image
    except UserError:
        raise
    except Image.UnidentifiedImageError:
        raise UserError(
            f"{where}: is no picture that can be read; expected PNG, JPEG, WebP, BMP, GIF or TIFF; "
            "save it as one of them or remove it"
        ) from None
    except Image.DecompressionBombError:
        raise UserError(_too_large(where, "far too many")) from None
    except PermissionError:
        raise UserError(f"{where}: may not be read; expected a picture; allow it") from None
    except Exception as error:  # a damaged file can fail in any way
        reason = one_line(" ".join(str(error).split())[:100] or type(error).__name__)
        raise UserError(
            f"{where}: is damaged ({reason}); expected a whole picture; replace or remove it"
        ) from None


def _require_sound(image: Image.Image, where: str) -> None:
    """Raises UserError for what is a picture and yet not one that has a right meaning here."""
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise UserError(_too_large(where, f"{width} × {height}"))
    if width * height == 0:
        raise UserError(f"{where}: is {width} × {height} pixels; expected a picture; remove it")
    # The second picture of a phone's JPEG (MPO) is a preview, or the other eye.
    if getattr(image, "is_animated", False) and image.format != "MPO":
        count = getattr(image, "n_frames", 2)
        raise UserError(
            f"{where}: holds {count} pictures; expected one; save the one that is meant"
        )
    if image.mode == "CMYK":
        raise UserError(
            f"{where}: is CMYK, whose colours depend on a printer; expected RGB or grey; "
            "save it as RGB"
        )
    if image.mode not in EIGHT_BIT + GREY_16:
        raise UserError(
            f"{where}: holds numbers of the kind {image.mode}; expected colours or greys of 8 or "
            "16 bits; save it as RGB"
        )


def _too_large(where: str, pixels: str) -> str:
    return (
        f"{where}: has {pixels} pixels; expected at most {MOST_PIXELS // 10**6} million; "
        "save it smaller"
    )


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
        # Of 16 bits: which pixels it names cannot be told once they have 8.
        raise ValueError("a clear colour of 16 bits")
    return Image.alpha_composite(Image.new("RGBA", image.size, WHITE), image.convert("RGBA"))
