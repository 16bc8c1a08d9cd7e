"""The files and the trained networks of a git revision or an experiment."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from unclip.config.errors import UserError
from unclip.config.git import run_git
from unclip.config.layout import KINDS, Layout
from unclip.params.loading import load_painting_params
from unclip.provenance.dvc_history import LOCK, networks_in, open_objects


def read_files(rev: str | None, paths: Iterable[str]) -> tuple[str, dict[str, str]]:
    """Returns the short hash of an experiment, commit, branch or tag and the text of its files.

    None reads the current folder, whose hash is "". Missing files are left out.

    Raises:
        UserError: there is no such revision, or git cannot read it.
    """
    if rev is None:
        there = [path for path in paths if Path(path).is_file()]
        return "", {path: Path(path).read_text(encoding="utf-8") for path in there}
    with _naming(rev):
        return _read(rev, _find_lab(), paths)


def fetch_models(rev: str, folder: Path) -> None:
    """Brings the networks of an experiment, commit, branch or tag into `folder`/models.

    Its params.yaml, which says how they paint, goes to `folder`.

    Raises:
        UserError: the networks cannot be had, or the params.yaml does not say how to paint.
    """
    layout = Layout(folder)
    with _naming(f"--rev {rev}"):
        lab = _find_lab()
        texts = _read(rev, lab, (LOCK, layout.params.name))[1]
        _copy_networks(networks_in(texts.get(LOCK, "")), lab, layout)
        if layout.params.name not in texts:
            return
        layout.params.write_text(texts[layout.params.name], encoding="utf-8")
    try:
        load_painting_params(layout.params)
    except UserError as error:
        reason = str(error).splitlines()[0].removeprefix(f"{layout.params}: ")
        raise UserError(
            f"--rev {rev}: its params.yaml does not say how to paint ({reason}); "
            f"`dvc get . models --rev {rev} -o FOLDER/models` brings its networks, and --from "
            "FOLDER paints with them as the params.yaml here says"
        ) from None


@contextmanager
def _naming(where: str) -> Iterator[None]:
    """Puts in front of errors what they are about."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def _find_lab() -> Path:
    """Returns the folder of DVC that holds the current one; a larger git repository may hold it."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / ".dvc").is_dir():
            return folder
    raise UserError("no .dvc folder here; run from the root of the repository")


def _read(rev: str, lab: Path, paths: Iterable[str]) -> tuple[str, dict[str, str]]:
    """Returns the short hash of a revision and the text of those of the files that it has.

    By git alone: DVC's own file system waits for ever for a file that a partial clone lacks.
    """
    commit = _find_commit(rev, lab)
    there = run_git(lab, "ls-tree", "-z", "--name-only", commit, "--", *paths).split("\0")
    texts = {path: run_git(lab, "cat-file", "blob", f"{commit}:./{path}") for path in there if path}
    return commit[:7], texts


def _find_commit(rev: str, lab: Path) -> str:
    """Returns the hash of a revision by git's names, or else of an experiment or remote branch."""
    names = (f"refs/exps/*/*/{rev}", f"refs/remotes/*/{rev}")
    found = set(run_git(lab, "for-each-ref", "--format=%(objectname)", *names).split())
    try:
        return run_git(lab, "rev-parse", "--verify", "--end-of-options", f"{rev}^{{commit}}")
    except UserError:
        if len(found) == 1:
            return found.pop()
    several = f" ({len(found)} have this name)" if found else ""
    raise UserError(
        f"names no revision here{several}; `dvc exp show` and `git log` list them, `git fetch` and "
        "`dvc exp pull` bring more"
    )


def _copy_networks(known: dict[str, str], lab: Path, layout: Layout) -> None:
    """Copies the painting networks, kind → DVC's md5, from DVC's cache or else its remote."""
    missing = list(KINDS)
    for place in ("cache", "remote"):
        with open_objects(lab, place) as store:
            missing = [
                kind
                for kind in missing
                if not (kind in known and store.copy_network(known[kind], layout.model(kind)))
            ]
        if not missing:
            return
    raise UserError(
        "its checkpoints are not on this machine; `dvc fetch` brings them from a remote, "
        "`git checkout` of it and `dvc repro` make them again"
    )
