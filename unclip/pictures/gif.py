"""Moving pictures: GIF files, the same frames giving the same bytes."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from unclip.core.files import replaced

COLOURS = 256  # of a frame, the most that a GIF has


def save_gif(frames: Sequence[Image.Image], path: Path, durations: Sequence[int]) -> None:
    """Writes a GIF that plays for ever; a reader meets the old file or the whole new one.

    Each frame has the palette that suits it best, and no dithering: blocks stay blocks.

    Args:
        frames: RGB, all of one size.
        path: where to; missing folders are made, a file already there is replaced.
        durations: how long each frame stands, in milliseconds.
    """
    assert len(frames) == len(durations), f"{len(frames)} frames, {len(durations)} durations"
    first, *rest = [frame.quantize(COLOURS) for frame in frames]
    with replaced(path) as temporary:
        first.save(
            temporary,
            format="GIF",
            save_all=True,
            append_images=rest,
            duration=list(durations),
            loop=0,
            disposal=1,
        )
