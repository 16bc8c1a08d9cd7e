"""What commands share: opening checkpoints, checking folders and prompts, naming files.

torch takes seconds to import, so every check that does not need it comes first.
"""

import itertools
import re
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from unclip.config.errors import UserError
from unclip.config.layout import models_in
from unclip.data.text import fold

if TYPE_CHECKING:
    from unclip.api import UnCLIP
    from unclip.painting.system import System

LONGEST_NAME = 40  # characters of a prompt in a file name, which may hold 255 bytes


def open_unclip(rev: str | None, source: Path | None) -> "UnCLIP":
    """Returns the trained system of a git revision or experiment, or else of a folder.

    Raises:
        UserError: both are named, or the checkpoints are missing or damaged.
    """
    if rev is not None and source is not None:
        raise UserError("--rev and --from: each names checkpoints; give only one of them")
    if rev is None:
        require_trained(source)
    from unclip.api import UnCLIP

    warnings.filterwarnings("ignore", message="never trained")  # commands and the page say it
    return UnCLIP.load(source or Path()) if rev is None else UnCLIP.from_revision(rev)


def require_trained(source: Path | None) -> Path:
    """Returns the folder that --from names, or the current one, if it holds trained networks.

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
    """Makes the folder for the results, and checks that a file can be written there.

    Raises:
        UserError: it cannot.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        # Permissions do not tell: root passes them, and a disk may be full.
        with tempfile.NamedTemporaryFile(dir=out, prefix=".", buffering=0) as file:
            file.write(b"0")
    except OSError as error:
        reason = f"no file can be written there ({error.strerror})"
        raise UserError(f"--out {out}: {reason}; name another folder") from None


def slugs(prompts: Sequence[str]) -> list[str]:
    """Returns a file name for each prompt; prompts that would share one are numbered."""
    found: list[str] = []
    for prompt in prompts:
        slug = re.sub(r"\W+", "-", fold(prompt)).strip("-")[:LONGEST_NAME] or "picture"
        numbered = (f"{slug}--{number}" for number in itertools.count(2))
        found.append(next(name for name in itertools.chain([slug], numbered) if name not in found))
    return found


def check_prompts(prompts: Sequence[str], system: "System") -> None:
    """Checks prompts, and warns of those that training never showed.

    Raises:
        UserError: a prompt cannot be read.
    """
    from unclip.data.tokenizer import tokenize

    tokenize(prompts, system.text_length)  # what cannot be read cannot be printed either
    for line in system.warnings(prompts):
        typer.echo(f"warning: {line}", err=True)
