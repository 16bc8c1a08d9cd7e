"""Writes the state of the whole pipeline as one run in MLflow, which is a view of the files."""

import sys

from unclip.config.layout import Layout
from unclip.core.artifacts import write_json
from unclip.running.stage import main
from unclip.tracking.record import record_experiment
from unclip.tracking.store import TrackingError

STAGE = "report"


def run(layout: Layout, **sections: object) -> None:
    """Writes the MLflow run and report.json; dvc.yaml makes it depend on every section."""
    try:
        record = record_experiment(layout.root)
    except TrackingError as error:
        print(
            f"warning: not recorded in MLflow: {error}; `python cli.py log` records it later",
            file=sys.stderr,
        )
        record = {"run_id": None}
    write_json(layout.report, record)


if __name__ == "__main__":
    main(STAGE, run)
