"""The files and the trained networks of a git revision or an experiment."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unclip.config.errors import UserError, first_line
from unclip.config.layout import Layout
from unclip.params.loading import load_painting_params


@contextmanager
def _revision(rev: str, where: str) -> Iterator[Any]:
    """Gives the files of a revision; turns DVC's errors about them into one line."""
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException
    from dvc.scm import SCMError
    from dvc_data.index.index import DataIndexError

    try:
        yield DVCFileSystem(".", rev=rev)
    except DataIndexError:  # the files that it names are neither in the cache nor in the remote
        raise UserError(
            f"{where}: its checkpoints are not on this machine; `dvc fetch` brings them from a "
            "remote, `git checkout` of it and `dvc repro` make them again"
        ) from None
    except (DvcException, SCMError, OSError) as error:
        raise UserError(
            f"{where}: cannot be had ({first_line(error)}); `dvc exp show` and `git log` list the "
            "revisions, `dvc fetch` brings what is not on this machine"
        ) from None


def read_files(rev: str | None, paths: Iterable[str]) -> tuple[str, dict[str, str]]:
    """Returns the short hash of an experiment, commit, branch or tag and the text of its files.

    None reads the current folder, whose hash is "". Missing files are left out.

    Raises:
        UserError: there is no such revision.
    """
    if rev is None:
        there = [path for path in paths if Path(path).is_file()]
        return "", {path: Path(path).read_text(encoding="utf-8") for path in there}
    with _revision(rev, rev) as files:
        texts = {path: files.read_text(path) for path in paths if files.isfile(path)}
        return str(files.repo.get_rev())[:7], texts


def fetch_models(rev: str, folder: Path) -> None:
    """Brings the networks of an experiment, commit, branch or tag into `folder`/models.

    Its params.yaml, which says how they paint, goes to `folder`.

    Raises:
        UserError: the networks cannot be had, or the params.yaml does not say how to paint.
    """
    params = Layout(folder).params
    with _revision(rev, f"--rev {rev}") as files:
        files.get("models", str(folder / "models"), recursive=True)
        if not files.isfile(params.name):
            return
        files.get(params.name, str(params))
    try:
        load_painting_params(params)
    except UserError as error:
        reason = str(error).splitlines()[0].removeprefix(f"{params}: ")
        raise UserError(
            f"--rev {rev}: its params.yaml does not say how to paint ({reason}); "
            f"`dvc get . models --rev {rev} -o FOLDER/models` brings its networks, and --from "
            "FOLDER paints with them as the params.yaml here says"
        ) from None
