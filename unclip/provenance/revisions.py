"""The trained networks of a git revision or an experiment, from DVC's cache or remote."""

from pathlib import Path

from unclip.errors import UserError


def fetch_models(rev: str, folder: Path) -> None:
    """Brings the networks of a revision of the current repository into `folder`/models.

    Args:
        rev: an experiment, commit, branch or tag.
        folder: where to.

    Raises:
        UserError: they can not be had.
    """
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException
    from dvc.scm import SCMError

    try:
        files = DVCFileSystem(".", rev=rev)
        files.get("models", str(folder / "models"), recursive=True)
    except (DvcException, SCMError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"--rev {rev}: its checkpoints can not be had ({reason}); `dvc exp show` and `git log` "
            "name what there is, `dvc fetch` brings what is not on this machine"
        ) from None
