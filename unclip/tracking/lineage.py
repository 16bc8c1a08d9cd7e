"""The runs in MLflow that made a set of checkpoints, found by the hashes of their weights."""

from collections.abc import Mapping
from typing import NamedTuple

from unclip.tracking.address import EXPERIMENTS, describe_uri, find_database, is_tracking_on
from unclip.tracking.store import STAGES, Run, Store, TrackingError, open_store, tracking_errors


class Lineage(NamedTuple):
    """The runs behind a set of checkpoints."""

    trainings: dict[str, Run]  # kind of network → the run that trained it, if there is one
    records: list[Run]  # of experiments that have all of the checkpoints, oldest first


def find_lineage(hashes: Mapping[str, str]) -> Lineage:
    """Returns the runs behind checkpoints.

    Args:
        hashes: kind of network → SHA-256 of its weights.

    Raises:
        TrackingError: one line; there is no store, or it cannot be read.
    """
    if not is_tracking_on():
        raise TrackingError("UNCLIP_TRACKING=off: MLflow is not asked")
    database = find_database()
    if database is not None and not database.exists():
        raise TrackingError(
            f"{describe_uri()}: no records of MLflow here yet; `python cli.py log` writes the one "
            "of this folder"
        )
    with tracking_errors():
        store = open_store()
        tags = {f"checkpoint.{kind}": weights for kind, weights in hashes.items()}
        return Lineage(find_trainings(store, hashes), store.find_runs(EXPERIMENTS, tags)[::-1])


def find_trainings(store: Store, hashes: Mapping[str, str]) -> dict[str, Run]:
    """Returns kind of network → the newest run that made it, a finished one if there is any.

    `hashes`: kind of network → SHA-256 of its weights. Networks without a run are left out.
    """
    found = {}
    for kind, weights in hashes.items():
        runs = store.find_runs(STAGES, {"output_hash": weights})
        if runs:
            found[kind] = next((run for run in runs if run.status == "FINISHED"), runs[0])
    return found
