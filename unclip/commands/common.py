"""What commands that paint share: checkpoints, where to write, and how files are named.

Nothing here imports torch on its own: it takes seconds, and a user's mistakes are found before.
"""

import itertools
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from unclip.config.errors import UserError
from unclip.config.layout import Layout, models_in

if TYPE_CHECKING:
    from unclip.api import UnCLIP
    from unclip.painting.system import Pictures, System

SHOWN_WORDS = 12  # of those that a model knows, in a warning
LONGEST_NAME = 40  # characters of a prompt in a file name, which may hold 255 bytes


def open_unclip(rev: str | None, source: Path | None) -> "UnCLIP":
    """Returns the trained system of a revision or a folder.

    Args:
        rev: git revision or experiment whose checkpoints are meant; None for a folder's.
        source: the folder, or one with a folder `models`; None for the current one.

    Raises:
        UserError: both are named, or the checkpoints are not there or not sound.
    """
    if rev is not None and source is not None:
        raise UserError("--rev and --from: each names checkpoints; give only one of them")
    if rev is None:
        require_trained(source)
    # Torch takes seconds to import; every check that needs none of it stands above.
    from unclip.api import UnCLIP

    return UnCLIP.load(source or Path()) if rev is None else UnCLIP.from_revision(rev)


def require_trained(source: Path | None) -> Path:
    """Returns a folder that --from names, or the current one, after checking it for networks.

    Raises:
        UserError: there is no such folder, or nothing is trained there.
    """
    if source is not None and not source.is_dir():
        raise UserError(f"--from {source}: is no folder; name one that holds trained networks")
    folder = source or Path()
    if not (models_in(folder) / "decoder").is_dir():
        raise UserError(
            f"{models_in(folder).resolve()}: nothing is trained there yet; `dvc repro` trains "
            "everything (minutes), or --from pretrained/fashion_mnist uses the model shipped with "
            "the code"
        )
    return folder


def make_folder(out: Path) -> None:
    """Makes the folder that pictures go to, and checks that a file can be written there.

    Raises:
        UserError: it cannot be made, or no file can be written there.
    """
    what = "cannot be made"
    try:
        out.mkdir(parents=True, exist_ok=True)
        what = "no file can be written there"
        with tempfile.NamedTemporaryFile(dir=out, prefix=".", buffering=0) as file:
            file.write(b"0")  # its permissions would not tell: root passes them, a disk may be full
    except OSError as error:
        raise UserError(f"--out {out}: {what} ({error.strerror}); name another folder") from None


def real_rows(
    folder: Path | None, prompts: Sequence[str], shape: tuple[int, ...]
) -> "Pictures | None":
    """Returns a real picture of each prompt where a data set of such pictures is at hand."""
    from unclip.data.prepared import Prepared

    prepared = Layout(folder or Path()).prepared
    if not prepared.is_dir():
        return None
    data = Prepared(prepared)
    fits = shape == (data.channels, data.image_size, data.image_size)
    return data.real_pictures(prompts) if fits else None


def slugs(prompts: Sequence[str]) -> list[str]:
    """Returns a file name for each prompt; prompts that would share one are numbered."""
    found: list[str] = []
    for prompt in prompts:
        slug = re.sub(r"\W+", "-", prompt.lower()).strip("-")[:LONGEST_NAME] or "picture"
        numbered = (f"{slug}--{number}" for number in itertools.count(2))
        found.append(next(name for name in itertools.chain([slug], numbered) if name not in found))
    return found


def check_prompts(prompts: Sequence[str], system: "System") -> None:
    """Checks prompts, and warns of words that no training caption had.

    Raises:
        UserError: a prompt cannot be read.
    """
    from unclip.data.tokenizer import tokenize

    tokenize(prompts, system.text_length)  # what cannot be read cannot be printed either
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


def say_where(sheet: Path, count: int, replaced: int) -> None:
    """Says where the pictures are, and how many of them replaced others."""
    lost = f"; earlier ones replaced: {replaced} (another --out keeps both)" if replaced else ""
    typer.echo(f"{sheet}  and {count} {'picture' if count == 1 else 'pictures'} beside it{lost}")
