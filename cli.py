"""The command line of unCLIP Lab: `python cli.py --help`."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

sys.path.insert(0, str(Path(__file__).parent))  # PYTHONSAFEPATH leaves it out

from unclip.commands.compare import compare
from unclip.commands.data_check import check
from unclip.commands.doctor import doctor
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
from unclip.config.errors import TOO_LITTLE_MEMORY, UserError, is_out_of_memory

Training = Literal["train_clip", "train_prior", "train_decoder", "train_judge"]

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Paint with what `dvc repro` has trained, and look after its records in MLflow.",
)


@app.command()
def profile(
    stage: Annotated[Training, typer.Argument(help="The training stage.")],
    steps: Annotated[int, typer.Option(min=1, help="Training steps to profile.")] = 20,
    top: Annotated[int, typer.Option(min=1, help="Operators to show.")] = 15,
    trace: Annotated[
        Path | None, typer.Option(help="Write the whole trace to this JSON file.")
    ] = None,
) -> None:
    """Show where the time of a training step goes, by operator, with the params of this folder.

    Trains some steps on the outputs of earlier stages and discards them: no checkpoint, metric or
    record changes.

    Example: `python cli.py profile train_decoder --steps 50`
    """
    from unclip.commands.profile import print_profile  # before torch: it sets what torch logs

    from stages import train_clip, train_decoder, train_judge, train_prior  # isort: skip

    tasks = {
        "train_clip": train_clip.ClipTask,
        "train_prior": train_prior.PriorTask,
        "train_decoder": train_decoder.DecoderTask,
        "train_judge": train_judge.JudgeTask,
    }
    print_profile(tasks[stage], stage, count=steps, shown=top, trace=trace)


data = typer.Typer(no_args_is_help=True, help="Look at pictures of your own before training.")
painting = (sample, vary, interpolate, edit, trajectory, play)
looking = (trace, compare, sweep, log, register, doctor)
for command in (*painting, *looking):
    app.command()(command)
data.command()(check)
app.add_typer(data, name="data")


def main() -> None:
    """Runs the command line; a user's mistake ends in one line and status 1."""
    from unclip.config.streams import replace_what_cannot_be_shown

    replace_what_cannot_be_shown()
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
