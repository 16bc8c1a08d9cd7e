"""How a record looks in MLflow's pages: its description, and the columns of the table."""

import json
from collections.abc import Mapping, Sequence

from unclip.tracking.address import VIEW
from unclip.tracking.store import Run
from unclip.tracking.workspace import Contents

HEADLINES = 10
COLUMNS = 8
GRID = "samples/grid.png"


def headlines(metrics: Mapping[str, float]) -> list[str]:
    """Returns the figures worth a column: those of metrics/headline.json, else the first ones."""
    chosen = [key for key in metrics if key.startswith("headline.")]
    return (chosen or list(metrics))[:HEADLINES]


def describe(
    contents: Contents, links: Mapping[str, Run], run_id: str, commit: str, name: str, state: str
) -> str:
    """Returns a run's description in Markdown: figures, origins, the way back, the pictures.

    MLflow folds it after about four lines, so the short parts come first. `links` is kind of model
    → the run that trained it, `run_id` the record's own run, which holds the pictures, `name` that
    of the DVC experiment, `state` says whether the code differs from the commit; "" is unknown.
    """
    figures = ", ".join(
        f"{key.removeprefix('headline.')} **{contents.metrics[key]:.4g}**"
        for key in headlines(contents.metrics)
    )
    origins = {kind: f"{kind} `{value[:8]}`" for kind, value in contents.checkpoints.items()}
    for kind, run in links.items():
        origins[kind] = f"[{origins[kind]}](#/experiments/{run.experiment_id}/runs/{run.id})"
    checkpoints = ", ".join(origins.values()) or "none"
    way = f"`dvc exp apply {name}` (from commit `{commit[:12]}`)"
    if not name:
        start = f"`git checkout {commit[:12]}` ({state}), then " if commit else ""
        files = "`params.yaml` and `dvc.lock` from the artifacts"
        way = f"{start}put {files} in place, then `dvc checkout`"
    parts = [
        figures,
        f"Checkpoints, each a link to its training where that ran here: {checkpoints}",
        f"To get it back: {way}.",
    ]
    if any(path.as_posix() == GRID for path in contents.pictures):
        parts.append(f"![samples](get-artifact?path={GRID}&run_uuid={run_id})")
    return "\n\n".join(part for part in parts if part)


def changed_params(runs: Sequence[Run]) -> list[str]:
    """Returns the params in which the runs differ, as columns."""
    values = [run.params for run in runs]
    keys = dict.fromkeys(key for params in values for key in params)
    return [key for key in keys if len({params.get(key) for params in values}) > 1][:COLUMNS]


def table_view(metrics: Sequence[str], params: Sequence[str], now: int) -> str:
    """Returns a saved view of the runs table with these columns; `now` in ms since 1970.

    Without one the table shows no figures. The format is undocumented, that of MLflow 3.15 to 3.17;
    if it changes, only this view is missing.
    """
    columns = {f"params.`{key}`": key for key in params}
    columns |= {f"metrics.`{key}`": key for key in metrics}
    state = {
        "selectedColumns": list(columns),
        "columnOrder": ["attributes.`Run Name`", "runDateAndNestInfo", *columns, "duration"],
        "columnWidths": {column: 24 + 7 * len(key) for column, key in columns.items()},
    }
    envelope = {"name": VIEW, "createdAt": now, "updatedAt": now, "state": json.dumps(state)}
    return json.dumps(envelope)
