"""The door to MLflow: how the store is opened safely, and the few calls we make.

The one module that imports mlflow, and only inside functions: the import takes seconds, and a
training must not wait for it. Everything that comes from here may raise; `live` and `record` decide
what a failure means.
"""

import os
import re
import sqlite3
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from unclip.tracking.address import (
    EXPERIMENTS,
    describe_uri,
    find_database,
    store_lock,
    tracking_uri,
)

STAGES = "unclip-stages"

# Read by MLflow when it is imported. Its log is silent because we report failures ourselves, in
# one line; without the retry limit an unreachable server would hold the writer for minutes.
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}
NOTES = {
    EXPERIMENTS: "One row for each state of the whole DAG, rebuilt from files: all params, "
    "metrics, curves and pictures, with links to the runs that trained each checkpoint.",
    STAGES: "Training stages as they run. Their numbers also stand in `history/` and `metrics/`; "
    "the finished picture of an experiment is in `unclip`.",
}
METRICS_PER_BATCH = 1000  # MLflow's own limits
TAGS_PER_BATCH = 100
# Tables and columns with folders of registered models, which move with those of runs.
PLACES_OF_MODELS = {"logged_models": "artifact_location", "model_versions": "storage_location"}


class TrackingError(Exception):
    """MLflow could not be used; the message is one line. No training stops for it."""


class Point(NamedTuple):
    """One value of one metric; `timestamp` in milliseconds since 1970, `step` in training steps."""

    key: str
    value: float
    timestamp: int
    step: int


class Run(NamedTuple):
    """What we read of a run. `status` is MLflow's: RUNNING, FINISHED, FAILED or KILLED."""

    id: str
    experiment_id: str
    status: str
    tags: dict[str, str]
    params: dict[str, str]


def now_ms() -> int:
    """Returns the time as MLflow counts it: milliseconds since 1970."""
    return int(time.time() * 1000)


def one_line(error: BaseException) -> str:
    """Returns an error's first line, short enough to read, without the password of an address."""
    text = str(error).strip().split("\n")[0] or type(error).__name__
    text = re.sub(r"//[^/@\s]*@", "//", text)
    return text if len(text) <= 240 else text[:237] + "..."


class Store:
    """An open MLflow store. Safe to use from one thread at a time."""

    def __init__(self, client: Any, experiment_ids: Mapping[str, str]) -> None:
        self._client = client
        self._experiment_ids = experiment_ids

    def create_run(self, experiment: str, name: str, tags: Mapping[str, str], started: int) -> str:
        """Returns the id of a new run with status RUNNING; `started` in milliseconds since 1970."""
        run = self._client.create_run(
            self._experiment_ids[experiment], start_time=started, tags=dict(tags), run_name=name
        )
        return str(run.info.run_id)

    def finish_run(self, run_id: str, status: str) -> None:
        """Sets the final status (FINISHED, FAILED or KILLED) and the end time."""
        self._client.set_terminated(run_id, status=status)

    def delete_run(self, run_id: str) -> None:
        """Moves a run to MLflow's trash."""
        self._client.delete_run(run_id)

    def find_runs(
        self, experiment: str, tags: Mapping[str, str], status: str | None = None
    ) -> list[Run]:
        """Returns the runs with these tags (and status), newest first, at most 200."""
        conditions = [f"tags.`{key}` = '{value}'" for key, value in tags.items()]
        if status:
            conditions.append(f"attributes.status = '{status}'")
        found = self._client.search_runs(
            [self._experiment_ids[experiment]],
            filter_string=" and ".join(conditions),
            order_by=["attributes.start_time DESC"],
            max_results=200,
        )
        return [
            Run(i.run_id, i.experiment_id, i.status, dict(data.tags), dict(data.params))
            for i, data in ((run.info, run.data) for run in found)
        ]

    def has_artifacts(self, run_id: str) -> bool:
        """Returns whether the run's files are still where MLflow believes them."""
        return bool(self._client.list_artifacts(run_id))

    def save_view(self, experiment: str, view_id: str, view: str) -> None:
        """Offers a view of the experiment's table (see `display.table_view`)."""
        key = f"mlflow.sharedViewState.{view_id}"
        self._client.set_experiment_tag(self._experiment_ids[experiment], key, view)

    def log_points(self, run_id: str, points: Sequence[Point]) -> None:
        """Writes metric values, in as few calls as MLflow allows."""
        from mlflow.entities import Metric

        for start in range(0, len(points), METRICS_PER_BATCH):
            batch = points[start : start + METRICS_PER_BATCH]
            self._client.log_batch(
                run_id, metrics=[Metric(clean_name(p.key), *p[1:]) for p in batch]
            )

    def log_params(self, run_id: str, params: Mapping[str, str]) -> None:
        """Writes params, which MLflow never lets anyone change."""
        from mlflow.entities import Param

        entries = [Param(clean_name(key), value) for key, value in params.items()]
        for start in range(0, len(entries), TAGS_PER_BATCH):
            self._client.log_batch(run_id, params=entries[start : start + TAGS_PER_BATCH])

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Writes tags; one that exists is overwritten."""
        from mlflow.entities import RunTag

        entries = [RunTag(clean_name(key), value) for key, value in tags.items()]
        for start in range(0, len(entries), TAGS_PER_BATCH):
            self._client.log_batch(run_id, tags=entries[start : start + TAGS_PER_BATCH])

    def log_image(self, run_id: str, image: Any, key: str, step: int) -> None:
        """Writes a picture that the UI shows among the charts, with a slider over the steps."""
        self._client.log_image(
            run_id, image, key=re.sub(r"[^a-zA-Z0-9_\-./ ]", "_", key), step=step
        )

    def log_file(self, run_id: str, path: Path, folder: str) -> None:
        """Copies a file into the run's artifacts, under `folder` ("" is the top)."""
        self._client.log_artifact(run_id, str(path), folder or None)

    def log_dataset(self, run_id: str, name: str, digest: str) -> None:
        """Names the data set, for MLflow's column of that name."""
        from mlflow.entities import Dataset, DatasetInput

        dataset = Dataset(name=name, digest=digest[:36], source_type="dvc", source="{}")
        self._client.log_inputs(run_id, datasets=[DatasetInput(dataset)])


def clean_name(key: str) -> str:
    """Returns the key with every character that MLflow refuses in names replaced by "_"."""
    return re.sub(r"[^\w./ -]", "_", key)


def open_store(root: Path) -> Store:
    """Returns the store anchored at `root`, made or mended first where needed.

    Raises:
        TrackingError: the place can not be written, the database is of another MLflow, the server
            does not answer, or mlflow is not installed.
    """
    database = find_database(root)
    try:
        if database is None:
            return _open(tracking_uri(root), None)
        database.parent.mkdir(parents=True, exist_ok=True)
        # Two processes that create the tables at once break the database for both.
        with store_lock(root):
            _prepare_database(database)
            return _open(tracking_uri(root), (database.parent / "mlruns").as_uri())
    except Exception as error:
        raise TrackingError(f"{describe_uri(root)}: {explain(error, root)}") from error


def open_client(uri: str) -> Any:
    """Returns MLflow's own client, which makes or upgrades the tables of a database."""
    for key, value in ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def _open(uri: str, artifacts: str | None) -> Store:
    client = open_client(uri)
    return Store(client, {name: _experiment_id(client, name, artifacts) for name in NOTES})


def _experiment_id(client: Any, name: str, artifacts: str | None) -> str:
    """Returns the id of the experiment, made on first use; never MLflow's Default.

    Default takes its artifact folder from whoever opened the store first, and that may be a place
    where no client can write.
    """
    found = client.get_experiment_by_name(name)
    if found is None:
        # The kind keeps the UI from asking what sort of experiment this is.
        tags = {
            "mlflow.note.content": NOTES[name],
            "mlflow.experimentKind": "custom_model_development",
        }
        return str(client.create_experiment(name, artifact_location=artifacts, tags=tags))
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


def _prepare_database(database: Path) -> None:
    """Fails at once where nothing can be written, and follows a folder that was moved.

    MLflow retries an unusable file for minutes. And it stores artifact folders as absolute paths
    that no call of its own can change: after a move every picture would be lost from view, and new
    ones would be written to the old place.
    """
    connection = sqlite3.connect(database, timeout=20)
    try:
        connection.execute("BEGIN IMMEDIATE")
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        if {"experiments", "runs"} <= tables:
            _follow_move(connection, (database.parent / "mlruns").as_uri(), tables)
        connection.commit()
    finally:
        connection.close()


def _follow_move(connection: sqlite3.Connection, here: str, tables: set[str]) -> None:
    rows = connection.execute(
        "SELECT experiment_id, artifact_location FROM experiments WHERE name IN (?, ?)",
        (EXPERIMENTS, STAGES),
    ).fetchall()
    for experiment_id, old in rows:
        # Only what we placed ourselves: somebody's bucket is left alone.
        if old == here or not (old.startswith("file:") and old.endswith("/mlruns")):
            continue
        connection.execute(
            "UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?",
            (here, experiment_id),
        )
        connection.execute(
            "UPDATE runs SET artifact_uri = ? || substr(artifact_uri, ?)"
            " WHERE experiment_id = ? AND substr(artifact_uri, 1, ?) = ?",
            (here, len(old) + 1, experiment_id, len(old), old),
        )
        for table, column in PLACES_OF_MODELS.items():
            if table in tables:
                connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?)"
                    f" WHERE substr({column}, 1, ?) = ?",
                    (here, len(old) + 1, len(old) + 1, f"{old}/"),
                )


def explain(error: Exception, root: Path) -> str:
    """Returns one line that says what is wrong and, where we know, what to do."""
    if isinstance(error, ModuleNotFoundError):
        return f"{error}; install the requirements of this project"
    schema = re.search(r"found version (\w+), but expected", str(error))
    if not schema and "Can't locate revision" not in str(error):
        return one_line(error)
    import mlflow

    migrations = Path(mlflow.__file__).parent / "store" / "db_migrations" / "versions"
    if schema and any(migrations.glob(f"{schema[1]}_*.py")):
        return f"written by an older MLflow; run `mlflow db upgrade {tracking_uri(root)}` once"
    return (
        f"written by a newer MLflow than {mlflow.__version__}, which can not read it; install the"
        " newer one, or move the file away (`python cli.py log` rebuilds the record)"
    )
