"""Stages: where the time of each goes, what it needs of memory, and the commands around them."""

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.child import run_child
from benchmarks.commands import measure_commands
from benchmarks.environment import describe
from benchmarks.report import Bar, Column, Row, Section, Table
from benchmarks.scale import Scale
from benchmarks.timed_stage import CATEGORIES
from benchmarks.workspace import (
    REPOSITORY,
    SHIPPED,
    changed_params,
    write_params,
    write_untrained,
)
from unclip.config.layout import Layout
from unclip.params.loading import load_params
from unclip.params.sections import Params

MEBIBYTE = 2**20
STARTUP_LIMIT, TRACKING_LIMIT = 4.0, 0.03
COLUMNS = (
    Column("name", "stage"),
    Column("total", "s", "{:.1f}"),
    Column("startup", "import and start-up", "{:.1f}"),
    *(Column(category, category, "{:.2f}") for category in CATEGORIES),
    Column("other", "other", "{:.1f}"),
    Column("exit", "exit", "{:.1f}"),
    Column("tracking_share", "tracking, share", "{:.1%}"),
    Column("writer", "MLflow's thread, s of processor", "{:.1f}"),
    Column("peak", "peak anonymous memory, MiB", "{:,.0f}"),
)


def measure(folder: Path, scale: Scale) -> Section:
    """Returns the times of all stages in a temporary workspace, and of the commands around them.

    Args:
        folder: temporary.
        scale: how much is measured.
    """
    params = stage_params(scale)
    layout = write_params(folder / "stages", params)
    if (REPOSITORY / "dvc.lock").exists():  # names the state that the report records
        shutil.copy(REPOSITORY / "dvc.lock", layout.root)
    rows = [run_stage(layout, stage).row() for stage in scale.stages]
    if not layout.model("decoder").exists():  # the painting command needs something to paint with
        write_untrained(layout, params)
    commands, bars = measure_commands(folder, layout, scale)
    note = (
        "Seconds, each stage in a process of its own. Import and start-up end where the stage's "
        "work begins; tracking is what the training itself waits for, while MLflow's own thread "
        "runs beside it; exit is what comes after the work; other is work in no category."
    )
    return Section(
        "stages", describe(), [Table("Stages", COLUMNS, rows, note), commands], _bars(rows) + bars
    )


def stage_params(scale: Scale) -> Params:
    """Returns the params that the stages run with: the shipped ones, unless the scale is small."""
    if scale.stage_pictures is None:
        return load_params(SHIPPED)
    return changed_params(SHIPPED, scale.stage_pictures, scale.stage_changes)


def _bars(rows: list[Row]) -> list[Bar]:
    slowest = max(rows, key=lambda row: row["startup"])
    bars = [
        Bar(f"start-up of {slowest['name']}", slowest["startup"], STARTUP_LIMIT, False, "s"),
    ]
    trainings = [row for row in rows if row["laps"]]
    if trainings:
        worst = max(trainings, key=lambda row: row["tracking_share"])
        name = f"tracking in {worst['name']}"
        bars.append(Bar(name, worst["tracking_share"], TRACKING_LIMIT, False, "%"))
    return bars


@dataclass(frozen=True)
class StageTimes:
    """A stage that ran.

    Attributes:
        stage: its name in dvc.yaml.
        total: seconds of its process.
        peak_memory: bytes, or None.
        times: as `timed_stage.main` writes them.
    """

    stage: str
    total: float
    peak_memory: int | None
    times: dict[str, Any]

    @property
    def laps(self) -> list[float]:
        """Returns the seconds of each training step."""
        laps: list[float] = self.times["laps"]
        return laps

    def row(self) -> Row:
        """Returns the row of the table: seconds by category, which add up to the total."""
        parts = {name: self.times.get(name, 0.0) for name in ("startup", *CATEGORIES)}
        return {
            "name": self.stage,
            "total": self.total,
            **parts,
            "other": self.times["run"] + parts["startup"] - sum(parts.values()),
            "exit": self.total - self.times["run"] - parts["startup"],
            "tracking_share": parts["tracking"] / self.total,
            "writer": self.times["writer"],
            "peak": self.peak_memory and self.peak_memory / MEBIBYTE,
            "laps": self.laps,
        }


def run_stage(layout: Layout, stage: str, variables: dict[str, str] | None = None) -> StageTimes:
    """Runs a stage in a workspace and returns where its time went.

    Raises:
        RuntimeError: it failed.
    """
    times = layout.root.resolve() / f"times_{stage}.json"
    command: list[str | Path] = [sys.executable, "-m", "benchmarks.timed_stage", stage, times]
    finished = run_child(command, layout.root, variables)
    found = json.loads(times.read_text(encoding="utf-8"))
    return StageTimes(stage, finished.seconds, finished.peak_memory, found)
