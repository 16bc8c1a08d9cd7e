"""The trained networks of a git revision or an experiment, from DVC's cache or remote."""

from pathlib import Path

from unclip.config.errors import UserError
from unclip.config.layout import Layout
from unclip.params.loading import load_recipe


def fetch_models(rev: str, folder: Path) -> None:
    """Brings the networks of a revision of the current repository into `folder`/models.

    The params.yaml of the revision comes to lie in `folder`: it says how they paint.

    Args:
        rev: an experiment, commit, branch or tag.
        folder: where to.

    Raises:
        UserError: they can not be had, or that params.yaml does not say how they paint.
    """
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException
    from dvc.scm import SCMError
    from dvc_data.index.index import DataIndexError

    recipe = Layout(folder).params
    try:
        files = DVCFileSystem(".", rev=rev)
        files.get("models", str(folder / "models"), recursive=True)
        if files.isfile(recipe.name):
            files.get(recipe.name, str(recipe))
    except DataIndexError:  # it is there, and what it names is neither in the cache nor remote
        raise UserError(
            f"--rev {rev}: its checkpoints are not on this machine; `dvc fetch` brings them from a "
            "remote, `git checkout` of it and `dvc repro` make them"
        ) from None
    except (DvcException, SCMError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"--rev {rev}: its checkpoints can not be had ({reason}); `dvc exp show` and `git log` "
            "name what there is, `dvc fetch` brings what is not on this machine"
        ) from None
    if recipe.is_file():
        _require_recipe(rev, recipe)


def _require_recipe(rev: str, recipe: Path) -> None:
    """Raises UserError where the recipe of a revision is not as this version knows it."""
    try:
        load_recipe(recipe)
    except UserError as error:
        reason = str(error).splitlines()[0].removeprefix(f"{recipe}: ")
        raise UserError(
            f"--rev {rev}: its params.yaml does not say how to paint ({reason}); "
            f"`dvc get . models --rev {rev} -o FOLDER/models` brings its networks, and --from "
            "FOLDER paints with them as the params.yaml here says"
        ) from None
