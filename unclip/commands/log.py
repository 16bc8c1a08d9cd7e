"""`python cli.py log`: the record of this folder's pipeline in MLflow, from files alone."""

from pathlib import Path
from typing import Annotated

import typer


def log(
    force: Annotated[
        bool, typer.Option("--force", help="Write the record again even if it exists.")
    ] = False,
) -> None:
    """Write the state of the pipeline in this folder as one run in MLflow, from files alone.

    `dvc repro` does this by itself. Do it by hand after `dvc pull`, after moving the repository, or
    after MLflow was unavailable.

    Example: `python cli.py log`
    """
    from unclip.tracking.address import open_hint
    from unclip.tracking.record import record_experiment

    found = record_experiment(Path(), force=force)
    typer.echo(f"{'recorded' if found['created'] else 'already recorded'}: run {found['run_id']}")
    for line in open_hint(found["experiment_id"]):
        typer.echo(line)
