"""`python cli.py doctor`: the machine, what is used of it, and what stands in the way."""

from typing import Annotated

import typer


def doctor(
    clear_states: Annotated[
        bool,
        typer.Option("--clear-states", help="Remove what trainings have left to go on from."),
    ] = False,
) -> None:
    """Show machine, versions, stores and kept states, and what stands in the way of a run.

    The exit status is 1 if something does.

    Example: `python cli.py doctor`
    """
    from unclip.commands.diagnosis import examine

    if not examine(clear_states=clear_states):
        raise typer.Exit(1)
