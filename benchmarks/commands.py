"""Commands that a user waits for: a pipeline with nothing to do, painting one prompt, help."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.child import run_child
from benchmarks.report import Bar, Column, Table
from benchmarks.scale import Scale
from benchmarks.timing import Timing, ratio, take_turns
from benchmarks.workspace import REPOSITORY
from unclip.config.layout import Layout

PROMPT = "a large red circle"
SAMPLE, HELP = f'python cli.py sample "{PROMPT}"', "python cli.py --help"
IDLE, EMPTY = "dvc repro, nothing to do", "dvc repro, ten empty stages"
SAMPLE_LIMIT, HELP_LIMIT = 6.0, 0.5  # seconds
NUM_EMPTY = 10
# Takes the place of every stage: makes its outs, a folder where the name has no suffix.
STAND_IN = """\
import sys
from pathlib import Path

for name in sys.argv[1:]:
    path = Path(name) if Path(name).suffix else Path(name) / "file"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(name)
"""


def measure_commands(folder: Path, trained: Layout, scale: Scale) -> tuple[Table, list[Bar]]:
    """Returns how long each command takes, from its start to its end.

    Args:
        folder: temporary.
        trained: a workspace with networks to paint with.
        scale: how much is measured.
    """
    models, out = trained.models.resolve(), folder.resolve() / "painted"
    command: tuple[str | Path, ...] = (sys.executable, REPOSITORY / "cli.py")
    sample = (*command, "sample", PROMPT, "--from", models, "--out", out)
    contenders = {
        IDLE: _Command(("dvc", "repro"), _shipped_pipeline(folder / "shipped")),
        EMPTY: _Command(("dvc", "repro"), _empty_pipeline(folder / "empty")),
        SAMPLE: _Command(sample, trained.root),
        HELP: _Command((*command, "--help"), trained.root),
    }
    timings = take_turns(contenders, rounds=scale.command_rounds, turn_seconds=0.0)
    rows = [_row(name, timing) for name, timing in timings.items()]
    columns = (
        Column("name", "command"),
        Column("median", "s", "{:.2f}"),
        Column("minimum", "s at best", "{:.2f}"),
    )
    times = ratio(timings[IDLE], timings[EMPTY])
    note = f"The pipeline with nothing to do takes {times:.2f} × as long as ten empty stages."
    bars = [
        Bar(SAMPLE, timings[SAMPLE].median, SAMPLE_LIMIT, False, "s"),
        Bar(HELP, timings[HELP].median, HELP_LIMIT, False, "s"),
    ]
    return Table("Commands", columns, rows, note), bars


def _row(name: str, timing: Timing) -> dict[str, Any]:
    seconds = list(timing.samples)
    return {"name": name, "median": timing.median, "minimum": timing.minimum, "seconds": seconds}


@dataclass(frozen=True)
class _Command:
    """A command as a `timing.Contender`; a unit is one run of it."""

    command: Sequence[str | Path]
    folder: Path

    def seconds(self, count: int) -> float:
        """Returns the seconds that `count` runs take."""
        return sum(run_child(self.command, self.folder).seconds for _ in range(count))


def _shipped_pipeline(root: Path) -> Path:
    """Returns a repository with the shipped dvc.yaml, up to date, whose stages did nothing."""
    root.mkdir(parents=True)
    for name in ("params.yaml", ".gitignore", ".dvcignore"):
        shutil.copy(REPOSITORY / name, root)
    for name in ("data/example", "stages", "unclip"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / name, root / name, ignore=ignored)
    pipeline = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text(encoding="utf-8"))
    for about in pipeline["stages"].values():
        entries = [*about.get("outs", []), *about.get("metrics", [])]
        outs = [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]
        about["cmd"] = " ".join(["python", "stand_in.py", *outs])
    return _reproduced(root, pipeline)


def _empty_pipeline(root: Path) -> Path:
    """Returns a repository with a chain of stages that each touch a file, up to date."""
    root.mkdir(parents=True)
    (root / "out0").touch()
    chain = {
        f"stage{i}": {"cmd": f"touch out{i}", "deps": [f"out{i - 1}"], "outs": [f"out{i}"]}
        for i in range(1, NUM_EMPTY + 1)
    }
    return _reproduced(root, {"stages": chain})


def _reproduced(root: Path, pipeline: dict[str, Any]) -> Path:
    (root / "dvc.yaml").write_text(yaml.safe_dump(pipeline, sort_keys=False), encoding="utf-8")
    (root / "stand_in.py").write_text(STAND_IN, encoding="utf-8")
    (root / ".dvc").mkdir()
    shutil.copy(REPOSITORY / ".dvc" / "config", root / ".dvc")
    subprocess.run(("git", "init", "--quiet"), cwd=root, check=True)
    run_child(("dvc", "repro"), root)
    return root
