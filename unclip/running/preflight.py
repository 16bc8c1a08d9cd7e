"""What can be checked before hours of work: that its results have room on the disk."""

import os
import shutil
from pathlib import Path

from unclip.config.errors import UserError

MARGIN = 3  # a stage's output, DVC's copy of it, and that of the next experiment
NETWORKS = 10**9  # bytes that all networks, their states and pictures may take, beside the data


def require_space(folder: Path, num_bytes: int, what: str) -> None:
    """Checks that a folder has room for MARGIN times `num_bytes` of results of some work.

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
            " removes checkpoints that no commit or experiment refers to"
        )
