"""What commands that paint share: settings, checkpoints, where to write, and how files are named.

Nothing here imports torch on its own: it takes seconds, and a user's mistakes are found before.
"""

import itertools
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from unclip.config.errors import UserError
from unclip.config.layout import Layout, models_in
from unclip.provenance.revisions import fetch_models

if TYPE_CHECKING:
    from unclip.core.device import Machine
    from unclip.painting.notes import Pictures
    from unclip.painting.system import System

SHOWN_WORDS = 12  # of those that a model knows, in a warning
LONGEST_NAME = 40  # characters of a prompt in a file name, which may hold 255 bytes


@contextmanager
def checkpoints(rev: str | None, source: Path | None) -> Iterator[Path]:
    """Gives a folder with trained networks, below `models` in it or in the folder itself.

    Args:
        rev: git revision or experiment whose checkpoints are meant; None for a folder's.
        source: the folder; None for the current one.

    Raises:
        UserError: both are named, a revision's checkpoints can not be had, or none are there.
    """
    if rev is not None and source is not None:
        raise UserError("--rev and --from: each names checkpoints; give only one of them")
    if rev is None:
        require_folder(source)
        yield _require_trained(source or Path())
        return
    with tempfile.TemporaryDirectory() as folder:
        fetch_models(rev, Path(folder))
        yield _require_trained(Path(folder))


def require_folder(source: Path | None) -> None:
    """Stops who names a folder with --from that is not there.

    Raises:
        UserError: so it is.
    """
    if source is not None and not source.is_dir():
        raise UserError(f"--from {source}: is no folder; name one that holds trained networks")


def _require_trained(folder: Path) -> Path:
    if not (models_in(folder) / "decoder").is_dir():
        raise UserError(
            f"{models_in(folder).resolve()}: nothing is trained there yet; `dvc repro` trains "
            "everything (minutes), or --from pretrained/fashion_mnist paints with what came along"
        )
    return folder


def open_system(folder: Path, precision: str) -> "tuple[System, Machine]":
    """Returns the system that `checkpoints` gave the folder of, and the machine it paints on.

    Raises:
        UserError: a network is missing, damaged, of another kind or does not fit the others.
    """
    from unclip.core.device import open_machine
    from unclip.painting.system import System

    machine = open_machine(precision)
    return System.load(models_in(folder), machine.device), machine


def make_folder(out: Path) -> None:
    """Makes the folder that pictures go to, and finds out whether a file can be written there.

    Raises:
        UserError: it can not be made, or no file can be written there.
    """
    what = "can not be made"
    try:
        out.mkdir(parents=True, exist_ok=True)
        what = "no file can be written there"
        with tempfile.NamedTemporaryFile(dir=out, prefix=".", buffering=0) as file:
            file.write(b"0")  # its permissions would not tell: root passes them, a disk may be full
    except OSError as error:
        raise UserError(f"--out {out}: {what} ({error.strerror}); name another folder") from None


def real_rows(folder: Path, prompts: Sequence[str], shape: tuple[int, ...]) -> "Pictures | None":
    """Returns a real picture of each prompt where a data set of such pictures is at hand."""
    from unclip.data.prepared import Prepared
    from unclip.painting.notes import real_pictures

    if not Layout(folder).prepared.is_dir():
        return None
    data = Prepared(Layout(folder).prepared)
    fits = shape == (data.channels, data.image_size, data.image_size)
    return real_pictures(data, prompts) if fits else None


def slugs(prompts: Sequence[str]) -> list[str]:
    """Returns a file name for each prompt; prompts that would share one are numbered."""
    found: list[str] = []
    for prompt in prompts:
        slug = re.sub(r"\W+", "-", prompt.lower()).strip("-")[:LONGEST_NAME] or "picture"
        numbered = (f"{slug}--{number}" for number in itertools.count(2))
        found.append(next(name for name in itertools.chain([slug], numbered) if name not in found))
    return found


def warn_of_unknown_words(prompts: Sequence[str], system: "System") -> None:
    """Says which words of the prompts no training caption had, and some that it had."""
    console = Console(stderr=True, highlight=False)
    for prompt in prompts:
        strangers = system.unknown_words(prompt)
        if strangers:
            some = ", ".join(sorted(system.words)[:SHOWN_WORDS])
            console.print(
                f"warning: {', '.join(strangers)}: never seen in training, so expect anything; "
                f"words that were: {some}{', …' if len(system.words) > SHOWN_WORDS else ''}",
                markup=False,
                soft_wrap=True,
            )


def save_picture(picture: "Pictures", path: Path, note: Mapping[str, str]) -> bool:
    """Writes a picture in its own size; returns whether it replaced another one."""
    from unclip.pictures.png import as_image, save_png

    earlier = path.read_bytes() if path.is_file() else None
    save_png(as_image(picture), path, note)
    return earlier not in (None, path.read_bytes())


def say_where(sheet: Path, count: int, replaced: int) -> None:
    """Says where the pictures are, and how many of them replaced others."""
    lost = f"; earlier ones replaced: {replaced} (another --out keeps both)" if replaced else ""
    typer.echo(f"{sheet}  and {count} {'picture' if count == 1 else 'pictures'} beside it{lost}")
