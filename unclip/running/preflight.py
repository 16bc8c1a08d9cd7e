"""What can be known before hours of work: that there is room for it, and all that it will need."""

import os
import shutil
from importlib.util import find_spec
from pathlib import Path

from unclip.config.errors import UserError
from unclip.config.settings import setting

MARGIN = 3  # a stage's out, DVC's copy of it, and the one of the next experiment
NETWORKS = 10**9  # bytes that all networks, their states and pictures may take, on top of the data
INCEPTION_WEIGHTS = (
    "expected torch-fidelity's weights-inception-2015-12-05-6726825d.pth, which its releases have; "
    "set UNCLIP_INCEPTION_WEIGHTS to the file, or evaluate.inception to false"
)


def require_space(folder: Path, num_bytes: int, what: str) -> None:
    """Stops what could not write its results.

    Args:
        folder: where it will write.
        num_bytes: how much; MARGIN times as much must be free.
        what: the work, for the message.

    Raises:
        UserError: there is less room, or the folder cannot be written to.
    """
    if not os.access(folder, os.W_OK):
        raise UserError(f"{folder.resolve()}: cannot be written to; {what} needs a folder that can")
    free, wanted = shutil.disk_usage(folder).free, MARGIN * num_bytes
    if free < wanted:
        raise UserError(
            f"{folder.resolve()}: {free / 1e9:.1f} GB are free, and {what} wants {wanted / 1e9:.1f}"
            f" ({MARGIN} times what it writes); make room: `dvc gc --all-commits --all-experiments`"
            " removes checkpoints that no commit and no experiment refers to"
        )


def require_inception() -> Path:
    """Returns the file of Inception's weights, which `evaluate.inception` asks for.

    Raises:
        UserError: the package that can read it is not installed, or there is no such file.
    """
    if find_spec("torch_fidelity") is None:
        raise UserError(
            "evaluate.inception: true needs a package that is not installed; "
            "`pip install torch-fidelity`, or set it to false"
        )
    named = setting("inception_weights")
    if named is None:
        raise UserError(f"evaluate.inception: true needs Inception's weights; {INCEPTION_WEIGHTS}")
    path = Path(named).expanduser()
    if not path.is_file():
        raise UserError(f"{path}: there is no such file; {INCEPTION_WEIGHTS}")
    return path
