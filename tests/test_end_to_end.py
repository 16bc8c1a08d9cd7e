"""The pipeline as a user has it: a fresh clone, real training on tiny params, real DVC and MLflow."""

import hashlib
import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from dag import REPO, STAGES, outs
from dvc_repo import Lab, stages_run
from PIL import Image
from tiny_params import leaves, tiny_params, write_params

pytestmark = pytest.mark.slow

KINDS = ("clip", "prior", "decoder", "judge")
AFTER_SAMPLE = ["sample", "evaluate", "report"]
PROMPT = "a large red circle"


def clone(root: Path) -> Lab:
    """What git has or would take of this repository, with tiny params and nothing made yet."""
    lab = Lab.beside(root)
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=True).stdout
    for name in names.split("\0"):
        is_made = name.startswith(("dvc.lock", "history/", "metrics/"))
        if name and not is_made and (REPO / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPO / name, root / name)
    write_params(root / "params.yaml", tiny_params())
    lab.start_git()
    return lab


def checkpoints(lab: Lab) -> dict[str, str]:
    """kind → SHA-256 of its weight file."""
    files = {kind: lab.root / "models" / kind / "model.safetensors" for kind in KINDS}
    return {kind: hashlib.sha256(file.read_bytes()).hexdigest() for kind, file in files.items()}


@dataclass(frozen=True)
class Row:
    """A run in MLflow, read from its tables."""

    id: str
    status: str
    folder: Path
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]


def rows(lab: Lab, experiment: str) -> list[Row]:
    """The runs of an MLflow experiment, oldest first."""
    with closing(sqlite3.connect(lab.root / "mlflow.db")) as tables:
        runs = tables.execute(
            "SELECT run_uuid, status, artifact_uri FROM runs JOIN experiments USING (experiment_id)"
            " WHERE experiments.name = ? AND runs.lifecycle_stage = 'active' ORDER BY start_time",
            (experiment,),
        ).fetchall()

        def pairs(table: str, run: str) -> dict[str, Any]:
            found = tables.execute(f"SELECT key, value FROM {table} WHERE run_uuid = ?", (run,))
            return dict(found.fetchall())

        return [
            Row(run, status, Path(uri.removeprefix("file://")))
            if False
            else Row(
                run,
                status,
                Path(uri.removeprefix("file://")),
                pairs("tags", run),
                pairs("params", run),
                pairs("latest_metrics", run),
            )
            for run, status, uri in runs
        ]
