"""The command line of unCLIP Lab: `python cli.py --help`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Paint with what `dvc repro` has trained, and look after its records.",
)


@app.command()
def sample(
    prompts: Annotated[
        list[str] | None,
        typer.Argument(help="What to paint; the data set's own prompts when left out.", show_default=False),
    ] = None,
) -> None:
    """Paint."""


if __name__ == "__main__":
    app()
