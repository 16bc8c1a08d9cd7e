"""Moving pictures as GIF files; the same frames give the same bytes."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from unclip.core.files import replaced

COLOURS = 256  # of a frame, the most that a GIF can have


def save_gif(frames: Sequence[Image.Image], path: Path, durations: Sequence[int]) -> None:
    """Writes a GIF that loops for ever, whole or not at all.

    Each frame has its own palette and no dithering: blocks stay blocks.

    Args:
        frames: RGB, all of one size.
        path: missing folders are made, an existing file is replaced.
        durations: of the frames, in milliseconds.
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
