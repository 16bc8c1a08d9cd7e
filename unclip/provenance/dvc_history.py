"""What git and DVC remember of trained networks: which revisions name them, where files lie.

A revision is a commit, an experiment or a folder with a dvc.lock. DVC names a network by an md5
over its folder. Everything is only read.
"""

import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from unclip.config.errors import UserError
from unclip.core.artifacts import DESCRIPTION, WEIGHTS

LOCK = "dvc.lock"
HERE = "this folder"
# Where `dvc exp run --temp` and the queue's workers have their workspaces while they run.
RUNNING = (f".dvc/tmp/exps/*/{LOCK}", f".dvc/tmp/exps/standalone/*/{LOCK}")
# As DVC itself writes them: to parse a thousand locks as YAML would take minutes. Only what a stage
# made counts, since a lock may also name what a stage read long ago.
OUTS = re.compile(r"^    outs:\n((?:    [- ] .*\n)+)", flags=re.MULTILINE)
ENTRY = re.compile(r"path: models/(\w+)\n\s+hash: md5\n\s+md5: ([0-9a-f]{32}\.dir)\n")
CHANGE = re.compile(r"^:\d+ \d+ [0-9a-f]+ ([0-9a-f]+) [AMT]\t", flags=re.MULTILINE)

Remembered = dict[str, dict[str, list[str]]]


def remembered(folder: Path) -> Remembered:
    """Returns kind of network → DVC's md5 of it → the revisions whose dvc.lock names it.

    All branches, tags, experiments and what the reflog still knows are searched, and the workspaces
    in which experiments run now. Revisions stand in order, the first one that had it first; md5s
    stand newest first.

    Args:
        folder: the root of the repository; without DVC in it nothing is remembered.
    """
    if not (folder / ".dvc").is_dir():
        return {}
    found: Remembered = {}
    for name, text in _locks(folder):
        for kind, md5 in ENTRY.findall("".join(OUTS.findall(text))):
            names = found.setdefault(kind, {}).setdefault(md5, [])
            if name not in names:
                names.insert(0, name)
    return found


def _locks(folder: Path) -> Iterator[tuple[str, str]]:
    """Yields name and dvc.lock of each revision that changed it, the newest first."""
    running = [path for pattern in RUNNING for path in sorted(folder.glob(pattern))]
    for path in (*running, folder / LOCK):
        if path.is_file():
            name = HERE if path.parent == folder else f"running in {path.parent}"
            yield name, path.read_text(encoding="utf-8", errors="replace")
    history = _git(
        folder,
        *("log", "--all", "--reflog", "--full-history", "-m", "--raw", "--no-abbrev"),
        *("--no-renames", "--format=%x00%H", "--", LOCK),
    ).decode()
    changes = [
        (commit[:40], blob) for commit in history.split("\0") for blob in CHANGE.findall(commit)
    ]
    names, texts = _names(folder), _blobs(folder, {blob for _, blob in changes})
    for commit, blob in changes:
        yield names.get(commit, commit[:7]), texts[blob]


def _names(folder: Path) -> dict[str, str]:
    """Returns commit → its experiment, branch or tag, with its short hash."""
    listed = _git(folder, "for-each-ref", "--format=%(objectname) %(*objectname) %(refname)")
    names: dict[str, str] = {}
    for line in listed.decode().splitlines():
        commit, peeled, ref = line.split(" ", 2)
        commit = peeled or commit
        if match := re.fullmatch(r"refs/exps/[0-9a-f]{2}/[0-9a-f]{38}/(.+)", ref):
            names[commit] = f"experiment {match[1]} ({commit[:7]})"
        elif match := re.fullmatch(r"refs/(?:heads|tags)/(.+)", ref):
            names.setdefault(commit, f"{match[1]} ({commit[:7]})")
    return names


def _blobs(folder: Path, blobs: Iterable[str]) -> dict[str, str]:
    """Returns the texts of git's blobs by their hashes."""
    asked = sorted(blobs)
    stream = BytesIO(_git(folder, "cat-file", "--batch", stdin="\n".join(asked).encode()))
    texts = {}
    for blob in asked:
        size = int(stream.readline().split()[2])
        texts[blob] = stream.read(size).decode(errors="replace")
        stream.read(1)
    return texts


def _git(folder: Path, *arguments: str, stdin: bytes = b"") -> bytes:
    """Returns what git says, nothing where it is not installed or knows no repository here."""
    command = ["git", "-C", str(folder), *arguments]
    try:
        return subprocess.run(command, input=stdin, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return b""


@dataclass(frozen=True)
class ObjectStore:
    """A place where DVC keeps files by their md5.

    Attributes:
        name: for people.
        objects: DVC's own object database.
    """

    name: str
    objects: Any

    def weights_hash(self, md5: str) -> str | None:
        """Returns the SHA-256 of a network's weights, None where they are not kept here.

        Args:
            md5: DVC's of the network, as dvc.lock has it.

        Raises:
            UserError: the place can not be read.
        """
        with self._reading(), self._open(self._files(md5)[WEIGHTS]) as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
        return None

    def copy_network(self, md5: str, folder: Path) -> None:
        """Writes a network that is kept here into a folder, which is made.

        Raises:
            UserError: the place can not be read.
        """
        folder.mkdir(parents=True)
        with self._reading():
            files = self._files(md5)
            for name in (WEIGHTS, DESCRIPTION):
                with self._open(files[name]) as source, (folder / name).open("wb") as target:
                    shutil.copyfileobj(source, target)

    def _files(self, md5: str) -> dict[str, str]:
        """Returns name → md5 of the files of a folder."""
        with self._open(md5) as stream:
            return {file["relpath"]: file["md5"] for file in json.load(stream)}

    def _open(self, md5: str) -> Any:
        return self.objects.fs.open(self.objects.oid_to_path(md5), "rb")

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Passes over what is not kept here; says in a line why the place can not be read."""
        try:
            yield
        except (FileNotFoundError, KeyError):
            return
        except Exception as error:  # a remote can fail in any way
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"{self.name}: can not be read ({reason})") from None


@contextmanager
def open_cache(folder: Path) -> Iterator[ObjectStore]:
    """Gives DVC's cache of the repository in a folder.

    Raises:
        UserError: DVC can not open the repository.
    """
    with _open_repository(folder) as repository:
        yield ObjectStore("DVC's cache", repository.cache.local)


@contextmanager
def open_remote(folder: Path) -> Iterator[ObjectStore | None]:
    """Gives DVC's default remote of the repository in a folder, None where there is none.

    Raises:
        UserError: it can not be opened.
    """
    from dvc.config import NoRemoteError
    from dvc.exceptions import DvcException

    with _open_repository(folder) as repository:
        store = None
        try:
            store = ObjectStore("DVC's remote", repository.cloud.get_remote().odb)
        except NoRemoteError:
            pass
        except DvcException as error:
            raise UserError(f"DVC's remote: can not be opened ({_one_line(error)})") from None
        yield store


@contextmanager
def _open_repository(folder: Path) -> Iterator[Any]:
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        repository = Repo(str(folder))
    except DvcException as error:
        raise UserError(f"{folder.resolve()}: DVC can not open it ({_one_line(error)})") from None
    with repository:
        yield repository


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def read_files(rev: str | None, paths: Iterable[str]) -> tuple[str, dict[str, str]]:
    """Returns the short hash of a revision of the current repository and the text of its files.

    Args:
        rev: an experiment, commit, branch or tag; None for the files of the current folder, whose
            hash is "".
        paths: those that are missing are left out.

    Raises:
        UserError: there is no such revision.
    """
    if rev is None:
        there = [path for path in paths if Path(path).is_file()]
        return "", {path: Path(path).read_text(encoding="utf-8") for path in there}
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException
    from dvc.scm import SCMError

    try:
        files = DVCFileSystem(".", rev=rev)
        texts = {path: files.read_text(path) for path in paths if files.isfile(path)}
        return str(files.repo.get_rev())[:7], texts
    except (DvcException, SCMError, OSError) as error:
        raise UserError(
            f"{rev}: no such revision here ({_one_line(error)}); `dvc exp show` and `git log` name "
            "what there is"
        ) from None
