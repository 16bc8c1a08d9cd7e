"""What commands that paint share: settings, checkpoints, where to write, and how files are named.

Nothing here imports torch on its own: it takes seconds, and a user's mistakes are found before.
"""

import itertools
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from unclip.errors import UserError
from unclip.layout import Layout
from unclip.params import SampleParams, load_params, validate_params

if TYPE_CHECKING:
    from PIL import Image

    from unclip.machine import Machine
    from unclip.painting import Pictures
    from unclip.pipeline import UnCLIP

REPOSITORY = Path(__file__).resolve().parents[2]
SHOWN_WORDS = 12  # of those that a model knows, in a warning
LONGEST_NAME = 40  # characters of a prompt in a file name, which may hold 255 bytes


def sample_params(changes: Mapping[str, Any]) -> SampleParams:
    """Returns the sample section of params.yaml with some values changed, validated as a whole.

    Args:
        changes: options by the key that they stand for; None is an option that was not given.

    Raises:
        UserError: a value is out of bounds.
    """
    raw = load_params(Layout(REPOSITORY).params).model_dump()
    raw["sample"] |= {key: value for key, value in changes.items() if value is not None}
    return validate_params(raw, where="options").sample


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
        yield _require_trained(source or Path())
        return
    with tempfile.TemporaryDirectory() as folder:
        _fetch(rev, Path(folder))
        yield _require_trained(Path(folder))


def _fetch(rev: str, folder: Path) -> None:
    """Brings the checkpoints of a revision into a folder, from DVC's cache or remote."""
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException
    from dvc.scm import SCMError

    try:
        files = DVCFileSystem(".", rev=rev)
        files.get("models", str(folder / "models"), recursive=True)
    except (DvcException, SCMError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"--rev {rev}: its checkpoints can not be had ({reason}); `dvc exp show` and `git log` "
            "name what there is, `dvc fetch` brings what is not on this machine"
        ) from None


def models_in(folder: Path) -> Path:
    """Returns the folder of the networks themselves."""
    return folder / "models" if (folder / "models").is_dir() else folder


def _require_trained(folder: Path) -> Path:
    if not (models_in(folder) / "decoder").is_dir():
        raise UserError(
            f"{models_in(folder).resolve()}: nothing is trained there yet; `dvc repro` trains "
            "everything (minutes), or name a folder with --from"
        )
    return folder


def open_system(folder: Path, precision: str) -> "tuple[UnCLIP, Machine]":
    """Returns the system that `checkpoints` gave the folder of, and the machine it paints on.

    Raises:
        UserError: a network is missing, damaged, of another kind or does not fit the others.
    """
    from unclip.machine import open_machine
    from unclip.pipeline import UnCLIP

    machine = open_machine(precision)
    return UnCLIP.load(models_in(folder), machine.device), machine


def make_folder(out: Path) -> None:
    """Makes the folder that pictures go to.

    Raises:
        UserError: it can not be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--out {out}: can not be made ({error.strerror}); name another folder"
        ) from None


def real_rows(folder: Path, prompts: Sequence[str], shape: tuple[int, ...]) -> "Pictures | None":
    """Returns a real picture of each prompt where a data set of such pictures is at hand."""
    from unclip.data import Prepared
    from unclip.painting import real_pictures

    if not Layout(folder).prepared.is_dir():
        return None
    data = Prepared(Layout(folder).prepared)
    fits = shape == (data.channels, data.image_size, data.image_size)
    return real_pictures(data, prompts) if fits else None


def as_image(picture: "Pictures") -> "Image.Image":
    """Returns a picture (C, H, W) uint8 as a Pillow image."""
    from PIL import Image

    return Image.fromarray(picture[0] if len(picture) == 1 else picture.transpose(1, 2, 0))


def slugs(prompts: Sequence[str]) -> list[str]:
    """Returns a file name for each prompt; prompts that would share one are numbered."""
    found: list[str] = []
    for prompt in prompts:
        slug = re.sub(r"\W+", "-", prompt.lower()).strip("-")[:LONGEST_NAME] or "picture"
        numbered = (f"{slug}--{number}" for number in itertools.count(2))
        found.append(next(name for name in itertools.chain([slug], numbered) if name not in found))
    return found


def warn_of_unknown_words(prompts: Sequence[str], system: "UnCLIP") -> None:
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


def say_where(sheet: Path, count: int) -> None:
    """Says where the pictures are."""
    typer.echo(f"{sheet}  and {count} pictures beside it")
