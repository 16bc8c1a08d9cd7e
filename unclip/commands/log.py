"""`python cli.py log`: the record of this folder's pipeline in MLflow, from files alone."""

from pathlib import Path

import typer

from unclip.config.errors import UserError


def record(force: bool) -> None:
    """Writes the record of this folder's pipeline and says where it stands.

    Raises:
        UserError: there is nothing to record, or MLflow can not be used.
    """
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
