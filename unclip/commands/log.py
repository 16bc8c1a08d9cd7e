"""`python cli.py log`: the record of this folder's pipeline in MLflow, from files alone."""

from pathlib import Path

import typer


def record(force: bool) -> None:
    """Writes the record of this folder's pipeline and says where it stands.

    Raises:
        UserError: there is nothing to record, or MLflow cannot be used.
    """
    from unclip.tracking.address import open_hint
    from unclip.tracking.record import record_experiment

    found = record_experiment(Path(), force=force)
    typer.echo(f"{'recorded' if found['created'] else 'already recorded'}: run {found['run_id']}")
    for line in open_hint(found["experiment_id"]):
        typer.echo(line)
