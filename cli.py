"""The command line of unCLIP Lab: `python cli.py --help`."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Paint with what `dvc repro` has trained, and look after its records in MLflow.",
)


@app.command()
def sample(
    prompts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PROMPT",
            help="What to paint; without one, the data set's own prompts.",
            show_default=False,
        ),
    ] = None,
    num: Annotated[int | None, typer.Option(min=1, max=64, help="Pictures of each prompt.")] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="Seed of the first picture; the next ones count up from it."),
    ] = None,
    guidance: Annotated[
        float | None,
        typer.Option(min=0, max=100, help="Guidance of the decoder; 1 is off."),
    ] = None,
    prior_guidance: Annotated[
        float | None, typer.Option(min=0, max=100, help="Guidance of the prior; 1 is off.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Denoising steps of the decoder.")
    ] = None,
    sampler: Annotated[
        str | None, typer.Option(help="Sampler of the decoder: dpmpp_2m, ddim or ddpm.")
    ] = None,
    rev: Annotated[
        str | None,
        typer.Option(help="Paint with the checkpoints of this experiment, commit, branch or tag."),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option("--from", help="Paint with the checkpoints in this folder."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("samples/painted"),
) -> None:
    """Paint pictures of prompts with the trained system.

    Options left out come from the sample section of params.yaml. Writes a grid and each picture in
    its own size; a picture carries prompt, seed, settings and checkpoint hashes in its PNG text.

    Example: `python cli.py sample "a large red circle" --num 4 --seed 7`
    """
    from unclip.commands.sample import paint

    changes = {
        "num_per_prompt": num,
        "seed": seed,
        "guidance": guidance,
        "prior_guidance": prior_guidance,
        "steps": steps,
        "sampler": sampler,
    }
    paint(prompts or [], changes, rev=rev, source=source, out=out)


@app.command()
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
    from unclip.commands.log import record

    record(force)


class Trained(StrEnum):
    """The stages that train a network."""

    clip = "train_clip"
    prior = "train_prior"
    decoder = "train_decoder"
    judge = "train_judge"


@app.command()
def profile(
    stage: Annotated[Trained, typer.Argument(help="The training stage.")],
    steps: Annotated[int, typer.Option(min=1, help="Training steps to profile.")] = 20,
    top: Annotated[int, typer.Option(min=1, help="Operators to show.")] = 15,
    trace: Annotated[
        Path | None, typer.Option(help="Write the whole trace to this JSON file.")
    ] = None,
) -> None:
    """Show where the time of a training step goes, by operator, with the params of this folder.

    Trains some steps on what the stages before it have left, and throws them away: no checkpoint,
    metric or record changes.

    Example: `python cli.py profile train_decoder --steps 50`
    """
    from unclip.profiling import print_profile  # before torch: it sets what torch logs

    from stages import train_clip, train_decoder, train_judge, train_prior  # isort: skip

    modules = {
        Trained.clip: train_clip,
        Trained.prior: train_prior,
        Trained.decoder: train_decoder,
        Trained.judge: train_judge,
    }
    print_profile(modules[stage].Task, stage.value, count=steps, shown=top, trace=trace)


@app.command()
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
    from unclip.doctor import examine

    if not examine(clear_states=clear_states):
        raise typer.Exit(1)


def main() -> None:
    """Runs the command line; a user's mistake ends in one line and status 1."""
    from unclip.errors import UserError

    try:
        app()
    except UserError as error:
        for line in str(error).splitlines():
            typer.echo(f"error: {line}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
