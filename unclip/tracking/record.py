"""The record of a whole experiment in MLflow, rebuilt from files at any time."""

import contextlib
from pathlib import Path
from typing import Any

from PIL import Image

from unclip.tracking.address import EXPERIMENTS, VIEW, describe_uri, is_tracking_on, store_lock
from unclip.tracking.display import changed_params, describe, headlines, table_view
from unclip.tracking.lineage import find_trainings
from unclip.tracking.store import (
    Point,
    Run,
    Store,
    TrackingError,
    now_ms,
    open_store,
    tracking_errors,
)
from unclip.tracking.workspace import (
    FILES,
    Contents,
    experiment_name,
    find_commit,
    has_changes,
    read_workspace,
)

SHOWN = ("samples/grid.png", "samples/trajectory.png")


def record_experiment(workspace: Path, force: bool = False) -> dict[str, Any]:
    """Returns the record in MLflow of the experiment in a folder, after writing it if needed.

    Each state of the DAG is written once, unless `force` is set, the writing was interrupted, or
    the record's files are gone.

    The result has `run_id`, `experiment_id` (MLflow's), `digest`, `created` (whether it was written
    now) and `tracking_uri` (without host or path).

    Raises:
        TrackingError: one line; MLflow or a file could not be used.
    """
    if not is_tracking_on():
        raise TrackingError("UNCLIP_TRACKING=off: nothing is recorded")
    with tracking_errors():
        contents = read_workspace(workspace)
        store = open_store()
        # Two queued experiments may reach the same state at once.
        with store_lock():
            run_id, created = _record(store, workspace, contents, force)
        return {
            "run_id": run_id,
            "experiment_id": store.experiment_id(EXPERIMENTS),
            "digest": contents.digest,
            "created": created,
            "tracking_uri": describe_uri(),
        }


def _record(store: Store, workspace: Path, contents: Contents, force: bool) -> tuple[str, bool]:
    current = store.experiment_id(EXPERIMENTS)
    known = store.find_runs(EXPERIMENTS, {"digest": contents.digest})
    earlier = [run for run in known if run.experiment_id == current]
    kept = None if force else next((run for run in earlier if _is_whole(store, run)), None)
    run_id = kept.id if kept else _write(store, workspace, contents)
    for run in earlier:
        if run.id != run_id:
            store.client.delete_run(run.id)
    if kept is None:
        # The record is complete without the view, which a server may refuse.
        with contextlib.suppress(Exception):
            params = changed_params(store.find_runs(EXPERIMENTS, {"complete": "true"}))
            view = table_view(headlines(contents.metrics), params, now_ms())
            store.client.set_experiment_tag(current, f"mlflow.sharedViewState.{VIEW}", view)
    return run_id, kept is None


def _is_whole(store: Store, run: Run) -> bool:
    finished = run.status == "FINISHED" and run.tags.get("complete") == "true"
    return finished and bool(store.client.list_artifacts(run.id))


def _write(store: Store, workspace: Path, contents: Contents) -> str:
    commit, name = find_commit(), experiment_name()
    label = name or f"{commit[:7]} {contents.digest[:8]}".strip()
    run_id = store.create_run(EXPERIMENTS, label, {"digest": contents.digest}, now_ms())
    try:
        links = find_trainings(store, contents.checkpoints)
        store.log(run_id, points=_points(contents), params=contents.params)
        _log_files(store, run_id, workspace, contents)
        dataset = contents.params.get("data.dataset", "")
        store.log_dataset(run_id, dataset, contents.data_hash)
        state = "with uncommitted changes" if has_changes(workspace) else "as committed"
        tags = {
            "commit": commit,
            "code": state if commit else "",
            "dvc_exp": name,
            "data.dataset": dataset,
            "mlflow.source.name": "dvc.yaml",
            "mlflow.source.type": "LOCAL",
            "mlflow.source.git.commit": commit,
            "mlflow.note.content": describe(contents, links, run_id, commit, name, state),
            **{f"stage_run.{run.tags.get('stage', kind)}": run.id for kind, run in links.items()},
            **{f"checkpoint.{kind}": value for kind, value in contents.checkpoints.items()},
        }
        store.log(run_id, tags=tags)
        store.log(run_id, tags={"complete": "true"})
        store.client.set_terminated(run_id, status="FINISHED")
    except BaseException:
        with contextlib.suppress(Exception):
            store.client.set_terminated(run_id, status="FAILED")
        raise
    return run_id


def _points(contents: Contents) -> list[Point]:
    """Returns every value once: MLflow refuses two of a metric at one step."""
    now = now_ms()
    points = [
        Point(key, value, now, step)
        for key, curve in contents.curves.items()
        for step, value in dict(curve).items()
    ]
    return points + [Point(key, value, now, 0) for key, value in contents.metrics.items()]


def _log_files(store: Store, run_id: str, workspace: Path, contents: Contents) -> None:
    for name in FILES:
        store.client.log_artifact(run_id, str(workspace / name))
    for path in contents.pictures:
        store.client.log_artifact(run_id, str(workspace / path), path.parent.as_posix())
    shown = [(Path(name), Path(name).with_suffix("").as_posix(), 0) for name in SHOWN]
    shown = [entry for entry in shown if entry[0] in contents.pictures]
    shown += [(path, path.parent.as_posix(), step) for step, path in contents.painted.items()]
    for path, key, step in shown:
        with Image.open(workspace / path) as image:
            store.client.log_image(run_id, image.convert("RGB"), key=key, step=step)
