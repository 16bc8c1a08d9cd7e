"""PNG files with a note inside: the same picture and the same text give the same bytes."""

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, PngImagePlugin

from unclip.config.errors import UserError
from unclip.core.files import replaced


def save_png(image: Image.Image, path: str | Path, text: Mapping[str, str] | None = None) -> None:
    """Writes a PNG, whole or not at all.

    Args:
        image: the picture.
        path: missing folders are made, an existing file is replaced.
        text: notes in the file (tEXt, or iTXt beyond Latin-1), in sorted order; keys are 1 to 79
            Latin-1 characters.
    """
    encoded = encode_png(image, text)
    with replaced(Path(path)) as temporary:
        temporary.write_bytes(encoded)


def encode_png(image: Image.Image, text: Mapping[str, str] | None = None) -> bytes:
    """Returns what `save_png` writes."""
    info = PngImagePlugin.PngInfo()
    for key, value in sorted((text or {}).items()):
        assert 0 < len(key) < 80, f"a PNG text key has 1 to 79 characters, not {len(key)}"
        info.add_text(key, value)
    bare = image.copy()  # without its own metadata, such as a date
    bare.info = {}
    stream = io.BytesIO()
    bare.save(stream, format="PNG", pnginfo=info, compress_level=6)
    return stream.getvalue()


def as_image(picture: npt.NDArray[np.uint8]) -> Image.Image:
    """Returns a picture (C, H, W) uint8, grey or RGB, as a Pillow image."""
    return Image.fromarray(picture[0] if len(picture) == 1 else picture.transpose(1, 2, 0))


def read_png_text(path: str | Path) -> dict[str, str]:
    """Returns the text of a PNG, empty if it has none.

    Raises:
        UserError: the file is missing, or is not a PNG.
    """
    try:
        with Image.open(path, formats=["PNG"]) as image:
            assert isinstance(image, PngImagePlugin.PngImageFile)
            return {key: str(value) for key, value in image.text.items()}
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; expected a PNG; check the path") from None
    except OSError as error:  # also what Pillow cannot identify
        raise UserError(
            f"{path}: not a readable PNG ({error}); expected a picture painted here; paint it again"
        ) from None
