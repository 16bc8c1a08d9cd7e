"""Picture files as users have them, made on the spot, and what is right or wrong with each."""

import os
import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
Make = Callable[[Path, np.random.Generator], None]


def random_rgb(draws: np.random.Generator, width: int = 40, height: int = 30) -> Image.Image:
    """Returns coloured noise."""
    return Image.fromarray(draws.integers(0, 256, (height, width, 3), dtype=np.uint8))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """Returns an image as the bytes of a file."""
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """Returns a chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    width: int,
    height: int,
    rows: bytes,
    *,
    depth: int = 8,
    colour: int = 2,
    clear: bytes = b"",
) -> bytes:
    """Returns a PNG written by hand.

    Args:
        width: that the header claims.
        height: likewise.
        rows: each with a filter byte (0) before it.
        depth: bits of a sample.
        colour: 0 is grey, 2 is RGB.
        clear: the content of a tRNS chunk, if there is one.
    """
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = png_chunk(b"IHDR", header) + (png_chunk(b"tRNS", clear) if clear else b"")
    chunks += png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def truncated(kind: str) -> Make:
    """Returns a maker of files of this kind that end too early."""

    def make(path: Path, draws: np.random.Generator) -> None:
        data = encoded(random_rgb(draws), kind)
        path.write_bytes(data[: int(draws.integers(1, int(0.8 * len(data))))])

    return make


def bit_flipped(path: Path, draws: np.random.Generator) -> None:
    """Writes a PNG one bit of whose picture has changed."""
    data = bytearray(encoded(random_rgb(draws), "PNG"))
    start = data.index(b"IDAT") + 4
    stop = data.index(b"IEND") - 8
    data[int(draws.integers(start, stop))] ^= 1 << int(draws.integers(8))
    path.write_bytes(data)


def renamed(content: bytes) -> Make:
    """Returns a maker of files that are no pictures."""

    def make(path: Path, draws: np.random.Generator) -> None:
        path.write_bytes(content)

    return make


def bomb(side: int) -> Make:
    """Returns a maker of small PNGs that claim side × side pixels."""

    def make(path: Path, draws: np.random.Generator) -> None:
        path.write_bytes(png(side, side + int(draws.integers(9)), b"\0" * 100))

    return make


def moving(kind: str) -> Make:
    """Returns a maker of files that hold several pictures."""

    def make(path: Path, draws: np.random.Generator) -> None:
        frames = [random_rgb(draws) for _ in range(int(draws.integers(2, 5)))]
        path.write_bytes(encoded(frames[0], kind, save_all=True, append_images=frames[1:]))

    return make


def of_mode(mode: str, kind: str) -> Make:
    """Returns a maker of pictures whose numbers are of this kind."""

    def make(path: Path, draws: np.random.Generator) -> None:
        path.write_bytes(encoded(random_rgb(draws).convert(mode), kind))

    return make


def without_pixels(path: Path, draws: np.random.Generator) -> None:
    """Writes a PNG of no width."""
    path.write_bytes(png(0, int(draws.integers(1, 9)), b""))


def clear_colour_of_16_bits(path: Path, draws: np.random.Generator) -> None:
    """Writes an RGB PNG of 16 bits with a transparent colour that 8 bits cannot name."""
    rows = b"".join(b"\0" + draws.bytes(6 * 5) for _ in range(4))
    path.write_bytes(png(5, 4, rows, depth=16, clear=struct.pack(">HHH", 300, 7, 65535)))


def garbage(path: Path, draws: np.random.Generator) -> None:
    """Writes chance behind the first bytes of a picture."""
    start = encoded(random_rgb(draws), str(draws.choice(FORMATS)))[:8]
    path.write_bytes(start + draws.bytes(int(draws.integers(0, 3000))))


def a_folder(path: Path, draws: np.random.Generator) -> None:
    """Makes a folder with the name of a picture."""
    path.mkdir()


def a_pipe(path: Path, draws: np.random.Generator) -> None:
    """Makes a pipe, from which nothing will ever come."""
    os.mkfifo(path)


def nothing(path: Path, draws: np.random.Generator) -> None:
    """Writes no file at all."""


REFUSED: dict[str, Make] = {
    **{f"truncated {kind}": truncated(kind) for kind in FORMATS},
    **{f"moving {kind}": moving(kind) for kind in ("PNG", "WEBP", "GIF", "TIFF")},
    **{f"CMYK {kind}": of_mode("CMYK", kind) for kind in ("JPEG", "TIFF")},
    **{f"{mode} TIFF": of_mode(mode, "TIFF") for mode in ("F", "I", "LAB")},
    "text": renamed(b"these are words\n" * 9),
    "page": renamed(b"<!DOCTYPE html><svg xmlns='http://www.w3.org/2000/svg'></svg>"),
    "PDF": renamed(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<<>>\nendobj\n"),
    "EPS": renamed(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n"),
    "empty": renamed(b""),
    "bomb": bomb(9_500),
    "huge bomb": bomb(60_000),
    "bit flipped": bit_flipped,
    "without pixels": without_pixels,
    "clear colour of 16 bits": clear_colour_of_16_bits,
    "garbage": garbage,
    "folder": a_folder,
    "pipe": a_pipe,
    "missing": nothing,
}
