"""A quick look at whether the store can be used; creates, repairs and upgrades nothing."""

import os
import shutil
import tempfile
from pathlib import Path

from unclip.tracking.address import describe_uri, find_database, sqlite_uri, tracking_uri
from unclip.tracking.store import open_client, require_writable, tracking_errors

# MLflow reads these at each request: seconds, not the minutes that a training has.
IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}


def look_at_store() -> str:
    """Returns the state of the store in words; MLflow keeps short timeouts in this process.

    Raises:
        TrackingError: one line; a training could not use the store.
    """
    database = find_database()
    with tracking_errors(describe_uri()):
        if database is None:
            os.environ.update(IMPATIENT)
            open_client(tracking_uri()).search_experiments(max_results=1)
            return "answers"
        if not database.exists():
            return "is not there yet; the first training makes it"
        if not os.access(database, os.W_OK):
            raise PermissionError("cannot be written to")
        require_writable(database)
        with tempfile.TemporaryDirectory() as folder:  # opening may upgrade the tables
            copied = shutil.copyfile(database, Path(folder) / "mlflow.db")
            open_client(sqlite_uri(copied)).search_experiments(max_results=1)
        return "can be used"
