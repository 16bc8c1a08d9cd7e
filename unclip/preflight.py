"""What can be known before hours of work: that there is room for what it will write."""

import os
import shutil
from pathlib import Path

from unclip.errors import UserError

MARGIN = 3  # a stage's out, DVC's copy of it, and the one of the next experiment
NETWORKS = 10**9  # bytes that all networks, their states and pictures may take, on top of the data


def require_space(folder: Path, num_bytes: int, what: str) -> None:
    """Stops what could not write its results.

    Args:
        folder: where it will write.
        num_bytes: how much; MARGIN times as much must be free.
        what: the work, for the message.

    Raises:
        UserError: there is less room, or the folder can not be written to.
    """
    if not os.access(folder, os.W_OK):
        raise UserError(
            f"{folder.resolve()}: can not be written to; {what} needs a folder that can"
        )
    free, wanted = shutil.disk_usage(folder).free, MARGIN * num_bytes
    if free < wanted:
        raise UserError(
            f"{folder.resolve()}: {free / 1e9:.1f} GB are free, and {what} wants {wanted / 1e9:.1f}"
            f" ({MARGIN} times what it writes); make room: `dvc gc --workspace` removes checkpoints"
            " that no file here refers to"
        )
