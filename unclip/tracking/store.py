"""MLflow's store: how it is opened safely, and the few calls we make.

mlflow is imported inside functions only: it takes seconds, and a training must not wait for it.
Everything here may raise; `live` and `record` decide what a failure means.
"""

import os
import re
import sqlite3
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

from unclip.config.errors import UserError, first_line
from unclip.tracking.address import (
    EXPERIMENTS,
    describe_uri,
    find_database,
    store_lock,
    tracking_uri,
)

STAGES = "unclip-stages"

# MLflow reads these when it is imported. We report failures ourselves, in one line; without the
# retry limit an unreachable server would block the writer for minutes.
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}
NOTES = {
    EXPERIMENTS: "One row for each state of the whole DAG, rebuilt from files: all params, "
    "metrics, curves and pictures, with links to the runs that trained each checkpoint.",
    STAGES: "Training stages as they run. Their numbers are also in `history/` and `metrics/`; "
    "`unclip` has the record of a whole experiment.",
}


class TrackingError(UserError):
    """MLflow could not be used; the message is one line. It stops no training."""


class Point(NamedTuple):
    """One value of a metric; `timestamp` in milliseconds since 1970, `step` in training steps."""

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
    """Returns milliseconds since 1970."""
    return int(time.time() * 1000)


class Store:
    """An open MLflow store. Safe to use from one thread at a time.

    Args:
        client: MLflow's own.
        experiment_ids: name of an experiment → its id, then those of its predecessors, whose files
            are elsewhere.
    """

    def __init__(self, client: Any, experiment_ids: Mapping[str, Sequence[str]]) -> None:
        self.client = client
        self._experiment_ids = experiment_ids

    def experiment_id(self, experiment: str) -> str:
        """Returns MLflow's id of the experiment that new runs go to."""
        return self._experiment_ids[experiment][0]

    def create_run(self, experiment: str, name: str, tags: Mapping[str, str], started: int) -> str:
        """Returns the id of a new run, status RUNNING; `started` in milliseconds since 1970.

        Empty tags are left out.
        """
        given = {key: value for key, value in tags.items() if value}
        run = self.client.create_run(
            self.experiment_id(experiment), start_time=started, tags=given, run_name=name
        )
        return str(run.info.run_id)

    def find_runs(
        self, experiment: str, tags: Mapping[str, str], status: str | None = None
    ) -> list[Run]:
        """Returns the runs with these tags (and status), newest first, at most 200."""
        conditions = [f"tags.`{key}` = '{value}'" for key, value in tags.items()]
        if status:
            conditions.append(f"attributes.status = '{status}'")
        found = self.client.search_runs(
            list(self._experiment_ids[experiment]),
            filter_string=" and ".join(conditions),
            order_by=["attributes.start_time DESC"],
            max_results=200,
        )
        return [
            Run(i.run_id, i.experiment_id, i.status, dict(data.tags), dict(data.params))
            for i, data in ((run.info, run.data) for run in found)
        ]

    def log(
        self,
        run_id: str,
        *,
        points: Sequence[Point] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Writes metric values, params and tags that are not empty."""
        from mlflow.entities import Metric, Param, RunTag

        self.client.log_batch(
            run_id,
            metrics=[Metric(clean_name(key), *rest) for key, *rest in points],
            params=[Param(clean_name(key), value) for key, value in (params or {}).items()],
            tags=[RunTag(clean_name(key), v) for key, v in (tags or {}).items() if v],
        )

    def log_dataset(self, run_id: str, name: str, digest: str) -> None:
        """Fills MLflow's column `Dataset`."""
        from mlflow.entities import Dataset, DatasetInput

        dataset = Dataset(name=name, digest=digest[:36], source_type="dvc", source="{}")
        self.client.log_inputs(run_id, datasets=[DatasetInput(dataset)])


def clean_name(key: str) -> str:
    """Returns the key with every character that MLflow refuses in names replaced by "_"."""
    return re.sub(r"[^\w./ -]", "_", key)


def open_store() -> Store:
    """Returns the store, which is created if need be.

    Raises:
        TrackingError: the place cannot be written, the database is of another MLflow, the server
            does not answer, or mlflow is not installed.
    """
    database = find_database()
    with tracking_errors(describe_uri()):
        if database is None:
            return _open(None)
        database.parent.mkdir(parents=True, exist_ok=True)
        # Two processes that create the tables at once break the database for both.
        with store_lock():
            require_writable(database)
            return _open((database.parent / "mlruns").as_uri())


def require_writable(database: Path) -> None:
    """Fails early if the file cannot be written: MLflow would retry for minutes."""
    with closing(sqlite3.connect(database, timeout=20)) as connection:
        connection.execute("BEGIN IMMEDIATE")


def open_client(uri: str) -> Any:
    """Returns MLflow's client, which creates or upgrades the tables of a database."""
    for key, value in ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def _open(artifacts: str | None) -> Store:
    client = open_client(tracking_uri())
    ids, moved = {}, []
    for name, note in NOTES.items():
        found = client.get_experiment_by_name(name)
        if found and found.lifecycle_stage == "deleted":
            client.restore_experiment(found.experiment_id)
        if found and artifacts and _lies_elsewhere(found.artifact_location, artifacts):
            moved.append(_set_aside(client, found))
            found = None
        if found is None:
            # Never MLflow's Default, whose artifact folder depends on where the store was first
            # opened. The kind keeps the UI from asking for the sort of experiment.
            tags = {"mlflow.note.content": note}
            tags["mlflow.experimentKind"] = "custom_model_development"
            current = str(client.create_experiment(name, artifact_location=artifacts, tags=tags))
        else:
            current = str(found.experiment_id)
        aside = client.search_experiments(filter_string=f"name LIKE '{name} (%'")
        ids[name] = [current, *(experiment.experiment_id for experiment in aside)]
    if moved:
        print(
            f"note: MLflow: this folder was moved; earlier runs are in {' and '.join(moved)}, "
            "without their files; `python cli.py log` writes the record of the present state",
            file=sys.stderr,
        )
    return Store(client, ids)


def _lies_elsewhere(location: str, here: str) -> bool:
    """Returns whether files go to a folder `mlruns` of another place, and not to a bucket."""
    return location != here and location.startswith("file:") and location.endswith("/mlruns")


def _set_aside(client: Any, experiment: Any) -> str:
    """Renames an experiment, because MLflow cannot change where its files go; returns the name."""
    folder = Path(unquote(experiment.artifact_location)).parent.name
    name = f"{experiment.name} (files in {folder}, {experiment.experiment_id})"
    client.rename_experiment(experiment.experiment_id, name)
    return f"`{name}`"


@contextmanager
def tracking_errors(where: str = "") -> Iterator[None]:
    """Turns any error into a TrackingError, whose message begins with the place, if given."""
    try:
        yield
    except TrackingError:
        raise
    except Exception as error:
        raise TrackingError(f"{where}: {explain(error)}" if where else explain(error)) from error


def explain(error: Exception) -> str:
    """Returns one line that says what is wrong and, if known, what to do."""
    if isinstance(error, ModuleNotFoundError):
        return f"{error}; install the requirements of this project"
    schema = re.search(r"found version (\w+), but expected", str(error))
    if not schema and "Can't locate revision" not in str(error):
        return first_line(error)
    import mlflow

    migrations = Path(mlflow.__file__).parent / "store" / "db_migrations" / "versions"
    if schema and any(migrations.glob(f"{schema[1]}_*.py")):
        return f"written by an older MLflow; run `mlflow db upgrade {tracking_uri()}` once"
    return (
        f"written by a newer MLflow than {mlflow.__version__}, which cannot read it; install the"
        " newer one, or move the file away (`python cli.py log` rebuilds the record)"
    )
