"""Running git, which may not be installed."""

import os
import re
import subprocess
from pathlib import Path

from unclip.config.errors import UserError, first_line

# What git says → what to do. Of a repository that another user owns it says so itself.
REMEDIES = {
    "promisor": "`git fetch --refetch --no-filter` completes this partial clone from its origin",
    "not a git repository": "`git init` makes one, or run from a clone",
}
TRUST = re.compile("git config --global --add safe.directory .*")


def run_git(folder: Path, *arguments: str) -> str:
    """Returns the output of git in a folder.

    Raises:
        UserError: git is not installed, or it fails.
    """
    command = ["git", "-C", str(folder), *arguments]
    english = os.environ | {"LC_ALL": "C"}
    try:
        done = subprocess.run(
            command, capture_output=True, check=True, stdin=subprocess.DEVNULL, env=english
        )
    except FileNotFoundError:
        raise UserError("git is not installed; DVC's experiments and revisions need it") from None
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace")
        remedies = [remedy for sign, remedy in REMEDIES.items() if sign in said]
        remedies += [f"`{trust}`" for trust in TRUST.findall(said)]
        reason = "; ".join([first_line(said or error), *remedies])
        raise UserError(f"git {arguments[0]}: {reason}") from None
    return done.stdout.decode(errors="replace").strip()
