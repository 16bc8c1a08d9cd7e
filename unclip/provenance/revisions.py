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
    """Gives DVC's view of a revision of the current repository.

    Raises:
        UserError: it, or a file that is read in it, cannot be had.
    """
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException
    from dvc.scm import SCMError
    from dvc_data.index.index import DataIndexError

    try:
        yield DVCFileSystem(".", rev=rev)
    except DataIndexError:  # it is there, and what it names is neither in the cache nor remote
        raise UserError(
            f"{where}: its checkpoints are not on this machine; `dvc fetch` brings them from a "
            "remote, `git checkout` of it and `dvc repro` make them"
        ) from None
    except (DvcException, SCMError, OSError) as error:
        raise UserError(
            f"{where}: cannot be had ({first_line(error)}); `dvc exp show` and `git log` name what "
            "there is, `dvc fetch` brings what is not on this machine"
        ) from None


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
    with _revision(rev, rev) as files:
        texts = {path: files.read_text(path) for path in paths if files.isfile(path)}
        return str(files.repo.get_rev())[:7], texts


def fetch_models(rev: str, folder: Path) -> None:
    """Brings the networks of a revision of the current repository into `folder`/models.

    The params.yaml of the revision comes to lie in `folder`: it says how they paint.

    Args:
        rev: an experiment, commit, branch or tag.
        folder: where to.

    Raises:
        UserError: they cannot be had, or that params.yaml does not say how they paint.
    """
    recipe = Layout(folder).params
    with _revision(rev, f"--rev {rev}") as files:
        files.get("models", str(folder / "models"), recursive=True)
        if files.isfile(recipe.name):
            files.get(recipe.name, str(recipe))
    if not recipe.is_file():
        return
    try:
        load_painting_params(recipe)
    except UserError as error:
        reason = str(error).splitlines()[0].removeprefix(f"{recipe}: ")
        raise UserError(
            f"--rev {rev}: its params.yaml does not say how to paint ({reason}); "
            f"`dvc get . models --rev {rev} -o FOLDER/models` brings its networks, and --from "
            "FOLDER paints with them as the params.yaml here says"
        ) from None
