"""A throw-away repository with git and DVC, and the commands that a user gives in it."""

import os
import re
import resource
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml


@dataclass(frozen=True)
class Lab:
    """A repository in `root`; `home` holds all that is the user's or the machine's."""

    root: Path
    home: Path

    @classmethod
    def beside(cls, root: Path) -> "Lab":
        """Returns the repository in `root`, made if need be, with a new home beside it."""
        root.mkdir(exist_ok=True)
        home = root.with_name(root.name + "-home")
        home.mkdir()
        return cls(root, home)

    @classmethod
    def cloned(cls, repo: Path, root: Path) -> "Lab":
        """Returns a copy of all that git has or would take, less what `dvc repro` makes."""
        lab = cls.beside(root)
        command = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
        listed = subprocess.run(command, cwd=repo, capture_output=True, text=True, check=True)
        for name in filter(None, listed.stdout.split("\0")):
            is_made = name.startswith(("dvc.lock", "history/", "metrics/"))
            if not is_made and (repo / name).is_file():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(repo / name, root / name)
        return lab

    def environment(self) -> dict[str, str]:
        """Returns what commands see: no configuration of whoever runs the tests."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("DVC_", "GIT_", "MLFLOW_", "UNCLIP_", "PYTHON", "XDG_"))
        }
        return kept | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self.home),
            "GIT_CONFIG_NOSYSTEM": "1",
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(self.home / "dvc"),
            "STAND_IN_LOG": str(self.home / "ran.txt"),
            "OMP_NUM_THREADS": "1",
            "UNCLIP_THREADS": "1",
            "UNCLIP_DEVICE": "cpu",
        }

    def call(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end, whatever that is; stderr stands in stdout where it fell."""
        return subprocess.run(
            command,
            cwd=self.root,
            env=self.environment() | variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *command: str, **variables: str) -> str:
        """Returns what a command says; it must succeed."""
        done = self.call(*command, **variables)
        assert done.returncode == 0, f"{' '.join(command)}: {done.returncode}\n{done.stdout}"
        return done.stdout

    def start_git(self) -> None:
        """Makes it a git repository with one commit, by an author whom only it knows."""
        self.run("git", "init", "--quiet")
        self.run("git", "config", "user.name", "A. Tester")
        self.run("git", "config", "user.email", "tester@example.org")
        self.commit("Start")

    def commit(self, message: str) -> None:
        """Commits everything that git does not ignore."""
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", message)

    def stages(self) -> dict[str, dict]:
        """Returns the stages of dvc.yaml."""
        return yaml.safe_load((self.root / "dvc.yaml").read_text(encoding="utf-8"))["stages"]


def stages_run(output: str) -> list[str]:
    """Returns the stages that DVC says it ran, in that order."""
    return re.findall(r"^Running stage '(\w+)':$", output, flags=re.MULTILINE)


def cpu_seconds() -> float:
    """Returns the processor time of all commands that have ended: what others do adds nothing."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
