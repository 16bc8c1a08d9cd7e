"""Whether the store can be used, found out in no time: nothing is made, mended or upgraded."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path

from unclip.tracking.address import describe_uri, find_database, tracking_uri
from unclip.tracking.store import TrackingError, explain, open_client

SECONDS = 5  # that a server or a lock may take
# Read by MLflow at each request.
IMPATIENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": str(SECONDS),
}


def look_at_store(root: Path) -> str:
    """Returns in words what a look at the store found.

    Args:
        root: folder of the store (see `address.find_root`).

    Raises:
        TrackingError: one line; a training could not use it.
    """
    database, uri = find_database(root), tracking_uri(root)
    try:
        if database is not None:
            return _look_at_database(database)
        if uri.startswith(("http://", "https://")):
            return _look_at_server(uri)
        return "is opened by trainings alone"  # MLflow would make or upgrade its tables
    except Exception as error:
        raise TrackingError(f"{describe_uri(root)}: {explain(error, root)}") from error


def _look_at_database(database: Path) -> str:
    if not database.exists():
        return "is not there yet; the first training makes it"
    if not os.access(database, os.W_OK):
        raise PermissionError("can not be written to")
    address = f"{database.as_uri()}?mode=ro"
    with closing(sqlite3.connect(address, uri=True, timeout=SECONDS)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        versions = []
        if "alembic_version" in tables:
            versions = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    if not versions:
        return "is empty; the first training fills it"
    ((found,),), expected = versions, newest_schema()
    if found != expected:  # in MLflow's words, which `explain` knows
        raise ValueError(f"found version {found}, but expected {expected}")
    return "can be used"


def newest_schema() -> str | None:
    """Returns the version of the databases that the installed MLflow makes, as alembic knows it."""
    from alembic.script import ScriptDirectory  # MLflow's own tool for its tables; slow to import

    package = find_spec("mlflow")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("No module named 'mlflow'")
    migrations = Path(package.origin).parent / "store" / "db_migrations"
    return ScriptDirectory(str(migrations)).get_current_head()


def _look_at_server(uri: str) -> str:
    with _environment(IMPATIENT):
        open_client(uri).search_experiments(max_results=1)
    return "answers"


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {key: os.environ.get(key) for key in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for key, value in before.items():
            del os.environ[key]
            if value is not None:
                os.environ[key] = value
