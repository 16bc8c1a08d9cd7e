"""`python cli.py log`: the record of this folder's pipeline in MLflow, from files alone."""

from pathlib import Path
from typing import Annotated

import typer


def log(
    force: Annotated[
        bool, typer.Option("--force", help="Write the record anew even if it stands.")
    ] = False,
) -> None:
    """Write the state of the pipeline in this folder as one run in MLflow, from files alone.

    `dvc repro` does this by itself. Do it by hand after `dvc pull`, after moving the repository, or
    when MLflow was out of reach.

    Example: `python cli.py log`
    """
    from unclip.config.errors import UserError
    from unclip.tracking.address import find_root, open_hint
    from unclip.tracking.record import record_experiment
    from unclip.tracking.store import TrackingError

    try:
        found = record_experiment(find_root(), Path(), force=force)
    except TrackingError as error:
        raise UserError(str(error)) from None
    typer.echo(f"{'recorded' if found['created'] else 'already recorded'}: run {found['run_id']}")
    for line in open_hint(find_root()):
        typer.echo(line)
