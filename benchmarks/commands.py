"""Commands that a user waits for: a pipeline with nothing to do, painting one prompt, help."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from benchmarks.report import Table
from benchmarks.turns import Contender, Work, take_turns
from benchmarks.workspace import REPOSITORY, Scale

PROMPT = "a large red circle"
IDLE, EMPTY = "dvc repro, nothing to do", "dvc repro, ten empty stages"
NUM_EMPTY = 10


def measure(shipped: Path, large: Path, scale: Scale) -> list[Table]:
    """Returns how long each command takes in a new process, from its start to its end."""
    repro = (sys.executable, "-m", "dvc", "repro")
    cli = (sys.executable, "cli.py")
    sample = (*cli, "sample", PROMPT, "--from", str(shipped), "--out", str(shipped / "painted"))
    commands = {
        IDLE: partial(command, repro, _shipped_pipeline(shipped.parent / "idle")),
        EMPTY: partial(command, repro, _empty_pipeline(shipped.parent / "empty")),
        f'python cli.py sample "{PROMPT}"': partial(command, sample, REPOSITORY),
        "python cli.py --help": partial(command, (*cli, "--help"), REPOSITORY),
    }
    contenders = {name: Contender("commands", build) for name, build in commands.items()}
    timings = take_turns(contenders, rounds=scale.rounds, turn_seconds=0.0)
    rows = [
        {"name": name, "median": t.median, "minimum": t.minimum, "seconds": t.seconds}
        for name, t in timings.items()
    ]
    columns = {
        "name": ("command", ""),
        "median": ("s", ".2f"),
        "minimum": ("s at best", ".2f"),
    }
    times = timings[IDLE].median / timings[EMPTY].median
    note = f"The pipeline with nothing to do takes {times:.2f} × as long as ten empty stages."
    return [Table("Commands", columns, rows, note)]


def command(words: Sequence[str], folder: Path) -> Work:
    """Returns the runs of a command in a folder.

    Raises:
        RuntimeError: a run failed; the message is what it said.
    """
    environment = os.environ | {"DVC_SITE_CACHE_DIR": str(folder / ".dvc" / "site")}

    def run(count: int) -> None:
        for _ in range(count):
            done = subprocess.run(
                words, cwd=folder, env=environment, capture_output=True, text=True, check=False
            )
            if done.returncode != 0:
                raise RuntimeError(f"{shlex.join(words)}\n{done.stdout}{done.stderr}")

    return Work(run)


def _shipped_pipeline(root: Path) -> Path:
    """Returns a repository with the shipped dvc.yaml, whose stages only touch their outs."""
    root.mkdir()
    for name in ("params.yaml", ".gitignore", ".dvcignore"):
        shutil.copy(REPOSITORY / name, root)
    for name in ("data/none", "stages", "unclip"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / name, root / name, ignore=ignored)
    pipeline = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text(encoding="utf-8"))
    for stage in pipeline["stages"].values():
        entries = [*stage.get("outs", []), *stage.get("metrics", [])]
        outs = [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]
        for out in outs:
            (root / out).parent.mkdir(parents=True, exist_ok=True)
        stage["cmd"] = shlex.join(["touch", *outs])
    return _repository(root, pipeline)


def _empty_pipeline(root: Path) -> Path:
    """Returns a repository with a chain of stages that each touch a file."""
    root.mkdir()
    (root / "out0").touch()
    chain = {
        f"stage{i}": {"cmd": f"touch out{i}", "deps": [f"out{i - 1}"], "outs": [f"out{i}"]}
        for i in range(1, NUM_EMPTY + 1)
    }
    return _repository(root, {"stages": chain})


def _repository(root: Path, pipeline: dict[str, Any]) -> Path:
    """Makes a folder a repository of git and DVC; the warm-up of `dvc repro` runs its stages."""
    (root / "dvc.yaml").write_text(yaml.safe_dump(pipeline, sort_keys=False), encoding="utf-8")
    (root / ".dvc").mkdir()
    shutil.copy(REPOSITORY / ".dvc" / "config", root / ".dvc")
    subprocess.run(("git", "init", "--quiet"), cwd=root, check=True)
    return root
