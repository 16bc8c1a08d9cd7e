"""The command line of unCLIP Lab: `python cli.py --help`."""

import io
import sys

import typer

from unclip.commands.compare import compare
from unclip.commands.data_check import check
from unclip.commands.edit import edit
from unclip.commands.interpolate import interpolate
from unclip.commands.log import log
from unclip.commands.play import play
from unclip.commands.register import register
from unclip.commands.sample import sample
from unclip.commands.sweep import sweep
from unclip.commands.trace import trace
from unclip.commands.trajectory import trajectory
from unclip.commands.vary import vary

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Paint with what `dvc repro` has trained, and look after its records in MLflow.",
)
data = typer.Typer(no_args_is_help=True, help="Look at pictures of your own before training.")
painting = (sample, vary, interpolate, edit, trajectory, play)
looking = (trace, compare, sweep, log, register)
for command in (*painting, *looking):
    app.command()(command)
data.command()(check)
app.add_typer(data, name="data")


def main() -> None:
    """Runs the command line; what the user can mend ends in one line and status 1."""
    from unclip.config.errors import TOO_LITTLE_MEMORY, UserError, is_out_of_memory

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # cp1252 has no ← and no 猫
    try:
        app()
    except UserError as error:
        for line in str(error).splitlines():
            typer.echo(f"error: {line}", err=True)
        sys.exit(1)
    except OSError as error:  # a full disk, a folder that cannot be written to
        said = " ".join(str(error).split())
        typer.echo(f"error: {said}; mend that and run it again", err=True)
        sys.exit(1)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        typer.echo(f"error: {TOO_LITTLE_MEMORY}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
