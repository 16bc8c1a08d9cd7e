"""Running git, which may not be installed."""

import subprocess
from pathlib import Path

from unclip.config.errors import UserError, first_line


def run_git(folder: Path, *arguments: str) -> str:
    """Returns the output of git in a folder.

    Raises:
        UserError: git is not installed, or it fails.
    """
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, check=True)
    except FileNotFoundError:
        raise UserError("git is not installed; DVC's experiments and revisions need it") from None
    except subprocess.CalledProcessError as error:
        reason = first_line(error.stderr.decode(errors="replace") or error)
        raise UserError(f"git {arguments[0]}: {reason}") from None
    return done.stdout.decode(errors="replace").strip()
