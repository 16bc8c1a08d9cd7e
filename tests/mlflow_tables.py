"""Runs in MLflow, read from the tables of its database by SQL alone."""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Row:
    """One run; `folder` holds its artifacts."""

    id: str
    status: str
    folder: Path
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]


def rows(root: Path, experiment: str) -> list[Row]:
    """Returns the runs of an MLflow experiment in the store of a repository, oldest first.

    In a copied repository those of the original are there too, in an experiment set aside.
    """
    with closing(sqlite3.connect(root / "mlflow.db")) as tables:

        def pairs(table: str, run: str) -> dict[str, Any]:
            found = tables.execute(f"SELECT key, value FROM {table} WHERE run_uuid = ?", (run,))
            return dict(found.fetchall())

        runs = tables.execute(
            "SELECT run_uuid, status, artifact_uri FROM runs JOIN experiments USING (experiment_id)"
            " WHERE (experiments.name = ? OR experiments.name LIKE ?)"
            " AND runs.lifecycle_stage = 'active' ORDER BY start_time",
            (experiment, f"{experiment} (%"),
        )
        return [
            Row(
                id=run,
                status=status,
                folder=Path(uri.removeprefix("file://")),
                tags=pairs("tags", run),
                params=pairs("params", run),
                metrics=pairs("latest_metrics", run),
            )
            for run, status, uri in runs.fetchall()
        ]
