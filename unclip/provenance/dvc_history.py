"""What git and DVC know of trained networks: the revisions that name them, and their files.

A revision is a commit, an experiment or a folder with a dvc.lock. DVC names a network by an md5
over its folder. Nothing here writes to the repository.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from unclip.config.errors import UserError, first_line
from unclip.config.git import run_git
from unclip.core.artifacts import DESCRIPTION, WEIGHTS

LOCK = "dvc.lock"
# The format in which DVC writes a lock: parsing a thousand locks as YAML would take minutes. Only
# outs count, since deps may name networks of another revision.
OUTS = re.compile(r"^    outs:\n((?:    [- ] .*\n)+)", flags=re.MULTILINE)
ENTRY = re.compile(r"path: models/(\w+)\n\s+hash: md5\n\s+md5: ([0-9a-f]{32}\.dir)\n")
# Every version of the lock in git, whole: a patch with more context than a lock has lines.
HISTORY = (
    *("log", "--all", "--reflog", "--full-history", "-m", "--no-renames", "--format=%x00%H %D"),
    *("--decorate=full", *(f"--decorate-refs=refs/{kind}" for kind in ("exps", "heads", "tags"))),
    *("--patch", "--unified=100000", "--text", "--no-color", "--no-ext-diff", "--no-textconv"),
    *("--", LOCK),
)

Remembered = dict[str, dict[str, list[str]]]


def remembered(folder: Path, report: Callable[[str], None]) -> Remembered:
    """Returns kind of network → DVC's md5 of it → the revisions whose dvc.lock names it.

    Searches the folder, all branches, tags and experiments, and the reflog. md5s come newest first,
    the revisions of each oldest first. Empty without DVC in the folder.

    Args:
        folder: holds dvc.lock.
        report: is told, in one line, why git cannot be read; then only the folder counts.
    """
    if not (folder / ".dvc").is_dir():
        return {}
    found: Remembered = {}
    try:
        history = run_git(folder, *HISTORY)
    except UserError as error:
        history = ""
        report(f"revisions cannot be read: {error}")
    for name, text in _locks(folder, history):
        for kind, md5 in networks_in(text).items():
            names = found.setdefault(kind, {}).setdefault(md5, [])
            if name not in names:
                names.insert(0, name)
    return found


def networks_in(lock: str) -> dict[str, str]:
    """Returns kind of network → DVC's md5 of it from the text of a dvc.lock."""
    return dict(ENTRY.findall("".join(OUTS.findall(lock))))


def _locks(folder: Path, history: str) -> Iterator[tuple[str, str]]:
    """Yields name and dvc.lock of each revision that changed it, newest first."""
    if (folder / LOCK).is_file():
        yield "this folder", (folder / LOCK).read_text(encoding="utf-8", errors="replace")
    for change in history.split("\0")[1:]:
        head, *patch = change.split("\n")
        yield _name(head), "".join(f"{line[1:]}\n" for line in patch if line[:1] in ("+", " "))


def _name(head: str) -> str:
    """Returns a commit's experiment, branch or tag, if it has one, with its short hash."""
    commit = head[:7]
    if match := re.search(r"refs/exps/[0-9a-f]{2}/[0-9a-f]{38}/([^,]+)", head):
        return f"experiment {match[1]} ({commit})"
    match = re.search(r"refs/(?:heads|tags)/([^,]+)", head)
    return f"{match[1]} ({commit})" if match else commit


@dataclass(frozen=True)
class ObjectStore:
    """A place where DVC keeps files by their md5."""

    name: str
    objects: Any  # DVC's own object database; None is an empty one

    def weights_hash(self, md5: str) -> str | None:
        """Returns the SHA-256 of the weights of a network that dvc.lock names, None if not here.

        Raises:
            UserError: the place cannot be read.
        """
        with self._reading(), self._open_member(md5, WEIGHTS) as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
        return None

    def copy_network(self, md5: str, folder: Path) -> bool:
        """Writes a network into a folder, if it is kept here; returns whether it is.

        Raises:
            UserError: the place cannot be read.
        """
        folder.mkdir(parents=True, exist_ok=True)
        with self._reading():
            for name in (WEIGHTS, DESCRIPTION):
                with self._open_member(md5, name) as source, (folder / name).open("wb") as target:
                    shutil.copyfileobj(source, target)
            return True
        return False

    def _open_member(self, md5: str, name: str) -> Any:
        """Opens a file of a folder."""
        with self._open(md5) as stream:
            files = {file["relpath"]: file["md5"] for file in json.load(stream)}
        return self._open(files.get(name))

    def _open(self, md5: str | None) -> Any:
        if self.objects is None or md5 is None:
            raise FileNotFoundError(md5)
        return self.objects.fs.open(self.objects.oid_to_path(md5), "rb")

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Skips what is not kept here; reports in one line why the place cannot be read."""
        with asking_dvc(self.name), suppress(FileNotFoundError):
            yield


@contextmanager
def asking_dvc(what: str) -> Iterator[None]:
    """Turns whatever fails inside DVC into one line about `what` was asked for.

    Raises:
        UserError: config, dvc.yaml, dvc.lock, git, cache or remote cannot be read.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{what}: cannot be read ({first_line(error)})") from None


@contextmanager
def open_objects(folder: Path, place: Literal["cache", "remote"]) -> Iterator[ObjectStore]:
    """Gives DVC's cache or default remote; an empty store without DVC or without a remote.

    Raises:
        UserError: it cannot be opened.
    """
    name = f"DVC's {place}"
    if not (folder / ".dvc").is_dir():
        yield ObjectStore(name, None)
        return
    from dvc.config import NoRemoteError
    from dvc.repo import Repo

    with asking_dvc(name):
        repository = Repo(str(folder))
        try:
            is_cache = place == "cache"
            objects = repository.cache.local if is_cache else repository.cloud.get_remote().odb
        except NoRemoteError:
            objects = None
    with repository:
        yield ObjectStore(name, objects)


def require_dvc(folder: Path) -> None:
    """Checks that DVC can read its config, dvc.yaml and dvc.lock in a folder.

    Raises:
        UserError: it cannot.
    """
    from dvc.repo import Repo

    with asking_dvc("DVC"), Repo(str(folder)) as repository:
        _ = repository.index
