"""Which runs in MLflow made a set of checkpoints, found by the hashes of their weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from unclip.tracking.address import EXPERIMENTS, describe_uri, find_database, is_tracking_on
from unclip.tracking.store import STAGES, Run, Store, TrackingError, one_line, open_store


@dataclass(frozen=True)
class Lineage:
    """What MLflow knows of checkpoints.

    Attributes:
        trainings: kind of network → the run that trained it, as far as there is one.
        records: runs of whole experiments with all of the checkpoints, oldest first.
    """

    trainings: dict[str, Run]
    records: list[Run]


def find_lineage(root: Path, hashes: Mapping[str, str]) -> Lineage:
    """Returns the runs behind checkpoints.

    Args:
        root: folder of the store (see `find_root`).
        hashes: kind of network → SHA-256 of its weights.

    Raises:
        TrackingError: one line; there is no store, or it can not be read.
    """
    if not is_tracking_on():
        raise TrackingError("UNCLIP_TRACKING=off: MLflow is not asked")
    database = find_database(root)
    if database is not None and not database.exists():
        raise TrackingError(
            f"{describe_uri(root)}: no records of MLflow here yet; `python cli.py log` writes that "
            "of this folder"
        )
    try:
        store = open_store(root)
        tags = {f"checkpoint.{kind}": weights for kind, weights in hashes.items()}
        return Lineage(find_trainings(store, hashes), store.find_runs(EXPERIMENTS, tags)[::-1])
    except TrackingError:
        raise
    except Exception as error:
        raise TrackingError(one_line(error)) from error


def find_trainings(store: Store, hashes: Mapping[str, str]) -> dict[str, Run]:
    """Returns kind of network → the run that made it, found by the hash of its weights.

    Of several the newest that ended well; a network that no run here has made is left out.
    """
    found = {}
    for kind, weights in hashes.items():
        runs = store.find_runs(STAGES, {"output_hash": weights})
        finished = [run for run in runs if run.status == "FINISHED"]
        if runs:
            found[kind] = (finished or runs)[0]
    return found
