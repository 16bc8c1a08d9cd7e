"""The address of the MLflow store. Knows nothing of MLflow."""

import re
import shlex
from pathlib import Path
from urllib.parse import quote, unquote

from filelock import BaseFileLock, FileLock

from unclip.config.errors import UserError
from unclip.config.settings import main_repository, setting

LOCK_SECONDS = 300
EXPERIMENTS = "unclip"  # the MLflow experiment that holds the records
VIEW = "headlines"  # the view of its table, with the columns that `record` chooses


def is_tracking_on() -> bool:
    """Returns whether the machine's setting UNCLIP_TRACKING is on, its default.

    Raises:
        UserError: it is neither on nor off.
    """
    value = setting("tracking") or "on"
    if value not in ("on", "off"):
        raise UserError(f"UNCLIP_TRACKING: {value!r} is not allowed; expected on or off")
    return value == "on"


def find_root() -> Path:
    """Returns the folder that holds the store: the main repository.

    A queued experiment runs in a temporary workspace, which DVC deletes.
    """
    return main_repository().resolve()


def find_database() -> Path | None:
    """Returns the SQLite file in use; None for a server. A relative path starts at the root."""
    uri = setting("tracking_uri")
    if not uri:
        return find_root() / "mlflow.db"
    found = re.match(r"sqlite(?:\+pysqlite)?:///([^?]*)", uri)
    return find_root() / unquote(found[1]) if found else None


def sqlite_uri(database: Path) -> str:
    """Returns the address of a SQLite file, whose path SQLAlchemy unquotes."""
    path = database.as_posix()
    if not set(path) & {"%", "?"}:
        return f"sqlite:///{path}"
    # With the plain scheme MLflow would also make the folder of the quoted path.
    return f"sqlite+pysqlite:///{quote(path)}"


def tracking_uri() -> str:
    """Returns MLflow's address: MLFLOW_TRACKING_URI where set, else `<root>/mlflow.db`."""
    database = find_database()
    return sqlite_uri(database) if database else setting("tracking_uri") or ""


def describe_uri() -> str:
    """Returns the address without host, user, password or absolute path."""
    database = find_database()
    if database is None:
        return f"{tracking_uri().partition(':')[0]} (MLFLOW_TRACKING_URI)"
    return f"sqlite:///{database.name}"


def open_hint(experiment_id: str) -> list[str]:
    """Returns the lines that tell the user how to open MLflow's experiment with the records."""
    root, database = find_root(), find_database()
    if database is None:
        return [f"MLflow: open the server named in MLFLOW_TRACKING_URI, experiment `{EXPERIMENTS}`"]
    is_usual = database == root / "mlflow.db"
    where = "" if is_usual else f" --backend-store-uri {shlex.quote(tracking_uri())}"
    return [
        f"MLflow: in {root}: mlflow ui{where}",
        f"faster to start: MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false mlflow ui --workers 1{where}",
        f"then open http://127.0.0.1:5000/#/experiments/{experiment_id}/runs"
        f"?viewStateShareKey={VIEW}&workflowType=machine_learning",
    ]


def store_lock() -> BaseFileLock:
    """Returns the lock, not yet held, for creating the store and records."""
    database = find_database()
    folder = database.parent if database else find_root()
    return FileLock(folder / ".mlflow.lock", timeout=LOCK_SECONDS)
