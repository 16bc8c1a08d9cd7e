"""A small repository with a history, made once for all who only go on from it.

Each of them copies it: to reproduce a pipeline takes a minute, however small.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from dag import REPO
from dvc_repo import Lab
from filelock import FileLock
from tiny_params import tiny_params, write_params

EXPERIMENT = "aside"
OPTIONS = ("--temp", "-S", "decoder.lr=3e-4")  # of that experiment


@dataclass(frozen=True)
class Reproduced:
    """A repository after `dvc repro`, a commit and one experiment.

    Attributes:
        lab: the repository.
        said: what `dvc repro` said.
        experiment_said: what `dvc exp run` said.
    """

    lab: Lab
    said: str
    experiment_said: str

    def copied(self, root: Path) -> "Reproduced":
        """Returns a copy of it in another folder, with a new home."""
        shutil.copytree(self.lab.root, root, symlinks=True)
        return Reproduced(Lab.beside(root), self.said, self.experiment_said)


def small_clone(root: Path) -> Lab:
    """Returns a clone of this repository with tiny params, in which nothing is made yet."""
    lab = Lab.cloned(REPO, root)
    write_params(lab.root / "params.yaml", tiny_params())
    lab.start_git()
    return lab


def reproduced_once(base: Path) -> Reproduced:
    """Returns the repository of this whole test session, which is not to be written to.

    Args:
        base: pytest's folder, of this session or, with several workers, of this worker.
    """
    folder = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder /= "reproduced"
    words = [folder / f"{name}.txt" for name in ("repro", "experiment")]
    folder.mkdir(exist_ok=True)
    with FileLock(folder / "lock"):
        if not words[-1].exists():
            lab = small_clone(folder / "lab")
            words[0].write_text(lab.run("dvc", "repro"), encoding="utf-8")
            lab.commit("Reproduce")
            said = lab.run("dvc", "exp", "run", "--name", EXPERIMENT, *OPTIONS)
            words[1].write_text(said, encoding="utf-8")
    lab = Lab(folder / "lab", folder / "lab-home")
    return Reproduced(lab, *(path.read_text(encoding="utf-8") for path in words))
