"""Ways from one picture to another, and out of noise, as a strip and a film."""

from collections.abc import Sequence
from pathlib import Path

from unclip.painting.latents import evenly, shares
from unclip.painting.painted import Painted
from unclip.painting.system import Pictures
from unclip.pictures.gif import save_gif
from unclip.pictures.png import save_png
from unclip.pictures.sheets import film, strip

MOST_IN_STRIP = 11  # of the frames; all of them are in the film
FRAME_TIME, END_TIME = 150, 900  # milliseconds, of a frame and of those at the ends


def save_way(
    painted: Painted,
    out: Path,
    name: str,
    given: Sequence[Pictures | None],
    strength: float = 1.0,
) -> tuple[Path, int]:
    """Writes a way from one picture to another: each picture, a strip and a film of them.

    Args:
        painted: F pictures (F, C, H, W).
        out: the folder.
        name: of the files.
        given: the two pictures between which, or from which, it goes.
        strength: how far the last of them goes.

    Returns:
        where the strip is, and how many pictures replaced others.
    """
    frames, label = painted.images, painted.sheet_note["description"]
    replaced = painted.save(out, [f"{name}_{i:02}" for i in range(len(frames))])
    shown = evenly(len(frames), MOST_IN_STRIP)
    headings = [f"{strength * share:.2f}" for share in shares(len(frames))]
    before, after = given
    sheet = strip(frames[shown], label, [headings[i] for i in shown], (before, after))
    path = out / f"{name}.png"
    save_png(sheet, path, painted.sheet_note)
    # There and back again, so that it never jumps.
    order = [*range(len(frames)), *range(len(frames) - 2, 0, -1)]
    drawn = film(frames[:, None], [label], headings)
    ends = (0, len(frames) - 1)
    durations = [END_TIME if i in ends else FRAME_TIME for i in order]
    save_gif([drawn[i] for i in order], path.with_suffix(".gif"), durations)
    return path, replaced
