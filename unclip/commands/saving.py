"""Writes what a command has painted: each picture, a sheet of them, a film of a way."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import typer
from PIL import Image

from unclip.commands.common import make_folder, slugs
from unclip.painting.latents import evenly, shares
from unclip.painting.painted import Painted
from unclip.painting.system import Pictures
from unclip.pictures.gif import save_gif
from unclip.pictures.png import save_png
from unclip.pictures.sheets import film, strip
from unclip.running.progress import progress

MOST_IN_STRIP = 11  # frames; the film has all of them
FRAME_TIME, END_TIME = 150, 900  # milliseconds, of a frame and of the first and last ones


@contextmanager
def painting(out: Path, total: int) -> Iterator[Callable[[int], None]]:
    """Makes the folder for pictures and shows progress; gives what counts the painted ones."""
    make_folder(out)
    with progress("painting", total) as bar:
        yield bar.advance


def save_all(painted: Painted, names: Sequence[str], sheet: Image.Image, path: Path) -> None:
    """Writes a sheet and, beside it, each picture under its name, and says where they are."""
    replaced = painted.save(path.parent, names)
    save_png(sheet, path, painted.sheet_note)
    pictures = f"{len(names)} {'picture' if len(names) == 1 else 'pictures'}"
    lost = f"; earlier ones replaced: {replaced} (another --out keeps both)" if replaced else ""
    typer.echo(f"{path}  and {pictures} beside it{lost}")


def save_way(
    painted: Painted,
    out: Path,
    titles: Sequence[str],
    ends: tuple[Pictures | None, Pictures | None],
    strength: float = 1.0,
) -> None:
    """Writes a way from one picture to another: each picture, a strip and a film of them.

    Args:
        painted: F pictures (F, C, H, W).
        out: the folder.
        titles: of what it goes from and to; with the command they name the files.
        ends: the given pictures, where there are any, which the strip shows at its ends.
        strength: how far the last picture goes.
    """
    frames, label = painted.images, painted.sheet_note["description"]
    name = "_".join([painted.sheet_note["command"], *slugs(titles)])
    path = out / f"{name}.png"
    headings = [f"{strength * share:.2f}" for share in shares(len(frames))]
    shown = evenly(len(frames), MOST_IN_STRIP)
    sheet = strip(frames[shown], label, [headings[i] for i in shown], ends)
    drawn = film(frames[:, None], [label], headings)
    last = len(frames) - 1
    order = [*range(last), *range(last, 0, -1)]  # there and back again, so that it never jumps
    durations = [END_TIME if i in (0, last) else FRAME_TIME for i in order]
    save_gif([drawn[i] for i in order], path.with_suffix(".gif"), durations)
    save_all(painted, [f"{name}_{i:02}" for i in range(len(frames))], sheet, path)
