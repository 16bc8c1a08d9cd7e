"""Whether the store can be used, found out in no time: nothing is made, mended or upgraded."""

import os
import shutil
import tempfile

from unclip.tracking.address import describe_uri, find_database, tracking_uri
from unclip.tracking.store import open_client, require_writable, tracking_errors

# Read by MLflow at each request: seconds, not the minutes that a training has.
IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}


def look_at_store() -> str:
    """Returns in words what a look at the store found. MLflow in this process stays impatient.

    Raises:
        TrackingError: one line; a training could not use it.
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
        with tempfile.TemporaryDirectory() as folder:  # to open it could upgrade its tables
            copied = shutil.copy(database, folder)
            open_client(f"sqlite:///{copied}").search_experiments(max_results=1)
        return "can be used"
